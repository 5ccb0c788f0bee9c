"""The vectors nearest to a query, exactly, from a table in half precision.

A query is bound by how fast the table is read, so it is read once, as it is stored: 16 bits a
number, products summed in 32. What that answers is off by at most `slack`; all rows that can still
be among the best, few as a rule, are multiplied again in float32. The answer is that of float32.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["nearest"]

ROUNDING = 2.0**-10
"""At least the error of an inner product of unit vectors that is summed in float32 and rounded to
float16: half of 2^-10 for a sum of at most 1 and a little, and far less for the sums."""


def nearest(vectors: Tensor, query: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Inner products and rows of the n nearest of a table, best first.

    Args:
        vectors: [N, D], or [N, P, D] where a row counts by the nearest of its P vectors; unit
            vectors in float16.
        query: [D], a unit vector in float32.
        n: how many, or all where there are fewer.

    Returns:
        float32 [n] and int64 [n].

    >>> import torch
    >>> table = torch.eye(3).half()
    >>> score, row = nearest(table, torch.tensor([0.6, 0.8, 0.0]), 2)
    >>> row.tolist(), [round(float(s), 3) for s in score]
    ([1, 0], [0.8, 0.6])
    """
    n = min(n, len(vectors))
    short = query.to(vectors.dtype)
    rough = _products(vectors, short)
    slack = float((query - short.float()).norm()) + ROUNDING
    least = float(rough.topk(n).values[-1]) - 2 * slack
    rows = (rough >= least).nonzero()[:, 0]
    score, which = _products(vectors[rows].float(), query).topk(n)
    return score, rows[which]


def _products(vectors: Tensor, query: Tensor) -> Tensor:
    """[N], float32: of each row, or of the nearest of its vectors."""
    found = (vectors.reshape(-1, vectors.shape[-1]) @ query).float()
    return found.reshape(len(vectors), -1).amax(1)
