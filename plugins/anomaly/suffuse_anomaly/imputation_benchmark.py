"""The suite `imputation`: entries of tables and series are hidden, and told again.

Tables are those of `suffuse_anomaly.benchmark`, half of their rows to learn from and the rest with
gaps, at random or in blocks: of a third of the columns at once, in as many rows as give the share.
Series are those of `suffuse_anomaly.series_benchmark` whose first half is not one number; that half
is learned from, and gaps are at random, or runs of 20 moments. Numbers are scaled to the deviation
1, of tables that of the half that is learned from. Figures: RMSE of the one answer, CRPS of 20
draws (of a method with one answer its mean absolute error), and how often the truth lies within the
range of the draws, which should be 19 of 21, 90.5 %.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from suffuse.bench import Context, Result
from suffuse_anomaly.benchmark import folder, over
from suffuse_anomaly.imputer import DiffusionImputer
from suffuse_anomaly.series_benchmark import labelled
from suffuse_anomaly.series_imputer import SeriesImputer

__all__ = ["Imputation", "imputation"]

Floats = npt.NDArray[np.float64]

OURS = "suffuse"
DRAWS = 20
RUN = 20
"""Moments of a block of a series."""


def _lines(train: Floats, holed: Floats, seed: int) -> Floats:
    return pd.DataFrame(holed).interpolate(limit_direction="both").to_numpy()


def _fitted(make: Callable[[int], Any]) -> Callable[[Floats, Floats, int], Floats]:
    def fill(train: Floats, holed: Floats, seed: int) -> Floats:
        found: Floats = make(seed).fit(train).transform(holed)
        return found

    return fill


TABLES: dict[str, Callable[[Floats, Floats, int], Floats]] = {
    "KNNImputer": _fitted(lambda seed: KNNImputer()),
    "IterativeImputer": _fitted(lambda seed: IterativeImputer(random_state=seed)),
    "mean": _fitted(lambda seed: SimpleImputer()),
}
SERIES: dict[str, Callable[[Floats, Floats, int], Floats]] = {
    "linear interpolation": _lines,
    "mean": _fitted(lambda seed: SimpleImputer()),
}


@dataclass(frozen=True)
class Imputation:
    """One method on all tables or series, at one share of gaps of one kind."""

    measures: ClassVar = ("suffuse_anomaly", "scikit-learn")
    task: str
    model: str
    seed: int
    share: float
    blocks: bool
    rows: int

    def run(self, context: Context) -> Result:
        """The figures, averaged over tables or series."""
        series = self.task.startswith("series")
        found = {}
        for name, x in _series(self.rows) if series else _tables(self.rows, self.seed):
            rng = np.random.default_rng(self.seed)
            half = len(x) // 2
            learned = x if series else x[:half]  # a series may hardly move in its first half
            centre, scale = learned.mean(0), learned.std(0)
            x = (x[:, scale > 0] - centre[scale > 0]) / scale[scale > 0]
            gaps = self._gaps(x[half:].shape, rng, series)
            holed = np.where(gaps, np.nan, x[half:])
            found[name] = self._figures(x[:half], holed, x[half:], gaps, series)
        table = np.array(list(found.values()))
        metrics = []
        for name, column in zip(("RMSE", "CRPS", "within 20 draws"), table.T, strict=True):
            if np.isnan(column).any():
                continue
            better = "lower" if name != "within 20 draws" else "higher"
            metrics.append(over(name, column, better, unit=""))
        return Result(metrics, {"data": {k: v[: len(metrics)] for k, v in found.items()}})

    def _gaps(
        self, shape: tuple[int, ...], rng: np.random.Generator, series: bool
    ) -> npt.NDArray[np.bool_]:
        """Which entries [N, C] are hidden."""
        n, columns = shape
        if not self.blocks:
            return np.asarray(rng.random(shape) < self.share)
        gaps = np.zeros(shape, bool)
        if series:
            while gaps.mean() < self.share:
                start = rng.integers(n - RUN)
                gaps[start : start + RUN] = True
            return gaps
        several = max(1, columns // 3)
        for i in np.flatnonzero(rng.random(n) < self.share * columns / several):
            gaps[i, rng.permutation(columns)[:several]] = True
        return gaps

    def _figures(
        self,
        train: Floats,
        holed: Floats,
        truth: Floats,
        gaps: npt.NDArray[np.bool_],
        series: bool,
    ) -> list[float]:
        if self.model != OURS:
            filled = (SERIES if series else TABLES)[self.model](train, holed, self.seed)
            off = (filled - truth)[gaps]
            return [float(np.sqrt((off**2).mean())), float(np.abs(off).mean()), np.nan]
        kind: Any = SeriesImputer if series else DiffusionImputer
        imputer = kind(n_imputations=DRAWS, random_state=self.seed).fit(train)
        draws = np.stack(imputer.impute(holed))[:, gaps]
        off = imputer.transform(holed)[gaps] - truth[gaps]
        apart = np.abs(draws[:, None] - draws[None]).mean((0, 1))
        crps = np.abs(draws - truth[gaps]).mean(0) - apart / 2
        inside = (draws.min(0) <= truth[gaps]) & (truth[gaps] <= draws.max(0))
        return [float(np.sqrt((off**2).mean())), float(crps.mean()), float(inside.mean())]


def _tables(rows: int, seed: int) -> Iterator[tuple[str, Floats]]:
    for path in sorted(folder().glob("*.npz")):
        with np.load(path) as data:
            X = np.unique(data["X"].astype(np.float64), axis=0)
        yield path.stem, X[np.random.default_rng(seed).permutation(len(X))[:rows]]


def _series(rows: int) -> Iterator[tuple[str, Floats]]:
    for name, x, _ in labelled():
        x = x[:rows]
        if np.ptp(x[: len(x) // 2]) > 0:
            yield name, x[:, None]


def imputation(seeds: int = 1, rows: int = 400) -> Iterator[Imputation]:
    """Every method at 10, 30 and 50 % of gaps, at random and in blocks.

    Args:
        seeds: how many splits.
        rows: the most rows of a table, and moments of a series.
    """
    for seed in range(seeds):
        for data, others in (("tables", TABLES), ("series", SERIES)):
            for share in (0.1, 0.3, 0.5):
                for blocks in (False, True):
                    task = f"{data}/{'blocks' if blocks else 'random'}-{share:.0%}"
                    for model in (OURS, *others):
                        yield Imputation(task, model, seed, share, blocks, rows)
