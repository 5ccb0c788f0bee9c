"""What a clip of one bright thing on black shows, measured: where it is, its colour, its form.

A pixel's brightness is its largest channel. The place is the centre of brightness; the colour the
nearest of the known ones to the mean, by direction; the form that whose drawing at that place fits
best, by the correlation of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import drawing
from .clip import Clip
from .shapes import COLOURS, DIRECTIONS, RADIUS, Motion, path

__all__ = ["Track", "digits_seen", "motion_of", "shape_seen", "track", "trajectory_error"]

Array = NDArray[np.float64]

WAYS = (
    (),
    *((d,) for d in DIRECTIONS),
    *((d, e) for d in DIRECTIONS for e in DIRECTIONS if d != e),
)

_DARK = 0.15


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


def shape_seen(seen: Track) -> tuple[str, Array]:
    """The shape that fits all frames best, and how well it fits each, [F] in [−1, 1]."""
    size = seen.ink.shape[1]
    names = list(drawing.SHAPES)
    fits = np.full((len(names), 3, len(seen.ink)), -1.0)
    there = np.isfinite(seen.places).all(1)
    if there.any():
        for i, name in enumerate(names):
            for j, radius in enumerate(np.linspace(*RADIUS, 3) * size):
                drawn = drawing.shape(name, seen.places[there], size, float(radius))
                fits[i, j, there] = _correlations(drawn, seen.ink[there])
    best = fits.mean(2)
    i, j = np.unravel_index(int(best.argmax()), best.shape)
    return (names[i] if there.any() else ""), fits[i, j]


def motion_of(places: Array, size: int) -> tuple[tuple[str, ...], bool]:
    """The directions and whether slowly: of all known motions the nearest to what was measured."""
    best, found = np.inf, ((), False)
    for way in WAYS:
        for slowly in (False, True) if way else (False,):
            error = _distance(places, path(Motion("", "", way, slowly), len(places), size))
            if error < best:
                best, found = error, (way, slowly)
    return found


def trajectory_error(places: Array, motion: Motion, size: int) -> float:
    """Root mean square distance to the asked path, laid where it fits best; in pixels.

    A clip with a dark frame has that of a thing that stays.
    """
    return _distance(places, path(motion, len(places), size))


def digits_seen(seen: Track, cell: float) -> NDArray[np.intp]:
    """The digit that fits each frame best, [F]; −1 where a frame is dark."""
    size = seen.ink.shape[1]
    fits = np.full((10, len(seen.ink)), -1.0)
    there = np.isfinite(seen.places).all(1)
    for number in range(10):
        glyph = drawing.DIGITS[number]
        rows, columns = np.mgrid[:7, :5]
        off = np.array([(glyph * (columns - 2)).sum(), (glyph * (rows - 3)).sum()]) / glyph.sum()
        drawn = drawing.digit(number, seen.places[there] - off * cell, size, cell)
        fits[number, there] = _correlations(drawn, seen.ink[there])
    return np.where(there, fits.argmax(0), -1)


def _distance(places: Array, wanted: Array) -> float:
    if not np.isfinite(places).all():
        return float(np.sqrt((wanted**2).sum(1).mean()))
    apart = places - wanted
    return float(np.sqrt(((apart - apart.mean(0)) ** 2).sum(1).mean()))


def _correlations(a: Array, b: Array) -> Array:
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    scale = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: Array = (a * b).sum(1) / np.maximum(scale, 1e-9)
    return found
