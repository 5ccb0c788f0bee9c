"""The suite `speed`: the time to fit and to score, beside scikit-learn's search for neighbours.

The table is of correlated normal columns. scikit-learn's search has no fit to speak of: what is
beside ours, which scores the training rows to know what is usual, is the search for the neighbours
of these. A network's rows a second are those of its scores alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from suffuse.bench import Context, Result
from suffuse.bench.timing import interleaved, median
from suffuse.plugins.contracts import Metric
from suffuse_anomaly.detector import DiffusionDetector

__all__ = ["Speed", "speed"]

PAIRS = (("fit", "neighbours of the training rows"), ("score", "neighbours"))
"""What is timed of ours, and of scikit-learn's."""


@dataclass(frozen=True)
class Speed:
    """One method."""

    measures: ClassVar = ("suffuse_anomaly", "scikit-learn", "torch")
    task: str
    model: str
    seed: int
    rows: int = 10_000
    columns: int = 50
    threads: int = 1
    steps: int = 1500

    def run(self, context: Context) -> Result:
        """Seconds, and of neighbours the ratio to scikit-learn's in the same round."""
        rng = np.random.default_rng(self.seed)
        mix = rng.normal(size=(self.columns, self.columns))
        X, new = (rng.normal(size=(self.rows, self.columns)) @ mix for _ in range(2))
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with threadpool_limits(self.threads):
                return self._neighbours(X, new) if self.model == "auto" else self._network(X, new)
        finally:
            torch.set_num_threads(before)

    def _neighbours(self, X: Any, new: Any) -> Result:
        detector = DiffusionDetector(random_state=0)
        search = NearestNeighbors(n_neighbors=5)
        subjects: dict[str, Callable[[], object]] = {
            "fit": lambda: detector.fit(X),
            "neighbours of the training rows": lambda: search.fit(X).kneighbors(),
            "score": lambda: detector.score_samples(new),
            "neighbours": lambda: search.kneighbors(new),
        }
        detector.fit(X)
        search.fit(X)
        metrics, times = interleaved(subjects, seconds=20, scale=1, unit="s")
        for ours, theirs in PAIRS:
            ratio = np.array(times[ours]) / np.array(times[theirs])
            metrics.append(median(f"{ours} / {theirs}", ratio))
        return Result(metrics, {"times": times})

    def _network(self, X: Any, new: Any) -> Result:
        detector = DiffusionDetector(self.model, steps=self.steps, random_state=0)
        begin = time.perf_counter()
        detector.fit(X)
        took = time.perf_counter() - begin
        subjects = {"score": lambda: detector.score_samples(new)}
        _, times = interleaved(subjects, seconds=5, scale=1, unit="s")
        speed = median("rows a second", self.rows / np.array(times["score"]), "higher")
        return Result([Metric("fit", took, took, took, "lower", 1, unit="s"), speed])


def speed(rows: int = 10_000, columns: int = 50, threads: int = 1) -> Iterator[Speed]:
    """Neighbours and the learned denoiser.

    Args:
        rows, columns: of the table that is learned from, and of the one that is scored.
        threads: of every library.
    """
    yield Speed("speed/neighbours", "auto", 0, rows, columns, threads)
    yield Speed("speed/learned", "denoiser", 0, rows, columns, threads)
