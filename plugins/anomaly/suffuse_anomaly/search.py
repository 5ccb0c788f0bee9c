"""Nearest rows: trees for few dimensions, products of matrices for more."""

from __future__ import annotations

import math
from threading import local

import numpy as np
import numpy.typing as npt
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn.functional import pad

from suffuse_anomaly.blocks import BLOCK, by_block

__all__ = ["Search"]

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

FEW = 6
"""Up to so many dimensions a tree is faster."""
SPARE = 4
"""Candidates beyond those asked for, since single precision may confuse the last of them."""
GROUPS = (32, 4)
"""Distances that are looked through together, and those of them."""
PART = 2**20
"""Distances that are held at once: so few that they stay in the processor's cache."""
FAR = 4.0
"""Whole numbers tell up to so many usual distances from the centre; farther rows are drawn in."""
EXACT = math.sqrt(2**24 / 3)
"""Of whole x and y up to this length ‖y‖² − 2 x·y, and each part of it, is exact in float32."""


class Search:
    """The nearest of rows [N, D] to others.

    Candidates are found by ‖x − y‖² = ‖x‖² − 2 x·y + ‖y‖² in float32, on rows less their median:
    less the mean, which a few rows far out move, near rows would all be equally far. Where
    distances are wanted, they are taken anew from the differences in float64, which are exact for
    equal rows. Which candidates there are must not hang on rounding, which may differ with the
    number of rows: so these are searched in blocks of one size, and where candidates are all that
    is wanted, `whole` rows are cut to whole numbers, whose products and sums are exact.

    Sorting out the least of N distances costs more than the distances. So distances stand in
    groups, and of a row only the groups with the k least minima are looked at: the k least
    distances lie in them.
    """

    def __init__(self, rows: Floats, *, whole: bool = False) -> None:
        self.rows = rows
        few = rows.shape[1] <= FEW and not whole
        self.tree = NearestNeighbors(algorithm="kd_tree").fit(rows) if few else None
        self.centre, self.unit = np.median(rows, axis=0), 0.0
        if whole:
            usual = float(np.median(np.linalg.norm(rows - self.centre, axis=1)))
            self.unit = FAR * max(usual, 1e-9) / EXACT
        near = self._near(rows)
        more = -len(rows) % math.prod(GROUPS)
        squares = pad((near**2).sum(1), (0, more), value=torch.inf)
        filled = pad(near, (0, 0, 0, more))
        self.near = torch.cat([-2 * filled, squares[:, None]], 1).T.contiguous()

    def _near(self, x: Floats) -> Tensor:
        """Rows less the centre, float32; whole numbers in steps of `unit` where there is one."""
        x = x - self.centre
        if self.unit:
            x = x / self.unit
            length = np.linalg.norm(x, axis=1, keepdims=True)
            x = np.trunc(x * np.minimum(1, EXACT / np.maximum(length, 1)) * (1 - 1e-12))
        return torch.from_numpy(x.astype(np.float32))

    def __call__(self, x: Floats, k: int) -> tuple[Floats, Places]:
        """Distances to the k nearest rows, rising, and which they are; [M, k], k at most N."""
        asked = min(k + SPARE, len(self.rows))
        index = np.sort(self.candidates(x, asked), axis=1)
        distance = np.empty(index.shape)
        for j in range(asked):
            distance[:, j] = np.sqrt(((x - self.rows[index[:, j]]) ** 2).sum(1))
        order = np.argsort(distance, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(distance, order, 1), np.take_along_axis(index, order, 1)

    def candidates(self, x: Floats, k: int) -> Places:
        """Which rows are about the k nearest, in any order, [M, k]; k at most N."""
        if not len(x):
            return np.empty((0, k), np.intp)
        if self.tree is not None:
            found: Places = self.tree.kneighbors(x, k, return_distance=False)
            return found
        y = pad(self._near(x), (0, 1), value=1.0)
        n = self.near.shape[1]
        size = max(1, min(BLOCK, PART // n))
        held = local()

        def least(block: Tensor) -> Tensor:
            if not hasattr(held, "distances"):  # one for each thread
                held.distances = torch.empty(size, n)
            return _least(torch.mm(block, self.near, out=held.distances), k)

        places: Places = by_block(least, y, size, side_by_side=True).numpy()
        return places


def _least(values: Tensor, k: int, groups: tuple[int, ...] = GROUPS) -> Tensor:
    """Places of the k least of values [n, N], in any order, [n, k]; N a multiple of the groups."""
    if not groups or values.shape[1] <= k * groups[0]:
        return values.topk(k, dim=1, largest=False, sorted=False)[1]
    grouped = values.view(len(values), groups[0], -1)
    low = grouped.amin(1).topk(k, dim=1, largest=False, sorted=False)[1]
    inside = grouped.gather(2, low[:, None].expand(-1, groups[0], -1)).flatten(1)
    place = _least(inside, k, groups[1:])
    return place // k * grouped.shape[2] + low.gather(1, place % k)
