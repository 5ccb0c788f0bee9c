"""A U-Net over space with attention over time: a network of images that is taught to move.

Every frame goes through the core's U-Net (`suffuse.nn.unet`) with its own noise level. After each
of its blocks the frames look at each other, place by place, along time:

    h += out(attention over time(norm(h)))

`out` begins at zero, so that a fresh network treats each frame as the U-Net alone would. With the
weights of a model of images it makes that model's images, and training has only motion to add.

Sources: Ho et al., "Video diffusion models" (2022), arXiv 2204.03458; weights of images: Singer et
al., "Make-A-Video" (2022), arXiv 2209.14792, section 3.2; Blattmann et al., "Align your latents"
(2023), arXiv 2304.08818, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from suffuse.diffusion.process import masked
from suffuse.errors import SuffuseError
from suffuse.kernels.norm_silu import norm_silu
from suffuse.nn.blocks import ResidualBlock, count_groups, divisor, zeroed
from suffuse.nn.network import Network
from suffuse.nn.spacetime import TimeAttention, turns
from suffuse.nn.unet import UNet

from .network import each_frames, spread

__all__ = ["SpaceTimeUNet"]


class _Along(nn.Module):
    """What frames see of each other at each place."""

    def __init__(self, channels: int, head_width: int) -> None:
        super().__init__()
        self.heads = divisor(channels, max(channels // head_width, 1))
        self.norm = nn.GroupNorm(count_groups(channels, 32), channels)
        self.attention = TimeAttention(channels, self.heads)
        zeroed(self.attention.out)

    def forward(self, h: Tensor, frames: int, mask: Tensor | None, there: Tensor | None) -> Tensor:
        """[B·F, C, h, w] of B clips; there [B, F] is False for padding."""
        n, c, height, width = h.shape
        places = self.norm(h).reshape(-1, frames, c, height * width)
        along = places.permute(0, 3, 1, 2).reshape(-1, frames, c)
        turn = turns(torch.arange(frames, device=h.device), c // self.heads)
        if there is not None:
            there = there.repeat_interleave(height * width, 0)
        seen = self.attention(along, turn, mask, there=there)
        seen = seen.reshape(-1, height * width, frames, c)
        return h + seen.permute(0, 2, 3, 1).reshape(n, c, height, width)


class SpaceTimeUNet(Network):
    """A denoiser for states [F, C, h, w]; any number of frames and any size is legal in a call.

    Args:
        shape: of one state, [F, C, h, w].
        width, multipliers, blocks, attention, head_width, dropout: see `suffuse.nn.unet.UNet`.
        causal: whether frames look at the present and the past alone.
        images: a model of images whose U-Net's weights training begins with, by its path or name;
            new ones where empty. It is not needed once training has begun. It has the same options
            and sees as many channels.

    The output of a fresh network is zero. Its condition vector is 4 · `width` wide.

    >>> network = SpaceTimeUNet((4, 3, 8, 8), width=16, multipliers=(1, 2), blocks=1)
    >>> network(torch.randn(2, 4, 3, 8, 8), torch.zeros(2, 4)).shape
    torch.Size([2, 4, 3, 8, 8])
    """

    axes: ClassVar[tuple[int, int]] = (3, 3)

    def __init__(
        self,
        shape: Sequence[int],
        *,
        width: int = 32,
        multipliers: tuple[int, ...] = (1, 2, 4),
        blocks: int = 1,
        attention: tuple[int, ...] = (-1,),
        head_width: int = 32,
        dropout: float = 0.0,
        causal: bool = False,
        images: str = "",
    ) -> None:
        super().__init__(shape, 4 * width)
        self.frames = UNet(
            self.shape[1:],
            width=width,
            multipliers=multipliers,
            blocks=blocks,
            attention=attention,
            head_width=head_width,
            dropout=dropout,
        )
        self.causal, self.images = causal, images
        every = [*self.frames.down, *self.frames.middle, *self.frames.up]
        self.along = nn.ModuleList(
            _Along(cast(ResidualBlock, block).conv_1.out_channels, head_width) for block in every
        )

    def begin(self) -> None:
        """Take over the weights of the model of images, if there is one, as training begins.

        Raises:
            SuffuseError: where that model's network is another.
        """
        from suffuse.model import load

        if not self.images:
            return
        theirs = cast(Any, load(self.images)).network.backbone.state_dict()
        mine = self.frames.state_dict()
        others = [n for n in mine if n not in theirs or theirs[n].shape != mine[n].shape]
        if others or len(theirs) != len(mine):
            raise SuffuseError(
                f"the images of {self.images!r} are made by another network than the frames here: "
                f"{len(others)} of {len(mine)} weights differ"
                + (f", among them {others[0]!r}" if others else "")
                + "; give the denoiser the options of that model's U-Net"
            )
        self.frames.load_state_dict(theirs)

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        vector: Tensor | None = None,
        moments: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The raw prediction for noisy clips; see `network.SpaceTime`."""
        level = each_frames(level, x, self.shape[1])
        frames, x = x.shape[1], masked(x, mask)
        e = self.frames.embedding(level, vector)
        if moments is not None:
            e = e + spread(moments, frames, mask).to(e.dtype)
        e = e.flatten(0, 1)
        seen = None
        if self.causal:
            seen = torch.ones(frames, frames, dtype=torch.bool, device=x.device).tril()
        net, along = self.frames, iter(self.along)
        h = net.enter(x.flatten(0, 1))
        skips = [h]
        for block in net.down:
            h = next(along)(block(h, e), frames, seen, mask)
            skips.append(h)
        for block in net.middle:
            h = next(along)(block(h, e), frames, seen, mask)
        for block in net.up:
            if cast(ResidualBlock, block).resample == "up":
                h = block(h, e, skips[-1].shape[2:])
            else:
                h = block(torch.cat([h, skips.pop()], dim=1), e)
            h = next(along)(h, frames, seen, mask)
        norm = net.norm
        out: Tensor = net.leave(norm_silu(h, norm.num_groups, norm.weight, norm.bias))
        return masked(out.reshape(x.shape).to(x.dtype), mask)
