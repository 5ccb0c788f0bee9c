"""The parts that U-Nets and transformers are put together from.

A block adds to its input what its last layer makes, and that layer begins at zero: a fresh network
passes its input through (Dhariwal, Nichol, "Diffusion models beat GANs on image synthesis" (2021),
arXiv 2105.05233; Peebles, Xie (2022), arXiv 2212.09748).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    interpolate,
    pad,
    rms_norm,
    scaled_dot_product_attention,
)

from suffuse.errors import SuffuseError
from suffuse.kernels.norm_silu import norm_silu

__all__ = [
    "Attention",
    "CrossAttention",
    "ResidualBlock",
    "attend",
    "convolution",
    "count_groups",
    "divisor",
    "zeroed",
]

Layer = TypeVar("Layer", bound=nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)


def zeroed(layer: Layer) -> Layer:
    """The layer with its weights and biases set to zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def convolution(
    axes: int, channels: int, out: int, kernel: int = 3
) -> nn.Conv1d | nn.Conv2d | nn.Conv3d:
    """A convolution over one, two or three axes that keeps the size."""
    padding = kernel // 2
    if axes == 1:
        return nn.Conv1d(channels, out, kernel, padding=padding)
    if axes == 2:
        return nn.Conv2d(channels, out, kernel, padding=padding)
    return nn.Conv3d(channels, out, kernel, padding=padding)


def divisor(n: int, most: int) -> int:
    """The largest divisor of n that is at most `most`, and at least 1.

    >>> divisor(96, 32), divisor(40, 12), divisor(7, 0)
    (32, 10, 1)
    """
    return next(k for k in range(max(most, 1), 0, -1) if n % k == 0)


def count_groups(channels: int, most: int) -> int:
    """The most groups, up to `most`, of equally many channels, at least four if there are four."""
    return divisor(channels, min(most, channels // 4))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / √d) v over [B, heads, N, d].

    torch's fused kernel, except in bfloat16 on a CPU: there two plain products measured 2 to 9
    times faster for 16 to 256 tokens (in float32 the fused kernel was the faster one at all sizes).
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape[-2] <= 256:
        weights = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(-1)
        return torch.matmul(weights, v)
    return scaled_dot_product_attention(q, k, v)


class Attention(nn.Module):
    """Self-attention over tokens [B, N, width], with queries and keys of unit mean square.

    The normalisation bounds the logits, so that no head saturates (Dehghani et al., "Scaling vision
    transformers to 22 billion parameters" (2023), arXiv 2302.05442, section 2.1). One learned gain
    a feature suffices: only the product of the queries' and the keys' gains matters.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise SuffuseError(f"attention of width {width} cannot be split into {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.gain = nn.Parameter(torch.ones(width // heads))
        self.out = zeroed(nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """What attention adds to tokens [B, N, width]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        size = q.shape[-1:]
        q, k = rms_norm(q, size, self.gain.to(q.dtype), 1e-6), rms_norm(k, size, eps=1e-6)
        h = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        out: Tensor = self.out(h.transpose(1, 2).flatten(2))
        return out


class CrossAttention(nn.Module):
    """Attention of tokens [B, N, width] to what a condition says, [B, L, features].

    Beside the condition's tokens there is a learned one, so that a state without any has something
    to attend to, and any state may attend to nothing. Queries and keys as in `Attention`. A fresh
    layer adds nothing.
    """

    def __init__(self, width: int, features: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise SuffuseError(f"attention of width {width} cannot be split into {heads} heads")
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(features, 2 * width)
        self.gain = nn.Parameter(torch.ones(width // heads))
        self.nothing = nn.Parameter(torch.randn(features))
        self.out = zeroed(nn.Linear(width, width))

    def forward(self, x: Tensor, tokens: Tensor | None, mask: Tensor | None = None) -> Tensor:
        """What attention adds to x [B, N, width].

        Args:
            tokens: [B, L, features]; none where None.
            mask: [B, L], False where a token is padding; all count where None.
        """
        told = self.nothing.to(x.dtype).expand(len(x), 1, -1)
        shown = torch.ones(len(x), 1, dtype=torch.bool, device=x.device)
        if tokens is not None:
            told = torch.cat([told, tokens.to(x.dtype)], dim=1)
            known = shown.expand(-1, tokens.shape[1]) if mask is None else mask
            shown = torch.cat([shown, known], dim=1)
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(told).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        size = q.shape[-1:]
        q, k = rms_norm(q, size, self.gain.to(q.dtype), 1e-6), rms_norm(k, size, eps=1e-6)
        h = scaled_dot_product_attention(q, k, v, attn_mask=shown[:, None, None])
        out: Tensor = self.out(h.transpose(1, 2).flatten(2))
        return out


class ResidualBlock(nn.Module):
    """The block of ADM and EDM: two convolutions, steered by the embedding, and attention.

        h = conv(SiLU(norm(x)));   x + conv(dropout(SiLU(norm(h) (1 + scale) + shift)))

    `scale` and `shift` are linear in the embedding. Where the block resamples, it does so first, by
    the mean of two neighbours or by repeating each: a size n becomes ⌈n / 2⌉, and comes back to n.

    Sources: Dhariwal, Nichol (2021), arXiv 2105.05233, section 3 (adaptive group normalisation);
    Karras et al. (2022), arXiv 2206.00364, table 8; the place of resampling: Karras et al.,
    "Analyzing and improving the training dynamics of diffusion models" (2023), arXiv 2312.02696,
    figure 21.
    """

    def __init__(
        self,
        axes: int,
        channels: int,
        out: int,
        embedding: int,
        *,
        resample: Literal["down", "up"] | None = None,
        heads: int = 0,
        dropout: float = 0.0,
        groups: int = 32,
        tokens: int = 0,
    ) -> None:
        super().__init__()
        self.resample = resample
        self.norm_0 = nn.GroupNorm(count_groups(channels, groups), channels)
        self.conv_0 = convolution(axes, channels, out)
        self.modulation = nn.Linear(embedding, 2 * out)
        self.groups = count_groups(out, groups)
        self.dropout = nn.Dropout(dropout)
        self.conv_1 = zeroed(convolution(axes, out, out))
        self.skip = convolution(axes, channels, out, 1) if channels != out else nn.Identity()
        self.norm_2 = nn.GroupNorm(self.groups, out) if heads else None
        self.attention = Attention(out, heads) if heads else None
        self.cross = CrossAttention(out, tokens, heads) if heads and tokens else None

    def forward(
        self,
        x: Tensor,
        e: Tensor,
        size: Sequence[int] | None = None,
        tokens: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """States [B, channels, *n] and embeddings [B, embedding] to [B, out, *m].

        Args:
            size: m, for a block that resamples up; either 2n or 2n − 1 on each axis.
            tokens, mask: of conditions, for a block that attends to them: see `CrossAttention`.
        """
        if self.resample == "down":
            x = halve(x)
        elif self.resample == "up":
            x = interpolate(x, size=size, mode="nearest")
        norm = self.norm_0
        h = self.conv_0(norm_silu(x, norm.num_groups, norm.weight, norm.bias))
        scale, shift = self.modulation(e).chunk(2, dim=1)
        h = norm_silu(h, self.groups, 1 + scale, shift)
        x = self.skip(x) + self.conv_1(self.dropout(h))
        if self.norm_2 is None or self.attention is None:
            return x
        places = self.norm_2(x).flatten(2).transpose(1, 2)
        added: Tensor = self.attention(places)
        if self.cross is not None:
            added = added + self.cross(places, tokens, mask)
        return x + added.transpose(1, 2).reshape(x.shape)


def halve(x: Tensor) -> Tensor:
    """Means of neighbouring pairs along every axis of [B, C, *n]; of one alone at an odd end."""
    odd = [k for n in reversed(x.shape[2:]) for k in (0, n % 2)]
    if any(odd):
        x = pad(x, odd, mode="replicate")
    pool = {3: avg_pool1d, 4: avg_pool2d, 5: avg_pool3d}[x.ndim]
    means: Tensor = pool(x, 2)
    return means
