"""Completing series: draws of what is missing, given the moments around it.

Windows of a series are vectors of W · C numbers, and what is missing of one is drawn given the rest
(`suffuse_anomaly.completion`), with windows of training as the examples. A gap is filled from the
middle of a window, so that it leans on both sides; one that is longer than half a window is filled
from its beginning on, each window given what this draw has filled before. So a draw is one
consistent series, and draws differ.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from suffuse_anomaly.completion import Completion
from suffuse_anomaly.series import Floats, on_grid, period
from suffuse_anomaly.table import TableError

__all__ = ["SeriesImputer"]

WIDEST = 96
"""The most numbers, moments times channels, of a window that is chosen here."""
MEAN_OF = 20
"""Draws of which `transform` is the mean."""


class SeriesImputer(TransformerMixin, BaseEstimator):
    """Fills the gaps of series, with as many different fillings as are wanted.

    Args:
        window: moments in a window; None for the period of the first channel, but at most 96
            numbers in a window, and 8 moments at least.
        n_imputations: how many completed series `impute` makes.
        random_state: of the draws.

    Attributes:
        window_: the length in use.

    >>> x = np.sin(np.arange(600) / 4)[:, None]
    >>> holed = x.copy()
    >>> holed[300:306] = np.nan
    >>> filled = SeriesImputer(random_state=0).fit(x).transform(holed)
    >>> bool(np.abs(filled - x).max() < 0.2)
    True
    """

    def __init__(
        self, window: int | None = None, *, n_imputations: int = 5, random_state: Any = None
    ) -> None:
        self.window = window
        self.n_imputations = n_imputations
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from a series [T] or [T, C], or a frame whose index may be times; with gaps."""
        for name in ("window", "n_imputations"):
            value = getattr(self, name)
            if (name, value) != ("window", None) and not (
                isinstance(value, int | np.integer) and value >= 1 + (name == "window")
            ):
                raise TableError(
                    f"{name} is a whole number, {1 + (name == 'window')} or more; given {value!r}"
                )
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        values = on_grid(X)[0]
        self._centre, deviation = np.nanmean(values, 0), np.nanstd(values, 0)
        self._scale = np.where(deviation > 0, deviation, 1.0)
        x = (values - self._centre) / self._scale
        self.n_features_in_ = x.shape[1]
        known = pd.Series(x[:, 0]).interpolate(limit_direction="both").to_numpy()
        widest = max(8, WIDEST // x.shape[1])
        self.window_ = int(self.window or min(max(8, period(known)), widest, len(x) // 4))
        if not 2 <= self.window_ <= len(x) // 2:
            raise TableError(
                f"a window has 2 moments or more, and at most half of the series' {len(x)}; given "
                f"{self.window_}"
            )
        view = np.lib.stride_tricks.sliding_window_view(x, self.window_, axis=0)
        windows = view.transpose(0, 2, 1).reshape(len(view), -1)
        windows = windows[~np.isnan(windows).all(1)]
        groups = np.arange(windows.shape[1]) // x.shape[1]
        self._completion = Completion.fit(windows, groups, np.random.default_rng(self._seed))
        return self

    def _completed(self, X: Any, draws: int) -> tuple[Floats, Floats, npt.NDArray[np.intp]]:
        """Draws of the series on its grid [draws, T, C], what is known, and places of moments."""
        check_is_fitted(self, "window_")
        values, places = on_grid(X)
        if values.shape[1] != self.n_features_in_:
            raise TableError(
                f"the imputer was fitted on {self.n_features_in_} channels; given {values.shape[1]}"
            )
        if len(values) < self.window_:
            raise TableError(
                f"the series has {len(values)} moments, and a window {self.window_}: give more"
            )
        x = (values - self._centre) / self._scale
        found = np.repeat(x[None], draws, 0)
        for n in range(draws):
            for start in self._windows(np.isnan(x).any(1)):
                part = found[n, start : start + self.window_]
                filled = self._completion.draw(part.ravel(), 1, self._seed + n)[0]
                part[:] = filled.reshape(part.shape)
        return found * self._scale + self._centre, values, places

    def _windows(self, gaps: npt.NDArray[np.bool_]) -> list[int]:
        """Where the windows begin that fill the gaps [T], in order."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], gaps.astype(int), [0]])))
        last, half, starts = len(gaps) - self.window_, self.window_ // 2, []
        for begin, end in edges.reshape(-1, 2):
            if end - begin <= half:
                middles = [(begin + end - self.window_) // 2]
            else:
                middles = [
                    *range(begin - half, end - self.window_ + 1, max(1, half)),
                    end - self.window_,
                ]
            starts += [int(np.clip(s, 0, last)) for s in middles]
        return starts

    def transform(self, X: Any) -> Floats:
        """X with its gaps filled by the mean of draws, [T, C]."""
        found, known, places = self._completed(X, MEAN_OF)
        return np.where(np.isnan(known), found.mean(0), known)[places]

    def impute(self, X: Any) -> list[Floats]:
        """`n_imputations` series like X [T, C], each completed by one draw."""
        found, known, places = self._completed(X, self.n_imputations)
        return [np.where(np.isnan(known), one, known)[places] for one in found]
