"""The network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from suffuse.nn.embedding import LevelEmbedding


class Block(nn.Module):
    """h + conv(silu(conv(h) + steering)), around the circle."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(
            width, width, 3, padding=dilation, dilation=dilation, padding_mode="circular"
        )
        self.steer = nn.Linear(width, width)
        self.last = nn.Conv1d(width, width, 1)

    def forward(self, h: Tensor, steering: Tensor) -> Tensor:
        out: Tensor = h + self.last(silu(self.first(h) + self.steer(steering)[:, :, None]))
        return out


class Convolutions(nn.Module):
    """Residual convolutions that reach ever further.

    Args:
        shape: of a state, [channels, points].
        width: channels of a block; the width of the conditions' vector.
        blocks: how many; block i looks 2^i points to both sides.
    """

    def __init__(self, shape: tuple[int, ...], *, width: int = 48, blocks: int = 5) -> None:
        super().__init__()
        self.width = width
        self.level = LevelEmbedding(width)
        self.enter = nn.Conv1d(shape[0], width, 1)
        self.blocks = nn.ModuleList(Block(width, 2**i) for i in range(blocks))
        self.leave = nn.Conv1d(width, shape[0], 1)
        torch.nn.init.zeros_(self.leave.weight)

    def forward(self, x: Tensor, level: Tensor, vector: Tensor | None = None) -> Tensor:
        steering = self.level(level, vector)
        h = self.enter(x)
        for block in self.blocks:
            h = block(h, steering)
        out: Tensor = self.leave(silu(h))
        return out
