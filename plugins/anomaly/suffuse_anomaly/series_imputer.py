"""Completing series: draws of what is missing, given the moments around it.

Windows of a series are vectors of W · C numbers, and what is missing of one is drawn given the rest
(`suffuse_anomaly.completion`), with windows of training as the examples. A gap is filled from the
middle of a window, so that it leans on both sides; one that is longer than half a window is filled
by quarters from its beginning on, each given what this draw has filled before. So a draw is one
consistent series, and draws differ. The level of a window may be one that was never seen: it is
taken from what is known of the window, as in ordinary kriging.
"""

from __future__ import annotations

from itertools import pairwise
from os import PathLike
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from suffuse_anomaly import keeping
from suffuse_anomaly.completion import Completion, numbers
from suffuse_anomaly.series import Floats, on_grid, period
from suffuse_anomaly.table import TableError

__all__ = ["SeriesImputer"]

FORMAT = 1
KIND = "anomaly/series-imputer"

WIDEST = 96
"""The most numbers, moments times channels, of a window that is chosen here."""
LEVEL = 10.0
"""How far the level of a window may lie from those seen: a variance, that of the series being 1."""
SHORTEST = 8
"""So many moments are needed, four times the shortest window."""
ENOUGH = 200
"""So many windows without gaps are enough to learn from them alone."""
MEAN_OF = 20
"""Draws over which `transform` averages."""


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
        if len(x) < SHORTEST:
            raise TableError(
                f"the series has {len(x)} moments, and {SHORTEST} or more are needed to fill gaps"
            )
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
        gaps = np.isnan(windows)
        whole = ~gaps.any(1)
        places = np.flatnonzero(whole if whole.sum() >= ENOUGH else ~gaps.all(1))
        groups = np.arange(windows.shape[1]) // x.shape[1]
        channel = np.arange(windows.shape[1]) % x.shape[1]
        level = LEVEL * (channel[:, None] == channel)
        rng = np.random.default_rng(self._seed)
        self._completion = Completion.fit(windows[places], groups, rng, places, self.window_, level)
        return self

    def _completed(self, X: Any, draws: int) -> tuple[Floats, Floats, Floats, npt.NDArray[np.intp]]:
        """The series on its grid [T, C], draws of it and the means that they are drawn about, both
        [draws, T, C], and the places of its moments."""
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
        means = found.copy()
        for start, begin, end in self._windows(np.isnan(x).any(1)):
            rows = found[:, start : start + self.window_].reshape(draws, -1)
            away = np.isnan(rows[0])
            drawn = self._completion.drawn(rows, away, *numbers(rows, self._seed))
            for made, told in ((found, drawn), (means, self._completion.expected(rows, away))):
                filled = rows.copy()
                filled[:, away] = told
                window = filled.reshape(draws, self.window_, -1)
                made[:, begin:end] = window[:, begin - start : end - start]
        return values, *(y * self._scale + self._centre for y in (found, means)), places

    def _windows(self, gaps: npt.NDArray[np.bool_]) -> list[tuple[int, int, int]]:
        """Windows' beginnings, with the moments of the gaps [T] that each fills, in order."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], gaps.astype(int), [0]])))
        found = []
        for begin, end in edges.reshape(-1, 2):
            pieces = 1
            if end - begin > self.window_ // 2:
                pieces = -(-(end - begin) // max(1, self.window_ // 4))
            cuts = np.linspace(begin, end, pieces + 1).astype(int)
            for b, e in pairwise(cuts):
                start = np.clip((b + e - self.window_) // 2, 0, len(gaps) - self.window_)
                found.append((int(start), int(b), int(e)))
        return found

    def transform(self, X: Any) -> Floats:
        """X with its gaps filled by their expectation, [T, C]."""
        known, _, means, places = self._completed(X, MEAN_OF)
        return np.where(np.isnan(known), means.mean(0), known)[places]

    def impute(self, X: Any) -> list[Floats]:
        """`n_imputations` series like X [T, C], each completed by one draw."""
        known, found, _, places = self._completed(X, self.n_imputations)
        return [np.where(np.isnan(known), one, known)[places] for one in found]

    def save(self, path: str | PathLike[str]) -> None:
        """Write a directory: model.safetensors and config.json. It holds windows of training."""
        check_is_fitted(self, "window_")
        scales = {"centre": self._centre, "scale": self._scale}
        own = {"seed": self._seed, "window": self.window_, "channels": self.n_features_in_}
        keeping.save(
            path,
            kind=KIND,
            version=FORMAT,
            settings=keeping.plain(self.get_params()),
            tensors=self._completion.tensors() | scales,
            own=own | self._completion.choice(),
        )

    @classmethod
    @keeping.whole
    def load(cls, path: str | PathLike[str]) -> Self:
        """The imputer in a directory; what it fills in is the same to the last bit.

        Raises:
            SuffuseError: where it is none, or of another format.
        """
        config, tensors = keeping.load(path, kind=KIND, version=FORMAT)
        found = cls(**config["settings"])
        found._seed, found.window_ = config["seed"], config["window"]
        found.n_features_in_ = config["channels"]
        found._centre, found._scale = tensors["centre"].numpy(), tensors["scale"].numpy()
        found._completion = Completion.load(tensors, config)
        return found
