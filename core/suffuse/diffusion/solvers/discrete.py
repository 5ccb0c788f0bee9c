r"""Samplers of categorical states, as rows (A, B, C) of the laws "mixture" and "rates".

What a row means is told in `suffuse.diffusion.categorical`: a token that is data stays so with the
probability A; a token that is noise takes the clean estimate's value with B and is drawn afresh
with C. With a = sigmoid(λ), b = 1 − a and r = e^{λ_t − λ_s} for a step from t to s:

                A               B                          C
    ancestral   1               a_s (1 − r)                b_s (1 − r)
    reveal      1               a_s (1 − r)                0
    remask      1 − η           a_s (1 − r) + η a_t / b_t  1 − B − min(r, 1 − B)
    renoise     a_s             a_s                        b_s

These keep the share of clean tokens right, A a_t + B b_t = a_s, so that a single token is sampled
exactly in any number of steps; with tau-leaping, the law "rates", up to h log(1/h) for steps of
length h. Several tokens are drawn independently in each step, at an error in total variation that
is of first order in h; of order 1/2 for renoising, which redraws all tokens every time.

All are functions of λ alone. Levels may be at λ = ±∞; a step of no length leaves the tokens alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from suffuse.diffusion.schedules import Schedule
from suffuse.diffusion.solvers.table import Column, D, Level, Terms, X, combine, single, solver
from suffuse.errors import SuffuseError

Weights = tuple[float, float, float]


def _clean(level: Level) -> float:
    """a = sigmoid(λ)."""
    return 1 / (1 + math.exp(-level.lam)) if level.lam > -700 else 0.0


def _noise(level: Level) -> float:
    """b = sigmoid(−λ)."""
    return 1 / (1 + math.exp(level.lam)) if level.lam < 700 else 0.0


def _left(t: Level, s: Level) -> float:
    """r = e^{λ_t − λ_s}: how likely the ancestral step leaves a token of noise alone."""
    return math.exp(t.lam - s.lam)


def _weighed(weights: Callable[[Level, Level], Weights]) -> Column:
    """A row of weights (A, B, C) for every step."""

    def step(i: int, t: Level, s: Level) -> tuple[Terms, float]:
        a, b, c = weights(t, s)
        return combine((a, X(i)), (b, D(i))), c

    return single(step)


@solver(1, law="mixture", stochastic=True)
def ancestral(schedule: Schedule) -> Column:
    """The posterior q(x_s | x_t, x_0) averaged over the clean estimate.

    Sources: Austin et al. (D3PM, 2021), arXiv 2107.03006, eq. 4; Vignac et al. (DiGress, 2023),
    arXiv 2209.14734; for the absorbing kernel Sahoo et al. (MDLM, 2024), arXiv 2406.07524.
    """

    def weights(t: Level, s: Level) -> Weights:
        r = _left(t, s)
        return 1.0, _clean(s) * (1 - r), _noise(s) * (1 - r)

    return _weighed(weights)


@solver(1, law="mixture", stochastic=True)
def reveal(schedule: Schedule) -> Column:
    """Noise stays what it is until it is replaced by the clean estimate: no token is drawn afresh.

    The least random of the samplers with the right share of clean tokens, as DDIM is for Gaussian
    noise. Under the absorbing kernel it is `ancestral`.

    Source: Song, Meng, Ermon (2021), arXiv 2010.02502, appendix A.
    """

    return _weighed(lambda t, s: (1.0, _clean(s) * (1 - _left(t, s)), 0.0))


@solver(1, law="mixture", stochastic=True)
def remask(
    schedule: Schedule,
    *,
    churn: float = 1.0,
    cap: float = 1.0,
    scale: float = 1.0,
    low: float = 0.0,
    high: float = 1.0,
) -> Column:
    """Tokens that are data are made noise again, with the probability η, and so can be corrected.

    η = scale · min(cap, 1 − (a_t / a_s)^churn, b_s / a_t), of which the last is the most that there
    can be. Churn is a rate, in units of the forward process, so that the order stays 1; with
    churn = inf, `cap` and `scale` are the two schedules of ReMDM. Under the absorbing kernel the
    token is masked; under the others, drawn from m.

    Args:
        churn: 0 is `ancestral`.
        cap: the most η in one step, in [0, 1].
        scale: in [0, 1].
        low, high: the times between which tokens are remasked.

    Source: Wang et al. (ReMDM, 2025), arXiv 2503.00307, section 3 and 4.
    """
    if not (churn >= 0 and 0 <= cap <= 1 and 0 <= scale <= 1):
        raise SuffuseError(
            "remasking takes a churn of 0 or more, and a cap and a scale in [0, 1]; given "
            f"{churn}, {cap} and {scale}"
        )

    def weights(t: Level, s: Level) -> Weights:
        r, a, eta = _left(t, s), _clean(t), 0.0
        if a > 0 and low <= t.t <= high:
            eta = scale * min(cap, 1 - (a / _clean(s)) ** churn, _noise(s) / a)
        take = _clean(s) * (1 - r) + (eta * a / _noise(t) if a > 0 else 0.0)
        return 1 - eta, take, max(0.0, 1 - take - min(r, 1 - take))

    return _weighed(weights)


@solver(1, law="rates", stochastic=True)
def tau_leaping(schedule: Schedule, *, eta: float = 0.0) -> Column:
    """Jumps at the reversed process's rates of the step's beginning, the first one taken.

    Noise jumps to the clean estimate at the rate β a / b and afresh at β, with β = −a′/a. Their
    time dependence is integrated, j = log(b_t / b_s) and f = log(a_s / a_t), and what the estimate
    adds is held. Where j or f is infinite, in the last step and the first, the row is that of
    `ancestral`; under the absorbing kernel and with eta = 0 all rows come to the same.

    Args:
        eta: how much of the forward process and of its reverse are added, a corrector that leaves
            the distribution alone: rates (1 + η) R_reverse + η R_forward.

    Sources: Campbell et al. (2022), arXiv 2205.14987, section 4.3; the stochasticity: Campbell et
    al. (2024), arXiv 2402.04997, and Qin et al. (DeFoG, 2025), arXiv 2410.04263.
    """
    if not eta >= 0:
        raise SuffuseError(f"the stochasticity of tau-leaping is 0 or more, and not {eta}")

    def weights(t: Level, s: Level) -> Weights:
        if math.isinf(t.lam) or math.isinf(s.lam):
            return 1.0, _clean(s), _noise(s)
        fresh = math.log(_clean(s) / _clean(t))
        jump = (1 + eta) * (s.lam - t.lam - fresh)
        fresh_noise = (1 + 2 * eta) * fresh
        moved = -math.expm1(-jump - fresh_noise)
        share = moved / (jump + fresh_noise)
        return math.exp(-eta * fresh), share * jump, share * fresh_noise

    return _weighed(weights)


@solver(1, law="renoise", stochastic=True)
def renoise(schedule: Schedule) -> Column:
    """Draw the clean estimate and corrupt it afresh to the next time: for every process.

    The plan is its times alone; the step is `Process.renoise`, which needs no more of a process
    than its corruption. For Gaussian states it is `lcm`.
    """
    return _weighed(lambda t, s: (0.0, 0.0, 0.0))
