"""What scikit-learn's callers give, as checked columns by name.

A column is a number, a date or text (`columns_of`); what it is in a detector says
`suffuse_anomaly.table`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils.validation import validate_data

from suffuse_anomaly.table import TableError

__all__ = ["columns_of", "named", "table_columns", "warn_of_constants", "without_values"]

NAMED = 8
"""Columns that a sentence names."""


def table_columns(estimator: Any, X: Any, *, reset: bool) -> dict[str, Any]:
    """Checked columns of what scikit-learn's callers give; sets what it learned of their names."""
    if isinstance(X, str | PathLike):
        raise TableError(
            f"a table is an array or a data frame; given the text {str(X)!r}: read a file "
            "first, as by pandas.read_csv"
        )
    if not isinstance(X, pd.DataFrame) and hasattr(X, "to_pandas"):
        X = X.to_pandas()
    if isinstance(X, list | tuple):
        plain = np.asarray(X)
        X = np.asarray(X, dtype=object) if plain.dtype.kind in "USO" else plain
    if isinstance(X, pd.DataFrame) and not X.columns.is_unique:
        twice = sorted({str(name) for name in X.columns[X.columns.duplicated()]})
        raise TableError(f"columns have names of their own; these stand twice: {', '.join(twice)}")
    mixed = isinstance(X, pd.DataFrame) or getattr(getattr(X, "dtype", None), "kind", "") == "O"
    if not mixed:
        least = {"ensure_min_samples": 2} if reset else {}
        X = validate_data(
            estimator, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan", **least
        )
        return columns_of(X)
    if X.ndim != 2 or not all(X.shape) or len(X) < 1 + reset:
        raise TableError(
            f"expected a table of {1 + reset} rows or more and a column or more; given the shape "
            f"{X.shape}"
        )
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    return columns_of(X)


def without_values(columns: Mapping[str, Any]) -> list[str]:
    """The names of columns that hold no value.

    Raises:
        TableError: where every value of the table is missing.
    """
    empty = [name for name, values in columns.items() if pd.isna(values).all()]
    if len(empty) == len(columns):
        raise TableError(
            f"every value of the table is missing (of {named(empty)}): there is nothing to learn "
            "from"
        )
    return empty


def warn_of_constants(columns: Mapping[str, Any]) -> None:
    """Say which columns tell nothing of what is usual: those without a value, and constant ones.

    Raises:
        TableError: where every value of the table is missing.
    """
    empty = without_values(columns)
    same = [
        name
        for name, values in columns.items()
        if not pd.isna(values).any() and (values == values[0]).all()
    ]
    told = []
    if empty:
        told.append(f"{named(empty)} had no value in training: any value there will be unusual")
    if len(empty) + len(same) == len(columns):
        told.append("all rows of training are the same: any other row will be unusual")
    elif same:
        told.append(
            f"{named(same)} had one value in all rows of training: any other will be unusual"
        )
    for sentence in told:
        warnings.warn(sentence, stacklevel=3)


def named(names: list[str]) -> str:
    """Columns, in words.

    >>> named(["a"]), named(["a", "b"])
    ("the column 'a'", "the columns 'a', 'b'")
    """
    told = ", ".join(map(repr, names[:NAMED]))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"the column{'s' if len(names) > 1 else ''} {told}{more}"


def columns_of(X: Any) -> dict[str, Any]:
    """The columns of a data frame or of a 2-D array, by name, as arrays of a fitting type.

    Numbers and truth values become float64 with NaN for gaps, durations their seconds, dates
    datetime64, all else text with None for gaps. A column of objects is one of numbers where all
    of them read as numbers.
    """
    frame = X if isinstance(X, pd.DataFrame) else pd.DataFrame(X)
    found: dict[str, Any] = {}
    for i, name in enumerate(frame.columns):
        series = frame.iloc[:, i]
        key = str(name) if isinstance(X, pd.DataFrame) else f"x{i}"
        if key in found:
            raise TableError(f"two columns have the name {key!r}; give each a name of its own")
        found[key] = _typed(series)
    return found


def _typed(series: pd.Series) -> npt.NDArray[Any]:
    kind = series.dtype
    if pd.api.types.is_datetime64_any_dtype(kind):
        if getattr(kind, "tz", None) is not None:
            series = series.dt.tz_convert("UTC").dt.tz_localize(None)
        # in their own unit: years such as 9999 do not fit nanoseconds
        return series.to_numpy()
    if pd.api.types.is_timedelta64_dtype(kind):
        return series.dt.total_seconds().to_numpy(np.float64)
    if not isinstance(kind, pd.CategoricalDtype):
        try:
            numbers = pd.to_numeric(series)
        except (ValueError, TypeError):
            numbers = series.astype(object)
        if pd.api.types.is_complex_dtype(numbers):
            raise TableError(
                f"the column {str(series.name)!r} holds complex numbers; give their real and "
                "imaginary parts, or sizes and angles, as columns"
            )
        if pd.api.types.is_numeric_dtype(numbers):
            return numbers.to_numpy(np.float64, na_value=np.nan)
    gaps = series.isna().to_numpy()
    return np.array([None if gap else str(v) for gap, v in zip(gaps, series, strict=True)], object)
