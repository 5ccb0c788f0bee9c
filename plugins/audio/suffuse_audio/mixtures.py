"""Noisy speech with its clean original: spoken digits in environmental noise.

The speech is strings of digits of one speaker with short pauses, the noise one clip. `SPEAKER` and
`FOLD` are in the test split alone: no voice and no noise of it is trained on. Mixture i of a split
is a function of (split, i).

Choices are made without the test split, on "validation": another speaker and another fold, which
models trained on "fitting", the training split without them, have not heard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.signal import lfilter, resample_poly

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Example, Split
from suffuse_audio import corpora
from suffuse_audio.corpora import Recording
from suffuse_audio.sound import Floats, Sound

__all__ = ["FOLD", "SPEAKER", "Mixture", "NoisySpeech", "mix"]

RATE = 8000
SPEAKER, VALIDATION_SPEAKER = "theo", "nicolas"
FOLD, VALIDATION_FOLD = "4", "3"

Part = Literal["train", "test", "fitting", "validation"]
_SPEEDS = (17, 18, 19, 20, 21, 22, 23, 24)  # over 20: by so much a clip is stretched


@dataclass(frozen=True, eq=False)
class Mixture:
    """Speech and noise [n] at 8 kHz, with what was said."""

    clean: Floats
    noise: Floats
    digits: tuple[str, ...]

    @property
    def noisy(self) -> Floats:
        """Their sum."""
        both: Floats = self.clean + self.noise
        return both


def mix(split: Part, seed: int, seconds: float, snr: float, *, stretch: bool = False) -> Mixture:
    """A string of digits in noise.

    Args:
        split: whose voices and noises; "test" takes only the official test clips.
        seed: of all that is random.
        seconds: how long; the string is cut there.
        snr: power of the speech over that of the noise, pauses included, dB.
        stretch: whether clips are resampled by up to 20 % each way, which changes voices.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, split == "test"]))
    voices, sounds = _parts(split)
    names = sorted(voices)
    clips = voices[names[int(random.integers(len(names)))]]
    speed = int(random.choice(_SPEEDS)) if stretch else 20
    n = round(seconds * RATE)
    clean = np.zeros(n, dtype=np.float32)
    at, said = int(random.uniform(0.0, 0.3) * RATE), []
    while at < n:
        clip = clips[int(random.integers(len(clips)))]
        voice = clip.samples if speed == 20 else resample_poly(clip.samples, speed, 20)
        part = voice[: n - at]
        clean[at : at + len(part)] += part
        if len(part) == len(voice):
            said.append(clip.label)
        at += len(voice) + int(random.uniform(0.03, 0.3) * RATE)
    noise = _noise(sounds, n, random)
    if stretch and random.random() < 0.25:
        noise = noise + _coloured(n, random) * np.std(noise)
    wanted = float(np.sqrt(np.mean(clean**2))) * 10 ** (-snr / 20)
    noise = noise * np.float32(wanted / max(float(np.sqrt(np.mean(noise**2))), 1e-9))
    return Mixture(clean, noise.astype(np.float32), tuple(said))


def _parts(split: Part) -> tuple[dict[str, list[Recording]], list[Recording]]:
    def belongs(group: str, test: str, validation: str) -> bool:
        if split == "test":
            return group == test
        if split == "validation":
            return group == validation
        return group != test and (split == "train" or group != validation)

    voices: dict[str, list[Recording]] = {}
    for clip in corpora.digits():
        here = belongs(clip.group, SPEAKER, VALIDATION_SPEAKER)
        if here and (clip.index < 5 or split != "test"):
            voices.setdefault(clip.group, []).append(clip)
    return voices, [clip for clip in corpora.noises() if belongs(clip.group, FOLD, VALIDATION_FOLD)]


def _noise(sounds: list[Recording], n: int, random: np.random.Generator) -> Floats:
    """A part of a clip, repeated where it is too short; one in which there is something."""
    while True:
        clip = sounds[int(random.integers(len(sounds)))].samples
        start = int(random.integers(len(clip)))
        part = np.take(clip, np.arange(start, start + n), mode="wrap")
        if np.sqrt(np.mean(part**2)) > 1e-3:
            found: Floats = part
            return found


def _coloured(n: int, random: np.random.Generator) -> Floats:
    """Steady noise whose spectrum falls or rises, of deviation about 1."""
    pole = random.uniform(-0.5, 0.95)
    white = random.standard_normal(n)
    out: Floats = (lfilter([np.sqrt(1 - pole**2)], [1, -pole], white)).astype(np.float32)
    return out


class NoisySpeech:
    """Clean speech, with the condition "noisy": the same in noise. 8 kHz; needs SUFFUSE_DATA.

    Each pair is scaled so that the noisy sound has the root mean square 0.1, give or take 3 dB.

    Args:
        split: "train" or "test".
        count: how many mixtures the training split has; the test split has a tenth.
        seconds: the length of each.
        snr_low, snr_high: dB, drawn uniformly.
        validation: train on "fitting" and test on "validation", to choose how a model is used.
    """

    licence = "CC BY-SA 4.0 (speech: FSDD) and CC BY 3.0 (noise: ESC-10)"
    source = (
        "Free Spoken Digit Dataset (Z. Jackson and others, CC BY-SA 4.0) mixed with ESC-10 "
        "(K. J. Piczak, CC BY 3.0)"
    )

    def __init__(
        self,
        split: Split = "train",
        count: int = 4000,
        seconds: float = 1.28,
        snr_low: float = -4.0,
        snr_high: float = 13.0,
        validation: bool = False,
    ) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"split is 'train' or 'test', not {split!r}")
        if count < 10 or seconds <= 0 or snr_low > snr_high:
            raise SuffuseError(
                "count is at least 10, seconds above 0 and snr_low at most snr_high; given "
                f"{count}, {seconds:g}, {snr_low:g} and {snr_high:g}"
            )
        own: dict[str, Part] = {"train": "fitting", "test": "validation"}
        self.split: Part = own[split] if validation else split
        self.train, self.seconds = split == "train", seconds
        _parts(self.split)
        self.count = count if split == "train" else count // 10
        self.snr = (snr_low, snr_high)

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return {"noisy": Condition("state")}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        if not -self.count <= index < self.count:
            raise IndexError(f"mixture {index} of {self.count}")
        index %= self.count
        random = np.random.Generator(np.random.Philox(key=[index, 77]))
        snr = float(random.uniform(*self.snr))
        train = self.train
        mixture = mix(self.split, 1_000_000 + index, self.seconds, snr, stretch=train)
        noisy: Any = mixture.noisy
        level = 0.1 * 10 ** (random.uniform(-3, 3) / 20) * train + 0.1 * (not train)
        scale = np.float32(level / max(float(np.sqrt(np.mean(noisy**2))), 1e-9))
        return Example(Sound(mixture.clean * scale, RATE), {"noisy": Sound(noisy * scale, RATE)})
