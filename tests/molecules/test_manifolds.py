"""Angles and rotations: densities against series and quadrature, scores against differences."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.transform import Rotation

from suffuse.diffusion import Noise, sample, schedules, solvers
from suffuse.errors import SuffuseError
from suffuse_molecules.so3 import (
    Rotations,
    igso3_density,
    igso3_score,
    rotation_of,
    so3,
    vector_of,
)
from suffuse_molecules.torus import Torus, torus, wrap, wrapped_normal_density, wrapped_normal_score

SIGMAS = (0.05, 0.3, 0.9, 1.2, 1.9, 3.0)
CLOCK = schedules.geometric(sigma_min=0.02, sigma_max=math.pi)


def _series_angle(theta: np.ndarray, sigma: float) -> np.ndarray:
    order = np.arange(1, 400)
    waves = np.exp(-((order * sigma) ** 2) / 2) * np.cos(order * theta[:, None])
    return (1 + 2 * waves.sum(1)) / (2 * np.pi)


def _series_rotation(omega: np.ndarray, sigma: float) -> np.ndarray:
    order = np.arange(400)
    terms = (2 * order + 1) * np.exp(-order * (order + 1) * sigma**2 / 2)
    return (terms * np.sin((order + 0.5) * omega[:, None])).sum(1) / np.sin(omega / 2)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_wrapped_normal_is_its_fourier_series(sigma: float) -> None:
    theta = np.linspace(-math.pi, math.pi, 97)
    found = wrapped_normal_density(
        torch.from_numpy(theta), torch.tensor(sigma, dtype=torch.float64)
    )
    np.testing.assert_allclose(found, _series_angle(theta, sigma), atol=1e-12)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_score_of_the_wrapped_normal_is_the_slope_of_its_log(sigma: float) -> None:
    far = min(3.1, 30 * sigma)  # where the density is still a number
    theta = torch.linspace(-far, far, 63, dtype=torch.float64).requires_grad_()
    level = torch.tensor(sigma, dtype=torch.float64)
    (wanted,) = torch.autograd.grad(wrapped_normal_density(theta, level).log().sum(), theta)
    found = wrapped_normal_score(theta.detach(), level)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_igso3_is_its_series_and_integrates_to_one(sigma: float) -> None:
    omega = np.linspace(1e-3, math.pi, 400)
    found = igso3_density(torch.from_numpy(omega), torch.tensor(sigma, dtype=torch.float64))
    wanted = _series_rotation(omega, sigma)
    # the test's series cancels to about 1e-16 of its largest term
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-11 * wanted.max())
    nodes, weights = np.polynomial.legendre.leggauss(400)
    grid = torch.from_numpy((nodes + 1) * math.pi / 2)
    density = (
        igso3_density(grid, torch.tensor(sigma, dtype=torch.float64)) * (1 - grid.cos()) / math.pi
    )
    assert float(density @ torch.from_numpy(weights)) * math.pi / 2 == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_score_of_igso3_is_a_finite_difference(sigma: float) -> None:
    omega = torch.linspace(0.02, min(3.1, 6 * sigma), 60, dtype=torch.float64)
    level, h = torch.tensor(sigma, dtype=torch.float64), 1e-5
    up, down = (igso3_density(omega + k, level).log() for k in (h, -h))
    torch.testing.assert_close(
        igso3_score(omega, level), (up - down) / (2 * h), rtol=1e-5, atol=2e-4
    )


@pytest.mark.parametrize("sigma", [0.1, 0.6, 1.5])
def test_the_score_of_a_rotation_is_the_gradient_of_the_log_density(sigma: float) -> None:
    process, level = Rotations(CLOCK), torch.full((5, 1), sigma, dtype=torch.float64)
    x_0 = process.prior(Noise(1, 5), (3, 3)).double()
    v = sigma * torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    x_t = process.exp(x_0, v)

    def log_density(at: torch.Tensor) -> torch.Tensor:
        angle = vector_of(at @ x_0.transpose(-1, -2)).norm(dim=-1)
        return igso3_density(angle, level[:, 0]).log()

    h, slopes = 1e-5, []
    for step in torch.eye(3, dtype=torch.float64) * h:
        up, down = (log_density(process.exp(x_t, k * step.expand(5, 3))) for k in (1, -1))
        slopes.append((up - down) / (2 * h))
    torch.testing.assert_close(
        process.score(x_t, x_0, level), torch.stack(slopes, -1), rtol=1e-5, atol=1e-5
    )


def test_rotations_and_vectors_are_those_of_scipy() -> None:
    v = torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    v = torch.cat([v, 1e-9 * v[:3], v[:3] / v[:3].norm(dim=1, keepdim=True) * (math.pi - 1e-7)])
    wanted = Rotation.from_rotvec(v.numpy())
    np.testing.assert_allclose(rotation_of(v), wanted.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(vector_of(rotation_of(v)), wanted.as_rotvec(), atol=1e-7)


@pytest.mark.parametrize("sigma", [0.2, 0.9, 2.0])
def test_walks_are_draws_of_the_heat_kernels(sigma: float) -> None:
    n, level = 4000, torch.tensor(sigma, dtype=torch.float64)
    z = Noise(3, n).normal((3,), step=0, stream=0).double()
    angles = Torus(CLOCK).walk(torch.zeros(n, 3, dtype=torch.float64), level, z)[:, 0]
    grid = np.linspace(-math.pi, math.pi, 2001)
    cdf = np.cumsum(_series_angle(grid, sigma)) * (grid[1] - grid[0])
    assert stats.kstest(angles.numpy(), lambda x: np.interp(x, grid, cdf)).pvalue > 1e-3

    eye = torch.eye(3, dtype=torch.float64).expand(n, 3, 3)
    turned = vector_of(Rotations(CLOCK).walk(eye, level.expand(n, 1), z))
    omega = np.linspace(1e-6, math.pi, 4001)
    rate = np.clip(_series_rotation(omega, sigma), 0, None) * (1 - np.cos(omega)) / math.pi
    cdf = np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(omega))])
    length = turned.norm(dim=1).numpy()
    assert stats.kstest(length, lambda x: np.interp(x, omega, cdf)).pvalue > 1e-3
    # axes are uniform: the cosine with any direction is
    assert stats.kstest(turned[:, 2].numpy() / length, stats.uniform(-1, 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("make", [torus, so3])
@pytest.mark.parametrize("sigma", [0.01, 0.7, 2.5])
def test_the_spread_is_that_of_drawn_scores(make, sigma: float) -> None:
    process, n = make(CLOCK), 20000
    shape = (1,) if make is torus else (3, 3)
    x_0 = process.prior(Noise(0, n), shape).double()
    level = torch.full((n, 1), sigma, dtype=torch.float64)
    z = Noise(1, n).normal(process.tangent(shape), step=0, stream=0).double()
    found = process.score(process.walk(x_0, level, z), x_0, level)
    assert float(found.square().mean().sqrt()) == pytest.approx(
        float(process.spread(level[:1])), rel=0.03
    )


@pytest.mark.parametrize("name", ["ddim", "euler", "euler-ancestral", "unipc", "heun"])
def test_plans_of_flat_spaces_bring_angles_back_to_their_distribution(name: str) -> None:
    # data: a wrapped normal about 1 of deviation 0.4, whose noisy score is known
    process, own, n = Torus(CLOCK), 0.4, 4000

    def denoiser(x, t):
        sigma = CLOCK.at(t).sigma[:, None]
        wide = (own**2 + sigma**2).sqrt()
        return process.exp(x, sigma**2 * wrapped_normal_score(x - 1.0, wide))

    plan = solvers.plan(name, CLOCK, steps=60)
    start = process.prior(Noise(5, n), (1,)).double()
    noise = Noise(6, n) if plan.stochastic else None
    made = sample(denoiser, plan, x=start, process=process, noise=noise)
    assert float(made.abs().max()) <= math.pi
    grid = np.linspace(-math.pi, math.pi, 2001)
    cdf = np.cumsum(_series_angle(grid, own)) * (grid[1] - grid[0])
    far = wrap(made - 1.0)[:, 0].numpy()
    found = stats.kstest(far, lambda x: np.interp(x, grid, cdf))
    assert found.statistic < 0.04  # the prior is uniform, and the marginal at t = 1 nearly


@pytest.mark.parametrize("name", ["ddim", "euler-ancestral"])
def test_plans_bring_rotations_back(name: str) -> None:
    process, own, n = Rotations(CLOCK), 0.4, 1500
    centre = rotation_of(torch.tensor([0.3, -1.0, 0.5], dtype=torch.float64)).expand(n, 3, 3)

    def denoiser(x, t):
        sigma = CLOCK.at(t).sigma[:, None]
        wide = (own**2 + sigma**2).sqrt()
        return process.exp(x, sigma**2 * process.score(x, centre, wide))

    plan = solvers.plan(name, CLOCK, steps=150)
    start = process.prior(Noise(5, n), (3, 3)).double()
    noise = Noise(6, n) if plan.stochastic else None
    made = sample(denoiser, plan, x=start, process=process, noise=noise)
    eye = torch.eye(3, dtype=torch.float64).expand(n, 3, 3)
    torch.testing.assert_close(made @ made.mT, eye, atol=1e-5, rtol=0)  # the prior's precision
    omega = np.linspace(1e-6, math.pi, 4001)
    rate = np.clip(_series_rotation(omega, own), 0, None) * (1 - np.cos(omega)) / math.pi
    cdf = np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(omega))])
    length = vector_of(made @ centre.mT).norm(dim=1).numpy()
    assert stats.kstest(length, lambda x: np.interp(x, omega, cdf)).statistic < 0.06


@pytest.mark.parametrize(("make", "shape"), [(torus, (4,)), (so3, (2, 3, 3))])
def test_the_exact_score_has_no_loss_and_its_estimate_is_found(make, shape) -> None:
    process, n = make(CLOCK), 6
    x_0 = process.prior(Noise(0, n), shape).double()
    t = torch.linspace(0.1, 0.9, n, dtype=torch.float64)
    z = process.noise(Noise(1, n), x_0, step=0, stream=2)
    x_t = process.corrupt(x_0, t, z)

    def exact(x, level):
        sigma = CLOCK.at(t).align(z).sigma
        return process.score(x, x_0, sigma) / process.spread(sigma)

    loss = process.loss(exact, x_0, t, z)
    torch.testing.assert_close(loss, torch.zeros_like(loss), atol=1e-12, rtol=0)
    assert float(process.loss(lambda x, lev: 0 * z, x_0, t, z).mean()) > 0.2
    # where no lift is in doubt, the estimate is the clean state itself on the torus
    if make is torus:
        near = process.denoiser(exact)(x_t, t)
        sure = (CLOCK.at(t).sigma < 0.3)[:, None].expand_as(near)
        torch.testing.assert_close(wrap(near - x_0)[sure], 0 * x_0[sure], atol=1e-6, rtol=0)


def test_a_schedule_that_scales_states_is_refused() -> None:
    with pytest.raises(SuffuseError, match="variance exploding"):
        torus(schedules.cosine())
