"""A row of a sampler's table in one pass over memory: see `suffuse.kernels.plan_step`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from suffuse.kernels.gpu.random import box_muller, interleaved, words
from suffuse.kernels.plan_step import MOST


@triton.jit
def _term(
    acc, also, x, at, inside, table, j: tl.constexpr, TERMS: tl.constexpr, ALSO: tl.constexpr
):
    k = tl.load(table + j)
    second = 0.0
    if ALSO:
        second = tl.load(table + TERMS + 1 + j)
    if (k != 0.0) | (second != 0.0):  # an unread tensor may hold infinities
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        acc += k * value
        if ALSO:
            also += second * value
    return acc, also


@triton.jit
def plan_step_kernel(
    out, also, x0, x1, x2, x3, x4, x5, x6, x7, table, rows, n, source, step, stream,
    known, kept, low, high,
    TERMS: tl.constexpr, NOISE: tl.constexpr, BLEND: tl.constexpr, CLAMP: tl.constexpr,
    ALSO: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out = Σ_j k_j x_j + k_TERMS z, clamped, and where `kept` replaced by `known`.

    The table has a row for all samples (rows = 0) or one for each (rows = 1), float32: TERMS + 1
    coefficients, and with ALSO further TERMS, of the sum that goes to `also`. The grid is [blocks
    of a sample, samples].
    """
    sample = tl.program_id(1)
    start = tl.program_id(0) * BLOCK
    e = start + tl.arange(0, BLOCK)
    inside = e < n
    at = sample.to(tl.int64) * n + e
    table += sample * rows * (2 * TERMS + 1 if ALSO else TERMS + 1)
    acc = tl.zeros((BLOCK,), tl.float32)
    second = tl.zeros((BLOCK,), tl.float32)
    acc, second = _term(acc, second, x0, at, inside, table, 0, TERMS, ALSO)
    if TERMS > 1:
        acc, second = _term(acc, second, x1, at, inside, table, 1, TERMS, ALSO)
    if TERMS > 2:
        acc, second = _term(acc, second, x2, at, inside, table, 2, TERMS, ALSO)
    if TERMS > 3:
        acc, second = _term(acc, second, x3, at, inside, table, 3, TERMS, ALSO)
    if TERMS > 4:
        acc, second = _term(acc, second, x4, at, inside, table, 4, TERMS, ALSO)
    if TERMS > 5:
        acc, second = _term(acc, second, x5, at, inside, table, 5, TERMS, ALSO)
    if TERMS > 6:
        acc, second = _term(acc, second, x6, at, inside, table, 6, TERMS, ALSO)
    if TERMS > 7:
        acc, second = _term(acc, second, x7, at, inside, table, 7, TERMS, ALSO)
    if NOISE:
        quad = start // 4 + tl.arange(0, BLOCK // 4)
        w0, w1, w2, w3 = words(quad, sample, tl.num_programs(1), source, step, stream)
        z0, z1 = box_muller(w0, w1)
        z2, z3 = box_muller(w2, w3)
        acc += tl.load(table + TERMS) * interleaved(z0, z1, z2, z3, BLOCK)
    if CLAMP:
        acc = tl.minimum(tl.maximum(acc, low), high)
    if BLEND:
        keep = tl.load(kept + at, mask=inside, other=0) != 0
        acc = tl.where(keep, tl.load(known + at, mask=inside, other=0.0).to(tl.float32), acc)
    tl.store(out + at, acc.to(out.dtype.element_ty), mask=inside)
    if ALSO:
        tl.store(also + at, second.to(also.dtype.element_ty), mask=inside)


def plan_step(
    tensors: Sequence[Tensor],
    table: Tensor,
    *,
    words: Tensor | None = None,
    step: int = 0,
    stream: int = 0,
    known: Tensor | None = None,
    kept: Tensor | None = None,
    clamp: tuple[float, float] | None = None,
    block: int = 1024,
) -> tuple[Tensor, Tensor | None]:
    """Launch the kernel on contiguous tensors [B, ...].

    Args:
        tensors: at most `MOST`, of one shape.
        table: coefficients [1 or B, K], float32; K as the kernel says, without or with ALSO.
        words: of the noise, [3, B] int64; none is added where None.
        known, kept: what replaces the result where `kept` is not 0.
        clamp: bounds of the result, before it is replaced.

    Returns:
        The sum, and the second one if the table asks for it; of the first tensor's dtype.
    """
    first, terms = tensors[0], len(tensors)
    both = table.shape[1] == 2 * terms + 1 and table.shape[1] != terms + 1
    out, also = torch.empty_like(first), torch.empty_like(first) if both else None
    n = first[0].numel() if len(first) else 0
    if n:
        registers = [*tensors, *[first] * (MOST - terms)]
        low, high = clamp or (0.0, 0.0)
        plan_step_kernel[(triton.cdiv(n, block), len(first))](
            out, out if also is None else also, *registers, table, int(len(table) > 1), n,
            table if words is None else words, step, stream,
            first if known is None else known, first if kept is None else kept, low, high,
            TERMS=terms, NOISE=words is not None, BLEND=kept is not None,
            CLAMP=clamp is not None, ALSO=both, BLOCK=block,
        )  # fmt: skip
    return out, also
