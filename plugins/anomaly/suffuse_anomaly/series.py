"""Series: which moments are unusual, by windows.

A series [T, C] of one or more channels is cut into overlapping windows; a window is a row of W · C
numbers, each channel standardised, and its score is diffusion time from neighbours
(`suffuse_anomaly.neighbours`): the mean log-distance to the nearest windows. Windows of the series
itself that overlap with it in time are no neighbours, else each would be its own; so too where what
is scored begins as the training series did. A moment's score is the mean over the windows that it
lies in; windows and moments are calibrated as in `suffuse_anomaly.detector`.

Irregular times are laid on a regular grid by straight lines; the scores come back at the given
times. Straight lines longer than a quarter of a window are gaps: a window that holds part of one is
not learned from, and does not count in the score of a moment that lies in another.
"""

from __future__ import annotations

import warnings
from os import PathLike
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.neighbors import NearestNeighbors

from suffuse.diffusion.scores import Calibration, calibrate
from suffuse_anomaly import decisions, keeping
from suffuse_anomaly.columns import named
from suffuse_anomaly.table import TableError, spread

__all__ = ["KIND", "SeriesDetector", "on_grid", "period"]

FORMAT = 2
KIND = "anomaly/series"

Floats = npt.NDArray[np.float64]

SHORTEST, LONGEST = 10, 400
FEWEST = 20
"""So many windows are needed to say what is usual."""
STILL = 0.05
"""The scale of a channel that never changes, if it is about 1 in size."""
SPARSE = 20
"""The most places of a grid for each moment that is given."""


class SeriesDetector:
    """Which moments of a series are unusual.

    Args:
        window: moments in a window; None for the period of the first channel (`period`).
        n_neighbors: how many windows a window is compared with.

    Attributes:
        window_: the length in use.

    >>> t = np.arange(2000)
    >>> x = np.sin(t / 8)
    >>> x[1500:1520] = 0
    >>> 1480 < SeriesDetector().fit(x).score(x).argmax() < 1540
    True
    """

    def __init__(self, window: int | None = None, *, n_neighbors: int = 5) -> None:
        self.window, self.n_neighbors = window, n_neighbors

    def fit(self, series: Any) -> Self:
        """Learn from a series: an array [T] or [T, C], or a frame whose index may be times."""
        for name in ("window", "n_neighbors"):
            value = getattr(self, name)
            if (name, value) != ("window", None) and not (
                isinstance(value, int | np.integer) and value >= 1
            ):
                raise TableError(f"{name} is a whole number, 1 or more; given {value!r}")
        values, times = _values(series)
        self.names_ = _names(series, values)
        still = np.flatnonzero(np.nanmax(values, 0) == np.nanmin(values, 0))
        if len(still):
            where = f" in {named([self.names_[i] for i in still])}"
            warnings.warn(
                f"the series never changes{where if len(still) < values.shape[1] else ''}: any "
                "change will be unusual",
                stacklevel=2,
            )
        self.step_ = float(np.median(np.diff(times)))
        values, grid = self._regular(values, times)
        usual = [spread(x, STILL) for x in values.T]
        self.centre_, self.scale_ = (np.array(one) for one in zip(*usual, strict=True))
        x = (values - self.centre_) / self.scale_
        if len(x) <= FEWEST:
            raise TableError(
                f"the series has {len(x)} moments, and more than {FEWEST} are needed to say what "
                "is usual"
            )
        self.window_ = self.window or min(period(x[:, 0]), max(len(x) // 10, 2))
        if not 2 <= self.window_ <= len(x) // 3:
            raise TableError(
                f"a window has 2 moments or more, and at most a third of the series' {len(x)}; "
                f"given {self.window_}"
            )
        if len(x) < self.window_ + FEWEST - 1:
            raise TableError(
                f"with windows of {self.window_} moments a series of {self.window_ + FEWEST - 1} "
                f"or more is needed to say what is usual; given {len(x)}"
            )
        self._fitted = x
        windows = self._windows(x)
        whole = self._whole(series, grid)
        starts = np.arange(0, len(windows), max(1, self.window_ // 4))
        whole = (
            whole
            if whole[starts].sum() >= 2 and whole.sum() >= FEWEST
            else np.ones(len(whole), bool)
        )
        self._search(windows, starts[whole[starts]])
        raw = self._raw(windows, len(windows))[0]
        self._usual = calibrate(torch.from_numpy(raw[whole, None]), "quantile")
        inside = np.convolve(whole, np.ones(self.window_)) > 0
        mean = self._moments(self._nats(raw), whole)[inside]
        self._last = calibrate(torch.from_numpy(mean[:, None]), "quantile")
        self.held_ = np.sort(self._last(torch.from_numpy(mean[:, None])).numpy())
        return self

    @property
    def threshold_(self) -> float:
        """The score above which a moment is an alarm: as one in a hundred of training is."""
        return decisions.by_tail(self.held_, 0.01, nats=True)

    def _search(self, windows: Floats, starts: npt.NDArray[np.intp]) -> None:
        """Make those of the windows that begin at `starts` the neighbours."""
        self._starts, self._near = starts, windows[starts]
        self._tree = NearestNeighbors().fit(self._near)

    def _windows(self, x: Floats) -> Floats:
        """Windows [N, W · C], one for each start."""
        view = np.lib.stride_tricks.sliding_window_view(x, self.window_, axis=0)
        return np.ascontiguousarray(view.transpose(0, 2, 1)).reshape(len(view), -1)

    def _regular(self, values: Floats, times: Floats) -> tuple[Floats, Floats]:
        """The series on a regular grid, gaps filled by straight lines, and the grid."""
        _check_span(times, self.step_)
        grid = np.arange(times[0], times[-1] + self.step_ / 2, self.step_)
        columns = []
        for column in values.T:
            known = np.isfinite(column)
            columns.append(np.interp(grid, times[known], column[known]))
        return np.stack(columns, 1), grid

    def _whole(self, series: Any, grid: Floats) -> npt.NDArray[np.bool_]:
        """Which windows of the grid hold no part of a gap, [N]."""
        values, times = _values(series)
        longest = self.step_ * (1.5 + max(2, self.window_ // 4))
        gap = np.zeros(len(grid), bool)
        for column in values.T:
            known = times[np.isfinite(column)]
            known = np.concatenate([[grid[0] - self.step_], known, [grid[-1] + self.step_]])
            after = np.clip(np.searchsorted(known, grid - self.step_ / 2), 1, len(known) - 1)
            away = np.minimum(grid - known[after - 1], known[after] - grid) > self.step_ / 2
            gap |= away & (known[after] - known[after - 1] > longest)
        return np.convolve(gap, np.ones(self.window_), "valid") == 0

    def _raw(self, windows: Floats, own: int) -> tuple[Floats, npt.NDArray[np.intp]]:
        """log σ of each window [N], and its neighbours [N, k]; the first `own` are training's."""
        step = max(1, self.window_ // 4)
        overlapping = 2 * ((self.window_ - 1) // step) + 1
        k = min(self.n_neighbors, max(1, len(self._near) - overlapping))
        asked = min(k + overlapping, len(self._near))
        distance, index = self._tree.kneighbors(windows, asked)
        places = np.where(np.arange(len(windows)) < own, np.arange(len(windows)), -np.inf)
        apart = np.abs(self._starts[index] - places[:, None]) >= self.window_
        order = np.argsort(~apart, axis=1, kind="stable")[:, :k]
        distance = np.take_along_axis(distance, order, 1)
        index = np.take_along_axis(index, order, 1)
        return np.log(np.maximum(distance, 1e-6)).mean(1), index

    def _nats(self, raw: Floats) -> Floats:
        found: Floats = self._usual(torch.from_numpy(raw[:, None])).numpy()
        return found

    def _moments(self, scores: Floats, whole: npt.NDArray[np.bool_]) -> Floats:
        """The mean score of the whole windows that each moment lies in, of all if none is; [T]."""
        ones = np.ones(self.window_)
        every = np.convolve(scores, ones) / np.convolve(np.ones(len(scores)), ones)
        count = np.convolve(whole, ones)
        inside = np.convolve(np.where(whole, scores, 0), ones) / np.maximum(count, 1)
        return np.where(count > 0.5, inside, every)

    def _scored(self, series: Any) -> _Scored:
        if not hasattr(self, "held_"):
            raise TableError("the detector has learned nothing yet: call fit(series)")
        values, times = _values(series)
        if values.shape[1] != len(self.centre_):
            raise TableError(
                f"the detector was fitted on {len(self.centre_)} channels; given {values.shape[1]}"
            )
        if len(values) < self.window_:
            raise TableError(
                f"the series has {len(values)} moments, and a window {self.window_}: give more"
            )
        values, grid = self._regular(values, times)
        x = (values - self.centre_) / self.scale_
        n = min(len(x), len(self._fitted))
        same = (x[:n] == self._fitted[:n]).all(1)
        alike = n if same.all() else int(same.argmin())
        windows = self._windows(x)
        raw, index = self._raw(windows, alike - self.window_ + 1)
        return _Scored(self._nats(raw), windows, index, self._whole(series, grid), grid, times)

    def score(self, series: Any) -> Floats:
        """How unusual each moment is, in nats, [T]; higher is more unusual."""
        one = self._scored(series)
        mean = np.interp(one.times, one.grid, self._moments(one.nats, one.whole))
        return self._last(torch.from_numpy(mean[:, None])).numpy()

    def p_values(self, series: Any) -> Floats:
        """The rank of each moment's score among those of training, [T].

        Neighbouring moments share windows, so that these are not independent.
        """
        return decisions.p_values(self.score(series), self.held_)

    def explain(self, series: Any) -> pd.DataFrame:
        """What each channel adds to the score of each moment; a row sums to the score."""
        one, channels = self._scored(series), len(self.centre_)
        gaps = np.zeros((len(one.windows), channels))
        for j in range(one.index.shape[1]):
            squares = (one.windows - self._near[one.index[:, j]]) ** 2
            gaps += squares.reshape(len(squares), -1, channels).sum(1)
        total = gaps.sum(1, keepdims=True)
        shares = np.where(total > 0, gaps / np.where(total > 0, total, 1), 1 / channels)
        parts = [
            np.interp(one.times, one.grid, self._moments(one.nats * share, one.whole))
            for share in shares.T
        ]
        added = np.stack(parts, 1)
        mean = added.sum(1)
        nats = self._last(torch.from_numpy(mean[:, None])).numpy()
        scale = np.divide(nats, mean, out=np.ones_like(mean), where=mean > 0)
        return pd.DataFrame(added * scale[:, None], columns=self.names_)

    def save(self, path: str | PathLike[str]) -> None:
        """Write a directory: model.safetensors and config.json. It holds the training series."""
        if not hasattr(self, "held_"):
            raise TableError("the detector has learned nothing yet: call fit(series)")
        keeping.save(
            path,
            kind=KIND,
            version=FORMAT,
            settings=keeping.plain({"window": self.window, "n_neighbors": self.n_neighbors}),
            tensors={
                "centre": self.centre_,
                "scale": self.scale_,
                "fitted": self._fitted,
                "starts": self._starts,
                "usual": self._usual.table,
                "last": self._last.table,
                "held": self.held_,
            },
            own={"names": self.names_, "step": self.step_, "window": int(self.window_)},
        )

    @classmethod
    @keeping.whole
    def load(cls, path: str | PathLike[str]) -> Self:
        """The detector in a directory; its scores are the same to the last bit.

        Raises:
            SuffuseError: where it is none, or of another format.
        """
        config, tensors = keeping.load(path, kind=KIND, version=FORMAT)
        found, arrays = cls(**config["settings"]), {k: v.numpy() for k, v in tensors.items()}
        found.names_, found.step_, found.window_ = (
            config["names"],
            config["step"],
            config["window"],
        )
        found.centre_, found.scale_ = arrays["centre"], arrays["scale"]
        found._fitted, found.held_ = arrays["fitted"], arrays["held"]
        found._search(found._windows(found._fitted), arrays["starts"])
        found._usual = Calibration("quantile", tensors["usual"])
        found._last = Calibration("quantile", tensors["last"])
        return found


class _Scored(NamedTuple):
    """The windows of a series: their scores [N], numbers [N, W · C], neighbours [N, k], and which
    hold no gap [N]; the grid, and the times of the moments."""

    nats: Floats
    windows: Floats
    index: npt.NDArray[np.intp]
    whole: npt.NDArray[np.bool_]
    grid: Floats
    times: Floats


def period(x: Floats) -> int:
    """The lag, 10 to 400 moments, of the highest peak of a series' autocorrelation; 100 for none.

    Peaks count once the autocorrelation has been below 0: before that they are noise on the way
    down from lag 0.

    >>> period(np.sin(np.arange(1000) * 2 * np.pi / 24))
    24
    """
    centred, n = x - x.mean(), len(x)
    power = np.abs(np.fft.rfft(centred, 2 * n)) ** 2
    lags = np.fft.irfft(power)[: min(LONGEST, n // 3) + 2]
    down = int(np.argmax(lags < 0)) if (lags < 0).any() else len(lags)
    inner = np.arange(max(SHORTEST, down), len(lags) - 1)
    peaks = inner[(lags[inner] > lags[inner - 1]) & (lags[inner] > lags[inner + 1])]
    return int(peaks[np.argmax(lags[peaks])]) if len(peaks) else min(100, n // 3)


def on_grid(series: Any) -> tuple[Floats, npt.NDArray[np.intp]]:
    """A series on a regular grid, [T, C], NaN where it has no value, and the place of each moment.

    The step of the grid is the median step; a moment takes the nearest place.

    Raises:
        TableError: where it is no series, or a step is so short that two moments share a place.
    """
    values, times = _values(series)
    step = float(np.median(np.diff(times)))
    _check_span(times, step)
    places = np.rint((times - times[0]) / step).astype(np.intp)
    if (np.diff(places) == 0).any():
        raise TableError(
            "two moments of the series are closer than half of its usual step: average them first"
        )
    grid = np.full((places[-1] + 1, values.shape[1]), np.nan)
    grid[places] = values
    return grid, places


def _check_span(times: Floats, step: float) -> None:
    span = (times[-1] - times[0]) / step
    if span > SPARSE * len(times):
        raise TableError(
            f"the series spans {span:.3g} of its usual step of {step:.3g} s, and has "
            f"{len(times)} moments: take means over regular steps, or one part at a time"
        )


def _names(series: Any, values: Floats) -> list[str]:
    """Of the channels: those of a frame's columns, else their places."""
    return [str(name) for name in getattr(series, "columns", range(values.shape[1]))]


def _values(series: Any) -> tuple[Floats, Floats]:
    """Values [T, C] and times [T], in seconds or in places."""
    index = getattr(series, "index", None)
    try:
        values = np.asarray(series, np.float64)
    except (TypeError, ValueError):
        raise TableError(
            "a series is numbers, as an array [T] or [T, C] or a frame of such columns; given "
            f"{type(series).__name__} with values that are none"
        ) from None
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) < 3:
        raise TableError(
            f"a series is an array [T] or [T, C] of 3 moments or more; given {list(values.shape)}"
        )
    if np.isinf(values).any():
        raise TableError("the series holds inf; numbers must be finite or missing")
    empty = np.isnan(values).all(0)
    if empty.any():
        names = [name for name, none in zip(_names(series, values), empty, strict=True) if none]
        raise TableError(f"the series holds no number in {named(names)}: leave out what is empty")
    if not isinstance(index, pd.DatetimeIndex):
        return values, np.arange(len(values), dtype=np.float64)
    times = (index - index[0]) / pd.Timedelta(1, "s")
    if not (np.diff(times) > 0).all():
        raise TableError("the times of the series do not rise; sort them and drop repeated ones")
    return values, np.asarray(times, np.float64)
