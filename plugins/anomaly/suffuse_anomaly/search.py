"""Nearest rows, exactly: trees for few dimensions, products of matrices for many."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from sklearn.neighbors import NearestNeighbors

__all__ = ["Search"]

Floats = npt.NDArray[np.float64]

FEW = 15
"""Up to so many dimensions a tree is faster."""
SPARE = 4
"""Candidates beyond those asked for, since single precision may confuse the last of them."""
PART = 2**24
"""Distances that are held at once."""


class Search:
    """The nearest of rows [N, D] to others.

    Candidates are found by ‖x − y‖² = ‖x‖² − 2 x·y + ‖y‖² in float32, on rows less their mean.
    Their distances are taken anew from the differences in float64, which are exact for equal
    rows, and the same in a batch of any size.
    """

    def __init__(self, rows: Floats) -> None:
        self.rows = rows
        self.tree = NearestNeighbors().fit(rows) if rows.shape[1] <= FEW else None
        self.mean = rows.mean(0)
        self.near = torch.from_numpy((rows - self.mean).astype(np.float32))
        self.squares = (self.near**2).sum(1)

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
        parts = [
            torch.addmm(self.squares, part, self.near.T, alpha=-2).topk(
                asked, dim=1, largest=False, sorted=False
            )[1]
            for part in y.split(max(1, PART // len(self.rows)))
        ]
        return torch.cat(parts).numpy()
