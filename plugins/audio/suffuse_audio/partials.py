r"""Notes as sinusoids and noise: states [K + B + 6, C] of one pitch and how loudness goes on.

A note of frequency f is taken apart as

    x(t) = E(t) Σ_k r_k(t) sin(2π k f t) + noise of band powers N_b(t),    k = 1 ... K, b = 1 ... B,

where Σ r_k² = 1. Shares r_k have a sign: partials of what is frequency-modulated go through zero,
and an amplitude alone would have a corner there. r_k, log E and log N_b are cubic splines, told by
their C coefficients. Knots are close to each other where notes begin and end, and a tenth of a
second apart between. Straight lines from knot to knot, or cubics with corners in their slope, are
rough enough to put energy between the harmonics 60 dB below them.

Coefficients are taken from near their knots alone, c_j = 2 s_j - Σ_i B_i(ξ_j) s_i with s_j the
value at Greville's abscissa ξ_j: those of least squares ring after the corner where an attack ends,
for a tenth of a second and more.

Partials are hardly ever rough: of shares and loudness a state has the same deviation in smooth and
in rough directions of time, so that what a model gets slightly wrong is made as small as roughness
is in real notes. The directions are those of the covariance of the coefficients, and states keep
their order in time (the symmetric root). The loudness of all has four times their deviation.

Partials are measured in short frames, and N_b in long ones, between the harmonics: what amplitudes
that change leave in short frames would pass for noise. The pitch is told three times, as
a height, as where it lies in its octave, and as where it lies between two semitones:
log2(f / 261.6 Hz), (cos, sin)(2π log2(f / 440 Hz)) and (cos, sin)(2π 12 log2(f / 440 Hz)). The
first need only be right to half an octave, the second to half a semitone. Phases are not kept.

Sources: Serra, Smith, "Spectral modeling synthesis" (1990), Computer Music Journal 14; de Boor, "A
practical guide to splines" (1978), on quasi-interpolants; Kessy, Lewin, Strimmer, "Optimal
whitening and decorrelation" (2018), The American Statistician 72.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.interpolate import BSpline, CubicSpline
from scipy.signal.windows import blackmanharris
from torch import Tensor

from suffuse.diffusion import operators
from suffuse.diffusion.observation import Observation
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset
from suffuse_audio import pitch, spectrum
from suffuse_audio.frames import Framed, few, finite, fitted
from suffuse_audio.sound import Floats, Sound

__all__ = ["Partials"]

Doubles = npt.NDArray[np.float64]

_WINDOW, _HOP = 0.032, 0.008  # seconds
_LOBE = 4  # bins from the middle of the window's spectrum to its first zero
_STEADY = 0.5  # the least coherence of a partial with itself, one window later
_LONG, _SIDE = 0.128, 5  # seconds of frames for noise; bins of these to each side of a harmonic
_FLOOR = -4.5  # log10 of the amplitude that counts as nothing
_TOP = 0.47  # of the rate: no partial lies above
_MIDDLE, _TUNING = 261.6, 440.0  # Hz
_TOLD = 5  # rows of the pitch
_FIT = 512  # at most so many notes are measured
_FIRST, _ATTACK = 0.012, 0.12  # seconds from knot to knot, as long as attacks last
_GROWTH, _LONGEST = 1.5, 0.11  # and after that
_RELEASE = (0.1, 0.06, 0.03, 0.0)  # seconds before the end
_LEAST, _ROUGH = 0.01, 0.001  # the least deviations: of rows, and of directions over the largest
_LOUD = 4  # deviation of the loudness in states
_SLACK = 0.03  # of a row's deviation: how exactly a continuation holds what is known


class Partials(Framed):
    """Encoder between notes and the loudness of their partials; float32 [K + B + 6, C].

    Rows: r_1 ... r_K, log10 E, log10 N_1 ... N_B, and five of the pitch. Sounds in which no pitch
    is found are all noise.

    Args:
        rate: Hz; sounds of other rates are resampled, and several channels averaged.
        seconds: the length of every sound: longer ones are cut, shorter ones are followed by
            silence.
        partials: K.
        bands: B, of equal width on the mel scale.
        basis: what coefficients are like, measured by `fit`: means [K + B + 1, C], deviations of
            rows [K + B + 1], and roots of the covariance in time [2, C, C], of shares and of the
            loudness; float32 in base 64.

    >>> Partials(rate=16000, seconds=1.0, partials=20, bands=8).shape
    (34, 26)
    """

    def __init__(
        self,
        rate: int = 16000,
        seconds: float = 1.0,
        partials: int = 40,
        bands: int = 12,
        basis: str | None = None,
    ) -> None:
        if min(rate, partials, bands) <= 0 or seconds < 0.05:
            raise SuffuseError(
                "rate, partials and bands of audio/partials are above 0, and seconds at least "
                f"0.05; given {rate}, {partials}, {bands} and {seconds:g}"
            )
        self.rate, self.seconds, self.partials, self.bands = rate, seconds, partials, bands
        self.window, self.hop = 2 * round(_WINDOW * rate / 2), max(round(_HOP * rate), 1)
        self.basis = basis
        knots = _knots(self.seconds)
        self._knots = np.concatenate([knots[:1].repeat(3), knots, knots[-1:].repeat(3)])
        self._columns = len(self._knots) - 4
        inner = np.lib.stride_tricks.sliding_window_view(self._knots[1:-1], 3)
        self._told_at: Doubles = inner.mean(1)  # Greville's abscissae, seconds
        again = BSpline.design_matrix(self._told_at, self._knots, 3).toarray()
        self._sharpen = 2 * np.eye(self._columns) - again.T

    @property
    def _top(self) -> float:
        """Hz above which there are no partials."""
        return _TOP * self.rate

    @property
    def _rows(self) -> int:
        """K + 1 + B, all but the pitch."""
        return self.partials + 1 + self.bands

    @property
    def _kinds(self) -> list[int]:
        """Which rows the loudness and the noise begin at."""
        return [self.partials, self.partials + 1]

    @property
    def shape(self) -> tuple[int, int]:
        """(K + B + 6, C) of one state."""
        return (self._rows + _TOLD, self._columns)

    def fit(self, dataset: Dataset) -> Mapping[str, Any]:
        """Means, deviations and roots of the covariance of at most 512 sounds of `dataset`."""
        if self.basis is None:
            found = np.stack([self._coefficients(sound)[1] for sound in few(dataset, _FIT)])
            means = found.mean(0)
            scales = np.maximum((found - means).std((0, 2)), _LEAST)
            whole = (found - means) / scales[:, None]
            shares, loudness, _ = np.split(whole, self._kinds, axis=1)
            roots = (_root(part.reshape(-1, self._columns)) for part in (shares, loudness / _LOUD))
            numbers = [means, scales, *roots]
            table = np.concatenate([k.ravel() for k in numbers]).astype(np.float32)
            self.basis = base64.b64encode(table.tobytes()).decode("ascii")
        return {"basis": self.basis}

    def encode(self, objects: Sequence[Sound]) -> Tensor:
        """States [B, K + B + 6, C], float32."""
        means, scales, roots = self._scale()
        states = []
        for sound in objects:
            whole = self._scaled(sound, means, scales)
            for root, part in zip(roots, self._parts(whole), strict=True):
                part[:] = np.linalg.solve(root, part.T).T
            states.append(whole)
        return torch.from_numpy(np.stack(states).astype(np.float32))

    def beginning(self, sound: Sound) -> Observation:
        """The first columns of shares and levels, in which each column of a state has a part.

        What is rough in a sound that is cut is far from any note, so that they need not be exact.
        """
        known = self._before(self._told_at * self.rate, sound)
        known[0] = True  # the first, as far as there is sound, of the shortest too
        means, scales, roots = self._scale()
        y = self._scaled(sound, means, scales, int(known.sum()))[:, known]
        maps = np.stack([np.eye(self._columns)] * len(y))
        for root, part in zip(roots, self._parts(maps), strict=True):
            part[:] = root.T
        operator = operators.rows(torch.from_numpy(maps[:, known].astype(np.float32)))
        return Observation(operator, torch.from_numpy(y[None].astype(np.float32)), _SLACK)

    def _scaled(
        self, sound: Sound, means: Doubles, scales: Doubles, known: int | None = None
    ) -> Doubles:
        """All rows [K + B + 6, C] but for the roots of their covariance."""
        f, found = self._coefficients(sound, known)
        turn = 2 * math.pi * math.log2(f / _TUNING)
        told = [math.log2(f / _MIDDLE), math.cos(turn), math.sin(turn)]
        told += [math.cos(12 * turn), math.sin(12 * turn)]
        of_pitch = np.repeat(np.array(told)[:, None], self._columns, axis=1)
        return np.concatenate([(found - means) / scales, of_pitch])

    def decode(self, x: Tensor) -> list[Sound]:
        """Sounds of one channel.

        Raises:
            SuffuseError: if a state holds NaN or infinity.
        """
        finite(x)
        means, scales, roots = self._scale()
        out = []
        for state in x.detach().cpu().double().numpy():
            whole = state[:-_TOLD].copy()
            for root, part in zip(roots, self._parts(whole), strict=True):
                part[:] = part @ root
            found = whole * scales + means
            out.append(Sound(self._sound(state[-_TOLD:].mean(1), found), self.rate))
        return out

    def _parts(self, whole: Doubles) -> tuple[Doubles, Doubles]:
        """Views of shares [K, ...] and of the loudness [1, ...] in all rows."""
        shares, loudness, _ = np.split(whole, self._kinds)
        return shares, loudness

    def _coefficients(self, sound: Sound, known: int | None = None) -> tuple[float, Doubles]:
        """Hz, and of shares and log10 of levels [K + 1 + B, C].

        After the first `known` columns, one or more, all stays as it was, where that is given.
        """
        f, shares, levels = self._tracks(sound)
        tracks = np.concatenate([shares, np.log10(levels + 10**_FLOOR)])
        times = np.arange(self.count) * self.hop / self.rate
        values = CubicSpline(times, tracks, axis=1)(self._told_at)
        if known is not None:
            values[:, known:] = values[:, [known - 1]]
        found: Doubles = values @ self._sharpen
        return f, found

    def _tracks(self, sound: Sound) -> tuple[float, Doubles, Doubles]:
        """Hz, shares [K, T], and amplitudes of all partials and of bands [1 + B, T]."""
        x = fitted(sound, self.rate, self.n).astype(np.float64)
        f = pitch.fundamental(Sound(x, self.rate))
        tones = np.zeros((self.partials, self.count))
        if math.isnan(f):
            f = math.inf  # all is noise
        else:
            tones = self._tones(x, f)
        loudness = np.sqrt((tones**2).sum(0, keepdims=True))
        levels = np.concatenate([loudness, self._noise(x, f)])
        return f if math.isfinite(f) else _MIDDLE, tones / (loudness + 10**_FLOOR), levels

    def _frames(self, x: Doubles, window: int) -> Doubles:
        """Stretches [T, window] of the sound [n] around each frame."""
        padded = np.pad(x, (window // 2, window))
        return np.lib.stride_tricks.sliding_window_view(padded, window)[:: self.hop][: self.count]

    def _tones(self, x: Doubles, f: float) -> Doubles:
        """Amplitudes [K, T] at the multiples of f, with signs; 0 beyond the band."""
        window = max(self.window, 2 * math.ceil(_LOBE / 2 * self.rate / f))  # no neighbour is heard
        w = blackmanharris(window, sym=False)
        parts = self._frames(x, window) * (2 * w / w.sum())
        k = np.arange(1, self.partials + 1)
        turn = 2 * math.pi * f / self.rate * k[:, None]
        found = np.exp(-1j * turn * np.arange(window)) @ parts.T
        found *= np.exp(-1j * turn * np.arange(self.count) * self.hop)
        found[k * f > self._top] = 0
        later = math.ceil(window / self.hop)
        again = found[:, later:] * found[:, :-later].conj()
        noise = again.real.sum(1) < _STEADY * np.abs(again).sum(1)
        found[noise] = 0  # which the bands tell
        # where the phase is turned round from frame to frame, the amplitude went through zero
        turned = (found[:, 1:] * found[:, :-1].conj()).real < 0
        sign = np.cumprod(np.where(turned, -1.0, 1.0), axis=1)
        tones: Doubles = np.abs(found) * np.pad(sign, ((0, 0), (1, 0)), constant_values=1.0)
        mostly = (tones * np.abs(tones)).sum(1, keepdims=True)
        return np.where(mostly < 0, -tones, tones)

    def _noise(self, x: Doubles, f: float) -> Doubles:
        """The noise of each band [B, T] between the multiples of f, as a deviation of samples."""
        window = 2 * round(_LONG * self.rate / 2)
        w = blackmanharris(window, sym=False)
        power = np.abs(np.fft.rfft(self._frames(x, window) * (w / np.sqrt((w**2).sum())))) ** 2
        at = np.fft.rfftfreq(window, 1 / self.rate)
        number = np.maximum(np.round(at / f), 1)
        tone = (number <= self.partials) & (number * f <= self._top)
        between = ~tone | (np.abs(at - number * f) > _SIDE * self.rate / window)
        bank = self._bank(window) * between
        found = np.sqrt(bank @ power.T / np.maximum(bank.sum(1, keepdims=True), 1e-9))
        # What begins or ends suddenly is in all bins of the long frames that hold it, and no noise.
        reach = window // 2 // self.hop
        near = np.pad(found, ((0, 0), (reach, reach)), "edge")
        views = np.stack([near[:, k * reach :][:, : self.count] for k in range(3)])
        least: Doubles = views.min(0)
        return least

    def _sum(self, f: float, shares: Doubles) -> Doubles:
        """Σ_k r_k(t) sin(2π k f t) of coefficients [K, C]; [n]."""
        times = np.arange(self.n) / self.rate
        x = np.zeros(self.n)
        for k, share in enumerate(shares, start=1):
            if k * f <= self._top:
                x += BSpline(self._knots, share, 3)(times) * np.sin(2 * math.pi * k * f * times)
        return x

    def _levels(self, coefficients: Doubles, times: Doubles) -> Doubles:
        """Amplitudes [L, N] at some times of coefficients [L, C] of their log10."""
        tracks = BSpline(self._knots, coefficients.T, 3)(times).T
        found: Doubles = np.maximum(10 ** np.minimum(tracks, 0.5) - 2 * 10**_FLOOR, 0)
        return found

    def _sound(self, told: Doubles, coefficients: Doubles) -> Floats:
        octaves = told[0] + math.log2(_MIDDLE / _TUNING)
        octaves = _nearest(octaves, math.atan2(told[2], told[1]))
        semitones = _nearest(12 * octaves, math.atan2(told[4], told[3]))
        f = min(max(_TUNING * 2 ** (semitones / 12), 20.0), 0.4 * self.rate)
        shares, loudness, noise = np.split(coefficients, self._kinds)
        x = self._sum(f, shares) * self._levels(loudness, np.arange(self.n) / self.rate)[0]
        # The same for all notes: a last bit that depends on the batch must not choose another.
        white = torch.from_numpy(np.random.default_rng(0).standard_normal(self.n))
        bank = self._bank(self.window)
        centres = bank @ np.arange(bank.shape[1]) / bank.sum(1)
        levels = self._levels(noise, np.arange(self.count) * self.hop / self.rate)
        gains = np.stack([np.interp(np.arange(bank.shape[1]), centres, k) for k in levels.T], 1)
        frames = spectrum.stft(white, self.window, self.hop) * torch.from_numpy(gains)
        x = x + spectrum.inverse(frames, self.window, self.hop, self.n).numpy()
        return x.astype(np.float32)

    def _bank(self, window: int) -> Doubles:
        """Weights [B, F] of the frequencies of a frame in each band."""
        from torchaudio.functional import melscale_fbanks

        bins = spectrum.bins(window)
        bank = melscale_fbanks(bins, 0.0, self.rate / 2, self.bands, self.rate, None, "htk")
        found: Doubles = bank.T.double().numpy()
        return found

    def _scale(self) -> tuple[Doubles, Doubles, Doubles]:
        """Means [K + 1 + B, C], deviations [K + 1 + B, 1] and roots [2, C, C]."""
        if self.basis is None:
            raise RuntimeError("this encoder has no basis yet: call fit, or give one")
        table = np.frombuffer(base64.b64decode(self.basis), dtype=np.float32).astype(np.float64)
        rows, columns = self._rows, self._columns
        means, scales, roots = np.split(table, [rows * columns, rows * columns + rows])
        return (
            means.reshape(rows, columns),
            scales[:, None],
            roots.reshape(2, columns, columns),
        )


def _nearest(value: float, angle: float) -> float:
    """What is nearest to the value of all that have that angle as their part of a whole."""
    part = angle / (2 * math.pi)
    return round(value - part) + part


def _root(x: Doubles) -> Doubles:
    """The symmetric root [C, C] of the covariance of rows [N, C], which have the mean 0."""
    power, directions = np.linalg.eigh(x.T @ x / len(x))
    deviations = np.sqrt(np.maximum(power, _ROUGH**2 * max(power[-1], 1e-2)))
    found: Doubles = (directions * deviations) @ directions.T
    return found


def _knots(seconds: float) -> Doubles:
    """Where pieces of the splines meet, in seconds, from 0 to the end."""
    at, step, found = 0.0, _FIRST, [0.0]
    while at + 1.3 * step < seconds - _RELEASE[0]:
        at += step
        found.append(at)
        if at >= _ATTACK:
            step = min(step * _GROWTH, _LONGEST)
    found += [seconds - before for before in _RELEASE]
    knots: Doubles = np.unique(np.maximum(found, 0))
    return knots
