"""From scores to decisions: conformal p-values, false-discovery control, thresholds, drift.

With u the unusualness of a row and h_1 … h_n that of normal rows that were not trained on,

    p = (1 + #{h_i >= u}) / (n + 1)

is a p-value for "the row is normal": where it is, it and the h_i are exchangeable, and P(p <= a) is
at most a for every a, whatever the score is (Vovk, Gammerman, Shafer (2005)). Benjamini and
Hochberg's procedure on these p-values keeps the false-discovery rate, although they share the h_i
(Bates et al., "Testing for outliers with conformal p-values" (2023), arXiv 2104.08279, theorem 2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from suffuse.errors import SuffuseError

__all__ = [
    "DecisionError",
    "Drift",
    "by_budget",
    "by_cost",
    "by_tail",
    "if_few",
    "is_number",
    "p_values",
    "select",
]

Floats = npt.NDArray[np.float64]


class DecisionError(SuffuseError, ValueError):
    """A setting of a decision that cannot be; also a ValueError."""


def is_number(value: Any) -> bool:
    """Whether a setting is a number, as Python or NumPy has it."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


class Drift:
    """An alarm for a stream that is no longer what the detector was fitted on.

    With n held-out scores, and t rows of the stream seen, of which c_r lay above all but r of the
    held-out ones, the next row's r is a draw from Pólya's urn while nothing has changed:

        P(r) = (1 + c_r) / (n + 1 + t),    p = Σ over r' <= r of P(r')

    So this p, which is the conformal p-value for t = 0, stays one given all that came before, and
    M = mean over e of Π e p^(e − 1) is at most a martingale that begins at 1: the chance that it
    ever reaches 1 / `alarms` is at most `alarms`, in a stream of any length. Many small p make it
    grow, few do not. (Conformal p-values themselves share the held-out scores, and over a long
    stream their chance deviations would add up to an alarm.)

    Args:
        held: how many held-out scores the p-values are ranks among, n.
        alarms: the chance of a false alarm over the whole stream.

    Attributes:
        log_value: the logarithm of the largest M so far.

    Source: Vovk, Nouretdinov, Gammerman, "Testing exchangeability on-line" (2003), ICML.

    >>> drift = Drift(200)
    >>> drift.update([0.3, 0.9, 0.5]), drift.update([0.02] * 9)
    (False, True)
    """

    def __init__(self, held: int, alarms: float = 0.01) -> None:
        if not (isinstance(held, int | np.integer) and held >= 1):
            raise DecisionError(f"held is a number of held-out scores, 1 or more; given {held!r}")
        if not (is_number(alarms) and 0 < alarms < 1):
            raise DecisionError(f"alarms is a part above 0 and below 1; given {alarms!r}")
        self.alarms = alarms
        self._powers = np.linspace(0.05, 0.95, 19)
        self._logs = np.zeros(len(self._powers))
        self._urn = np.ones(held + 1)
        self._balls = held + 1
        self.log_value = 0.0

    def update(self, p: Any) -> bool:
        """Whether the alarm has been reached after these further conformal p-values, [N]."""
        p = np.asarray(p, np.float64).ravel()
        if not ((p > 0) & (p <= 1)).all():
            raise DecisionError("p-values are above 0 and at most 1; some of those given are not")
        ranks = np.ceil(p * len(self._urn) - 1e-6).astype(int) - 1
        for r in np.maximum(ranks, 0):
            now = np.log(self._urn[: r + 1].sum() / self._balls)
            self._urn[r] += 1
            self._balls += 1
            self._logs += np.log(self._powers) + (self._powers - 1) * now
            value = float(np.logaddexp.reduce(self._logs) - np.log(len(self._logs)))
            self.log_value = max(self.log_value, value)
        return bool(self.log_value >= -np.log(self.alarms))


def by_budget(held: Any, alarms: float, per: float = 1.0) -> float:
    """The threshold above which `alarms` of `per` normal rows are false alarms, or fewer.

    With the budget b = alarms / per and n normal scores held out, it is the least of them that at
    most b (n + 1) − 1 of the others exceed. A further normal row is above it with the probability
    b at most, whatever its distribution (as for `p_values`).

    Args:
        held: unusualness of normal rows held out, [n].
        alarms: how many false alarms are allowed among
        per: so many normal rows; for instance 5 a day of 10,000 rows.

    Raises:
        DecisionError: where that many held-out rows cannot promise so few alarms.

    >>> by_budget(np.arange(100), 10, per=1000)
    99.0
    """
    held = np.sort(np.asarray(held, np.float64))
    if not (is_number(alarms) and is_number(per) and 0 < alarms < per):
        raise DecisionError(
            "a budget is a number of alarms above 0 and below the number of rows; given "
            f"{alarms!r} in {per!r} rows"
        )
    beyond = int(np.floor(alarms / per * (len(held) + 1) + 1e-9)) - 1
    if beyond < 0:
        raise DecisionError(
            f"{len(held)} normal rows held out cannot promise {alarms:g} false alarms in {per:g} "
            f"rows: that needs {int(np.ceil(per / alarms)) - 1}; allow more alarms or fit on more "
            "rows"
        )
    return float(held[len(held) - 1 - beyond])


def by_tail(held: Any, alarms: float, *, nats: bool) -> float:
    """The threshold above which the part `alarms` of normal data is, also of few held-out scores.

    By ranks (`by_budget`) where there are 1 / alarms − 1 of them or more. With fewer it is
    −log(alarms), if the scores are nats, whose tail was fitted; else the highest of them.

    >>> by_tail(np.arange(10), 0.01, nats=False), round(by_tail(np.arange(30), 0.01, nats=True), 2)
    (9.0, 4.61)
    """
    if alarms * (len(held) + 1) >= 1:
        return by_budget(held, alarms)
    return -float(np.log(alarms)) if nats else float(np.max(held))


def by_cost(
    held: Any, odd: Any, *, false_alarm: float, miss: float, share: float
) -> tuple[float, float]:
    """The threshold of least expected cost a row, and that cost.

    cost(c) = false_alarm (1 − share) P(normal > c) + miss · share · P(anomalous <= c)

    over the scores at hand as thresholds, and none at all; of equal ones the highest.

    Args:
        held: unusualness of normal rows held out, [n].
        odd: unusualness of known anomalies, [m].
        false_alarm, miss: what an alarm for nothing and an anomaly without one cost.
        share: the part of the rows that is anomalous where the threshold will be used.

    Returns:
        The threshold, above which a row is an alarm (−inf: all are), and the cost of a row.

    >>> by_cost([0, 1, 2, 3], [2.5, 9], false_alarm=1, miss=100, share=0.1)
    (2.0, 0.225)
    """
    held, odd = np.sort(np.asarray(held, np.float64)), np.sort(np.asarray(odd, np.float64))
    if not len(odd):
        raise DecisionError("a threshold by cost needs anomalies that are known; given none")
    numbers = all(map(is_number, (false_alarm, miss, share)))
    if not (numbers and 0 < false_alarm < np.inf and 0 < miss < np.inf and 0 < share < 1):
        raise DecisionError(
            "costs are numbers above 0 and the share of anomalies is above 0 and below 1; given "
            f"false_alarm={false_alarm!r}, miss={miss!r}, share={share!r}"
        )
    cuts = np.concatenate([[-np.inf], np.unique(np.concatenate([held, odd]))])
    alarms = 1 - np.searchsorted(held, cuts, "right") / len(held)
    missed = np.searchsorted(odd, cuts, "right") / len(odd)
    cost = false_alarm * (1 - share) * alarms + miss * share * missed
    best = len(cost) - 1 - int(np.argmin(cost[::-1]))
    return float(cuts[best]), float(cost[best])


def if_few(n: int, what: str = "rows") -> str:
    """A sentence, after a space, for who has fewer than 100 normal scores held out; else nothing.

    >>> if_few(24, "sounds")
    ' With 24 normal sounds to compare with no p-value is below 0.04, so alarms are rare: give 100 \
or more.'
    """
    if n >= 99:
        return ""
    return (
        f" With {n} normal {what} to compare with no p-value is below {1 / (n + 1):.2g}, so alarms "
        "are rare: give 100 or more."
    )


def p_values(unusual: Any, held: Any) -> Floats:
    """Conformal p-values [N] of unusualness [N], given that of held-out normal data [n].

    >>> p_values([0.5, 9.0], [0.0, 1.0, 2.0])
    array([0.75, 0.25])
    """
    held = np.sort(np.asarray(held, np.float64))
    at_least = len(held) - np.searchsorted(held, np.asarray(unusual, np.float64), side="left")
    return (1 + at_least) / (len(held) + 1)


def select(p: Any, fdr: float) -> npt.NDArray[np.bool_]:
    """Benjamini and Hochberg's procedure: which of p-values [N] are discoveries.

    Of conformal p-values, which are 1 / (n + 1) or more, either none is one or at least
    N / (fdr (n + 1)) are: many rows to judge want many held-out ones.

    >>> select([0.01, 0.5, 0.03, 0.9], 0.1)
    array([ True, False,  True, False])
    """
    if not (is_number(fdr) and 0 < fdr < 1):
        raise DecisionError(f"fdr is a part above 0 and below 1; given {fdr!r}")
    p = np.asarray(p, np.float64)
    ranked = np.sort(p)
    under = np.flatnonzero(ranked <= fdr * np.arange(1, len(p) + 1) / len(p))
    return p <= ranked[under[-1]] if len(under) else np.zeros(len(p), bool)
