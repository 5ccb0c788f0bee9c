"""The same picture otherwise: mirrored, and in another colour; each with the word that says so.

More pictures than were drawn, without a lie: the caption of a mirrored fox says "mirrored", that of
one whose hue was turned names the colour, so that a model learns the words and not a blur.

A picture's colour is its most frequent hue, in 36 bins, each pixel counted by saturation times
value (Pillow's HSV). Turning all hues by the same angle makes it another; white, black and grey
stay as they are.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

__all__ = ["COLOURS", "MIRRORED", "hue", "mirrored", "named", "recoloured"]

COLOURS = {"red": 0, "yellow": 50, "green": 120, "blue": 215, "purple": 280, "pink": 325}
"""Hues in degrees."""

MIRRORED = "mirrored"

BINS = 36
LEAST = 0.06
"""A picture has a colour if saturation times value is on average at least this."""


def mirrored(image: Image.Image) -> Image.Image:
    """Left for right."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def hue(image: Image.Image) -> float | None:
    """The most frequent hue in degrees, [0, 360); None for a picture without colour."""
    h, s, v = np.moveaxis(np.asarray(image.convert("HSV"), dtype=np.float64), -1, 0)
    weight = s * v / 255**2
    if weight.mean() < LEAST:
        return None
    degrees = h.ravel() * (360 / 255)
    count = np.bincount((degrees // (360 / BINS)).astype(int) % BINS, weight.ravel(), BINS)
    # Three neighbouring bins, so that a hue on the border of two counts as much as another.
    around = count + np.roll(count, 1) + np.roll(count, -1)
    middle = (around.argmax() + 0.5) * (360 / BINS)
    off = (degrees - middle + 180) % 360 - 180
    near = np.where(np.abs(off) <= 1.5 * (360 / BINS), weight.ravel(), 0)
    return float((middle + (off * near).sum() / near.sum()) % 360)


def named(degrees: float) -> str:
    """The nearest of `COLOURS`.

    >>> named(230)
    'blue'
    """
    return min(COLOURS, key=lambda name: abs((COLOURS[name] - degrees + 180) % 360 - 180))


def recoloured(image: Image.Image, colour: str) -> Image.Image:
    """All hues turned so that the most frequent one is that of `colour`.

    Raises:
        ValueError: for a picture without colour.
    """
    own = hue(image)
    if own is None:
        raise ValueError("a picture without colour cannot be given another")
    turn = round((COLOURS[colour] - own) * 256 / 360)
    hsv = np.array(image.convert("HSV"))
    hsv[..., 0] = (hsv[..., 0].astype(int) + turn) % 256
    return Image.fromarray(hsv, "HSV").convert("RGB")
