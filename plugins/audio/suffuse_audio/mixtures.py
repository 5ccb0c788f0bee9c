"""Noisy speech with its clean original: strings of clips of one voice in environmental noise.

By default the speech is spoken digits and the noise ESC-10, both from the folder of SUFFUSE_DATA.
`SPEAKER` and `FOLD` are in the test split alone: no voice and no noise of it is trained on. Folders
of further voices and noises may be added, or take their place. Mixture i of a split is a function
of (split, i).

Choices are made without the test split, on "validation": another speaker and another fold, which
models trained on "fitting", the training split without them, have not heard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from scipy.signal import lfilter, resample_poly

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Example, Split
from suffuse_audio import corpora
from suffuse_audio.files import read
from suffuse_audio.folder import fraction, readable
from suffuse_audio.sound import Floats, Sound, resample

__all__ = ["FOLD", "SPEAKER", "Mixture", "NoisySpeech", "Sources", "mix", "sources"]

RATE = 8000
SPEAKER, VALIDATION_SPEAKER = "theo", "nicolas"
FOLD, VALIDATION_FOLD = "4", "3"

Part = Literal["train", "test", "fitting", "validation"]
_SPEEDS = (17, 18, 19, 20, 21, 22, 23, 24)  # over 20: by so much a clip is stretched
_QUIET = 1e-3  # of the root mean square of a part that is not worth taking
_TRIES = 1000  # draws of a part, after which the sounds are held to be silent


class Clip(Protocol):
    """A recording, in memory or in a file: its samples [n] and what is said or heard."""

    @property
    def samples(self) -> Floats: ...
    @property
    def label(self) -> str: ...


@dataclass(frozen=True)
class _File:
    """A clip that is read when it is wanted."""

    path: Path
    rate: int
    label: str = ""

    @property
    def samples(self) -> Floats:
        sound = read(self.path)
        return resample(sound.mono, sound.rate, self.rate)


@dataclass(frozen=True, eq=False)
class Sources:
    """What mixtures are made of: clips by voice, clips of noise, all of one rate in Hz."""

    voices: Mapping[str, Sequence[Clip]]
    noises: Sequence[Clip]
    rate: int = RATE
    test: bool = False


@dataclass(frozen=True, eq=False)
class Mixture:
    """Speech and noise [n], with what was said."""

    clean: Floats
    noise: Floats
    digits: tuple[str, ...]

    @property
    def noisy(self) -> Floats:
        """Their sum."""
        both: Floats = self.clean + self.noise
        return both

    def at(self, level: float) -> Mixture:
        """The same at another loudness: `noisy` has this root mean square."""
        gain = np.float32(level / max(float(np.sqrt(np.mean(self.noisy**2))), 1e-9))
        return Mixture(gain * self.clean, gain * self.noise, self.digits)


def mix(given: Sources, seed: int, seconds: float, snr: float, *, stretch: bool = False) -> Mixture:
    """A string of clips of one voice in noise.

    Args:
        given: the voices and noises.
        seed: of all that is random.
        seconds: how long; the string is cut there.
        snr: power of the speech over that of the noise, pauses included, dB.
        stretch: whether clips are resampled by up to 20 % each way, which changes voices.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, given.test]))
    names = sorted(given.voices)
    clips = given.voices[names[int(random.integers(len(names)))]]
    n = round(seconds * given.rate)
    speed = int(random.choice(_SPEEDS)) if stretch else 20
    clean, said = _string(clips, n, given.rate, speed, random)
    noise = _noise(given.noises, n, random)
    if stretch and random.random() < 0.25:
        noise = noise + _coloured(n, random) * np.std(noise)
    wanted = float(np.sqrt(np.mean(clean**2))) * 10 ** (-snr / 20)
    noise = noise * np.float32(wanted / max(float(np.sqrt(np.mean(noise**2))), 1e-9))
    return Mixture(clean, noise.astype(np.float32), said)


def _string(
    clips: Sequence[Clip], n: int, rate: int, speed: int, random: np.random.Generator
) -> tuple[Floats, tuple[str, ...]]:
    """Clips one after the other with short pauses, [n], and the labels of those that are whole."""
    for _ in range(_TRIES):
        clean = np.zeros(n, dtype=np.float32)
        at, said = int(random.uniform(0.0, 0.3) * rate), []
        while at < n:
            clip = clips[int(random.integers(len(clips)))]
            voice = clip.samples
            if len(voice) > 1.2 * n:
                start = int(random.integers(len(voice) - n))
                voice = voice[start : start + round(1.2 * n)]
            voice = voice if speed == 20 else resample_poly(voice, speed, 20)
            part = voice[: n - at]
            clean[at : at + len(part)] += part
            if len(part) == len(voice):
                said.append(clip.label)
            at += len(voice) + int(random.uniform(0.03, 0.3) * rate)
        if np.sqrt(np.mean(clean**2)) > _QUIET:
            return clean, tuple(said)
    raise SuffuseError("the sounds that are to be speech are silent")


def sources(
    part: Part,
    rate: int = RATE,
    *,
    speech: str | None = None,
    noise: str | None = None,
    collections: bool = True,
    test_fraction: float = 0.1,
) -> Sources:
    """The voices and noises of a part; see `NoisySpeech` for the options."""
    voices: dict[str, Sequence[Clip]] = {}
    noises: list[Clip] = []
    if collections:
        voices |= _digits(part, rate)
        wanted = _belongs(part, FOLD, VALIDATION_FOLD)
        noises += [clip for clip in corpora.noises(rate) if wanted(clip.group)]
    held_out = part in ("test", "validation")
    if speech is not None:
        voices |= _voices(Path(speech).expanduser(), rate, held_out, test_fraction)
    if noise is not None:
        found = readable(Path(noise))
        noises += [_File(path, rate) for path in _share(found, held_out, test_fraction)]
    for kind, there in (("speech", voices), ("noise", noises)):
        if not there:
            raise SuffuseError(
                f"there is no {kind} in the {'test' if held_out else 'training'} split: give a "
                f"folder of it (dataset.{kind}=DIR) with two files or more, and a test_fraction "
                "above 0"
            )
    return Sources(voices, noises, rate, part == "test")


def _belongs(part: Part, test: str, validation: str) -> Any:
    """Which groups of a collection are in a part."""

    def belongs(group: str) -> bool:
        if part == "test":
            return group == test
        if part == "validation":
            return group == validation
        return group != test and (part == "train" or group != validation)

    return belongs


def _digits(part: Part, rate: int) -> dict[str, Sequence[Clip]]:
    wanted, voices = _belongs(part, SPEAKER, VALIDATION_SPEAKER), {}
    for clip in corpora.digits(rate):
        if wanted(clip.group) and (clip.index < 5 or part != "test"):
            voices.setdefault(clip.group, []).append(clip)
    return voices


def _voices(
    folder: Path, rate: int, held_out: bool, test_fraction: float
) -> dict[str, Sequence[Clip]]:
    """The clips of a folder by voice: by its subfolders, or all of one where there are none."""
    by_voice: dict[str, list[Path]] = {}
    for path in readable(folder):
        inside = path.relative_to(folder).parts
        by_voice.setdefault(inside[0] if len(inside) > 1 else "", []).append(path)
    if len(by_voice) == 1:
        ((name, paths),) = by_voice.items()
        by_voice = {name: _share(paths, held_out, test_fraction)}
    else:
        chosen = _share([folder / name for name in by_voice], held_out, test_fraction)
        by_voice = {path.name: by_voice[path.name] for path in chosen}
    return {
        f"{folder.name}/{name}": [_File(path, rate) for path in paths]
        for name, paths in by_voice.items()
        if paths
    }


def _share(paths: Sequence[Path], held_out: bool, test_fraction: float) -> list[Path]:
    """Those of a split, by the digests of their names; of two or more each split has one."""
    ranked = sorted(paths, key=lambda path: fraction(path.name))
    count = sum(fraction(path.name) < test_fraction for path in ranked)
    count = min(max(count, 1 if test_fraction else 0), len(ranked) - 1)
    return ranked[:count] if held_out else ranked[count:]


def _noise(sounds: Sequence[Clip], n: int, random: np.random.Generator) -> Floats:
    """A part of a clip, repeated where it is too short; one in which there is something."""
    for _ in range(_TRIES):
        clip = sounds[int(random.integers(len(sounds)))].samples
        start = int(random.integers(len(clip)))
        part = np.take(clip, np.arange(start, start + n), mode="wrap")
        if np.sqrt(np.mean(part**2)) > _QUIET:
            found: Floats = part
            return found
    raise SuffuseError("the sounds that are to be noise are silent")


def _coloured(n: int, random: np.random.Generator) -> Floats:
    """Steady noise whose spectrum falls or rises, of deviation about 1."""
    pole = random.uniform(-0.5, 0.95)
    white = random.standard_normal(n)
    out: Floats = (lfilter([np.sqrt(1 - pole**2)], [1, -pole], white)).astype(np.float32)
    return out


class NoisySpeech:
    """Clean speech, with the condition "noisy": the same in noise.

    Each pair is scaled so that the noisy sound has the root mean square 0.1, give or take 3 dB.

    Args:
        split: "train" or "test".
        count: how many mixtures the training split has; the test split has a tenth.
        seconds: the length of each.
        rate: Hz.
        snr_low, snr_high: dB, drawn uniformly.
        speech: a folder of further voices: each of its subfolders is one, or all of it is.
        noise: a folder of further noises.
        collections: whether the spoken digits and ESC-10 of SUFFUSE_DATA are taken; where not,
            `speech` and `noise` are all there is.
        test_fraction: share of the folders' voices and noises in the test split, in [0, 1).
        validation: train on "fitting" and test on "validation", to choose how a model is used.
    """

    licence = "CC BY-SA 4.0 (speech: FSDD) and CC BY 3.0 (noise: ESC-10); of folders not stated"
    source = (
        "Free Spoken Digit Dataset (Z. Jackson and others, CC BY-SA 4.0) mixed with ESC-10 "
        "(K. J. Piczak, CC BY 3.0), or folders of speech and noise"
    )

    def __init__(
        self,
        split: Split = "train",
        count: int = 4000,
        seconds: float = 1.28,
        rate: int = RATE,
        snr_low: float = -4.0,
        snr_high: float = 13.0,
        speech: str | None = None,
        noise: str | None = None,
        collections: bool = True,
        test_fraction: float = 0.1,
        validation: bool = False,
    ) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"split is 'train' or 'test', not {split!r}")
        if count < 10 or seconds <= 0 or rate < 4000 or snr_low > snr_high:
            raise SuffuseError(
                "count is at least 10, seconds above 0, rate at least 4000 Hz and snr_low at most "
                f"snr_high; given {count}, {seconds:g}, {rate}, {snr_low:g} and {snr_high:g}"
            )
        if not 0 <= test_fraction < 1:
            raise SuffuseError(f"test_fraction is at least 0 and below 1, not {test_fraction:g}")
        own: dict[str, Part] = {"train": "fitting", "test": "validation"}
        self.train, self.seconds, self.rate = split == "train", seconds, rate
        self._sources = sources(
            own[split] if validation else split,
            rate,
            speech=speech,
            noise=noise,
            collections=collections,
            test_fraction=test_fraction,
        )
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
        train, rate = self.train, self.rate
        mixture = mix(self._sources, 1_000_000 + index, self.seconds, snr, stretch=train)
        level = 0.1 * 10 ** (random.uniform(-3, 3) / 20) * train + 0.1 * (not train)
        scaled = mixture.at(level)
        return Example(Sound(scaled.clean, rate), {"noisy": Sound(scaled.noisy, rate)})
