"""How long a training takes until what it makes is good: ours beside that of other libraries.

Good is a KID at or below a level, against the test split, on stated features. Time is that of
training alone, in core-seconds, which what else the machine does moves less than seconds.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch

from suffuse import plugins
from suffuse.bench import Context, Record, Result, Table
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset, Example, Metric
from suffuse_benchmarks.trainers import (
    DIGITS,
    EMOJI,
    TRAINERS,
    Look,
    Subject,
    as_image,
    as_tensor,
)

__all__ = ["TimeToQuality", "cases", "table"]

SUBJECTS = {f"training/core-seconds until {s.name} are good": s for s in (DIGITS, EMOJI)}
"""By the task's name."""


@dataclass(frozen=True)
class TimeToQuality:
    """The first look at which a model's KID is at or below the level.

    Attributes:
        level: of KID; 0 for the subject's.
        limit: core-seconds at which the other libraries are stopped; 0 for the subject's.
    """

    task: str
    model: str
    seed: int
    threads: int
    level: float
    limit: float
    measures: ClassVar = ("suffuse.training", "suffuse.nn", "suffuse_benchmarks.trainers",
                          "suffuse_image", "diffusers", "denoising_diffusion_pytorch")  # fmt: skip

    def run(self, context: Context) -> Result:
        """Train and look in turns."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            return self._looked()
        finally:
            torch.set_num_threads(before)

    def _looked(self) -> Result:
        subject = SUBJECTS[self.task]
        level, limit = self.level or subject.level, self.limit or subject.limit
        if limit < 0:
            raise SuffuseError(f"limit is a number of core-seconds above 0; given {limit:g}")
        train, test = (_split(subject, split) for split in ("train", "test"))
        pictures = as_tensor([train[i].data for i in range(len(train))])
        judge: Any = plugins.build("evaluator", {"name": "image/kid", "features": subject.features})

        def kid(look: Look) -> Metric:
            made = [Example(as_image(picture)) for picture in look.draw(subject.samples)]
            found: Metric = judge.evaluate(made, test=test, train=train, seed=0)[0]
            return found

        looks = [share * limit for share in subject.looks]
        curve, reached = [], False
        for look in TRAINERS[self.model](subject, pictures, self.seed, looks):
            figure = kid(look)
            curve.append((look.cores, look.seconds, figure.value))
            reached = figure.value <= level
            if reached:
                break
        cores, seconds, value = curve[-1]
        return Result(
            [
                Metric("core-seconds", cores, cores, cores, "lower", n=subject.samples),
                Metric("seconds", seconds, seconds, seconds, "lower", n=subject.samples, unit="s"),
                figure,
            ],
            {"reached": reached, "curve": curve, "level": level},
            note="" if reached else f"not reached: KID {value:.3g} at the end",
        )


def _split(subject: Subject, split: str) -> Dataset:
    return cast(Dataset, plugins.build("dataset", subject.asked().dataset, split=split))


def cases(
    seeds: int, threads: int, level: float, limit: float, with_peers: bool
) -> Iterator[TimeToQuality]:
    """One for each subject, seed and library that is there; none without the image plugin."""
    if importlib.util.find_spec("suffuse_image") is None:
        return
    for task, seed, name in itertools.product(SUBJECTS, range(seeds), TRAINERS):
        there = importlib.util.find_spec(name.replace("-", "_")) is not None
        if name == "suffuse" or (there and with_peers):
            yield TimeToQuality(task, name, seed, threads, level, limit)


def table(records: Sequence[Record]) -> list[Table]:
    """For each subject medians over seeds, and how many times ours is faster at least."""
    return [found for task in SUBJECTS for found in _table(task, records)]


def _table(task: str, records: Sequence[Record]) -> list[Table]:
    spent: dict[str, list[float]] = {}
    reached: dict[str, list[bool]] = {}
    for record in records:
        if record.task == task and record.error is None:
            spent.setdefault(record.model, []).append(record.metrics[0].value)
            reached.setdefault(record.model, []).append(bool(record.detail["reached"]))
    if "suffuse" not in spent:
        return []
    ours = float(np.median(spent["suffuse"]))
    rows = [
        (
            name,
            f"{'' if all(reached[name]) else '> '}{np.median(times):.0f}",
            f"{min(times):.0f} to {max(times):.0f}",
            f"{sum(reached[name])} of {len(times)}",
            f"{'' if all(reached[name]) else '> '}{np.median(times) / ours:.1f}",
        )
        for name, times in spent.items()
    ]
    head = ("library", "core-seconds, median", "range", "seeds that got there", "times ours")
    return [Table(task.removeprefix("training/").capitalize(), head, rows)]
