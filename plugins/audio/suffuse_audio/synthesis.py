r"""Notes by formulas, with exact pitches: additive, frequency modulation, plucked strings.

Every instrument is a function (f0, seconds, rate, random) -> samples of [n], peak about 1, whose
partials lie at whole multiples of f0 (of the plucked string to within a cent).

Sources: Chowning, "The synthesis of complex audio spectra by means of frequency modulation" (1973),
JAES 21; Jaffe, Smith, "Extensions of the Karplus-Strong plucked-string algorithm" (1983), CMJ 7.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from suffuse.errors import SuffuseError
from suffuse_audio.sound import Floats

__all__ = ["INSTRUMENTS", "PITCHES", "adsr", "frequency", "midi", "name", "note"]

Doubles = npt.NDArray[np.float64]

_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_SHARPS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def name(number: int) -> str:
    """The name of a MIDI note, with sharps.

    >>> name(69), name(60)
    ('A4', 'C4')
    """
    return f"{_SHARPS[number % 12]}{number // 12 - 1}"


def midi(note: str) -> int:
    """The MIDI number of a note's name.

    >>> midi("A4"), midi("Bb3"), midi("C#5")
    (69, 58, 73)

    Raises:
        SuffuseError: for what is no name of a note.
    """
    found = re.fullmatch(r"([A-Ga-g])([#b]?)(-?\d)", note.strip())
    if not found:
        raise SuffuseError(f"{note!r} is no note: notes are named like C4, F#3 or Bb5")
    letter, sign, octave = found.groups()
    return _STEPS[letter.upper()] + {"#": 1, "b": -1, "": 0}[sign] + 12 * (int(octave) + 1)


def frequency(number: float) -> float:
    """Hz of a MIDI number, equal temperament on A4 = 440 Hz."""
    return 440.0 * 2 ** ((number - 69) / 12)


PITCHES = tuple(name(n) for n in range(48, 84))
"""C3 to B5."""


def adsr(n: int, rate: int, attack: float, decay: float, sustain: float, release: float) -> Doubles:
    """An envelope [n] from 0 to 1 to `sustain` to 0; times in seconds; it ends with the sound."""
    t = np.arange(n) / rate
    end = n / rate
    up = np.minimum(t / max(attack, 1e-4), 1)
    fall = sustain + (1 - sustain) * np.exp(-np.maximum(t - attack, 0) / max(decay, 1e-4))
    down = np.clip((end - t) / max(release, 1e-4), 0, 1)
    out: Doubles = up * fall * down
    return out


def _harmonics(f0: float, n: int, rate: int, weights: Doubles) -> Doubles:
    """Σ w_k sin(2π k f0 t), without what lies above half the rate."""
    t = np.arange(n) / rate
    out = np.zeros(n)
    for k, weight in enumerate(weights, start=1):
        if k * f0 < 0.48 * rate:
            out += weight * np.sin(2 * math.pi * k * f0 * t)
    return out


def _organ(f0: float, n: int, rate: int, random: np.random.Generator) -> Doubles:
    weights = np.array([1, 0.7, 0.1, 0.45, 0.05, 0.2, 0, 0.3]) * random.uniform(0.8, 1.2, 8)
    return _harmonics(f0, n, rate, weights) * adsr(n, rate, 0.02, 0.1, 0.95, 0.06)


def _flute(f0: float, n: int, rate: int, random: np.random.Generator) -> Doubles:
    weights = np.array([1, 0.25, 0.12, 0.03]) * random.uniform(0.7, 1.3, 4)
    breath = lfilter([0.1], [1, -0.9], random.standard_normal(n)) * random.uniform(0.02, 0.06)
    return (_harmonics(f0, n, rate, weights) + breath) * adsr(n, rate, 0.08, 0.2, 0.9, 0.1)


def _reed(f0: float, n: int, rate: int, random: np.random.Generator) -> Doubles:
    k = np.arange(1, 16)
    weights = np.where(k % 2, 1.0, 0.06) / k ** random.uniform(0.9, 1.2)
    return _harmonics(f0, n, rate, weights) * adsr(n, rate, 0.04, 0.1, 0.85, 0.07)


def _fm(f0: float, n: int, rate: int, ratio: float, index: Doubles) -> Doubles:
    """sin(2π f0 t + I(t) sin(2π ratio f0 t))."""
    phase = 2 * math.pi * f0 * np.arange(n) / rate
    out: Doubles = np.sin(phase + index * np.sin(ratio * phase))
    return out


def _brass(f0: float, n: int, rate: int, random: np.random.Generator) -> Doubles:
    shape = adsr(n, rate, 0.07, 0.15, 0.75, 0.1)
    index = random.uniform(2.5, 3.5) * shape * min(1.0, 0.2 * rate / (6 * f0))
    return _fm(f0, n, rate, 1, index) * shape


def _keys(f0: float, n: int, rate: int, random: np.random.Generator) -> Doubles:
    t = np.arange(n) / rate
    index = random.uniform(1.2, 1.8) * np.exp(-t / 0.15) * min(1.0, 0.2 * rate / (9 * f0))
    return _fm(f0, n, rate, 3, index) * adsr(n, rate, 0.004, 0.35, 0.05, 0.08)


def _pluck(f0: float, n: int, rate: int, random: np.random.Generator) -> Doubles:
    """Karplus-Strong: a noise burst through a delay line with a two-tap low pass and an allpass.

    The delay of the loop is rate / f0: whole samples, half a sample of the low pass, and the rest
    by the allpass, whose coefficient is set for the phase delay at f0 (Jaffe and Smith, eq. 16).
    """
    period = rate / f0
    whole = int(period - 0.5 - 0.1)
    rest = period - 0.5 - whole
    w = 2 * math.pi * f0 / rate
    c = math.sin((1 - rest) * w / 2) / math.sin((1 + rest) * w / 2)
    loss = 10 ** (-3 / (random.uniform(1.5, 2.5) * f0))
    burst = lfilter([1], [1, -random.uniform(0.2, 0.6)], random.uniform(-1, 1, whole))
    # y[k] = x[k] + loss · A(z) (1 + z⁻¹)/2 · z⁻ʷ y, A(z) = (c + z⁻¹)/(1 + c z⁻¹)
    feed = loss / 2 * np.convolve([1, 1], [c, 1])
    poles = np.zeros(whole + 3)
    poles[:2] += [1, c]
    poles[whole:] -= feed
    x = np.zeros(n)
    x[: min(whole, n)] = (burst - burst.mean())[:n]
    out = lfilter([1, c], poles, x)
    return out / max(float(np.abs(out).max()), 1e-9) * adsr(n, rate, 0.001, 1.0, 1.0, 0.05)


INSTRUMENTS: Mapping[str, Callable[[float, int, int, np.random.Generator], Doubles]] = {
    "organ": _organ,
    "flute": _flute,
    "reed": _reed,
    "brass": _brass,
    "keys": _keys,
    "pluck": _pluck,
}


def note(
    instrument: str, f0: float, seconds: float, rate: int, random: np.random.Generator
) -> Floats:
    """A note, float32 [seconds · rate], peak 0.5.

    Args:
        instrument: one of `INSTRUMENTS`.
        f0: Hz.
        random: what differs between notes of one kind.
    """
    x = INSTRUMENTS[instrument](f0, round(seconds * rate), rate, random)
    out: Floats = (0.5 * x / max(float(np.abs(x).max()), 1e-9)).astype(np.float32)
    return out
