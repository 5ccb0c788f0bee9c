"""The step of a categorical process: the distribution of the next token, and a draw from it.

What the row (A, B, C) means is told in `suffuse.diffusion.categorical`. All is float64: there are
few numbers, and the draw is by inversion of their cumulative sum.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from suffuse.kernels.dispatch import fused

__all__ = ["Split", "categorical_step", "invert", "mixture", "padded", "split"]

WIDEST = 4096
"""Values of a token that a block still holds in registers."""


class Split(NamedTuple):
    """What a clean estimate says of the present tokens [B, *shape].

    Attributes:
        data: ρ, the probability that the token is still clean, [B, *shape].
        noise: p′, the clean token where the present one is noise, [B, *shape, S]; sums to 1 − ρ.
    """

    data: Tensor
    noise: Tensor


def padded(p: Tensor, states: int) -> Tensor:
    """Probabilities [..., K] of clean tokens as those of all S, [..., S]; the mask has 0."""
    return pad(p, (0, states - p.shape[-1]))


def split(p: Tensor, x_t: Tensor, a: Tensor, b: Tensor, stationary: Tensor) -> Split:
    """Clean tokens p [..., S] into those that x_t [...] may still be, and those that it hides."""
    own = p.gather(-1, x_t[..., None])[..., 0]
    m = stationary[x_t]
    either = a + b * m
    possible = either > 0
    either = torch.where(possible, either, 1.0)
    data = own * torch.where(possible, a / either, 0.0)
    still = own * torch.where(possible, b * m / either, 1.0)
    return Split(data, p.scatter(-1, x_t[..., None], still[..., None]))


def mixture(
    part: Split, x_t: Tensor, A: Tensor, B: Tensor, C: Tensor, stationary: Tensor
) -> Tensor:
    """The distribution of the next token by a row of the law "mixture", [..., S]."""
    rho, p = part
    stay = A * rho + (1 - B - C).clamp(min=0) * (1 - rho)
    fresh = C * (1 - rho) + (1 - A) * rho
    move = B[..., None] * p + fresh[..., None] * stationary
    return move.scatter_add(-1, x_t[..., None], stay[..., None])


def invert(p: Tensor, u: Tensor) -> Tensor:
    """The token at which the cumulative sum of p [..., S] passes u [...]; int64 [...]."""
    cdf = p.cumsum(-1)
    found = torch.searchsorted(cdf, (u * cdf[..., -1])[..., None], right=True)[..., 0]
    return found.clamp(max=p.shape[-1] - 1)


def categorical_step(
    logits: Tensor,
    x_t: Tensor,
    row: tuple[Tensor, Tensor, Tensor],
    clean: tuple[Tensor, Tensor],
    stationary: Tensor,
    uniform: Tensor,
    mask: Tensor | None = None,
) -> Tensor:
    """The next tokens by a row of the law "mixture", [B, *shape] int64.

    Args:
        logits: of the clean tokens, [B, *shape, K].
        x_t: tokens [B, *shape], int64, below S.
        row: A, B and C; clean: a and b of the present time. Float64, of one shape each: no axes, or
            [B or 1, 1, ...]; others are left to the plain version.
        stationary: m, [S] float64.
        uniform: numbers in (0, 1), [B, *shape] float64.
        mask: [B, *shape]; tokens are 0 where it is False.
    """
    table = [k.reshape(len(k), -1) if k.ndim else k.reshape(1, 1) for k in (*row, *clean)]
    fits = all(k.shape[1] == 1 for k in table) and len(stationary) <= WIDEST
    why = f"levels with axes, or more than {WIDEST} values of a token, are not among what it takes"
    if fused("categorical_step", logits, fits=fits, why=why):
        rows = max(len(k) for k in table)
        flat = torch.cat([k.expand(rows, 1) for k in table], 1)
        out: Tensor = _operator(
            logits.flatten(1, -2).contiguous(), x_t.flatten(1), flat,
            stationary, uniform.flatten(1),
            None if mask is None else mask.expand_as(x_t).flatten(1),
        )  # fmt: skip
        return out.reshape(x_t.shape)
    p = padded(logits.double().softmax(-1), len(stationary))
    q = mixture(split(p, x_t, *clean, stationary), x_t, *row, stationary)
    found = invert(q, uniform)
    return found if mask is None else torch.where(mask, found, 0)


@torch.library.custom_op("suffuse::categorical_step", mutates_args=())
def _operator(
    logits: Tensor,
    x_t: Tensor,
    table: Tensor,
    stationary: Tensor,
    uniform: Tensor,
    mask: Tensor | None,
) -> Tensor:
    from suffuse.kernels.gpu.categorical_step import categorical_step as run

    return run(logits, x_t, table, stationary, uniform, mask)


@_operator.register_fake
def _(
    logits: Tensor,
    x_t: Tensor,
    table: Tensor,
    stationary: Tensor,
    uniform: Tensor,
    mask: Tensor | None,
) -> Tensor:
    return torch.empty_like(x_t, memory_format=torch.contiguous_format)
