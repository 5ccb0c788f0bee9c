r"""What each place of an object adds to its score by a model: pixels, bins, atoms.

Each method scores a state at some levels, and shares each score out among places:

    score-norm, …   sums over the elements of a state: a place has the part of its channels
    knn-time        the squared differences from the nearest states: likewise
    loss            the mean over elements of an object of n parts is the mean over parts i of the
                    mean over what begins at i, for each part of it has as many elements; so the
                    loss with all but these hidden, over n, is what i adds

Places are those of a tensor's axes after its channels. Of objects of several sizes they are the
parts that are counted, such as atoms; elements of pairs, such as bonds, count half for each end.
Neighbours of such objects may have more parts: what lies there counts with the others, in
proportion.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from suffuse_anomaly.member import even

__all__ = ["by_part", "by_place", "part_losses"]

Floats = npt.NDArray[np.float64]


def by_place(elements: Floats) -> Floats:
    """Shares [N, L, *size] of places, which sum to 1, of elements [N, L, C, *size] of tensors."""
    summed = elements.sum(2)
    return even(summed.reshape(*summed.shape[:2], -1)).reshape(summed.shape)


def by_part(elements: Mapping[str, Floats], mask: Mapping[str, Tensor]) -> Floats:
    """Sums [N, L, n] over what belongs to each part, of elements [N, L, ...] by name.

    Args:
        mask: of each name the mask of objects, [N, n] or, of pairs, [N, n, n].
    """
    found: Any = 0.0
    for name, part in elements.items():
        axes = mask[name].ndim - 1
        seen = part.reshape(*part.shape[: 2 + axes], -1).sum(-1)
        for _ in range(axes - 1):
            seen = (seen.sum(-1) + seen.sum(-2)) / 2
        found = found + seen
    return np.asarray(found)


def part_losses(error: Any, mask: Any) -> Tensor:
    """What each part adds to a loss, [N, n].

    Args:
        error: the loss [N] over the elements where a mask is True.
        mask: True where an element is an object's, [N, n, ...]; or such masks by name.
    """
    one = next(iter(mask.values())) if isinstance(mask, Mapping) else mask
    n = one.shape[1]
    place = torch.arange(n, device=one.device)

    def only(part: Tensor, i: int) -> Tensor:
        return part & (place == i).reshape(1, n, *(1,) * (part.ndim - 2))

    columns = []
    for i in range(n):
        hidden = (
            {name: only(part, i) for name, part in mask.items()}
            if isinstance(mask, Mapping)
            else only(mask, i)
        )
        columns.append(error(hidden))
    count = (one if one.ndim == 2 else one.any(-1)).sum(1).clamp(min=1)
    return torch.stack(columns, 1) / count[:, None]
