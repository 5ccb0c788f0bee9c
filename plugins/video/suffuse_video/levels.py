"""Matrices of noise levels: what makes one model do many things.

A row is what the sampler visits, a column a frame: [n + 1, F] times that never rise, from 1 (pure
noise) to 0 (clean). A frame that is 0 from the first row on is known. `Model.sample` takes such a
matrix as its grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from suffuse.errors import SuffuseError

__all__ = ["full", "rolling", "sequential"]

Matrix = NDArray[np.float64]

CONTEXT = 0.1
"""The time at which frames that are made wait for the others, where they are made in sequence."""


def full(known: Sequence[bool], steps: int) -> Matrix:
    """All unknown frames at once: a clip, what follows or goes before it, or what fills its gaps.

    Args:
        known: of each frame.
        steps: network calls.

    >>> full([True, False, False], 2)
    array([[0. , 1. , 1. ],
           [0. , 0.5, 0.5],
           [0. , 0. , 0. ]])
    """
    return np.linspace(1, 0, _checked(known, steps) + 1)[:, None] * ~np.asarray(known, dtype=bool)


def sequential(
    known: Sequence[bool], steps: int, chunk: int = 1, context: float = CONTEXT
) -> Matrix:
    """Unknown frames one after the other, `chunk` at a time, each in `steps` calls.

    A frame that is made stays at the time `context` until all are made, and then all become clean
    together: so those after it are told that it may be a little wrong, and what is wrong can still
    be mended (Chen et al., "Diffusion forcing" (2024), arXiv 2407.01392, for long sequences).

    >>> sequential([True, False, False], 2, context=0.2)
    array([[0. , 1. , 1. ],
           [0. , 0.6, 1. ],
           [0. , 0.2, 1. ],
           [0. , 0.2, 0.6],
           [0. , 0.2, 0.2],
           [0. , 0. , 0. ]])
    """
    if not 0 <= context < 1:
        raise SuffuseError(f"context is a time of 0 or more and below 1, and {context} is not")
    made = context + (1 - context) * _staggered(known, _checked(known, steps), steps, chunk)
    end = np.linspace(context, 0, math.ceil(steps * context) + 1)[1:, None]
    return np.concatenate([made, end.repeat(len(known), 1)]) * ~np.asarray(known, dtype=bool)


def rolling(known: Sequence[bool], steps: int, lag: int = 1, chunk: int = 1) -> Matrix:
    """Unknown frames on a staircase: each begins `lag` calls after the one before it.

    `lag` = steps is `sequential` with a context of 0, and 0 is `full`.

    >>> rolling([False, False, False], 2)
    array([[1. , 1. , 1. ],
           [0.5, 1. , 1. ],
           [0. , 0.5, 1. ],
           [0. , 0. , 0.5],
           [0. , 0. , 0. ]])
    """
    if not 0 <= lag <= _checked(known, steps):
        raise SuffuseError(f"lag is 0 to the number of steps, {steps}; given {lag}")
    return _staggered(known, steps, lag, chunk)


def _staggered(known: Sequence[bool], steps: int, lag: int, chunk: int) -> Matrix:
    if chunk < 1:
        raise SuffuseError(f"chunk is 1 or more, and {chunk} is not")
    unknown = ~np.asarray(known, dtype=bool)
    place = (np.cumsum(unknown) - 1) // chunk
    rows = steps + lag * int(place[unknown].max())
    done = (np.arange(rows + 1)[:, None] - lag * place) / steps
    return np.clip(1 - done, 0, 1) * unknown


def _checked(known: Sequence[bool], steps: int) -> int:
    if steps < 1:
        raise SuffuseError(f"steps is 1 or more, and {steps} is not")
    if all(known):
        raise SuffuseError("every frame is known: there is nothing to make")
    return steps
