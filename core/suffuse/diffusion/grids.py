"""Where a sampler stops on its way: times t falling from `begin` to 0, as [n + 1] float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from suffuse.diffusion.schedules import Schedule
from suffuse.errors import SuffuseError, unknown

__all__ = [
    "GRIDS",
    "align_your_steps",
    "balanced",
    "karras",
    "leading",
    "linspace",
    "logsnr",
    "trailing",
    "uniform",
]

Array = NDArray[np.float64]


def uniform(schedule: Schedule, n: int, begin: float = 1.0) -> Array:
    """Equal steps of t."""
    return np.linspace(begin, 0.0, n + 1)


def _times(schedule: Schedule, lam: Array, begin: float) -> Array:
    """The times of rising λ, the first being `begin` itself, and 0 at the end."""
    t = schedule.t(torch.from_numpy(lam)).numpy()
    return np.concatenate([[begin], t[1:], [0.0]])


def logsnr(
    schedule: Schedule, n: int, begin: float = 1.0, lam_min: float = -5.0, lam_max: float = 5.0
) -> Array:
    """Equal steps of λ between λ(begin), at least lam_min, and lam_max; then one step to clean."""
    start = max(float(schedule.at(begin).lam), lam_min)
    return _times(schedule, np.linspace(start, max(lam_max, start), n), begin)


_LAM = np.linspace(-12.0, 12.0, 4801)
_DENSITY = np.exp(-0.055 * (_LAM + 0.35) ** 2) / (1 + np.exp(-(_LAM + 2.8) / 0.5))
_PASSED = np.concatenate([[0.0], np.cumsum(_DENSITY[1:] + _DENSITY[:-1])])
_PASSED /= _PASSED[-1]


def balanced(schedule: Schedule, n: int, begin: float = 1.0, shift: float = 1.0) -> Array:
    """The default: steps as dense as the estimate of standardised data changes, to a λ by n.

    The density of levels is e^{−0.055 (λ + 0.35)²} sigmoid((λ + 2.8)/0.5): thinner towards clean
    data, and none where nothing of the data shows. The last level before clean data is
    λ = 1.2 log n, since what that last step leaves out should fall as the rest does. Nothing but
    λ(begin) is asked of the schedule. Why: docs/decisions.md.

    Args:
        shift: the density of λ + log(shift) instead. Above 1 steps are nearer to noise, for states
            whose elements repeat each other, which show what they are through more of it.

    Raises:
        SuffuseError: for a shift that is not above 0.
    """
    if not shift > 0:
        raise SuffuseError(f"the shift of a grid is above 0, and {shift} is not")
    start = float(schedule.at(begin).lam)
    if start > 6:  # all but clean
        return _times(schedule, np.linspace(start, start + 1, n), begin)
    levels = _LAM - math.log(shift)
    passed = float(np.interp(start, levels, _PASSED))
    top = max(1.2 * math.log(n / (1 - passed)), start + 1, -1.0)
    places = np.linspace(passed, np.interp(top, levels, _PASSED), n)
    return _times(schedule, np.interp(places, _PASSED, levels), begin)


def karras(
    schedule: Schedule,
    n: int,
    begin: float = 1.0,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
) -> Array:
    """Karras's ramp of σ/α between its value at `begin`, at most sigma_max, and sigma_min.

    Source: Karras et al. (2022), arXiv 2206.00364, eq. 5.
    """
    top = min(float(torch.exp(-schedule.at(begin).lam)), sigma_max) ** (1 / rho)
    ramp = np.linspace(top, min(sigma_min ** (1 / rho), top), n) ** rho
    return _times(schedule, -np.log(ramp), begin)


def _indices(indices: Array, total: int) -> Array:
    """Times of indices of a discrete model of `total` steps, and 0 at the end."""
    return np.concatenate([(indices + 1) / total, [0.0]])


def trailing(schedule: Schedule, n: int, begin: float = 1.0, total: int = 1000) -> Array:
    """Every (total / n)-th index of a discrete model, counted from the last one.

    Source: Lin et al. (2023), arXiv 2305.08891, table 2.
    """
    last = round(begin * total)
    return _indices(np.round(last - last / n * np.arange(n)) - 1, total)


def leading(
    schedule: Schedule, n: int, begin: float = 1.0, total: int = 1000, offset: int = 1
) -> Array:
    """Every (total // n)-th index of a discrete model, counted from the first, plus `offset`.

    Where that would pass the last index, all are shifted by less.
    """
    last = round(begin * total)
    indices = (last // n) * np.arange(n)[::-1]
    return _indices(indices + min(offset, last - 1 - indices[0]), total)


def linspace(schedule: Schedule, n: int, begin: float = 1.0, total: int = 1000) -> Array:
    """Indices of a discrete model spread evenly from the last to the first, both included."""
    last = round(begin * total)
    indices = np.round(np.linspace(last - 1, 0, n)) if n > 1 else np.array([last - 1.0])
    return _indices(indices, total)


AYS = {
    "stable-diffusion": [999, 850, 736, 645, 545, 455, 343, 233, 124, 24],
    "sdxl": [999, 845, 730, 587, 443, 310, 193, 116, 53, 13],
}
"""Indices of 1,000 of the optimised ten-step grids."""

AYS_RATIOS = {"svd": [700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034]}
"""The same as σ/α, for Stable Video Diffusion, which has no indices."""


def align_your_steps(
    schedule: Schedule, n: int, begin: float = 1.0, table: str = "stable-diffusion"
) -> Array:
    """The grid optimised for ten steps of a known model, interpolated in λ to n steps.

    Args:
        table: "stable-diffusion", "sdxl" or "svd".

    Source: Sabour, Fidler, Kreis (2024), arXiv 2404.14507, the tables of its appendix.
    """
    if table in AYS:
        times = (np.array(AYS[table]) + 1) / 1000
    elif table in AYS_RATIOS:
        times = schedule.t(-torch.tensor(AYS_RATIOS[table], dtype=torch.float64).log()).numpy()
    else:
        raise unknown("AYS table", table, [*AYS, *AYS_RATIOS])
    times = np.unique(np.minimum(times, begin))[::-1].copy()
    lam = schedule.at(torch.from_numpy(times)).lam.numpy()
    finite = lam[np.isfinite(lam)]
    places = np.linspace(0, len(finite) - 1, n)
    return _times(schedule, np.interp(places, np.arange(len(finite)), finite), begin)


GRIDS: dict[str, Callable[..., Array]] = {
    "ays": align_your_steps,
    "ays-sdxl": partial(align_your_steps, table="sdxl"),
    "ays-svd": partial(align_your_steps, table="svd"),
    "balanced": balanced,
    "karras": karras,
    "leading": leading,
    "linspace": linspace,
    "logsnr": logsnr,
    "trailing": trailing,
    "uniform": uniform,
}
"""The grids by name: functions of a schedule, a number of steps and the time to begin at."""
