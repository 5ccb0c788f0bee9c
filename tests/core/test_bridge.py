"""Bridges: their marginals, their step, and Gaussian data, for which all is linear and exact."""

import itertools
import math

import numpy as np
import pytest
import torch

from suffuse.diffusion import Bridge, Gaussian, Noise, sample, schedules, solvers
from suffuse.diffusion.bridge import bridge, weights
from suffuse.diffusion.schedules import bridge_exponential as exponential
from suffuse.diffusion.schedules import bridge_gmax as gmax
from suffuse.diffusion.solvers.onestep import bridge as steps_of
from suffuse.errors import SuffuseError

F = torch.float64
REFERENCES = {
    "brownian": schedules.edm(sigma_max=1.5, rho=0.5),
    "exponential": exponential(),
    "gmax": gmax(),
    "vp": schedules.linear_beta(),
}
references = pytest.mark.parametrize("schedule", REFERENCES.values(), ids=REFERENCES.keys())
etas = pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])


def at(schedule, t):
    """The bridge's coefficients as numbers."""
    return [float(k) for k in weights(schedule, t)]


# The marginals


@references
def test_the_ends_are_the_data_and_y(schedule):
    assert at(schedule, 0.0) == [1.0, 0.0, 0.0]
    kx, ky, kz = at(schedule, 1.0)
    assert (kx, kz) == (0.0, 0.0)
    assert ky == pytest.approx(1.0, abs=1e-15)


@references
@pytest.mark.parametrize("t", [0.05, 0.4, 0.93])
def test_the_marginals_are_the_reference_process_conditioned_on_its_end(schedule, t):
    """x_t = α_t (x_0 + W(ν_t)) with Cov(W(ν_t), W(ν_1)) = ν_t, given x_1 = y."""
    c, end = schedule.at(t), schedule.at(1.0)
    nu, nu_end = (float(torch.exp(-2 * k.lam)) for k in (c, end))
    a, a_end = float(c.alpha), float(end.alpha)
    gain = a * a_end * nu / (a_end**2 * nu_end)
    expected = [a - gain * a_end, gain, math.sqrt(a**2 * nu - gain * a * a_end * nu)]
    assert at(schedule, t) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_marginals_are_those_of_i2sb():
    """μ = (σ̄² x_0 + σ² x_1) / (σ̄² + σ²) and Σ = σ² σ̄² / (σ̄² + σ²), σ̄² what is still to come."""
    schedule = REFERENCES["gmax"]
    for t in (0.1, 0.5, 0.9):
        past = float(schedule.at(t).sigma) ** 2
        rest = float(schedule.at(1.0).sigma) ** 2 - past
        expected = [rest / (past + rest), past / (past + rest)]
        expected.append(math.sqrt(past * rest / (past + rest)))
        assert at(schedule, t) == pytest.approx(expected, rel=1e-12)


def test_the_references_have_their_stated_variance():
    t = torch.linspace(0, 1, 11, dtype=F)
    k, c = 2.6, 0.4
    variance = c * (k ** (2 * t) - 1) / (2 * math.log(k))
    torch.testing.assert_close(exponential(c, k).at(t).sigma ** 2, variance)
    torch.testing.assert_close(gmax(0.1, 7.0).at(t).sigma ** 2, 0.1 * t + 6.9 * t**2 / 2)


@references
def test_clocks_have_their_inverse(schedule):
    t = torch.linspace(0, 1, 23, dtype=F)
    torch.testing.assert_close(schedule.t(schedule.at(t).lam), t, rtol=1e-9, atol=1e-12)


# The step


@references
@etas
def test_every_row_keeps_the_marginals(schedule, eta):
    """In the mean of x_0 and of y and in variance, from any time to any other."""
    plan = steps_of(schedule, np.array([1.0, 0.8, 0.45, 0.44, 0.1, 0.0]), eta=eta)
    for i in range(len(plan)):
        before, after = at(schedule, float(plan.t[i])), at(schedule, float(plan.s[i]))
        keep, y = plan.A[i]
        assert keep * before[0] + plan.B[i, 0] == pytest.approx(after[0], abs=1e-12)
        assert keep * before[1] + y == pytest.approx(after[1], abs=1e-12)
        assert (keep * before[2]) ** 2 + plan.C[i] ** 2 == pytest.approx(after[2] ** 2, abs=1e-12)
    assert plan.C[-1] == 0
    assert plan.A[-1].tolist() == pytest.approx([0, 0], abs=1e-15)


@references
def test_the_stochastic_step_is_the_posterior_of_the_reference_process(schedule):
    grid = np.array([1.0, 0.7, 0.4, 0.1, 0.0])
    found, ddpm = steps_of(schedule, grid), solvers.SOLVERS["ddpm"](schedule, grid)
    np.testing.assert_allclose(found.A[1:, 0], ddpm.A[1:, 0], atol=1e-12)
    np.testing.assert_allclose(found.A[1:, 1], 0, atol=1e-12)
    np.testing.assert_allclose(found.B[:, 0], ddpm.B[:, 0], atol=1e-12)
    np.testing.assert_allclose(found.C, ddpm.C, atol=1e-12)
    # x is y at the first row, so only the sum of their weights says anything
    assert found.A[0].sum() == pytest.approx(ddpm.A[0, 0], abs=1e-12)


@references
def test_the_deterministic_step_is_its_published_update(schedule):
    """Chen et al.: with σ_t of the scaled state, σ̄_t² = σ_1² − σ_t² and ᾱ_t = α_t / α_1."""
    grid = np.array([1.0, 0.8, 0.5, 0.2])
    plan = steps_of(schedule, grid, eta=0.0, start="mean")
    end = schedule.at(1.0)
    top = float(torch.exp(-2 * end.lam))
    for i in (1, 2):
        t, s = schedule.at(grid[i]), schedule.at(grid[i + 1])
        a_t, a_s = float(t.alpha), float(s.alpha)
        v_t, v_s = (math.exp(-float(k.lam)) for k in (t, s))
        w_t, w_s = math.sqrt(top - v_t**2), math.sqrt(top - v_s**2)
        expected = [
            a_s * v_s * w_s / (a_t * v_t * w_t),
            a_s / float(end.alpha) / top * (v_s**2 - v_t * v_s * w_s / w_t),
            a_s / top * (w_s**2 - w_t * v_s * w_s / v_t),
        ]
        found = [plan.A[i, 0], plan.A[i, 1], plan.B[i, 0]]
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert not plan.stochastic


# Gaussian data: x_0 given y is normal with mean m(y) and variance v, in one dimension


def arrival(plan, mean, y, v):
    """Mean and variance of x at the plan's end, with the exact E[x_0 | x_t, y]; no drawing."""
    at_mean, at_variance = y, 0.0
    for i in range(len(plan)):
        kx, ky, kz = at(plan.schedule, float(plan.t[i]))
        gain = kx * v / (kx**2 * v + kz**2) if kx else 0.0
        keep, weight_y = plan.A[i]
        b = plan.B[i, 0]
        slope = keep + b * gain
        offset = weight_y * y + b * (mean - gain * (kx * mean + ky * y))
        at_mean, at_variance = slope * at_mean + offset, slope**2 * at_variance + plan.C[i] ** 2
    return at_mean, at_variance


@references
@etas
def test_v3_the_distribution_arrives(schedule, eta):
    """The mean in any number of steps, the variance with first order."""
    mean, y, v = 0.4, 1.7, 0.3
    errors = []
    for n in (100, 200, 400):
        grid = schedule.t(torch.linspace(float(schedule.at(1.0).lam), 7, n, dtype=F)).numpy()
        plan = steps_of(schedule, np.append(grid, 0.0), eta=eta)
        found = arrival(plan, mean, y, v)
        assert found[0] == pytest.approx(mean, abs=1e-10)
        errors.append(abs(found[1] - v) / v)
    assert errors[-1] < 0.06
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert slopes[-1] == pytest.approx(1, abs=0.15), (slopes, errors)


def test_from_the_mean_the_probability_flow_is_a_function_of_y():
    plan = solvers.plan(steps_of, exponential(), steps=8, eta=0.0, start="mean")
    found = arrival(plan, 0.4, 1.7, 0.3)
    assert found == pytest.approx((0.4, 0.0), abs=1e-12)


@references
@etas
def test_the_loop_does_what_the_table_says(schedule, eta):
    plan = solvers.plan(steps_of, schedule, steps=7, eta=eta)
    y, noise = torch.randn(3, 4, dtype=F), Noise(1, 3)

    def denoise(x, t, y):
        return torch.sin(x) + 0.3 * y * t[:, None]

    found = sample(denoise, plan, noise=noise, shape=(4,), process=Bridge(schedule), y=y)
    x = y
    for i in range(len(plan)):
        d = denoise(x, torch.full((3,), float(plan.t[i]), dtype=F), y)
        z = noise.normal((4,), step=i, dtype=F)
        x = plan.A[i, 0] * x + plan.A[i, 1] * y + plan.B[i, 0] * d + plan.C[i] * z
    torch.testing.assert_close(found, x, rtol=1e-12, atol=1e-12)


@references
def test_a_single_step_is_the_answer(schedule):
    plan, y = solvers.plan(steps_of, schedule, steps=1), torch.randn(3, 4)
    found = sample(
        lambda x, t, y: 0.5 * (x + y), plan, noise=Noise(1, 3), shape=(4,),
        process=Bridge(schedule), y=y,
    )  # fmt: skip
    torch.testing.assert_close(found, y)


def test_sampling_goes_on_from_any_row_and_is_the_same_in_any_batch():
    plan, steps = solvers.plan(steps_of, gmax(), steps=6), []
    process, y = Bridge(plan.schedule), torch.randn(4, 5)
    before = y.clone()
    run = {"process": process, "shape": (5,)}
    denoise = lambda x, t, y: 0.5 * (x + y)  # noqa: E731
    whole = sample(denoise, plan, noise=Noise(2, 4), y=y, on_step=steps.append, **run)
    rest = sample(
        denoise, plan, noise=Noise(2, 4), y=y, start=3, registers=steps[2].registers, **run
    )
    alone = sample(denoise, plan, noise=Noise(2, 1, first=2), y=y[2:3], **run)
    assert torch.equal(rest, whole)
    torch.testing.assert_close(alone[0], whole[2], rtol=0, atol=1e-6)
    assert torch.equal(y, before)
    assert whole.dtype == y.dtype


@references
def test_levels_with_axes_are_columns_of_their_own(schedule):
    one, two = np.linspace(1, 0, 7), np.linspace(1, 0, 7) ** 2
    both = steps_of(schedule, np.stack([one, two], 1))
    for column, times in enumerate((one, two)):
        alone = steps_of(schedule, times)
        for table in "tsABC":
            np.testing.assert_array_equal(getattr(both, table)[..., column], getattr(alone, table))
    process = Bridge(schedule, y=torch.randn(3, 2, 5))
    x_0, z, t = torch.randn(3, 2, 5), torch.randn(3, 2, 5), torch.rand(3, 2)
    whole = process.corrupt(x_0, t, z)
    for f in (0, 1):
        alone = Bridge(schedule, y=process.y[:, f]).corrupt(x_0[:, f], t[:, f], z[:, f])
        torch.testing.assert_close(whole[:, f], alone)
    end = sample(lambda x, t: x, both, x=process.y, noise=Noise(0, 3), process=process)
    assert end.shape == (3, 2, 5)


def test_states_before_the_end_begin_at_y_under_the_bridges_noise():
    process = Bridge(gmax(), y=torch.full((400, 50), 2.0))
    x = process.prior(Noise(0, 400), (50,), 0.6)
    assert float(x.mean()) == pytest.approx(2.0, abs=0.1)
    assert float(x.std()) == pytest.approx(at(process.schedule, 0.6)[2], rel=0.02)


# The loss


@references
def test_v8_the_exact_model_has_the_least_loss_and_no_gradient(schedule):
    """x_0 ~ N(0, v) and y = 0.8, by quadrature over x_0 and ε."""
    process, v, y = Bridge(schedule), 0.6, 0.8
    nodes, w = np.polynomial.hermite_e.hermegauss(12)
    nodes, w = torch.from_numpy(nodes), torch.from_numpy(w / w.sum())
    x_0, eps = (k.reshape(-1, 1) for k in torch.meshgrid(nodes * v**0.5, nodes, indexing="ij"))
    joint = (w[:, None] * w).flatten()
    for t in (0.2, 0.5, 0.9):
        kx, ky, kz = at(schedule, t)
        gain = kx * v / (kx**2 * v + kz**2)
        move = torch.zeros(2, dtype=F, requires_grad=True)

        def network(x, level, y, gain=gain, ky=ky, move=move):
            return (gain + move[0]) * (x - ky * y) + move[1]

        given = {"y": torch.full_like(x_0, y)}
        times = torch.full((len(joint),), t, dtype=F)
        loss = (joint * process.loss(network, x_0, times, eps, **given)).sum()
        (gradient,) = torch.autograd.grad(loss, move)
        assert loss.item() == pytest.approx(v * kz**2 / (kx**2 * v + kz**2), rel=1e-9)
        assert gradient.abs().max() < 1e-10


def test_the_network_is_given_y_and_the_padding_counts_for_nothing():
    process, seen = Bridge(exponential(), condition="noisy"), []

    def network(x, level, noisy, mask):
        seen.append((x, level, noisy))
        return torch.zeros_like(x)

    x_0, z, noisy = torch.randn(3, 2, 6, 4)
    mask = torch.arange(6).expand(2, 6) < torch.tensor([[4], [6]])
    loss = process.loss(network, x_0, torch.rand(2), z, mask=mask, noisy=noisy)
    x, level, given = seen[0]
    assert given is noisy
    assert level.shape == (2,)
    assert not x[0, 4:].any()
    torch.testing.assert_close(loss[0], (x_0[0, :4] ** 2).mean())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bridge(schedules.cosine()), "finite at t = 1.*'cosine'"),
        (lambda: steps_of(schedules.flow(), np.array([1.0, 0.0])), "ends in pure noise"),
        (lambda: steps_of(gmax(), np.array([1.0, 0.0]), eta=2), "eta lies between"),
        (lambda: steps_of(gmax(), np.array([1.0, 0.0]), start="mena"), "did you mean 'mean'"),
        (lambda: exponential(k=1.0), "k above 1"),
        (lambda: gmax(2.0, 1.0), "0 < beta_0 < beta_1"),
    ],
)
def test_wrong_bridges_are_told(make, message):
    with pytest.raises(SuffuseError, match=message):
        make()


def test_a_bridge_without_its_y_is_told():
    plan = solvers.plan(steps_of, gmax(), steps=2)
    run = {"process": Bridge(plan.schedule), "noise": Noise(0, 2), "shape": (3,)}
    with pytest.raises(SuffuseError, match="give the condition y="):
        sample(lambda x, t: x, plan, **run)
    with pytest.raises(SuffuseError, match=r"\[2, 3\]; given \[1, 3\]"):
        sample(lambda x, t, y: x, plan, y=torch.zeros(1, 3), **run)
    other = solvers.plan("ddim", plan.schedule, steps=2)
    with pytest.raises(SuffuseError, match="'ddim' has rows by the law 'affine'"):
        sample(lambda x, t, y: x, other, y=torch.zeros(2, 3), **run)
    with pytest.raises(SuffuseError, match="'bridge' has rows by the law 'bridge'"):
        sample(lambda x, t: x, plan, x=torch.zeros(2, 3), process=Gaussian(plan.schedule))
