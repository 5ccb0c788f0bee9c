"""A residual network for vectors: rows of tables, embeddings, latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import silu

from suffuse.nn.blocks import zeroed
from suffuse.nn.embedding import LevelEmbedding
from suffuse.nn.network import Network

__all__ = ["MLP"]


class _Block(nn.Module):
    """h + W_2 SiLU(W_1 norm(h) · (1 + scale) + shift), scale and shift from the level."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear_0 = nn.Linear(width, width)
        self.modulation = nn.Linear(width, 2 * width)
        self.linear_1 = zeroed(nn.Linear(width, width))

    def forward(self, h: Tensor, level: Tensor) -> Tensor:
        scale, shift = self.modulation(level).chunk(2, dim=-1)
        out: Tensor = h + self.linear_1(silu(self.linear_0(self.norm(h)) * (1 + scale) + shift))
        return out


class MLP(Network):
    """A residual network for states of shape [C].

    Args:
        shape: the shape of one state, [C].
        width: features of a block, and of the condition vector.
        blocks: how many blocks.
        context: further numbers of the input, which conditions bring.

    The output of a fresh network is zero.

    >>> import torch
    >>> MLP((3,), width=16)(torch.randn(2, 3), torch.zeros(2)).shape
    torch.Size([2, 3])
    """

    axes: ClassVar[tuple[int, int]] = (0, 0)

    def __init__(
        self, shape: Sequence[int], *, width: int = 256, blocks: int = 3, context: int = 0
    ) -> None:
        super().__init__(shape, width, context)
        self.level = LevelEmbedding(width)
        self.first = nn.Linear(self.shape[0] + context, width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.last = zeroed(nn.Linear(width, self.shape[0]))

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        vector: Tensor | None = None,
        concat: Tensor | None = None,
    ) -> Tensor:
        """See `suffuse.nn.network`."""
        h = self.first(self._input(x, level, concat))
        steering = self.level(level, vector)
        for block in self.blocks:
            h = block(h, steering)
        out: Tensor = self.last(silu(self.norm(h)))
        return out
