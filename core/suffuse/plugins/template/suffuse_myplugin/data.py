"""The data: curves, each with its speed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from suffuse.plugins.contracts import Condition, Example, Split

POINTS = 64
"""Values of a curve."""

SPEEDS = {"slow": 2, "fast": 5}
"""Periods of a curve, by the name of its speed."""


class Waves:
    """Sines of random phase and strength under a little noise, float64 [64].

    Args:
        split: "train" or "test", which are independent draws.
        n: how many curves.
        noise: the standard deviation of the noise, where the sines have a strength of 0.5 to 1.
    """

    licence = "CC0-1.0"

    def __init__(self, split: Split, *, n: int = 2000, noise: float = 0.05) -> None:
        random = np.random.default_rng(["train", "test"].index(split))
        self.speeds = random.choice(list(SPEEDS), n)
        periods = np.array([SPEEDS[speed] for speed in self.speeds])
        place = np.arange(POINTS) / POINTS
        turns = periods[:, None] * place + random.uniform(0, 1, (n, 1))
        curves = random.uniform(0.5, 1.0, (n, 1)) * np.sin(2 * np.pi * turns)
        self.curves = curves + noise * random.standard_normal((n, POINTS))

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return {"speed": Condition("category", tuple(SPEEDS))}

    def __len__(self) -> int:
        return len(self.curves)

    def __getitem__(self, index: int) -> Example:
        return Example(self.curves[index], {"speed": str(self.speeds[index])})
