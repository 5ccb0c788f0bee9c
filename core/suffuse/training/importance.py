"""Which noise levels training sees, by how much there is to learn at each.

u in (0, 1), of which a training time is made, is drawn with a density p(u) in proportion to the
root of the mean square loss, and the losses are weighed by 1 / p: their mean stays what it was, and
varies the least it can (Nichol, Dhariwal, "Improved denoising diffusion probabilistic models"
(2021), arXiv 2102.09672, section 3.3). p is constant in each of `BINS` parts of (0, 1), mixed with
a share of the uniform one, and follows what is measured every few steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["BINS", "EVERY", "Importance"]

BINS = 16
EVERY = 10
"""Steps between updates."""

UNIFORM = 0.2
"""The share of the uniform density, so that no level is forgotten."""

KEPT = 0.7
"""How much of the earlier mean squares stays at each update."""


class Importance:
    """The density of u, and what was measured since it was made.

    Args:
        device: of the losses.

    Attributes:
        density: in each bin, of mean 1; float64 on the device.
    """

    def __init__(self, device: torch.device) -> None:
        self.density = torch.ones(BINS, dtype=torch.float64, device=device)
        self._squares = torch.zeros(BINS, dtype=torch.float64, device=device)
        self._sums = torch.zeros(2, BINS, dtype=torch.float64, device=device)

    def warp(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Uniform numbers [B] as numbers of the density, by its inverse distribution; and 1 / p.

        >>> importance = Importance(torch.device("cpu"))
        >>> [k.tolist() for k in importance.warp(torch.tensor([0.25], dtype=torch.float64))]
        [[0.25], [1.0]]
        """
        edges = torch.cat([self.density.new_zeros(1), self.density.cumsum(0) / BINS])
        place = torch.searchsorted(edges[1:-1], u, right=True)
        density = self.density[place]
        return (place + (u - edges[place]) * BINS / density) / BINS, 1 / density

    def add(self, u: Tensor, losses: Tensor) -> None:
        """Take in unweighed losses [B] at u [B]."""
        place = (u * BINS).to(torch.int64).clamp_(0, BINS - 1)
        square = losses.detach().to(torch.float64) ** 2
        self._sums[0].index_add_(0, place, square)
        self._sums[1].index_add_(0, place, torch.ones_like(square))

    def tensor(self) -> Tensor:
        """The sums since the last update, [2 BINS] float64, of this process."""
        return self._sums.flatten()

    def update(self, sums: Tensor) -> None:
        """The density by these sums over all processes, and by the earlier ones."""
        squares, counts = sums.to(self._squares.device).reshape(2, BINS)
        mean = torch.where(counts > 0, squares / counts.clamp(min=1), self._squares)
        known = self._squares > 0
        self._squares = torch.where(known, KEPT * self._squares + (1 - KEPT) * mean, mean)
        root = self._squares.sqrt()
        if bool((root > 0).all()):  # every level was seen
            self.density = UNIFORM + (1 - UNIFORM) * root / root.mean()
        self._sums.zero_()

    def state(self, sums: Tensor) -> list[float]:
        """All of it as numbers, with the sums over all processes."""
        return torch.cat([self.density, self._squares, sums.to(self.density.device)]).tolist()

    def restore(self, state: Sequence[float], first: bool) -> None:
        """Put back what `state` told; the sums on the first process alone."""
        values = torch.tensor(state, dtype=torch.float64, device=self.density.device)
        self.density, self._squares = values[:BINS].clone(), values[BINS : 2 * BINS].clone()
        self._sums = values[2 * BINS :].reshape(2, BINS) * float(first)
