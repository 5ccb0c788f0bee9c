"""How long a training takes until what it makes is good: ours beside that of other libraries.

Good is a KID of digits at or below `level`, of as many samples as the test split has, on features
of the image plugin's classifier; without a level it is the recipe's own target, 1.5 times the upper
bound of real against real. Time is that of training alone, in core-seconds, which what else the
machine does moves less than seconds.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from PIL import Image

from suffuse import plugins
from suffuse.bench import Context, Record, Result, Table
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset, Example, Metric
from suffuse_benchmarks.trainers import TRAINERS, Look

__all__ = ["TimeToQuality", "cases", "table"]

TASK = "training/core-seconds until digits are good"
LOOKS = (0.25, 0.5, 0.75, 1.0)
"""Shares of `limit` after which the other libraries' models are looked at."""


@dataclass(frozen=True)
class TimeToQuality:
    """The first look at which a model's KID is at or below the level.

    Attributes:
        level: of KID; 0 for the recipe's target.
        limit: core-seconds at which the other libraries are stopped.
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
        train, test = (
            cast(Dataset, plugins.build("dataset", {"name": "image/digits"}, split=split))
            for split in ("train", "test")
        )
        pictures = torch.stack(
            [torch.from_numpy(np.array(train[i].data))[None] / 255 for i in range(len(train))]
        )
        judge: Any = plugins.build("evaluator", {"name": "image/kid", "target": 1.5})

        def kid(look: Look) -> Metric:
            values = (look.draw(len(test)).clamp(0, 1) * 255).round().to(torch.uint8)
            made = [Example(Image.fromarray(k[0].numpy())) for k in values]
            found: Metric = judge.evaluate(made, test=test, train=train, seed=0)[0]
            return found

        if self.limit <= 0:
            raise SuffuseError(f"limit is a number of core-seconds above 0; given {self.limit:g}")
        looks = [share * self.limit for share in LOOKS]
        curve, reached = [], False
        for look in TRAINERS[self.model](pictures, self.seed, looks):
            figure = kid(look)
            curve.append((look.cores, look.seconds, figure.value))
            reached = figure.value <= (self.level or cast(float, figure.target))
            if reached:
                break
        cores, seconds, value = curve[-1]
        return Result(
            [
                Metric("core-seconds", cores, cores, cores, "lower", n=len(test)),
                Metric("seconds", seconds, seconds, seconds, "lower", n=len(test), unit="s"),
                figure,
            ],
            {"reached": reached, "curve": curve, "level": self.level or figure.target},
            note="" if reached else f"not reached: KID {value:.3g} at the end",
        )


def cases(
    seeds: int, threads: int, level: float, limit: float, with_peers: bool
) -> Iterator[TimeToQuality]:
    """One for each library that is there and each seed; none without the image plugin."""
    if importlib.util.find_spec("suffuse_image") is None:
        return
    for seed in range(seeds):
        for name in TRAINERS:
            there = importlib.util.find_spec(name.replace("-", "_")) is not None
            if name == "suffuse" or (there and with_peers):
                yield TimeToQuality(TASK, name, seed, threads, level, limit)


def table(records: Sequence[Record]) -> list[Table]:
    """Medians over seeds, and how many times ours is faster at least."""
    spent: dict[str, list[float]] = {}
    reached: dict[str, list[bool]] = {}
    for record in records:
        if record.task == TASK and record.error is None:
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
    return [Table("Core-seconds of training until digits are good", head, rows)]
