"""A transformer over space and time, with a noise level for each frame.

Each frame is cut into patches, and has a token of its own beside them. The blocks are those of
`suffuse.nn.spacetime`: attention among the tokens of a frame, then along time among the tokens of a
place. What steers them is a frame's own, from its noise level and from what the conditions ask of
it. A frame's own token gathers from the patches what the frame shows, hands it along time, and
gives it back: so a thing is followed that is never twice at the same place.

With `causal`, attention along time looks at the present and the past alone; then keys and
values of frames that are done can be kept (see `Cache`) and are not computed again.

Sources: Peebles, Xie, "Scalable diffusion models with transformers" (2022), arXiv 2212.09748;
Ho et al., "Video diffusion models" (2022), arXiv 2204.03458.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_shuffle, pixel_unshuffle, silu

from suffuse.diffusion.process import masked
from suffuse.errors import SuffuseError
from suffuse.kernels.ada_norm import ada_norm
from suffuse.nn.attention import zeroed
from suffuse.nn.blocks import convolution
from suffuse.nn.dit import patchify, unpatchify
from suffuse.nn.embedding import LevelEmbedding, sincos
from suffuse.nn.network import Network
from suffuse.nn.spacetime import SpaceTimeBlock, turns

__all__ = ["Cache", "SpaceTime", "each_frames", "spread"]


def each_frames(level: Tensor, x: Tensor, channels: int) -> Tensor:
    """Levels [B, F] of clips x [B, F, channels, h, w], of which [B] are those of all frames.

    Raises:
        SuffuseError: where these are no such clips, or no such levels.
    """
    if x.ndim != 5 or x.shape[2] != channels:
        raise SuffuseError(
            f"this network takes clips [B, frames, {channels}, height, width]; given "
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
    return level


def spread(moments: Tensor, frames: int, there: Tensor | None = None) -> Tensor:
    """Moments [B, parts, width] spread evenly over the frames of a clip, [B, frames, width].

    Args:
        there: [B, frames], False for the padding behind a clip's own frames, over which alone its
            moments are spread.
    """
    parts = moments.shape[1]
    if there is None and parts == frames:
        return moments
    i = torch.arange(frames, device=moments.device)
    own = frames if there is None else there.sum(1, keepdim=True).clamp(min=1)
    place = ((i + 0.5) * (parts / own) - 0.5).clamp(0, parts - 1).expand(len(moments), -1)
    before = place.long()
    rows = torch.arange(len(moments), device=moments.device)[:, None]
    low, high = moments[rows, before], moments[rows, (before + 1).clamp(max=parts - 1)]
    return torch.lerp(low, high, (place - before)[..., None].to(low))


SAID = 4
"""Of so many channels of the convolutions that draw, tokens say one."""


class Cache:
    """Keys and values of the last frames that are done, for each block; and what the last frame
    hands to the next (see `_Refine`).

    Args:
        longest: how many frames are remembered.
    """

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self.frames = 0
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}
        self.writing = False
        self.handed: Tensor | None = None

    @property
    def past(self) -> int:
        """How many frames are remembered."""
        return next((k.shape[-2] for k, _ in self.kept.values()), 0)

    def extended(self, block: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """What is remembered and k, v [.., frames, d] behind it; remembered too while `writing`."""
        if block in self.kept:
            k, v = (torch.cat(pair, dim=-2) for pair in zip(self.kept[block], (k, v), strict=True))
        if self.writing:
            self.kept[block] = k[..., -self.longest :, :], v[..., -self.longest :, :]
        return k, v


class _Residual(nn.Module):
    """h + conv(SiLU(modulate(conv(SiLU(h))))), by e [n, 1, width]; a fresh one is h."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.conv_0 = convolution(2, features, features)
        self.conv_1 = zeroed(convolution(2, features, features))
        self.modulation = zeroed(nn.Linear(width, 2 * features))

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """The same shape [n, features, h, w]."""
        scale, shift = self.modulation(e).transpose(1, 2)[..., None].chunk(2, dim=1)
        added: Tensor = self.conv_1(silu(torch.addcmul(shift, self.conv_0(silu(h)), 1 + scale)))
        return h + added


class _Refine(nn.Module):
    """Pixels from what tokens say of them and from the noisy frames, by convolutions.

    Details are the same everywhere in a frame and near to what is seen of them, there and in the
    frames before and after: tokens of large patches are spared to learn them at every place. Each
    frame hands a share of itself to its neighbours, by its noise level. The convolutions work on
    cells of 2x2 pixels:

        h = enter(x, before, after, said);   h += conv(SiLU(modulate(conv(SiLU(h)))))
        out = leave(SiLU(h)) + skip · x

    The middle is done `depth` times, with weights of its own each time.
    """

    def __init__(self, channels: int, features: int, width: int, depth: int) -> None:
        super().__init__()
        self.enter = convolution(2, 12 * channels + features // SAID, features)
        self.conv_0 = convolution(2, features, features)
        self.conv_1 = convolution(2, features, features)
        self.modulation = zeroed(nn.Linear(width, 2 * features))
        self.more = nn.ModuleList(_Residual(features, width) for _ in range(depth - 1))
        self.leave = zeroed(convolution(2, features, 4 * channels))
        self.skip = zeroed(nn.Linear(width, channels))
        self.hand = nn.Linear(width, channels)

    def forward(
        self, x: Tensor, said: Tensor, e: Tensor, frames: int, causal: bool, cache: Cache | None
    ) -> Tensor:
        """Frames from noisy frames [n, channels, h, w], what is said of their cells
        [n, features / 4, h / 2, w / 2], and e [n, 1, width].

        What there is little noise in is mostly handed on: `skip` is how much of each channel.
        """
        x = x.to(said.dtype)
        scale, shift = self.modulation(e).transpose(1, 2)[..., None].chunk(2, dim=1)
        handed = (x * self.hand(e).transpose(1, 2)[..., None]).unflatten(0, (-1, frames))
        nothing = torch.zeros_like(handed[:, :1])
        before = nothing if cache is None or cache.handed is None else cache.handed
        if cache is not None and cache.writing:
            cache.handed = handed[:, -1:]
        near = [torch.cat([before, handed[:, :-1]], 1)]
        near += [torch.zeros_like(handed) if causal else torch.cat([handed[:, 1:], nothing], 1)]
        seen = pixel_unshuffle(torch.cat([x, *(k.flatten(0, 1) for k in near)], 1), 2)
        h = torch.cat([seen, said], dim=1).contiguous(memory_format=torch.channels_last)
        h = self.enter(h)
        h = h + self.conv_1(silu(torch.addcmul(shift, self.conv_0(silu(h)), 1 + scale)))
        for block in self.more:
            h = block(h, e)
        h = pixel_shuffle(self.leave(silu(h)), 2)
        kept = self.skip(e).transpose(1, 2)[..., None]
        return torch.addcmul(h, kept, x.to(h.dtype))


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
        causal: the share of training batches in which frames look at the present and the past
            alone; 1 is a network that never does anything else.
        refine: channels of the convolutions that draw the pixels from what the tokens say and from
            the noisy frame, for an even patch; 0 leaves the pixels to the tokens.
        refine_depth: how many blocks of two convolutions draw.

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
        causal: float = 0.0,
        refine: int = 0,
        refine_depth: int = 1,
    ) -> None:
        super().__init__(shape, width)
        if min(patch, depth, refine_depth) < 1 or width < 4 or refine < 0 or not 0 <= causal <= 1:
            raise SuffuseError(
                "patch, depth and refine_depth of a space-time transformer are 1 or more, its "
                "width 4 or more, refine 0 or more and causal a share; given "
                f"{patch}, {depth}, {refine_depth}, {width}, {refine} and {causal}"
            )
        if refine and (patch % 2 or refine % SAID):
            raise SuffuseError(
                f"refine is a multiple of {SAID} and goes with an even patch; given {refine} and "
                f"{patch}"
            )
        self.patch, self.causal, self.heads = (patch, patch), causal, heads
        channels = self.shape[1]
        self.embedding = LevelEmbedding(width)
        self.mix = nn.Linear(width, width)
        self.past_only = nn.Parameter(torch.zeros(width)) if causal else None
        self.enter = nn.Linear(channels * patch**2, width)
        self.own = nn.Linear(width, width)
        self.one = max(self.shape[2:]) <= patch
        self.blocks = nn.ModuleList(
            SpaceTimeBlock(width, heads, mlp_ratio, space=not self.one) for _ in range(depth)
        )
        self.modulation = zeroed(nn.Linear(width, 2 * width))
        self.leave = nn.Linear(
            width, refine // SAID * (patch // 2) ** 2 if refine else channels * patch**2
        )
        self.refine = _Refine(channels, refine, width, refine_depth) if refine else None
        if not refine:
            zeroed(self.leave)

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        vector: Tensor | None = None,
        moments: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        causal: bool | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """The raw prediction for noisy clips.

        Args:
            x: states [B, F, C, h, w].
            level: c_noise, [B, F], or [B] for one of all frames.
            vector: the conditions' embedding, [B, width]; none where None.
            moments: what conditions ask of each part of the clip, [B, parts, width], spread evenly
                over its frames; nothing where None.
            mask: [B, F], False for the padding behind the frames of a shorter clip, of which these
                know nothing; without a cache. None is no padding.
            causal: whether frames look at the present and the past alone; where None, as trained,
                and in training by chance.
            cache: of the frames before these, for causal calls; extended while it is `writing`.

        Returns:
            [B, F, C, h, w], of the dtype of x; 0 in padding.
        """
        level = each_frames(level, x, self.shape[1])
        frames, x = x.shape[1], masked(x, mask)
        if causal is None:
            by_chance = self.training and 0 < self.causal < 1
            causal = bool(torch.rand(()) < self.causal) if by_chance else self.causal == 1
        size = x.shape[3:]
        down, right = (-n % p for n, p in zip(size, self.patch, strict=True))
        inner = pad(x.flatten(0, 1), (0, right, 0, down))
        grid = [n // p for n, p in zip(inner.shape[2:], self.patch, strict=True)]
        h = self.enter(patchify(inner, self.patch))
        h = h + sincos(grid, h.shape[-1], h.device).to(h.dtype)
        e = self._steering(level, vector, moments, mask, causal)
        own = self.own(e).to(h.dtype)
        h = h + own if self.one else torch.cat([own, h], dim=1)
        past = 0 if cache is None else cache.past
        begin = 0 if cache is None else cache.frames
        places = torch.arange(begin, begin + frames, device=x.device)
        turn = turns(places, self.width // self.heads)
        there = None if mask is None else mask.flatten()[:, None].expand(h.shape[:2])
        seen = None
        if causal and (frames > 1):
            seen = torch.ones(frames, past + frames, dtype=torch.bool, device=x.device).tril(past)
            if cache is not None:
                seen = seen.triu(past - cache.longest)
        for i, block in enumerate(self.blocks):
            kept = None if cache is None else (lambda k, v, i=i: cache.extended(i, k, v))
            h = block(h, e, frames, turn, seen, kept, there)
        if cache is not None and cache.writing:
            cache.frames += frames
        shift, scale = self.modulation(e).chunk(2, dim=-1)
        h = ada_norm(h if self.one else h[:, 1:].contiguous(), scale, shift)[1]
        out = self.leave(h)
        if self.refine is None:
            out = unpatchify(out, self.patch, grid)
        else:
            half = [p // 2 for p in self.patch]
            said = unpatchify(out, half, grid)
            out = self.refine(inner, said, e, frames, causal, cache)
        return masked(out[..., : size[0], : size[1]].reshape(x.shape).to(x.dtype), mask)

    def _steering(
        self,
        level: Tensor,
        vector: Tensor | None,
        moments: Tensor | None,
        mask: Tensor | None,
        causal: bool,
    ) -> Tensor:
        """What steers each frame, [B·F, 1, width]."""
        e = self.embedding(level, vector)
        if moments is not None:
            e = e + spread(moments, level.shape[1], mask).to(e.dtype)
        if causal and self.past_only is not None:
            e = e + self.past_only.to(e.dtype)
        return silu(self.mix(e)).flatten(0, 1)[:, None]
