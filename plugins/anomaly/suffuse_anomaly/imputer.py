"""Completing tables: draws of what is missing, given what is there.

Columns of numbers are mapped to normal scores, categories to the dimensions of
`suffuse_anomaly.table`, and what is missing of these vectors is drawn
(`suffuse_anomaly.completion`); a category is that of the dimension that comes out largest. Nothing
is trained. Numbers that repeat, such as counts, grades, and 0 or 1, are drawn from the values that
were seen. What is drawn for a row depends on the seed and on what the row holds, so that it is the
same in any batch.
"""

from __future__ import annotations

import warnings
from os import PathLike
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from suffuse_anomaly import keeping
from suffuse_anomaly.columns import named, table_columns, without_values
from suffuse_anomaly.completion import Completion
from suffuse_anomaly.table import Table, TableError, seconds
from suffuse_anomaly.views import knots

__all__ = ["DiffusionImputer"]

Floats = npt.NDArray[np.float64]

FORMAT = 1
KIND = "anomaly/imputer"
REPEATS = 4
"""Numbers whose values occur so often on average are drawn from those values."""
MEAN_OF = 64
"""Draws of which `transform` is the mean."""


class DiffusionImputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Fills the gaps of tables, with as many different fillings as are wanted.

    Args:
        n_imputations: how many completed tables `impute` makes.
        random_state: of the draws.

    Attributes:
        sigma_: how far training rows are noised; 1 is linear regression.
        omega_: by how many posterior deviations draws are widened.
        n_features_in_, feature_names_in_: as in scikit-learn.

    >>> X = np.random.default_rng(0).normal(size=(300, 1)) * [[1, 2]]
    >>> imputer = DiffusionImputer(random_state=0).fit(X)
    >>> imputer.transform([[1.0, np.nan]]).round(1)
    array([[1., 2.]])
    """

    def __init__(self, n_imputations: int = 5, *, random_state: Any = None) -> None:
        self.n_imputations = n_imputations
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from rows X [N, F], which may have gaps; y is ignored.

        Raises:
            ValueError: for settings or tables that do not fit, or hold no value.

        Warns:
            UserWarning: of columns without a value: their gaps stay.
        """
        if not (isinstance(self.n_imputations, int | np.integer) and self.n_imputations >= 1):
            raise TableError(
                f"n_imputations is a whole number, 1 or more; given {self.n_imputations!r}"
            )
        columns = table_columns(self, X, reset=True)
        empty = without_values(columns)
        if empty:
            warnings.warn(f"{named(empty)} had no value in training: gaps there stay", stacklevel=2)
        random = check_random_state(self.random_state)
        self._seed = int(random.randint(2**31 - 1))
        self.table_ = Table.fit(columns)
        rng = np.random.default_rng(self._seed)
        self._knots = {
            i: knots(values[~np.isnan(values)])
            for i, values in enumerate(self._numbers(columns))
            if values is not None and not np.isnan(values).all()
        }
        self._repeated = {}
        for i in self._knots:
            known = self._numbers(columns)[i]
            seen, counts = np.unique(known[~np.isnan(known)], return_counts=True)
            if self.table_.columns[i].kind == "number" and counts.mean() >= REPEATS:
                self._repeated[i] = seen
        self._owner = _owner(self.table_)
        self._completion = Completion.fit(self._states(columns), self._owner, rng)
        self.sigma_, self.omega_ = self._completion.sigma, self._completion.omega
        return self

    # Columns and states

    def _numbers(self, columns: Any) -> list[Floats | None]:
        """The values of columns of numbers and dates as float64, None for categories."""
        found: list[Floats | None] = []
        for column, values in zip(self.table_.columns, columns.values(), strict=True):
            if column.kind == "date":
                found.append(seconds(values))
            else:
                found.append(values if column.kind == "number" else None)
        return found

    def _states(self, columns: Any) -> Floats:
        """Rows [N, D], NaN where a value is missing."""
        coded = self.table_.encode(columns).astype(np.float64)
        parts = []
        for i, (column, values) in enumerate(
            zip(self.table_.columns, self._numbers(columns), strict=True)
        ):
            if values is None:
                part = coded[:, self.table_.owner == i][:, : len(column.values)]
                gaps = pd.isna(list(columns.values())[i])
                part[gaps] = np.nan
            elif i in self._knots:
                x, z = self._knots[i]
                part = np.interp(values, x, z)[:, None]
            else:
                part = np.zeros((len(values), 1))
            parts.append(part)
        return np.concatenate(parts, 1)

    def _completed(self, X: Any, draws: int) -> tuple[dict[str, Any], list[npt.NDArray[Any]]]:
        """The columns of X, and for each of them what `draws` fillings hold, [draws, N]."""
        check_is_fitted(self, "sigma_")
        columns = table_columns(self, X, reset=False)
        rows = self._states(columns)
        states = np.stack([self._completion.draw(row, draws, self._seed) for row in rows], 1)
        filled = []
        for i, (column, values) in enumerate(
            zip(self.table_.columns, columns.values(), strict=True)
        ):
            own, gaps = states[:, :, self._owner == i], pd.isna(values)
            made = np.repeat(np.asarray(values)[None], draws, 0)
            if gaps.any() and column.scale:
                if column.kind == "category":
                    made[:, gaps] = np.array(column.values, object)[own.argmax(2)][:, gaps]
                else:
                    x, z = self._knots[i]
                    back = np.interp(own[:, gaps, 0], z, x)
                    if column.kind == "date":
                        back = (back * 1e6).astype("datetime64[us]")
                    elif i in self._repeated:
                        back = _nearest(back, self._repeated[i])
                    made[:, gaps] = back
            filled.append(made)
        return columns, filled

    def transform(self, X: Any) -> Any:
        """X [N, F] with its gaps filled: numbers by the mean of draws, categories by the commonest.

        Gaps stay in columns that had no value in training. An array of float64 where all columns
        are numbers, else of objects.
        """
        columns, filled = self._completed(X, MEAN_OF)
        joined = []
        for column, values, made in zip(self.table_.columns, columns.values(), filled, strict=True):
            if column.kind == "category":
                commonest = made[0].copy()
                for n in np.flatnonzero(pd.isna(values)):
                    commonest[n] = pd.Series(made[:, n]).mode().iloc[0]
                joined.append(commonest)
            elif column.kind == "date":
                mean, gaps = made[0].copy(), pd.isna(values)
                mean[gaps] = (seconds(made[:, gaps]).mean(0) * 1e6).astype("datetime64[us]")
                joined.append(mean)
            else:
                joined.append(made.mean(0) if column.scale else values)
        return self._table(joined)

    def impute(self, X: Any) -> list[Any]:
        """`n_imputations` tables like X, each completed by one draw."""
        _, filled = self._completed(X, self.n_imputations)
        return [self._table([made[k] for made in filled]) for k in range(self.n_imputations)]

    def save(self, path: str | PathLike[str]) -> None:
        """Write a directory: model.safetensors and config.json. It holds training rows."""
        check_is_fitted(self, "sigma_")
        tensors = self._completion.tensors()
        for i, (values, scores) in self._knots.items():
            tensors |= {f"knots.{i}": values, f"scores.{i}": scores}
        tensors |= {f"repeated.{i}": values for i, values in self._repeated.items()}
        own = self._completion.choice()
        keeping.save_tables(path, self, kind=KIND, version=FORMAT, tensors=tensors, own=own)

    @classmethod
    @keeping.whole
    def load(cls, path: str | PathLike[str]) -> Self:
        """The imputer in a directory; what it fills in is the same to the last bit.

        Raises:
            SuffuseError: where it is none, or of another format.
        """
        found, config, loaded = keeping.load_tables(cls, path, kind=KIND, version=FORMAT)
        tensors = {name: value.numpy() for name, value in loaded.items()}
        places = range(found.n_features_in_)
        found._knots = {
            i: (tensors[f"knots.{i}"], tensors[f"scores.{i}"])
            for i in places
            if f"knots.{i}" in tensors
        }
        found._repeated = {
            i: tensors[f"repeated.{i}"] for i in places if f"repeated.{i}" in tensors
        }
        found._owner = _owner(found.table_)
        found._completion = Completion.load(loaded, config)
        found.sigma_, found.omega_ = found._completion.sigma, found._completion.omega
        return found

    def _table(self, columns: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        if all(column.kind == "number" for column in self.table_.columns):
            return np.stack(columns, 1)
        return np.array([list(column) for column in columns], object).T


def _owner(table: Table) -> npt.NDArray[np.intp]:
    """Of which column each entry of a vector is."""
    sizes = [len(c.values) if c.kind == "category" else 1 for c in table.columns]
    return np.repeat(np.arange(len(sizes)), sizes)


def _nearest(x: Floats, values: Floats) -> Floats:
    """For each x the nearest of rising values."""
    if len(values) == 1:
        return np.full_like(x, values[0])
    return values[np.searchsorted((values[1:] + values[:-1]) / 2, x)]
