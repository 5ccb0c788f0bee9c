"""The suite `decisions`: whether p-values, selections and explanations keep what they promise.

Tables and splits are those of the suite `anomaly`, semi-supervised. Of the normal rows to judge the
part with p <= 0.05 are false alarms; of what `select` takes the part that is normal are false
discoveries; and in copies of normal rows, in each of which one column is moved by `MOVED`
deviations, it is told how often `explain` gives that column the most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from suffuse.bench import Context, Result
from suffuse.errors import unknown
from suffuse_anomaly import decisions as deciding
from suffuse_anomaly.benchmark import folder, over, split
from suffuse_anomaly.detector import METHODS, DiffusionDetector

__all__ = ["Decisions", "decisions"]

MOVED = 6.0
PLANTED = 20
"""Rows of a table in which a column is moved."""
NAMES = (
    "false alarms at 0.05",
    "false discoveries at 0.1",
    "anomalies taken at 0.1",
    "false discoveries at 0.2",
    "anomalies taken at 0.2",
    "moved column named first",
)


@dataclass(frozen=True)
class Decisions:
    """One method with one seed, over all tables."""

    measures: ClassVar = ("suffuse_anomaly", "scikit-learn")
    task: str
    model: str
    seed: int
    rows: int = 800

    def run(self, context: Context) -> Result:
        """The figures of each table, and their means, in percent."""
        found: dict[str, list[float]] = {}
        for path in sorted(folder().glob("*.npz")):
            with np.load(path) as data:
                train, judged, y = split(data["X"], data["y"], self.task, self.seed, self.rows)
            if 0 < y.sum() < len(y):
                detector = DiffusionDetector(self.model, random_state=self.seed).fit(train)
                found[path.stem] = self._kept(detector, train, judged, y.astype(bool))
        table = 100 * np.array(list(found.values()))
        metrics = [
            over(name, column, "lower" if name.startswith("false") else "higher")
            for name, column in zip(NAMES, table.T, strict=True)
        ]
        return Result(metrics, {"tables": found})

    def _kept(
        self,
        detector: DiffusionDetector,
        train: npt.NDArray[Any],
        judged: npt.NDArray[Any],
        odd: npt.NDArray[np.bool_],
    ) -> list[float]:
        p = detector.p_values(judged)
        answer = [float((p[~odd] <= 0.05).mean())]
        for fdr in (0.1, 0.2):
            taken = deciding.select(p, fdr)
            answer.append(float((taken & ~odd).sum() / max(1, taken.sum())))
            answer.append(float((taken & odd).sum() / odd.sum()))
        rng = np.random.default_rng(self.seed)
        some = rng.permutation(judged[~odd])[:PLANTED].copy()
        deviation = train.std(0)
        moved = rng.choice(np.flatnonzero(deviation > 0), len(some))
        some[np.arange(len(some)), moved] += (
            MOVED * deviation[moved] * rng.choice([-1, 1], len(some))
        )
        first = detector.explain(some).to_numpy().argmax(1)
        return [*answer, float((first == moved).mean())]


def decisions(seeds: int = 5, rows: int = 800, method: str = "auto") -> Iterator[Decisions]:
    """One method on several splits.

    Args:
        seeds: how many splits.
        rows: the most rows of a table.
        method: of the detector.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    for seed in range(seeds):
        yield Decisions("semi-supervised", method, seed, rows)
