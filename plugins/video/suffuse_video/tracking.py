"""What a clip of one bright thing on black shows, measured: where it is, its colour, its form.

A pixel's brightness is its largest channel. The place is the centre of brightness; the colour the
nearest of the known ones to the mean, by direction; the form that whose drawing at that place, at
the best of several sizes, fits best, by the correlation of pixels.

What a thing does is read from its places and from how much of it there is: a zoom from its growth,
the rest from the nearest of all paths that captions ask for. A camera that pans left over a thing
that stays shows what a thing that moves right shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from . import drawing
from .clip import Clip
from .shapes import (
    BOUNCE,
    CELL,
    COLOURS,
    DIGITS,
    MARGIN,
    PACE,
    RADIUS,
    THINGS,
    WAYS,
    ZOOM,
    Motion,
    path,
    zoom,
)

__all__ = [
    "Track",
    "digits_seen",
    "does",
    "motion_of",
    "pace_seen",
    "thing_seen",
    "track",
    "trajectory_error",
]

Array = NDArray[np.float64]

_DARK = 0.15

_GROWTH = ZOOM
"""By how much brightness in the last quarter and in the first differ at least where a camera zooms:
the square root of what it is for a zoom of areas."""

_ON_COURSE = 0.5
"""Pixels: what bounces is so near to the law of reflection, in the root mean square."""


@dataclass(frozen=True)
class Track:
    """What was measured of a clip.

    Attributes:
        places: the centre at each frame [F, 2], x and y in pixels, y downwards; NaN where a frame
            is dark.
        mass: the sum of brightness at each frame, [F], in pixels.
        ink: brightness [F, h, w] in [0, 1], 0 below 0.15.
        colour: a name in `COLOURS`; empty where every frame is dark.
    """

    places: Array
    mass: Array
    ink: Array
    colour: str


def track(clip: Clip) -> Track:
    """Where the thing is, and its colour."""
    pixels = clip.frames.astype(np.float64) / 255
    ink = pixels.max(-1)
    ink = np.where(ink < _DARK, 0, ink)
    mass = ink.sum((1, 2))
    y, x = np.mgrid[: ink.shape[1], : ink.shape[2]]
    with np.errstate(invalid="ignore", divide="ignore"):
        places = np.stack([(ink * x).sum((1, 2)), (ink * y).sum((1, 2))], 1) / mass[:, None]
    mean = (pixels * ink[..., None]).sum((0, 1, 2))
    if not mean.any():
        return Track(places, mass, ink, "")
    known = np.array(list(COLOURS.values()), dtype=float)
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    nearest = int((known @ (mean / np.linalg.norm(mean))).argmax())
    return Track(places, mass, ink, list(COLOURS)[nearest])


def thing_seen(seen: Track, things: Sequence[str] = THINGS) -> tuple[str, Array]:
    """The thing that fits all frames best, and how well it fits each, [F] in [−1, 1]."""
    fits = _fits(seen, things)
    best = int(fits.mean(1).argmax())
    return (things[best] if np.isfinite(seen.places).all(1).any() else ""), fits[best]


def digits_seen(seen: Track) -> NDArray[np.intp]:
    """The digit that fits each frame best, [F]; −1 where a frame is dark."""
    there = np.isfinite(seen.places).all(1)
    return np.where(there, _fits(seen, DIGITS).argmax(0), -1)


def motion_of(
    seen: Track, paces: Sequence[float] = (1.0, 0.5)
) -> tuple[tuple[str, ...], float, str]:
    """Directions, pace (as a share of the usual one, 0 for what stays) and zoom that are nearest.

    The third is "zooms in", "zooms out" or empty. Where a frame is dark, no direction is known, and
    the pace is −1.
    """
    size, frames = seen.ink.shape[1], len(seen.places)
    if not np.isfinite(seen.places).all():
        return (), -1.0, ""
    quarter = max(1, frames // 4)
    growth = seen.mass[-quarter:].mean() / seen.mass[:quarter].mean()
    if max(growth, 1 / growth) > _GROWTH:
        return (), 0.0, "zooms in" if growth > 1 else "zooms out"
    best, found = _apart(seen.places, np.zeros((frames, 2))), ((), 0.0, "")
    for way in WAYS:
        for pace in paces:
            wanted = path(Motion("", "", way), frames, size, pace * PACE * size)
            error = _apart(seen.places, wanted)
            if error < best:
                best, found = error, (way, pace, "")
    return found


def does(seen: Track, motion: Motion, strength: float | None = None) -> bool:
    """Whether the thing does what it is asked to do: directions and pace, zoom, or bouncing."""
    if motion.bounces:
        fast = np.linalg.norm(np.diff(seen.places, axis=0), axis=1).mean()
        error = trajectory_error(seen.places, motion, seen.ink.shape[1])
        return bool(error < _ON_COURSE and fast > BOUNCE[0] / 2 * PACE * seen.ink.shape[1])
    paces = (1.0, 0.5) if strength is None else (strength,)
    directions, pace, zooms = motion_of(seen, paces)
    if motion.camera.startswith("zooms"):
        return zooms == motion.camera
    if motion.camera:
        turned = {"left": "right", "right": "left", "up": "down", "down": "up"}
        return (directions, pace) == ((turned[motion.camera.split()[1]],), 1.0)
    wanted = 0.0 if not motion.directions else (0.5 if motion.slowly else paces[0])
    return (directions, pace, zooms) == (motion.directions, wanted, "")


def pace_seen(places: Array, motion: Motion, size: int) -> float:
    """How far a thing goes along the asked path, as a share of the usual pace."""
    one = path(replace(motion, slowly=False), len(places), size)
    one = one - one.mean(0)
    return float((one * (places - places.mean(0))).sum() / (one**2).sum())


def trajectory_error(
    places: Array, motion: Motion, size: int, strength: float | None = None
) -> float:
    """Root mean square distance to the asked path, laid where it fits best; in pixels.

    A clip with a dark frame has that of a thing that stays; where it is to stay, to bounce or to
    grow, a quarter of the frame's size.
    """
    frames, dark = len(places), not np.isfinite(places).all()
    if motion.bounces:
        return size / 4 if dark else _off_course(places, motion, size)
    if motion.camera.startswith("zooms"):
        if dark:
            return size / 4
        middle, large = (size - 1) / 2, zoom(motion, frames)[:, None]
        start = (large * (places - middle)).sum(0) / (large**2).sum(0)
        return float(np.sqrt(((places - middle - start * large) ** 2).sum(1).mean()))
    pace = None if strength is None else strength * PACE * size
    wanted = path(motion, frames, size, pace)
    if dark:
        return float(np.sqrt((wanted**2).sum(1).mean())) or size / 4
    return _apart(places, wanted)


def _off_course(places: Array, motion: Motion, size: int) -> float:
    """The distance to the nearest way that goes straight on and is thrown back by the walls."""
    extent = np.array([2.5, 3.5]) * CELL * size if motion.thing in DIGITS else RADIUS[0] * size
    low = np.broadcast_to(extent + MARGIN, (2,))
    most = BOUNCE[1] * PACE * size * 1.1
    frames, total = len(places), 0.0
    for axis in range(2):
        lo, hi = low[axis], size - 1 - low[axis]
        starts = np.linspace(lo, hi, 81)[:, None, None]
        paces = np.linspace(-most, most, 121)[None, :, None]
        way = np.mod(starts - lo + np.arange(frames) * paces, 2 * (hi - lo))
        way = lo + (hi - lo) - abs(way - (hi - lo))
        apart = places[:, axis] - way
        apart = apart - apart.mean(-1, keepdims=True)  # the centre of ink is beside the drawing's
        total += float((apart**2).mean(-1).min())
    return float(np.sqrt(total))


def _fits(seen: Track, things: Sequence[str]) -> Array:
    """How well each thing fits each frame at its best size, [things, F]; −1 for dark frames."""
    size = seen.ink.shape[1]
    there = np.isfinite(seen.places).all(1)
    out = np.full((len(things), len(seen.ink)), -1.0)
    if not there.any():
        return out
    places, ink = seen.places[there], seen.ink[there]
    radii = np.geomspace(RADIUS[0], RADIUS[1] * ZOOM, 6) * size
    cells = np.geomspace(CELL, CELL * ZOOM, 5) * size
    for i, thing in enumerate(things):
        if thing in DIGITS:
            number = DIGITS.index(thing)
            glyph = drawing.DIGITS[number]
            rows, columns = np.mgrid[:7, :5]
            off = np.array([(glyph * (columns - 2)).sum(), (glyph * (rows - 3)).sum()])
            off /= glyph.sum()
            drawings = (drawing.digit(number, places - off * c, size, float(c)) for c in cells)
        else:
            drawings = (drawing.shape(thing, places, size, float(r)) for r in radii)
        out[i, there] = np.max([_correlations(d, ink) for d in drawings], axis=0)
    return out


def _apart(places: Array, wanted: Array) -> float:
    apart = places - wanted
    return float(np.sqrt(((apart - apart.mean(0)) ** 2).sum(1).mean()))


def _correlations(a: Array, b: Array) -> Array:
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    scale = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: Array = (a * b).sum(1) / np.maximum(scale, 1e-9)
    return found
