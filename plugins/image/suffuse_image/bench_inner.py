"""Sliders on the network's inside: whether they flip one attribute and leave the others.

Of the digits that ship. Two attributes are measured on the picture itself: how much ink it has, and
how far it leans (the covariance of rows and columns over the variance of rows). A sample has one if
it has more than the median training picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image

import suffuse
from suffuse import stats
from suffuse.bench import Context, Result
from suffuse.model import inner
from suffuse.plugins.contracts import Example, Metric

from .bench_shared import CODE, share
from .classifier import Classifier
from .look import Look

__all__ = ["ATTRIBUTES", "Slider"]


def ink(image: Image.Image) -> float:
    """The mean of the pixels."""
    return float(np.asarray(image, dtype=np.float64).mean())


def slant(image: Image.Image) -> float:
    """How far columns move with rows."""
    p = np.asarray(image, dtype=np.float64)
    rows, columns = np.mgrid[: p.shape[0], : p.shape[1]]
    weight = p / max(p.sum(), 1e-9)
    y, x = rows - (weight * rows).sum(), columns - (weight * columns).sum()
    return -float((weight * x * y).sum() / max((weight * y * y).sum(), 1e-9))


ATTRIBUTES: dict[str, Callable[[Image.Image], float]] = {"ink": ink, "slant": slant}


@dataclass(frozen=True)
class Slider:
    """Samples without an attribute, made again with the network moved towards it.

    Attributes:
        attribute: of `ATTRIBUTES`.
        amount: how far, in differences of means.
    """

    task: str
    model: str
    seed: int
    attribute: str
    amount: float
    n: int = 200
    measures: ClassVar[Sequence[str]] = (*CODE, "suffuse.model")

    def run(self, context: Context) -> Result:
        """How often it flips, how often the digit changes, and what a linear probe reads."""
        model: Any = context.once("image/digits", lambda: suffuse.load("image/digits"))
        train = model.dataset("train")
        examples = [train[i] for i in range(len(train))]
        pictures = [example.data for example in examples]
        value = ATTRIBUTES[self.attribute]
        median = float(np.median([value(picture) for picture in pictures]))
        labels = [example.conditions["label"] for example in examples]
        direction = context.once(
            ("direction", self.attribute),
            lambda: inner.learn(model, pictures, [value(p) > median for p in pictures],
                                label=labels),
        )  # fmt: skip
        asked = [str(i % 10) for i in range(self.n)]
        before = model.sample(self.n, seed=self.seed, label=asked)
        with inner.moved(model, direction, self.amount):
            after = model.sample(self.n, seed=self.seed, label=asked)
        kept = [i for i in range(self.n) if value(before[i]) <= median]
        flipped = sum(value(after[i]) > median for i in kept)
        look = Look.of([Example(before[0], {})], train)
        judge = context.once("judge", lambda: Classifier.trained(look, train))
        first, second = (judge.recognise(look([p[i] for i in kept])) for p in (before, after))
        changed = int((first != second).sum())
        probed, low, high = (100 * k for k in direction.accuracy)
        other = next(name for name in ATTRIBUTES if name != self.attribute)
        bound = float(np.median([ATTRIBUTES[other](picture) for picture in pictures]))
        sides = [[ATTRIBUTES[other](p[i]) > bound for i in kept] for p in (before, after)]
        moved = stats.proportion(sum(a != b for a, b in zip(*sides, strict=True)), len(kept))
        return Result(
            [
                share(f"{self.attribute} flipped", flipped, len(kept)),
                _lower("digit changed", stats.proportion(changed, len(kept)), len(kept)),
                _lower(f"{other} flipped too", moved, len(kept)),
                Metric("probe right", probed, low, high, "higher", len(pictures), unit="%"),
            ]
        )


def _lower(name: str, found: Any, n: int) -> Metric:
    return Metric(name, 100 * found.value, 100 * found.low, 100 * found.high, "lower", n, unit="%")
