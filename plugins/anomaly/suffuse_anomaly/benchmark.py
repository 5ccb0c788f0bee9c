"""The suite `anomaly`: detectors on tables with known anomalies.

Tables are those of the folder anomaly/adbench_dev in SUFFUSE_DATA. A row that occurs twice is kept
once before the split: else the same row stands on both sides. A table with more rows than `rows` is
cut down to so many, drawn anew with each seed. Semi-supervised: half of the normal rows to train
on, the rest and all anomalies to judge. Unsupervised: all rows for both, without labels.
Contaminated: as semi-supervised, but for anomalies, at most half of those there are, that make up
so much of the training rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import wilcoxon

from suffuse.bench import Context, Record, Result, Table
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Metric
from suffuse.stats.intervals import difference, mean
from suffuse_anomaly.baselines import BASELINES, NETWORKS
from suffuse_anomaly.detector import DiffusionDetector
from suffuse_anomaly.metrics import FIGURES

__all__ = ["Tables", "anomaly", "over", "split"]

OURS = ("auto", "denoiser", "ensemble")
LEARNED = ("denoiser", "ensemble")
PREFIX = "suffuse "
CONTAMINATION = 0.1
"""What our detector is told where training rows are not all normal, whatever the table."""
SWEEP = ("contaminated-0%", "contaminated-2%", "contaminated-5%", "contaminated-10%")


def folder() -> Path:
    """Where the tables are."""
    root = os.environ.get("SUFFUSE_DATA")
    found = Path(root or "") / "anomaly" / "adbench_dev"
    if root is None or not found.is_dir():
        raise SuffuseError(
            "the suite 'anomaly' reads tables from $SUFFUSE_DATA/anomaly/adbench_dev, and there is "
            "no such folder: set SUFFUSE_DATA to where they are"
        )
    return found


def split(
    X: npt.NDArray[Any], y: npt.NDArray[Any], setting: str, seed: int, rows: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Training rows, rows to judge, and their labels; unsupervised the first two are one array."""
    _, first = np.unique(X, axis=0, return_index=True)
    chosen = np.random.default_rng(seed).permutation(first)[:rows]
    X, y = X[chosen].astype(np.float64), y[chosen].astype(int)
    if setting == "unsupervised":
        return X, X, y
    normal, odd = np.flatnonzero(y == 0), np.flatnonzero(y == 1)
    half = len(normal) // 2
    several = 0
    if setting != "semi-supervised":
        share = float(setting.rstrip("%").rpartition("-")[2]) / 100
        several = min(round(half * share / (1 - share)), len(odd) // 2)
    train = np.concatenate([normal[:half], odd[:several]])
    judged = np.concatenate([normal[half:], odd[several:]])
    return X[train], X[judged], y[judged]


def over(
    name: str,
    column: npt.NDArray[Any],
    better: Literal["lower", "higher"] = "higher",
    unit: str = "%",
) -> Metric:
    """The mean of a figure [N] over tables, with its bootstrap interval."""
    found = mean(column, method="percentile", resamples=1000)
    return Metric.of(name, found, better, len(column), unit=unit)


@dataclass(frozen=True)
class Tables:
    """One detector in one setting with one seed, over all tables."""

    measures: ClassVar = ("suffuse_anomaly", "scikit-learn")
    task: str
    model: str
    seed: int
    rows: int = 2000
    steps: int = 1000

    def run(self, context: Context) -> Result:
        """The figures of each table, and their means."""
        setting = self.task.rpartition("/")[2]
        found: dict[str, list[float]] = {}
        for path in sorted(folder().glob("*.npz")):
            with np.load(path) as data:
                train, judged, y = split(data["X"], data["y"], setting, self.seed, self.rows)
            if not 0 < y.sum() < len(y):
                continue
            scores = self._scores(train, judged)
            found[path.stem] = [figure(y, scores) for figure in FIGURES.values()]
        table = 100 * np.array(list(found.values()))
        metrics = [over(name, column) for name, column in zip(FIGURES, table.T, strict=True)]
        return Result(metrics, {"tables": found})

    def _scores(self, train: npt.NDArray[Any], judged: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if not self.model.startswith(PREFIX):
            scores: npt.NDArray[Any] = BASELINES[self.model](train, judged, self.seed)
            return scores
        detector = DiffusionDetector(
            self.model.removeprefix(PREFIX),
            contamination="auto" if self.task.endswith("semi-supervised") else CONTAMINATION,
            steps=self.steps,
            random_state=self.seed,
        )
        return -detector.fit(train).score_samples(judged)


def anomaly(
    seeds: int = 5, rows: int = 2000, steps: int = 1000, learned: bool = True, sweep: bool = False
) -> Iterator[Tables]:
    """Every detector in both settings.

    Args:
        seeds: how many splits.
        rows: the most rows of a table.
        steps: of training denoisers.
        learned: whether methods that train a network take part.
        sweep: whether training rows are, instead, contaminated to 0, 2, 5 and 10 %.
    """
    ours = [f"{PREFIX}{name}" for name in OURS if learned or name not in LEARNED]
    others = [name for name in BASELINES if learned or name not in NETWORKS]
    for seed in range(seeds):
        for setting in SWEEP if sweep else ("semi-supervised", "unsupervised"):
            for model in (*ours, *others):
                yield Tables(f"tables/{setting}", model, seed, rows, steps)


def summary(records: Sequence[Record]) -> list[Table]:
    """Means over tables and seeds, and ours less each baseline, paired by table."""
    answer = []
    for task in sorted({r.task for r in records}):
        means: dict[str, dict[str, npt.NDArray[Any]]] = {}
        for model in dict.fromkeys(r.model for r in records if r.task == task):
            own = [
                r.detail["tables"]
                for r in records
                if r.task == task and r.model == model and r.error is None
            ]
            if own:
                means[model] = {
                    name: 100 * np.mean([one[name] for one in own if name in one], axis=0)
                    for name in own[0]
                }
        rows = [
            [model, *(float(x) for x in np.mean(list(tables.values()), axis=0))]
            for model, tables in means.items()
        ]
        rows.sort(key=lambda row: -float(row[1]))
        title = task.rpartition("/")[2].capitalize()
        answer.append(Table(f"{title}: means over tables, %", ["", *FIGURES], rows))
        ours = f"{PREFIX}auto"
        if ours not in means:
            continue
        compared = []
        for model, tables in means.items():
            if model == ours:
                continue
            names = [name for name in tables if name in means[ours]]
            a = np.array([means[ours][name][:2] for name in names])
            b = np.array([tables[name][:2] for name in names])
            row: list[str | float | int] = [model]
            for i in range(2):
                over = difference(a[:, i], b[:, i], method="percentile", resamples=2000)
                row.append(f"{over.value:+.2f} [{over.low:+.2f}, {over.high:+.2f}]")
            gaps = a[:, 0] - b[:, 0]
            row.append(f"{(gaps > 0).sum()} of {len(gaps)}")
            row.append(float(wilcoxon(gaps).pvalue) if np.any(gaps) else 1.0)
            compared.append(row)
        answer.append(
            Table(
                f"{title}: {ours} less each other one, points",
                ["", "AUROC [95 %]", "average precision [95 %]", "tables better", "Wilcoxon p"],
                compared,
                "Intervals: bootstrap over tables, paired; p: two-sided, on AUROC.",
            )
        )
    return answer


anomaly.summary = summary  # type: ignore[attr-defined]
