"""The U-Net of ADM and EDM, for one, two or three axes.

Residual blocks at falling resolutions, then at rising ones, where each block also sees what its
counterpart on the way down made (Ronneberger, Fischer, Brox (2015), arXiv 1505.04597; Dhariwal,
Nichol, "Diffusion models beat GANs on image synthesis" (2021), arXiv 2105.05233; Karras et al.,
"Elucidating the design space of diffusion-based generative models" (2022), arXiv 2206.00364).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from suffuse.kernels.norm_silu import norm_silu
from suffuse.nn.blocks import ResidualBlock, convolution, count_groups, zeroed
from suffuse.nn.embedding import LevelEmbedding
from suffuse.nn.levels import Place, levels
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
        axes = len(self.shape) - 1
        plan = levels(width, multipliers, blocks, attention, head_width, owner="UNet")

        def made(places: Sequence[Place]) -> nn.ModuleList:
            return nn.ModuleList(
                ResidualBlock(
                    axes,
                    place.channels,
                    place.out,
                    self.width,
                    resample=place.resample,
                    heads=place.heads,
                    dropout=dropout,
                    groups=groups,
                    tokens=tokens,
                )
                for place in places
            )

        self.embedding = LevelEmbedding(self.width)
        self.enter = convolution(axes, self.shape[0] + context, width)
        self.down, self.middle, self.up = made(plan.down), made(plan.middle), made(plan.up)
        channels = plan.channels
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
