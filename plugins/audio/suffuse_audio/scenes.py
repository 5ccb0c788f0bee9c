"""Captioned sounds: synthesised melodies, chords, drums, loops and weather, and recordings.

"a slow plucked melody in A minor" is that by construction: scale, instrument and tempo are drawn
first, and sound and caption made of them. A caption that names a mode without a note means A, since
the word "a" alone says nothing to a reader of prompts. In the training split some captions leave
out what they might say, and some say it in other words (`WORDS`), so that a prompt may do so too.
With `recordings`, the sounds of ESC-10 are there as well, captioned by their kind ("dog bark"), and
rain and sea waves are recordings alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import resample_poly

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Example, Split
from suffuse_audio import corpora
from suffuse_audio.arranging import KEYS, TEMPOS, Arrangement
from suffuse_audio.sound import Floats, Sound
from suffuse_audio.synthesis import INSTRUMENTS, adsr

__all__ = ["KINDS", "NAMES", "WORDS", "Scenes"]

KINDS: Mapping[str, float] = {
    "melody": 4,
    "chords": 3,
    "beat": 2,
    "loop": 2,
    "rain": 1,
    "wind": 1,
    "sea waves": 1,
}
"""What captions call them, and how often there is each of what is synthesised."""

NAMES = {name: "plucked" if name == "pluck" else name for name in INSTRUMENTS}
"""What captions call the instruments."""

WORDS: Mapping[str, str] = {
    "slow": "calm",
    "fast": "quick",
    "plucked": "guitar",
    "keys": "piano",
    "reed": "clarinet",
    "brass": "trumpet",
    "melody": "tune",
    "drum beat": "drums",
}
"""Other words that captions of the training split have for the same."""

_SPEEDS = (94, 96, 98, 100, 102, 104, 106)  # over 100: by so much a recording is stretched


class Scenes:
    """One split of captioned sounds; sound i is a function of (split, i).

    Conditions: "prompt", a caption; and what the sound is: "kind", "tempo", "key" and
    "instrument", None where they do not apply.

    Args:
        split: "train" or "test"; captions of the test split leave nothing out.
        count: sounds of the training split; the test split has a tenth.
        rate: Hz.
        seconds: of each sound.
        recordings: take two fifths of the sounds from ESC-10, which SUFFUSE_DATA must hold: fold 4
            for the test split, and for the training split the others, up to 6 % faster or slower.
    """

    licence = "Apache-2.0 (synthesised); with recordings also CC BY 3.0 (ESC-10)"
    source = "scenes synthesised by suffuse-audio; with recordings also ESC-10 (K. J. Piczak)"

    def __init__(
        self,
        split: Split = "train",
        count: int = 8000,
        rate: int = 16000,
        seconds: float = 3.0,
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
        self._heard = tuple(sorted({_kind(clip) for clip in clips}))
        self._clips = {
            kind: [c for c in clips if _kind(c) == kind and (c.group == "4") == (split == "test")]
            for kind in self._heard
        }

    @property
    def conditions(self) -> Mapping[str, Condition]:
        said = [*KINDS, *KEYS, *self._heard, *TEMPOS, *NAMES.values(), *WORDS.values()]
        words = {word for name in said for word in name.casefold().split()} - {"a"}
        return {
            "prompt": Condition("text", tuple(sorted({*words, "drum", "hats", "bass"}))),
            "kind": Condition("category", (*KINDS, *(k for k in self._heard if k not in KINDS))),
            "tempo": Condition("category", tuple(TEMPOS)),
            "key": Condition("category", tuple(KEYS)),
            "instrument": Condition("category", tuple(NAMES.values())),
        }

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        if not -self.count <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        index %= self.count
        random = np.random.Generator(np.random.Philox(key=[index, 5 + (self.split == "test")]))
        n = round(self.seconds * self.rate)
        if self._heard and random.random() < 0.4:
            kind = self._heard[int(random.integers(len(self._heard)))]
            samples = self._recording(kind, n, random)
            return Example(Sound(_levelled(samples), self.rate), {"prompt": kind, "kind": kind})
        kinds = {name: share for name, share in KINDS.items() if name not in self._heard}
        weights = np.array([*kinds.values()], dtype=float)
        kind = str(random.choice([*kinds], p=weights / weights.sum()))
        scene = Arrangement(n, self.rate, random)
        samples = scene.play(kind) * adsr(n, self.rate, 0.001, 1, 1, 0.02)
        said: dict[str, Any] = {"kind": kind}
        if kind in ("melody", "chords", "beat", "loop"):
            said["tempo"] = scene.tempo
        if kind in ("melody", "chords", "loop"):
            said["key"] = scene.key
        if kind in ("melody", "chords"):
            said["instrument"] = NAMES[scene.instrument]
        told = said if self.split == "test" else _some(said, random)
        prompt = _caption(told, scene.hats)
        if self.split == "train" and random.random() < 0.3:
            for word, other in WORDS.items():
                prompt = prompt.replace(word, other)
        return Example(Sound(_levelled(samples), self.rate), {"prompt": prompt, **said})

    def _recording(self, kind: str, n: int, random: np.random.Generator) -> Floats:
        clips = self._clips[kind]
        samples = clips[int(random.integers(len(clips)))].samples
        if self.split == "train":
            samples = resample_poly(samples, int(random.choice(_SPEEDS)), 100).astype(np.float32)
        return _cut(samples, n, random)


def _kind(clip: corpora.Recording) -> str:
    return clip.label.replace("_", " ")


def _some(said: Mapping[str, Any], random: np.random.Generator) -> Mapping[str, Any]:
    """What a caption says: the kind, and most of the rest."""
    return {k: v for k, v in said.items() if k == "kind" or random.random() < 0.88}


def _caption(said: Mapping[str, Any], hats: bool) -> str:
    """A caption of what is given of kind, tempo, key and instrument."""
    kind = said["kind"]
    if kind not in ("melody", "chords", "beat", "loop"):
        return str(kind)
    words = [] if kind == "chords" else ["a"]
    words += [str(said[name]) for name in ("tempo", "instrument") if name in said]
    words += ["drum", kind] if kind in ("beat", "loop") else [kind]
    if kind == "beat" and hats:
        words.append("with hats")
    if kind == "loop":
        words.append("with bass")
    if "key" in said:
        words.append(f"in {said['key']}")
    return " ".join(words)


def _cut(samples: Floats, n: int, random: np.random.Generator) -> Floats:
    """A stretch of n samples that is at least half as loud as the loudest, as power goes."""
    if len(samples) <= n:
        return np.pad(samples, (0, n - len(samples)))
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    held = energy[n:] - energy[:-n]
    start = int(random.choice(np.flatnonzero(held >= 0.5 * held.max())))
    return samples[start : start + n]


def _levelled(x: npt.NDArray[Any]) -> Floats:
    """Brought to a root mean square of 0.1, or to a peak of 0.9 if that is less."""
    rms, peak = float(np.sqrt(np.mean(np.square(x)))), float(np.abs(x).max())
    out: Floats = (x * min(0.1 / max(rms, 1e-9), 0.9 / max(peak, 1e-9))).astype(np.float32)
    return out
