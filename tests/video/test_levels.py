"""Noise levels for each frame: the matrices, and that all of them sample the same distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from suffuse.diffusion import Noise, sample, schedules, solvers
from suffuse.errors import SuffuseError
from suffuse_video import levels
from suffuse_video.forcing import Forcing

KNOWN = [True, False, True, False, False, False]


@pytest.mark.parametrize(
    "grid",
    [
        levels.full(KNOWN, 5),
        levels.sequential(KNOWN, 5),
        levels.sequential(KNOWN, 5, chunk=2),
        levels.sequential(KNOWN, 5, context=0.0),
        levels.rolling(KNOWN, 5),
        levels.rolling(KNOWN, 5, lag=2),
    ],
)
def test_levels_fall_from_noise_to_clean_and_known_frames_stay_clean(grid):
    known = np.array(KNOWN)
    assert (grid[:, known] == 0).all()
    assert (grid[0, ~known] == 1).all()
    assert (grid[-1] == 0).all()
    assert (np.diff(grid, axis=0) <= 1e-12).all()
    assert (abs(np.diff(grid, axis=0)).max(1) > 0).all()  # no call is for nothing


def test_the_staircase_has_the_other_two_at_its_ends():
    np.testing.assert_allclose(levels.rolling(KNOWN, 5, lag=0), levels.full(KNOWN, 5))
    plain = levels.sequential(KNOWN, 5, context=0.0)
    np.testing.assert_allclose(levels.rolling(KNOWN, 5, lag=5), plain)
    calls = [len(g(KNOWN, 5)) - 1 for g in (levels.full, levels.rolling, levels.sequential)]
    assert calls == [5, 5 + 3, 5 * 4 + 1]


def test_frames_made_in_sequence_wait_with_a_little_noise_until_all_are_made():
    grid = levels.sequential(KNOWN, 5, context=0.3)
    frames = np.flatnonzero(~np.array(KNOWN))
    for place, k in enumerate(frames):
        begin, end = 5 * place, 5 * (place + 1)
        assert (grid[: begin + 1, k] == 1).all()
        np.testing.assert_allclose(grid[end : 5 * len(frames) + 1, k], 0.3)
    np.testing.assert_allclose(grid[5 * len(frames) :, frames].T, [[0.3, 0.15, 0.0]] * 4)
    with pytest.raises(SuffuseError, match="context is a time"):
        levels.sequential(KNOWN, 5, context=1.0)


def test_impossible_matrices_are_refused():
    for make in (levels.full, levels.sequential, levels.rolling):
        with pytest.raises(SuffuseError, match="nothing to make"):
            make([True, True], 5)
        with pytest.raises(SuffuseError, match="steps is 1 or more"):
            make(KNOWN, 0)
    with pytest.raises(SuffuseError, match="lag is 0 to"):
        levels.rolling(KNOWN, 5, lag=6)


@pytest.mark.parametrize("how", ["full", "sequential", "rolling"])
def test_every_matrix_samples_the_exact_conditional_distribution(how):
    """On Gaussian frames: the map from noise to frames has the covariance of the posterior.

    The denoiser is exact for levels of any kind: x_t = A x_0 + S ε with diagonal A and S. The
    sampler is linear in the noise, so that its covariance is M Mᵀ without any sampling.
    """
    known = np.array(KNOWN)
    frames = len(known)
    place = torch.arange(frames, dtype=torch.float64)
    covariance = 0.8 ** (place[:, None] - place).abs()
    schedule = schedules.cosine()

    def denoise(x_t, t):
        c = schedule.at(t[0])
        alpha, sigma = c.alpha, c.sigma
        seen = alpha[:, None] * covariance * alpha + torch.diag(sigma**2 + 1e-14)
        gain = torch.linalg.solve(seen, alpha[:, None] * covariance).T
        return x_t @ gain.T

    plan = solvers.plan("ddim", schedule, grid=getattr(levels, how)(KNOWN, 150).tolist())
    value = torch.tensor([1.3, -0.4], dtype=torch.float64)
    start = torch.cat([torch.zeros(1, frames), torch.eye(frames)[~known]]).double()
    start[:, known] = value
    made = sample(denoise, plan, x=start)
    assert (made[:, known] == value).all()  # bit for bit
    mean, M = made[0, ~known], (made[1:, ~known] - made[0, ~known]).T
    k, u = np.flatnonzero(known), np.flatnonzero(~known)
    gain = torch.linalg.solve(covariance[np.ix_(k, k)], covariance[np.ix_(k, u)]).T
    exact = covariance[np.ix_(u, u)] - gain @ covariance[np.ix_(k, u)]
    torch.testing.assert_close(mean, gain @ value, atol=1e-3, rtol=0)
    torch.testing.assert_close(M @ M.T, exact, atol=0.02, rtol=0)


def forcing(**shares):
    return Forcing(schedules.cosine(), "x0", **shares)


def uniform(process, rows=2000, frames=6):
    extra = process.extra(torch.zeros(1, frames, 1, 1, 1))
    return Noise(3, rows).uniform((1 + extra,), step=0, stream=1)


def test_each_pattern_of_training_levels_is_what_it_is_called():
    t = forcing(together=1.0, known=0, rising=0).levels(u := uniform(forcing()))
    assert (t == u[:, :1]).all()
    t = forcing(together=0, known=1.0, rising=0).levels(u)
    unknown = t > 0
    assert (torch.where(unknown, t, u[:, :1]) == u[:, :1]).all()
    assert unknown.any(1).all()
    assert 0.3 < unknown.double().mean() < 0.9
    assert (~unknown).any(1).double().mean() > 0.8
    for how in (
        (unknown.long().diff(dim=1) >= 0).all(1),  # what follows
        (unknown.long().diff(dim=1).abs().sum(1) == 2) & ~unknown[:, 0] & ~unknown[:, -1],  # a gap
        (unknown[:, ::2] == ~unknown[:, 1::2]).all(1) & (unknown.long().diff(dim=1) != 0).all(1),
    ):
        assert 0.05 < how.double().mean() < 0.8
    t = forcing(together=0, known=0, rising=1.0).levels(u)
    assert (t.diff(dim=1) >= 0).all()
    t = forcing(together=0, known=0, rising=0).levels(u)
    correlations = torch.corrcoef(t.T) - torch.eye(6)
    assert correlations.abs().max() < 0.1
    # Every pattern but the known frames is uniform in time.
    assert abs(t.mean() - 0.5) < 0.01


def test_patterns_have_their_shares():
    t = forcing(together=0.5, known=0, rising=0.5).levels(uniform(forcing()))
    same = (t == t[:, :1]).all(1)
    assert 0.45 < same.double().mean() < 0.55
    with pytest.raises(SuffuseError, match="shares"):
        forcing(together=0.9, known=0.2)


def test_known_frames_do_not_count_in_the_loss():
    process = forcing()
    x = torch.randn(2, 4, 3, 2, 2)
    noise = torch.randn_like(x)
    t = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.3, 0.3, 0.3, 0.3]], dtype=torch.float64)

    def network(x_t, level, off=0.0):
        answer = x.clone()
        answer[0, :2] += 7.0  # wrong where it does not matter
        answer[0, 2] += 1.0
        return answer

    loss = process.loss(network, x, t, noise)
    torch.testing.assert_close(loss, torch.tensor([0.5, 0.0], dtype=loss.dtype))


def test_details_count_more_by_the_signal_to_noise_ratio_up_to_a_bound():
    x = torch.randn(1, 3, 1, 2, 2)
    t = torch.tensor([[0.01, 0.5, 0.9]], dtype=torch.float64)
    c = schedules.cosine().at(t)
    ratio = (4.0 * (c.alpha / c.sigma).square()).clamp(max=10.0)
    assert ratio[0, 0] == 10.0
    assert ratio[0, 1] > ratio[0, 2]
    answer = lambda x_t, level: x + 1.0  # noqa: E731
    found = forcing(details=4.0).loss(answer, x, t, torch.randn_like(x))
    torch.testing.assert_close(found.double(), (1 + ratio).mean(1))
    t = torch.tensor([[0.0, 0.9, 0.0]], dtype=torch.float64)  # the middle is nearly sure
    found = forcing(details=4.0).loss(answer, x, t, torch.randn_like(x))
    torch.testing.assert_close(found, torch.tensor([11.0]))
    with pytest.raises(SuffuseError, match="details is 0 or more"):
        forcing(details=-1.0)


def test_one_level_for_all_frames_is_the_gaussian_process():
    from suffuse.diffusion.process import Gaussian

    x, noise = torch.randn(3, 4, 3, 2, 2), torch.randn(3, 4, 3, 2, 2)
    t = torch.rand(3, dtype=torch.float64)
    plain, ours = Gaussian(schedules.cosine(), "x0"), forcing()
    network = lambda x_t, level: 0.3 * x_t  # noqa: E731
    expected = plain.loss(network, x, t, noise)
    torch.testing.assert_close(ours.loss(network, x, t, noise), expected)
    each = t[:, None].expand(3, 4)
    torch.testing.assert_close(ours.loss(network, x, each, noise), expected)
