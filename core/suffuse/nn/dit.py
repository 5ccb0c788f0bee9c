"""The diffusion transformer: patches as tokens, steered by adaptive layer normalisation.

Peebles, Xie, "Scalable diffusion models with transformers" (2022), arXiv 2212.09748.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, pad

from suffuse.errors import SuffuseError
from suffuse.kernels.ada_norm import ada_norm
from suffuse.nn.attention import Attention, CrossAttention, zeroed
from suffuse.nn.embedding import LevelEmbedding, sincos
from suffuse.nn.network import Network

__all__ = ["DiT", "TransformerBlock", "patchify", "unpatchify"]


def patchify(x: Tensor, patch: Sequence[int]) -> Tensor:
    """States [B, C, *size] as tokens [B, N, C · patch volume], the grid's last axis fastest.

    Args:
        x: states whose sizes are multiples of the patch.
        patch: the patch's size along each axis.
    """
    axes = len(patch)
    split = [k for n, p in zip(x.shape[2:], patch, strict=True) for k in (n // p, p)]
    grid = [2 + 2 * i for i in range(axes)]
    inner = [3 + 2 * i for i in range(axes)]
    h = x.reshape(*x.shape[:2], *split).permute(0, *grid, 1, *inner)
    return h.flatten(axes + 1).flatten(1, axes)


def unpatchify(tokens: Tensor, patch: Sequence[int], grid: Sequence[int]) -> Tensor:
    """The inverse of `patchify`: tokens [B, N, C · volume] as states [B, C, *grid · patch]."""
    axes = len(patch)
    h = tokens.reshape(len(tokens), *grid, -1, *patch)
    pairs = [k for i in range(axes) for k in (1 + i, 2 + axes + i)]
    size = [n * p for n, p in zip(grid, patch, strict=True)]
    return h.permute(0, 1 + axes, *pairs).reshape(len(tokens), -1, *size)


class TransformerBlock(nn.Module):
    """Attention and a perceptron, each behind a gate that begins at zero (adaLN-Zero).

        x += gate · attention(modulate(x));   x += gate · perceptron(modulate(x))

    Between the two, where conditions bring tokens, x += cross attention(norm(x)).

    Sources: Peebles, Xie (2022), arXiv 2212.09748, section 3.2 and figure 3; for the tokens, Chen
    et al., "PixArt-α" (2023), arXiv 2310.00426, section 2.3.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0, tokens: int = 0) -> None:
        super().__init__()
        inner = round(width * mlp_ratio)
        self.modulation = zeroed(nn.Linear(width, 6 * width))
        self.attention = Attention(width, heads)
        self.cross = CrossAttention(width, tokens, heads) if tokens else None
        self.linear_0 = nn.Linear(width, inner)
        self.linear_1 = nn.Linear(inner, width)
        nn.init.xavier_uniform_(self.attention.out.weight)  # the gate alone begins at zero

    def forward(
        self, x: Tensor, e: Tensor, tokens: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Tokens [B, N, width], steered by embeddings [B, 1 or N, width] and by conditions' tokens.

        Args:
            tokens, mask: see `CrossAttention`.
        """
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(e).chunk(6, dim=-1)
        _, h = ada_norm(x, scale_a, shift_a)
        if self.cross is None:
            x, h = ada_norm(x, scale_m, shift_m, self.attention(h), gate_a)
        else:
            x = torch.addcmul(x, gate_a, self.attention(h))
            x, h = ada_norm(
                x + self.cross(layer_norm(x, x.shape[-1:], eps=1e-6), tokens, mask),
                scale_m,
                shift_m,
            )
        h = gelu(self.linear_0(h))
        return torch.addcmul(x, gate_m, self.linear_1(h))


class DiT(Network):
    """A transformer on the patches of states [C, *size]: signals, images or volumes.

    Any size is legal: one that is no multiple of the patch is padded with zeros, and the answer
    cropped.

    Args:
        shape: the shape of one state, [C, n], [C, h, w] or [C, d, h, w].
        patch: the size of a patch along every axis, or one for each axis.
        width: features of a token.
        depth: how many blocks.
        heads: attention heads; they divide `width`.
        mlp_ratio: inner features of the perceptrons as a multiple of `width`.
        context: further channels of the input, which conditions bring.
        tokens: features of the tokens that conditions bring, to attend to; 0 for none.
        skips: whether each block of the second half also sees what its counterpart in the first
            half was given (Bao et al., "All are worth words: a ViT backbone for diffusion models"
            (2022), arXiv 2209.12152). At first they change nothing.

    The output of a fresh network is zero. Its condition vector is `width` wide.

    >>> network = DiT((1, 7, 9), patch=2, width=32, depth=2)
    >>> network(torch.randn(2, 1, 7, 9), torch.zeros(2)).shape
    torch.Size([2, 1, 7, 9])
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        patch: int | tuple[int, ...] = 2,
        width: int = 256,
        depth: int = 6,
        heads: int = 4,
        mlp_ratio: float = 4.0,
        context: int = 0,
        tokens: int = 0,
        skips: bool = False,
    ) -> None:
        super().__init__(shape, width, context, tokens)
        axes = len(self.shape) - 1
        self.patch = (patch,) * axes if isinstance(patch, int) else tuple(patch)
        if len(self.patch) != axes or min(self.patch) < 1:
            raise SuffuseError(
                f"patch is a size of at least 1, or one for each of the {axes} axes; given {patch}"
            )
        if width < 2 * axes:
            raise SuffuseError(f"a DiT over {axes} axes is at least {2 * axes} wide; given {width}")
        volume = math.prod(self.patch)
        self.embedding = LevelEmbedding(width)
        self.enter = nn.Linear((self.shape[0] + context) * volume, width)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, mlp_ratio, tokens) for _ in range(depth)
        )
        self.skips = nn.ModuleList(
            zeroed(nn.Linear(width, width)) for _ in range(depth // 2 if skips else 0)
        )
        self.modulation = zeroed(nn.Linear(width, 2 * width))
        self.leave = zeroed(nn.Linear(width, self.shape[0] * volume))

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        vector: Tensor | None = None,
        concat: Tensor | None = None,
        tokens: Tensor | None = None,
        token_mask: Tensor | None = None,
    ) -> Tensor:
        """The raw prediction for noisy states.

        Args:
            x: states [B, C, *size], of the dtype of the weights (or any, under autocast).
            level: c_noise, [B].
            vector: the conditions' embedding, [B, `width`]; none where None.
            concat: further channels of the input, [B, `context`, *size].
            tokens: of conditions, [B, L, `tokens`]; none where None.
            token_mask: [B, L], False where one is padding.

        Returns:
            [B, C, *size], of the dtype of x.
        """
        inner = self._input(x, level, concat)
        self._told(tokens)
        size = x.shape[2:]
        missing = [-n % p for n, p in zip(size, self.patch, strict=True)]
        padded = (
            pad(inner, [k for n in reversed(missing) for k in (0, n)]) if any(missing) else inner
        )
        grid = [n // p for n, p in zip(padded.shape[2:], self.patch, strict=True)]

        e = self.embedding(level, vector)[:, None]
        h = self.enter(patchify(padded, self.patch))
        h = h + sincos(grid, h.shape[-1], h.device).to(h.dtype)
        given: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            back = i - (len(self.blocks) - len(self.skips))
            if back >= 0:  # a linear layer of both, which begins as the identity of the first
                h = h + self.skips[back](given[len(self.skips) - 1 - back])
            if i < len(self.skips):
                given.append(h)
            h = block(h, e, tokens, token_mask)
        shift, scale = self.modulation(e).chunk(2, dim=-1)
        out = unpatchify(self.leave(ada_norm(h, scale, shift)[1]), self.patch, grid).to(x.dtype)
        for axis, n in enumerate(size):
            out = out.narrow(2 + axis, 0, n)
        return out
