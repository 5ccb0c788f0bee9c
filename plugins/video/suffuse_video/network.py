"""A transformer over space and time, with a noise level for each frame.

Each frame is cut into patches. A block attends among the patches of a frame, then along time among
the frames of a place, and ends with a perceptron:

    x += gate · space(modulate(x));   x += gate · time(modulate(x));   x += gate · mlp(modulate(x))

Shifts, scales and gates are a frame's own, from its noise level and the conditions.

Sources: Peebles, Xie, "Scalable diffusion models with transformers" (2022), arXiv 2212.09748;
attention over space and time in turns: Ho et al., "Video diffusion models" (2022),
arXiv 2204.03458.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from suffuse.errors import SuffuseError
from suffuse.kernels.ada_norm import ada_norm
from suffuse.nn.blocks import Attention, zeroed
from suffuse.nn.dit import patchify, unpatchify
from suffuse.nn.embedding import LevelEmbedding, sincos
from suffuse.nn.network import Network

__all__ = ["SpaceTime"]


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.modulation = zeroed(nn.Linear(width, 9 * width))
        self.space, self.time = Attention(width, heads), Attention(width, heads)
        inner = round(width * mlp_ratio)
        self.linear_0, self.linear_1 = nn.Linear(width, inner), nn.Linear(inner, width)
        for attention in (self.space, self.time):  # the gates alone begin at zero
            nn.init.xavier_uniform_(attention.out.weight)

    def forward(self, x: Tensor, e: Tensor, frames: int) -> Tensor:
        """Tokens [B·F, N, width], steered by embeddings [B·F, 1, width]."""
        space, time, mlp = self.modulation(e).chunk(3, dim=-1)
        shift, scale, gate = space.chunk(3, dim=-1)
        shift_t, scale_t, gate_t = time.chunk(3, dim=-1)
        shift_m, scale_m, gate_m = mlp.chunk(3, dim=-1)
        h = self.space(ada_norm(x, scale, shift)[1])
        x, h = ada_norm(x, scale_t, shift_t, h, gate)
        n, width = h.shape[1:]
        turned = h.reshape(-1, frames, n, width).transpose(1, 2).reshape(-1, frames, width)
        h = self.time(turned).reshape(-1, n, frames, width).transpose(1, 2).reshape(x.shape)
        x, h = ada_norm(x, scale_m, shift_m, h, gate_t)
        h = self.linear_1(gelu(self.linear_0(h)))
        return torch.addcmul(x, gate_m, h)


class SpaceTime(Network):
    """A denoiser for states [F, C, h, w].

    Any number of frames and any size is legal in a call: where a patch does not fit, a frame is
    padded with zeros.

    Args:
        shape: of one state, [F, C, h, w].
        patch: the side of a patch in pixels.
        width: features of a token, and of the condition vector.
        depth: how many blocks.
        heads: attention heads; they divide `width`.
        mlp_ratio: inner features of the perceptrons as a multiple of `width`.

    The output of a fresh network is zero.

    >>> network = SpaceTime((4, 3, 8, 8), width=32, depth=2)
    >>> network(torch.randn(2, 4, 3, 8, 8), torch.zeros(2, 4)).shape
    torch.Size([2, 4, 3, 8, 8])
    """

    axes: ClassVar[tuple[int, int]] = (3, 3)

    def __init__(
        self,
        shape: Sequence[int],
        *,
        patch: int = 4,
        width: int = 96,
        depth: int = 4,
        heads: int = 4,
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__(shape, width)
        if patch < 1 or depth < 1 or width < 4:
            raise SuffuseError(
                "patch and depth of a space-time transformer are 1 or more and its width 4 or "
                f"more; given {patch}, {depth} and {width}"
            )
        self.patch = (patch, patch)
        channels = self.shape[1]
        self.embedding = LevelEmbedding(width)
        self.enter = nn.Linear(channels * patch**2, width)
        self.blocks = nn.ModuleList(_Block(width, heads, mlp_ratio) for _ in range(depth))
        self.modulation = zeroed(nn.Linear(width, 2 * width))
        self.leave = zeroed(nn.Linear(width, channels * patch**2))

    def forward(self, x: Tensor, level: Tensor, vector: Tensor | None = None) -> Tensor:
        """The raw prediction for noisy clips.

        Args:
            x: states [B, F, C, h, w].
            level: c_noise, [B, F], or [B] for one of all frames.
            vector: the conditions' embedding, [B, width]; none where None.

        Returns:
            [B, F, C, h, w], of the dtype of x.
        """
        if x.ndim != 5 or x.shape[2] != self.shape[1]:
            raise SuffuseError(
                f"this network takes clips [B, frames, {self.shape[1]}, height, width]; given "
                f"{list(x.shape)}"
            )
        b, frames = x.shape[:2]
        if level.ndim == 1:
            level = level[:, None].expand(-1, frames)
        if level.shape != (b, frames):
            raise SuffuseError(
                f"level is one number for each of the {b} clips or for each of their {frames} "
                f"frames; given the shape {list(level.shape)}"
            )
        size = x.shape[3:]
        down, right = (-n % p for n, p in zip(size, self.patch, strict=True))
        inner = pad(x.flatten(0, 1), (0, right, 0, down))
        grid = [n // p for n, p in zip(inner.shape[2:], self.patch, strict=True)]
        h = self.enter(patchify(inner, self.patch))
        width = h.shape[-1]
        places = sincos(grid, width, h.device)
        moments = sincos([frames], width, h.device).repeat(b, 1)[:, None]
        h = h + places.to(h.dtype) + moments.to(h.dtype)
        e = self.embedding(level, vector).flatten(0, 1)[:, None]
        for block in self.blocks:
            h = block(h, e, frames)
        shift, scale = self.modulation(e).chunk(2, dim=-1)
        out = unpatchify(self.leave(ada_norm(h, scale, shift)[1]), self.patch, grid)
        return out[..., : size[0], : size[1]].reshape(x.shape).to(x.dtype)
