"""Methods of one call and one step, which remember nothing."""

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


def added(t: Level, s: Level, rate: float = 1.0) -> float:
    """1 − e^{2 rate (λ_t − λ_s)}; at rate 1 the part of σ_t² that the way from s to t added."""
    return 0.0 if t.lam == s.lam or rate == 0 else -math.expm1(2 * rate * (t.lam - s.lam))


def towards(row: int, t: Level, s: Level, shrink: float = 1.0) -> Terms:
    """The exact step for a constant estimate: σ_s/σ_t of x, the rest of the scale for d."""
    keep = shrink * (1.0 if t.lam == s.lam else s.sigma / t.sigma)
    return combine((keep, X(row)), (s.alpha - t.alpha * keep, D(row)))


@solver(1, exponential=True, stochastic=True)
def ddim(schedule: Schedule, *, eta: float = 0.0) -> Column:
    """Denoising diffusion implicit models.

    The noise has the variance η² σ_s² (1 − e^{2(λ_t − λ_s)}); at η = 0 the method is the exact step
    for a constant estimate.

    Args:
        eta: from 0 (deterministic) to 1 (the posterior's variance).

    Source: Song, Meng, Ermon (2021), arXiv 2010.02502, eq. 12 and 16.
    """
    return _ddim(eta)


def _ddim(eta: float) -> Column:
    if not 0 <= eta <= 1:
        raise SuffuseError(f"eta lies between 0 and 1, and {eta} does not")

    def step(i: int, t: Level, s: Level) -> tuple[Terms, float]:
        fresh = eta**2 * added(t, s)
        return towards(i, t, s, math.sqrt(1 - fresh)), s.sigma * math.sqrt(fresh)

    return single(step)


@solver(1, exponential=True)
def euler(schedule: Schedule) -> Column:
    """Euler's method in σ/α, which is DDIM without noise.

    Source: Karras et al. (2022), arXiv 2206.00364, algorithm 1.
    """
    return _ddim(0.0)


@solver(1, exponential=True, stochastic=True)
def euler_ancestral(schedule: Schedule, *, eta: float = 1.0) -> Column:
    """Euler's method in σ/α down to σ_down, then noise σ_up; DDIM under its other name.

    Args:
        eta: the part of the posterior's noise, 0 to 1.
    """
    return _ddim(eta)


@solver(1, stochastic=True)
def ddpm(schedule: Schedule, *, variance: str = "posterior") -> Column:
    """Ancestral sampling: the posterior q(x_s | x_t, x_0) at the clean estimate.

    Its mean is (α_ts σ_s² x_t + α_s σ_ts² x_0) / σ_t² with α_ts = α_t / α_s and
    σ_ts² = σ_t² − α_ts² σ_s².

    Args:
        variance: "posterior", σ_ts² σ_s² / σ_t², the lower bound; or "upper", σ_ts².

    Source: Ho, Jain, Abbeel (2020), arXiv 2006.11239, eq. 6 and 7.
    """
    if variance not in ("posterior", "upper"):
        raise unknown("variance", variance, ["posterior", "upper"])

    def step(i: int, t: Level, s: Level) -> tuple[Terms, float]:
        part = added(t, s)  # σ_ts² / σ_t²
        keep = (t.alpha / s.alpha) * (s.sigma / t.sigma) ** 2
        scale = s.sigma if variance == "posterior" else t.sigma * (s.sigma > 0)
        return combine((keep, X(i)), (s.alpha * part, D(i))), scale * math.sqrt(part)

    return single(step)


@solver(1, stochastic=True)
def lcm(schedule: Schedule) -> Column:
    """Consistency sampling: jump to the clean estimate, and noise it afresh to the next level.

    For models distilled to answer with the end of the flow; with others it is a poor method.

    Sources: Song et al. (2023), arXiv 2303.01469, algorithm 1; Luo et al. (2023),
    arXiv 2310.04378.
    """
    return single(lambda i, t, s: (combine((s.alpha, D(i))), s.sigma))


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
