"""The suite of benchmarks: enhancement, gaps, bands, clipped peaks, notes, digits, speed.

All sounds are of the test split: speaker `mixtures.SPEAKER` and fold `mixtures.FOLD` of the noises
are in no training. What needs SUFFUSE_DATA, the extra `evaluation`, or a model that is not there
says so in its note, and has no figures.
"""

from __future__ import annotations

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.interpolate import CubicSpline

import suffuse
from suffuse.bench import Case, Context, Result
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Example, Metric
from suffuse.stats import evenly
from suffuse_audio import baselines, completing, measures, mixtures
from suffuse_audio.enhance import MODEL, Enhancer, classical
from suffuse_audio.pictures import decibels
from suffuse_audio.sound import Floats, Sound, resample
from suffuse_audio.speech import FIGURES, MISSING, Better, mean, measured

__all__ = ["audio", "short"]

SNRS = (0.0, 5.0, 10.0)
SECONDS = 3.5
_PACKAGE = "suffuse_audio"


def _exact(name: str, value: float, better: Better, n: int, unit: str = "") -> Metric:
    return Metric(name, value, value, value, better, n, unit=unit)


def _ours(context: Context, **settings: Any) -> Callable[[Sound], Sound]:
    return Enhancer(context.once(MODEL, lambda: suffuse.load(MODEL)), **settings)


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
}
_REGRESSOR = "plain regressor"


@dataclass(frozen=True)
class Enhancement:
    """Strings of digits in environmental noise, at one ratio of speech to noise.

    Each ratio and seed has mixtures of its own, and every model hears the same.
    """

    task: str
    model: str
    seed: int
    snr: float
    n: int = 20
    rate: int = mixtures.RATE
    weights: str = MODEL
    measures: ClassVar[Sequence[str]] = (_PACKAGE, "suffuse.diffusion", "noisereduce", "pesq")

    def run(self, context: Context) -> Result:
        """The figures of speech, what suffuse is ahead by on the same mixtures, and CPU time."""
        ours = dataclasses.replace(self, model="suffuse", weights=MODEL)
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
        mixed = [mixtures.mix(given, first + i, SECONDS, self.snr) for i in range(self.n)]
        if self.model == _REGRESSOR:
            work = Enhancer(context.once(self.weights, lambda: suffuse.load(self.weights)))
        else:
            work = _METHODS[self.model](context)
        work(Sound(mixed[0].noisy, self.rate))
        begin = time.process_time()
        made = [work(Sound(m.noisy, self.rate)).samples[0] for m in mixed]
        seconds = time.process_time() - begin
        pairs = [(a, m.clean) for a, m in zip(made, mixed, strict=True)]
        return measured(pairs, self.rate), seconds


@dataclass(frozen=True)
class Uncertainty:
    """Whether draws differ where the mean is wrong: correlation over bins of dB."""

    task: str
    model: str
    seed: int
    n: int = 12
    draws: int = 8
    measures: ClassVar[Sequence[str]] = (_PACKAGE, "suffuse.diffusion")

    def run(self, context: Context) -> Result:
        """Spearman's correlation of spread and error of spectra, by sound."""
        try:
            worker = _ours(context, steps=2)
            given = mixtures.sources("test")
            mixed = [
                mixtures.mix(given, 1000 * self.seed + i, SECONDS, SNRS[i % 3])
                for i in range(self.n)
            ]
        except SuffuseError as error:
            return Result([], note=str(error))
        found = []
        for m in mixed:
            sounds = [
                dataclasses.replace(worker, seed=s)(Sound(m.noisy, 8000)).samples[0]
                for s in range(self.draws)
            ]
            amplitudes = [10 ** (decibels(Sound(x, 8000)) / 40) for x in [*sounds, m.clean]]
            draws, clean = np.stack(amplitudes[:-1]), amplitudes[-1]
            spread, error = draws.std(0).ravel(), np.abs(draws.mean(0) - clean).ravel()
            ranks = [np.argsort(np.argsort(k)) for k in (spread, error)]
            found.append(float(np.corrcoef(*ranks)[0, 1]))
        return Result([mean("correlation of spread and error", found, "higher")])


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
            energy = np.convolve(clip**2, np.ones(n), "valid")[2000 : len(clip) - 2000 - n]
            start = 2000 + int(random.choice(np.flatnonzero(energy > 0.3 * energy.max())))
            holed = clip.copy()
            holed[start : start + n] = 0
            made = completing.fill(
                Sound(holed, 8000), [(start, start + n)], texture=self.texture
            ).samples[0]
            inside = slice(start, start + n)
            error = ((made - clip)[inside] ** 2).sum()
            ratios.append(float(10 * np.log10((clip[inside] ** 2).sum() / error)))
            around = slice(start - 200, start + n + 200)
            distances.append(measures.log_spectral_distance(made[around], clip[around]))
        return [
            mean("SDR in the gap", ratios, "higher", "dB"),
            mean("log-spectral distance", distances, "lower", "dB"),
        ]


@dataclass(frozen=True)
class Bandwidth(OnSpeech):
    """Speech of 4 kHz rate brought back to 8 kHz."""

    def figures(self, clips: Sequence[Floats]) -> list[Metric]:
        """Log-spectral distance, and how far the low band moved."""
        whole, low = [], []
        for clip in clips:
            narrow = resample(clip, 8000, 4000)
            made = _wider(self.model, narrow)[: len(clip)]
            whole.append(measures.log_spectral_distance(made, clip))
            moved = resample(made, 8000, 4000)[200:-200] - narrow[: len(clip) // 2][200:-200]
            low.append(float(20 * np.log10(moved.std() / narrow.std())))
        return [
            mean("log-spectral distance", whole, "lower", "dB"),
            mean("change of the low band", low, "lower", "dB"),
        ]


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


def audio(seeds: int = 3, n: int = 20, regressor: str = "") -> Iterator[Case]:
    """The numbers of the audio plugin.

    Args:
        seeds: how many sets of mixtures and samples.
        n: mixtures at each ratio.
        regressor: a run of audio/enhance with process.regression=true, to be compared with.
    """
    for seed in range(seeds):
        for rate, snr in [*((mixtures.RATE, snr) for snr in SNRS), (16000, 5.0)]:
            task = f"enhance/{snr:g} dB" + (", 16 kHz" if rate > mixtures.RATE else "")
            for name in _METHODS:
                yield Enhancement(task, name, seed, snr, n, rate)
            if regressor:
                yield Enhancement(task, _REGRESSOR, seed, snr, n, rate, regressor)
        yield Uncertainty("enhance/uncertainty", "suffuse", seed, min(n, 12))
        for milliseconds in (20.0, 60.0, 120.0):
            for name, texture in (("Janssen", 0.0), ("suffuse, texture 0.5", 0.5)):
                task = f"gaps/{milliseconds:g} ms"
                yield Gaps(task, name, seed, milliseconds=milliseconds, texture=texture)
        for name in ("spline", "resampled", "suffuse"):
            yield Bandwidth("bandwidth/4 to 8 kHz", name, seed)
        for level in (0.2, 0.4):
            for name in ("clipped", "suffuse"):
                yield Clipping(f"clipping/{level:g} of the peak", name, seed, level=level)
        yield Made("notes/recipe", "audio/notes", seed)


def short() -> Iterator[Case]:
    """A few minutes of the same."""
    return audio(seeds=1, n=6)
