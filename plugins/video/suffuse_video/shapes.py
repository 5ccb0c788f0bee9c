"""Coloured shapes and digits that move as their caption says: a generator with known motion.

    a COLOUR THING stays[, the camera pans DIRECTION | zooms in | zooms out]
    a COLOUR THING moves [slowly] DIRECTION[, then DIRECTION]
    a COLOUR THING bounces

One thing moves on black: a shape, or a digit named "zero" to "nine". With a second direction it
turns in the middle of the clip. It goes 0.03 of the frame's side at each frame, half of that
slowly. Where a camera pans, the picture goes the other way; where it zooms, the picture grows from
the middle, or shrinks. What bounces goes straight on in a direction left to chance and comes back
from the walls by the law of reflection. Nothing ever leaves the frame. Where a thing starts is left
to chance.

The strength of a motion, a number that some clips tell, is its pace as a share of 0.03 of the side:
these clips are captioned without "slowly".

A fifth of all combinations of colour, thing and motion (by the SHA-256 digest of the caption) are
the test split alone: they show whether a model has learned the words or the sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Example, Split

from . import drawing
from .clip import Clip
from .splits import Generated, fraction

__all__ = [
    "CAMERAS",
    "COLOURS",
    "DIGITS",
    "DIRECTIONS",
    "VOCABULARY",
    "Motion",
    "Scene",
    "Shapes",
    "captions",
    "drawn",
    "parse",
    "path",
]

Array = NDArray[np.float64]

COLOURS = {
    "red": (230, 40, 40),
    "green": (40, 200, 60),
    "blue": (60, 90, 255),
    "yellow": (240, 220, 50),
    "purple": (190, 60, 220),
    "white": (240, 240, 240),
}

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

THINGS = (*drawing.SHAPES, *DIGITS)

DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
"""x and y, y downwards."""

CAMERAS = (*(f"pans {d}" for d in DIRECTIONS), "zooms in", "zooms out")

VOCABULARY = (
    *("a", *COLOURS, *THINGS, "stays", "moves", "slowly", *DIRECTIONS, "then", "bounces"),
    *("the", "camera", "pans", "zooms", "in", "out"),
)

PACE = 0.03
"""Of the frame's side, at each frame."""

RADIUS = (0.165, 0.195)
"""Of a shape, in sides of the frame."""

CELL = 0.9 / 16
"""Of a digit's bitmap, in sides of the frame."""

ZOOM = 1.6
"""How much larger things are at the end of a zoom, or at its beginning."""

BOUNCE = (0.6, 1.5)
"""The pace of what bounces, in paces."""

MARGIN = 0.6
"""Pixels between a thing and the edge, at least."""

TEST_SHARE = 0.2


@dataclass(frozen=True)
class Motion:
    """What a caption asks for.

    Attributes:
        colour, thing: names.
        directions: none, one, or two that follow each other.
        slowly: at half the pace.
        camera: one of `CAMERAS`, or empty.
        bounces: whether it goes straight on and comes back from the walls.
    """

    colour: str
    thing: str
    directions: tuple[str, ...] = ()
    slowly: bool = False
    camera: str = ""
    bounces: bool = False

    def caption(self) -> str:
        """The sentence.

        >>> Motion("red", "circle", ("left", "up")).caption()
        'a red circle moves left, then up'
        >>> Motion("blue", "seven", camera="zooms in").caption()
        'a blue seven stays, the camera zooms in'
        """
        what = f"a {self.colour} {self.thing}"
        if self.bounces:
            return f"{what} bounces"
        if self.directions:
            how = "moves slowly" if self.slowly else "moves"
            return f"{what} {how} {', then '.join(self.directions)}"
        return f"{what} stays, the camera {self.camera}" if self.camera else f"{what} stays"


def words(caption: str) -> list[str]:
    """The words of a caption, in lower case, without commas and full stops."""
    return caption.lower().replace(",", " ").replace(".", " ").split()


def parse(caption: str) -> Motion | None:
    """What a caption asks for; None where it is not of the sentences above.

    >>> parse("A blue cross moves slowly up.")
    Motion(colour='blue', thing='cross', directions=('up',), slowly=True, camera='', bounces=False)
    """
    said = words(caption)
    camera = " ".join(said[said.index("camera") + 1 :]) if "camera" in said else ""
    found = Motion(
        next((w for w in said if w in COLOURS), ""),
        next((w for w in said if w in THINGS), ""),
        () if camera else tuple(w for w in said if w in DIRECTIONS),
        "slowly" in said,
        camera if camera in CAMERAS else "",
        "bounces" in said,
    )
    return found if words(found.caption()) == said else None


WAYS = (
    *((d,) for d in DIRECTIONS),
    *((d, e) for d in DIRECTIONS for e in DIRECTIONS if d != e),
)
"""Directions that are asked for."""

MOTIONS = (
    Motion("", ""),
    *(Motion("", "", way, slowly) for way in WAYS for slowly in (False, True)),
    *(Motion("", "", camera=camera) for camera in CAMERAS),
    Motion("", "", bounces=True),
)
"""All that a thing can be asked to do."""


@cache
def captions(split: Split) -> tuple[str, ...]:
    """All captions of a split."""
    every = [
        replace(motion, colour=colour, thing=thing).caption()
        for colour in COLOURS
        for thing in THINGS
        for motion in MOTIONS
    ]

    return tuple(
        c for c in every if (fraction(f"video/shapes/{c}") < TEST_SHARE) == (split == "test")
    )


@cache
def _kinds(split: Split, still: bool) -> tuple[tuple[str, ...], ...]:
    """The captions of shapes and of digits, each without and with bouncing."""
    found: list[list[str]] = [[], [], [], []]
    for caption in captions(split):
        motion = parse(caption)
        assert motion is not None
        if not (still and (motion.directions or motion.camera.startswith("pans"))):
            found[2 * (motion.thing in DIGITS) + motion.bounces].append(caption)
    return tuple(tuple(kind) for kind in found)


def path(motion: Motion, frames: int, size: int, pace: float | None = None) -> Array:
    """Where a thing is at each frame from where it starts, in pixels [F, 2], y downwards.

    Not known for what bounces, nor where the camera zooms: there it is as if it stayed.

    Args:
        pace: pixels at each frame; that of the words where None.
    """
    if pace is None:
        pace = PACE * size * (0.5 if motion.slowly else 1.0)
    i = np.arange(frames)
    directions, sign = motion.directions, 1.0
    if motion.camera.startswith("pans"):
        directions, sign = (motion.camera.split()[1],), -1.0
    if len(directions) < 2:
        shares = [i]
    else:
        half = (frames - 1) / 2
        shares = [np.minimum(i, half), np.maximum(i - half, 0)]
    out = np.zeros((frames, 2))
    for direction, share in zip(directions, shares, strict=False):
        out += sign * share[:, None] * pace * np.array(DIRECTIONS[direction])
    return out


def zoom(motion: Motion, frames: int) -> Array:
    """How large things are at each frame [F], against where a zoom is small."""
    if not motion.camera.startswith("zooms"):
        return np.ones(frames)
    way = np.linspace(0, 1, frames) if motion.camera == "zooms in" else np.linspace(1, 0, frames)
    return np.asarray(ZOOM**way)


@dataclass(frozen=True)
class Scene:
    """What a clip shows.

    Attributes:
        motion: what the caption says.
        at: places of the centre [F, 2] in pixels, y downwards.
        scale: a shape's radius or a digit's cell in pixels at each frame, [F].
        strength: the pace as a share of the usual one; None where only the words tell it.
    """

    motion: Motion
    at: Array
    scale: Array
    strength: float | None = None


def drawn(scene: Scene, size: int) -> NDArray[np.uint8]:
    """The frames of a scene, [F, size, size, 3]."""
    if scene.motion.thing in DIGITS:
        number = DIGITS.index(scene.motion.thing)
        ink = drawing.digit(number, scene.at, size, scene.scale)
    else:
        ink = drawing.shape(scene.motion.thing, scene.at, size, scene.scale)
    return np.rint(ink[..., None] * np.array(COLOURS[scene.motion.colour])).astype(np.uint8)


def reflected(start: Array, velocity: Array, frames: int, low: Array, high: Array) -> Array:
    """Places [F, 2] on a straight way that walls at `low` and `high` throw back."""
    span = high - low
    way = np.mod(start - low + np.arange(frames)[:, None] * velocity, 2 * span)
    return np.asarray(low + span - abs(way - span))


class Shapes(Generated):
    """One split of the captioned clips. Clip i of a seed is always the same.

    Args:
        split: "train" or "test"; captions of one are not in the other.
        frames: of a clip. Where things would leave the frame in so many, clips stay, bounce or
            zoom.
        size: of a frame, in pixels, at least 8.
        fps: frames per second.
        digits, bounces, strengths: the shares of clips that show digits; that bounce; and, of those
            that go somewhere, that tell their strength.
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
        digits: float = 0.35,
        bounces: float = 0.2,
        strengths: float = 0.2,
        clips: int = 16384,
        test_clips: int = 512,
        seed: int = 0,
    ) -> None:
        super().__init__(split, clips, test_clips, seed)
        if frames < 1 or size < 8 or min(clips, test_clips) < 1 or not fps > 0:
            raise SuffuseError(
                "shapes take 1 frame or more of 8 pixels or more, 1 clip or more, and a rate above "
                f"0; given {frames}, {size}, {clips} and {test_clips}, {fps}"
            )
        if not all(0 <= share <= 1 for share in (digits, bounces, strengths)):
            raise SuffuseError(
                "digits, bounces and strengths are shares of clips, 0 to 1; given "
                f"{digits}, {bounces} and {strengths}"
            )
        self.frames, self.size, self.fps = frames, size, fps
        self.digits, self.bounces, self.strengths = digits, bounces, strengths
        self._still = PACE * size * (frames - 1) > size - 1 - 2 * (3.5 * CELL * size + MARGIN)

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return {"prompt": Condition("text", VOCABULARY), "strength": Condition("number")}

    def scene(self, index: int) -> Scene:
        """What clip `index` shows."""
        random = self.random(index)
        digit, bounce = random.uniform(size=2) < (self.digits, self.bounces)
        said = _kinds(self.split, self._still)[2 * digit + bounce]
        motion = parse(said[int(random.integers(len(said)))])
        assert motion is not None
        if digit:
            scale, extent = CELL * self.size, np.array([2.5, 3.5])
        else:
            scale, extent = self.size * random.uniform(*RADIUS), np.ones(2)
        size, usual = zoom(motion, self.frames), PACE * self.size
        strength = None
        if motion.directions and not motion.slowly and random.uniform() < self.strengths:
            strength = float(random.uniform(0.25, 1.0))
        if motion.bounces:
            low = scale * extent + MARGIN
            high = self.size - 1 - low
            angle = random.uniform(0, 2 * np.pi)
            pace = usual * random.uniform(*BOUNCE)
            velocity = pace * np.array([np.cos(angle), np.sin(angle)])
            at = reflected(random.uniform(low, high), velocity, self.frames, low, high)
            return Scene(motion, at, scale * size)
        moved = path(motion, self.frames, self.size, None if strength is None else strength * usual)
        # A zoom keeps the middle where it is: places and room count where it is largest.
        middle, most = (self.size - 1) / 2, size.max()
        inner = (middle - most * scale * extent - MARGIN) / most
        at = random.uniform(-inner - moved.min(0), inner - moved.max(0)) + moved
        at = middle + size[:, None] * at
        return Scene(motion, at, scale * size, strength)

    def __getitem__(self, index: int) -> Example:
        scene = self.scene(index)
        said = {"prompt": scene.motion.caption(), "strength": scene.strength}
        return Example(Clip(drawn(scene, self.size), self.fps), said)
