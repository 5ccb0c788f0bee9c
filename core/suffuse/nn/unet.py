"""The U-Net of ADM and EDM, for one, two or three axes.

Residual blocks at falling resolutions, then at rising ones, where each block also sees what its
counterpart on the way down made (Ronneberger, Fischer, Brox (2015), arXiv 1505.04597; Dhariwal,
Nichol, "Diffusion models beat GANs on image synthesis" (2021), arXiv 2105.05233; Karras et al.,
"Elucidating the design space of diffusion-based generative models" (2022), arXiv 2206.00364).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from suffuse.errors import SuffuseError
from suffuse.kernels.norm_silu import norm_silu
from suffuse.nn.blocks import ResidualBlock, convolution, count_groups, divisor, zeroed
from suffuse.nn.embedding import LevelEmbedding
from suffuse.nn.network import Network

__all__ = ["UNet"]


class UNet(Network):
    """A U-Net for states of shape [C, *size]: signals, images or volumes. Any size is legal.

    Args:
        shape: the shape of one state, [C, n], [C, h, w] or [C, d, h, w].
        width: channels at full resolution.
        multipliers: the channels of each level as a multiple of `width`. The first level is at full
            resolution, and each further one halves every axis (rounding up).
        blocks: residual blocks of a level on the way down; one more on the way up.
        attention: the levels whose blocks attend over all positions, 0 the first, −1 the last. The
            middle attends if the last level does.
        head_width: the least width of an attention head; narrower levels have one head.
        dropout: the share of features dropped in each block in training, in [0, 1).
        groups: the most groups of a group normalisation; a group has at least four channels.
        context: further channels of the input, which conditions bring.
        tokens: features of the tokens that conditions bring, for the blocks that attend to attend
            to these as well; 0 for none.

    The output of a fresh network is zero. Its condition vector is 4 · `width` wide.

    >>> network = UNet((1, 8, 8), width=16, multipliers=(1, 2), blocks=1)
    >>> network(torch.randn(2, 1, 8, 8), torch.zeros(2)).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        width: int = 64,
        multipliers: tuple[int, ...] = (1, 2, 2),
        blocks: int = 2,
        attention: tuple[int, ...] = (-1,),
        head_width: int = 64,
        dropout: float = 0.0,
        groups: int = 32,
        context: int = 0,
        tokens: int = 0,
    ) -> None:
        super().__init__(shape, 4 * width, context, tokens)
        axes, depth = len(self.shape) - 1, len(multipliers)
        if min(width, blocks, head_width, len(multipliers), *multipliers) < 1:
            raise SuffuseError(
                "width, blocks, head_width and every multiplier of a UNet are at least 1; "
                f"given {width}, {blocks}, {head_width} and {list(multipliers)}"
            )
        if any(not -depth <= level < depth for level in attention):
            raise SuffuseError(
                f"attention names levels from {-depth} to {depth - 1}, as there are {depth} "
                f"multipliers; given {list(attention)}"
            )
        attentive = {level % depth for level in attention}

        def block(
            channels: int, out: int, level: int, resample: Literal["down", "up"] | None = None
        ) -> ResidualBlock:
            attends = level in attentive and not resample
            heads = divisor(out, out // head_width) if attends else 0
            return ResidualBlock(
                axes,
                channels,
                out,
                self.width,
                resample=resample,
                heads=heads,
                dropout=dropout,
                groups=groups,
                tokens=tokens,
            )

        self.embedding = LevelEmbedding(self.width)
        self.enter = convolution(axes, self.shape[0] + context, width)
        channels, skips = width, [width]
        self.down = nn.ModuleList()
        for level, multiplier in enumerate(multipliers):
            if level:
                self.down.append(block(channels, channels, level, "down"))
                skips.append(channels)
            for _ in range(blocks):
                self.down.append(block(channels, width * multiplier, level))
                channels = width * multiplier
                skips.append(channels)
        self.middle = nn.ModuleList(
            [block(channels, channels, depth - 1), block(channels, channels, depth)]
        )
        self.up = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for _ in range(blocks + 1):
                self.up.append(block(channels + skips.pop(), width * multiplier, level))
                channels = width * multiplier
            if level:
                self.up.append(block(channels, channels, level, "up"))
        self.norm = nn.GroupNorm(count_groups(channels, groups), channels)
        self.leave = zeroed(convolution(axes, channels, self.shape[0]))

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
            vector: the conditions' embedding, [B, 4 · `width`]; none where None.
            concat: further channels of the input, [B, `context`, *size].
            tokens: of conditions, [B, L, `tokens`]; none where None.
            token_mask: [B, L], False where one is padding.

        Returns:
            [B, C, *size], of the dtype of x.
        """
        inner = self._input(x, level, concat)
        self._told(tokens)
        e = self.embedding(level, vector)
        h = self.enter(inner)
        skips = [h]
        for block in self.down:
            h = block(h, e, None, tokens, token_mask)
            skips.append(h)
        for block in self.middle:
            h = block(h, e, None, tokens, token_mask)
        for block in self.up:
            if block.resample == "up":
                h = block(h, e, skips[-1].shape[2:])
            else:
                h = block(torch.cat([h, skips.pop()], dim=1), e, None, tokens, token_mask)
        norm = self.norm
        h = norm_silu(h, norm.num_groups, norm.weight, norm.bias)
        out: Tensor = self.leave(h)
        return out.to(x.dtype)
