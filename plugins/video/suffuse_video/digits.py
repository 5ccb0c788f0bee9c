"""A digit that bounces in its frame: a generator with known motion.

The digit is drawn by the plugin (`drawing.DIGITS`), white on black; it moves straight on and comes
back from the walls, by the law of reflection or in a direction left to chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Example, Split

from . import drawing
from .clip import Clip
from .splits import Generated

__all__ = ["Digits"]

_NAMES = tuple("0123456789")


class Digits(Generated):
    """One split of the moving digits. Clip i of a seed is always the same.

    Args:
        split: "train" or "test": other starts and speeds.
        frames: of a clip.
        size: of a frame, in pixels, at least 12.
        fps: frames per second.
        bounce: "mirror", as light does, or "random".
        speed: pixels at each frame, at most.
        clips, test_clips: how many to train and to test on.
        seed: of labels, starts and directions.

    >>> example = Digits("train", frames=4)[0]
    >>> example.data.frames.shape, example.conditions["label"] in "0123456789"
    ((4, 16, 16, 3), True)
    """

    licence = "made by the plugin; no rights reserved"
    source = "video/digits, drawn by suffuse-video"

    def __init__(
        self,
        split: Split = "train",
        frames: int = 16,
        size: int = 16,
        fps: float = 8.0,
        bounce: Literal["mirror", "random"] = "mirror",
        speed: float = 1.0,
        clips: int = 4096,
        test_clips: int = 512,
        seed: int = 0,
    ) -> None:
        super().__init__(split, clips, test_clips, seed)
        if frames < 1 or size < 12 or min(clips, test_clips) < 1 or not (fps > 0 and speed >= 0):
            raise SuffuseError(
                "digits take 1 frame or more of 12 pixels or more, 1 clip or more, and a rate "
                f"above 0; given {frames}, {size}, {clips} and {test_clips}, {fps}"
            )
        self.frames, self.size, self.fps = frames, size, fps
        self.bounce, self.speed = bounce, speed
        self.cell = size / 16

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return {"label": Condition("category", _NAMES)}

    def scene(self, index: int) -> tuple[int, NDArray[np.float64]]:
        """What clip `index` shows: the digit and its places [F, 2] in pixels, y downwards."""
        random = self.random(index)
        number = int(random.integers(10))
        low = np.array([2.5, 3.5]) * self.cell
        high = self.size - 1 - low
        at = random.uniform(low, high)
        velocity = self._velocity(random)
        places = [at]
        for _ in range(self.frames - 1):
            at = at + velocity
            out = (at < low) | (at > high)
            if out.any():
                at = np.where(at < low, 2 * low - at, np.where(at > high, 2 * high - at, at))
                inward = np.where(at < (low + high) / 2, 1.0, -1.0)
                new = abs(self._velocity(random)) if self.bounce == "random" else abs(velocity)
                velocity = np.where(out, inward * new, velocity)
            places.append(at)
        return number, np.array(places)

    def __getitem__(self, index: int) -> Example:
        number, at = self.scene(index)
        ink = drawing.digit(number, at, self.size, self.cell)
        pixels = np.rint(255 * ink).astype(np.uint8)[..., None].repeat(3, -1)
        return Example(Clip(pixels, self.fps), {"label": _NAMES[number]})

    def _velocity(self, random: np.random.Generator) -> NDArray[np.float64]:
        angle = random.uniform(0, 2 * np.pi)
        fast = random.uniform(0.4, 1.0) * self.speed * self.cell
        return fast * np.array([np.cos(angle), np.sin(angle)])
