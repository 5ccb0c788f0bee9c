"""The suite `series`: detectors on the labelled series of the Numenta benchmark.

Series and windows are those of anomaly/nab.zip in SUFFUSE_DATA; those without a labelled window are
left out. Every detector learns from the very series that it scores, and is given the same length of
windows. The figure is VUS-PR.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from suffuse.bench import Context, Result
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Metric
from suffuse.stats.intervals import mean
from suffuse_anomaly.metrics import vus_pr
from suffuse_anomaly.series import SeriesDetector, period

__all__ = ["Series", "labelled", "series"]

Floats = npt.NDArray[np.float64]


def labelled() -> list[tuple[str, Floats, npt.NDArray[np.bool_]]]:
    """Names, values and labels of the series that have any."""
    path = Path(os.environ.get("SUFFUSE_DATA", "")) / "anomaly" / "nab.zip"
    if "SUFFUSE_DATA" not in os.environ or not path.is_file():
        raise SuffuseError(
            "the suite 'series' reads $SUFFUSE_DATA/anomaly/nab.zip, and there is no such file: "
            "set SUFFUSE_DATA to where it is"
        )
    found = []
    with zipfile.ZipFile(path) as file:
        windows = json.loads(file.read("labels/combined_windows.json"))
        for name in sorted(file.namelist()):
            spans = windows.get(name.removeprefix("data/"), [])
            if not name.endswith(".csv") or not spans:
                continue
            frame = pd.read_csv(io.BytesIO(file.read(name)), parse_dates=["timestamp"])
            labels = np.zeros(len(frame), bool)
            for begin, end in spans:
                labels |= frame["timestamp"].between(begin, end).to_numpy()
            found.append((name, frame["value"].to_numpy(np.float64), labels))
    return found


def _windows(x: Floats, window: int) -> Floats:
    return np.lib.stride_tricks.sliding_window_view((x - x.mean()) / (x.std() or 1.0), window)


def _moments(scores: Floats, window: int) -> Floats:
    ones = np.ones(window)
    return np.convolve(scores, ones) / np.convolve(np.ones(len(scores)), ones)


def sub_pca(x: Floats, window: int) -> Floats:
    """Windows' squared distances along principal axes, each over its variance."""
    windows = _windows(x, window)
    fitted = PCA().fit(windows)
    variance = np.maximum(fitted.explained_variance_, 1e-6)
    return _moments((fitted.transform(windows) ** 2 / variance).sum(1), window)


def sub_knn(x: Floats, window: int) -> Floats:
    """Windows' mean distances to their 20 nearest."""
    tree = NearestNeighbors(n_neighbors=20).fit(_windows(x, window))
    return _moments(tree.kneighbors()[0].mean(1), window)


def ours(x: Floats, window: int) -> Floats:
    return SeriesDetector(window).fit(x).score(x)


DETECTORS: dict[str, Callable[[Floats, int], Floats]] = {
    "suffuse SeriesDetector": ours,
    "Sub-PCA": sub_pca,
    "Sub-KNN": sub_knn,
    "distance from the median": lambda x, window: np.abs(x - np.median(x)),
}


@dataclass(frozen=True)
class Series:
    """One detector over all series."""

    measures: ClassVar = ("suffuse_anomaly", "scikit-learn")
    task: str
    model: str
    seed: int = 0

    def run(self, context: Context) -> Result:
        """VUS-PR of each series, and its mean."""
        found: dict[str, Any] = {}
        for name, x, labels in context.once("series", labelled):
            window = min(period(x), len(x) // 10)
            found[name] = vus_pr(labels, DETECTORS[self.model](x, window))
        over = mean(np.array(list(found.values())), method="percentile", resamples=1000)
        metric = Metric.of("VUS-PR", over, "higher", len(found))
        return Result([metric], {"series": found})


def series() -> Iterator[Series]:
    """Every detector once: none of them draws anything."""
    for model in DETECTORS:
        yield Series("series/NAB", model)
