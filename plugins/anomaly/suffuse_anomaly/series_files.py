"""Series in files: a detector fitted on one, the scores of another, and gaps that are filled.

A series is a table of numbers with a moment in each row, and perhaps one column of their times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from suffuse import storage
from suffuse_anomaly import decisions
from suffuse_anomaly.files import read_table, warned, write_scores
from suffuse_anomaly.series import SeriesDetector
from suffuse_anomaly.series_imputer import SeriesImputer
from suffuse_anomaly.table import TableError

__all__ = ["fill_series", "fit_series", "read_series", "series_scorer"]


def read_series(path: Path, drop: Sequence[str] = ()) -> pd.DataFrame:
    """The series in a CSV or Parquet file; a column of dates becomes its times.

    Raises:
        TableError: where there are several such columns, or columns that are no numbers.
    """
    frame = read_table(path)
    for name in drop:
        if name not in frame:
            names = ", ".join(frame.columns)
            raise TableError(f"{path} has no column {name!r}; there are: {names}")
    frame = frame.drop(columns=list(drop))
    dates = [c for c in frame if pd.api.types.is_datetime64_any_dtype(frame[c])]
    if len(dates) > 1:
        raise TableError(
            f"{path} has several columns of dates, and a series one: leave out all but one with "
            f"--drop; there are: {', '.join(dates)}"
        )
    if dates:
        frame = frame.set_index(dates[0])
        if frame.index.isna().any():
            raise TableError(f"a row of {path} has no time in {dates[0]!r}")
    other = [c for c in frame if not pd.api.types.is_numeric_dtype(frame[c])]
    if other or not len(frame.columns):
        raise TableError(
            f"the columns of a series are numbers, and perhaps one of dates; {path} has "
            f"{', '.join(map(repr, other)) or 'no numbers'}: leave out what is none with --drop"
        )
    return frame.astype(np.float64)


def fit_series(data: Path, out: Path, *, window: int | None = None, drop: Sequence[str]) -> str:
    """Fit a detector on the series in a file and save it; what was done, in a sentence."""
    series = read_series(data, drop)
    detector = SeriesDetector(window)
    with warned() as told:
        detector.fit(series)
    detector.save(out)
    many = "s" if series.shape[1] > 1 else ""
    return (
        f"learned from {len(series)} moments of {series.shape[1]} channel{many}, in windows of "
        f"{detector.window_}; saved in {out}." + "".join(told)
    )


def fill_series(data: Path, out: Path, *, draws: int = 0, seed: int = 0) -> str:
    """Fill the gaps of the series in a file by the series itself; what was done, in a sentence."""
    if draws < 0:
        raise TableError(f"--draws is 0 or more; given {draws}")
    series = read_series(data)
    gaps = int(series.isna().sum().sum())
    imputer = SeriesImputer(n_imputations=max(1, draws), random_state=seed).fit(series)
    found = imputer.impute(series) if draws else [imputer.transform(series)]
    for i, values in enumerate(found):
        path = out.with_name(f"{out.stem}-{i}{out.suffix}") if draws else out
        filled = pd.DataFrame(values, index=series.index, columns=series.columns)
        timed = isinstance(series.index, pd.DatetimeIndex)
        storage.write_text(path, filled.to_csv(index=timed))
    return f"{gaps} gaps filled in {out}" + (f", {draws} times, numbered." if draws else ".")


def series_scorer(model: Path) -> Callable[..., str]:
    """What `suffuse score` calls for a detector of series (see the hook `open_scorer`)."""
    detector = SeriesDetector.load(model)

    def score(source: Path, out: Path, *, explain: bool = False, report: Path | None = None) -> str:
        if source.is_dir():
            raise TableError(f"{source} is a folder; this model scores the moments of one series")
        whole = read_table(source)
        missing = [name for name in detector.names_ if name not in whole]
        if missing:
            raise TableError(
                f"{source} lacks channels that the model was fitted on: {', '.join(missing)}; it "
                f"has: {', '.join(whole.columns)}"
            )
        dates = [c for c in whole if pd.api.types.is_datetime64_any_dtype(whole[c])]
        others = [c for c in whole if c not in detector.names_ and c not in dates]
        series = read_series(source, others)[detector.names_]
        table = pd.DataFrame({"moment": np.arange(len(series))})
        if isinstance(series.index, pd.DatetimeIndex):
            table["time"] = series.index
        table["score"] = detector.score(series)
        table["p_value"] = decisions.p_values(table["score"], detector.held_)
        table["alarm"] = (table["score"] > detector.threshold_).astype(int)
        parts = detector.explain(series) if explain or report is not None else None
        if explain and parts is not None:
            table = table.join(parts.add_prefix("from "))
        said = write_scores(table, out)
        if report is not None and parts is not None:
            from suffuse_anomaly.series_report import write_series

            write_series(report, detector, series, table, parts, source)
            said += f"; report in {report}"
        return said

    return score
