"""Cases of the suite in which sounds are completed or taken apart: what was there is known.

Speech is of the test split's speaker; mixtures are of the held-out sounds of `audio/scenes`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from scipy.ndimage import median_filter
from scipy.signal import fftconvolve

import suffuse
from suffuse.bench import Context, Result
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Example, Metric
from suffuse_audio import completing, measures, mixtures, spectrum
from suffuse_audio.dereverb import dereverberate, room
from suffuse_audio.restoring import Restorer
from suffuse_audio.scenes import Scenes
from suffuse_audio.sound import Floats, Sound, resample
from suffuse_audio.speech import FIGURES, mean, measured

__all__ = [
    "SEPARATORS",
    "Bandwidth",
    "Clipping",
    "Gaps",
    "Reverberation",
    "Separation",
    "in_gap",
    "moved",
    "with_gap",
]

_PACKAGE = "suffuse_audio"

SEPARATORS = ("mixture", "harmonic and percussive", "suffuse", "suffuse, no captions", "oracle")
"""Ways to take a mixture apart: as it is, by median filters, ours, and by masks of the sources."""


@dataclass(frozen=True)
class OnSpeech(ABC):
    """Something done to clean strings of digits, by speakers not trained on."""

    task: str
    model: str
    seed: int

    n: int = 24
    measures: ClassVar[Sequence[str]] = (_PACKAGE,)

    @abstractmethod
    def figures(self, clips: Sequence[Floats]) -> list[Metric]:
        """What was measured on clips [24000] at 8 kHz."""

    def run(self, context: Context) -> Result:
        """The figures; a note where the clips are not here."""
        try:
            given = mixtures.sources("test")
            clips = [
                mixtures.mix(given, 1000 * self.seed + i, 3.0, 100.0).clean for i in range(self.n)
            ]
        except SuffuseError as error:
            return Result([], note=str(error))
        return Result(self.figures(clips))


@dataclass(frozen=True)
class Gaps(OnSpeech):
    """Gaps in speech of one length, each in a loud place."""

    milliseconds: float = 100.0
    texture: float = 1.0

    def figures(self, clips: Sequence[Floats]) -> list[Metric]:
        """SI-SDR inside the gap, and log-spectral distance around it."""
        random = np.random.default_rng(self.seed)
        n = round(8 * self.milliseconds)
        ratios, distances = [], []
        for clip in clips:
            holed, start = with_gap(clip, n, 2000, random)
            made = completing.fill(
                Sound(holed, 8000), [(start, start + n)], texture=self.texture
            ).samples[0]
            ratio, distance = in_gap(made, clip, start, n)
            ratios.append(ratio)
            distances.append(distance)
        return [
            mean("SDR in the gap", ratios, "higher", "dB"),
            mean("log-spectral distance", distances, "lower", "dB"),
        ]


@dataclass(frozen=True)
class Bandwidth(OnSpeech):
    """Speech of 4 kHz rate brought back to 8 kHz."""

    def figures(self, clips: Sequence[Floats]) -> list[Metric]:
        """Log-spectral distance, and how far the low band moved, up to half the low rate."""
        whole, low = [], []
        for clip in clips:
            narrow = resample(clip, 8000, 4000)
            made = _wider(self.model, narrow)[: len(clip)]
            whole.append(measures.log_spectral_distance(made, clip))
            low.append(moved(made, narrow))
        return [
            mean("log-spectral distance", whole, "lower", "dB"),
            mean("change of the low band", low, "lower", "dB"),
        ]


def with_gap(clip: Floats, n: int, least: int, random: np.random.Generator) -> tuple[Floats, int]:
    """A clip with n samples taken out in a loud place, and where that begins.

    Args:
        clip: of at least n samples more than `least`.
        least: samples that are left at the beginning, and where there are so many at the end.
    """
    inner = clip[least : max(len(clip) - least, least + n)]
    energy = np.convolve(inner**2, np.ones(n), "valid")
    start = least + int(random.choice(np.flatnonzero(energy > 0.3 * energy.max())))
    holed = clip.copy()
    holed[start : start + n] = 0
    return holed, start


def in_gap(made: Floats, clip: Floats, start: int, n: int) -> tuple[float, float]:
    """SDR inside a gap of n samples, and log-spectral distance with 200 more to each side; dB."""
    inside = slice(start, start + n)
    error = float(((made - clip)[inside] ** 2).sum())
    around = slice(max(start - 200, 0), start + n + 200)
    return (
        float(10 * np.log10((clip[inside] ** 2).sum() / max(error, 1e-12))),
        measures.log_spectral_distance(made[around], clip[around]),
    )


def moved(made: Floats, narrow: Floats) -> float:
    """By how much samples [2n] differ from those of half the rate, [n], in their band; dB."""
    known = np.fft.rfft(narrow)[:-1]
    change = np.fft.rfft(made)[: len(known)] / 2 - known
    return float(20 * np.log10(np.linalg.norm(change) / np.linalg.norm(known)))


def _wider(model: str, narrow: Floats) -> Floats:
    if model == "suffuse":
        return completing.extend(Sound(narrow, 4000), 8000).samples[0]
    if model == "resampled":
        return resample(narrow, 4000, 8000)
    at = np.arange(2 * len(narrow)) / 2
    out: Floats = CubicSpline(np.arange(len(narrow)), narrow)(at).astype(np.float32)
    return out


@dataclass(frozen=True)
class Clipping(OnSpeech):
    """Speech clipped at a part of its peak."""

    level: float = 0.5

    def figures(self, clips: Sequence[Floats]) -> list[Metric]:
        """SI-SDR before, or after."""
        found = []
        for clip in clips:
            top = self.level * float(np.abs(clip).max())
            sound = Sound(np.clip(clip, -top, top), 8000)
            made = completing.declip(sound) if self.model == "suffuse" else sound
            found.append(measures.si_sdr(made.samples[0], clip))
        return [mean("SI-SDR", found, "higher", "dB")]


@dataclass(frozen=True)
class Reverberation(OnSpeech):
    """Speech in a room whose sound falls by 60 dB in half a second."""

    seconds: float = 0.5

    def figures(self, clips: Sequence[Floats]) -> list[Metric]:
        """The figures of speech, before or after."""
        pairs = []
        for i, clip in enumerate(clips):
            response = room(self.seconds, 8000, 1000 * self.seed + i)
            heard = Sound(fftconvolve(clip, response)[: len(clip)].astype(np.float32), 8000)
            made = dereverberate(heard) if self.model == "suffuse" else heard
            pairs.append((made.samples[0], clip))
        found = measured(pairs, 8000)
        return [mean(k, x, FIGURES[k].better, FIGURES[k].unit) for k, x in found.items()]


@dataclass(frozen=True)
class Separation:
    """Music and a sound that is no music, as loud as each other, taken apart again."""

    task: str
    model: str
    seed: int
    n: int = 24
    weights: str = "audio/scenes"
    measures: ClassVar[Sequence[str]] = (_PACKAGE, "suffuse.diffusion")

    def run(self, context: Context) -> Result:
        """SI-SDR of the music and of the sound, the better of both ways to name them."""
        try:
            recorded = context.once("scenes", lambda: Scenes("test", count=8000, recordings=True))
        except SuffuseError as error:
            return Result([], note=str(error))
        random = np.random.Generator(np.random.Philox(key=[self.seed, 77]))
        music, others = [], []
        while min(len(music), len(others)) < self.n:
            example = recorded[int(random.integers(len(recorded)))]
            kind = example.conditions["kind"]
            (music if kind in ("melody", "chords") else others).append(example)
        try:
            found = [self._apart(context, pair) for pair in zip(music, others, strict=False)]
        except SuffuseError as error:
            return Result([], note=str(error))
        ratios = np.array(found[: self.n])
        return Result(
            [
                mean("SI-SDR, music", list(ratios[:, 0]), "higher", "dB"),
                mean("SI-SDR, the other", list(ratios[:, 1]), "higher", "dB"),
            ]
        )

    def _apart(self, context: Context, pair: tuple[Example, Example]) -> tuple[float, float]:
        real = [example.data.samples[0] for example in pair]
        mixed = Sound(real[0] + real[1], pair[0].data.rate)
        made = self._made(context, mixed, pair)
        ways = [
            tuple(measures.si_sdr(a, b) for a, b in zip(order, real, strict=True))
            for order in (made, made[::-1])
        ]
        best = max(ways if self.model == "suffuse, no captions" else ways[:1], key=sum)
        return best[0], best[1]

    def _made(
        self, context: Context, mixed: Sound, pair: tuple[Example, Example]
    ) -> Sequence[Floats]:
        x = mixed.samples[0]
        if self.model == "mixture":
            return [x, x]
        if self.model.startswith("suffuse"):
            model = context.once(self.weights, lambda: suffuse.load(self.weights))
            told: list[Mapping[str, Any]] = [{}, {}]
            if self.model == "suffuse":
                told = [{"prompt": example.conditions["prompt"]} for example in pair]
            made = Restorer(model, seed=self.seed).separate(mixed, told)
            return [sound.samples[0] for sound in made]
        s = spectrum.stft(torch.from_numpy(x), 1024, 256)
        if self.model == "oracle":
            powers = [
                spectrum.stft(torch.from_numpy(e.data.samples[0]), 1024, 256).abs() ** 2
                for e in pair
            ]
        else:  # Fitzgerald, "Harmonic/percussive separation using median filtering" (2010)
            a = s.abs().numpy()
            sizes = ((1, 17), (17, 1))
            powers = [torch.from_numpy(median_filter(a, size)) ** 2 for size in sizes]
        total = powers[0] + powers[1] + 1e-12
        return [spectrum.inverse(s * p / total, 1024, 256, len(x)).numpy() for p in powers]
