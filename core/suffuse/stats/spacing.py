"""A few of many: places spread evenly over a sequence."""

from __future__ import annotations

import numpy as np

__all__ = ["evenly"]


def evenly(count: int, most: int) -> list[int]:
    """Indices of at most `most` of `count` things in order, first and last among them.

    Data sets are often sorted by class, so that their beginning would not stand for them.

    >>> evenly(10, 4)
    [0, 3, 6, 9]
    >>> evenly(3, 4)
    [0, 1, 2]
    """
    return [int(i) for i in np.linspace(0, count - 1, min(count, most)).round()]
