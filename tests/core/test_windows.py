"""Large states in windows."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from suffuse.diffusion import Noise, sample, schedules, solvers
from suffuse.diffusion.windows import places, windowed
from suffuse.errors import SuffuseError


def pointwise(x_t, t, scale=None):
    """What looks at one position alone is the same in any window."""
    return torch.tanh(x_t) * t[:, None, None, None] + (
        0 if scale is None else scale[:, :, None, None]
    )


@pytest.mark.parametrize("circular", [False, True])
def test_windows_change_nothing_for_what_looks_at_points(circular):
    x, t = torch.randn(2, 3, 11, 17), torch.tensor([0.3, 0.7])
    scale = torch.randn(2, 3)
    found = windowed(pointwise, (4, 8), circular=circular, batch=5)(x, t, scale=scale)
    torch.testing.assert_close(found, pointwise(x, t, scale))


def test_on_a_circle_a_turned_state_has_a_turned_estimate():
    """Where windows begin everywhere; along a line the ends are special."""

    def mean(x_t, t):
        return x_t.mean((-2, -1), keepdim=True).expand_as(x_t)

    x, t = torch.randn(1, 1, 8, 8), torch.tensor([0.5])
    around = windowed(mean, (4, 4), overlap=0.75, circular=True)
    torch.testing.assert_close(around(x.roll(3, -1), t), around(x, t).roll(3, -1))
    line = windowed(mean, (4, 4), overlap=0.75)
    assert (line(x.roll(3, -1), t) - line(x, t).roll(3, -1)).abs().max() > 1e-3


def test_places_cover_the_axis_and_overlap():
    for size in range(6, 40):
        for circular in (False, True):
            found = places(size, 6, 0.5, circular)
            covered = {(p + i) % size for p in found for i in range(6)}
            assert covered == set(range(size))
            assert all(b - a <= 3 for a, b in pairwise(found))
            if not circular:
                assert max(found) + 6 == size


def test_a_large_state_is_sampled():
    schedule = schedules.cosine()
    plan = solvers.plan("ddim", schedule, steps=3)
    denoiser = windowed(pointwise, (4, 4))
    assert sample(denoiser, plan, noise=Noise(0, 2), shape=(3, 9, 5)).shape == (2, 3, 9, 5)
    with pytest.raises(SuffuseError, match="fit in the state"):
        sample(denoiser, plan, noise=Noise(0, 2), shape=(3, 9, 3))


def test_conditions_of_the_states_size_are_cut_with_it():
    """A denoiser that answers with its condition: so does that of the large state."""
    shown = torch.randn(2, 1, 7, 9)
    estimate = windowed(lambda x, t, shown, label: shown * label[:, None, None, None], (4, 4))
    label = torch.tensor([1.0, 2.0])
    found = estimate(torch.zeros(2, 1, 7, 9), torch.ones(2), shown=shown, label=label)
    torch.testing.assert_close(found, shown * label[:, None, None, None])
