r"""States larger than a network was trained on, estimated in windows of its size.

Windows overlap, and where they do, the estimates are averaged with weights that fall towards a
window's borders, so that no seam is seen: one denoiser of large states, for every plan, guidance
and posterior. On a circle windows reach over the end to the beginning, and what is made repeats
without a seam.

Source: Bar-Tal, Yariv, Lipman, Dekel, "MultiDiffusion: fusing diffusion paths for controlled image
generation" (2023), arXiv 2302.08113, section 3, with weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from suffuse.diffusion.process import Denoiser
from suffuse.errors import SuffuseError

__all__ = ["places", "windowed"]


def places(size: int, window: int, overlap: float = 0.5, circular: bool = False) -> list[int]:
    """Where windows of an axis begin: as few as overlap by that part at least, evenly spread.

    >>> places(10, 4)
    [0, 2, 4, 6]
    >>> places(8, 4, circular=True)
    [0, 2, 4, 6]
    """
    if not 0 <= overlap < 1 or size < window:
        raise SuffuseError(
            f"windows overlap by 0 to 1 of their size and fit in the state; given {overlap}, and "
            f"{window} in {size}"
        )
    step = max(1, math.floor(window * (1 - overlap)))
    if circular:
        count = math.ceil(size / step)
        return [size * i // count for i in range(count)]
    count = math.ceil((size - window) / step)
    return [(size - window) * i // max(count, 1) for i in range(count + 1)]


def windowed(
    denoiser: Denoiser,
    window: Sequence[int],
    *,
    overlap: float = 0.5,
    circular: bool = False,
    batch: int = 64,
) -> Denoiser:
    """A denoiser of states [B, C, *size], each size at least that of the window.

    Conditions that are states of that size themselves are cut like the state.

    Args:
        denoiser: of states [B, C, *window].
        window: the size of its states.
        overlap: of neighbouring windows at least, as a part of their size, in [0, 1).
        circular: whether the state's ends are neighbours.
        batch: how many windows are estimated at once.
    """
    window = tuple(window)

    def estimate(x_t: Tensor, t: Tensor, **conditions: Any) -> Tensor:
        if isinstance(t, Tensor) and t.ndim > 1:
            raise SuffuseError("windows take one noise level a sample")
        size = tuple(x_t.shape[-len(window) :])
        starts = [places(n, w, overlap, circular) for n, w in zip(size, window, strict=True)]
        where: list[Any] = [_index(place, window, size, x_t.device) for place in product(*starts)]
        bell = _bell(window).to(x_t)
        total, weight = torch.zeros_like(x_t), x_t.new_zeros(size)
        n = len(x_t)
        at_once = max(1, batch // n)
        for first in range(0, len(where), at_once):
            part = where[first : first + at_once]
            cut = torch.cat([x_t[(..., *here)] for here in part])
            given = {
                key: torch.cat([value[(..., *here)] for here in part])
                if isinstance(value, Tensor) and value.shape[2:] == x_t.shape[2:]
                else _repeated(value, len(part), n)
                for key, value in conditions.items()
            }
            found = denoiser(cut, t.repeat(len(part)), **given)
            for here, e in zip(part, found.chunk(len(part)), strict=True):
                total[(..., *here)] += bell * e
                weight[here] += bell
        return total / weight

    return estimate


def _index(
    place: Sequence[int], window: Sequence[int], size: Sequence[int], device: torch.device
) -> tuple[Tensor, ...]:
    """The positions of a window that begins at `place`, over the end and on from the beginning."""
    along = [
        torch.arange(p, p + w, device=device) % n
        for p, w, n in zip(place, window, size, strict=True)
    ]
    return torch.meshgrid(*along, indexing="ij")


def _repeated(value: Any, times: int, n: int) -> Any:
    rows = isinstance(value, Tensor) and value.ndim > 0 and len(value) == n
    return value.repeat(times, *[1] * (value.ndim - 1)) if rows else value


def _bell(window: Sequence[int]) -> Tensor:
    """Weights of a window's positions, products of triangles that are above 0 at the borders."""
    out = torch.ones(())
    for w in window:
        k = torch.arange(1, w + 1, dtype=torch.float64)
        out = out[..., None] * torch.minimum(k, w + 1 - k)
    return out / out.max()
