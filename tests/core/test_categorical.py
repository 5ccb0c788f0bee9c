"""Categorical states against enumeration: V7 and V8 of the architecture, in float64.

Nothing is estimated by drawing, but for the tests of the draws themselves.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from suffuse.diffusion import (
    Categorical,
    Discrete,
    Noise,
    Registers,
    Stream,
    guidance,
    sample,
    schedules,
    solvers,
)
from suffuse.diffusion.categorical import categorical, tempered
from suffuse.diffusion.plan import Plan
from suffuse.diffusion.solvers import DISCRETE as SOLVERS
from suffuse.errors import SuffuseError
from suffuse.testing.mathematics import check_discrete_order, check_single_token

F = torch.float64
K = 3
KERNELS = ("absorbing", "uniform", "marginal")
kernels = pytest.mark.parametrize("kernel", KERNELS)
LEVELS = [(0.9, 0.6), (0.5, 0.45), (1.0, 0.7), (0.3, 0.0), (1.0, 0.0)]
levels = pytest.mark.parametrize(("t", "s"), LEVELS)
# Every sampler in every form, with the order of its error in the number of steps.
FORMS = [
    ("ancestral", {}, 1.0),
    ("reveal", {}, 1.0),
    ("remask", {}, 1.0),
    ("remask", {"churn": 0.3, "low": 0.2, "high": 0.8}, 1.0),
    ("tau-leaping", {}, 1.0),
    ("tau-leaping", {"eta": 0.5}, 1.0),
    ("renoise", {}, 0.5),
]
forms = pytest.mark.parametrize(("name", "options", "order"), FORMS, ids=lambda v: str(v))


def process(kernel, schedule=None, k=K, **options):
    marginal = tuple(range(1, k + 1)) if kernel == "marginal" else None
    return Categorical(schedule or schedules.flow(), k, kernel, marginal, **options)


def data(n, k=K, seed=None, power=2):
    generator = torch.Generator()
    generator.manual_seed(int(torch.randint(2**31, ())) if seed is None else seed)
    joint = torch.rand([k] * n, dtype=F, generator=generator) ** power
    return Discrete(joint / joint.sum())


def kept(t):
    """a and m-independent b of the flow schedule."""
    return 1 - t, t


def one_step(p, name, t, s, **options):
    return solvers.plan(SOLVERS[name], p.schedule, grid=[t, s], **options).rows[0]


def times(x, t):
    return torch.full((len(x),), t, dtype=F)


# Corruption


@kernels
@pytest.mark.parametrize("t", [0.0, 0.2, 0.7, 1.0])
def test_corruption_is_the_stated_mixture(kernel, t):
    """With the noise on a fine grid instead of drawn, frequencies are the probabilities."""
    p, grid = process(kernel), 30000
    u = (torch.arange(grid, dtype=F) + 0.5) / grid
    a, b = kept(t)
    for token in range(K):
        x_0 = torch.full((grid,), token)
        found = torch.bincount(p.corrupt(x_0, times(x_0, t), u), minlength=p.states) / grid
        expected = a * torch.eye(p.states, dtype=F)[token] + b * p.stationary
        torch.testing.assert_close(found.to(F), expected, rtol=0, atol=2 / grid)


@kernels
def test_the_clock_is_the_log_odds_of_being_clean(kernel):
    t = torch.rand(50, dtype=F)
    for schedule in (schedules.cosine(), schedules.edm(), schedules.flow(shift=2.0)):
        a, b = process(kernel, schedule).clean(t, torch.zeros(50, 4))
        torch.testing.assert_close((a / b).log()[:, 0], schedule.at(t).lam, rtol=1e-9, atol=1e-9)
        assert a.shape == (50, 1)


@kernels
def test_a_time_for_each_token_corrupts_each_by_its_own(kernel):
    p = process(kernel)
    x_0, u, t = torch.randint(K, (5, 4)), torch.rand(5, 4, dtype=F), torch.rand(5, 4, dtype=F)
    whole = p.corrupt(x_0, t, u)
    for i in range(4):
        assert torch.equal(whole[:, i], p.corrupt(x_0[:, i], t[:, i], u[:, i]))


@kernels
def test_the_prior_and_the_draws_have_their_probabilities(kernel):
    """Chi-square, with fixed counters."""
    p, n = process(kernel), 4000
    drawn = p.prior(Noise(1, n), (2,)).flatten()
    seen = p.stationary > 0
    counts = torch.bincount(drawn, minlength=p.states)
    assert not counts[~seen].any()
    if int(seen.sum()) > 1:
        expected = p.stationary[seen] * len(drawn)
        assert stats.chisquare(counts[seen].numpy(), expected.numpy()).pvalue > 1e-3
    logits = torch.tensor([0.3, -1.0, 2.0], dtype=F).expand(n, 2, K)
    counts = torch.bincount(p.draw(logits, Noise(2, n), 5).flatten(), minlength=K)
    assert stats.chisquare(counts.numpy(), (logits[0, 0].softmax(0) * 2 * n).numpy()).pvalue > 1e-3


def test_what_is_impossible_is_never_drawn():
    from suffuse.kernels.categorical_step import invert

    u = torch.tensor([2.0**-33, 0.3, 0.5, 0.7, 1 - 2.0**-33], dtype=F)
    p = torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0], dtype=F).expand(5, 5)
    assert invert(p, u).tolist() == [1, 1, 3, 3, 3]


# Bayes' rule


def transition_matrix(p, s, t):
    """q(x_t | x_s) as [x_s, x_t], written out."""
    stays = kept(t)[0] / kept(s)[0]
    return stays * torch.eye(p.states, dtype=F) + (1 - stays) * p.stationary


@kernels
@levels
def test_v7_the_posterior_is_bayes_rule(kernel, t, s):
    p = process(kernel)
    to_s = kept(s)[0] * torch.eye(p.states, dtype=F) + kept(s)[1] * p.stationary
    to_t = transition_matrix(p, s, t)
    for x_0, x_t in itertools.product(range(K), range(p.states)):
        joint = to_s[x_0] * to_t[:, x_t]
        if joint.sum() == 0:
            continue
        found = p.posterior(torch.tensor([x_t]), torch.tensor([x_0]), t, s)[0]
        torch.testing.assert_close(found, joint / joint.sum(), rtol=1e-12, atol=1e-12)


@kernels
@levels
def test_v7_the_ancestral_row_is_the_posterior_averaged_over_the_estimate(kernel, t, s):
    p, truth = process(kernel), data(2)
    x = truth.states(p)
    reached = truth.marginal(p, t).flatten() > 0
    x = x[reached]
    estimate = truth.denoiser(p)(x, times(x, t))
    found = p.transition(one_step(p, "ancestral", t, s), x, estimate)
    expected = torch.zeros_like(found)
    for x_0 in range(K):
        given = p.posterior(x, torch.full_like(x, x_0), t, s)
        weight = p.probabilities(estimate)[..., x_0, None]
        expected += torch.where(weight > 0, weight * given, 0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@kernels
@pytest.mark.parametrize("t", [0.0, 0.1, 0.6, 1.0])
def test_v7_the_oracle_is_bayes_rule_by_enumeration(kernel, t):
    p, truth = process(kernel), data(3)
    x = truth.states(p)
    found = p.probabilities(truth.denoiser(p)(x, times(x, t)))
    kernel_matrix = kept(t)[0] * torch.eye(p.states, dtype=F) + kept(t)[1] * p.stationary
    at_t = truth.marginal(p, t)
    for row in torch.randint(len(x), (12,)).tolist():
        total, each = 0.0, torch.zeros(3, p.states, dtype=F)
        for clean in itertools.product(range(K), repeat=3):
            w = float(truth.joint[clean])
            for i in range(3):
                w *= float(kernel_matrix[clean[i], x[row, i]])
            total += w
            for i in range(3):
                each[i, clean[i]] += w
        assert float(at_t[tuple(x[row])]) == pytest.approx(total, rel=1e-12, abs=1e-15)
        if total > 0:
            torch.testing.assert_close(found[row], each / total, rtol=1e-11, atol=1e-12)


# Samplers


@kernels
@levels
@forms
def test_every_row_is_a_distribution_whatever_the_estimate(kernel, t, s, name, options, order):
    p = process(kernel)
    x = torch.randint(p.states, (40,))
    estimate = p.estimate(3 * torch.randn(40, K, dtype=F), x, times(x, t))
    found = p.transition(one_step(p, name, t, s, **options), x, estimate)
    assert (found >= 0).all()
    torch.testing.assert_close(found.sum(-1), torch.ones(40, dtype=F), rtol=0, atol=1e-12)
    if s == 0:
        assert not found[:, K:].any()  # no mask is left


@pytest.mark.parametrize("schedule", [schedules.flow(), schedules.cosine()], ids=["flow", "cosine"])
@kernels
@pytest.mark.parametrize(("name", "options", "order"), [f for f in FORMS if f[0] != "tau-leaping"])
@pytest.mark.parametrize("begin", [1.0, 0.7])
def test_v7_a_single_token_is_sampled_exactly(kernel, schedule, name, options, order, begin):
    check_single_token(SOLVERS[name], process(kernel, schedule), options, begin=begin)


@kernels
@forms
def test_v7_the_error_falls_with_the_stated_order(kernel, name, options, order):
    # the corrector's share and the ends of tau-leaping come with terms of their own
    around = 0.06 if name in ("ancestral", "reveal") else 0.4 if "tau" in name else 0.25
    check_discrete_order(SOLVERS[name], process(kernel), order, options, within=around)


@pytest.mark.parametrize("kernel", ["uniform", "marginal"])
def test_v7_tau_leaping_converges_for_a_single_token(kernel):
    """Of first order up to a logarithm, h log(1/h), from both ends of the schedule."""
    p, truth = process(kernel), data(1, seed=2)
    errors = [
        truth.total_variation(
            truth.propagate(p, solvers.plan(SOLVERS["tau-leaping"], p.schedule, steps=n))
        )
        for n in (250, 1000)
    ]
    assert errors[1] < 0.55 * errors[0], errors


@levels
def test_v7_samplers_that_are_one_under_the_absorbing_kernel(t, s):
    p = process("absorbing")
    x = torch.randint(K + 1, (30,)) if t < 1 else torch.full((30,), K)
    for _ in range(3):
        estimate = p.estimate(torch.randn(30, K, dtype=F), x, times(x, t))
        found = [
            p.transition(one_step(p, name, t, s), x, estimate)
            for name in ("ancestral", "reveal", "tau-leaping")
        ]
        torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(found[2], found[0], rtol=0, atol=1e-12)


@kernels
@levels
def test_remasking_without_churn_is_ancestral(kernel, t, s):
    p = process(kernel)
    one, other = (one_step(p, "ancestral", t, s), one_step(p, "remask", t, s, churn=0.0))
    assert (one.a, one.b) == (other.a, other.b)
    # where all noise is moved and b_s = 0, what is left of it is 0 or nearly
    assert one.c == pytest.approx(other.c, abs=1e-15)


@pytest.mark.parametrize("options", [{"cap": 0.1}, {"scale": 0.4}], ids=str)
@pytest.mark.parametrize(("t", "s"), [(0.9, 0.6), (0.5, 0.45), (0.3, 0.01)])
def test_remasking_is_its_published_update(options, t, s):
    """ReMDM, eq. 6: masks unmask by (α_s − (1 − σ) α_t) / (1 − α_t), tokens mask by σ."""
    (a_t, _), (a_s, b_s) = kept(t), kept(s)
    most = min(1.0, b_s / a_t)
    sigma = min(options["cap"], most) if "cap" in options else options["scale"] * most
    p = process("absorbing")
    x = torch.tensor([K, 1])
    estimate = p.estimate(torch.randn(2, K, dtype=F), x, times(x, t))
    row = one_step(p, "remask", t, s, churn=math.inf, **options)
    found = p.transition(row, x, estimate)
    take = (a_s - (1 - sigma) * a_t) / (1 - a_t)
    masked = torch.cat([take * estimate[0].softmax(0), torch.tensor([1 - take], dtype=F)])
    torch.testing.assert_close(found[0], masked, rtol=0, atol=1e-12)
    expected = torch.tensor([0, 1 - sigma, 0, sigma], dtype=F)
    torch.testing.assert_close(found[1], expected, rtol=0, atol=1e-12)


@kernels
def test_tau_leaping_has_the_rates_of_the_reversed_process(kernel):
    """The row's derivative at no length is β m(x) Σ p(x_0) q(y | x_0) / q(x | x_0)."""
    p, t, h = process(kernel), 0.6, 1e-6
    x = torch.arange(p.states)
    estimate = p.estimate(torch.randn(p.states, K, dtype=F), x, times(x, t))
    a, b = kept(t)
    q = a * torch.eye(K, p.states, dtype=F) + b * p.stationary
    found = p.transition(one_step(p, "tau-leaping", t, t - h), x, estimate) / h
    prob = p.probabilities(estimate)[:, :K]
    for i, j in itertools.product(range(p.states), range(p.states)):
        if i != j:
            ratio = torch.where(q[:, i] > 0, q[:, j] / q[:, i], 0.0)
            rate = p.stationary[i] / a * (prob[i] * ratio).sum()
            assert float(found[i, j]) == pytest.approx(float(rate), rel=1e-4, abs=1e-5)


@kernels
@forms
def test_the_loop_draws_what_is_propagated(kernel, name, options, order):
    """Chi-square over the states that a few steps end in, with fixed counters."""
    p, truth, n = process(kernel), data(2, seed=1, power=1), 3000
    plan = solvers.plan(SOLVERS[name], p.schedule, steps=4, **options)
    expected = truth.propagate(p, plan)[:K, :K].flatten()
    drawn = sample(truth.denoiser(p), plan, noise=Noise(3, n), shape=(2,), process=p)
    assert drawn.dtype == torch.int64
    counts = torch.bincount(drawn[:, 0] * K + drawn[:, 1], minlength=K * K)
    assert stats.chisquare(counts.numpy(), (expected / expected.sum() * n).numpy()).pvalue > 1e-3


@kernels
@forms
def test_a_sample_is_the_same_alone_and_in_a_batch(kernel, name, options, order):
    p, truth = process(kernel), data(3)
    plan = solvers.plan(SOLVERS[name], p.schedule, steps=5, **options)
    run = {"shape": (3,), "process": p}
    whole = sample(truth.denoiser(p), plan, noise=Noise(5, 6), **run)
    alone = sample(truth.denoiser(p), plan, noise=Noise(5, 1, first=4), **run)
    assert torch.equal(alone[0], whole[4])


@kernels
@forms
def test_levels_with_axes_are_columns_of_their_own(kernel, name, options, order):
    """Each token is sampled by its own times, as it would be alone."""
    p, truth = process(kernel), data(3)
    grid = np.stack([np.linspace(1, 0, 6), np.linspace(1, 0, 6) ** 2, np.zeros(6)], 1)
    plan = solvers.plan(SOLVERS[name], p.schedule, grid=grid, **options)
    x = torch.randint(K, (8, 3))
    for i in range(5):
        row, t = plan.rows[i], torch.from_numpy(grid[i]).expand(8, 3)
        estimate = truth.denoiser(p)(x, t)
        whole = p.transition(row, x, estimate)
        for j in (0, 1):
            alone = one_step(p, name, *grid[i : i + 2, j], **options)
            found = p.transition(alone, x[:, j], estimate[:, j])
            torch.testing.assert_close(whole[:, j], found, rtol=0, atol=1e-14)
    start = p.prior(Noise(0, 8), (3,))
    start[:, 2] = x[:, 2]
    end = sample(truth.denoiser(p), plan, x=start, noise=Noise(0, 8), process=p)
    assert torch.equal(end[:, 2], x[:, 2])  # a token that is clean already stays
    assert (end < K).all()


@kernels
@pytest.mark.parametrize("name", SOLVERS)
def test_plans_fall_to_clean_data_and_survive_json(kernel, name):
    for schedule in (schedules.flow(), schedules.cosine(), schedules.scaled_linear()):
        plan = solvers.plan(SOLVERS[name], schedule, steps=6)
        assert len(plan) == 6
        back = Plan.from_json(plan.to_json())
        assert (back.law, back.stochastic) == (plan.law, True)
        for table in "tsABC":
            np.testing.assert_array_equal(getattr(back, table), getattr(plan, table))


def test_sampling_goes_on_from_any_row():
    p, truth, steps = process("uniform"), data(3), []
    plan = solvers.plan(SOLVERS["ancestral"], p.schedule, steps=6)
    noise = Noise(1, 4)
    whole = sample(
        truth.denoiser(p), plan, noise=noise, shape=(3,), process=p, on_step=steps.append
    )
    rest = sample(
        truth.denoiser(p), plan, noise=noise, process=p, start=4, registers=steps[3].registers
    )
    assert torch.equal(rest, whole)


# The loss


def pairs(p, truth, t):
    """All (x_0, x_t) that are possible, and their probabilities."""
    clean = truth.states(process("uniform"))
    noisy = truth.states(p)
    kernel = kept(t)[0] * torch.eye(p.states, dtype=F) + kept(t)[1] * p.stationary
    i, j = (
        k.flatten()
        for k in torch.meshgrid(*map(torch.arange, (len(clean), len(noisy))), indexing="ij")
    )
    w = truth.joint.flatten()[i]
    for token in range(truth.tokens):
        w = w * kernel[clean[i, token], noisy[j, token]]
    keep = w > 0
    return clean[i][keep], noisy[j][keep], w[keep]


@kernels
@pytest.mark.parametrize("weighting", ["unit", "elbo"])
@pytest.mark.parametrize("t", [0.15, 0.6, 0.95])
def test_v8_the_exact_model_has_the_least_loss_and_no_gradient(kernel, weighting, t):
    p, truth = process(kernel, weighting=weighting), data(2)
    x_0, x_t, w = pairs(p, truth, t)
    exact = truth.denoiser(p)(x_t, times(x_t, t)).clamp(min=-60)

    # the network is a table over x_t: every entry of it may be moved
    index = x_t @ torch.tensor([p.states, 1])
    move = torch.zeros(p.states**2, 2, K, dtype=F, requires_grad=True)

    def loss(move):
        raw = exact + move[index]
        return (w * p.error(raw, x_0, x_t, times(x_t, t), None, None)).sum()

    least = loss(move)
    (gradient,) = torch.autograd.grad(least, move)
    assert gradient.abs().max() < 1e-12
    for _ in range(3):
        assert loss(0.3 * torch.randn_like(move)) > least
    if weighting == "unit":
        entropy = -(w * (exact.log_softmax(-1).gather(-1, x_0[..., None])[..., 0]).sum(-1)).sum()
        assert least.item() == pytest.approx(float(entropy) / 2, rel=1e-12)


@kernels
def test_v8_the_bound_of_the_exact_model_is_the_entropy(kernel):
    """E over the levels of the loss per token times the tokens is −E log p(x_0), by quadrature."""
    p, truth = process(kernel, weighting="elbo"), data(2)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    v, dv = (nodes + 1) / 2, weights / 2
    u, du = v**2 * (3 - 2 * v), 6 * v * (1 - v) * dv  # clustered at both ends
    total = 0.0
    for level, weight in zip(u, du, strict=True):
        t = float(p.levels(torch.tensor(level)))
        assert t == pytest.approx(level, rel=1e-9)
        x_0, x_t, w = pairs(p, truth, t)
        raw = truth.denoiser(p)(x_t, times(x_t, t))
        total += weight * float((w * p.error(raw, x_0, x_t, times(x_t, t), None, None)).sum())
    assert 2 * total == pytest.approx(truth.entropy, abs=2e-6)


def test_the_bound_of_masked_tokens_is_their_weighted_cross_entropy():
    """MDLM: cross-entropy of the masked tokens over b."""
    p = process("absorbing", weighting="elbo")
    x_0, u, t = torch.randint(K, (9, 5)), torch.rand(9, 5, dtype=F), torch.rand(9, dtype=F)
    raw = torch.randn(9, 5, K, dtype=F)
    x_t = p.corrupt(x_0, t, u)
    cross = -raw.log_softmax(-1).gather(-1, x_0[..., None])[..., 0]
    expected = torch.where(x_t == K, cross, 0).mean(1) / t
    found = p.loss(lambda x, level: raw, x_0, t, u)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@kernels
def test_the_bound_does_not_depend_on_the_schedule(kernel):
    x_0, noise, u = torch.randint(K, (20, 6)), torch.rand(20, 6, dtype=F), torch.rand(20, dtype=F)
    raw = torch.randn(20, 6, K, dtype=F)
    losses = []
    for schedule in (schedules.flow(), schedules.cosine(shift=3.0)):
        p = process(kernel, schedule, weighting="elbo")
        losses.append(p.loss(lambda x, level: raw, x_0, p.levels(u), noise))
    torch.testing.assert_close(*losses, rtol=1e-7, atol=1e-9)


@kernels
def test_known_tokens_are_kept_and_never_the_mask(kernel):
    p = process(kernel)
    x = torch.randint(p.states, (50, 4))
    estimate = p.estimate(torch.randn(50, 4, K), x, torch.rand(50))
    found = p.probabilities(estimate)
    assert found.shape == (50, 4, p.states)
    if kernel == "absorbing":
        assert not found[..., K].any()
        known = x < K
        assert (found.gather(-1, x[..., None])[..., 0][known] == 1).all()


def test_the_network_sees_tokens_and_a_bounded_level():
    p, seen = process("absorbing"), []

    def network(x, level, **conditions):
        seen.append((x, level))
        return torch.zeros(*x.shape, K)

    x = torch.full((4, 3), K)
    p.denoiser(network)(x, torch.tensor([0.0, 0.3, 0.9, 1.0], dtype=F))
    assert seen[0][0] is x
    assert seen[0][1].shape == (4,)
    assert seen[0][1].abs().max() <= 5
    p.denoiser(network)(x, torch.rand(4, 3, dtype=F))
    assert seen[1][1].shape == (4, 3)


# Ragged and symmetric states


@kernels
def test_padding_counts_for_nothing(kernel):
    p, u = process(kernel), torch.rand(2, 6, dtype=F)
    x_0 = torch.randint(K, (2, 6))
    mask = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    other = torch.where(mask, x_0, (x_0 + 1) % K)
    t = torch.tensor([0.4, 0.8], dtype=F)
    given = []

    def network(x, level, mask):
        given.append((x, mask))
        return torch.nn.functional.one_hot(x % K, K) * 1.3

    one, two = (p.loss(network, x, t, u, mask=mask) for x in (x_0, other))
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    assert torch.equal(given[0][1], mask)
    assert not given[0][0][~mask].any()
    short = p.loss(network, x_0[:1, :4], t[:1], u[:1, :4], mask=mask[:1, :4])
    torch.testing.assert_close(one[:1], short)


@kernels
def test_a_ragged_sample_is_that_of_its_own_length(kernel):
    p, truth = process(kernel), data(1)
    plan = solvers.plan(SOLVERS["ancestral"], p.schedule, steps=5)
    each = truth.denoiser(p)

    def denoise(x, t, mask):
        return each(x.reshape(-1, 1), t.repeat_interleave(x.shape[1])).reshape(*x.shape, K)

    mask = torch.tensor([[True] * 3 + [False] * 4, [True] * 7])
    found = sample(denoise, plan, noise=Noise(2, 2), shape=(7,), process=p, mask=mask)
    assert not found[0, 3:].any()
    alone = sample(
        denoise, plan, noise=Noise(2, 1), shape=(3,), process=p, mask=torch.ones(1, 3).bool()
    )
    assert torch.equal(found[0, :3], alone[0])


@kernels
@pytest.mark.parametrize("name", SOLVERS)
def test_symmetric_states_stay_symmetric(kernel, name):
    p = process(kernel, symmetric=True)
    plan = solvers.plan(SOLVERS[name], p.schedule, steps=4)
    seen = []

    def network(x, level):
        seen.append(x)
        torch.manual_seed(0)
        return torch.randn(*x.shape, K)

    x = sample(p.denoiser(network), plan, noise=Noise(0, 5), shape=(4, 4), process=p)
    for state in (*seen, x):
        assert torch.equal(state, state.mT)
        assert not state.diagonal(dim1=1, dim2=2).any()
    assert len(x.unique()) == K
    u = p.noise(Noise(3, 400), torch.empty(400, 5, 5), step=1, stream=Stream.CORRUPT)
    assert torch.equal(u, u.mT)
    upper = u[:, *torch.triu_indices(5, 5, 1)].flatten()
    assert stats.kstest(upper.numpy(), "uniform").pvalue > 1e-3
    assert len(upper.unique()) > 0.99 * len(upper)


@kernels
def test_the_diagonal_of_symmetric_states_counts_for_nothing(kernel):
    p, plain = process(kernel, symmetric=True), process(kernel)
    x_0 = torch.randint(K, (3, 4, 4)).triu(1)
    x_0 = x_0 + x_0.mT
    t = torch.rand(3, dtype=F)
    u = p.noise(Noise(0, 3), x_0, step=0, stream=Stream.CORRUPT)
    raw = torch.randn(3, 4, 4, K, dtype=F)
    found = p.loss(lambda x, level: raw, x_0, t, u)
    even = (raw + raw.transpose(1, 2)) / 2
    x_t = p.corrupt(x_0, t, u)
    i, j = torch.triu_indices(4, 4, 1)
    expected = plain.error(even[:, i, j], x_0[:, i, j], x_t[:, i, j], t, u, None)
    torch.testing.assert_close(found, expected)


# Around it


def test_temperature_and_top_p():
    logits = torch.tensor([[1.0, 0.0, -1.0, -4.0]])
    denoise = tempered(lambda x, t: logits, temperature=0.5, top_p=0.8)
    p = logits.mul(2).softmax(-1)
    assert p[0, 0] > 0.8
    assert denoise(None, None).softmax(-1).tolist() == [[1.0, 0.0, 0.0, 0.0]]
    wide = tempered(lambda x, t: logits, top_p=0.95)(None, None).softmax(-1)
    torch.testing.assert_close(wide[0, :3], logits[0, :3].softmax(0))
    assert wide[0, 3] == 0
    assert tempered(lambda x, t: logits)(None, None) is not logits
    with pytest.raises(SuffuseError, match="temperature"):
        tempered(lambda x, t: logits, 0.0)


@kernels
def test_guidance_on_logits_keeps_what_is_impossible_impossible(kernel):
    p, good, bad = process(kernel), data(2), data(2)
    guided = guidance.autoguidance(good.denoiser(p), bad.denoiser(p), 2.0)
    x = good.states(p)
    one, other = (p.probabilities(k.denoiser(p)(x, times(x, 0.4))) for k in (good, bad))
    expected = torch.where(other > 0, one**2 / other, 0)
    found = p.probabilities(guided(x, times(x, 0.4)))
    torch.testing.assert_close(found, expected / expected.sum(-1, keepdim=True))


def test_a_projection_has_the_last_word_on_the_estimate():
    p, truth = process("absorbing"), data(3)
    plan = solvers.plan(SOLVERS["ancestral"], p.schedule, steps=6)

    def project(estimate, x_t, t):
        known = estimate.clone()
        known[:, 1] = torch.tensor([-1e30, 0.0, -1e30])
        return known

    x = sample(truth.denoiser(p), plan, noise=Noise(0, 50), shape=(3,), process=p, project=project)
    assert (x[:, 1] == 1).all()
    assert len(x[:, 0].unique()) > 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: categorical(s, 1), "2 categories or more"),
        (lambda s: categorical(s, 3, "absorb"), "did you mean 'absorbing'"),
        (lambda s: categorical(s, 3, weighting="elbos"), "did you mean 'elbo'"),
        (lambda s: categorical(s, 3, "marginal"), "needs it"),
        (lambda s: categorical(s, 3, marginal=[1, 1, 1]), "belongs to the kernel"),
        (lambda s: categorical(s, 3, "marginal", [1, 1]), "one number above 0 for each of the 3"),
        (lambda s: categorical(s, 3, "marginal", [1, 1, 0]), "one number above 0"),
        (lambda s: solvers.plan(SOLVERS["remask"], s, cap=2), "a cap and a scale in"),
        (lambda s: solvers.plan(SOLVERS["tau-leaping"], s, eta=-1), "0 or more"),
    ],
)
def test_wrong_processes_and_plans_are_told(make, message):
    with pytest.raises(SuffuseError, match=message):
        make(schedules.flow())


def test_plans_and_networks_of_another_kind_are_told():
    p = process("absorbing")
    gaussian = solvers.plan("ddim", p.schedule, steps=3)
    run = {"noise": Noise(0, 1), "shape": (2,)}
    with pytest.raises(SuffuseError, match="'ddim' has rows by the law 'affine'"):
        sample(lambda x, t: x, gaussian, process=p, **run)
    tokens = solvers.plan(SOLVERS["ancestral"], p.schedule, steps=3)
    with pytest.raises(SuffuseError, match="'ancestral' has rows by the law 'mixture'"):
        sample(lambda x, t: x, tokens, **run)
    with pytest.raises(SuffuseError, match=r"answers with logits \[1, 2, 3\]"):
        sample(p.denoiser(lambda x, level: torch.zeros(1, 2, 4)), tokens, process=p, **run)
    with pytest.raises(SuffuseError, match="source of noise"):
        sample(lambda x, t: x, tokens, process=p, x=torch.zeros(1, 2, dtype=torch.int64))


def test_inputs_are_left_alone():
    p, truth = process("uniform"), data(2)
    plan = solvers.plan(SOLVERS["tau-leaping"], p.schedule, steps=3)
    x = p.prior(Noise(0, 4), (2,))
    before, registers = x.clone(), Registers((x,), ())
    sample(truth.denoiser(p), plan, registers=registers, noise=Noise(0, 4), process=p)
    assert torch.equal(x, before)
