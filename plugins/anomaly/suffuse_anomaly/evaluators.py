"""Figures of detectors, with 95 % intervals, and beside baselines by paired bootstrap.

What is judged are scored things: a sample's `data` is its score, or a mapping of detectors' names
to their scores, of which the first is judged and the others are its baselines; higher is more
unusual. Its condition "anomalous" says what it is. The splits that an evaluator is given count for
nothing here. Things are resampled, anomalies and others apart, the same for all detectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset, Example, Metric
from suffuse_anomaly.metrics import FIGURES, pro, uniformity, vus_pr

__all__ = ["Detection", "Localisation", "Moments", "Uniformity"]

CONDITION = "anomalous"


class Detection:
    """AUROC, average precision, F1 at k and recall at 1 % false alarms, less each baseline's too.

    Args:
        resamples: of the bootstrap.

    >>> scored = [Example({"ours": i, "kNN": i % 7}, {"anomalous": i > 90}) for i in range(100)]
    >>> figures = Detection(50).evaluate(scored, seed=0)
    >>> figures[0].name, figures[0].value, figures[1].name
    ('AUROC', 1.0, 'AUROC less that of kNN')
    """

    def __init__(self, resamples: int = 500) -> None:
        self.resamples = resamples

    def evaluate(
        self,
        samples: Sequence[Example],
        *,
        test: Dataset | None = None,
        train: Dataset | None = None,
        seed: int = 0,
    ) -> list[Metric]:
        """Each figure, and after it the differences to the baselines."""
        if not samples:
            return []
        labels = np.array([_label(sample) for sample in samples], bool)
        scores = _scores(samples)
        if not 0 < labels.sum() < len(labels):
            raise SuffuseError(
                f"figures of detection need anomalies and others; of {len(labels)} samples "
                f"{labels.sum()} are anomalous"
            )
        if not all(np.isfinite(column).all() for column in scores.values()):
            raise SuffuseError("a score is NaN or inf; scores must be finite")
        draws = _resampled(labels, self.resamples, seed)
        judged, *others = scores
        found = []
        for name, figure in FIGURES.items():
            value = {k: figure(labels, x) for k, x in scores.items()}
            drawn = {
                k: np.array([figure(labels[i], x[i]) for i in draws]) for k, x in scores.items()
            }
            found.append(_metric(name, value[judged], drawn[judged], len(labels)))
            for other in others:
                gap, gaps = value[judged] - value[other], drawn[judged] - drawn[other]
                found.append(_metric(f"{name} less that of {other}", gap, gaps, len(labels)))
        return found


class Moments:
    """VUS-PR of series: `data` is a series of scores [T], "anomalous" its labels [T].

    Point-adjusted F1 is refused (`suffuse_anomaly.metrics.point_adjusted_f1` says why).

    Args:
        window: the widest margin around a labelled range, in moments.
        resamples: of the bootstrap over series.
    """

    def __init__(self, window: int = 100, resamples: int = 1000) -> None:
        self.window, self.resamples = window, resamples

    def evaluate(
        self,
        samples: Sequence[Example],
        *,
        test: Dataset | None = None,
        train: Dataset | None = None,
        seed: int = 0,
    ) -> list[Metric]:
        """The mean over series."""
        values = [vus_pr(_label(s), np.asarray(s.data, np.float64), self.window) for s in samples]
        return _mean("VUS-PR", values, "higher", self.resamples, seed)


class Localisation:
    """PRO of heat maps: `data` is a map [H, W], "anomalous" the mask of its defects [H, W].

    Args:
        alarms: the part of normal pixels up to which is integrated.
        resamples: of the bootstrap over pictures.
    """

    def __init__(self, alarms: float = 0.3, resamples: int = 100) -> None:
        self.alarms, self.resamples = alarms, resamples

    def evaluate(
        self,
        samples: Sequence[Example],
        *,
        test: Dataset | None = None,
        train: Dataset | None = None,
        seed: int = 0,
    ) -> list[Metric]:
        """PRO over all pictures."""
        if not samples:
            return []
        masks = [np.asarray(_label(sample), bool) for sample in samples]
        maps = [np.asarray(sample.data, np.float64) for sample in samples]
        if len({x.shape for x in (*masks, *maps)}) != 1 or maps[0].ndim != 2:
            raise SuffuseError("PRO needs maps and masks of one shape [H, W]")
        stacked, defects = np.stack(maps), np.stack(masks)
        draws = _resampled(defects.any((1, 2)), self.resamples, seed)
        drawn = [pro(defects[rows], stacked[rows], self.alarms) for rows in draws]
        value = pro(defects, stacked, self.alarms)
        return [_metric("PRO", value, np.array(drawn), len(samples))]


class Uniformity:
    """How far p-values of normal things are from uniform (Kolmogorov), and how many are <= 0.05.

    `data` is a p-value; anomalous samples are left out.

    Args:
        resamples: of the bootstrap.
    """

    def __init__(self, resamples: int = 1000) -> None:
        self.resamples = resamples

    def evaluate(
        self,
        samples: Sequence[Example],
        *,
        test: Dataset | None = None,
        train: Dataset | None = None,
        seed: int = 0,
    ) -> list[Metric]:
        """Both figures."""
        p = np.array([float(s.data) for s in samples if not s.conditions.get(CONDITION)])
        if not len(p):
            return []
        if not ((p >= 0) & (p <= 1)).all():
            raise SuffuseError("p-values are numbers from 0 to 1")
        rng = np.random.default_rng(seed)
        drawn = np.array([uniformity(rng.choice(p, len(p))) for _ in range(self.resamples)])
        distance = _metric("distance from uniform", uniformity(p), drawn, len(p), "lower")
        alarms = _mean("p-values up to 0.05", list(p <= 0.05), "lower", self.resamples, seed)
        return [distance, *alarms]


def _resampled(odd: npt.NDArray[Any], times: int, seed: int) -> list[npt.NDArray[np.intp]]:
    """The rows of each resample, anomalies and others apart."""
    rng = np.random.default_rng(seed)
    groups = [rows for rows in map(np.flatnonzero, (~odd, odd)) if len(rows)]
    return [np.concatenate([rng.choice(rows, len(rows)) for rows in groups]) for _ in range(times)]


def _label(sample: Example) -> Any:
    if CONDITION not in sample.conditions:
        raise SuffuseError(
            f"these figures judge scored things: a sample's condition {CONDITION!r} says what it "
            f"is; one has {', '.join(sample.conditions) or 'no conditions'}"
        )
    return sample.conditions[CONDITION]


def _scores(samples: Sequence[Example]) -> dict[str, npt.NDArray[np.float64]]:
    """The scores of each detector, the judged one first."""
    rows = [s.data if isinstance(s.data, Mapping) else {"": s.data} for s in samples]
    names = list(rows[0]) if rows else []
    if any(list(row) != names for row in rows):
        raise SuffuseError("all samples are scored by the same detectors, in the same order")
    try:
        return {name: np.array([float(row[name]) for row in rows]) for name in names}
    except (TypeError, ValueError):
        raise SuffuseError(
            "the data of a sample are its score, a number, or several by name"
        ) from None


def _metric(
    name: str,
    value: float,
    drawn: npt.NDArray[Any],
    n: int,
    better: Literal["lower", "higher"] = "higher",
) -> Metric:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Metric(name, value, min(float(low), value), max(float(high), value), better, n)


def _mean(
    name: str,
    values: list[Any],
    better: Literal["lower", "higher"],
    resamples: int,
    seed: int,
) -> list[Metric]:
    if not values:
        return []
    x, rng = np.array(values, np.float64), np.random.default_rng(seed)
    drawn = rng.choice(x, (resamples, len(x))).mean(1)
    return [_metric(name, float(x.mean()), drawn, len(x), better)]
