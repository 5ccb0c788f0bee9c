"""The suite of benchmarks: words obeyed, frames predicted and filled in, long clips, restoring.

Everything is on held-out clips of the model's own data, beside what needs no model. `source` is the
model that is measured.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Parameter

import suffuse
from suffuse.bench import Case, Context, Result
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Example, Metric

from . import levels
from .clip import Clip
from .drift import Gauge, multiple, quarters
from .evaluators import Obeyed, mean
from .features import encoder
from .frames import BASELINES, Task, completed, given, likeness, usual
from .making import How, complete, following
from .shapes import DIGITS, Motion, Shapes
from .temporal import Warping, warping_errors
from .tracking import digits_seen, thing_seen, track

__all__ = ["short", "video"]

MODEL = "video/shapes"
_PACKAGE = "suffuse_video"


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
        metrics += Warping().evaluate(samples, test=test, train=train, seed=0)
        timed = Metric("seconds a clip", each, each, each, "lower", self.n, unit="s")
        return Result([*metrics, timed])


@dataclass(frozen=True)
class Frames:
    """Frames of held-out clips made from the others, beside what needs no model."""

    task: str
    model: str
    seed: int
    what: Task = "prediction"
    how: str = "full"
    prompted: bool = True
    steps: int = 20
    n: int = 64
    source: str = MODEL
    measures: ClassVar[Sequence[str]] = (_PACKAGE, "suffuse.diffusion")

    def run(self, context: Context) -> Result:
        """PSNR and SSIM over the frames that were made, how far the whole clip's features (see
        `features`) are from those of the true clip, and network calls for each frame."""
        model = context.once(self.source, lambda: suffuse.load(self.source))
        test = context.once((self.source, "test"), lambda: model.dataset("test"))
        examples = [test[i] for i in range(min(self.n, len(test)))]
        clips = [e.data for e in examples]
        known = given(self.what, len(clips[0]))
        calls: list[int] = []
        if self.how in BASELINES:
            try:
                found = [Clip(BASELINES[self.how](c.frames, known), c.fps) for c in clips]
            except SuffuseError as error:
                return Result([], note=str(error))
        else:
            told = {name: [e.conditions.get(name) for e in examples] for name in model.conditions}
            found = completed(
                model,
                model.encode(clips).cpu(),
                self.what,
                self.how,  # type: ignore[arg-type]
                steps=self.steps,
                seed=self.seed,
                counted=calls.append,
                guidance=1.0,
                **(told if self.prompted else {}),
            )
        share = sum(calls) / int((~known).sum())
        look = encoder("reader")
        apart = (look(found) - look(clips)).norm(dim=1)
        return Result(
            [
                *likeness([c.frames for c in found], [c.frames for c in clips], self.what),
                mean("distance of features", apart.tolist()),
                Metric("calls for a frame", share, share, share, "lower", len(clips)),
            ]
        )


@dataclass(frozen=True)
class Long:
    """Clips that go on for four times the length that was trained on: what is kept in time."""

    task: str
    model: str
    seed: int
    how: str = "full"
    prompted: bool = True
    steps: int = 20
    times: int = 4
    n: int = 32
    source: str = MODEL
    measures: ClassVar[Sequence[str]] = (_PACKAGE, "suffuse.diffusion")

    def run(self, context: Context) -> Result:
        """Form, warping error and pace (pixels a frame) in each quarter, and the last quarter's as
        a multiple of the first's; colour and thing of the last quarter as a whole; and digits
        kept, where each frame is read as the digit whose drawing fits it best.

        Held-out clips of what bounces go on, in every window with their prompt where `prompted`.
        Where `times` is 4, the first quarter is the given clip, and what the model made begins with
        the second; so what form lacks is compared with that.
        """
        model = context.once(self.source, lambda: suffuse.load(self.source))
        made, motions = self._clips(model)
        quarter = len(made[0]) // 4
        parts = [
            [Clip(c.frames[k * quarter : (k + 1) * quarter], c.fps) for c in made] for k in range(4)
        ]
        seen = [[track(part) for part in each] for each in parts]
        fits = [
            [float(thing_seen(t, [m.thing])[1].mean()) for t, m in zip(each, motions, strict=True)]
            for each in seen
        ]
        errors = [[float(warping_errors(part).mean()) for part in each] for each in parts]
        found = [
            mean(f"form, quarter {k}", each, better="higher")
            for k, each in enumerate(fits, start=1)
        ]
        found += [
            mean(f"warping error, quarter {k}", each) for k, each in enumerate(errors, start=1)
        ]
        paces = [[_pace(t.places) for t in each] for each in seen]
        found += [
            mean(f"pace, quarter {k}", each, better="higher") for k, each in enumerate(paces, 1)
        ]
        found += [
            _ratio("warping error, quarter 4 to 1", errors[3], errors[0]),
            _ratio("what form lacks, quarter 4 to 2", *([1 - f for f in fits[k]] for k in (3, 1))),
        ]
        found += _drift(made)
        pairs = list(zip(seen[-1], motions, strict=True))
        kept = [thing_seen(t)[0] == m.thing and t.colour == m.colour for t, m in pairs]
        found.append(Metric.share("thing and colour kept", kept))
        rightly = [
            np.stack([digits_seen(each[i]) == DIGITS.index(m.thing) for each in seen])
            for i, m in enumerate(motions)
            if m.thing in DIGITS
        ]
        if rightly:
            most = [(each.mean(1) > 0.5).all() for each in rightly]
            found += [
                Metric.share("digits kept in every frame", [each.all() for each in rightly]),
                Metric.share("digits kept in most frames of each quarter", most),
                mean("frames with their digit", [each.mean() for each in rightly], better="higher"),
            ]
        return Result(found)

    def _clips(self, model: Any) -> tuple[list[Clip], list[Motion]]:
        """Clips that go on, or real ones of that length, and what they show."""
        frames, size = model.shape[0], model.shape[-1]
        total = self.times * frames
        data, longer = (
            Shapes("test", length, size, digits=0.5, bounces=1.0, test_clips=self.n)
            for length in (frames, total)
        )
        if self.how == "real":
            return [e.data for e in longer], [longer.scene(i).motion for i in range(self.n)]
        motions = [data.scene(i).motion for i in range(self.n)]
        states = torch.zeros(self.n, total, *model.shape[1:])
        states[:, :frames] = model.encode([e.data for e in data]).cpu()
        x = complete(
            model,
            states,
            np.arange(total) < frames,
            how=_CLEAN if self.how == "clean" else self.how,  # type: ignore[arg-type]
            steps=self.steps,
            seed=self.seed,
            guidance=1.0,
            **({"prompt": [m.caption() for m in motions]} if self.prompted else {}),
        )
        return model.decode(x), motions


@dataclass(frozen=True)
class Pace:
    """What a frame costs far into a clip, when frames follow by the cache."""

    task: str
    model: str
    seed: int
    steps: int = 10
    source: str = MODEL
    measures: ClassVar[Sequence[str]] = (_PACKAGE, "suffuse.diffusion")

    def run(self, context: Context) -> Result:
        """Milliseconds of processor time at frame 16 and at frame 256, medians of eight frames
        around each, and their ratio; and what all tensors hold then, but for the frames made."""
        model = context.once(self.source, lambda: suffuse.load(self.source))
        test = context.once((self.source, "test"), lambda: model.dataset("test"))
        states = model.encode([test[0].data]).cpu()[:, :8]
        ends: list[float] = []
        held: list[float] = []

        def told(i: int) -> None:
            ends.append(time.process_time())
            if i + 1 in (16 - 8, 256 - 8):
                held.append((_held() - 4 * (i + 1) * states[0, 0].numel()) / 2**20)

        begin = time.process_time()
        following(model, states, 260, steps=self.steps, told=told)
        each = np.diff([begin, *ends])
        near, far = (1000 * float(np.median(each[k - 4 : k + 4])) for k in (16 - 8, 256 - 8))
        return Result(
            [
                Metric("frame 16", near, near, near, "lower", 8, unit="ms"),
                Metric("frame 256", far, far, far, "lower", 8, unit="ms"),
                Metric("frame 256 to frame 16", *(3 * [far / near]), "lower", 8, target=1.3),
                Metric("memory, frame 16", *(3 * [held[0]]), "lower", 1, unit="MB"),
                Metric("memory, frame 256", *(3 * [held[1]]), "lower", 1, unit="MB"),
            ]
        )


_BOTH = ("test", "train")
_CLEAN = partial(levels.sequential, context=0.0)
"""Frames that were made are told to be exactly right, as in teacher forcing."""


def _held() -> int:
    """The bytes of all tensors that are alive."""
    alive = [x.untyped_storage() for x in gc.get_objects() if type(x) in (Tensor, Parameter)]
    return sum({s.data_ptr(): s.nbytes() for s in alive}.values())


def _ratio(name: str, above: Any, below: Any) -> Metric:
    return Metric.of(name, multiple(above, below), "lower", len(above), target=1.2)


def _drift(made: Sequence[Clip]) -> list[Metric]:
    """How far frames are from those of other real clips of what bounces, quarter by quarter."""
    frames, size = made[0].frames.shape[:2]
    others = Shapes("test", frames, size, digits=0.5, bounces=1.0, test_clips=256, seed=1)
    each = quarters(Gauge([e.data for e in others], frames, (size, size))(made))
    return [
        *(mean(f"frames from real ones, quarter {k}", x.tolist()) for k, x in enumerate(each, 1)),
        _ratio("frames from real ones, quarter 4 to 2", each[3], each[1]),
    ]


def _pace(places: NDArray[np.float64]) -> float:
    """How far a thing goes at each frame, in pixels, on average; 0 where it is never seen."""
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    return float(np.nanmean(steps)) if np.isfinite(steps).any() else 0.0


def video(
    source: str = MODEL, teacher: str = "", seeds: int = 3, n: int = 256, clips: int = 64
) -> Iterator[Case]:
    """All of it.

    Args:
        source: the run, the model directory or the installed model that is measured.
        teacher: the same of a model that only ever saw clean frames before the noisy ones, as a
            baseline of long clips: trained with process.together=0, known=1 and rising=0.
        seeds: of sampling.
        n: clips made by prompt; clips: of which frames are made.
    """
    for seed in range(seeds):
        for guidance in (1.0, 1.5, 2.0, 3.0):
            name = f"guidance {guidance:g}"
            yield Words("video/words", name, seed, guidance=guidance, n=n, source=source)
        for steps in (5, 10, 40):
            name = f"guidance 2, {steps} steps"
            yield Words("video/words", name, seed, steps, n=n, source=source)
    yield from _frames(source, seeds, clips)
    for how in ("real", *get_args(How)):
        yield Long("video/long", how, 0, how, n=clips // 2, source=source)
    for how in ("full", "cached"):
        yield Long("video/long", f"{how}, no prompt", 0, how, False, n=clips // 2, source=source)
    clean = "sequential, made frames as clean"
    yield Long("video/long", clean, 0, "clean", n=clips // 2, source=source)
    if teacher:
        for name, how in (
            ("teacher forcing", "clean"),
            ("teacher forcing, sequential", "sequential"),
        ):
            yield Long("video/long", name, 0, how, n=clips // 2, source=teacher)
    yield Pace("video/pace", "cached", 0, source=source)


def short(source: str = MODEL) -> Iterator[Case]:
    """Some minutes: one seed, few clips of the model `source`."""
    yield Words("video/words", "guidance 2", 0, n=64, source=source)
    yield from _frames(source, 1, 32)
    for how in ("real", "full", "cached"):
        yield Long("video/long", how, 0, how, n=16, source=source)
    yield Pace("video/pace", "cached", 0, source=source)


def _frames(source: str, seeds: int, clips: int) -> Iterator[Case]:
    for what in get_args(Task):
        for how in usual(what):
            yield Frames(f"video/{what}", how, 0, what, how, n=clips, source=source)
        plans = get_args(How) if what == "prediction" else ("full", "sequential", "rolling")
        for seed in range(seeds):
            for how in plans:
                yield Frames(f"video/{what}", how, seed, what, how, n=clips, source=source)
            name = "full, no prompt"
            yield Frames(f"video/{what}", name, seed, what, "full", False, n=clips, source=source)
