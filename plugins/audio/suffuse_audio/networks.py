"""Networks beside the transformer on frames, to compare: a U-Net on spectrograms, and DiffWave.

Sources: the U-Net as `suffuse.nn.unet`, on complex spectra as in Richter et al. (2022), arXiv
2208.05830; Kong et al., "DiffWave: a versatile diffusion model for audio synthesis" (2021), arXiv
2009.09761, section 3 and figure 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, silu

from suffuse.errors import SuffuseError
from suffuse.nn.blocks import zeroed
from suffuse.nn.embedding import LevelEmbedding
from suffuse.nn.network import Network
from suffuse.nn.unet import UNet

__all__ = ["DiffWave", "SpectrogramUNet"]


class SpectrogramUNet(Network):
    """A two-dimensional U-Net over frequency and time, on states of `audio/frames`.

    The real and imaginary parts [2F, T] are two channels of a picture [2, F, T].

    Args:
        shape: (2F, T).
        width: channels at full size; the condition vector is four times as wide.
        multipliers: of the width, by level.
        blocks: residual blocks a level.
        attention: levels with attention.

    >>> network = SpectrogramUNet((34, 9), width=16, multipliers=(1, 2))
    >>> network(torch.randn(2, 34, 9), torch.zeros(2)).shape
    torch.Size([2, 34, 9])
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        width: int = 32,
        multipliers: tuple[int, ...] = (1, 2, 2, 4),
        blocks: int = 1,
        attention: tuple[int, ...] = (-1,),
    ) -> None:
        if shape[0] % 2:
            raise SuffuseError(
                f"a U-Net on spectrograms takes states [2F, T] of audio/frames; given {list(shape)}"
            )
        super().__init__(shape, 4 * width)
        self.inner = UNet(
            (2, shape[0] // 2, shape[1]),
            width=width,
            multipliers=multipliers,
            blocks=blocks,
            attention=attention,
        )

    def forward(
        self, x: Tensor, level: Tensor, vector: Tensor | None = None, concat: Tensor | None = None
    ) -> Tensor:
        """The raw prediction [B, 2F, T] for noisy states, levels [B] and condition vectors."""
        self._input(x, level, concat)
        made: Tensor = self.inner(x.unflatten(1, (2, -1)), level, vector)
        return made.flatten(1, 2)


class _Layer(nn.Module):
    """A gated dilated convolution with a residual and a skip way out."""

    def __init__(self, width: int, vector: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.told = nn.Linear(vector, width)
        self.weight = nn.Parameter(torch.randn(2 * width, width, 3) * (3 * width) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(2 * width))
        self.out = nn.Conv1d(width, 2 * width, 1)

    def forward(self, x: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """[B, width, n], steered by [B, vector]: what goes on, and what is summed up."""
        h = x + self.told(e)[..., None]
        h = conv1d(h, self.weight, self.bias, padding=self.dilation, dilation=self.dilation)
        a, b = h.chunk(2, dim=1)
        on, skip = self.out(torch.tanh(a) * torch.sigmoid(b)).chunk(2, dim=1)
        return (x + on) * 0.5**0.5, skip


class DiffWave(Network):
    """Dilated convolutions on samples, dilations 1, 2, 4, ... again and again.

    Args:
        shape: (C, n), of `audio/waveform` for instance.
        width: channels.
        depth: layers.
        cycle: layers until the dilation is 1 again.

    >>> network = DiffWave((1, 50), width=16, depth=4, cycle=3)
    >>> network(torch.randn(2, 1, 50), torch.zeros(2)).shape
    torch.Size([2, 1, 50])
    """

    axes = (1, 1)

    def __init__(
        self, shape: Sequence[int], *, width: int = 64, depth: int = 30, cycle: int = 10
    ) -> None:
        if min(width, depth, cycle) < 1:
            raise SuffuseError(
                f"width, depth and cycle are at least 1; given {width}, {depth} and {cycle}"
            )
        super().__init__(shape, 4 * width)
        self.embedding = LevelEmbedding(self.width)
        self.enter = nn.Conv1d(shape[0], width, 1)
        self.layers = nn.ModuleList(
            _Layer(width, self.width, 2 ** (i % cycle)) for i in range(depth)
        )
        self.last = nn.Conv1d(width, width, 1)
        self.leave = zeroed(nn.Conv1d(width, shape[0], 1))

    def forward(
        self, x: Tensor, level: Tensor, vector: Tensor | None = None, concat: Tensor | None = None
    ) -> Tensor:
        """The raw prediction [B, C, n] for noisy states, levels [B] and condition vectors."""
        inner = self._input(x, level, concat)
        e = self.embedding(level, vector)
        h, total = silu(self.enter(inner)), None
        for layer in self.layers:
            h, skip = layer(h, e)
            total = skip if total is None else total + skip
        assert total is not None
        h = silu(self.last(total * len(self.layers) ** -0.5))
        out: Tensor = self.leave(h)
        return out.to(x.dtype)
