"""A row of a sampler's table in one pass over memory: see `suffuse.kernels.plan_step`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from suffuse.kernels.gpu.random import box_muller, interleaved, words

BLOCK = 1024
"""Elements of a program: eight for each of its threads, 128 bits of bfloat16."""


@triton.jit
def _scattered_normals(e, sample, samples, channels, n, source, step, stream):
    """The normals of elements that lie channels last: each makes its quad and picks its own."""
    logical = (e % channels) * (n // channels) + e // channels
    w0, w1, w2, w3 = words(logical // 4, sample, samples, source, step, stream)
    lane = logical % 4
    z0, z1 = box_muller(tl.where(lane < 2, w0, w2), tl.where(lane < 2, w1, w3))
    return tl.where(lane % 2 == 0, z0, z1)


@triton.jit(do_not_specialize=["stream"])
def plan_step_kernel(
    out, also, tensors, table, rows, n, channels, source, step, stream, known, kept, low, high,
    TERMS: tl.constexpr, NOISE: tl.constexpr, LAST: tl.constexpr, BLEND: tl.constexpr,
    CLAMP: tl.constexpr, ALSO: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out = Σ_j k_j x_j + k_TERMS z, clamped, and where `kept` replaced by `known`.

    The table has a row for all samples (rows = 0) or one for each (rows = 1), float32: TERMS + 1
    coefficients, and with ALSO further TERMS, of the sum that goes to `also`. The grid has the
    blocks of each sample, sample by sample, on its one axis, as the others end at 65,535. With LAST
    the elements of a sample lie `channels` last.

    Terms are added by fused operations in their order, as torch does on a CPU.
    """
    blocks = tl.cdiv(n, BLOCK)
    sample = tl.program_id(0) // blocks
    samples = tl.num_programs(0) // blocks
    start = tl.program_id(0) % blocks * BLOCK
    e = start + tl.arange(0, BLOCK)
    inside = e < n
    at = sample.to(tl.int64) * n + e
    table += sample * rows * (2 * TERMS + 1 if ALSO else TERMS + 1)
    acc = tl.zeros((BLOCK,), tl.float32)
    second = tl.zeros((BLOCK,), tl.float32)
    for j in tl.static_range(TERMS):
        k = tl.load(table + j)
        m = 0.0
        if ALSO:
            m = tl.load(table + TERMS + 1 + j)
        if (k != 0.0) | (m != 0.0):  # an unread tensor may hold infinities
            value = tl.load(tensors[j] + at, mask=inside, other=0.0).to(tl.float32)
            acc = tl.fma(k, value, acc)
            if ALSO:
                second = tl.fma(m, value, second)
    if NOISE:
        c = tl.load(table + TERMS)
        if c != 0.0:
            if LAST:
                z = _scattered_normals(e, sample, samples, channels, n, source, step, stream)
            else:
                quad = start // 4 + tl.arange(0, BLOCK // 4)
                w0, w1, w2, w3 = words(quad, sample, samples, source, step, stream)
                z0, z1 = box_muller(w0, w1)
                z2, z3 = box_muller(w2, w3)
                z = interleaved(z0, z1, z2, z3, BLOCK)
            acc = tl.fma(c, z, acc)
    if CLAMP:
        acc = tl.clamp(acc, low, high, tl.PropagateNan.ALL)  # as torch does
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
    step: Tensor | None = None,
    stream: int = 0,
    known: Tensor | None = None,
    kept: Tensor | None = None,
    clamp: tuple[float, float] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Launch the kernel on tensors [B, ...] of one layout, contiguous or channels last.

    Args:
        tensors: of one shape.
        table: coefficients [1 or B, K], float32; K as the kernel says, without or with ALSO.
        words: of the noise, [3, B] int64; none is added where None.
        step: the draw's step, int64 [], with `words`.
        known, kept: what replaces the result where `kept` is not 0.
        clamp: bounds of the result, before it is replaced.

    Returns:
        The sum, and the second one if the table asks for it; of the first tensor's dtype.
    """
    first, terms = tensors[0], len(tensors)
    both = table.shape[1] == 2 * terms + 1
    out, also = torch.empty_like(first), torch.empty_like(first) if both else None
    n = first[0].numel() if len(first) else 0
    if n:
        low, high = clamp or (0.0, 0.0)
        last = not first.is_contiguous()
        plan_step_kernel[(triton.cdiv(n, BLOCK) * len(first),)](
            out, out if also is None else also, tuple(tensors), table, int(len(table) > 1), n,
            first.shape[1] if last else 1, table if words is None else words.contiguous(),
            table if step is None else step, stream,
            first if known is None else known, first if kept is None else kept, low, high,
            TERMS=terms, NOISE=words is not None, LAST=last, BLEND=kept is not None,
            CLAMP=clamp is not None, ALSO=both, BLOCK=BLOCK,
        )  # fmt: skip
    return out, also
