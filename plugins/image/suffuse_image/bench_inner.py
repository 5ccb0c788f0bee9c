"""Sliders on the network's inside: whether they flip one attribute and leave the others.

Of the emoji that ship. Three attributes are measured on the picture itself, where it is not white:
how warm its colours are (red less blue), how bright it is, and how much of the square it fills. A
picture has one if it has more of it than the median training picture; each is moved with the other
two held fixed (`apart`), for things and styles of the withheld pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from suffuse import stats
from suffuse.bench import Context, Result
from suffuse.model import inner
from suffuse.plugins.contracts import Metric

from .bench_shared import CODE, share, shipped

__all__ = ["ATTRIBUTES", "Slider"]

WHITE = 240
"""A pixel is part of the picture if a channel is below."""

LEARNED = 400
"""Training pictures that a direction is learned from."""

Pixels = NDArray[np.float64]


def _ink(image: Image.Image) -> tuple[Pixels, float]:
    """The pixels [N, 3] that are not white, and their share."""
    p = np.asarray(image.convert("RGB"), dtype=np.float64).reshape(-1, 3)
    seen = p.min(1) < WHITE
    return p[seen] if seen.any() else p, float(seen.mean())


ATTRIBUTES: dict[str, Callable[[Image.Image], float]] = {
    "warm": lambda image: float((_ink(image)[0] @ [1.0, 0.0, -1.0]).mean()),
    "bright": lambda image: float(_ink(image)[0].mean()),
    "large": lambda image: _ink(image)[1],
}


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
    n: int = 80
    measures: ClassVar[Sequence[str]] = (*CODE, "suffuse.model")

    def run(self, context: Context) -> Result:
        """How often it flips, how often each other one does, and what a linear probe reads."""
        model = shipped(context)
        train = model.dataset("train")
        pictures = [train[i].data for i in stats.evenly(len(train), LEARNED)]
        values = {name: np.array([f(p) for p in pictures]) for name, f in ATTRIBUTES.items()}
        medians = {name: float(np.median(x)) for name, x in values.items()}
        others = [name for name in ATTRIBUTES if name != self.attribute]
        direction = context.once(
            ("direction", self.attribute),
            lambda: inner.learn(
                model,
                pictures,
                values[self.attribute] > medians[self.attribute],
                apart=[(values[k] - values[k].mean()) / values[k].std() for k in others],
            ),
        )
        test = model.dataset("test")
        asked = [test[i].conditions for i in stats.evenly(len(test), self.n)]
        words: dict[str, Any] = {name: [c[name] for c in asked] for name in ("prompt", "style")}
        before = context.once(
            ("unmoved", self.seed, self.n),
            lambda: model.sample(len(asked), seed=self.seed, **words),
        )
        with inner.moved(model, direction, self.amount):
            after = model.sample(len(asked), seed=self.seed, **words)

        def has(name: str, images: Sequence[Image.Image]) -> NDArray[np.bool_]:
            return np.array([ATTRIBUTES[name](image) > medians[name] for image in images])

        kept = ~has(self.attribute, before)
        n = int(kept.sum())
        metrics = [
            share(f"{self.attribute} flipped", int(has(self.attribute, after)[kept].sum()), n)
        ]
        for name in others:
            changed = stats.proportion(int((has(name, before) != has(name, after))[kept].sum()), n)
            low, high = 100 * changed.low, 100 * changed.high
            metrics.append(
                Metric(f"{name} changed", 100 * changed.value, low, high, "lower", n, unit="%")
            )
        probed, low, high = (100 * k for k in direction.accuracy)
        metrics.append(Metric("probe right", probed, low, high, "higher", len(pictures), unit="%"))
        return Result(metrics)
