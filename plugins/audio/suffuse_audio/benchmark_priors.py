"""Cases of the suite in which a model of digits says what is missing in held-out clips.

The clips are of the official test split, whose speakers the model was trained on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import suffuse
from suffuse.bench import Context, Result
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Example, Metric
from suffuse.stats import evenly
from suffuse_audio import completing, measures
from suffuse_audio.benchmark_restoring import in_gap, moved, with_gap
from suffuse_audio.judge import Judge
from suffuse_audio.restoring import Restorer
from suffuse_audio.sound import Sound, resample
from suffuse_audio.speech import mean

__all__ = ["DigitBands", "DigitGaps"]

RATE = 8000
_LEAST = 200  # samples to each side of a gap


@dataclass(frozen=True)
class _OnDigits(ABC):
    """Something done to single digits by the shipped model of them, and without a model."""

    task: str
    model: str
    seed: int
    n: int = 30
    weights: str = "audio/digits"
    measures: ClassVar[Sequence[str]] = ("suffuse_audio", "suffuse.diffusion")

    @abstractmethod
    def figures(self, context: Context, model: Any, clips: Sequence[Example]) -> list[Metric]:
        """What was measured on clips at 8 kHz."""

    def run(self, context: Context) -> Result:
        """The figures; a note where the clips or the model are not here."""
        try:
            model = context.once(self.weights, lambda: suffuse.load(self.weights))
            test = model.dataset("test")
        except SuffuseError as error:
            return Result([], note=str(error))
        clips = [test[i] for i in evenly(len(test), self.n)]
        return Result(self.figures(context, model, clips))


@dataclass(frozen=True)
class DigitGaps(_OnDigits):
    """A gap in a loud place, filled by Janssen's method, with texture, or by the model."""

    milliseconds: float = 120.0

    def figures(self, context: Context, model: Any, clips: Sequence[Example]) -> list[Metric]:
        """SDR inside, log-spectral distance around, and the digits that are recognised."""
        test, train = model.dataset("test"), model.dataset("train")
        silence = [Example(Sound(np.zeros(6400, np.float32), RATE), {})]
        judge = context.once("digit reader", lambda: Judge.of("digit", silence, train, test))
        random = np.random.default_rng(self.seed)
        n = round(RATE / 1000 * self.milliseconds)
        ratios, distances, right = [], [], []
        for example in clips:
            clip = example.data.samples[0]
            holed, start = with_gap(clip, n, _LEAST, random)
            made = self._filled(model, Sound(holed, RATE), (start, start + n))
            ratio, distance = in_gap(made.samples[0], clip, start, n)
            ratios.append(ratio)
            distances.append(distance)
            wanted = judge.index(example.conditions["digit"])
            right.append(bool(judge.recognise([made])[0] == wanted))
        return [
            mean("SDR in the gap", ratios, "higher", "dB"),
            mean("log-spectral distance", distances, "lower", "dB"),
            Metric.share("Recognised digit", right),
        ]

    def _filled(self, model: Any, sound: Sound, place: tuple[int, int]) -> Sound:
        if self.model == "suffuse, by audio/digits":
            return Restorer(model, seed=self.seed).fill(sound, [place])
        texture = 0.5 if self.model == "suffuse, texture 0.5" else 0.0
        return completing.fill(sound, [place], texture=texture)


@dataclass(frozen=True)
class DigitBands(_OnDigits):
    """Clips of 4 kHz rate brought back to 8 kHz."""

    def figures(self, context: Context, model: Any, clips: Sequence[Example]) -> list[Metric]:
        """Log-spectral distance, and how far the low band moved, up to half the low rate."""
        whole, low = [], []
        for example in clips:
            clip = example.data.samples[0]
            clip = clip[: len(clip) // 2 * 2]
            narrow = resample(clip, RATE, RATE // 2)
            made = self._wider(model, Sound(narrow, RATE // 2))[: len(clip)]
            whole.append(measures.log_spectral_distance(made, clip))
            low.append(moved(made, narrow))
        return [
            mean("log-spectral distance", whole, "lower", "dB"),
            mean("change of the low band", low, "lower", "dB"),
        ]

    def _wider(self, model: Any, sound: Sound) -> Any:
        if self.model == "resampled":
            return resample(sound.samples[0], sound.rate, RATE)
        if self.model == "suffuse, by audio/digits":
            return Restorer(model, seed=self.seed).extend(sound).samples[0]
        return completing.extend(sound, RATE, seed=self.seed).samples[0]
