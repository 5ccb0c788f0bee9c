"""Sliders on the network's inside: whether they flip one attribute and leave the others.

Of the emoji that ship. Three attributes are measured on the picture itself, where it is not white:
how warm its colours are (red less blue), how bright it is, and how much of the square it fills. A
picture has one if it has more of it than the median training picture; each is moved with the other
two held fixed, for things and styles of the withheld pairs. The style that is black on white takes
no part: no such picture can be warm or bright.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from suffuse import stats
from suffuse.bench import Context, Result
from suffuse.model import inner
from suffuse.model.sliders import Sliders, flips
from suffuse.plugins.contracts import Dataset, Example, Metric

from .bench_shared import CODE, PLAIN, shipped

__all__ = ["ATTRIBUTES", "Slider"]

WHITE = 240
"""A pixel is part of the picture if a channel is below."""

LEARNED = 2000
"""Training pictures of all styles, among them those that a direction is learned from."""

CALIBRATED = 96
"""Samples for prompts of the training split by which directions are untangled."""

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


def _coloured(data: Dataset) -> list[Example]:
    """Evenly spaced examples of all styles but the one that is black and white."""
    some = [data[i] for i in stats.evenly(len(data), LEARNED)]
    return [e for e in some if e.conditions["style"] != PLAIN]


def _words(examples: Sequence[Example]) -> dict[str, Any]:
    return {name: [e.conditions[name] for e in examples] for name in ("prompt", "style")}


def _learned(
    model: Any, train: Sequence[Example], values: Mapping[str, NDArray[np.float64]]
) -> Sliders:
    """Sliders of all attributes, by directions that are kept from each other as they are read."""
    directions = inner.learn_apart(model, [e.data for e in train], list(values.values()))
    some = stats.evenly(len(train), CALIBRATED)
    return Sliders.fit(
        model,
        directions,
        list(ATTRIBUTES.values()),
        n=CALIBRATED,
        seed=2**40,
        **_words([train[i] for i in some]),
    )


@dataclass(frozen=True)
class Slider:
    """Samples without an attribute, made again with as much of it as a quantile of the data.

    Attributes:
        attribute: of `ATTRIBUTES`.
        quantile: of the training pictures, to which it is moved.
    """

    task: str
    model: str
    seed: int
    attribute: str
    quantile: float
    n: int = 110
    measures: ClassVar[Sequence[str]] = (*CODE, "suffuse.model")

    def run(self, context: Context) -> Result:
        """How often it flips, how often each other one does, and what a linear probe reads."""
        model = shipped(context)
        train, test = _coloured(model.dataset("train")), _coloured(model.dataset("test"))
        pictures = [e.data for e in train]
        values = {name: np.array([f(p) for p in pictures]) for name, f in ATTRIBUTES.items()}
        medians = {name: float(np.median(x)) for name, x in values.items()}
        sliders = context.once("sliders", lambda: _learned(model, train, values))
        number = list(ATTRIBUTES).index(self.attribute)
        target = float(np.quantile(values[self.attribute], self.quantile))
        words = _words(test[: self.n])
        before = context.once(
            ("unmoved", self.seed, self.n),
            lambda: model.sample(self.n, seed=self.seed, **words),
        )
        after = sliders({number: target}, self.n, seed=self.seed, **words)

        metrics = flips(ATTRIBUTES, medians, self.attribute, before, after)
        probed, low, high = (100 * k for k in sliders.directions[number].accuracy)
        metrics.append(Metric("probe right", probed, low, high, "higher", len(pictures), unit="%"))
        return Result(metrics)
