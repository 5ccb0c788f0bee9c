"""The parts that U-Nets and transformers are put together from.

A block adds to its input what its last layer makes, and that layer begins at zero: a fresh network
passes its input through (Dhariwal, Nichol, "Diffusion models beat GANs on image synthesis" (2021),
arXiv 2105.05233; Peebles, Xie (2022), arXiv 2212.09748).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, avg_pool2d, avg_pool3d, interpolate, pad

from suffuse.kernels.norm_silu import norm_silu
from suffuse.nn.attention import Attention, CrossAttention, zeroed

__all__ = [
    "Attention",
    "CrossAttention",
    "ResidualBlock",
    "convolution",
    "count_groups",
    "divisor",
    "zeroed",
]


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
