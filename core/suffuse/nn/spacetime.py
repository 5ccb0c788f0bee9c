"""Attention over space and over time in turns: what networks of sequences of frames are made of.

A frame is N tokens, and a sequence F of them. Attention among all F · N tokens costs (F N)²; in
turns, among the tokens of a frame and then among those of a place along time, F N² + N F²:

    x += gate · space(modulate(x));   x += gate · time(modulate(x));   x += gate · mlp(modulate(x))

Attention along time knows how far apart frames are, and not where they stand: queries and keys are
turned by their moments.

Sources: Ho et al., "Video diffusion models" (2022), arXiv 2204.03458; Bertasius, Wang, Torresani,
"Is space-time attention all you need for video understanding?" (2021), arXiv 2102.05095, section 3
(divided attention); steering: Peebles, Xie (2022), arXiv 2212.09748; turned keys: Su et al.,
"RoFormer" (2021), arXiv 2104.09864.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from suffuse.errors import SuffuseError
from suffuse.kernels.ada_norm import ada_norm
from suffuse.nn.attention import Attention, among, attend, unit, zeroed

__all__ = ["SpaceTimeBlock", "TimeAttention", "turned", "turns"]

Remembered = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(k, v), [B, heads, F, d] each -> the same with keys and values of earlier frames before them."""


class TimeAttention(nn.Module):
    """Attention along time [B, F, width] that knows how far apart frames are.

    Args:
        width: features of a frame.
        heads: they divide `width` into even parts.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        size = width // max(heads, 1)
        if heads < 1 or width % heads or size % 2:
            raise SuffuseError(
                f"attention along time of width {width} cannot be split into {heads} heads of an "
                "even size"
            )
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.gain = nn.Parameter(torch.ones(size))
        self.out = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.out.weight)

    def forward(
        self,
        x: Tensor,
        turn: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        kept: Remembered | None = None,
        there: Tensor | None = None,
    ) -> Tensor:
        """What attention adds to x [B, F, width].

        Args:
            turn: of `turns`, for heads of this width: [F, width / heads] each.
            mask: [F, keys], True where a frame looks; everywhere where None.
            kept: puts what is remembered before keys and values.
            there: [B, F], False where a frame is padding, which others do not look at; all count
                where None.
        """
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = turned(unit(q, self.gain), turn), turned(unit(k), turn)
        if kept is not None:
            k, v = kept(k, v)
        if there is not None:
            known = pad(among(there), (k.shape[-2] - x.shape[1], 0), value=True)
            mask = known if mask is None else known & mask
        h = attend(q, k, v, mask)
        out: Tensor = self.out(h.transpose(1, 2).flatten(2))
        return out


def turns(moments: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines [F, size] of moments [F] at frequencies from 1 down to 1/100 a frame."""
    frequencies = 100.0 ** -(torch.arange(size // 2, device=moments.device) / max(size // 2, 1))
    angles = (moments[:, None].float() * frequencies).repeat(1, 2)
    return angles.cos(), angles.sin()


def turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """x [..., F, size] with each pair of features (i, i + size / 2) turned by its angle."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = (k.to(x.dtype) for k in turn)
    return x * cos + torch.cat([-b, a], dim=-1) * sin


class SpaceTimeBlock(nn.Module):
    """Attention among the tokens of a frame, attention along time, and a perceptron.

    Each stands behind a gate that begins at zero, so that a fresh block changes nothing.

    Args:
        width: features of a token, and of what steers it.
        heads: attention heads; they divide `width` into even parts.
        mlp_ratio: inner features of the perceptron as a multiple of `width`.
        space: whether tokens of a frame look at each other; not needed where a frame is one token.
    """

    def __init__(
        self, width: int, heads: int, mlp_ratio: float = 4.0, *, space: bool = True
    ) -> None:
        super().__init__()
        self.modulation = zeroed(nn.Linear(width, (9 if space else 6) * width))
        self.space = Attention(width, heads) if space else None
        self.time = TimeAttention(width, heads)
        inner = round(width * mlp_ratio)
        self.linear_0, self.linear_1 = nn.Linear(width, inner), nn.Linear(inner, width)
        if self.space is not None:
            nn.init.xavier_uniform_(self.space.out.weight)  # the gates alone begin at zero

    def forward(
        self,
        x: Tensor,
        e: Tensor,
        frames: int,
        turn: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        kept: Remembered | None = None,
        there: Tensor | None = None,
    ) -> Tensor:
        """Tokens [B · F, N, width], frame by frame, steered by embeddings [B · F, 1, width].

        Args:
            frames: F.
            turn, mask, kept: of time; see `TimeAttention`.
            there: [B · F, N], False where a token is padding, which others do not look at; all
                count where None.
        """
        said = self.modulation(e).chunk(6 if self.space is None else 9, dim=-1)
        shift_t, scale_t, gate_t, shift_m, scale_m, gate_m = said[-6:]
        if self.space is None:
            h = ada_norm(x, scale_t, shift_t)[1]
        else:
            shift, scale, gate = said[:3]
            h = self.space(ada_norm(x, scale, shift)[1], there)
            x, h = ada_norm(x, scale_t, shift_t, h, gate)
        n, width = h.shape[1:]

        def along(k: Tensor) -> Tensor:
            """Of frames [B · F, N, *rest], the frames of each place, [B · N, F, *rest]."""
            return k.reshape(-1, frames, *k.shape[1:]).transpose(1, 2).flatten(0, 1)

        h = self.time(along(h), turn, mask, kept, None if there is None else along(there))
        h = h.reshape(-1, n, frames, width).transpose(1, 2).reshape(x.shape)
        x, h = ada_norm(x, scale_m, shift_m, h, gate_t)
        h = self.linear_1(gelu(self.linear_0(h)))
        return torch.addcmul(x, gate_m, h)
