"""Products of matrices, and networks, are asked for equally many rows at once.

How a product of matrices is added up depends on how many rows there are: a row alone may come out
otherwise, by one rounding, than the same row among many. So rows stand in blocks of one size, the
last one filled up, and what comes out for a row does not depend on how many others there are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["BLOCK", "by_block"]

BLOCK = 256
"""Rows that are asked at once."""


def by_block(function: Callable[[Tensor], Tensor], x: Tensor, size: int | None = None) -> Tensor:
    """The answers [N, ...] to rows x [N, ...], asked in full blocks, the last filled with zeros.

    Args:
        function: of a block to as many answers.
        x: the rows.
        size: of a block; None for `BLOCK`.

    >>> by_block(lambda block: block.sum(1) + len(block), torch.ones(3, 2))
    tensor([258., 258., 258.])
    """
    n, size = len(x), size or BLOCK
    filled = torch.cat([x, x.new_zeros(-n % size if n else size, *x.shape[1:])])
    return torch.cat([function(block) for block in filled.split(size)])[:n]
