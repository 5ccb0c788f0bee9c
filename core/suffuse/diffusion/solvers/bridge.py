"""The bridge's own rows: x_s = A_0 x_t + A_1 y + B x_0 + C z (see `suffuse.diffusion.bridge`)."""

from __future__ import annotations

import math

from suffuse.diffusion import bridge as bridges
from suffuse.diffusion.schedules import Schedule
from suffuse.diffusion.solvers.table import (
    BEHIND,
    Column,
    D,
    Level,
    Terms,
    X,
    combine,
    single,
    solver,
)
from suffuse.errors import SuffuseError, unknown


@solver(1, law="bridge", stochastic=True)
def bridge(schedule: Schedule, *, eta: float = 1.0, start: str = "noise") -> Column:
    """The step that keeps the bridge's marginals q(x_t | x_0, y), with as much noise as eta says.

    The row puts the clean estimate and y into the state at s, and keeps of x_t's noise what the
    fresh noise, with the variance η² σ_s² (1 − e^{2(λ_t − λ_s)}), leaves to be kept. At η = 1 that
    is the posterior q(x_s | x_t, x_0), in which y does not appear, the same as `ddpm` of the
    reference process; at η = 0 the probability flow.

    Args:
        eta: from 0 ("ODE") to 1 ("SDE").
        start: the first step from y itself, which holds no noise to be kept: "noise" draws it, so
            that the marginals are right; "mean" adds none, so that at eta = 0 all is a function of
            y, as published.

    Sources: Chen et al. (2023), arXiv 2312.03491, section 3; Jukić et al. (2024), arXiv 2407.16074.
    """
    if not 0 <= eta <= 1:
        raise SuffuseError(f"eta lies between 0 and 1, and {eta} does not")
    if start not in ("noise", "mean"):
        raise unknown("start", start, ["noise", "mean"])

    def step(i: int, t: Level, s: Level) -> tuple[Terms, float]:
        before, after = (bridges.weights(schedule, level.t) for level in (t, s))
        g, rest = math.exp(2 * (t.lam - s.lam)), -math.expm1(2 * (t.lam - s.lam))
        if before.noise == 0:
            keep, fresh = 0.0, float(after.noise) * (start == "noise")
        else:
            free = float(before.x) / t.alpha  # 1 − f
            keep = s.alpha / t.alpha * math.sqrt(g * ((1 - eta**2) * rest / free + g))
            fresh = eta * s.sigma * math.sqrt(rest)
        x, y = float(after.x - keep * before.x), float(after.y - keep * before.y)
        return combine((keep, X(i)), (y, BEHIND), (x, D(i))), fresh

    return single(step)
