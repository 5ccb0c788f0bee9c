r"""The default solver: exponential Adams in a variable in which estimates are near to polynomials.

Near noise the estimate is affine in e^λ; between the scales of the data it bends evenly with λ; and
near clean data it is affine in e^{−2λ}: around a datum m of deviation √v a path of the flow has
d = m + (x_0 − m) / sqrt(1 + e^{−2λ}/v). A variable that is all three in turn is

    y(λ) = −½ log(1 + p²/v),      p = 1 / (e^λ + 1/r),

finite at both ends, with y(∞) = 0. So a step may begin in pure noise or end in clean data at full
order: what is known near the end is carried on to λ = ∞, where other methods take the last estimate
as it is.

Which orders help depends on how long the steps are. The weights of order k are therefore mixed,

    w = w_1 + Σ_k c_k (w_k − w_{k−1}),      c_k = exp(−(span/ρ_k)^8),

with the span in λ from the oldest of k estimates to the end of the step: short steps take the
highest order, long ones the lower orders. What carries far beyond estimates that lie close together
(many steps on a grid that ends early) is taken only so far that Σ |w| stays within 12 times Σ w,
and errors of the network are not blown up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from suffuse.diffusion.schedules import Schedule
from suffuse.diffusion.solvers.multistep import Weigh, checked_order, predict_and_correct
from suffuse.diffusion.solvers.quadrature import exponential_quadrature
from suffuse.diffusion.solvers.table import Array, Column, Level, solver
from suffuse.errors import SuffuseError

__all__ = ["adams", "variable"]

DETAIL, LARGEST = 0.018, 30.0
"""v and r, for standardised data."""

PREDICTOR = (2.0, 1.25, 0.9)
CORRECTOR = (math.inf, 2.0)
"""ρ_2, ρ_3, ... over the solver's reach. Found as docs/decisions.md tells."""

MOST = 12.0
"""Σ |w| / Σ w at most; the default grid stays below it up to 400 calls."""


def variable(lam: Array) -> Array:
    """y at levels λ, of any shape; rising with λ, 0 in clean data."""
    p = 1 / (np.exp(np.minimum(lam, 300.0)) + 1 / LARGEST)
    return np.asarray(-np.log1p(p**2 / DETAIL) / 2, np.float64)


def _mixed(fades: Sequence[float]) -> Weigh:
    """Orders 1 to 1 + len(fades), faded out where the span exceeds ρ_2, ρ_3, ..."""

    def weigh(t: Level, s: Level, nodes: list[Level]) -> Array:
        lams = np.maximum([node.lam for node in nodes], -5.0)  # pure noise counts as a long step
        # a step to clean data counts as long as the one before
        ahead = s.lam - lams[0] if s.lam < math.inf else lams[0] - lams[1]
        places = variable(np.array([node.lam for node in nodes]))

        def exact(order: int) -> Array:
            own = np.zeros(len(nodes))
            own[:order] = exponential_quadrature(places[:order], t.lam, s.lam, variable)
            return own

        total = lower = exact(1)
        most = MOST * total.sum()
        for order, (lam, fade) in enumerate(zip(lams[1:], fades, strict=False), 2):
            share = math.exp(-(((lams[0] - lam + ahead) / fade) ** 8))
            if share < 1e-3:
                break
            own = exact(order)
            room = (most - np.abs(total).sum()) / np.abs(own - lower).sum()
            total, lower = total + min(share, max(room, 0.0)) * (own - lower), own
        return total

    return weigh


@solver(3, grid="balanced")
def adams(schedule: Schedule, *, order: int = 4, reach: float = 1.25) -> Column:
    """The default: exponential Adams, predictor and corrector, whose order follows the steps.

    The corrector runs through the new estimate and the two before it.

    Args:
        order: how many estimates the predictor runs through at most, 1 to 4.
        reach: in λ, above 0: a second estimate counts where that and the whole step lie within
            about twice as much, a third within 1.25 and a fourth within 0.9 of it.
    """
    checked_order("adams", order, 4)
    if not reach > 0:
        raise SuffuseError(f"reach, a span of λ, is above 0, and not {reach}")
    predict, correct = (_mixed([k * reach for k in fades]) for fades in (PREDICTOR, CORRECTOR))
    return predict_and_correct(order, 2, predict=predict, correct=correct, place=_place)


def _place(level: Level) -> float:
    return float(variable(np.array(level.lam)))
