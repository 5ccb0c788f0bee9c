r"""Completing tables: draws of what is missing, given what is there.

Columns of numbers are mapped to normal scores, categories to the dimensions of
`suffuse_anomaly.table`; let S be the covariance of the rows so mapped (by expectation and
maximisation where there are gaps). Training rows x_i are noised with noise of that covariance,

    x = α x_i + σ ε,    ε normal with covariance S,    α² + σ² = 1

so that x keeps the covariance of the data. At σ = 1 this is one normal distribution, and completing
is linear regression; at small σ it is the training rows themselves, and completing is taking them
from similar rows. σ is chosen by the likelihood of entries that are hidden in training. Given the
entries o that are there, those missing, m, are drawn exactly:

    i   with the probability ∝ N(x_o; α x_i,o, σ² S_oo)
    x_m normal with the mean α x_i,m + G (x_o − α x_i,o), G = S_mo S_oo⁻¹,
        and the covariance σ² (S_mm − G S_om)

and a category is that of the dimension that comes out largest. Nothing is trained. What is drawn
for a row depends on the seed and on what the row holds, so that it is the same in any batch.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from suffuse.diffusion import Noise
from suffuse_anomaly.detector import table_columns
from suffuse_anomaly.table import Table, TableError
from suffuse_anomaly.views import knots

__all__ = ["DiffusionImputer"]

Floats = npt.NDArray[np.float64]

SIGMAS = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 0.95, 1.0)
DONORS = 2000
"""The most training rows that are drawn from."""
HIDDEN = 200
"""Training rows by which σ is chosen."""
MEAN_OF = 64
"""Draws of which `transform` is the mean."""


class DiffusionImputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Fills the gaps of tables, with as many different fillings as are wanted.

    Args:
        n_imputations: how many completed tables `impute` makes.
        random_state: of the draws.

    Attributes:
        sigma_: how far training rows are noised; 1 is linear regression.
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
        """Learn from rows X [N, F], which may have gaps; y is ignored."""
        if not (isinstance(self.n_imputations, int | np.integer) and self.n_imputations >= 1):
            raise TableError(
                f"n_imputations is a whole number, 1 or more; given {self.n_imputations!r}"
            )
        columns = table_columns(self, X, reset=True)
        random = check_random_state(self.random_state)
        self._seed = int(random.randint(2**31 - 1))
        self.table_ = Table.fit(columns)
        rng = np.random.default_rng(self._seed)
        self._knots = {
            i: knots(values[~np.isnan(values)])
            for i, values in enumerate(self._numbers(columns))
            if values is not None and not np.isnan(values).all()
        }
        sizes = [len(c.values) if c.kind == "category" else 1 for c in self.table_.columns]
        self._owner = np.repeat(np.arange(len(sizes)), sizes)
        Z = self._states(columns)
        Z = Z[rng.permutation(len(Z))[:DONORS]]
        self._mean, self._covariance, filled = _normal(Z, rng)
        self._donors = filled
        hidden = Z[: min(HIDDEN, len(Z))].copy()
        away = (rng.random((len(hidden), len(columns))) < 0.3)[:, self._owner]
        self.sigma_ = max(SIGMAS, key=lambda s: self._likelihood(hidden, away, s))
        return self

    # Columns and states

    def _numbers(self, columns: Any) -> list[Floats | None]:
        """The values of columns of numbers and dates as float64, None for categories."""
        found: list[Floats | None] = []
        for column, values in zip(self.table_.columns, columns.values(), strict=True):
            if column.kind == "date":
                stamp = (values - np.datetime64(0, "ns")) / np.timedelta64(1, "s")
                found.append(stamp.astype(np.float64))
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

    # Drawing

    def _posterior(self, row: Floats, away: npt.NDArray[np.bool_], sigma: float) -> Any:
        """log p(donor) [N], means [N, M] and covariance [M, M] of what is missing in a row."""
        alpha = np.sqrt(1 - sigma**2)
        o, m = ~away, away
        S, centres = self._covariance, alpha * (self._donors - self._mean)
        x = row - self._mean
        gap = x[o] - centres[:, o]
        if not o.any():
            uniform = np.full(len(centres), -np.log(len(centres)))
            return uniform, centres[:, m], sigma**2 * S[np.ix_(m, m)]
        factor = np.linalg.cholesky(S[np.ix_(o, o)])
        whitened = np.linalg.solve(factor, gap.T)
        log_p = -(whitened**2).sum(0) / (2 * sigma**2)
        gain = np.linalg.solve(factor, S[np.ix_(o, m)])
        means = centres[:, m] + whitened.T @ gain
        covariance = sigma**2 * (S[np.ix_(m, m)] - gain.T @ gain)
        return log_p - logsumexp(log_p), means, covariance

    def _likelihood(self, rows: Floats, away: npt.NDArray[np.bool_], sigma: float) -> float:
        """The mean log-density of hidden entries of training rows, each a row held out."""
        total = 0.0
        for i, row in enumerate(rows):
            hidden = away[i] & ~np.isnan(row)
            missing = hidden | np.isnan(row)
            if not hidden.any():
                continue
            log_p, means, covariance = self._posterior(row, missing, sigma)
            log_p = log_p.copy()
            log_p[i] = -np.inf
            at = hidden[missing]
            variance = np.maximum(np.diag(covariance)[at], 1e-4)
            gap = (row - self._mean)[hidden] - means[:, at]
            density = -(gap**2) / (2 * variance) - np.log(2 * np.pi * variance) / 2
            total += float((logsumexp(density + log_p[:, None], axis=0) - logsumexp(log_p)).sum())
        return total

    def _drawn(self, Z: Floats, draws: int) -> Floats:
        """Completed states, [draws, N, D]."""
        found = np.repeat(Z[None], draws, 0)
        for i, row in enumerate(Z):
            away = np.isnan(row)
            if not away.any():
                continue
            log_p, means, covariance = self._posterior(row, away, self.sigma_)
            key = pd.util.hash_array(np.nan_to_num(row, nan=1e300)).sum(dtype=np.uint64)
            noise = Noise([(int(key) ^ self._seed) % 2**63])
            u = noise.uniform((draws,), step=0, stream=0)[0].double().numpy()
            z = noise.normal((draws, int(away.sum())), step=1, stream=0, dtype=torch.float64)[0]
            chosen = np.minimum(np.searchsorted(np.cumsum(np.exp(log_p)), u), len(self._donors) - 1)
            v, U = np.linalg.eigh(covariance)
            spread = (z.numpy() * np.sqrt(np.maximum(v, 0))) @ U.T
            found[:, i, away] = self._mean[away] + means[chosen] + spread
        return found

    def _completed(self, X: Any, draws: int) -> tuple[dict[str, Any], list[npt.NDArray[Any]]]:
        """The columns of X, and for each of them what `draws` fillings hold, [draws, N]."""
        check_is_fitted(self, "sigma_")
        columns = table_columns(self, X, reset=False)
        states = self._drawn(self._states(columns), draws)
        filled = []
        for i, (column, values) in enumerate(
            zip(self.table_.columns, columns.values(), strict=True)
        ):
            own, gaps = states[:, :, self._owner == i], pd.isna(values)
            made = np.repeat(np.asarray(values)[None], draws, 0)
            if gaps.any():
                if column.kind == "category":
                    made[:, gaps] = np.array(column.values, object)[own.argmax(2)][:, gaps]
                else:
                    x, z = self._knots.get(i, (np.zeros(2), np.arange(2.0)))
                    back = np.interp(own[:, gaps, 0], z, x)
                    if column.kind == "date":
                        made[:, gaps] = (back * 1e9).astype("datetime64[ns]")
                    else:
                        made[:, gaps] = back
            filled.append(made)
        return columns, filled

    def transform(self, X: Any) -> Any:
        """X [N, F] with its gaps filled: numbers by the mean of draws, categories by the commonest.

        An array of float64 where all columns are numbers, else of objects.
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
                joined.append(made.astype("int64").mean(0).astype("int64").astype("datetime64[ns]"))
            else:
                joined.append(made.mean(0))
        return self._table(joined)

    def impute(self, X: Any) -> list[Any]:
        """`n_imputations` tables like X, each completed by one draw."""
        _, filled = self._completed(X, self.n_imputations)
        return [self._table([made[k] for made in filled]) for k in range(self.n_imputations)]

    def _table(self, columns: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        if all(column.kind == "number" for column in self.table_.columns):
            return np.stack(columns, 1)
        return np.array([list(column) for column in columns], object).T


def _normal(Z: Floats, rng: np.random.Generator, rounds: int = 20) -> tuple[Floats, Floats, Floats]:
    """Mean [D] and covariance [D, D] of rows with gaps, by expectation and maximisation.

    Covariances between columns are shrunk by D / (D + 4 n), n the rows that a pair of columns
    has on average. Returns the rows too, each gap filled by a draw given the rest of its row.
    """
    gaps = np.isnan(Z)
    mean = np.where(gaps.all(0), 0.0, np.nanmean(np.where(gaps.all(0), 0.0, Z), 0))
    filled = np.where(gaps, mean, Z)
    pairs = len(Z) * float(1 - gaps.mean()) ** 2
    shrink = Z.shape[1] / (Z.shape[1] + 4 * pairs)
    one = np.eye(Z.shape[1])

    def shrunk(S: Floats) -> Floats:
        return S * (1 - shrink + shrink * one) + 1e-3 * one

    covariance = shrunk(np.cov(filled.T, bias=True).reshape(one.shape))
    holed = np.flatnonzero(gaps.any(1))
    for k in range(rounds if len(holed) else 0):
        extra = np.zeros_like(covariance)
        for i in holed:
            m, o = gaps[i], ~gaps[i]
            if not o.any():
                extra[np.ix_(m, m)] += covariance[np.ix_(m, m)]
                filled[i] = mean
                continue
            gain = np.linalg.solve(covariance[np.ix_(o, o)], covariance[np.ix_(o, m)])
            left = covariance[np.ix_(m, m)] - covariance[np.ix_(m, o)] @ gain
            filled[i, m] = mean[m] + (Z[i, o] - mean[o]) @ gain
            extra[np.ix_(m, m)] += left
            if k == rounds - 1:
                filled[i, m] += rng.multivariate_normal(np.zeros(m.sum()), left, method="eigh")
        if k < rounds - 1:
            mean = filled.mean(0)
            centred = filled - mean
            covariance = shrunk((centred.T @ centred + extra) / len(Z))
    return mean, covariance, filled
