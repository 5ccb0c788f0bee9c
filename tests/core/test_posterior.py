"""Posterior sampling against exact posteriors: V5 of the architecture, in float64.

With normal data, a linear operator and normal noise the posterior is normal, and every method but
DPS with a step set by hand is an affine map of its starting point and its draws of noise. The map
is read off, and the sampler's distribution is known without Monte Carlo.
"""

import math

import pytest
import torch

from suffuse.diffusion import Noise, oracle, posterior, sample, schedules, solvers
from suffuse.diffusion import operators as ops
from suffuse.diffusion.posterior import METHODS, Observation, restore
from suffuse.errors import SuffuseError

F = torch.float64
D = 6
SCHEDULES = {"vp": schedules.cosine(), "flow": schedules.flow(), "ve": schedules.edm()}
gauges = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
OPERATORS = {
    "mask": lambda: ops.mask(torch.tensor([1, 0, 1, 0, 0, 1])),
    "subset": lambda: ops.subset([4, 0], D),
    "pool": lambda: ops.pool(2, (-1,)),
    "blur": lambda: ops.blur(0.8, (D,), (-1,)),
    "composed": lambda: ops.subset([0, 2], 3) @ ops.pool(2, (-1,)),
}
operators = pytest.mark.parametrize("operator", OPERATORS)
noises = pytest.mark.parametrize("noise", [0.0, 0.1, 1.0])


def problem(operator, noise, spectrum=(2.0, 1.0, 0.5, 0.2, 0.1, 0.02)):
    """Data with a random basis, an observation of a draw of them, and A written out."""
    basis = torch.linalg.qr(torch.randn(D, D, dtype=F))[0]
    covariance = (basis * torch.tensor(spectrum, dtype=F)) @ basis.T
    data = oracle.Gaussian(0.5 * torch.randn(D, dtype=F), covariance)
    A = OPERATORS[operator]()
    matrix = A(torch.eye(D, dtype=F)).T
    x_0 = data.mean + torch.linalg.cholesky(covariance) @ torch.randn(D, dtype=F)
    y = A(x_0[None])
    y = y + noise * torch.randn_like(y)
    return data, Observation(A, y, noise), matrix


def condition(mean, covariance, matrix, y, noise):
    """The mean and covariance of x given y = matrix x + noise."""
    noisy = matrix @ covariance @ matrix.T + noise**2 * torch.eye(len(matrix), dtype=F)
    gain = covariance @ matrix.T @ torch.linalg.pinv(noisy, rtol=1e-12)
    return mean + gain @ (y - matrix @ mean), covariance - gain @ matrix @ covariance


def given_both(data, schedule, x_t, t, matrix, y, noise):
    """E[x_0 | x_t, y] of each row, by conditioning twice.

    The first time on precisions, S⁻¹ + (α/σ)² I: a difference of covariances would lose all digits
    but those beyond σ²/α², which is 1e-6 in the variance exploding gauge at t = 0.2.
    """
    c = schedule.at(t)
    precision = torch.linalg.inv(data.covariance)
    covariance = torch.linalg.inv(precision + torch.exp(2 * c.lam) * torch.eye(D, dtype=F))
    rows = []
    for x in x_t:
        mean = covariance @ (precision @ data.mean + float(c.alpha / c.sigma**2) * x)
        rows.append(condition(mean, covariance, matrix, y, noise)[0])
    return torch.stack(rows)


# The estimate


@gauges
@operators
@noises
def test_v5_mmps_is_the_exact_estimate(schedule, operator, noise):
    data, seen, matrix = problem(operator, noise)
    x_t = torch.randn(3, D, dtype=F)
    steered = posterior.mmps(data.denoiser(schedule), seen, schedule, iterations=12)
    for t in (0.9, 0.5, 0.2):
        found = steered(x_t, torch.full((3,), t, dtype=F))
        exact = given_both(data, schedule, x_t, t, matrix, seen.y[0], noise)
        torch.testing.assert_close(found, exact, rtol=1e-8, atol=1e-8)


@gauges
def test_v5_mmps_is_exact_with_a_level_for_each_element_and_noise_for_each_datum(schedule):
    data, seen, matrix = problem("blur", 0.0)
    deviation = torch.rand(D, dtype=F) + 0.1
    times = torch.rand(2, D, dtype=F) * 0.6 + 0.2
    c = schedule.at(times)

    def denoise(x_t, t):
        rows = []
        for x, a, s in zip(x_t, c.alpha, c.sigma, strict=True):
            S = data.covariance
            gain = S @ torch.diag(a) @ torch.linalg.inv(a[:, None] * S * a + torch.diag(s**2))
            rows.append(data.mean + gain @ (x - a * data.mean))
        return torch.stack(rows)

    x_t = torch.randn(2, D, dtype=F)
    noisy = Observation(seen.operator, seen.y, deviation)
    found = posterior.mmps(denoise, noisy, schedule, iterations=20)(x_t, times)
    for i in range(2):
        whole = torch.cat([torch.diag(c.alpha[i]), matrix])
        variance = torch.diag(torch.cat([c.sigma[i], deviation]) ** 2)
        gain = (
            data.covariance
            @ whole.T
            @ torch.linalg.inv(whole @ data.covariance @ whole.T + variance)
        )
        both = torch.cat([x_t[i], seen.y[0]])
        exact = data.mean + gain @ (both - whole @ data.mean)
        torch.testing.assert_close(found[i], exact, rtol=1e-8, atol=1e-8)


@gauges
@operators
@pytest.mark.parametrize("noise", [0.1, 1.0])
def test_v5_dps_has_its_predicted_bias(schedule, operator, noise):
    """C Aᵀ Σ_y⁻¹ r where the truth is C Aᵀ (A C Aᵀ + Σ_y)⁻¹ r: too far by 1 + A C Aᵀ Σ_y⁻¹."""
    data, seen, matrix = problem(operator, noise)
    plan = solvers.plan("ddim", schedule, steps=10)
    x_t, t = torch.randn(2, D, dtype=F), 0.5
    times = torch.full((2,), t, dtype=F)
    denoise = data.denoiser(schedule)
    c = schedule.at(t)
    odds = torch.eye(D, dtype=F) * torch.exp(2 * c.lam)
    C = torch.linalg.inv(torch.linalg.inv(data.covariance) + odds)
    d = denoise(x_t, times)
    r = seen.y - d @ matrix.T
    found = posterior.dps(denoise, seen, plan, zeta=None)(x_t, times) - d
    torch.testing.assert_close(found, r @ matrix @ C / noise**2, rtol=1e-8, atol=1e-8)
    excess = torch.eye(len(matrix), dtype=F) + matrix @ C @ matrix.T / noise**2
    exact = posterior.mmps(denoise, seen, schedule, iterations=12)(x_t, times) - d
    right = r @ torch.linalg.inv(matrix @ C @ matrix.T + noise**2 * torch.eye(len(matrix), dtype=F))
    torch.testing.assert_close(exact, right @ matrix @ C, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found, right @ excess.T @ matrix @ C, rtol=1e-8, atol=1e-8)


@gauges
def test_the_published_step_of_dps_moves_the_next_state_by_zeta(schedule):
    data, seen, matrix = problem("mask", 0.0)
    plan = solvers.plan("ddpm", schedule, steps=7)
    i, zeta = 4, 0.3
    x_t, times = torch.randn(2, D, dtype=F), torch.full((2,), plan.t[4], dtype=F)
    denoise = data.denoiser(schedule)
    x = x_t.clone().requires_grad_()
    misfit = (seen.y - denoise(x, times) @ matrix.T).norm(dim=1)
    (slope,) = torch.autograd.grad(misfit.sum(), x)
    moved = posterior.dps(denoise, seen, plan, zeta=zeta)(x_t, times) - denoise(x_t, times)
    before, after = (torch.hypot(*schedule.at(float(k[i]))[:2]) for k in (plan.t, plan.s))
    expected = -zeta * slope * before * after  # both sides in the variance preserving gauge
    torch.testing.assert_close(plan.B[i, 0] * moved, expected, rtol=1e-9, atol=1e-9)


def test_dps_takes_operators_that_are_not_linear():
    # centred data, far from what is seen: with a mean drawn at random they may agree by themselves
    data, schedule = (
        oracle.Gaussian(torch.zeros(D, dtype=F), torch.eye(D, dtype=F)),
        SCHEDULES["vp"],
    )
    seen = Observation(ops.Operator("tanh", torch.tanh), torch.full((1, D), 0.3, dtype=F))
    plan = solvers.plan("ddpm", schedule, steps=30)
    start = torch.randn(64, D, dtype=F)
    denoise, noise = data.denoiser(schedule), Noise(0, 64)
    plain = sample(denoise, plan, x=start, noise=noise)
    steered = restore(denoise, plan, seen, method="dps", noise=noise, x=start)
    assert seen.residual(steered).norm() < 0.3 * seen.residual(plain).norm()
    with pytest.raises(SuffuseError, match="no adjoint"):
        restore(denoise, plan, seen, noise=noise, x=start)


@gauges
@operators
@noises
def test_v5_pigdm_is_exact_where_its_assumption_holds(schedule, operator, noise):
    data, seen, matrix = problem(operator, noise, spectrum=[0.7**2] * D)
    x_t = torch.randn(2, D, dtype=F)
    steered = posterior.pigdm(data.denoiser(schedule), seen, schedule, sigma_data=0.7)
    for t in (0.8, 0.3):
        found = steered(x_t, torch.full((2,), t, dtype=F))
        exact = given_both(data, schedule, x_t, t, matrix, seen.y[0], noise)
        torch.testing.assert_close(found, exact, rtol=1e-8, atol=1e-8)


@gauges
@operators
@noises
def test_diffpir_is_the_proximal_point(schedule, operator, noise):
    data, seen, matrix = problem(operator, noise)
    denoise, t = data.denoiser(schedule), torch.full((2,), 0.4, dtype=F)
    x_t = torch.randn(2, D, dtype=F)
    found = posterior.diffpir(denoise, seen, schedule, weight=3.0)(x_t, t)
    d, odds = denoise(x_t, t), 3.0 * float(torch.exp(2 * schedule.at(0.4).lam))
    exact = torch.stack(
        [condition(row, torch.eye(D, dtype=F) / odds, matrix, seen.y[0], noise)[0] for row in d]
    )
    torch.testing.assert_close(found, exact, rtol=1e-8, atol=1e-8)


# The distribution


class Unit(Noise):
    """Noise by which a sampler is read off: draw k is 1 in one element of one sample of the batch.

    The first sample gets no noise; the next D differ in their start; then D for every draw.
    """

    def __init__(self, n):
        self.n, self.draws = n, {}

    def __len__(self):
        return self.n

    def normal(self, shape, *, step, stream=1, dtype=F):
        z = torch.zeros(self.n, math.prod(shape), dtype=dtype)
        k = self.draws.setdefault((int(stream), step), len(self.draws))
        first = 1 + (1 + k) * z.shape[1]
        if first < self.n:
            z[first : first + z.shape[1]] = torch.eye(z.shape[1], dtype=dtype)
        return z.reshape(self.n, *shape)


def distribution(run, deviation):
    """The mean and covariance of run(x, noise), affine, for x normal with the given deviation."""
    count = Unit(1)
    run(torch.zeros(1, D, dtype=F), count)
    noise = Unit(1 + D + D * len(count.draws))
    x = torch.zeros(len(noise), D, dtype=F)
    x[1 : 1 + D] = deviation * torch.eye(D, dtype=F)
    out = run(x, noise)
    return out[0], (out[1:] - out[0]).T @ (out[1:] - out[0])


def wasserstein(m, S, n, R):
    """The 2-Wasserstein distance of two normal distributions."""

    def root(S):
        v, U = torch.linalg.eigh(S)
        return (U * v.clamp(min=0).sqrt()) @ U.T

    cross = root(root(R) @ S @ root(R))
    return math.sqrt(max(0.0, float((m - n).square().sum() + torch.trace(S + R - 2 * cross))))


def arrives(data, seen, plan, method, **options):
    """The distance of a sampler's distribution from the posterior, and its cost."""
    calls = [0]
    exact_denoiser = data.denoiser(plan.schedule)

    def denoise(x, t):
        calls[0] += 1
        return exact_denoiser(x, t)

    def run(x, noise):
        calls[0] = 0
        return restore(denoise, plan, seen, method=method, options=options, noise=noise, x=x)

    matrix = seen.operator(torch.eye(D, dtype=F)).T
    exact = condition(data.mean, data.covariance, matrix, seen.y[0], seen.noise)
    c = plan.schedule.at(plan.t[0])
    found = distribution(run, float((c.alpha**2 + c.sigma**2).sqrt()))
    return wasserstein(*found, *exact), calls[0]


@operators
@noises
def test_v5_mmps_arrives_at_the_posterior(operator, noise):
    """At the order of the solver for the default one, whose rows add no noise, and with noise."""
    data, seen, _ = problem(operator, noise)
    distances, schedule = [], SCHEDULES["flow" if operator == "pool" else "vp"]
    for steps in (16, 32):
        plan = solvers.plan("multistep", schedule, steps=steps, grid="logsnr")
        distance, calls = arrives(data, seen, plan, "mmps", iterations=6)
        distances.append(distance)
        assert calls == steps
    assert distances[1] < max(0.5 * distances[0], 2e-4), distances
    assert distances[1] < 0.01, distances
    plan = solvers.plan("ddpm", schedule, steps=30, grid="logsnr")
    assert arrives(data, seen, plan, "mmps", iterations=6)[0] < 0.5


@pytest.mark.parametrize("operator", ["mask", "pool"])
@noises
def test_v5_every_method_comes_nearer_and_none_as_near_as_mmps(operator, noise):
    schedule = SCHEDULES["vp"]
    data, seen, matrix = problem(operator, noise)
    plan = solvers.plan("ddpm", schedule, steps=30)
    exact = condition(data.mean, data.covariance, matrix, seen.y[0], noise)
    prior = wasserstein(data.mean, data.covariance, *exact)
    default = solvers.plan("multistep", schedule, steps=30, grid="logsnr")
    best, _ = arrives(data, seen, default, "mmps", iterations=6)
    methods = ("pigdm", "diffpir", "replacement", "ddrm", *(["repaint"] * (noise == 0)))
    for method in methods:
        options = {"jump": 5, "repeats": 4} if method == "repaint" else {}
        distance, calls = arrives(data, seen, plan, method, **options)
        assert best < distance, (method, best, distance)
        if noise < 1:  # DDRM loses variance where the data say little
            assert distance < prior, (method, distance, prior)
        assert calls == (30 if method != "repaint" else 30 + 5 * 3 * 5)


@noises
def test_v5_methods_whose_assumption_holds_arrive(noise):
    """For data of covariance I all of mmps, pigdm and replacement tend to the posterior."""
    data, seen, _ = problem("mask", noise, spectrum=[1.0] * D)
    for method in ("pigdm", "mmps", "replacement"):
        distances = [
            arrives(data, seen, solvers.plan("ddpm", schedules.cosine(), steps=n), method)[0]
            for n in (20, 80)
        ]
        assert distances[1] < 0.2, (method, distances)
        assert distances[1] < 0.5 * distances[0] or distances[1] < 1e-3, (method, distances)


def test_resampling_brings_repaint_nearer():
    data, seen, _ = problem("mask", 0.0)
    plan = solvers.plan("ddpm", schedules.cosine(), steps=30)
    once, _ = arrives(data, seen, plan, "repaint", jump=6, repeats=1)
    often, _ = arrives(data, seen, plan, "repaint", jump=6, repeats=10)
    assert often < 0.8 * once
    same, _ = arrives(data, seen, plan, "replacement")
    assert once == pytest.approx(same, abs=1e-12)


@gauges
def test_rows_back_up_are_steps_down_and_noise(schedule):
    """The merged row against the two that it stands for, on normal data without an observation."""
    plan = solvers.plan("ddpm", schedule, steps=12)
    long = posterior.resampled(plan, jump=4, repeats=2)
    assert len(long) == 12 + 2 * 4
    assert long.s.tolist()[:-1] == long.t.tolist()[1:]
    row, low, up = 7, schedule.at(long.s[8]), schedule.at(plan.t[4])
    assert (long.t[row], long.s[row]) == (plan.t[7], plan.t[4])
    k = up.alpha / schedule.at(plan.s[7]).alpha
    low = schedule.at(plan.s[7])
    expected = [k * plan.A[7, 0], k * plan.B[7, 0]]
    assert [long.A[row, 0], long.B[row, 0]] == pytest.approx([float(v) for v in expected])
    noise = (k * plan.C[7]) ** 2 + up.sigma**2 - (k * low.sigma) ** 2
    assert long.C[row] ** 2 == pytest.approx(float(noise))
    assert len(posterior.resampled(plan, jump=12, repeats=3)) == 12


# DDRM


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("operator", ["mask", "pool", "blur"])
def test_ddrm_is_its_published_step(operator, noise):
    """Equations 7 and 8 in the singular basis, in the variance exploding gauge of the paper."""
    schedule, eta, eta_b = schedules.edm(), 0.85, 0.9
    _, seen, matrix = problem(operator, noise)
    U, s, Vt = torch.linalg.svd(matrix)
    s = torch.nn.functional.pad(s, (0, D - len(s)))
    s = torch.where(s > 1e-6, s, 0)
    process = posterior.DDRM(schedule, observation=seen, eta=eta, eta_b=eta_b)
    plan = solvers.plan("ddim", schedule, steps=9)
    x, d = torch.randn(2, 1, D, dtype=F)
    for i, row in enumerate(plan):
        from suffuse.diffusion import Registers

        source = Noise(3, 1)
        found = process.step(row, Registers((x,), (d,)), source)
        z = source.normal((D,), step=i + 1, stream=2, dtype=F) @ Vt.T
        t, now = (float(schedule.at(k).sigma) for k in (row.t, row.s))
        bar_x, bar_d = x @ Vt.T, d @ Vt.T
        bar_y = torch.zeros(1, D, dtype=F)
        live = s > 0
        bar_y[:, live] = (seen.y @ U)[:, : int(live.sum())] / s[live]
        keep = math.sqrt(1 - eta**2) * now
        for j in range(D):
            if s[j] == 0:
                mean, var = bar_d[0, j] + keep * (bar_x - bar_d)[0, j] / t, (eta * now) ** 2
            elif now < noise / s[j]:
                mean = bar_d[0, j] + keep * (bar_y - bar_d)[0, j] / (noise / s[j])
                var = (eta * now) ** 2
            else:
                mean = (1 - eta_b) * bar_d[0, j] + eta_b * bar_y[0, j]
                var = now**2 - (noise / s[j] * eta_b) ** 2
            # a singular basis is free within a plane of equal values, so compare planes
            plane = (s - s[j]).abs() < 1e-9
            if int(plane.sum()) == 1:
                expected = mean + math.sqrt(max(var, 0.0)) * z[0, j]
                assert float((found @ Vt.T)[0, j]) == pytest.approx(float(expected), abs=1e-9)
        if operator == "mask":  # no basis to choose: V is the identity
            known = seen.operator(torch.ones(1, D, dtype=F))[0] > 0
            if noise == 0:
                expected = (1 - eta_b) * d + eta_b * seen.y
                noisy = source.normal((D,), step=i + 1, stream=2, dtype=F)
                torch.testing.assert_close((expected + now * noisy)[:, known], found[:, known])


# The entry


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("operator", ["mask", "subset", "pool"])
def test_data_without_noise_are_kept(method, operator):
    data, seen, _ = problem(operator, 0.0)
    begin = 0.6 if method == "sdedit" else 1.0
    plan = solvers.plan("ddpm", schedules.cosine(), steps=12, begin=begin)
    options = {"jump": 3, "repeats": 2} if method == "repaint" else {}
    found = restore(
        data.denoiser(plan.schedule).__call__,
        plan,
        seen,
        method=method,
        options=options,
        noise=Noise(0, 5),
        x=None if method == "sdedit" else torch.randn(5, D, dtype=F),
    )
    assert found.shape == (5, D)
    if method == "sdedit":
        return
    if operator == "pool":
        torch.testing.assert_close(seen.operator(found), seen.y.expand(5, -1))
    else:
        assert torch.equal(seen.operator(found), seen.y.expand(5, -1))
    assert found.std(0).max() > 0.01


@pytest.mark.parametrize("method", METHODS)
def test_a_sample_is_the_same_in_any_batch_and_in_inference_mode(method):
    data, seen, _ = problem("mask", 0.2)
    schedule = schedules.flow()
    plan = solvers.plan("ddpm", schedule, steps=6, begin=0.9)
    options = {"jump": 2, "repeats": 2} if method == "repaint" else {}

    def run(noise):
        with torch.inference_mode():
            return restore(
                lambda x, t, shift: data.denoiser(schedule)(x.double(), t) + 0 * shift,
                plan,
                seen,
                method=method,
                options=options,
                noise=noise,
                shape=(D,),
                shift=torch.zeros(len(noise), 1, dtype=F),
            )

    whole = run(Noise(7, 4))
    torch.testing.assert_close(run(Noise(7, 2, first=1)), whole[1:3], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", ["replacement", "repaint", "ddrm"])
def test_what_is_replaced_is_so_from_the_first_state_on(method):
    data, seen, _ = problem("mask", 0.2)
    schedule, states = schedules.flow(), []
    plan = solvers.plan("ddpm", schedule, steps=4, begin=0.7)
    denoise = data.denoiser(schedule)

    def watched(x, t):
        states.append(x)
        return denoise(x, t)

    start, noise = torch.randn(2, D, dtype=F), Noise(0, 2)
    restore(watched, plan, seen, method=method, noise=noise, x=start)
    c, known = schedule.at(0.7), seen.operator(torch.ones(1, D)).bool()
    z = noise.normal((D,), step=0, stream=2, dtype=F)
    expected = c.alpha * seen.y + (c.sigma**2 - (c.alpha * 0.2) ** 2).sqrt() * z
    torch.testing.assert_close(states[0], torch.where(known, expected, start))


def test_sdedit_begins_at_the_noised_data():
    image = torch.randn(1, D, dtype=F)
    seen = Observation(ops.identity(), image)
    schedule = schedules.cosine()
    began = []
    plan = solvers.plan("ddim", schedule, steps=4, begin=0.5)
    restore(lambda x, t: began.append(x) or x, plan, seen, method="sdedit", noise=Noise(0, 3))
    z = Noise(0, 3).normal((D,), step=0, stream=2, dtype=F)
    c = schedule.at(0.5)
    torch.testing.assert_close(began[0], c.alpha * image + c.sigma * z)


@gauges
@pytest.mark.parametrize("operator", [*OPERATORS, "band", "convolution"])
@pytest.mark.parametrize("method", METHODS)
def test_single_precision_serves(schedule, operator, method):
    """Data on several modes, without noise: all is finite, and steered estimates meet the data."""
    d, modes = 64, 4
    data = oracle.Mixture(
        torch.ones(modes) / modes, torch.randn(modes, d), torch.full((modes,), 0.1)
    )
    A = {
        "mask": lambda: ops.mask(torch.rand(d) < 0.3),
        "subset": lambda: ops.subset(torch.randperm(d)[:20], d),
        "pool": lambda: ops.pool(4, (-1,)),
        "blur": lambda: ops.blur(1.0, (d,), (-1,)),
        "composed": lambda: ops.subset([0, 5, 9], 16) @ ops.pool(4, (-1,)),
        "band": lambda: ops.band(0, 0.2),
        "convolution": lambda: ops.convolution(torch.ones(5) / 5),
    }[operator]()
    if A.spectrum is None and method in ("replacement", "repaint", "ddrm", "sdedit"):
        return
    seen = Observation(A, A(data.sample(1)[0]))
    plan = solvers.plan("ddpm", schedule, steps=10, begin=0.9)
    options = {"jump": 3, "repeats": 2} if method == "repaint" else {}
    found = restore(
        data.denoiser(schedule),
        plan,
        seen,
        method=method,
        options=options,
        noise=Noise(0, 3),
        shape=(d,),
    )
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    if method in ("mmps", "pigdm", "diffpir"):
        assert seen.residual(found).square().mean() < 0.02


def test_what_is_unknown_is_never_read():
    data, _, _ = problem("mask", 0.0)
    known = torch.tensor([1, 1, 0, 0, 0, 0])
    y = torch.tensor([[0.1, 0.2, float("nan"), float("nan"), 9.0, 9.0]], dtype=F)
    plan = solvers.plan(schedule=schedules.cosine(), steps=8)
    seen = Observation(ops.mask(known), y)
    found = restore(data.denoiser(plan.schedule), plan, seen, x=torch.randn(2, D, dtype=F))
    assert found.isfinite().all()
    assert found[:, :2].tolist() == [[0.1, 0.2]] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "mmp"}, "did you mean 'mmps'"),
        ({"options": {"iteration": 3}}, "did you mean 'iterations'"),
        ({"method": "sdedit"}, "begin=0.6"),
        ({"method": "dps", "options": {"zeta": None}}, "noise above 0"),
        ({"method": "replacement", "noise": None}, "Noise"),
        ({"method": "repaint", "options": {"jump": 0}}, "jump"),
        ({"method": "repaint", "solver": "dpmpp-3m"}, "one-step"),
        ({"method": "ddrm", "solver": "heun"}, "one call a step"),
        ({"method": "ddrm", "operator": "composed"}, "'mmps'"),
        ({"y": torch.zeros(1, 2)}, "shape"),
        ({"y": torch.zeros(3, D)}, "shape"),
    ],
)
def test_mistakes_are_told(change, message):
    data, seen, _ = problem(change.pop("operator", "mask"), 0.0)
    if "y" in change:
        seen = Observation(ops.Operator("same", lambda x: x, lambda y: y), change.pop("y"))
    plan = solvers.plan(change.pop("solver", "ddpm"), schedules.cosine(), steps=6)
    settings = {"noise": Noise(0, 2), "x": torch.randn(2, D, dtype=F)} | change
    if settings.get("method") == "sdedit":
        settings["x"] = None
    with pytest.raises(SuffuseError, match=message):
        restore(data.denoiser(plan.schedule), plan, seen, **settings)
    with pytest.raises(SuffuseError, match="0 or more"):
        Observation(ops.identity(), torch.zeros(1, 2), -0.1)


@pytest.mark.parametrize("method", ["diffpir", "replacement"])
def test_fresh_noise_takes_back_what_an_estimate_got_wrong(method):
    """Why `Model.restore` draws noise: a network errs most in much noise, and a deterministic plan
    carries more of its error into what the data do not show."""
    schedule = schedules.edm(sigma_max=12.0)
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=F)
    exact = oracle.Gaussian(torch.zeros(2, dtype=F), covariance).denoiser(schedule)

    def wrong(x_t, t):
        return exact(x_t, t) + 10 * (schedule.at(t).align(x_t).sigma > 4).to(F)

    seen = Observation(ops.mask(torch.tensor([True, False])), torch.tensor([[1.0, 0.0]]))
    shifts = []
    for eta in (0.0, 1.0):
        plan = solvers.plan("ddim", schedule, steps=48, eta=eta)
        means = [
            restore(each, plan, seen, method=method, noise=Noise(0, 400), shape=(2,))[:, 1].mean()
            for each in (exact, wrong)
        ]
        shifts.append(abs(float(means[1] - means[0])))
    assert shifts[0] > 0.5
    assert shifts[1] < shifts[0] / 3
