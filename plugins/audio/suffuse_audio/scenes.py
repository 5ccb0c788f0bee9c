"""Melodies, chords, drums, loops and weather, synthesised from what their captions say.

"a slow plucked melody in A minor" is that by construction: scale, instrument and tempo are drawn
first, and sound and caption made of them. A caption that names a mode without a note means A, since
the word "a" alone says nothing to a reader of prompts. With `recordings`, the sounds of ESC-10 are
there too, captioned by their kind ("dog", "sea waves").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, lfilter

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Example, Split
from suffuse_audio import corpora
from suffuse_audio.sound import Floats, Sound
from suffuse_audio.synthesis import INSTRUMENTS, adsr, frequency

__all__ = ["KEYS", "KINDS", "TEMPOS", "Scenes"]

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

KINDS = ("melody", "chords", "drums", "loop", "rain", "wind", "waves")
_WORDS = {name: "plucked" if name == "pluck" else name for name in INSTRUMENTS}


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


class _Scene:
    """One scene that is being made: what was drawn, and the samples so far."""

    def __init__(self, n: int, rate: int, random: np.random.Generator) -> None:
        self.n, self.rate, self.random = n, rate, random
        self.out = np.zeros(n)
        self.seconds = n / rate
        self.tempo = str(random.choice([*TEMPOS]))
        self.beat = 60 / (TEMPOS[self.tempo] * random.uniform(0.94, 1.06))
        self.key = str(random.choice([*KEYS]))
        self.instrument = str(random.choice([*INSTRUMENTS]))

    def note(self, step: int, at: float, length: float, instrument: str, octave: int = 0) -> None:
        """A note of the scale, `step` steps above the tonic."""
        tonic, scale = KEYS[self.key]
        number = tonic + 12 * (step // 7 + octave) + scale[step % 7]
        n = max(round(length * self.rate), 64)
        x = INSTRUMENTS[instrument](frequency(number), n, self.rate, self.random)
        _put(self.out, at, 0.5 * x / max(float(np.abs(x).max()), 1e-9), self.rate)

    def melody(self) -> str:
        step, at = int(self.random.integers(0, 8)), 0.0
        while at < self.seconds - 0.05:
            self.note(step, at, self.beat, self.instrument)
            step = int(np.clip(step + self.random.choice([-2, -1, -1, 1, 1, 2]), 0, 9))
            at += self.beat
        return f"a {self.tempo} {_WORDS[self.instrument]} melody in {self.key}"

    def chords(self) -> str:
        at, length = 0.0, 2 * self.beat
        while at < self.seconds - 0.05:
            root = int(self.random.choice([0, 3, 4, 5]))
            for third in (0, 2, 4):
                self.note(root + third, at, length, self.instrument)
            at += length
        return f"{self.tempo} {_WORDS[self.instrument]} chords in {self.key}"

    def beats(self, hats: bool) -> None:
        for k in range(int(self.seconds / self.beat * 2) + 1):
            at = k * self.beat / 2
            if k % 4 == 0 or (k % 8 == 5 and self.random.random() < 0.4):
                _put(self.out, at, _kick(self.rate, self.random), self.rate)
            if k % 4 == 2:
                _put(self.out, at, _snare(self.rate, self.random), self.rate)
            if hats:
                _put(self.out, at, _hat(self.rate, self.random), self.rate)

    def drums(self) -> str:
        hats = bool(self.random.random() < 0.5)
        self.beats(hats)
        return f"a {self.tempo} drum beat" + (" with hats" if hats else "")

    def loop(self) -> str:
        self.beats(True)
        bar = 4 * self.beat
        for k in range(int(self.seconds / bar) + 1):
            root = int(self.random.choice([0, 3, 4]))
            for beat in range(4):
                self.note(root, k * bar + beat * self.beat, 0.8 * self.beat, "pluck", -1)
        return f"a {self.tempo} drum loop with bass in {self.key}"

    def _noise(self, low: float, high: float) -> Doubles:
        b, a = butter(2, [2 * low / self.rate, 2 * high / self.rate], "band")
        x: Doubles = lfilter(b, a, self.random.standard_normal(self.n))
        return x / max(float(x.std()), 1e-9)

    def rain(self) -> str:
        self.out += 0.1 * self._noise(800, 0.45 * self.rate)
        for at in self.random.uniform(0, self.seconds, round(60 * self.seconds)):
            n = round(0.008 * self.rate)
            drop = self.random.standard_normal(n) * np.exp(-np.arange(n) / (0.2 * n))
            _put(self.out, at, 0.3 * self.random.random() * drop, self.rate)
        return "rain"

    def wind(self) -> str:
        centre = self.random.uniform(300, 600)
        t, phase = np.arange(self.n) / self.rate, self.random.uniform(0, 6.28)
        gusts = 1 + 0.7 * np.sin(2 * np.pi * self.random.uniform(0.3, 0.8) * t + phase)
        self.out += 0.2 * gusts * self._noise(0.7 * centre, 1.4 * centre)
        return "wind"

    def waves(self) -> str:
        t, phase = np.arange(self.n) / self.rate, self.random.uniform(0, 6.28)
        swell = np.exp(1.2 * np.sin(2 * np.pi * self.random.uniform(0.4, 0.6) * t + phase))
        self.out += 0.1 * swell * self._noise(100, 3000)
        return "sea waves"


class Scenes:
    """One split of synthesised scenes; scene i is a function of (split, i).

    Conditions: "prompt", a caption; and what it says: "kind", "tempo", "key" and "instrument",
    None where they do not apply.

    Args:
        split: "train" or "test".
        count: scenes of the training split; the test split has a tenth.
        rate: Hz.
        seconds: of each scene.
        recordings: take a third of the scenes from ESC-10, which SUFFUSE_DATA must hold; fold 4 is
            the test split's.
    """

    licence = "Apache-2.0 (synthesised); with recordings also CC BY 3.0 (ESC-10)"
    source = "scenes synthesised by suffuse-audio; with recordings also ESC-10 (K. J. Piczak)"

    def __init__(
        self,
        split: Split = "train",
        count: int = 3000,
        rate: int = 16000,
        seconds: float = 2.0,
        recordings: bool = False,
    ) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"split is 'train' or 'test', not {split!r}")
        if count < 20 or rate < 8000 or not 0.25 <= seconds <= 60:
            raise SuffuseError(
                "count is at least 20, rate at least 8000 Hz and seconds from 0.25 to 60; given "
                f"{count}, {rate} and {seconds:g}"
            )
        self.split, self.rate, self.seconds = split, rate, seconds
        self.count = count if split == "train" else count // 10
        clips = corpora.noises(rate) if recordings else ()
        self._clips = [clip for clip in clips if (clip.group == "4") == (split == "test")]
        self._heard = tuple(sorted({clip.label.replace("_", " ") for clip in clips}))

    @property
    def conditions(self) -> Mapping[str, Condition]:
        said = {"drum", "beat", "hats", "loop", "bass", "sea", *KINDS} - {"drums"}
        keys = [word for key in KEYS for word in key.split()]
        heard = [word for label in self._heard for word in label.split()]
        words = {w.casefold() for w in [*said, *keys, *heard, *TEMPOS, *_WORDS.values()]}
        return {
            "prompt": Condition("text", tuple(sorted(words - {"a"}))),
            "kind": Condition("category", (*KINDS, *(k for k in self._heard if k not in KINDS))),
            "tempo": Condition("category", tuple(TEMPOS)),
            "key": Condition("category", tuple(KEYS)),
            "instrument": Condition("category", tuple(_WORDS.values())),
        }

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        if not -self.count <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        index %= self.count
        random = np.random.Generator(np.random.Philox(key=[index, 5 + (self.split == "test")]))
        n = round(self.seconds * self.rate)
        if self._clips and random.random() < 1 / 3:
            clip = self._clips[int(random.integers(len(self._clips)))]
            label = clip.label.replace("_", " ")
            return Example(
                Sound(_levelled(_cut(clip.samples, n, random)), self.rate),
                {"prompt": label, "kind": label},
            )
        weights = np.array([4, 3, 2, 2, 1, 1, 1], dtype=float)
        kind = str(random.choice(KINDS, p=weights / weights.sum()))
        scene = _Scene(n, self.rate, random)
        make: Callable[[], str] = getattr(scene, kind)
        said: dict[str, Any] = {"prompt": make(), "kind": kind}
        if kind in ("melody", "chords", "drums", "loop"):
            said["tempo"] = scene.tempo
        if kind in ("melody", "chords", "loop"):
            said["key"] = scene.key
        if kind in ("melody", "chords"):
            said["instrument"] = _WORDS[scene.instrument]
        faded = scene.out * adsr(n, self.rate, 0.001, 1, 1, 0.02)
        return Example(Sound(_levelled(faded), self.rate), said)


def _cut(samples: Floats, n: int, random: np.random.Generator) -> Floats:
    """The loudest stretch of n samples, a little earlier or later."""
    if len(samples) <= n:
        return np.pad(samples, (0, n - len(samples)))
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    start = int(np.argmax(energy[n:] - energy[:-n])) + int(random.integers(-n // 8, n // 8))
    start = int(np.clip(start, 0, len(samples) - n))
    return samples[start : start + n]


def _levelled(x: npt.NDArray[Any]) -> Floats:
    """Brought to a root mean square of 0.1, or to a peak of 0.9 if that is less."""
    rms, peak = float(np.sqrt(np.mean(np.square(x)))), float(np.abs(x).max())
    out: Floats = (x * min(0.1 / max(rms, 1e-9), 0.9 / max(peak, 1e-9))).astype(np.float32)
    return out
