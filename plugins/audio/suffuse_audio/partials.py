r"""Notes as sinusoids and noise: states [K + B + 5, C] of one pitch and how loudness goes on.

A note of frequency f is taken apart as

    x(t) = Σ_k A_k(t) sin(2π k f t) + noise of band powers N_b(t),        k = 1 ... K, b = 1 ... B.

log A_k and log N_b are cubic splines, told by their C coefficients. Knots are close to each other
where notes begin and end, and a tenth of a second apart between: what a model gets slightly wrong
is then a slow change of loudness, and no roughness, which is what frames one by one would make of
it. Straight lines from knot to knot, or cubics with corners in their slope, are rough enough to put
energy between the harmonics 60 dB below them.

A_k is measured in short frames, and N_b in long ones, between the harmonics: what amplitudes that
change leave in short frames would pass for noise. The pitch is told three times, as
a height, as where it lies in its octave, and as where it lies between two semitones:
log2(f / 261.6 Hz), (cos, sin)(2π log2(f / 440 Hz)) and (cos, sin)(2π 12 log2(f / 440 Hz)). The
first need only be right to half an octave, the second to half a semitone. Phases are not kept.

Sources: Serra, Smith, "Spectral modeling synthesis" (1990), Computer Music Journal 14; de Boor, "A
practical guide to splines" (1978).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.interpolate import BSpline, PchipInterpolator
from scipy.signal.windows import blackmanharris
from torch import Tensor

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset
from suffuse_audio import pitch, spectrum
from suffuse_audio.frames import Framed, few, finite, fitted
from suffuse_audio.sound import Floats, Sound

__all__ = ["Partials"]

Doubles = npt.NDArray[np.float64]

_WINDOW, _HOP = 0.032, 0.008  # seconds
_LONG, _SIDE = 0.128, 5  # seconds of frames for noise; bins of these to each side of a harmonic
_FLOOR = -4.5  # log10 of the amplitude that counts as nothing
_TOP = 0.47  # of the rate: no partial lies above
_MIDDLE, _TUNING = 261.6, 440.0  # Hz
_TOLD = 5  # rows of the pitch
_FIT = 512  # at most so many notes are measured
_FIRST, _GROWTH, _LONGEST = 0.008, 1.4, 0.11  # seconds from knot to knot
_RELEASE = (0.1, 0.06, 0.03, 0.0)  # seconds before the end


class Partials(Framed):
    """Encoder between notes and the loudness of their partials; float32 [K + B + 5, C].

    Sounds in which no pitch is found are all noise.

    Args:
        rate: Hz; sounds of other rates are resampled, and several channels averaged.
        seconds: the length of every sound: longer ones are cut, shorter ones are followed by
            silence.
        partials: K.
        bands: B, of equal width on the mel scale.
        basis: the means [K + B, C], measured by `fit`: float16 in base 64.
        std: the deviation from them; likewise.

    >>> Partials(rate=16000, seconds=1.0, partials=20, bands=8).shape
    (33, 20)
    """

    def __init__(
        self,
        rate: int = 16000,
        seconds: float = 1.0,
        partials: int = 40,
        bands: int = 12,
        basis: str | None = None,
        std: float | None = None,
    ) -> None:
        if min(rate, partials, bands) <= 0 or seconds < 0.05:
            raise SuffuseError(
                "rate, partials and bands of audio/partials are above 0, and seconds at least "
                f"0.05; given {rate}, {partials}, {bands} and {seconds:g}"
            )
        self.rate, self.seconds, self.partials, self.bands = rate, seconds, partials, bands
        self.window, self.hop = 2 * round(_WINDOW * rate / 2), max(round(_HOP * rate), 1)
        self.basis, self.std = basis, std
        knots = _knots(self.seconds, self.hop / self.rate)
        self._knots = np.concatenate([knots[:1].repeat(3), knots, knots[-1:].repeat(3)])
        at = np.arange(self.count, dtype=np.float64)
        self._up: Doubles = BSpline.design_matrix(at, self._knots, 3).toarray().T  # [C, T]
        self._down = np.linalg.pinv(self._up)  # the nearest spline's coefficients

    @cached_property
    def moments(self) -> npt.NDArray[np.intp]:
        """Which frames the columns of a state tell of most, [C] (Greville's abscissae)."""
        inner = np.lib.stride_tricks.sliding_window_view(self._knots[1:-1], 3)
        return np.rint(inner.mean(1)).astype(np.intp)

    @property
    def _top(self) -> float:
        """Hz above which there are no partials."""
        return _TOP * self.rate

    @property
    def shape(self) -> tuple[int, int]:
        """(K + B + 5, C) of one state."""
        return (self.partials + self.bands + _TOLD, len(self._up))

    def fit(self, dataset: Dataset) -> Mapping[str, Any]:
        """The means and the deviation of at most 512 sounds of `dataset`."""
        if self.basis is None or self.std is None:
            tracks = np.stack([self._tracks(sound)[1] @ self._down for sound in few(dataset, _FIT)])
            mean = tracks.mean(0)
            self.std = round(max(float((tracks - mean).std()), 1e-3), 6)
            self.basis = base64.b64encode(mean.astype(np.float16).tobytes()).decode("ascii")
        return {"basis": self.basis, "std": self.std}

    def encode(self, objects: Sequence[Sound]) -> Tensor:
        """States [B, K + B + 5, C], float32."""
        mean, std = self._scale()
        states = []
        for sound in objects:
            f, tracks = self._tracks(sound)
            turn = 2 * math.pi * math.log2(f / _TUNING)
            told = [math.log2(f / _MIDDLE), math.cos(turn), math.sin(turn)]
            told += [math.cos(12 * turn), math.sin(12 * turn)]
            rows = np.repeat(np.array(told)[:, None], len(self._up), axis=1)
            states.append(np.concatenate([(tracks @ self._down - mean) / std, rows]))
        return torch.from_numpy(np.stack(states).astype(np.float32))

    def decode(self, x: Tensor) -> list[Sound]:
        """Sounds of one channel.

        Raises:
            SuffuseError: if a state holds NaN or infinity.
        """
        finite(x)
        mean, std = self._scale()
        out = []
        for state in x.detach().cpu().double().numpy():
            tracks = (state[:-_TOLD] * std + mean) @ self._up
            out.append(Sound(self._sound(state[-_TOLD:].mean(1), tracks), self.rate))
        return out

    def _tracks(self, sound: Sound) -> tuple[float, Doubles]:
        """Hz, and log10 of amplitudes [K + B, T]."""
        x = fitted(sound, self.rate, self.n).astype(np.float64)
        f = pitch.fundamental(Sound(x, self.rate))
        tones = np.zeros((self.partials, self.count))
        if math.isnan(f):
            f = math.inf  # all is noise
        else:
            tones = self._tones(x, f)
        amplitudes = np.concatenate([tones, self._noise(x, f)])
        return f if math.isfinite(f) else _MIDDLE, np.log10(amplitudes + 10**_FLOOR)

    def _frames(self, x: Doubles, window: int) -> Doubles:
        """Stretches [T, window] of the sound [n] around each frame."""
        padded = np.pad(x, (window // 2, window))
        return np.lib.stride_tricks.sliding_window_view(padded, window)[:: self.hop][: self.count]

    def _tones(self, x: Doubles, f: float) -> Doubles:
        """Amplitudes [K, T] at the multiples of f; 0 beyond the band."""
        w = np.hanning(self.window + 1)[:-1]
        parts = self._frames(x, self.window) * (2 * w / w.sum())
        k = np.arange(1, self.partials + 1)
        turn = 2 * math.pi * f / self.rate * k[:, None]
        tones: Doubles = np.abs(np.exp(-1j * turn * np.arange(self.window)) @ parts.T)
        tones[k * f > self._top] = 0
        return tones

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

    def _sum(self, f: float, tones: Doubles) -> Doubles:
        """Σ_k of partials of amplitudes [K, T]; [n]."""
        kept = [k for k, track in enumerate(tones) if np.any(track) and (k + 1) * f <= self._top]
        if not kept:
            return np.zeros(self.n)
        turn = 2 * math.pi * f / self.rate * np.arange(self.n)
        angles = (np.array(kept)[:, None] + 1) * turn
        out: Doubles = (self._between(tones[kept]) * np.sin(angles)).sum(0)
        return out

    def _between(self, tracks: Doubles) -> Doubles:
        """[K, n] of [K, T], without overshoot."""
        at = np.arange(self.count) * self.hop
        out: Doubles = PchipInterpolator(at, tracks, axis=1)(np.arange(self.n))
        return out

    def _sound(self, told: Doubles, tracks: Doubles) -> Floats:
        octaves = told[0] + math.log2(_MIDDLE / _TUNING)
        octaves = _nearest(octaves, math.atan2(told[2], told[1]))
        semitones = _nearest(12 * octaves, math.atan2(told[4], told[3]))
        f = min(max(_TUNING * 2 ** (semitones / 12), 20.0), 0.4 * self.rate)
        amplitudes = np.maximum(10 ** np.minimum(tracks, 0.5) - 2 * 10**_FLOOR, 0)
        x = self._sum(f, amplitudes[: self.partials])
        # The same for all notes: a last bit that depends on the batch must not choose another.
        white = torch.from_numpy(np.random.default_rng(0).standard_normal(self.n))
        bank = self._bank(self.window)
        centres = bank @ np.arange(bank.shape[1]) / bank.sum(1)
        levels = amplitudes[self.partials :]
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

    def _scale(self) -> tuple[Doubles, float]:
        """The means [K + B, C] and the deviation."""
        if self.basis is None or self.std is None:
            raise RuntimeError("this encoder has no basis and std yet: call fit, or give them")
        table = np.frombuffer(base64.b64decode(self.basis), dtype=np.float16)
        return table.astype(np.float64).reshape(-1, len(self._up)), self.std


def _nearest(value: float, angle: float) -> float:
    """What is nearest to the value of all that have that angle as their part of a whole."""
    part = angle / (2 * math.pi)
    return round(value - part) + part


def _knots(seconds: float, hop: float) -> Doubles:
    """Where pieces of the splines meet, in frames, from 0 to the last."""
    at, step, found = 0.0, _FIRST, [0.0]
    while at + step < seconds - _RELEASE[0]:
        at, step = at + step, min(step * _GROWTH, _LONGEST)
        found.append(at)
    found += [seconds - before for before in _RELEASE]
    knots: Doubles = np.unique(np.rint(np.maximum(found, 0) / hop))
    return knots
