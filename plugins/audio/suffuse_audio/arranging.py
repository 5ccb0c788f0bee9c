"""Scenes as sounds: melodies, chords, drum beats, loops with bass, and weather, by their formulas.

An `Arrangement` draws tempo, key and instrument first, and then plays one kind of scene by them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, lfilter

from suffuse_audio.synthesis import INSTRUMENTS, frequency

__all__ = ["KEYS", "TEMPOS", "Arrangement"]

Doubles = npt.NDArray[np.float64]

_MAJOR, _MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
KEYS: Mapping[str, tuple[int, tuple[int, ...]]] = {
    "A minor": (57, _MINOR),
    "D minor": (62, _MINOR),
    "C major": (60, _MAJOR),
    "G major": (55, _MAJOR),
}
"""The MIDI number of the lowest tonic, and the steps of the scale."""

TEMPOS: Mapping[str, float] = {"slow": 75.0, "fast": 150.0}
"""Beats a minute, give or take 6 %."""


def _kick(rate: int, random: np.random.Generator) -> Doubles:
    t = np.arange(round(0.25 * rate)) / rate
    sweep = 2 * np.pi * (50 * t + 70 * 0.03 * (1 - np.exp(-t / 0.03)))
    struck: Doubles = np.sin(sweep) * np.exp(-t / 0.07)
    return struck


def _snare(rate: int, random: np.random.Generator) -> Doubles:
    t = np.arange(round(0.2 * rate)) / rate
    noise = random.standard_normal(len(t)) * np.exp(-t / 0.05)
    struck: Doubles = 0.35 * noise + 0.5 * np.sin(2 * np.pi * 185 * t) * np.exp(-t / 0.04)
    return struck


def _hat(rate: int, random: np.random.Generator) -> Doubles:
    t = np.arange(round(0.06 * rate)) / rate
    b, a = butter(2, 0.6, "high")
    struck: Doubles = 0.35 * lfilter(b, a, random.standard_normal(len(t))) * np.exp(-t / 0.015)
    return struck


def _put(out: Doubles, at: float, part: Doubles, rate: int) -> None:
    """Add a part that begins at so many seconds; what lies beyond the end is cut."""
    start = round(at * rate)
    part = part[: max(len(out) - start, 0)]
    out[start : start + len(part)] += part


class Arrangement:
    """One scene that is being made: what was drawn, and the samples so far.

    Args:
        n: samples.
        rate: Hz.
        random: what everything is drawn from.

    Attributes:
        out: [n].
        tempo, key, instrument: keys of `TEMPOS`, `KEYS` and `INSTRUMENTS`.
        hats: whether beats have them.
    """

    def __init__(self, n: int, rate: int, random: np.random.Generator) -> None:
        self.n, self.rate, self.random = n, rate, random
        self.out = np.zeros(n)
        self.seconds = n / rate
        self.tempo = str(random.choice([*TEMPOS]))
        self.beat = 60 / (TEMPOS[self.tempo] * random.uniform(0.94, 1.06))
        self.key = str(random.choice([*KEYS]))
        self.instrument = str(random.choice([*INSTRUMENTS]))
        self.hats = bool(random.random() < 0.5)

    def play(self, kind: str) -> Doubles:
        """The samples [n] of a kind of scene, not brought to any loudness."""
        kinds: Mapping[str, Callable[[], None]] = {
            "melody": self.melody,
            "chords": self.chords,
            "beat": lambda: self.beats(self.hats),
            "loop": self.loop,
            "rain": self.rain,
            "wind": self.wind,
            "sea waves": self.waves,
        }
        kinds[kind]()
        return self.out

    def note(self, step: int, at: float, length: float, instrument: str, octave: int = 0) -> None:
        """A note of the scale, `step` steps above the tonic."""
        tonic, scale = KEYS[self.key]
        number = tonic + 12 * (step // 7 + octave) + scale[step % 7]
        n = max(round(length * self.rate), 64)
        x = INSTRUMENTS[instrument](frequency(number), n, self.rate, self.random)
        _put(self.out, at, 0.5 * x / max(float(np.abs(x).max()), 1e-9), self.rate)

    def melody(self) -> None:
        """A note a beat, by steps and thirds."""
        step, at = int(self.random.integers(0, 8)), 0.0
        while at < self.seconds - 0.05:
            self.note(step, at, self.beat, self.instrument)
            step = int(np.clip(step + self.random.choice([-2, -1, -1, 1, 1, 2]), 0, 9))
            at += self.beat

    def chords(self) -> None:
        """A triad on the first, fourth, fifth or sixth step every two beats."""
        at, length = 0.0, 2 * self.beat
        while at < self.seconds - 0.05:
            root = int(self.random.choice([0, 3, 4, 5]))
            for third in (0, 2, 4):
                self.note(root + third, at, length, self.instrument)
            at += length

    def beats(self, hats: bool) -> None:
        """Kick and snare in turn, on beats; hats on halves of them."""
        for k in range(int(self.seconds / self.beat * 2) + 1):
            at = k * self.beat / 2
            if k % 4 == 0 or (k % 8 == 5 and self.random.random() < 0.4):
                _put(self.out, at, _kick(self.rate, self.random), self.rate)
            if k % 4 == 2:
                _put(self.out, at, _snare(self.rate, self.random), self.rate)
            if hats:
                _put(self.out, at, _hat(self.rate, self.random), self.rate)

    def loop(self) -> None:
        """Drums, and a plucked bass that repeats one note a bar."""
        self.beats(True)
        bar = 4 * self.beat
        for k in range(int(self.seconds / bar) + 1):
            root = int(self.random.choice([0, 3, 4]))
            for beat in range(4):
                self.note(root, k * bar + beat * self.beat, 0.8 * self.beat, "pluck", -1)

    def _noise(self, low: float, high: float) -> Doubles:
        b, a = butter(2, [2 * low / self.rate, 2 * high / self.rate], "band")
        x: Doubles = lfilter(b, a, self.random.standard_normal(self.n))
        return x / max(float(x.std()), 1e-9)

    def rain(self) -> None:
        """A hiss, and sixty drops a second."""
        self.out += 0.1 * self._noise(800, 0.45 * self.rate)
        for at in self.random.uniform(0, self.seconds, round(60 * self.seconds)):
            n = round(0.008 * self.rate)
            drop = self.random.standard_normal(n) * np.exp(-np.arange(n) / (0.2 * n))
            _put(self.out, at, 0.3 * self.random.random() * drop, self.rate)

    def wind(self) -> None:
        """A narrow band of noise in gusts."""
        centre = self.random.uniform(300, 600)
        t, phase = np.arange(self.n) / self.rate, self.random.uniform(0, 6.28)
        gusts = 1 + 0.7 * np.sin(2 * np.pi * self.random.uniform(0.3, 0.8) * t + phase)
        self.out += 0.2 * gusts * self._noise(0.7 * centre, 1.4 * centre)

    def waves(self) -> None:
        """Broad noise that swells every two seconds."""
        t, phase = np.arange(self.n) / self.rate, self.random.uniform(0, 6.28)
        swell = np.exp(1.2 * np.sin(2 * np.pi * self.random.uniform(0.4, 0.6) * t + phase))
        self.out += 0.1 * swell * self._noise(100, 3000)
