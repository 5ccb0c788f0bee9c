"""The step of a categorical process and its draw: see `suffuse.kernels.categorical_step`.

A program has a tile of tokens and all of their categories. Probabilities are float64, as on the
CPU: there are few of them, and the draw is by inversion of their cumulative sum.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def categorical_step_kernel(
    out, logits, x_t, table, rows, stationary, uniform, mask, count, n, categories, states,
    MASKED: tl.constexpr, TOKENS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`count` tokens, `n` of each sample; the table's rows are (A, B, C, a, b), float64."""
    i = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    inside = i < count
    k = tl.arange(0, BLOCK)[None, :]
    row = table + (i // n) * rows * 5
    A = tl.load(row, mask=inside, other=0.0)
    B = tl.load(row + 1, mask=inside, other=0.0)
    C = tl.load(row + 2, mask=inside, other=0.0)
    a = tl.load(row + 3, mask=inside, other=0.0)
    b = tl.load(row + 4, mask=inside, other=1.0)
    x = tl.load(x_t + i, mask=inside, other=0)
    known = inside[:, None] & (k < categories)
    place = i[:, None] * categories + k
    raw = tl.load(logits + place, mask=known, other=float("-inf")).to(tl.float64)
    raw = tl.where(inside[:, None], raw, 0.0)
    p = tl.exp(raw - tl.max(raw, axis=1)[:, None])
    p = tl.where(k < categories, p, 0.0)
    p = p / tl.sum(p, axis=1)[:, None]
    m = tl.load(stationary + k, mask=k < states, other=0.0)
    here = k == x[:, None]
    own = tl.sum(tl.where(here, p, 0.0), axis=1)
    m_here = tl.sum(tl.where(here, m, 0.0), axis=1)
    either = a + b * m_here
    sure = either > 0.0
    either = tl.where(sure, either, 1.0)
    data = own * tl.where(sure, a / either, 0.0)
    still = own * tl.where(sure, b * m_here / either, 1.0)
    noise = tl.where(here, still[:, None], p)
    left = tl.maximum(1.0 - B - C, 0.0)
    stay = A * data + left * (1.0 - data)
    fresh = C * (1.0 - data) + (1.0 - A) * data
    q = B[:, None] * noise + fresh[:, None] * m + tl.where(here, stay[:, None], 0.0)
    total = tl.cumsum(q, axis=1)
    whole = tl.sum(tl.where(k == states - 1, total, 0.0), axis=1)
    u = tl.load(uniform + i, mask=inside, other=0.5) * whole
    found = tl.sum(((total <= u[:, None]) & (k < states)).to(tl.int64), axis=1)
    found = tl.minimum(found, states - 1)
    if MASKED:
        found = tl.where(tl.load(mask + i, mask=inside, other=0) != 0, found, 0)
    tl.store(out + i, found, mask=inside)


def launch(states: int) -> dict[str, int]:
    """The tile for tokens of so many values, and the warps for it.

    A thread has two of its elements, and up to eight where tokens have many values: they are
    float64, of which registers hold few.
    """
    block = max(triton.next_power_of_2(states), 2)
    tokens = max(1, 256 // block)
    return {"TOKENS": tokens, "BLOCK": block, "num_warps": min(max(block // 128, 4), 16)}


def categorical_step(
    logits: Tensor,
    x_t: Tensor,
    table: Tensor,
    stationary: Tensor,
    uniform: Tensor,
    mask: Tensor | None = None,
) -> Tensor:
    """Launch the kernel.

    Args:
        logits: [B, n, K]. x_t: tokens [B, n], int64. uniform: [B, n], float64.
        table: [1 or B, 5] float64: A, B, C of the row, a and b of the time.
        stationary: m, [S] float64.
        mask: [B, n]; tokens become 0 where it is False.
    """
    # slices of drawn numbers and expanded masks do not lie token by token
    x_t, uniform = x_t.contiguous(), uniform.contiguous()
    mask = None if mask is None else mask.contiguous()
    out = torch.empty_like(x_t)
    if x_t.numel():
        tile = launch(len(stationary))
        categorical_step_kernel[(triton.cdiv(x_t.numel(), tile["TOKENS"]),)](
            out, logits, x_t, table, int(len(table) > 1), stationary, uniform,
            x_t if mask is None else mask, x_t.numel(), x_t[0].numel(), logits.shape[-1],
            len(stationary), MASKED=mask is not None, **tile,
        )  # fmt: skip
    return out
