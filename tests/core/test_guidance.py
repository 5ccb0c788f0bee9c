"""Guidance as transforms of denoisers, against formulas written out."""

import pytest
import torch

from suffuse.diffusion import (
    Categorical,
    Discrete,
    Gaussian,
    Noise,
    Product,
    guidance,
    oracle,
    sample,
    schedules,
    solvers,
)
from suffuse.diffusion.categorical import NEVER
from suffuse.errors import SuffuseError

F = torch.float64
SCHEDULE = schedules.cosine()
NULL = {"shift": torch.zeros(1, dtype=F)}


def denoise(x, t, shift):
    """Conditional on a shift of the mean; 0 is "not given"."""
    return torch.tanh(x) * 0.7 + shift[:, None]


@pytest.fixture
def drawn():
    x, t = torch.randn(5, 4, dtype=F), torch.rand(5, dtype=F) * 0.9 + 0.05
    return x, t, torch.randn(5, dtype=F)


def test_classifier_free_is_uncond_plus_weight_times_difference(drawn):
    x, t, shift = drawn
    wanted, other = denoise(x, t, shift), denoise(x, t, 0 * shift)
    for w in (0.0, 1.0, 3.5):
        found = guidance.classifier_free(denoise, w, NULL)(x, t, shift=shift)
        torch.testing.assert_close(found, other + w * (wanted - other))


def test_a_weight_of_1_is_the_wanted_estimate_bit_by_bit_and_dtypes_are_kept():
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        x, t = torch.randn(5, 4, dtype=dtype), torch.rand(5, dtype=F)
        ask = lambda x, t, shift: torch.tanh(x) + shift[:, None]  # noqa: E731
        shift = torch.randn(5, dtype=dtype)
        found = guidance.classifier_free(ask, 1.0, NULL)(x, t, shift=shift)
        assert found.dtype == dtype
        assert torch.equal(found, ask(x, t, shift))
        strong = guidance.autoguidance(ask, lambda x, t, shift: x, 3.0)(x, t, shift=shift)
        assert strong.dtype == dtype


def test_an_interval_leaves_other_times_alone(drawn):
    x, _, shift = drawn
    t = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=F)
    found = guidance.classifier_free(denoise, 3.0, NULL, interval=(0.3, 0.7))(x, t, shift=shift)
    wanted, other = denoise(x, t, shift), denoise(x, t, 0 * shift)
    torch.testing.assert_close(found[[0, 4]], wanted[[0, 4]])
    torch.testing.assert_close(found[1:4], (other + 3 * (wanted - other))[1:4])
    with pytest.raises(SuffuseError, match="rises within"):
        guidance.classifier_free(denoise, 2.0, NULL, interval=(0.7, 0.3))


def test_cfg_plus_plus_renoises_with_the_unconditional_noise():
    """Algorithm 2 of the paper, written out, against DDIM with the transformed denoiser."""
    plan = solvers.plan("ddim", SCHEDULE, steps=6)
    x = start = torch.randn(3, 4, dtype=F)
    shift = torch.randn(3, dtype=F)
    guided = guidance.cfg_plus_plus(denoise, 0.6, NULL, plan)
    found = sample(guided, plan, x=start, shift=shift)
    for i in range(len(plan)):
        t, s = (SCHEDULE.at(float(v)) for v in (plan.t[i], plan.s[i]))
        wanted, other = denoise(x, t, shift), denoise(x, t, 0 * shift)
        noise = (x - t.alpha * other) / t.sigma
        x = s.alpha * (other + 0.6 * (wanted - other)) + s.sigma * noise
    torch.testing.assert_close(found, x)


@pytest.mark.parametrize("name", ["heun", "restart"])
def test_cfg_plus_plus_refuses_rows_that_do_not_go_on(name):
    """Heun's second call stands at the level that it reaches: the weight would be infinite."""
    options = {"low": 0.3, "high": 2.0} if name == "restart" else {}
    with pytest.raises(SuffuseError, match=f"one call a step.*{name!r}"):
        guidance.cfg_plus_plus(denoise, 0.6, NULL, solvers.plan(name, SCHEDULE, steps=9, **options))


def test_cfg_zero_star_fits_the_unconditional_velocity(drawn):
    x, t, shift = drawn
    c = SCHEDULE.at(t).align(x)

    def velocity(x_0):
        return (x - (c.alpha + c.sigma) * x_0) / c.sigma

    u_c, u_0 = velocity(denoise(x, t, shift)), velocity(denoise(x, t, 0 * shift))
    s = (u_c * u_0).sum(1, keepdim=True) / (u_0 * u_0).sum(1, keepdim=True)
    guided = guidance.cfg_zero_star(denoise, 2.5, NULL, SCHEDULE)
    torch.testing.assert_close(velocity(guided(x, t, shift=shift)), s * u_0 + 2.5 * (u_c - s * u_0))
    still = guidance.cfg_zero_star(denoise, 2.5, NULL, SCHEDULE, still_above=0.0)
    assert velocity(still(x, t, shift=shift)).abs().max() < 1e-12


def test_apg_removes_what_is_parallel_and_cuts_the_rest(drawn):
    x, t, shift = drawn
    wanted, other = denoise(x, t, shift), denoise(x, t, 0 * shift)
    plain = guidance.apg(denoise, 3.0, NULL, parallel=1.0)(x, t, shift=shift)
    torch.testing.assert_close(plain, other + 3 * (wanted - other))
    moved = guidance.apg(denoise, 3.0, NULL, parallel=0.0)(x, t, shift=shift) - wanted
    assert (moved * wanted).sum(1).abs().max() < 1e-12
    cut = guidance.apg(denoise, 3.0, NULL, parallel=1.0, largest=0.1)(x, t, shift=shift)
    assert (cut - wanted).norm(dim=1).max() <= 0.2 + 1e-12


def test_autoguidance_leads_away_from_the_worse(drawn):
    x, t, shift = drawn
    worse = lambda x, t, shift: denoise(x, t, shift) * 0.5  # noqa: E731
    found = guidance.autoguidance(denoise, worse, 2.0)(x, t, shift=shift)
    torch.testing.assert_close(found, 1.5 * denoise(x, t, shift))


def test_conditions_compose_with_weights_of_either_sign(drawn):
    x, t, _ = drawn
    one, two = torch.tensor([0.5], dtype=F), torch.tensor([-2.0], dtype=F)
    guided = guidance.compose(denoise, [(2.0, {"shift": one}), (-0.5, {"shift": two})], NULL)
    base = denoise(x, t, torch.zeros(5, dtype=F))
    torch.testing.assert_close(guided(x, t), base + 2.0 * 0.5 + (-0.5) * -2.0)


def test_conditions_that_would_be_left_out_are_refused(drawn):
    x, t, _ = drawn
    with pytest.raises(SuffuseError, match="'style' has no null"):
        guidance.compose(denoise, [(2.0, {"style": torch.ones(1)})], NULL)
    with pytest.raises(SuffuseError, match="are tensors"):
        guidance.classifier_free(denoise, 2.0, NULL)(x, t, shift=1.0)


def test_a_classifiers_gradient_gives_the_exact_posterior():
    """Two labelled Gaussians: the unconditional estimate and the gradient make the conditional."""
    mix = oracle.Mixture(
        torch.tensor([0.4, 0.6], dtype=F),
        torch.tensor([[-1.0, 0.5], [1.5, 0.0]], dtype=F),
        torch.tensor([0.3, 0.5], dtype=F),
    )
    x, t = torch.randn(6, 2, dtype=F), torch.rand(6, dtype=F) * 0.8 + 0.1

    def log_prob(x, t):
        return mix.responsibilities(SCHEDULE, x, t)[:, 1].log()

    with torch.inference_mode():
        guided = guidance.classifier(mix.denoiser(SCHEDULE), log_prob, 1.0, SCHEDULE)(x, t)
    alone = oracle.Gaussian(mix.means[1], mix.variances[1] * torch.eye(2, dtype=F))
    torch.testing.assert_close(guided, alone.denoiser(SCHEDULE)(x, t))


def test_rescaling_brings_the_deviation_back(drawn):
    x, t, shift = drawn
    strong = guidance.classifier_free(denoise, 5.0, NULL)
    strong = guidance.autoguidance(strong, lambda x, t, shift: 0 * x, 2.0)
    plain = denoise(x, t, shift)
    whole = guidance.rescale(strong, denoise, amount=1.0)(x, t, shift=shift)
    torch.testing.assert_close(whole.std(1), plain.std(1))
    none = guidance.rescale(strong, denoise, amount=0.0)(x, t, shift=shift)
    torch.testing.assert_close(none, strong(x, t, shift=shift))


def test_guidance_is_finite_in_pure_noise_and_for_flat_estimates():
    """Where α is 0 a classifier's gradient says nothing; one number has no deviation to rescale."""
    schedule, x, t = schedules.cosine(), torch.full((2, 1), 0.3, dtype=F), torch.ones(2, dtype=F)

    def estimate(x_t, t):
        return 0.5 * x_t

    guided = guidance.classifier(estimate, lambda x_t, t: 3 * x_t[:, 0], 2.0, schedule)(x, t)
    assert bool(((guided - estimate(x, t)).abs() <= 2.0 * 3 * 128).all())
    flat = guidance.rescale(lambda x_t, t: 2 * x_t, estimate)(x, t)
    torch.testing.assert_close(flat, 2 * x)


def test_thresholds():
    x = torch.tensor([[0.5, -0.5, 0.1, 0.2], [4.0, -2.0, 1.0, 0.0]], dtype=F)
    t = torch.full((2,), 0.5, dtype=F)
    same = lambda x, t: x  # noqa: E731
    torch.testing.assert_close(guidance.clip(same, -1, 1)(x, t), x.clamp(-1, 1))
    found = guidance.dynamic_threshold(same, 1.0, percentile=1.0)(x, t)
    torch.testing.assert_close(found[0], x[0])
    torch.testing.assert_close(found[1], x[1] / 4)
    half = guidance.dynamic_threshold(same, 1.0, percentile=2 / 3)(x, t)
    torch.testing.assert_close(half[1], x[1].clamp(-2, 2) / 2)


# Tokens, against enumerated distributions. Condition 0 is "not given"; 1 and 2 are two kinds.


def kinds(tokens=2, categories=3):
    """Two distributions with states that are impossible, and their mixture, as [3, K, ...]."""
    each = torch.rand(2, *[categories] * tokens, dtype=F) + 0.05
    each[0].select(0, 0).zero_()
    each[1].select(-1, 2).zero_()
    each /= each.flatten(1).sum(1).reshape(2, *[1] * tokens)
    return torch.stack([0.3 * each[0] + 0.7 * each[1], *each])


def conditional(process, joints):
    """The exact clean estimate, by the kind that each sample is given."""
    every = [Discrete(joint).denoiser(process) for joint in joints]

    def denoise(x_t, t, kind, **rest):
        answers = torch.stack([one(x_t, t) for one in every])
        return answers[kind, torch.arange(len(x_t))]

    return denoise


GIVEN = {"kind": torch.zeros(1, dtype=torch.int64)}
tokens = pytest.mark.parametrize("kernel", ["absorbing", "uniform"])


def everywhere(process, joints):
    """All states that each kind can be in, at random times."""
    x_t = Discrete(joints[0]).states(process)
    for joint in joints:
        x_t = x_t[Discrete(joint).marginal(process, 0.5)[tuple(x_t.T)] > 0]
    return x_t, torch.rand(len(x_t), dtype=F) * 0.8 + 0.1


@tokens
@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0, 2.5])
def test_guided_tokens_are_products_of_powers(kernel, weight):
    process, joints = Categorical(schedules.flow(), 3, kernel), kinds()
    ask = conditional(process, joints)
    x_t, t = everywhere(process, joints)
    kind = torch.ones(len(x_t), dtype=torch.int64)
    found = guidance.classifier_free(ask, weight, GIVEN)(x_t, t, kind=kind).softmax(-1)
    p, q = (ask(x_t, t, kind=k).softmax(-1) for k in (kind, 0 * kind))
    power = p**weight * torch.where(q > 0, q, float(weight > 1)) ** (1 - weight)
    torch.testing.assert_close(found, power / power.sum(-1, keepdim=True))
    assert found[p == 0].max() == 0 or weight == 0


@tokens
def test_a_guided_token_is_sampled_from_its_power(kernel):
    """One token drawn in one step from its prior: p(x | kind)^w p(x)^(1 − w), exactly."""
    process, joints = Categorical(schedules.flow(), 4, kernel), kinds(1, 4)
    guided = guidance.classifier_free(conditional(process, joints), 2.0, GIVEN)

    def second(x_t, t):
        return guided(x_t, t, kind=torch.full((len(x_t),), 2))

    plan = solvers.plan("ancestral", process.schedule, steps=1)
    found = Discrete(joints[2]).propagate(process, plan, second)[:4]
    power = torch.where(joints[0] > 0, joints[2] ** 2 / joints[0], 0)
    torch.testing.assert_close(found, power / power.sum())


@tokens
def test_impossible_tokens_count_by_the_sign_of_their_power(kernel):
    """What the negative prompt rules out is neither forbidden nor all that is left."""
    process, joints = Categorical(schedules.flow(), 3, kernel), kinds()
    ask = conditional(process, joints)
    x_t, t = everywhere(process, joints)
    away = guidance.compose(
        ask, [(1.5, {"kind": GIVEN["kind"] + 1}), (-0.8, {"kind": GIVEN["kind"] + 2})], GIVEN
    )
    logits = away(x_t, t, kind=None)
    base, one, two = (
        ask(x_t, t, kind=torch.full((len(x_t),), k)).log_softmax(-1) for k in range(3)
    )
    assert logits.isfinite().all()
    assert (logits[(one < NEVER / 2) | (base < NEVER / 2)] == NEVER).all()
    free = (two < NEVER / 2) & (one > NEVER / 2)
    torch.testing.assert_close(logits[free], (0.3 * base + 1.5 * one)[free])
    rest = torch.minimum(one, two) > NEVER / 2
    torch.testing.assert_close(logits[rest], (base + 1.5 * (one - base) - 0.8 * (two - base))[rest])
    worse = guidance.autoguidance(
        lambda x, t: ask(x, t, kind=torch.full((len(x),), 1)),
        lambda x, t: ask(x, t, kind=torch.zeros(len(x), dtype=torch.int64)),
        1.5,
    )
    torch.testing.assert_close(
        worse(x_t, t),
        guidance.classifier_free(ask, 1.5, GIVEN)(x_t, t, kind=torch.full((len(x_t),), 1)),
    )


def test_the_log_ratio_of_tokens_is_held_to_a_bound_and_what_is_impossible_stays_so():
    x_t, t = torch.zeros(2, 3, dtype=torch.int64), torch.full((2,), 0.5, dtype=F)
    table = torch.randn(2, 4, dtype=F) * 3  # of the null condition, and of the wanted one
    table[0, 3] = table[1, 2] = NEVER

    def ask(x, t, kind):
        return table[kind][:, None].expand(len(x), 3, 4)

    given, null = torch.ones(2, dtype=torch.int64), {"kind": torch.zeros(1, dtype=torch.int64)}
    other, wanted = table.log_softmax(-1)
    for bound in (0.0, 0.7, float("inf")):
        guided = guidance.classifier_free(ask, 3.0, null, largest=bound)
        found = guided(x_t, t, kind=given)[0, 0]
        ratio = (wanted - other).clamp(-bound, bound)
        expected = (wanted + 2 * ratio)[[0, 1, 3]]
        kept = slice(3 if bound < 9 else 2)  # without a bound the last one is left out
        # logits tell a distribution up to a constant
        torch.testing.assert_close(
            (found[[0, 1, 3]] - found[0])[kept], (expected - expected[0])[kept]
        )
        assert found[2] == NEVER


@tokens
def test_a_classifier_of_tokens_gives_the_exact_posterior(kernel):
    process, joints = Categorical(schedules.flow(), 3, kernel), kinds()
    ask = conditional(process, joints)
    x_t, t = everywhere(process, joints)
    first = torch.ones(len(x_t), dtype=torch.int64)
    # p(kind | x_t, x_0 = k) by Bayes, from the estimates and p(kind | x_t)
    likely = [Discrete(j) for j in joints]
    log_kind = torch.stack(
        [
            0.3
            * likely[1].marginal(process, float(s))[tuple(x)]
            / likely[0].marginal(process, float(s))[tuple(x)]
            for x, s in zip(x_t, t, strict=True)
        ]
    ).log()
    exact = ask(x_t, t, kind=first)
    table = (
        torch.where(exact > NEVER / 2, exact - ask(x_t, t, kind=0 * first), NEVER)
        + log_kind[:, None, None]
    )
    guided = guidance.classifier(lambda x, t: ask(x, t, kind=0 * first), lambda x, t: table, 1.0)
    torch.testing.assert_close(guided(x_t, t).softmax(-1), exact.softmax(-1))


def test_parts_of_a_mapping_are_guided_each_alone():
    process = Product(
        {
            "x": (Gaussian(SCHEDULE), 1.0),
            "k": (Categorical(schedules.flow(), 3, "uniform"), 1.0),
        }
    )
    ask = conditional(process.parts["k"][0], kinds())
    several = {
        "x": lambda x, t, kind, **rest: denoise(x, t, kind.to(F)),
        "k": ask,
    }

    def together(x_t, t, mask=None, **conditions):
        assert mask is None or len(mask["x"]) == len(x_t["x"])
        return {n: several[n](x_t[n], t[n], **conditions) for n in x_t}

    kind = torch.tensor([1, 2, 1])
    x_t = {"x": torch.randn(3, 4, dtype=F), "k": torch.randint(3, (3, 2))}
    t = {"x": torch.full((3,), 0.3, dtype=F), "k": torch.full((3,), 0.7, dtype=F)}
    transforms = {
        "plain": lambda f: guidance.classifier_free(f, 2.0, GIVEN, interval=(0.5, 1.0)),
        "apg": lambda f: guidance.apg(f, 2.0, GIVEN),
        "zero": lambda f: guidance.cfg_zero_star(f, 2.0, GIVEN, SCHEDULE),
        "rescale": lambda f: guidance.rescale(
            guidance.classifier_free(f, 2.0, GIVEN), f, amount=0.5
        ),
        "clip": lambda f: guidance.clip(f, -0.1, 0.1),
        "dynamic": lambda f: guidance.dynamic_threshold(f, 0.1),
    }
    for name, transform in transforms.items():
        found = transform(together)(x_t, t, kind=kind)
        for part, x in x_t.items():
            alone = transform(several[part])(x, t[part], kind=kind)
            torch.testing.assert_close(found[part], alone, msg=f"{name} {part}")
    guided = transforms["plain"](together)
    plans = {n: solvers.plan("renoise", schedules.flow(), steps=4) for n in x_t}
    mask = {"x": torch.tensor([[True] * 4, [True, True, False, False], [True] * 4])}
    out = sample(
        guided,
        plans,
        noise=Noise(0, 3),
        shape={"x": (4,), "k": (2,)},
        process=process,
        mask=mask,
        kind=kind,
    )
    assert out["x"][1, 2:].abs().max() == 0


def test_padding_counts_for_no_norm_and_no_deviation():
    x, t, shift = torch.randn(2, 6, dtype=F), torch.rand(2, dtype=F), torch.randn(2, dtype=F)
    mask = torch.tensor([[True] * 4 + [False] * 2] * 2)

    def ragged(x, t, shift, mask):
        return torch.where(mask, denoise(x, t, shift), 1e6 * torch.randn_like(x))

    def whole(x, t, shift):
        return denoise(x, t, shift)

    strong = lambda f: guidance.classifier_free(f, 4.0, NULL)  # noqa: E731
    for transform in (
        lambda f: guidance.apg(f, 3.0, NULL, largest=0.2),
        lambda f: guidance.cfg_zero_star(f, 3.0, NULL, SCHEDULE),
        lambda f: guidance.rescale(strong(f), f, amount=0.8),
        lambda f: guidance.dynamic_threshold(f, 0.1, 0.8),
    ):
        found = transform(ragged)(x, t, shift=shift, mask=mask)[:, :4]
        torch.testing.assert_close(found, transform(whole)(x[:, :4], t, shift=shift))
