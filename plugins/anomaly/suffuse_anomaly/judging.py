"""Files of scores, judged by labels: the figures of `suffuse_anomaly.evaluators` for a command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from suffuse.plugins.contracts import Example, Metric
from suffuse_anomaly.evaluators import Detection, Moments, Uniformity
from suffuse_anomaly.files import read_table
from suffuse_anomaly.table import TableError

__all__ = ["judge_file"]

KEYS = ("file", "row", "moment")
"""Columns by which the rows of two files are put together, where both have one."""


def judge_file(
    scores: Path,
    *,
    truth: str,
    labels: Path | None = None,
    normal: str | None = None,
    column: str = "score",
    against: Path | None = None,
    series: bool = False,
    resamples: int = 500,
    seed: int = 0,
) -> list[Metric]:
    """Figures of the scores in a file.

    Args:
        scores: a table with the scores, higher ones more unusual, and perhaps p-values (p_value).
        truth: the column that says what is anomalous.
        labels: the table that it is in, row by row or by a column of `KEYS`; None for `scores`.
        normal: the value of what is not; None where the column holds 0 and 1, or truth values.
        column: of the scores.
        against: a second such file, which the first is compared with.
        series: whether rows are moments of one series: then the figure is VUS-PR alone.
        resamples: of the bootstrap.
        seed: of it.

    Raises:
        TableError: for files and columns that do not fit.
    """
    table = read_table(scores)
    score = _numbers(table, column, scores)
    source = scores if labels is None else labels
    known = table if labels is None else _beside(table, scores, read_table(labels), labels)
    odd = _truth(known, truth, normal, source)
    of: dict[str, npt.NDArray[np.float64]] = {"": score}
    if against is not None:
        other = _beside(table, scores, read_table(against), against)
        of[str(against) if against.stem == scores.stem else against.stem] = _numbers(
            other, column, against
        )
    if not 0 < odd.sum() < len(odd):
        raise TableError(
            f"figures need anomalies and others; of {len(odd)} rows {odd.sum()} are anomalous by "
            f"{truth!r} of {source}"
        )
    if series:
        return _of_series(of, odd, resamples, seed)
    rows = [
        Example(dict(zip(of, values, strict=True)), {"anomalous": bool(y)})
        for values, y in zip(zip(*of.values(), strict=True), odd, strict=True)
    ]
    found = Detection(resamples).evaluate(rows, seed=seed)
    if "p_value" in table:
        p = [
            Example(float(value), {"anomalous": bool(y)})
            for value, y in zip(_numbers(table, "p_value", scores), odd, strict=True)
        ]
        found += Uniformity(resamples).evaluate(p, seed=seed)
    return found


def _of_series(
    of: dict[str, npt.NDArray[np.float64]], odd: npt.NDArray[np.bool_], resamples: int, seed: int
) -> list[Metric]:
    """VUS-PR, of one series without an interval: its moments are no independent draws."""
    found = [
        Moments(resamples=resamples).evaluate([Example(x, {"anomalous": odd})], seed=seed)[0]
        for x in of.values()
    ]
    if len(found) == 1:
        return found
    (name,) = [name for name in of if name]
    gap = found[0].value - found[1].value
    return [found[0], Metric(f"VUS-PR less that of {name}", gap, gap, gap, "higher", 1)]


def _beside(table: pd.DataFrame, path: Path, other: pd.DataFrame, source: Path) -> pd.DataFrame:
    """The rows of another table that belong to those of `table`, in their order."""
    key = next((key for key in KEYS if key in table and key in other), None)
    if key is not None:
        if other[key].duplicated().any():
            raise TableError(f"{source} has the same {key!r} in several rows; each needs its own")
        missing = table.loc[~table[key].isin(other[key]), key]
        if len(missing):
            raise TableError(
                f"{source} has no row for {len(missing)} of the {len(table)} in {path}; for "
                f"instance {key} = {missing.iloc[0]}"
            )
        return other.set_index(key).loc[table[key]].reset_index()
    if len(other) != len(table):
        raise TableError(
            f"{path} has {len(table)} rows and {source} {len(other)}: they are put together row by "
            f"row, or by a column {', '.join(KEYS)} that both have"
        )
    return other


def _numbers(table: pd.DataFrame, name: str, path: Path) -> npt.NDArray[np.float64]:
    if name not in table:
        raise TableError(f"{path} has no column {name!r}; there are: {', '.join(table.columns)}")
    values = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise TableError(
            f"{name!r} of {path} is to hold finite numbers; row {bad[0]} has "
            f"{str(table[name].iloc[bad[0]])!r}"
        )
    return values


def _truth(table: pd.DataFrame, name: str, normal: str | None, path: Path) -> npt.NDArray[np.bool_]:
    """Which rows are anomalous."""
    if name not in table:
        raise TableError(
            f"{path} has no column {name!r} to say what is anomalous; there are: "
            f"{', '.join(table.columns)}. A column of another file is given with --labels FILE"
        )
    values = table[name]
    if values.isna().any():
        raise TableError(
            f"{name!r} of {path} is empty in {int(values.isna().sum())} rows: leave these out"
        )
    if normal is not None:
        text = values.astype(str)
        usual = text == normal
        if not usual.any() and pd.api.types.is_numeric_dtype(values):
            usual = values == pd.to_numeric(normal, errors="coerce")
        if not usual.any():
            some = ", ".join(sorted(text.unique())[:8])
            raise TableError(f"no row of {path} has {name} = {normal!r}; there are: {some}")
        return ~usual.to_numpy(bool)
    if not (pd.api.types.is_numeric_dtype(values) and set(values.unique()) <= {0, 1}):
        some = ", ".join(sorted(values.astype(str).unique())[:8])
        raise TableError(
            f"{name!r} of {path} is to hold 0 and 1, or true and false; it has {some}. Say which "
            "value is normal with --normal VALUE; all others are anomalies"
        )
    return values.to_numpy(bool)
