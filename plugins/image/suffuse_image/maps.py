"""A map of pictures: each drawn where two numbers say, for instance two principal components."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from suffuse.errors import SuffuseError

from .modes import eight_bit

__all__ = ["draw_map"]


def draw_map(
    pictures: Sequence[Image.Image], at: Tensor, *, side: int = 900, cell: int = 36
) -> Image.Image:
    """An RGB picture of `side` pixels a side, white, with small pictures on it.

    Args:
        pictures: of any modes and sizes.
        at: where their middles lie, [N, 2], to the right and up; stretched to fill the map.
        side: of the map, in pixels.
        cell: the longer side of a small picture, in pixels; below `side`.

    Raises:
        SuffuseError: where there are not as many places as pictures, or no pictures.
    """
    if not len(pictures) or tuple(at.shape) != (len(pictures), 2) or not 0 < cell < side:
        raise SuffuseError(
            f"a map takes a place [N, 2] for each of N pictures, and cells smaller than its side; "
            f"given {len(pictures)} pictures, places {list(at.shape)}, cells of {cell} in {side}"
        )
    places = at.double().numpy()
    span = np.maximum(np.ptp(places, axis=0), 1e-12)
    middle = (places - places.min(0)) / span * (side - cell) + cell / 2
    out = Image.new("RGB", (side, side), "white")
    for image, (right, up) in zip(pictures, middle, strict=True):
        small = eight_bit(image, 3)
        scale = cell / max(small.size)
        size = (max(1, round(small.width * scale)), max(1, round(small.height * scale)))
        small = small.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST)
        out.paste(small, (round(right - size[0] / 2), round(side - up - size[1] / 2)))
    return out
