"""Gated residual and modulated layer normalisation: see `suffuse.kernels.ada_norm`.

A program has some tokens of one state, one after the other; a token's features fit into a block.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def ada_norm_kernel(
    total, out, x, h, gate, scale, shift, stats, n, width, each, eps,
    GATED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The grid has every token; `each` is 1 where gate, scale and shift are a token's own."""
    sample, token = tl.program_id(0) // n, tl.program_id(0) % n
    e = tl.arange(0, BLOCK)
    inside = e < width
    place = tl.program_id(0).to(tl.int64)
    at = place * width + e
    steer = (sample * (n * each + 1 - each) + token * each).to(tl.int64) * width + e
    v = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if GATED:
        added = tl.load(h + at, mask=inside, other=0.0).to(tl.float32)
        v += tl.load(gate + steer, mask=inside, other=0.0).to(tl.float32) * added
        tl.store(total + at, v.to(total.dtype.element_ty), mask=inside)
        v = v.to(total.dtype.element_ty).to(tl.float32)
    mean = tl.sum(v) / width
    off = tl.where(inside, v - mean, 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(off * off) / width + eps)
    tl.store(stats + 2 * place, mean)
    tl.store(stats + 2 * place + 1, inverse)
    a = 1.0 + tl.load(scale + steer, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(shift + steer, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, (off * inverse * a + b).to(out.dtype.element_ty), mask=inside)


@triton.jit
def ada_norm_backward_kernel(
    dx, dh, dsteer, dtotal, dy, total, h, gate, scale, stats, n, width, each, tokens,
    GATED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The grid has every chunk of tokens; dsteer is [B, chunks, 3, width]: gate, scale, shift."""
    chunks = tl.cdiv(n, tokens)
    sample, chunk = tl.program_id(0) // chunks, tl.program_id(0) % chunks
    e = tl.arange(0, BLOCK)
    inside = e < width
    dgate = tl.zeros((BLOCK,), tl.float32)
    dscale = tl.zeros((BLOCK,), tl.float32)
    dshift = tl.zeros((BLOCK,), tl.float32)
    for token in range(chunk * tokens, tl.minimum(chunk * tokens + tokens, n)):
        place = sample.to(tl.int64) * n + token
        at = place * width + e
        steer = (sample * (n * each + 1 - each) + token * each).to(tl.int64) * width + e
        mean, inverse = tl.load(stats + 2 * place), tl.load(stats + 2 * place + 1)
        v = tl.load(total + at, mask=inside, other=0.0).to(tl.float32)
        normed = tl.where(inside, (v - mean) * inverse, 0.0)
        g = tl.load(dy + at, mask=inside, other=0.0).to(tl.float32)
        dshift += g
        dscale += g * normed
        g *= 1.0 + tl.load(scale + steer, mask=inside, other=0.0).to(tl.float32)
        found = inverse * (g - tl.sum(g) / width - normed * (tl.sum(g * normed) / width))
        if GATED:
            found += tl.load(dtotal + at, mask=inside, other=0.0).to(tl.float32)
            dgate += found * tl.load(h + at, mask=inside, other=0.0).to(tl.float32)
            back = found * tl.load(gate + steer, mask=inside, other=0.0).to(tl.float32)
            tl.store(dh + at, back.to(dh.dtype.element_ty), mask=inside)
        tl.store(dx + at, found.to(dx.dtype.element_ty), mask=inside)
    row = dsteer + tl.program_id(0).to(tl.int64) * 3 * width + e
    tl.store(row, dgate, mask=inside)
    tl.store(row + width, dscale, mask=inside)
    tl.store(row + 2 * width, dshift, mask=inside)


def launch(width: int) -> dict[str, int]:
    """The block for tokens of so many features, and the warps for it.

    Eight features a thread, so that bfloat16, too, is read 128 bits at a time.
    """
    block = max(triton.next_power_of_2(width), 32)
    return {"BLOCK": block, "num_warps": min(max(block // 256, 1), 32)}


def forward(
    x: Tensor, scale: Tensor, shift: Tensor, h: Tensor | None, gate: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """x + gate h (x itself without h), its modulated normal form, and [B, N, 2] float32 moments."""
    b, n, width = x.shape
    out, stats = torch.empty_like(x), torch.empty(b, n, 2, device=x.device, dtype=torch.float32)
    total = x if h is None else torch.empty_like(x)
    if x.numel():
        ada_norm_kernel[(n * b,)](
            total, out, x, x if h is None else h, scale if gate is None else gate, scale, shift,
            stats, n, width, int(scale.shape[1] > 1), eps,
            GATED=h is not None, **launch(width),
        )  # fmt: skip
    return total, out, stats


def backward(
    dtotal: Tensor,
    dy: Tensor,
    total: Tensor,
    scale: Tensor,
    h: Tensor | None,
    gate: Tensor | None,
    stats: Tensor,
    tokens: int = 16,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of x, scale, shift, h and gate. Without h, `dtotal` is not read."""
    b, n, width = total.shape
    each = int(scale.shape[1] > 1)
    tokens = 1 if each else tokens
    chunks = triton.cdiv(n, tokens)
    dx, dh = torch.empty_like(total), None if h is None else torch.empty_like(h)
    own = torch.zeros(b, chunks, 3, width, device=total.device, dtype=torch.float32)
    if total.numel():
        ada_norm_backward_kernel[(chunks * b,)](
            dx, dx if dh is None else dh, own, dtotal, dy, total, total if h is None else h,
            scale if gate is None else gate, scale, stats, n, width, each, tokens,
            GATED=h is not None, **launch(width),
        )  # fmt: skip
    if not each:
        own = own.sum(1, keepdim=True)
    dgate, dscale, dshift = (g.to(scale.dtype, copy=True) for g in own.unbind(2))
    return dx, dscale, dshift, dh, None if gate is None else dgate
