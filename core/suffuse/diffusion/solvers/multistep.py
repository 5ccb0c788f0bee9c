r"""Methods that remember: one call a step, and a polynomial through the newest estimates.

**On the clean estimate.** With noise of strength τ (0 the probability flow, 1 the reverse
stochastic equation) and κ = 1 + τ², the exact solution is

    x_s = (σ_s/σ_t) e^{−τ² h} x_t + α_s ∫ κ e^{κ(λ − λ_s)} d(λ) dλ + σ_s sqrt(1 − e^{−2τ² h}) z,

h = λ_s − λ_t. A predictor runs a polynomial through d at the levels passed. A corrector runs it
through the new estimate as well and redoes the last step; as the new state is x_pred plus a
combination of estimates, correcting and predicting on are one row.

**On the noise.** With x̃ = x/α and σ̃ = σ/α the flow is dx̃ = ε dσ̃, where ε = (x − α d)/σ; the
polynomial runs through ε, in σ̃ (LMS), in t (DEIS), or with the weights for equal steps (iPNDM).

A node at λ = ±∞ never enters a polynomial.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch

from suffuse.diffusion.schedules import Schedule
from suffuse.diffusion.solvers.onestep import added, towards
from suffuse.diffusion.solvers.quadrature import exponential_weights, quadrature_weights, usable
from suffuse.diffusion.solvers.table import (
    Array,
    Column,
    D,
    Entry,
    Level,
    Terms,
    X,
    combine,
    solver,
)
from suffuse.errors import SuffuseError, unknown

Weigh = Callable[[Level, Level, list[Level]], Iterable[float]]
"""(t, s, the nodes, the newest first) -> the weight of each node's estimate, without α_s."""

Place = Callable[[Level], float]
"""The variable in which the polynomials run."""


def checked_order(name: str, order: int, highest: int) -> None:
    """Refuse orders that are not from 1 to the highest."""
    if not 1 <= order <= highest:
        raise SuffuseError(f"{name} has the orders 1 to {highest}, and not {order}")


def _strength(tau: float) -> float:
    if not 0 <= tau < math.inf:
        raise SuffuseError(f"tau, the strength of the noise, is 0 or above, and not {tau}")
    return tau


def _through(
    levels: Sequence[Level], i: int, nodes: list[int], weigh: Weigh, place: Place
) -> Terms | None:
    """What the step from level i takes of the estimates of the rows `nodes`, the newest first.

    A polynomial runs through as many of them as it can; None where that is one.
    """
    t, s = levels[i], levels[i + 1]
    while not usable([place(levels[r]) for r in nodes]):
        nodes = nodes[:-1]
    if len(nodes) < 2 or not usable([place(t), place(s)]):
        return None
    weights = weigh(t, s, [levels[r] for r in nodes])
    return combine(*((s.alpha * k, D(r)) for k, r in zip(weights, nodes, strict=True)))


def _newest(i: int, order: int) -> list[int]:
    return list(range(i, max(i - order, -1), -1))


def _exact(tau: float) -> Weigh:
    return lambda t, s, nodes: exponential_weights([n.lam for n in nodes], t.lam, s.lam, 1 + tau**2)


def predict_and_correct(
    predictor: int,
    corrector: int = 0,
    *,
    tau: float = 0.0,
    predict: Weigh | None = None,
    correct: Weigh | None = None,
    keep: Callable[[Level, Level], tuple[float, float]] | None = None,
    place: Place = lambda level: level.lam,
    taper: bool = False,
) -> Column:
    """Predictor and corrector on the clean estimate.

    Orders count the estimates of levels passed: a corrector has the new one besides.

    Args:
        predict, correct: the weights; exact where None.
        keep: (t, s) -> what is kept of x, and the noise; by tau where None.
        place: of nodes; those where it is not finite are left out.
        taper: lower the predictor's order over the last steps.
    """
    predict, correct = predict or _exact(tau), correct or _exact(tau)

    def by_tau(t: Level, s: Level) -> tuple[float, float]:
        fresh = added(t, s, tau**2)
        return math.sqrt(1 - fresh) * s.sigma / t.sigma, s.sigma * math.sqrt(fresh)

    def column(levels: Sequence[Level]) -> list[Entry]:
        rows: list[Entry] = []
        last: Terms = {}  # what the last row's predictor took of the estimates
        for i, (t, s) in enumerate(pairwise(levels)):
            state = X(i)
            if corrector and last:
                known = [i, *_newest(i - 1, corrector)]
                better = _through(levels, i - 1, known, correct, place)
                state = combine((1.0, state), (-1.0, last), (1.0, better or last))
            kept, noise = (keep or by_tau)(t, s)
            nodes = _newest(i, min(predictor, len(levels) - 1 - i) if taper else predictor)
            last = combine((s.alpha - t.alpha * kept, D(i)))
            last = _through(levels, i, nodes, predict, place) or last
            rows.append(Entry(t.t, s.t, combine((kept, state), (1.0, last)), noise))
        return rows

    return column


@solver(3, exponential=True, stochastic=True)
def multistep(schedule: Schedule, *, order: int = 3, tau: float = 0.0) -> Column:
    """Exponential Adams-Bashforth in λ: a polynomial through the newest estimates, exactly.

    At order 1 it is DDIM with η between the flow (τ = 0) and the posterior (τ = 1).

    Args:
        order: how many estimates the polynomial runs through, 1 to 4.
        tau: the strength of the noise, 0 or above.

    Sources: Hochbruck, Ostermann, "Exponential integrators", Acta Numerica 19 (2010), section 2.5;
    Zhang, Chen (2023), arXiv 2204.13902; with noise: Xue et al. (2023), arXiv 2309.05019, eq. 14.
    """
    checked_order("multistep", order, 4)
    return predict_and_correct(order, tau=_strength(tau))


def _half(rate: float) -> Weigh:
    """DPM-Solver++'s second order: the whole step times (1 + 1/(2r)) d_0 − 1/(2r) d_1."""

    def weigh(t: Level, s: Level, nodes: list[Level]) -> Iterable[float]:
        h = s.lam - t.lam
        whole, half = -math.expm1(-rate * h), h / (t.lam - nodes[1].lam) / 2
        return whole * (1 + half), -whole * half

    return weigh


@solver(2)
def dpmpp_2m(schedule: Schedule) -> Column:
    """DPM-Solver++ (2M) as published: x_s = (σ_s/σ_t) x_t − α_s (e^{−h} − 1) D.

    D = (1 + 1/(2r)) d_0 − 1/(2r) d_1 with r the last step in λ over the present one, h. Of second
    order; its weights are not those of the exact integral (`multistep` has them).

    Source: Lu et al., "DPM-Solver++" (2022), arXiv 2211.01095, algorithm 2.
    """
    return predict_and_correct(2, predict=_half(1.0))


@solver(1, stochastic=True)
def dpmpp_2m_sde(schedule: Schedule, *, tau: float = 1.0) -> Column:
    """DPM-Solver++ (2M) for the stochastic equation, in its midpoint form.

    Args:
        tau: the strength of the noise; at 0 it is `dpmpp_2m`.

    Source: Lu et al. (2022), arXiv 2211.01095, appendix.
    """
    return predict_and_correct(2, tau=_strength(tau), predict=_half(1 + tau**2))


@solver(3, exponential=True)
def dpmpp_3m(schedule: Schedule) -> Column:
    """DPM-Solver++ of third order, with the divided differences' factors right: `multistep`."""
    return predict_and_correct(3)


@solver(1, exponential=True, stochastic=True)
def dpmpp_3m_sde(schedule: Schedule, *, tau: float = 1.0) -> Column:
    """DPM-Solver++ of third order for the stochastic equation.

    Args:
        tau: the strength of the noise; at 0 it is `dpmpp_3m`.
    """
    return predict_and_correct(3, tau=_strength(tau))


@solver(4)
def unipc(schedule: Schedule, *, order: int = 3, variant: Literal["bh1", "bh2"] = "bh2") -> Column:
    """UniPC: predictor and corrector of one order, the corrector at no further call.

    Where its small systems are solved, they give the exact integrals of the interpolation
    polynomial, whatever B(h); only the two places that the paper does not solve, a predictor of
    order 2 and a corrector of order 1, take half of B(h).

    Args:
        order: 1 to 4; it falls towards the end, as published.
        variant: B(h) = h ("bh1") or e^h − 1 ("bh2").

    Source: Zhao et al. (2023), arXiv 2302.04867, algorithms 1 and 2.
    """
    checked_order("unipc", order, 4)
    if variant not in ("bh1", "bh2"):
        raise unknown("variant", variant, ["bh1", "bh2"])

    def half(correct: bool) -> Weigh:
        def weigh(t: Level, s: Level, nodes: list[Level]) -> Iterable[float]:
            h, exact = s.lam - t.lam, _exact(0.0)
            if len(nodes) != 2:
                return exact(t, s, nodes)
            bh = (h if variant == "bh1" else -math.expm1(-h)) / 2
            slope = bh if correct else -bh * h / (t.lam - nodes[1].lam)
            whole = -math.expm1(-h)
            return (slope, whole - slope) if correct else (whole - slope, slope)

        return weigh

    return predict_and_correct(order, order, predict=half(False), correct=half(True), taper=True)


@solver(3, exponential=True, stochastic=True)
def sa(schedule: Schedule, *, predictor: int = 3, corrector: int = 3, tau: float = 1.0) -> Column:
    """SA-Solver: stochastic Adams, predictor and corrector with the same noise.

    Args:
        predictor: its order, 1 to 4.
        corrector: how many estimates besides the new one it takes, 1 to 4; 0 is no corrector.
        tau: the strength of the noise, 0 or above.

    Source: Xue et al. (2023), arXiv 2309.05019, algorithm 1.
    """
    checked_order("the predictor", predictor, 4)
    checked_order("the corrector", corrector or 1, 4)
    return predict_and_correct(predictor, corrector, tau=_strength(tau))


@solver(1, stochastic=True)
def er_sde(schedule: Schedule, *, order: int = 3) -> Column:
    """ER-SDE: noise that fades with the level, by the scale φ(σ̃) = σ̃ (e^{σ̃^0.3} + 10).

    x̃_s = (φ_s/φ_t) x̃_t + φ_s ∫ d d(1/φ) + sqrt(σ̃_s² − σ̃_t² (φ_s/φ_t)²) z; the estimate is a
    polynomial in σ̃.

    Args:
        order: how many estimates the polynomial runs through, 1 to 3.

    Source: Cui et al. (2023), arXiv 2309.06169, eq. 13 and "ER-SDE-5" of table 1.
    """
    checked_order("er-sde", order, 3)

    def log_phi(lam: Array) -> Array:
        ratio = np.exp(-lam)
        return -lam + np.logaddexp(np.minimum(ratio**0.3, 700.0), math.log(10.0))

    def fall(t: Level, s: Level) -> float:
        """φ_s / φ_t."""
        return math.exp(float(log_phi(np.array(s.lam)) - log_phi(np.array(t.lam))))

    def keep(t: Level, s: Level) -> tuple[float, float]:
        if not usable([t.lam, s.lam]):  # φ falls to nothing
            return 0.0, s.sigma
        kept = fall(t, s)
        noise = s.alpha * math.sqrt(max(s.ratio**2 - (t.ratio * kept) ** 2, 0.0))
        return kept * s.alpha / t.alpha, noise

    def predict(t: Level, s: Level, nodes: list[Level]) -> Iterable[float]:
        def density(lam: Array) -> Array:
            """φ_s d(1/φ)/dλ = e^{log φ_s − log φ} · (−d log φ / dλ)."""
            grown = np.exp(-lam) ** 0.3
            soft = 1 / (1 + 10.0 * np.exp(-np.minimum(grown, 700.0)))
            return np.exp(log_phi(np.array(s.lam)) - log_phi(lam)) * (1 + 0.3 * grown * soft)

        w = quadrature_weights([n.ratio for n in nodes], t.lam, s.lam, density, _ratio)
        w *= (1 - fall(t, s)) / w.sum()  # a constant estimate is taken exactly
        return w

    return predict_and_correct(order, predict=predict, keep=keep)


def _ratio(lam: Array) -> Array:
    return np.exp(-lam)


def noise_estimate(row: int, level: Level) -> Terms:
    """ε = (x − α d)/σ at a row."""
    return combine((1 / level.sigma, X(row)), (-level.alpha / level.sigma, D(row)))


def _on_noise(name: str, order: int, weigh: Weigh) -> Column:
    """x̃_s = x̃_t + Σ_j w_j ε_j."""
    checked_order(name, order, 4)

    def column(levels: Sequence[Level]) -> list[Entry]:
        rows = []
        for i, (t, s) in enumerate(pairwise(levels)):
            terms = towards(i, t, s)
            if usable([t.lam, s.lam]):
                nodes = _newest(i, order)
                while not usable([levels[r].lam for r in nodes]):
                    nodes.pop()
                w = weigh(t, s, [levels[r] for r in nodes])
                noises = (noise_estimate(r, levels[r]) for r in nodes)
                moves = ((s.alpha * k, e) for k, e in zip(w, noises, strict=True))
                terms = combine((s.alpha / t.alpha, X(i)), *moves)
            rows.append(Entry(t.t, s.t, terms))
        return rows

    return column


def _against_ratio(place: Place, variable: Callable[[Array], Array]) -> Weigh:
    """Integrals against dσ̃ of polynomials in a variable, told of a level and of λ."""

    def weigh(t: Level, s: Level, nodes: list[Level]) -> Iterable[float]:
        places = [place(n) for n in nodes]
        return quadrature_weights(places, t.lam, s.lam, lambda lam: -_ratio(lam), variable)

    return weigh


@solver(4)
def lms(schedule: Schedule, *, order: int = 4) -> Column:
    """Linear multistep: the polynomial through ε runs in σ̃ = σ/α.

    Args:
        order: how many estimates it runs through, 1 to 4.

    Source: as in K-LMS; Adams and Bashforth's method with steps of any length.
    """
    return _on_noise("lms", order, _against_ratio(lambda level: level.ratio, _ratio))


@solver(3)
def deis(schedule: Schedule, *, order: int = 3) -> Column:
    """DEIS (tAB): the polynomial through ε runs in t, integrated against dσ̃.

    Args:
        order: how many estimates it runs through, 1 to 4.

    Source: Zhang, Chen (2023), arXiv 2204.13902, eq. 15.
    """

    def time(lam: Array) -> Array:
        return np.asarray(schedule.t(torch.from_numpy(lam)).numpy(), np.float64)

    return _on_noise("deis", order, _against_ratio(lambda level: level.t, time))


BASHFORTH = {1: (1,), 2: (3 / 2, -1 / 2), 3: (23 / 12, -16 / 12, 5 / 12)}
BASHFORTH[4] = (55 / 24, -59 / 24, 37 / 24, -9 / 24)
"""Adams and Bashforth's weights for equal steps, the newest first."""


@solver(4)
def ipndm(schedule: Schedule, *, order: int = 4) -> Column:
    """iPNDM: Adams and Bashforth's weights for equal steps on ε, whatever the grid.

    Of its order where the steps in σ/α are equal, else of first order.

    Args:
        order: how many estimates are taken, 1 to 4.

    Source: Zhang, Chen (2023), arXiv 2204.13902, appendix; after Liu et al. (2022),
    arXiv 2202.09778.
    """
    return _on_noise(
        "ipndm",
        order,
        lambda t, s, nodes: [(s.ratio - t.ratio) * w for w in BASHFORTH[len(nodes)]],
    )
