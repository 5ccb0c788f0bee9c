"""Nearest rows, exactly: trees for few dimensions, products of matrices for more."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["Search"]

Floats = npt.NDArray[np.float64]

FEW = 6
"""Up to so many dimensions a tree is faster."""
SPARE = 4
"""Candidates beyond those asked for, since single precision may confuse the last of them."""
GROUP = 32
"""Rows that are looked through together."""
PART = 2**20
"""Distances that are held at once: so few that they stay in the processor's cache."""


class Search:
    """The nearest of rows [N, D] to others.

    Candidates are found by ‖x − y‖² = ‖x‖² − 2 x·y + ‖y‖² in float32, on rows less their mean.
    Their distances are taken anew from the differences in float64, which are exact for equal
    rows, and the same in a batch of any size.

    Sorting out the least of N distances costs more than the distances. So rows stand in groups, and
    of a row of distances only the groups with the k least minima are looked at: the k least
    distances lie in them.
    """

    def __init__(self, rows: Floats) -> None:
        self.rows = rows
        self.tree = NearestNeighbors().fit(rows) if rows.shape[1] <= FEW else None
        self.mean = rows.mean(0)
        near = torch.from_numpy((rows - self.mean).astype(np.float32))
        more = -len(rows) % GROUP
        squares = pad((near**2).sum(1), (0, more), value=torch.inf)
        filled = pad(near, (0, 0, 0, more))
        self.near = torch.cat([-2 * filled, squares[:, None]], 1).T.contiguous()

    def __call__(self, x: Floats, k: int) -> tuple[Floats, npt.NDArray[np.intp]]:
        """Distances to the k nearest rows, rising, and which they are; [M, k], k at most N."""
        asked = min(k + SPARE, len(self.rows))
        index = np.sort(self._candidates(x, asked), axis=1)
        distance = np.empty(index.shape)
        for j in range(asked):
            distance[:, j] = np.sqrt(((x - self.rows[index[:, j]]) ** 2).sum(1))
        order = np.argsort(distance, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(distance, order, 1), np.take_along_axis(index, order, 1)

    def _candidates(self, x: Floats, asked: int) -> npt.NDArray[np.intp]:
        if not len(x):
            return np.empty((0, asked), np.intp)
        if self.tree is not None:
            found: npt.NDArray[np.intp] = self.tree.kneighbors(x, asked, return_distance=False)
            return found
        y = torch.from_numpy((x - self.mean).astype(np.float32))
        y = pad(y, (0, 1), value=1.0)
        parts = [
            _least(part @ self.near, asked) for part in y.split(max(1, PART // self.near.shape[1]))
        ]
        return torch.cat(parts).numpy()


def _least(values: Tensor, k: int) -> Tensor:
    """Places of the k least of values [n, N], in any order, [n, k]; N is a multiple of `GROUP`."""
    groups = values.view(len(values), -1, GROUP)
    if groups.shape[1] <= k:
        return _top(values, k)
    low = _top(groups.amin(2), k)
    inside = groups.gather(1, low[:, :, None].expand(-1, -1, GROUP)).flatten(1)
    place = _top(inside, k)
    return low.gather(1, place // GROUP) * GROUP + place % GROUP


def _top(values: Tensor, k: int) -> Tensor:
    return values.topk(k, dim=1, largest=False, sorted=False)[1]
