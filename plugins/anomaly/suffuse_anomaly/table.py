"""Mixed tables as standardised numbers, and back to columns.

A table is an array or a data frame. Its columns are

    number      (x − m) / s, with the median m and the deviation s; 0 where it is missing, but as
                unusual as a value can be where it never was in training
    category    one dimension for each value, 1/√(K − 1) / √p for the one that is there, p its share
    date        the time as a number, and the time of day and the day of the week on circles

and one more dimension for "is missing" where a column has gaps in training. The scale of categories
is that of the chi-square distance: a column of K categories has the total variance 1 as a column of
numbers has, and to differ in a rare value weighs more. Values that were never seen have a place of
their own. Since each dimension belongs to one column, sums over dimensions are sums over columns.

Source: the chi-square distance: Greenacre, "Correspondence analysis in practice" (2017), chapter 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from suffuse.errors import SuffuseError

__all__ = ["Column", "Table", "TableError", "seconds", "spread"]

Floats = npt.NDArray[np.float64]

RARE = 0.01
"""Shares of categories below this one weigh as this one, so that no single value decides all."""
MOST_CATEGORIES = 200
UNSEEN = RARE**-0.5
"""The length of what never was in training: a value, or a gap."""
_DAY = 86400.0


class TableError(SuffuseError, ValueError):
    """A table that does not fit; also a ValueError, as scikit-learn's callers expect."""


@dataclass(frozen=True)
class Column:
    """A fitted column.

    Attributes:
        name: of the column.
        kind: what it is.
        centre, scale: of numbers and dates; the scale 0 is of a column that never held a value.
        values: the categories, as text, in the order of their dimensions.
        weights: the length of each category's dimension; the last is for unseen values.
        gaps: the length of the dimension "is missing"; 0 where training had no gaps.
    """

    name: str
    kind: Literal["number", "category", "date"]
    centre: float = 0.0
    scale: float = 1.0
    values: Sequence[str] = ()
    weights: Sequence[float] = ()
    gaps: float = 0.0

    @property
    def size(self) -> int:
        """How many dimensions it has."""
        own = {"number": 1, "date": 5, "category": len(self.values) + 1}[self.kind]
        return own + (self.gaps > 0)


@dataclass(frozen=True)
class Table:
    """A fitted encoder of tables: rows to numbers, and numbers of dimensions to columns."""

    columns: Sequence[Column]
    owner: npt.NDArray[np.intp] = field(init=False, repr=False, compare=False)
    """Of which column each dimension is, [D]."""
    first: npt.NDArray[np.intp] = field(init=False, repr=False, compare=False)
    """The first dimension of each column."""

    def __post_init__(self) -> None:
        sizes = [column.size for column in self.columns]
        object.__setattr__(self, "owner", np.repeat(np.arange(len(sizes)), sizes))
        object.__setattr__(self, "first", np.cumsum([0, *sizes[:-1]]))

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @classmethod
    def fit(cls, columns: Mapping[str, Any]) -> Table:
        """Measure the columns, arrays of numbers, dates or text (`suffuse_anomaly.columns`)."""
        return cls([_fitted(name, values) for name, values in columns.items()])

    def encode(self, columns: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """Rows [N, D] of about standardised numbers."""
        parts = [
            _encoded(column, values)
            for column, values in zip(self.columns, columns.values(), strict=True)
        ]
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def by_column(self, elements: npt.NDArray[Any]) -> Floats:
        """Sums over each column's dimensions: [N, D] to [N, columns]."""
        found = np.zeros((len(elements), len(self.columns)))
        np.add.at(found.T, self.owner, elements.T.astype(np.float64))
        return found

    def value(self, row: npt.NDArray[Any], i: int) -> Any:
        """What the column i of an encoded row [D] holds: a number, text, a date, or None."""
        column, block = self.columns[i], row[self.owner == i]
        if column.gaps and block[-1] > 0:
            return None
        if column.kind == "category":
            place = int(np.argmax(block[: len(column.values) + 1]))
            return column.values[place] if place < len(column.values) and block[place] else None
        number = float(block[0]) * column.scale + column.centre
        return pd.Timestamp(number, unit="s") if column.kind == "date" else number

    def to_json(self) -> list[dict[str, Any]]:
        """Plain values, from which `from_json` makes the same table."""
        return [asdict(column) for column in self.columns]

    @classmethod
    def from_json(cls, columns: Sequence[Mapping[str, Any]]) -> Table:
        return cls([Column(**column) for column in columns])


def _fitted(name: str, values: npt.NDArray[Any]) -> Column:
    gaps = pd.isna(values)
    if gaps.all():
        # Nothing is known of it but that it is missing: whatever it will hold is unusual.
        return Column(name, "number", scale=0.0, gaps=UNSEEN)
    share = float(gaps.mean())
    indicator = min(1 / np.sqrt(share * (1 - share)), UNSEEN) if share else 0.0
    known = values[~gaps]
    if values.dtype.kind == "M":
        centre, scale = spread(seconds(known), _DAY)
        return Column(name, "date", centre, scale, gaps=float(indicator))
    if values.dtype.kind == "f":
        if not np.isfinite(known).all():
            raise TableError(f"the column {name!r} holds inf; numbers must be finite or missing")
        centre, scale = spread(known, 0.05)
        return Column(name, "number", centre, scale, gaps=float(indicator))
    labels, counts = np.unique(known.astype(str), return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_CATEGORIES]
    labels, counts = labels[order], counts[order]
    shares = np.append(np.maximum(counts / len(known), RARE), RARE)
    weights = 1 / np.sqrt(shares * max(len(labels) - 1, 1))
    return Column(name, "category", 0, 1, labels.tolist(), weights.tolist(), float(indicator))


def spread(known: Floats, least: float) -> tuple[float, float]:
    """The median and the deviation of numbers [N].

    The scale of a constant is `least`, or that part of its size: what never varied stands out when
    it does.
    """
    with np.errstate(over="ignore"):
        centre, scale = float(np.median(known)), float(np.std(known))
    if not np.isfinite(centre):  # the mean of the middle two is beyond the largest number
        centre = 4 * float(np.median(known / 4))
    if not np.isfinite(scale):
        scale = float(np.std(known / np.abs(known).max()) * np.abs(known).max())
    if scale <= 1e-12 * abs(centre) or not scale:
        scale = least * min(abs(centre) or 1.0, 1.0)
    return centre, scale


def seconds(dates: npt.NDArray[Any]) -> Floats:
    """Dates as seconds since 1970, NaN where there is none."""
    found: Floats = (dates.astype("datetime64[us]") - np.datetime64(0, "us")) / np.timedelta64(
        1, "s"
    )
    return found


def _encoded(column: Column, values: npt.NDArray[Any]) -> Floats:
    kinds = {"M": "date", "f": "number", "O": "category"}
    gaps = pd.isna(values)
    given = kinds[values.dtype.kind]
    if not column.scale:
        out = np.zeros((len(values), column.size))
        out[~gaps, 0], out[gaps, -1] = UNSEEN, column.gaps
        return out
    if column.kind == "category" and given == "number":
        values, given = _as_text(values, gaps), "category"
    if given != column.kind and not gaps.all():
        known = pd.Series(values[~gaps])
        if (given, column.kind) == ("category", "number"):
            known = known[pd.to_numeric(known, errors="coerce").isna()]
        raise TableError(
            f"the column {column.name!r} held values of the kind {column.kind} in training, and "
            f"values of the kind {given} now; for instance {known.iloc[0]!r}"
        )
    out = np.zeros((len(values), column.size))
    rows = np.flatnonzero(~gaps)
    known = values[rows]
    if column.kind == "category" and len(rows):
        place = {value: i for i, value in enumerate(column.values)}
        at = np.array([place.get(str(v), len(place)) for v in known])
        out[rows, at] = np.asarray(column.weights)[at]
    elif len(rows):
        numbers = seconds(known) if column.kind == "date" else known.astype(np.float64)
        if not np.isfinite(numbers).all():
            raise TableError(
                f"the column {column.name!r} holds inf; numbers must be finite or missing (NaN)"
            )
        # float32 holds what follows; differences of numbers this far out are not told apart
        with np.errstate(over="ignore"):
            out[rows, 0] = np.clip((numbers - column.centre) / column.scale, -1e15, 1e15)
        if column.kind == "date":
            for i, period in enumerate((_DAY, 7 * _DAY)):
                angle = 2 * np.pi * (numbers / period)
                out[rows, 1 + 2 * i] = np.cos(angle)
                out[rows, 2 + 2 * i] = np.sin(angle)
    if column.gaps:
        out[gaps, -1] = column.gaps
    elif column.kind != "category":  # the zeros of a category are like no value already
        out[gaps, 0] = UNSEEN
    return out


def _as_text(values: Floats, gaps: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    texts = [
        None if g else repr(v).removesuffix(".0")
        for g, v in zip(gaps, values.tolist(), strict=True)
    ]
    return np.array(texts, object)
