"""Coloured shapes that move as their caption says: a generator with known motion.

    a COLOUR SHAPE stays
    a COLOUR SHAPE moves [slowly] DIRECTION[, then DIRECTION]

One shape moves on black. With a second direction it turns in the middle of the clip. It goes 0.03
of the frame's side at each frame, half of that slowly, and never leaves the frame. Where it starts
is left to chance.

A fifth of all combinations of colour, shape and motion (by the SHA-256 digest of the caption) are
the test split alone: they show whether a model has learned the words or the sentences.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Example, Split

from . import drawing
from .clip import Clip

__all__ = ["COLOURS", "DIRECTIONS", "VOCABULARY", "Motion", "Shapes", "captions", "parse", "path"]

Array = NDArray[np.float64]

COLOURS = {
    "red": (230, 40, 40),
    "green": (40, 200, 60),
    "blue": (60, 90, 255),
    "yellow": (240, 220, 50),
    "purple": (190, 60, 220),
    "white": (240, 240, 240),
}

DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
"""x and y, y downwards."""

VOCABULARY = ("a", *COLOURS, *drawing.SHAPES, "stays", "moves", "slowly", *DIRECTIONS, "then")

PACE = 0.03
"""Of the frame's side, at each frame."""

RADIUS = (0.165, 0.195)
"""Of a shape, in sides of the frame."""

MARGIN = 0.6
"""Pixels between a shape and the edge, at least."""

TEST_SHARE = 0.2


@dataclass(frozen=True)
class Motion:
    """What a caption asks for.

    Attributes:
        colour, shape: names.
        directions: none, one, or two that follow each other.
        slowly: at half the pace.
    """

    colour: str
    shape: str
    directions: tuple[str, ...] = ()
    slowly: bool = False

    def caption(self) -> str:
        """The sentence.

        >>> Motion("red", "circle", ("left", "up")).caption()
        'a red circle moves left, then up'
        """
        if not self.directions:
            return f"a {self.colour} {self.shape} stays"
        how = "moves slowly" if self.slowly else "moves"
        return f"a {self.colour} {self.shape} {how} {', then '.join(self.directions)}"


def words(caption: str) -> list[str]:
    """The words of a caption, in lower case, without commas and full stops."""
    return caption.lower().replace(",", " ").replace(".", " ").split()


def parse(caption: str) -> Motion | None:
    """What a caption asks for; None where it is not of the sentences above.

    >>> parse("A blue cross moves slowly up.")
    Motion(colour='blue', shape='cross', directions=('up',), slowly=True)
    """
    said = words(caption)
    found = Motion(
        next((w for w in said if w in COLOURS), ""),
        next((w for w in said if w in drawing.SHAPES), ""),
        tuple(w for w in said if w in DIRECTIONS),
        "slowly" in said,
    )
    return found if words(found.caption()) == said else None


@cache
def captions(split: Split) -> tuple[str, ...]:
    """All captions of a split."""
    ways = [()] + [(d,) for d in DIRECTIONS]
    ways += [(d, e) for d in DIRECTIONS for e in DIRECTIONS if d != e]
    every = [
        Motion(colour, shape, way, slowly).caption()
        for colour in COLOURS
        for shape in drawing.SHAPES
        for way in ways
        for slowly in ((False, True) if way else (False,))
    ]

    def held_out(caption: str) -> bool:
        digest = hashlib.sha256(f"video/shapes/{caption}".encode()).digest()
        return int.from_bytes(digest[:4], "big") < TEST_SHARE * 2**32

    return tuple(c for c in every if held_out(c) == (split == "test"))


def path(motion: Motion, frames: int, size: int) -> Array:
    """Where the shape is at each frame from where it starts, in pixels [F, 2], y downwards."""
    step = PACE * size * (0.5 if motion.slowly else 1.0)
    i = np.arange(frames)
    if len(motion.directions) < 2:
        shares = [i]
    else:
        half = (frames - 1) / 2
        shares = [np.minimum(i, half), np.maximum(i - half, 0)]
    out = np.zeros((frames, 2))
    for direction, share in zip(motion.directions, shares, strict=False):
        out += share[:, None] * step * np.array(DIRECTIONS[direction])
    return out


class Shapes:
    """One split of the captioned shapes. Clip i of a seed is always the same.

    Args:
        split: "train" or "test"; captions of one are not in the other.
        frames: of a clip.
        size: of a frame, in pixels, at least 8.
        fps: frames per second.
        clips: how many to train on.
        test_clips: how many to test on.
        seed: of captions, starts and sizes.

    >>> data = Shapes("test", frames=4)
    >>> data[0].data.frames.shape, parse(data[0].conditions["prompt"]) is not None
    ((4, 16, 16, 3), True)
    """

    licence = "made by the plugin; no rights reserved"
    source = "video/shapes, drawn by suffuse-video"

    def __init__(
        self,
        split: Split = "train",
        frames: int = 16,
        size: int = 16,
        fps: float = 8.0,
        clips: int = 4096,
        test_clips: int = 512,
        seed: int = 0,
    ) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"split is 'train' or 'test', not {split!r}")
        if frames < 1 or size < 8 or min(clips, test_clips) < 1 or not fps > 0:
            raise SuffuseError(
                "shapes take 1 frame or more of 8 pixels or more, 1 clip or more, and a rate above "
                f"0; given {frames}, {size}, {clips} and {test_clips}, {fps}"
            )
        most = int((size - 1 - 2 * (RADIUS[1] * size + MARGIN)) / (PACE * size)) + 1
        if frames > most:
            raise SuffuseError(
                f"in {frames} frames a shape would leave a frame of {size} pixels: {most} frames "
                "at most; longer clips are made by going on from their last frames"
            )
        self.split, self.frames, self.size, self.fps, self.seed = split, frames, size, fps, seed
        self._length = clips if split == "train" else test_clips

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return {"prompt": Condition("text", VOCABULARY)}

    def __len__(self) -> int:
        return self._length

    def scene(self, index: int) -> tuple[Motion, Array, float]:
        """What clip `index` shows: the motion, the places [F, 2] in pixels, the radius."""
        if not -self._length <= index < self._length:
            raise IndexError(index)
        key = [self.seed, index % self._length, self.split == "test"]
        random = np.random.default_rng(key)
        said = captions(self.split)
        motion = parse(said[int(random.integers(len(said)))])
        assert motion is not None
        radius = self.size * random.uniform(*RADIUS)
        moved = path(motion, self.frames, self.size)
        room = radius + MARGIN
        low, high = room - moved.min(0), self.size - 1 - room - moved.max(0)
        return motion, random.uniform(low, high) + moved, radius

    def __getitem__(self, index: int) -> Example:
        motion, at, radius = self.scene(index)
        cover = drawing.shape(motion.shape, at, self.size, radius)
        pixels = np.rint(cover[..., None] * np.array(COLOURS[motion.colour])).astype(np.uint8)
        return Example(Clip(pixels, self.fps), {"prompt": motion.caption()})
