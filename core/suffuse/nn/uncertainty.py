"""The weight of each noise level in training, learned beside the network."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["Uncertainty"]


class Uncertainty(nn.Module):
    """The log-variance v(u) of the loss, so that every noise level counts about the same.

    A loss L becomes L / e^v + v, which is least where e^v is the mean of L at that level; the
    network's gradient is then that of the log of its loss. u in (0, 1) is what training times are
    made of (`Process.levels`), and tells the level for every process and schedule. v is a cosine
    series in u, and 0 to begin with.

    Args:
        terms: of the series.

    Source: Karras et al. (EDM2, 2024), arXiv 2312.02696, eq. 21.

    >>> Uncertainty()(torch.tensor([2.0, 3.0]), torch.tensor([0.1, 0.9])).tolist()
    [2.0, 3.0]
    """

    def __init__(self, terms: int = 32) -> None:
        super().__init__()
        self.terms = nn.Parameter(torch.zeros(terms))

    def log_variance(self, u: Tensor) -> Tensor:
        """v, of the shape of u."""
        k = torch.arange(len(self.terms), device=u.device)
        waves = torch.cos(math.pi * u.to(torch.float32)[..., None] * k)
        return waves @ self.terms

    def forward(self, losses: Tensor, u: Tensor) -> Tensor:
        """The losses [B] of samples at u [B], or at u [B, *axes] of which the mean v is taken."""
        v = self.log_variance(u).flatten(1).mean(1) if u.ndim > 1 else self.log_variance(u)
        return losses * torch.exp(-v) + v
