r"""A U-Net whose layers keep the magnitude of what they are given.

Weights are of unit length for each output, activations of about unit mean square, and sums and
concatenations are scaled to stay so. Nothing then grows over a training but what gains of their own
tell; normalisation over groups is not needed, nor are biases (a channel of ones is laid beside the
input instead).

    weight      w / |w|, over the inputs of each output; the stored weight is brought to length
                √inputs in each training step, so that the learning rate means the same throughout
    MP-SiLU     SiLU(x) / 0.596
    MP-sum      ((1 − t) a + t b) / sqrt((1 − t)² + t²)
    MP-cat      [a √((N_a + N_b) / 2N_a), b √((N_a + N_b) / 2N_b)]
    block       encoder: pixel norm first; h = conv(MP-SiLU(x));
                h = conv(dropout(MP-SiLU(h · (1 + gain · W e))));  MP-sum(x, h, 0.3), clipped at 256

Source: Karras et al., "Analyzing and improving the training dynamics of diffusion models" (2023),
arXiv 2312.02696, configuration G and appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, conv2d, conv3d, interpolate, linear, silu

from suffuse.nn.attention import attend, unit
from suffuse.nn.blocks import halve
from suffuse.nn.embedding import fourier
from suffuse.nn.levels import Place, levels
from suffuse.nn.network import Network

__all__ = ["Layer", "MagnitudeUNet", "cat", "mix", "mp_silu", "normalized"]

RESIDUAL, ATTENTION, VECTOR, SKIP = 0.3, 0.3, 0.5, 0.5
CLIP = 256.0
EPS = 1e-4


def mp_silu(x: Tensor) -> Tensor:
    """SiLU, of unit mean square for standard normal x."""
    return silu(x) / 0.596


def mix(a: Tensor, b: Tensor, t: float) -> Tensor:
    """(1 − t) a + t b, scaled to keep the magnitude of independent a and b."""
    return a.lerp(b.to(a.dtype), t) / math.hypot(1 - t, t)


def cat(a: Tensor, b: Tensor) -> Tensor:
    """Channels of both, each with half of the whole's mean square."""
    both = a.shape[1] + b.shape[1]
    return torch.cat(
        [a * math.sqrt(both / a.shape[1] / 2), b * math.sqrt(both / b.shape[1] / 2)], dim=1
    )


def _pixel_norm(x: Tensor) -> Tensor:
    """x over the root mean square of its channels at each place."""
    wide = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=wide)
    normed: Tensor = x / (norm / math.sqrt(x.shape[1]) + EPS).to(x.dtype)
    return normed


def normalized(weight: Tensor) -> Tensor:
    """A weight [out, *inputs] at length √inputs for each output."""
    flat = weight.flatten(1)
    norm = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    scaled: Tensor = flat / (norm / math.sqrt(flat.shape[1]) + EPS)
    return scaled.reshape(weight.shape)


class Layer(nn.Module):
    """A linear layer (axes 0) or a convolution without a bias, of unit weights."""

    def __init__(self, axes: int, channels: int, out: int, kernel: int = 1) -> None:
        super().__init__()
        self.axes = axes
        self.weight = nn.Parameter(torch.randn(out, channels, *[kernel] * axes))

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        """The outputs, times `gain`; in training the weight itself is normalised first."""
        if self.training:
            with torch.no_grad():
                self.weight.copy_(normalized(self.weight))
        w = normalized(self.weight) * (gain / math.sqrt(self.weight[0].numel()))
        w = w.to(x.dtype)
        if not self.axes:
            return linear(x, w)
        convolve = {1: conv1d, 2: conv2d, 3: conv3d}[self.axes]
        found: Tensor = convolve(x, w, padding=w.shape[-1] // 2)
        return found


class _Block(nn.Module):
    def __init__(
        self,
        axes: int,
        place: Place,
        embedding: int,
        kind: Literal["encoder", "decoder"],
        dropout: float,
    ) -> None:
        super().__init__()
        channels, out, heads = place.channels, place.out, place.heads
        self.kind, self.resample, self.heads, self.dropout = kind, place.resample, heads, dropout
        self.conv_0 = Layer(axes, out if kind == "encoder" else channels, out, 3)
        self.conv_1 = Layer(axes, out, out, 3)
        self.steer = Layer(0, embedding, out)
        self.gain = nn.Parameter(torch.zeros(1))
        self.skip = Layer(axes, channels, out) if channels != out else None
        self.qkv = Layer(axes, out, 3 * out) if heads else None
        self.project = Layer(axes, out, out) if heads else None

    def forward(self, x: Tensor, e: Tensor, size: Sequence[int] | None = None) -> Tensor:
        if self.resample == "down":
            x = halve(x)
        elif self.resample == "up":
            x = interpolate(x, size=size, mode="nearest")
        if self.kind == "encoder":
            x = _pixel_norm(x if self.skip is None else self.skip(x))
        h = self.conv_0(mp_silu(x))
        scale = self.steer(e, self.gain) + 1
        h = mp_silu(h * scale.reshape(*scale.shape, *[1] * (h.ndim - 2)).to(h.dtype))
        h = self.conv_1(nn.functional.dropout(h, self.dropout, self.training))
        if self.kind == "decoder" and self.skip is not None:
            x = self.skip(x)
        x = mix(x, h, RESIDUAL)
        if self.qkv is not None and self.project is not None:
            parts = self.qkv(x).flatten(2).unflatten(1, (3, self.heads, -1)).transpose(-1, -2)
            q, k, v = (unit(p) for p in parts.unbind(1))
            made = attend(q, k, v).transpose(-1, -2).reshape(x.shape)
            x = mix(x, self.project(made), ATTENTION)
        return x.clamp(-CLIP, CLIP)


class MagnitudeUNet(Network):
    """EDM2's U-Net for states of shape [C, *size]: signals, images or volumes. Any size is legal.

    Args:
        shape: of one state, [C, n], [C, h, w] or [C, d, h, w].
        width: channels at full resolution.
        multipliers: the channels of each level as a multiple of `width`; each further level halves
            every axis (rounding up).
        blocks: residual blocks of a level on the way down; one more on the way up.
        attention: the levels whose blocks attend over all positions, 0 the first, −1 the last.
        head_width: the least width of an attention head.
        dropout: the share of features dropped in each block in training, in [0, 1).
        context: further channels of the input, which conditions bring.

    The output of a fresh network is zero. Its condition vector is 4 · `width` wide.

    >>> network = MagnitudeUNet((1, 8, 8), width=16, multipliers=(1, 2), blocks=1)
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
        context: int = 0,
    ) -> None:
        super().__init__(shape, 4 * width, context)
        axes = len(self.shape) - 1
        plan = levels(width, multipliers, blocks, attention, head_width, owner="MagnitudeUNet")

        def made(places: Sequence[Place], kind: Literal["encoder", "decoder"]) -> nn.ModuleList:
            return nn.ModuleList(_Block(axes, place, self.width, kind, dropout) for place in places)

        self.level = Layer(0, 64, self.width)
        self.enter = Layer(axes, self.shape[0] + context + 1, width, 3)
        self.down = made(plan.down, "encoder")
        self.middle, self.up = made(plan.middle, "decoder"), made(plan.up, "decoder")
        self.leave = Layer(axes, plan.channels, self.shape[0], 3)
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        vector: Tensor | None = None,
        concat: Tensor | None = None,
    ) -> Tensor:
        """The raw prediction for noisy states [B, C, *size]; see `suffuse.nn.network`."""
        inner = self._input(x, level, concat)
        e = self.level(fourier(level, 64).to(self.level.weight.dtype) * math.sqrt(2.0))
        if vector is not None:
            e = mix(e, unit(vector.to(e.dtype)), VECTOR)
        e = mp_silu(e)
        h = self.enter(torch.cat([inner, torch.ones_like(inner[:, :1])], dim=1))
        skips = [h]
        for block in self.down:
            h = block(h, e)
            skips.append(h)
        for block in self.middle:
            h = block(h, e)
        for block in self.up:
            if block.resample == "up":
                h = block(h, e, skips[-1].shape[2:])
            else:
                h = block(cat(h, skips.pop()), e)
        out: Tensor = self.leave(h, self.gain)
        return out.to(x.dtype)
