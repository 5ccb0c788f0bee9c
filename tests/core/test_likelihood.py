"""Likelihoods against densities that are known; derivatives against finite differences (V9)."""

import math

import numpy as np
import pytest
import torch

from suffuse.diffusion import Noise, oracle, schedules
from suffuse.diffusion.derivatives import pullback, trace
from suffuse.diffusion.likelihood import bits_per_dimension, bound, log_likelihood, signs
from suffuse.diffusion.ode import Flow, fixed, rk45, sample_adaptive
from suffuse.errors import SuffuseError

F = torch.float64
SCHEDULES = {"vp": schedules.cosine(), "flow": schedules.flow(), "ve": schedules.edm()}
gauges = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
RANGE = (-14.0, 14.0)  # of λ, so that both ends are reached to rounding


def gaussian(d=3):
    A = torch.randn(d, d, dtype=F)
    return oracle.Gaussian(torch.zeros(d, dtype=F), A @ A.T / d + 0.2 * torch.eye(d, dtype=F))


def mixture():
    return oracle.Mixture(
        weights=torch.tensor([0.2, 0.5, 0.3], dtype=F),
        means=torch.randn(3, 2, dtype=F),
        variances=torch.tensor([0.2, 0.4, 0.8], dtype=F),
    )


def normal_log_prob(x, mean, covariance):
    return torch.distributions.MultivariateNormal(mean, covariance).log_prob(x)


# V9


@gauges
def test_v9_derivatives_are_finite_differences(schedule):
    denoise = mixture().denoiser(schedule)
    x, v, w = torch.randn(3, 4, 2, dtype=F)
    for t in (0.2, 0.5, 0.8):
        times, h = torch.full((4,), t, dtype=F), 1e-5
        central = (denoise(x + h * v, times) - denoise(x - h * v, times)) / (2 * h)
        d, pull = pullback(denoise, x, times)
        torch.testing.assert_close(d, denoise(x, times))
        close = {"rtol": 1e-7, "atol": 1e-8}
        torch.testing.assert_close((pull(w) * v).sum(1), (w * central).sum(1), **close)
        torch.testing.assert_close(pull(v), central, **close)  # J is symmetric
        exact = trace(pull, x, None)[:, 0]
        axes = [torch.zeros_like(x).index_fill(1, torch.tensor(i), 1.0) for i in range(2)]
        torch.testing.assert_close(exact, sum((a * pull(a)).sum(1) for a in axes))


@gauges
def test_v9_tweedies_covariance_is_that_of_the_clean_state(schedule):
    data, t = gaussian(), 0.6
    c = schedule.at(t)
    _, pull = pullback(
        data.denoiser(schedule), torch.randn(3, 3, dtype=F), torch.full((3,), t, dtype=F)
    )
    found = c.sigma**2 / c.alpha * pull(torch.eye(3, dtype=F))
    precision = torch.linalg.inv(data.covariance) + torch.eye(3, dtype=F) * torch.exp(2 * c.lam)
    torch.testing.assert_close(found, torch.linalg.inv(precision), rtol=1e-9, atol=1e-9)


def test_derivatives_can_be_asked_for_in_inference_mode():
    layer = torch.nn.Linear(3, 3)
    with torch.inference_mode():
        x, shift = torch.randn(2, 3), torch.randn(2, 3)
        d, pull = pullback(lambda x, t, shift: layer(x) * shift, x, torch.zeros(2), shift=shift)
        torch.testing.assert_close(pull(torch.ones(2, 3)), shift @ layer.weight)
        _, constant = pullback(lambda x, t: torch.ones_like(x), x, torch.zeros(2))
        assert not constant(x).any()
    assert not d.requires_grad
    assert all(p.grad is None for p in layer.parameters())


def test_probes_are_unbiased_and_exact_for_diagonal_traces():
    matrix = torch.randn(5, 5, dtype=F)
    x = torch.zeros(2, 5, dtype=F)
    probes = signs(Noise(1, 2), (5,), 4000, F)
    assert set(probes.flatten().tolist()) == {-1.0, 1.0}
    found = trace(lambda v: v @ matrix, x, probes)
    error = found.std(1) / math.sqrt(4000)
    assert ((found.mean(1) - matrix.trace()).abs() < 5 * error).all()
    diagonal = trace(lambda v: v * matrix[0], x, probes[:3])
    torch.testing.assert_close(diagonal, matrix[0].sum().expand(2, 3))


# Integrators


@pytest.mark.parametrize(("method", "order"), [("heun", 2), ("rk4", 4)])
def test_fixed_steps_have_their_order(method, order):
    errors = []
    for n in (20, 40, 80):
        nodes = np.linspace(0.3, 2.0, n + 1).tolist()
        (y,), calls = fixed(
            lambda s, u: (s[0] * torch.cos(u * s[0]),),
            (torch.tensor([0.7], dtype=F),),
            nodes,
            method,
        )
        errors.append(float(y))
        assert calls == n * order
    (true,), _ = rk45(
        lambda s, u: (s[0] * torch.cos(u * s[0]),),
        (torch.tensor([0.7], dtype=F),),
        0.3,
        2.0,
        rtol=1e-12,
        atol=1e-12,
    )
    a, b = abs(errors[1] - float(true)), abs(errors[2] - float(true))
    assert math.log2(a / b) == pytest.approx(order, abs=0.3)


def test_rk45_keeps_its_tolerance_and_each_sample_its_own_steps():
    rates = torch.tensor([0.1, 3.0, 40.0], dtype=F)

    def field(state, u):
        y, k = state
        return -k * (y - torch.sin(u)[:, None]), torch.zeros_like(k)

    for tolerance in (1e-4, 1e-7, 1e-10):
        start = (torch.ones(3, 1, dtype=F), rates[:, None])
        (y, _), calls = rk45(field, start, 0.0, 3.0, rtol=tolerance, atol=tolerance)
        k = rates
        part = k * (k * math.sin(3) - math.cos(3)) / (k**2 + 1)
        exact = part + (1 + k / (k**2 + 1)) * torch.exp(-3 * k)
        assert (y[:, 0] - exact).abs().max() < 30 * tolerance
        alone = [
            rk45(
                field, tuple(s[i : i + 1] for s in start), 0.0, 3.0, rtol=tolerance, atol=tolerance
            )
            for i in range(3)
        ]
        assert torch.equal(torch.cat([found.state[0] for found in alone]), y)
        assert calls == max(found.calls for found in alone)
    back, _ = rk45(field, (y, rates[:, None]), 3.0, 2.9)
    assert back[0].isfinite().all()


def test_rk45_gives_up_in_words():
    start = (torch.ones(1, dtype=F),)
    with pytest.raises(SuffuseError, match="did not arrive"):
        rk45(lambda s, u: (s[0] ** 2,), start, 0.0, 2.0)  # infinite at u = 1
    with pytest.raises(SuffuseError, match="not finite"):
        rk45(lambda s, u: (s[0] * math.nan,), start, 0.0, 1.0)


@gauges
def test_the_flow_carries_normal_data_exactly(schedule):
    """Also where the clock's α is 0; in z a matched normal distribution does not move at all."""
    data = gaussian()
    x = torch.randn(4, 3, dtype=F) * float(schedule.at(1.0).sigma)
    begin = float(schedule.t(-6.0))
    found, calls = sample_adaptive(
        data.denoiser(schedule), schedule, x, begin=begin, lam=(-6.0, 12.0), rtol=1e-9, atol=1e-9
    )
    exact = data.flow(schedule, x, begin, 0.0)
    torch.testing.assert_close(found[0], exact, rtol=1e-7, atol=1e-7)
    assert calls > 10
    flow = Flow(
        oracle.Gaussian(torch.zeros(3, dtype=F), 0.25 * torch.eye(3, dtype=F)).denoiser(schedule),
        schedule,
        sigma_data=0.5,
    )
    lam = torch.tensor([-4.0, -1.0, 0.0, 5.0], dtype=F)
    (still,) = flow.velocity((x,), lam)
    torch.testing.assert_close(still, torch.zeros_like(x))
    started, _ = sample_adaptive(data.denoiser(schedule), schedule, x)
    assert started[0].isfinite().all()


# Likelihood


@gauges
@pytest.mark.parametrize("method", ["rk4", "rk45"])
def test_the_likelihood_of_normal_data_is_exact(schedule, method):
    data = gaussian()
    x = torch.randn(5, 3, dtype=F) @ torch.linalg.cholesky(data.covariance).T
    found = log_likelihood(
        data.denoiser(schedule),
        schedule,
        x,
        probes=0,
        method=method,
        steps=160,
        lam=RANGE,
        rtol=1e-9,
        atol=1e-9,
    )
    low = max(float(schedule.at(1.0).lam), RANGE[0])
    exact = normal_log_prob(x, data.mean, data.covariance)
    # where the schedule ends at σ = 80, the prior differs from the marginal by O(1/σ²)
    slack = max(1e-6, 50 * math.exp(2 * low))
    torch.testing.assert_close(found.log_prob, exact, rtol=0, atol=slack)
    assert torch.equal(found.interval()[0], found.log_prob)
    assert found.estimates.shape == (5, 1)
    assert found.latent.shape == x.shape


def test_heun_and_rk4_are_near_with_few_calls():
    # at data that are drawn from the distribution: the error grows with how improbable they are
    data, schedule = gaussian(), schedules.cosine()
    x = torch.randn(5, 3, dtype=F) @ torch.linalg.cholesky(data.covariance).T
    exact = normal_log_prob(x, data.mean, data.covariance)
    for method, steps, near in (("heun", 40, 0.03), ("rk4", 20, 2e-3)):
        found = log_likelihood(
            data.denoiser(schedule), schedule, x, probes=0, method=method, steps=steps
        )
        assert found.calls == 80 + 1
        assert (found.log_prob - exact).abs().max() < near


@gauges
def test_the_likelihood_of_a_mixture_is_exact_at_the_resolution_asked_for(schedule):
    data, high = mixture(), 3.0
    x = torch.randn(6, 2, dtype=F)
    found = log_likelihood(
        data.denoiser(schedule),
        schedule,
        x,
        probes=0,
        method="rk45",
        lam=(-14.0, high),
        rtol=1e-8,
        atol=1e-8,
    )
    blurred = oracle.Mixture(data.weights, data.means, data.variances + math.exp(-2 * high))
    slack = 3e-3 if schedule.gauge == "ve" else 1e-6
    torch.testing.assert_close(found.log_prob, blurred.log_prob(x), rtol=0, atol=slack)


def test_intervals_of_probes_hold_what_they_promise():
    """The exact trace lies within 80 % intervals in 80 % of data, give or take."""
    schedule, data = schedules.cosine(), gaussian(8)
    n = 120
    x = torch.randn(n, 8, dtype=F)
    settings = {"method": "heun", "steps": 12}
    exact = log_likelihood(data.denoiser(schedule), schedule, x, probes=0, **settings).log_prob
    found = log_likelihood(
        data.denoiser(schedule), schedule, x, noise=Noise(5, n), probes=4, **settings
    )
    low, high = found.interval(0.8)
    inside = float(((low <= exact) & (exact <= high)).double().mean())
    assert inside == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / n))
    part = log_likelihood(
        data.denoiser(schedule), schedule, x[7:9], noise=Noise(5, 2, first=7), probes=4, **settings
    )
    torch.testing.assert_close(part.estimates, found.estimates[7:9], rtol=1e-12, atol=1e-12)


def test_student_intervals_have_their_width():
    from suffuse.diffusion.likelihood import LogLikelihood

    for k, quantile in ((2, 12.7062), (4, 3.1824), (8, 2.3646), (30, 2.0452)):
        estimates = torch.randn(1, k, dtype=F)
        low, high = LogLikelihood(estimates.mean(1), estimates, estimates, 1, False).interval()
        expected = quantile * float(estimates.std(1)) / math.sqrt(k)
        assert float((high - low) / 2) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"probes": 2}, "Noise"),
        ({"probes": -1}, "0 or more"),
        ({"probes": 0, "lam": (3.0, 3.0)}, "rise"),
        ({"probes": 0, "method": "rk5"}, "did you mean"),
    ],
)
def test_mistakes_are_told(settings, message):
    with pytest.raises(SuffuseError, match=message):
        log_likelihood(lambda x, t: x, schedules.cosine(), torch.zeros(1, 2), **settings)
    one = log_likelihood(
        lambda x, t: x, schedules.cosine(), torch.zeros(1, 2), probes=1, noise=Noise(0, 1), steps=1
    )
    with pytest.raises(SuffuseError, match="two probes"):
        one.interval()


# The variational bound


class Nodes(Noise):
    """Quadrature instead of noise: the same nodes at every level, one a sample."""

    def __init__(self, nodes):
        self.nodes = nodes

    def normal(self, shape, *, step, stream, dtype):
        return self.nodes[:, None].to(dtype)


def expected_bound(schedule, variance, value, times, n=60, **settings):
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    weights = torch.from_numpy(weights / weights.sum())
    data = oracle.Gaussian(torch.zeros(1, dtype=F), torch.full((1, 1), variance, dtype=F))
    x = torch.full((n, 1), value, dtype=F)
    parts = bound(
        data.denoiser(schedule),
        schedule,
        x,
        noise=Nodes(torch.from_numpy(nodes)),
        times=times,
        **settings,
    )
    return parts, [(weights * k).sum() if k.ndim == 1 else weights @ k for k in parts]


@gauges
def test_the_bound_has_its_closed_form_and_tends_to_the_likelihood(schedule):
    """Data N(0, v): ‖x − d‖² is known in expectation, and the exact model's bound becomes tight."""
    v, value = 0.6, 0.9
    true = -(value**2) / (2 * v) - math.log(2 * math.pi * v) / 2
    gaps = []
    for steps in (50, 100, 200):
        lams = torch.linspace(-4.3 if schedule.gauge == "ve" else -7.0, 7.0, steps + 1, dtype=F)
        times = schedule.t(lams).tolist()
        _, (total, _, prior, path) = expected_bound(
            schedule, v, value, times, sigma_data=math.sqrt(v)
        )
        share = torch.exp(2 * lams) * v / (1 + torch.exp(2 * lams) * v)  # of x kept by the estimate
        error = ((1 - share) * value) ** 2 + share**2 * torch.exp(-2 * lams)
        torch.testing.assert_close(path, torch.exp(2 * lams).diff() / 2 * error[:-1])
        a, s, _ = (float(k[0]) for k in schedule.at(torch.tensor(times)))
        wide = a * a * v + s * s
        divergence = (s * s + (a * value) ** 2) / wide - 1 - math.log(s * s / wide)
        assert float(prior) == pytest.approx(divergence / 2, rel=1e-6, abs=1e-9)
        gaps.append(true - float(total))
    assert gaps[2] > 0
    assert gaps[1] / gaps[2] == pytest.approx(2, abs=0.2), gaps
    limit = (gaps[0] - 6 * gaps[1] + 8 * gaps[2]) / 3  # Richardson's, of many steps
    assert limit == pytest.approx(0, abs=0.01)


def test_the_bound_of_discrete_data_is_a_log_probability():
    """Two values ±1 of equal odds and their exact denoiser: never above log 1/2, and near it."""
    schedule, values = schedules.cosine(), torch.tensor([-1.0, 1.0], dtype=F)

    def denoise(x_t, t):
        c = schedule.at(t).align(x_t)
        return torch.tanh(c.alpha * x_t / c.sigma**2)

    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = torch.from_numpy(weights / weights.sum())
    times = schedule.t(torch.linspace(-7, 4, 241, dtype=F)).tolist()
    parts = bound(
        denoise,
        schedule,
        torch.ones(80, 1, dtype=F),
        noise=Nodes(torch.from_numpy(nodes)),
        times=times,
        values=values,
    )
    total = float((weights * parts.log_prob).sum())
    assert math.log(0.5) - 0.05 < total < math.log(0.5)
    assert float(bits_per_dimension(torch.tensor([total]), 1)) == pytest.approx(1.0, abs=0.1)
    assert parts.data.abs().max() < 1e-9  # at λ = 4 no doubt is left
    coarse = bound(
        denoise,
        schedule,
        torch.ones(80, 1, dtype=F),
        noise=Nodes(torch.from_numpy(nodes)),
        times=[0.9, 0.5],
        values=values,
    )
    z = torch.from_numpy(nodes)
    c = schedule.at(0.5)
    expected = torch.nn.functional.logsigmoid(2 * (c.alpha**2 + c.alpha * c.sigma * z) / c.sigma**2)
    torch.testing.assert_close(coarse.data, expected)


def test_each_level_of_the_bound_draws_its_own_noise():
    schedule, x, noise, seen = schedules.cosine(), torch.randn(2, 3), Noise(4, 2), []
    bound(lambda x, t: seen.append(x) or x, schedule, x, noise=noise, times=[0.9, 0.5, 0.1])
    for i, (t, x_t) in enumerate(zip((0.9, 0.5), seen, strict=True)):
        c, z = schedule.at(t), noise.normal((3,), step=i, stream=2)
        torch.testing.assert_close(x_t, float(c.alpha) * x + float(c.sigma) * z)


def test_a_bound_needs_falling_times():
    for times in ([0.5], [0.1, 0.5], [0.5, 0.0], [1.5, 0.5]):
        with pytest.raises(SuffuseError, match="falling"):
            bound(
                lambda x, t: x,
                schedules.cosine(),
                torch.zeros(1, 2),
                noise=Noise(0, 1),
                times=times,
            )


def test_bits_of_a_density_count_its_bins():
    """Uniform on 256 bins over [−1, 1] is 8 bits an element."""
    log_prob = torch.tensor([-4 * math.log(2.0)])
    assert float(bits_per_dimension(log_prob, 4, bin_width=2 / 256)) == pytest.approx(8.0)
