"""Products of matrices, and networks, are asked for equally many rows at once.

How a product of matrices is added up depends on how many rows there are: a row alone may come out
otherwise, by one rounding, than the same row among many. So rows stand in blocks of one size, the
last one filled up, and what comes out for a row does not depend on how many others there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

__all__ = ["BLOCK", "by_block"]

BLOCK = 256
"""Rows that are asked at once."""


def by_block(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    size: int | None = None,
    *,
    side_by_side: bool = False,
) -> Tensor:
    """The answers [N, ...] to rows x [N, ...], asked in full blocks, the last filled with zeros.

    Args:
        function: of a block to as many answers.
        x: the rows.
        size: of a block; None for `BLOCK`.
        side_by_side: whether blocks are asked by one thread each, and not one after the other by
            all threads: for work in many small steps.

    >>> by_block(lambda block: block.sum(1) + len(block), torch.ones(3, 2))
    tensor([258., 258., 258.])
    """
    n, size = len(x), size or BLOCK
    filled = torch.cat([x, x.new_zeros(-n % size if n else size, *x.shape[1:])])
    parts = filled.split(size)
    found = _abreast(function, parts) if side_by_side else [function(part) for part in parts]
    return torch.cat(found)[:n]


def _abreast(function: Callable[[Tensor], Tensor], parts: Sequence[Tensor]) -> list[Tensor]:
    """As `map`, by as many threads as torch has, each alone at its part; of one part by one too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(function, parts))
    finally:
        torch.set_num_threads(threads)
