"""The suite of benchmarks: enhancement, what is completed or taken apart, and what models make.

All sounds are of the test split: speaker `mixtures.SPEAKER` and fold `mixtures.FOLD` of the noises
are in no training. What needs SUFFUSE_DATA, the extra `evaluation`, or a model that is not there
says so in its note, and has no figures.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.stats import spearmanr

import suffuse
from suffuse.bench import Case, Context, Result
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Example, Metric
from suffuse.stats import evenly
from suffuse_audio import baselines, mixtures, playing, uncertainty
from suffuse_audio.benchmark_priors import DigitBands, DigitGaps
from suffuse_audio.benchmark_restoring import (
    SEPARATORS,
    Bandwidth,
    Clipping,
    Gaps,
    Reverberation,
    Separation,
)
from suffuse_audio.benchmark_sliders import ATTRIBUTES, Slider
from suffuse_audio.enhance import MODEL, Enhancer, classical
from suffuse_audio.judge import Judge
from suffuse_audio.reading import read
from suffuse_audio.sound import Sound
from suffuse_audio.speech import FIGURES, MISSING, Better, mean, measured
from suffuse_audio.words import edits

__all__ = ["audio", "short"]

SNRS = (0.0, 5.0, 10.0)
SECONDS = 3.5
LEVEL = 0.05  # root mean square of a mixture
_PACKAGE = "suffuse_audio"


def _exact(name: str, value: float, better: Better, n: int, unit: str = "") -> Metric:
    return Metric(name, value, value, value, better, n, unit=unit)


def _ours(context: Context, model: str = MODEL, **settings: Any) -> Callable[[Sound], Sound]:
    return Enhancer(context.once(model, lambda: suffuse.load(model)), **settings)


_METHODS: Mapping[str, Callable[[Context], Callable[[Sound], Sound]]] = {
    "noisy": lambda _: lambda sound: sound,
    "log-mmse": lambda _: classical,
    "wiener": lambda _: lambda sound: classical(sound, "wiener"),
    "noisereduce": lambda _: baselines.noisereduce,
    "rnnoise": lambda _: baselines.rnnoise,
    "deepfilternet": lambda _: baselines.deepfilternet,
    "gtcrn": lambda _: baselines.gtcrn,
    "suffuse": _ours,
    "suffuse, one draw": lambda c: _ours(c, steps=2),
    "plain regressor": lambda c: _ours(c, "audio/regressor"),
}


@dataclass(frozen=True)
class Enhancement:
    """Strings of digits in environmental noise, at one ratio of speech to noise.

    Each ratio and seed has mixtures of its own, and every model hears the same: brought to one
    loudness, that of speech as it is recorded, since not every method has a level of its own.
    """

    task: str
    model: str
    seed: int
    snr: float
    n: int = 20
    rate: int = mixtures.RATE
    measures: ClassVar[Sequence[str]] = (_PACKAGE, "suffuse.diffusion", "noisereduce", "pesq")

    def run(self, context: Context) -> Result:
        """The figures of speech, what suffuse is ahead by on the same mixtures, and CPU time."""
        ours = dataclasses.replace(self, model="suffuse")
        try:
            values, seconds = context.once(self, lambda: self._measured(context))
            reference, _ = context.once(ours, lambda: ours._measured(context))
        except (SuffuseError, ImportError) as error:
            return Result([], note=str(error))
        metrics = []
        for name, x in values.items():
            figure = FIGURES[name]
            metrics.append(mean(name, x, figure.better, figure.unit))
            if self != ours:
                ahead = [a - b for a, b in zip(reference[name], x, strict=True)]
                title = f"{name}, suffuse less this"
                metrics.append(mean(title, ahead, figure.better, figure.unit))
        length = self.n * SECONDS
        metrics.append(_exact("CPU seconds a second", seconds / length, "lower", self.n))
        return Result(metrics, note=MISSING if len(values) < len(FIGURES) else "")

    def _measured(self, context: Context) -> tuple[dict[str, list[float]], float]:
        """Each figure by mixture, and the CPU seconds that the enhancing took."""
        given = context.once(("sources", self.rate), lambda: mixtures.sources("test", self.rate))
        first = 100_000 * self.seed + 1000 * round(self.snr)
        mixed = [mixtures.mix(given, first + i, SECONDS, self.snr).at(LEVEL) for i in range(self.n)]
        work = _METHODS[self.model](context)
        work(Sound(mixed[0].noisy, self.rate))
        begin = time.process_time()
        made = [work(Sound(m.noisy, self.rate)).samples[0] for m in mixed]
        seconds = time.process_time() - begin
        pairs = [(a, m.clean) for a, m in zip(made, mixed, strict=True)]
        return measured(pairs, self.rate), seconds


@dataclass(frozen=True)
class Uncertainty:
    """Whether what is told of the error is large where the error is.

    By "suffuse" that is `uncertainty.expected_error` after one call; by "spread of draws" the
    deviation of eight draws, whose mean is then the answer.
    """

    task: str
    model: str
    seed: int
    n: int = 12
    draws: int = 8
    measures: ClassVar[Sequence[str]] = (_PACKAGE, "suffuse.diffusion")

    def run(self, context: Context) -> Result:
        """Spearman's correlation with the error of |S|^{1/2}, within each sound.

        Over its bins; and over its moments, where either is the mean over frequencies.
        """
        try:
            given = mixtures.sources("test")
            mixed = [
                mixtures.mix(given, 1000 * self.seed + i, SECONDS, SNRS[i % 3])
                for i in range(self.n)
            ]
            found = [self._told(context, m) for m in mixed]
        except SuffuseError as error:
            return Result([], note=str(error))
        bins = [spearmanr(told, error, axis=None).statistic for told, error in found]
        moments = [spearmanr(told.mean(0), error.mean(0)).statistic for told, error in found]
        name = "correlation of spread and error"
        return Result([mean(name, bins, "higher"), mean(f"{name}, moments", moments, "higher")])

    def _told(self, context: Context, mixed: mixtures.Mixture) -> tuple[Any, Any]:
        """What is told of the error, and the error, [F, T]."""
        noisy = Sound(mixed.noisy, 8000)
        clean = uncertainty.compressed(Sound(mixed.clean, 8000))
        if self.model == "suffuse":
            made = _ours(context)(noisy)
            told, error = uncertainty.expected_error(noisy, made), uncertainty.compressed(made)
        else:
            sounds = [_ours(context, steps=2, seed=s)(noisy) for s in range(self.draws)]
            draws = np.stack([uncertainty.compressed(sound) for sound in sounds])
            told, error = draws.std(0), draws.mean(0)
        return told, np.abs(error - clean)


@dataclass(frozen=True)
class Made:
    """Sounds of a shipped model, by the evaluators of its recipe."""

    task: str
    model: str
    seed: int
    n: int = 216
    measures: ClassVar[Sequence[str]] = (_PACKAGE, "suffuse.diffusion")

    def run(self, context: Context) -> Result:
        """The recipe's figures, and seconds a sound."""
        try:
            model = context.once(self.model, lambda: suffuse.load(self.model))
            test, train = model.dataset("test"), model.dataset("train")
        except SuffuseError as error:
            return Result([], note=str(error))
        picked = evenly(len(test), self.n)
        values = {name: [test[i].conditions[name] for i in picked] for name in model.conditions}
        begin = time.process_time()
        made = model.sample(len(picked), seed=self.seed, **values)
        seconds = time.process_time() - begin
        samples = [
            Example(sound, {name: value[i] for name, value in values.items()})
            for i, sound in enumerate(made)
        ]
        metrics: list[Metric] = []
        for part in model.recipe.evaluators:
            judge = suffuse.plugins.build("evaluator", part)
            metrics += judge.evaluate(samples, test=test, train=train, seed=self.seed)
        metrics.append(
            _exact("CPU seconds a sound", seconds / len(picked), "lower", len(picked), "s")
        )
        return Result(metrics)


@dataclass(frozen=True)
class Strings:
    """Strings of four digits, read back by a classifier of single real ones."""

    task: str
    model: str
    seed: int
    n: int = 40
    words: int = 4
    weights: str = "audio/digits"
    measures: ClassVar[Sequence[str]] = (_PACKAGE, "suffuse.diffusion")

    def run(self, context: Context) -> Result:
        """Word errors, of strings that are made or put together of held-out clips."""
        try:
            model = context.once(self.weights, lambda: suffuse.load(self.weights))
            test, train = model.dataset("test"), model.dataset("train")
        except SuffuseError as error:
            return Result([], note=str(error))
        random = np.random.Generator(np.random.Philox(key=[self.seed, 31]))
        sample = Example(Sound(np.zeros(6400, np.float32), 8000), {})
        judge = context.once("digit reader", lambda: Judge.of("digit", [sample], train, test))
        examples = [test[i] for i in range(len(test))]
        errors = []
        for i in range(self.n):
            wanted = [str(w) for w in random.choice(judge.names, self.words)]
            speaker = str(random.choice(model.conditions["speaker"].names))
            if self.model == "real":
                clips = [_one(examples, word, speaker, random) for word in wanted]
                said = playing.joined([clip.data for clip in clips])
            else:
                said = playing.say(
                    model, " ".join(wanted), seed=1000 * self.seed + i, speaker=speaker
                )
            errors.append(100 * edits(read(judge, said, self.words), wanted) / self.words)
        return Result([mean("word errors", errors, "lower", "%")])


def _one(
    examples: Sequence[Example], digit: str, speaker: str, random: np.random.Generator
) -> Example:
    """One of the clips of a digit by a speaker."""
    found = [
        e for e in examples if (e.conditions["digit"], e.conditions["speaker"]) == (digit, speaker)
    ]
    return found[int(random.integers(len(found)))]


def audio(seeds: int = 3, n: int = 20) -> Iterator[Case]:
    """The numbers of the audio plugin.

    Args:
        seeds: how many sets of mixtures and samples.
        n: mixtures at each ratio; below 20, other cases are smaller in the same proportion.
    """

    def of(count: int) -> int:
        return max(round(count * min(n / 20, 1)), 2)

    for seed in range(seeds):
        for rate, snr in [*((mixtures.RATE, snr) for snr in SNRS), (16000, 5.0)]:
            task = f"enhance/{snr:g} dB" + (", 16 kHz" if rate > mixtures.RATE else "")
            for name in _METHODS:
                yield Enhancement(task, name, seed, snr, n, rate)
        for name in ("suffuse", "spread of draws"):
            yield Uncertainty("enhance/uncertainty", name, seed, min(n, 12))
        for milliseconds in (20.0, 60.0, 120.0):
            for name, texture in (("Janssen", 0.0), ("suffuse, texture 0.5", 0.5)):
                task = f"gaps/{milliseconds:g} ms"
                yield Gaps(task, name, seed, of(24), milliseconds, texture)
        for name in ("Janssen", "suffuse, texture 0.5", "suffuse, by audio/digits"):
            yield DigitGaps("gaps/digits, 120 ms", name, seed, of(200))
        for name in ("spline", "resampled", "suffuse"):
            yield Bandwidth("bandwidth/4 to 8 kHz", name, seed, of(24))
        for name in ("resampled", "suffuse", "suffuse, by audio/digits"):
            yield DigitBands("bandwidth/digits, 4 to 8 kHz", name, seed, of(30))
        for level in (0.2, 0.4):
            for name in ("clipped", "suffuse"):
                yield Clipping(f"clipping/{level:g} of the peak", name, seed, of(24), level)
        for name in ("reverberant", "suffuse"):
            yield Reverberation("reverberation/T60 0.5 s", name, seed, of(24))
        for name in SEPARATORS:
            yield Separation("separation/music and sounds", name, seed, of(24))
        for name in ("real", "suffuse"):
            yield Strings("digits/strings of four", name, seed, of(40))
        for attribute in ATTRIBUTES:
            for part in (0.6, 0.8):
                row = f"to quantile {part:g}"
                yield Slider(f"notes/sliders, {attribute}", row, seed, attribute, part, of(96))
        for name, count in (("notes", 432), ("scenes", 320), ("digits", 200), ("spoken", 540)):
            yield Made(f"{name}/recipe", f"audio/{name}", seed, of(count))


def short() -> Iterator[Case]:
    """A few minutes of the same."""
    return audio(seeds=1, n=6)
