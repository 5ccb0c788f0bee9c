"""The suite of benchmarks: words obeyed, frames predicted and filled in, clips of four lengths."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

import suffuse
from suffuse import stats
from suffuse.bench import Case, Context, Result
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Example, Metric

from . import baselines
from .clip import Clip
from .evaluators import Obeyed
from .making import complete, window
from .tracking import shape_seen, track

__all__ = ["short", "video"]

MODEL = "video/shapes"
_PACKAGE = "suffuse_video"
_BASELINES = {
    "copy last": baselines.copy_last,
    "linear blend": baselines.blend,
    "flow warp": baselines.flow_warp,
}


def _known(task: str, frames: int) -> NDArray[np.bool_]:
    """Which frames are given: the first half, every other one, or all but the middle half."""
    i = np.arange(frames)
    if task == "prediction":
        return i < frames // 2
    if task == "interpolation":
        return i % 2 == 0
    return (i < frames // 4) | (i >= frames - frames // 4)


def _decibels(errors: Sequence[float], name: str) -> Metric:
    """10 log10(255² / mean squared error over clips), its interval that of the mean."""
    mean = stats.mean(torch.tensor(errors, dtype=torch.float64), seed=0)

    def level(value: float) -> float:
        return 10 * math.log10(255**2 / max(value, 1e-3))

    ends = level(mean.value), level(mean.high), level(mean.low)
    return Metric(name, *ends, better="higher", n=len(errors), unit="dB")


@dataclass(frozen=True)
class Words:
    """Prompts that were never trained on: which words are obeyed."""

    task: str
    model: str
    seed: int
    steps: int = 20
    guidance: float = 2.0
    n: int = 256
    source: str = MODEL
    measures: ClassVar[Sequence[str]] = (_PACKAGE, "suffuse.diffusion")

    def run(self, context: Context) -> Result:
        """The figures of video/motion on held-out combinations, and seconds a clip."""
        model = context.once(self.source, lambda: suffuse.load(self.source))
        test, train = (context.once((self.source, s), lambda s=s: model.dataset(s)) for s in _BOTH)
        prompts = [test[i % len(test)].conditions["prompt"] for i in range(self.n)]
        begin = time.perf_counter()
        clips = model.sample(
            self.n, seed=self.seed, steps=self.steps, guidance=self.guidance, prompt=prompts
        )
        each = (time.perf_counter() - begin) / self.n
        samples = [Example(c, {"prompt": p}) for c, p in zip(clips, prompts, strict=True)]
        metrics = Obeyed().evaluate(samples, test=test, train=train, seed=0)
        timed = Metric("seconds a clip", each, each, each, "lower", self.n, unit="s")
        return Result([*metrics, timed])


@dataclass(frozen=True)
class Frames:
    """Frames of held-out clips made from the others, beside what needs no model."""

    task: str
    model: str
    seed: int
    what: str = "prediction"
    how: str = "full"
    prompted: bool = True
    steps: int = 20
    n: int = 64
    source: str = MODEL
    measures: ClassVar[Sequence[str]] = (_PACKAGE, "suffuse.diffusion")

    def run(self, context: Context) -> Result:
        """PSNR over the frames that were made, and network calls for each."""
        model = context.once(self.source, lambda: suffuse.load(self.source))
        test = context.once((self.source, "test"), lambda: model.dataset("test"))
        examples = [test[i] for i in range(min(self.n, len(test)))]
        clips = [e.data for e in examples]
        known = _known(self.what, len(clips[0]))
        calls: list[int] = []
        if self.how in _BASELINES:
            try:
                made = [_BASELINES[self.how](c.frames, known) for c in clips]
            except SuffuseError as error:
                return Result([], note=str(error))
        else:
            given: dict[str, Any] = {"guidance": 1.0}
            if self.prompted:
                given["prompt"] = [e.conditions["prompt"] for e in examples]
            x = window(
                model,
                model.encode(clips).cpu(),
                known,
                how=self.how,  # type: ignore[arg-type]
                steps=self.steps,
                seed=self.seed,
                counted=calls.append,
                **given,
            )
            made = [clip.frames for clip in model.decode(x)]
        errors = [
            baselines.squared_error(m[~known], c.frames[~known])
            for m, c in zip(made, clips, strict=True)
        ]
        share = sum(calls) / int((~known).sum())
        cost = Metric("calls for a frame", share, share, share, "lower", len(clips))
        return Result([_decibels(errors, "PSNR"), cost])


@dataclass(frozen=True)
class Long:
    """Clips of four times the length that was trained on: what is kept of colour and form."""

    task: str
    model: str
    seed: int
    how: str = "full"
    steps: int = 20
    times: int = 4
    n: int = 32
    source: str = MODEL
    measures: ClassVar[Sequence[str]] = (_PACKAGE, "suffuse.diffusion")

    def run(self, context: Context) -> Result:
        """The fit of the best drawing in the first and the last quarter; shape and colour kept."""
        model = context.once(self.source, lambda: suffuse.load(self.source))
        test = context.once((self.source, "test"), lambda: model.dataset("test"))
        clips = [test[i].data for i in range(min(self.n, len(test)))]
        frames = len(clips[0])
        total = self.times * frames
        states = torch.zeros(len(clips), total, *model.shape[1:])
        states[:, :frames] = model.encode(clips).cpu()
        known = np.arange(total) < frames
        x = complete(
            model,
            states,
            known,
            how=self.how,  # type: ignore[arg-type]
            steps=self.steps,
            seed=self.seed,
            guidance=1.0,
        )
        fits: dict[str, list[float]] = {"first": [], "last": []}
        kept = 0
        for clip, made in zip(clips, model.decode(x), strict=True):
            new = made.frames[frames:]
            quarter = len(new) // 4
            seen = {}
            for name, part in (("first", new[:quarter]), ("last", new[-quarter:])):
                seen[name] = track(Clip(part, clip.fps))
                fits[name].append(float(shape_seen(seen[name])[1].mean()))
            at_first = track(clip)
            same = shape_seen(at_first)[0] == shape_seen(seen["last"])[0]
            kept += same and at_first.colour == seen["last"].colour
        share = stats.proportion(kept, len(clips))
        found = [
            _mean(f"form, {name} quarter", values, len(clips)) for name, values in fits.items()
        ]
        ends = 100 * share.value, 100 * share.low, 100 * share.high
        found.append(Metric("shape and colour kept", *ends, "higher", len(clips), unit="%"))
        return Result(found)


_BOTH = ("test", "train")


def _mean(name: str, values: Sequence[float], n: int) -> Metric:
    found = stats.mean(torch.tensor(values, dtype=torch.float64), seed=0)
    return Metric(name, found.value, found.low, found.high, "higher", n)


def video(source: str = MODEL, seeds: int = 3, n: int = 256, clips: int = 64) -> Iterator[Case]:
    """All of it.

    Args:
        source: the run, the model directory or the installed model that is measured.
        seeds: of sampling.
        n: clips made by prompt; clips: of which frames are made.
    """
    for seed in range(seeds):
        for guidance in (1.0, 2.0, 4.0):
            name = f"guidance {guidance:g}"
            yield Words("video/words", name, seed, guidance=guidance, n=n, source=source)
        for steps in (5, 10, 40):
            name = f"guidance 2, {steps} steps"
            yield Words("video/words", name, seed, steps, n=n, source=source)
    yield from _frames(source, seeds, clips)
    for how in ("full", "sequential", "rolling"):
        yield Long("video/long", how, 0, how, n=clips // 2, source=source)


def short(source: str = MODEL) -> Iterator[Case]:
    """Some minutes: one seed, few clips of the model `source`."""
    yield Words("video/words", "guidance 2", 0, n=64, source=source)
    yield from _frames(source, 1, 32)
    yield Long("video/long", "full", 0, n=16, source=source)


def _frames(source: str, seeds: int, clips: int) -> Iterator[Case]:
    for what in ("prediction", "interpolation", "filling"):
        for how in _BASELINES:
            if what != "prediction" or how == "copy last":
                yield Frames(f"video/{what}", how, 0, what, how, n=clips, source=source)
        for seed in range(seeds):
            for how in ("full", "sequential", "rolling"):
                yield Frames(f"video/{what}", how, seed, what, how, n=clips, source=source)
            name = "full, no prompt"
            yield Frames(f"video/{what}", name, seed, what, "full", False, n=clips, source=source)
