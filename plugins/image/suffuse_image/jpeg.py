"""What a JPEG keeps of a picture, as a linear operator with noise.

A JPEG of baseline kind takes the discrete cosine transform of each block of 8x8 pixels in luma and
two colour differences (ITU-R BT.601), and rounds each coefficient to a multiple of its entry q in a
table. Rounding is told of as normal noise of the deviation q/√12. Colour differences are mostly
kept at half the resolution: their mean over 2x2 pixels is what is transformed.

Source: ITU-T T.81 (1992); the tables are those of the encoder at hand, Pillow's, by quality.
"""

from __future__ import annotations

import io
import math
from functools import lru_cache

import torch
from PIL import Image
from torch import Tensor

from suffuse.diffusion.operators import Operator, linear
from suffuse.errors import SuffuseError

__all__ = ["operator", "tables"]

YCBCR = (
    (0.299, 0.587, 0.114),
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)


@lru_cache(maxsize=32)
def tables(quality: int) -> tuple[Tensor, Tensor]:
    """The quantisation tables of luma and of colour differences, [8, 8], rows are vertical."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", quality=quality)
    found = Image.open(file).quantization  # type: ignore[attr-defined]
    first, second = (torch.tensor(found[k], dtype=torch.float32).reshape(8, 8) for k in (0, 1))
    return first, second


def _cosines() -> Tensor:
    """The orthonormal cosine transform of 8 values, [8, 8]."""
    k, n = torch.arange(8.0)[:, None], torch.arange(8.0)
    rows = torch.cos(math.pi * (2 * n + 1) * k / 16) / 2
    rows[0] /= math.sqrt(2)
    return rows


def _blocks(x: Tensor) -> Tensor:
    """The transform of each block of [B, H, W], of its shape; sides are padded by their edges."""
    high, wide = x.shape[-2:]
    padded = torch.nn.functional.pad(x[:, None], (0, -wide % 8, 0, -high % 8), mode="replicate")
    cut = padded[:, 0].unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).transpose(-3, -2)
    c = _cosines().to(x)
    return c @ cut @ c.T


def operator(size: tuple[int, int], std: Tensor, quality: int) -> tuple[Operator, Tensor]:
    """From states to all coefficients in a row, [B, M], in units of the range of a pixel.

    Args:
        size: height and width.
        std: of the state's channels, [C, 1, 1], C of 1 or 3.
        quality: of the encoder, 1 to 100.

    Returns:
        The operator, and the deviation of the rounding of each coefficient, [M].
    """
    if not 1 <= quality <= 100:
        raise SuffuseError(f"the quality of a JPEG is 1 to 100, and {quality} is not")
    luma, chroma = tables(quality)
    colours = torch.tensor(YCBCR)

    def parts(x: Tensor) -> list[Tensor]:
        p = x * std.to(x)
        if len(std) == 1:
            return [_blocks(p[:, 0])]
        y, cb, cr = torch.einsum("ij,bjhw->bihw", colours.to(x), p).unbind(1)
        half = [torch.nn.functional.avg_pool2d(c[:, None], 2, ceil_mode=True)[:, 0]
                for c in (cb, cr)]  # fmt: skip
        return [_blocks(y), *map(_blocks, half)]

    def forward(x: Tensor) -> Tensor:
        return torch.cat([part.flatten(1) for part in parts(x)], 1)

    shown = parts(torch.zeros(1, len(std), *size))
    each = [table.expand_as(part).flatten()
            for table, part in zip([luma, chroma, chroma], shown, strict=False)]  # fmt: skip
    noise = torch.cat(each) / math.sqrt(12) / 255
    return linear(forward, (len(std), *size), "jpeg"), noise
