r"""Methods that try ahead: several calls within a step.

In a variable v with a scale k, x̂ = x/k, the probability flow is dx̂/dv = (x̂ − d)/v, for

    "ratio"   v = σ/α          k = α          (Karras)
    "flow"    v = σ/(α + σ)    k = α + σ      (rectified flow, finite also in pure noise)

so that any Runge-Kutta tableau applies. DPM-Solver's methods are exponential instead: they work on
λ and integrate e^{∓λ} exactly. A step that begins or ends where a method's variable has no
derivative is taken by the exact step for a constant estimate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Literal

from suffuse.diffusion.schedules import Schedule
from suffuse.diffusion.solvers.multistep import BASHFORTH, noise_estimate
from suffuse.diffusion.solvers.onestep import towards
from suffuse.diffusion.solvers.quadrature import usable
from suffuse.diffusion.solvers.table import (
    Column,
    D,
    Entry,
    Level,
    Terms,
    X,
    combine,
    several,
    solver,
)
from suffuse.errors import SuffuseError

Variable = Literal["ratio", "flow"]
Tableau = Sequence[Sequence[float]]
HEUN: Tableau = ((1.0,), (1 / 2, 1 / 2))
EULER: Tableau = ((1.0,),)
MIDPOINT: Tableau = ((1 / 2,), (0.0, 1.0))
RK4: Tableau = ((1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6))
"""Rows of Butcher's matrix, the last one the step's own weights; a row's sum is its place."""


def _place(level: Level, variable: Variable) -> tuple[float, float]:
    """v and k at a level."""
    if variable == "ratio":
        return level.ratio, level.alpha
    return level.sigma / (level.alpha + level.sigma), level.alpha + level.sigma


def _level(schedule: Schedule, v: float, variable: Variable) -> Level:
    lam = -math.log(v) if variable == "ratio" else math.log1p(-v) - math.log(v)
    return Level.at(schedule, float(schedule.t(lam)))


def _tried(
    schedule: Schedule, first: int, t: Level, s: Level, tableau: Tableau, variable: Variable
) -> list[Entry]:
    """One step by a tableau, as rows from `first` on."""
    (v, k), (v_end, _) = _place(t, variable), _place(s, variable)
    if v == math.inf or v_end == 0.0:
        return [Entry(t.t, s.t, towards(first, t, s))]
    stages, slopes, rows = [t], [], []
    for j, weights in enumerate(tableau):
        stage, row = stages[-1], first + j
        v_j, k_j = _place(stage, variable)
        slopes.append(combine((1 / (k_j * v_j), X(row)), (-1 / v_j, D(row))))
        ends = j == len(tableau) - 1
        place = v_end if sum(weights) == 1.0 else v + (v_end - v) * sum(weights)
        target = s if ends or place == v_end else _level(schedule, place, variable)
        k_next = _place(target, variable)[1]
        moves = (
            (k_next * (v_end - v) * w, slope) for w, slope in zip(weights, slopes, strict=True)
        )
        rows.append(Entry(stage.t, target.t, combine((k_next / k, X(first)), *moves)))
        stages.append(target)
    return rows


def _raise(
    schedule: Schedule, rows: list[Entry], s: Level, ratio: float, scale: float = 1.0
) -> Level:
    """The last row, which reaches s, goes on by noise to the level above whose σ/α is `ratio`.

    A schedule that ends lower is taken to its end.
    """
    up = Level.at(schedule, float(schedule.t(-math.log(ratio))))
    noise = scale * up.alpha * math.sqrt(max(up.ratio**2 - s.ratio**2, 0.0))
    rows[-1] = Entry(rows[-1].t, up.t, combine((up.alpha / s.alpha, rows[-1].terms)), noise)
    return up


def halved(calls: int) -> int:
    """Steps of two calls, the last of them of one."""
    return (calls + 1) // 2


@solver(2, stochastic=True, intervals=halved)
def heun(
    schedule: Schedule,
    *,
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float = math.inf,
    churn_noise: float = 1.003,
) -> Column:
    """Heun's method in σ/α, two calls a step (one for a step to clean data or from pure noise).

    Churn adds noise before the denoiser is asked, from σ̃ = σ/α to σ̃ (1 + γ) with
    γ = min(churn / steps, √2 − 1); it is folded into the row that reaches σ̃. The first state is
    drawn fresh and is not churned.

    Args:
        churn: the amount of noise over the whole way, S_churn; 0 is deterministic.
        churn_min, churn_max: the values of σ/α between which noise is added.
        churn_noise: the factor on the added noise, S_noise.

    Source: Karras et al. (2022), arXiv 2206.00364, algorithm 2.
    """

    def column(levels: Sequence[Level]) -> list[Entry]:
        rows: list[Entry] = []
        gamma = min(churn / (len(levels) - 1), math.sqrt(2) - 1)
        t = levels[0]
        for s, following in zip(levels[1:], [*levels[2:], None], strict=True):
            rows += _tried(schedule, len(rows), t, s, HEUN, "ratio")
            t = s
            if following and gamma and churn_min <= s.ratio <= churn_max:
                t = _raise(schedule, rows, s, s.ratio * (1 + gamma), churn_noise)
        return rows

    return column


@solver(2, stochastic=True, intervals=halved)
def restart(schedule: Schedule, *, low: float = 0.05, high: float = 0.3, times: int = 1) -> Column:
    """Heun's method that goes back: at σ/α = `low` noise is added up to `high`, `times` times.

    Each return takes the part of the grid between the two again.

    Args:
        low, high: values of σ/α, 0 < low < high; the nearest levels of the grid are taken.
        times: how often.

    Source: Xu et al. (2023), arXiv 2306.14878, algorithm 1.
    """
    if not 0 < low < high or times < 0:
        raise SuffuseError(
            f"restart needs 0 < low < high and times of 0 or more; given {low}, {high}, {times}"
        )

    def column(levels: Sequence[Level]) -> list[Entry]:
        def nearest(ratio: float) -> int:
            inner = [i for i, at in enumerate(levels) if 0 < at.ratio < math.inf]
            return min(inner, key=lambda i: abs(math.log(levels[i].ratio / ratio)), default=0)

        top, bottom = nearest(high), nearest(low)
        rows: list[Entry] = []

        def walk(part: Sequence[Level]) -> None:
            for t, s in pairwise(part):
                rows.extend(_tried(schedule, len(rows), t, s, HEUN, "ratio"))

        walk(levels[: bottom + 1])
        for _ in range(times if top < bottom else 0):
            _raise(schedule, rows, levels[bottom], levels[top].ratio)
            walk(levels[top : bottom + 1])
        walk(levels[bottom:])
        return rows

    return column


def _by_tableau(schedule: Schedule, tableau: Tableau) -> Column:
    return several(lambda first, t, s: _tried(schedule, first, t, s, tableau, "flow"))


@solver(1)
def flow_euler(schedule: Schedule) -> Column:
    """Euler's method on the velocity of the straight path; in the flow gauge it is DDIM.

    Source: Liu, Gong, Liu (2022), arXiv 2209.03003.
    """
    return _by_tableau(schedule, EULER)


@solver(2, intervals=halved)
def flow_midpoint(schedule: Schedule) -> Column:
    """The midpoint method on the velocity of the straight path, two calls a step."""
    return _by_tableau(schedule, MIDPOINT)


@solver(4, intervals=lambda calls: max((calls + 3) // 4, 1))
def flow_rk4(schedule: Schedule) -> Column:
    """The classical Runge-Kutta method on the velocity of the straight path, four calls a step."""
    return _by_tableau(schedule, RK4)


Stage = tuple[float, int, Callable[[float], float]]
"""How far it goes in λ, the estimate beside the first one, and the weight of their difference.

The weight is a function of h, the way in λ from the step's beginning.
"""


def _exponential(schedule: Schedule, stages: Sequence[Stage], of: Literal["x0", "eps"]) -> Column:
    """Steps whose stages j begin at t, with the first estimate held and one difference added,

    x = (α/α_t) x_t − σ [(e^h − 1) ε_0 + w(h) (ε_k − ε_0)], on the noise, or
    x = (σ/σ_t) x_t + α [(1 − e^{−h}) d_0 + w(h) (d_k − d_0)], on the clean estimate.
    """

    def step(first: int, t: Level, s: Level) -> list[Entry]:
        if not usable([t.lam, s.lam]):
            return [Entry(t.t, s.t, towards(first, t, s))]
        rows: list[Entry] = []
        known: list[Terms] = []
        asked = t
        for j, (part, k, weight) in enumerate(stages):
            known.append(D(first + j) if of == "x0" else noise_estimate(first + j, asked))
            lam = t.lam + part * (s.lam - t.lam)
            to = s if part == 1 else Level.at(schedule, float(schedule.t(lam)))
            h = to.lam - t.lam
            keep, scale, whole = to.alpha / t.alpha, -to.sigma, math.expm1(h)
            if of == "x0":
                keep, scale, whole = to.sigma / t.sigma, to.alpha, -math.expm1(-h)
            held, added = (scale * (whole - weight(h)), known[0]), (scale * weight(h), known[k])
            rows.append(Entry(asked.t, to.t, combine((keep, X(first)), held, added)))
            asked = to
        return rows

    return several(step)


def _bend(h: float) -> float:
    """(e^h − 1)/h − 1, what a slope in λ adds."""
    return math.expm1(h) / h - 1


HALF: Stage = (1 / 2, 0, lambda h: 0.0)
DPM_3S: tuple[Stage, ...] = (
    (1 / 3, 0, lambda h: 0.0),
    (2 / 3, 1, lambda h: 2 * _bend(h)),
    (1.0, 2, lambda h: 3 / 2 * _bend(h)),
)


@solver(2, intervals=halved)
def dpm_2s(schedule: Schedule) -> Column:
    """DPM-Solver-2: second order on the noise, two calls a step, the inner level half way in λ.

    Source: Lu et al. (2022), arXiv 2206.00927, algorithm 4 with r_1 = 1/2.
    """
    return _exponential(schedule, (HALF, (1.0, 1, math.expm1)), "eps")


@solver(3, intervals=lambda calls: (calls + 2) // 3)
def dpm_3s(schedule: Schedule) -> Column:
    """DPM-Solver-3: third order on the noise, three calls a step.

    Source: Lu et al. (2022), arXiv 2206.00927, algorithm 5 with r_1 = 1/3 and r_2 = 2/3.
    """
    return _exponential(schedule, DPM_3S, "eps")


@solver(2, intervals=halved)
def dpmpp_2s(schedule: Schedule) -> Column:
    """DPM-Solver++ (2S): second order on the clean estimate, two calls a step.

    Source: Lu et al. (2022), arXiv 2211.01095, algorithm 1 with r_1 = 1/2.
    """
    return _exponential(schedule, (HALF, (1.0, 1, lambda h: -math.expm1(-h))), "x0")


@solver(4, intervals=lambda calls: max(calls - 9, -(-calls // 4)))
def pndm(schedule: Schedule) -> Column:
    """PNDM: three steps of a pseudo Runge-Kutta method, four calls each, then ε by Adams weights.

    The weights are those for equal steps in t; of fourth order where the steps in σ/α are equal.

    Source: Liu et al. (2022), arXiv 2202.09778, algorithm 2.
    """

    def column(levels: Sequence[Level]) -> list[Entry]:
        noises: list[Terms] = []  # ε at the grid's levels, the newest first

        def step(first: int, t: Level, s: Level) -> list[Entry]:
            if not usable([t.lam, s.lam]):
                return [Entry(t.t, s.t, towards(first, t, s))]
            noises[:] = [noise_estimate(first, t), *noises[:3]]
            if len(noises) == 4:
                return [_transfer(first, t, s, t, zip(BASHFORTH[4], noises, strict=True))]
            middle = Level.at(schedule, (t.t + s.t) / 2)
            e = [noise_estimate(first + j, at) for j, at in enumerate((t, middle, middle, s))]
            return [
                _transfer(first, t, middle, t, [(1.0, e[0])]),
                _transfer(first, t, middle, middle, [(1.0, e[1])]),
                _transfer(first, t, s, middle, [(1.0, e[2])]),
                _transfer(first, t, s, s, zip((1 / 6, 1 / 3, 1 / 3, 1 / 6), e, strict=True)),
            ]

        return several(step)(levels)

    return column


def _transfer(
    first: int, t: Level, s: Level, asked: Level, noises: Iterable[tuple[float, Terms]]
) -> Entry:
    """x̃_s = x̃_t + (σ̃_s − σ̃_t) Σ w ε, from the state of row `first`."""
    moves = ((s.alpha * (s.ratio - t.ratio) * w, e) for w, e in noises)
    return Entry(asked.t, s.t, combine((s.alpha / t.alpha, X(first)), *moves))
