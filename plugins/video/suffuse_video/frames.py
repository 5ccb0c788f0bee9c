"""Frames made from other frames of their clip, and how near they come to the true ones.

What is given is the first half (prediction), every other frame (interpolation), or all but the
middle half (filling). Beside the model stands what needs none: copies, blends and warps along the
optical flow (`baselines`). True frames would have no error at all, so there is no floor.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from suffuse import stats
from suffuse.errors import SuffuseError, unknown
from suffuse.plugins.contracts import Dataset, Example, Metric

from . import baselines
from .clip import Clip
from .making import How, Plan, complete, window
from .temporal import ssim

__all__ = ["BASELINES", "Frames", "Task", "completed", "given", "likeness", "usual"]

logger = logging.getLogger("suffuse_video")

Pixels = NDArray[np.uint8]
Task = Literal["prediction", "interpolation", "filling"]

BASELINES = {
    "copy last": baselines.copy_last,
    "linear blend": baselines.blend,
    "flow warp": baselines.flow_warp,
}
_LEAST = 4
"""Frames of a clip that is looked at."""


def given(task: Task, frames: int) -> NDArray[np.bool_]:
    """Which frames are given: the first half, every other one, or all but the middle half."""
    i = np.arange(frames)
    if task == "prediction":
        return i < frames // 2
    if task == "interpolation":
        return i % 2 == 0
    return (i < frames // 4) | (i >= frames - frames // 4)


def usual(task: Task) -> list[str]:
    """The baselines of a task: to predict, a blend is a copy."""
    return [name for name in BASELINES if (task, name) != ("prediction", "linear blend")]


def completed(
    model: Any, states: Tensor, task: Task, how: How | Plan = "full", **settings: Any
) -> list[Clip]:
    """Clips with the frames that are not given made by the model, in one window.

    Args:
        model: with a noise level for each frame.
        states: of the true clips, [B, F, 3, h, w], F the model's length at most.
        task: what is given.
        how, settings: as for `making.window`.
    """
    make = complete if how == "cached" else window
    x = make(model, states, given(task, states.shape[1]), how=how, **settings)
    found: list[Clip] = model.decode(x)
    return found


def likeness(
    clips: Sequence[Pixels], true: Sequence[Pixels], task: Task, of: str = "", seed: int = 0
) -> list[Metric]:
    """PSNR and SSIM over the frames of each clip that were not given.

    PSNR is 10 log10(255² / mean squared error over clips), its interval that of the mean.

    Args:
        clips, true: frames [F, h, w, 3] of each clip.
        task: what was given.
        of: what is said behind the names of the figures.
    """
    pairs = []
    for a, b in zip(clips, true, strict=True):
        new = ~given(task, len(b))
        pairs.append((a[new], b[new]))
    errors = [baselines.squared_error(*pair) for pair in pairs]
    error = stats.mean(torch.tensor(errors, dtype=torch.float64), seed=seed)
    alike = stats.mean(torch.tensor([ssim(*p) for p in pairs], dtype=torch.float64), seed=seed)

    def level(value: float) -> float:
        return 10 * math.log10(255**2 / max(value, 1e-3))

    ends = level(error.value), level(error.high), level(error.low)
    return [
        Metric(f"PSNR{of}", *ends, better="higher", n=len(pairs), unit="dB"),
        Metric.of(f"SSIM{of}", alike, "higher", len(pairs)),
    ]


class Frames:
    """PSNR and SSIM of frames that the model makes from other frames, beside what needs no model.

    It makes its samples itself (`make`), of held-out clips, with what is told of them as conditions
    and guidance 1 unless another weight is asked for.

    Args:
        tasks: what is given; see `given`.
        how: the matrix of levels: "full", "sequential" or "rolling".
        clips: so many held-out clips at most.
    """

    def __init__(
        self,
        tasks: Sequence[Task] = ("prediction", "interpolation"),
        how: How = "full",
        clips: int = 64,
    ) -> None:
        for name, value, known in [
            *(("task", task, get_args(Task)) for task in tasks),
            ("how", how, ("full", "sequential", "rolling")),
        ]:
            if value not in known:
                raise unknown(name, value, known)
        if clips < 2:
            raise SuffuseError(f"clips is 2 or more, and {clips} is not")
        self.tasks, self.how, self.clips = tuple(tasks), how, clips

    def make(
        self,
        model: Any,
        examples: Sequence[Example],
        *,
        seed: int,
        guidance: float | None = None,
        **settings: Any,
    ) -> list[Example]:
        """Clips with frames made, whose conditions say what of ("task") and the true clip ("true").

        Raises:
            SuffuseError: for a model without a noise level for each frame.
        """
        groups: dict[int, list[tuple[Tensor, Example]]] = {}
        for example in examples[: self.clips]:
            states = model.encoder.states(example.data)[: model.shape[0]]
            if len(states) >= _LEAST:
                groups.setdefault(len(states), []).append((states, example))
        found = []
        for group in groups.values():
            states = torch.stack([each for each, _ in group])
            told = {name: [e.conditions.get(name) for _, e in group] for name in model.conditions}
            weight = 1.0 if guidance is None else guidance
            for task in self.tasks:
                clips = completed(
                    model, states, task, self.how, seed=seed, guidance=weight, **settings, **told
                )
                found += [
                    Example(clip, {"task": task, "true": true})
                    for clip, true in zip(clips, model.decode(states), strict=True)
                ]
        return found

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """The figures of the model, and of each baseline, by task.

        Raises:
            SuffuseError: for fewer than two clips that `make` made.
        """
        by_task = {
            task: [s for s in samples if s.conditions.get("task") == task] for task in self.tasks
        }
        found = []
        for task, own in by_task.items():
            if len(own) < 2:
                raise SuffuseError(
                    "video/frames judges clips of which some frames were made from the others, "
                    f"{_LEAST} frames or more, and needs 2 of them for each task; of {task} there "
                    f"are {len(own)}"
                )
            true = [s.conditions["true"].frames for s in own]
            found += likeness([s.data.frames for s in own], true, task, f", {task}", seed)
            for name in usual(task):
                try:
                    copies = [BASELINES[name](t, given(task, len(t))) for t in true]
                except SuffuseError as error:  # OpenCV is not installed
                    logger.warning("no figure of %s: %s", name, error)
                    continue
                found += likeness(copies, true, task, f", {task}, {name}", seed)
        return found
