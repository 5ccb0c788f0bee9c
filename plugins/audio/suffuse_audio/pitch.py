"""The pitch of a note, and how much of its energy lies off the harmonics.

Sources: de Cheveigné, Kawahara, "YIN, a fundamental frequency estimator for speech and music"
(2002), JASA 111, for the coarse value; the fine one is the strength-weighted mean of the partials'
frequencies over their numbers, each by parabolic interpolation.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.signal.windows import blackmanharris

from suffuse_audio.sound import Sound

__all__ = ["cents", "fundamental", "inharmonic"]

Doubles = npt.NDArray[np.float64]


def cents(f: float, reference: float) -> float:
    """How far f lies above a reference, in hundredths of a semitone."""
    return 1200 * math.log2(f / reference)


def _steady(sound: Sound, seconds: float = 0.4) -> Doubles:
    """The loudest stretch of the sound of so many seconds, as far as it is that long."""
    x = np.asarray(sound.mono, dtype=np.float64)
    n = min(round(seconds * sound.rate), len(x))
    if len(x) <= n:
        return x
    energy = np.concatenate([[0.0], np.cumsum(x**2)])
    start = int(np.argmax(energy[n:] - energy[:-n]))
    return x[start : start + n]


def fundamental(sound: Sound, low: float = 80.0, high: float = 1400.0) -> float:
    """Hz of the fundamental; NaN where there is none: silence, or noise.

    Args:
        sound: of one note.
        low, high: the range, Hz.
    """
    x = _steady(sound)
    n, rate = len(x), sound.rate
    longest = int(rate / low) + 2
    if n < 2 * longest or not np.isfinite(x).all() or x.std() < 1e-5:
        return math.nan
    size = n - longest
    # d(lag) = Σ (x_i − x_{i+lag})² over `size` samples
    squares = np.concatenate([[0.0], np.cumsum(x**2)])
    lags = np.arange(longest)
    length = 1 << (n + size).bit_length()
    spectra = np.fft.rfft(x, length), np.fft.rfft(x[:size], length)
    product = np.fft.irfft(spectra[0] * np.conj(spectra[1]), length)[:longest]
    d = squares[size] + (squares[lags + size] - squares[lags]) - 2 * product
    d = np.maximum(d, 0)
    running = np.cumsum(d[1:]) / np.arange(1, longest)
    ratio = np.concatenate([[1.0], d[1:] / np.maximum(running, 1e-12)])
    first = max(int(rate / high), 2)
    candidates = np.flatnonzero(ratio[first:-1] < 0.15) + first
    if len(candidates):
        lag = int(candidates[0])
        while lag + 1 < longest - 1 and ratio[lag + 1] < ratio[lag]:
            lag += 1
    else:
        lag = int(np.argmin(ratio[first:-1])) + first
        if ratio[lag] > 0.5:
            return math.nan
    a, b, c = ratio[lag - 1 : lag + 2]
    curve = a - 2 * b + c
    lag_fine = lag + (0.5 * (a - c) / curve if curve > 0 else 0.0)
    return _refined(x, rate, rate / lag_fine)


def _refined(x: Doubles, rate: int, coarse: float) -> float:
    """The mean of the first partials' frequencies over their numbers, weighted by strength."""
    window = np.hanning(len(x))
    size = 4 * (1 << len(x).bit_length())
    power = np.abs(np.fft.rfft(x * window, size))
    step = rate / size
    total = weights = 0.0
    for k in range(1, 9):
        around = max(int(0.03 * k * coarse / step), 2)
        centre = round(k * coarse / step)
        if centre + around + 2 >= len(power):
            break
        peak = centre - around + int(np.argmax(power[centre - around : centre + around + 1]))
        if peak in (centre - around, centre + around) or peak < 1:
            continue
        a, b, c = np.log(power[peak - 1 : peak + 2] + 1e-12)
        curve = a - 2 * b + c
        at = (peak + (0.5 * (a - c) / curve if curve < 0 else 0.0)) * step
        weight = float(power[peak] ** 2)
        total, weights = total + weight * at / k, weights + weight
    return total / weights if weights > 0 else coarse


def inharmonic(sound: Sound, f0: float, width: float = 0.03) -> float:
    """Energy further than `width` · f0 from every harmonic, over the whole, in dB.

    Measured on the loudest 0.4 s, with a window whose side lobes are 92 dB down.
    """
    x = _steady(sound)
    power = np.abs(np.fft.rfft(x * blackmanharris(len(x)))) ** 2
    f = np.fft.rfftfreq(len(x), 1 / sound.rate)
    reach = max(width * f0, 4 * sound.rate / len(x))
    away = np.abs(f - f0 * np.maximum(np.round(f / f0), 1)) > reach
    return float(10 * np.log10(max(power[away].sum(), 1e-20) / max(power.sum(), 1e-20)))
