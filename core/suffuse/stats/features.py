"""Checked features, and the distances between them in bounded memory.

All figures of this package compare sets of feature vectors: float tensors or arrays of shape
[N, D], one row an example. They are computed in float64 on the device of the tensors.

    |x − y|² = |x|² + |y|² − 2 x·y

turns the distances between two sets into one matrix product. It loses the digits that |x|² shares
with x·y, about 1e-16 |x|², so sets are centred first, and where an exact distance matters it is
computed anew from the difference. Matrices of N × M entries are made a block of rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from suffuse.errors import SuffuseError

__all__ = ["Features", "as_features", "as_pair", "centred", "row_blocks", "squared_distances"]

Features: TypeAlias = Tensor | npt.NDArray[Any]
"""Features of B objects, [B, D]."""

BLOCK = 1_000_000  # entries of one block of a matrix: 8 MB of float64


def as_features(x: Features, name: str = "features", least: int = 1) -> Tensor:
    """`x` as a checked float64 tensor of shape [N, D], on the device it came from.

    Args:
        x: real numbers of shape [N, D].
        name: what the set is called in error messages.
        least: the fewest rows that will do.

    Raises:
        SuffuseError: for another number of axes, too few rows, no columns, NaN or infinity.

    >>> as_features(np.ones((3, 2), dtype=np.float32)).dtype
    torch.float64
    """
    tensor = x.detach() if isinstance(x, Tensor) else _from_array(x, name)
    if tensor.is_complex():
        raise SuffuseError(f"{name} must be real numbers; got {tensor.dtype}")
    if tensor.ndim != 2:
        raise SuffuseError(
            f"{name} must have shape [N, D], one row an example; got {list(tensor.shape)}"
        )
    n, d = tensor.shape
    if n < least:
        examples = "example" if least == 1 else "examples"
        raise SuffuseError(f"{name} must hold at least {least} {examples}; got {n}")
    if d == 0:
        raise SuffuseError(f"{name} must have at least one dimension; got shape [{n}, 0]")
    if tensor.device.type == "mps":  # which has no float64
        tensor = tensor.cpu()
    tensor = tensor.to(torch.float64)
    bad = ~tensor.isfinite().all(dim=1)
    if bad.any():
        first = int(bad.nonzero()[0])
        raise SuffuseError(
            f"{name} must be finite; {int(bad.sum())} of {n} rows hold NaN or infinity, "
            f"the first is row {first}"
        )
    return tensor


def as_pair(
    x: Features, y: Features, names: tuple[str, str] = ("x", "y"), least: int = 1
) -> tuple[Tensor, Tensor]:
    """Two checked sets of features of the same dimension, both on the device of the first."""
    a, b = as_features(x, names[0], least), as_features(y, names[1], least)
    if a.shape[1] != b.shape[1]:
        raise SuffuseError(
            f"{names[0]} and {names[1]} must have the same number of dimensions; "
            f"got {a.shape[1]} and {b.shape[1]}"
        )
    return a, b.to(a.device)


def _from_array(x: object, name: str) -> Tensor:
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise SuffuseError(f"{name} must be real numbers; got dtype {array.dtype}")
    return torch.from_numpy(array.astype(np.float64))


def centred(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets less the mean of the second: the same distances, with more of their digits."""
    mean = y.mean(dim=0)
    return x - mean, y - mean


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of the rows of a matrix such that each block has about `BLOCK` entries at most.

    >>> [(s.start, s.stop) for s in row_blocks(5, BLOCK // 2)]
    [(0, 2), (2, 4), (4, 5)]
    """
    step = max(1, BLOCK // max(1, columns))
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared Euclidean distances [M, N] between the rows of x [M, D] and of y [N, D].

    Exact to about 1e-15 times the largest squared norm: centre the sets first.
    """
    products = x @ y.T
    products.mul_(-2).add_(x.square().sum(1)[:, None]).add_(y.square().sum(1)[None])
    return products.clamp_(min=0)
