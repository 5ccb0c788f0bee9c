"""Shapes and digits drawn at any place between pixels.

A shape is a function of the distance to its edge, in pixels and negative inside; a pixel is covered
by clip(1/2 − distance, 0, 1). A digit is a bitmap of 5x7 cells, read between cells bilinearly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["DIGITS", "SHAPES", "digit", "shape"]

Array = NDArray[np.float64]


def _circle(x: Array, y: Array, r: Array) -> Array:
    return np.hypot(x, y) - r


def _square(x: Array, y: Array, r: Array) -> Array:
    return np.maximum(abs(x), abs(y)) - 0.9 * r


def _triangle(x: Array, y: Array, r: Array) -> Array:
    slant = abs(x) * (np.sqrt(3) / 2) - y / 2
    return np.maximum(slant, y) - 0.68 * r


def _cross(x: Array, y: Array, r: Array) -> Array:
    x, y = abs(x), abs(y)
    long, thin = 1.05 * r, 0.34 * r
    return np.minimum(np.maximum(x - long, y - thin), np.maximum(x - thin, y - long))


SHAPES: dict[str, Callable[[Array, Array, Array], Array]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
}


def shape(name: str, at: Array, size: int, radius: float | Array) -> Array:
    """How much of each pixel the shape covers, in [0, 1]; [F, size, size].

    Args:
        name: of `SHAPES`.
        at: the places of its centre [F, 2], x and y in pixels, y downwards; (0, 0) is the middle
            of the first pixel.
        size: of a frame, in pixels.
        radius: in pixels, one or [F]; about that of the circle of the same area.
    """
    radius = np.broadcast_to(radius, len(at))[:, None, None]
    y, x = np.mgrid[:size, :size]
    dx, dy = x - at[:, 0, None, None], y - at[:, 1, None, None]
    return np.clip(0.5 - SHAPES[name](dx, dy, radius), 0, 1)


_FONT = (
    "01110 10001 10011 10101 11001 10001 01110",
    "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00110 01000 10000 11111",
    "01110 10001 00001 00110 00001 10001 01110",
    "00010 00110 01010 10010 11111 00010 00010",
    "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110",
    "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110",
    "01110 10001 10001 01111 00001 00010 01100",
)

DIGITS = np.array([[[int(c) for c in row] for row in rows.split()] for rows in _FONT], dtype=float)
"""[10, 7, 5]: 1 is ink."""


def digit(number: int, at: Array, size: int, cell: float | Array = 1.0) -> Array:
    """How much ink each pixel has, in [0, 1]; [F, size, size].

    Args:
        number: 0 to 9.
        at: the places of its centre [F, 2], as for `shape`.
        size: of a frame, in pixels.
        cell: pixels of a cell of the bitmap, one or [F].
    """
    cell = np.broadcast_to(cell, len(at))[:, None]
    glyph = np.pad(DIGITS[number], 1)
    places = np.arange(size)

    def weights(centre: Array, cells: int) -> Array:
        index = (places - centre[:, None]) / cell + (cells - 1) / 2  # [F, size]
        return np.clip(1 - abs(index[..., None] - np.arange(cells)), 0, 1)

    rows, columns = weights(at[:, 1], 9), weights(at[:, 0], 7)
    return np.einsum("fyr,rc,fxc->fyx", rows, glyph, columns)
