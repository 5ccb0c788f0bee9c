"""Group normalisation, affine, SiLU, forward and backward: see `suffuse.kernels.norm_silu`.

A program has one group of one state, [channels of a group, S], which it walks twice. Statistics are
joined chunk by chunk (Chan, Golub, LeVeque (1983)), so that large means cost no digits.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _chunk(x, base, start, size, BLOCK: tl.constexpr):
    e = start + tl.arange(0, BLOCK)
    inside = e < size
    return e, inside, tl.load(x + base + e, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def norm_silu_kernel(
    out, x, weight, bias, stats, rows, spatial, eps,
    CHANNELS: tl.constexpr, CENTRE: tl.constexpr, SILU: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The grid is [groups, B]; CHANNELS a group's; `rows` the weights' stride over states."""
    group, sample = tl.program_id(0), tl.program_id(1)
    groups = tl.num_programs(0)
    size = CHANNELS * spatial
    base = (sample.to(tl.int64) * groups + group) * size
    mean, square, count = 0.0, 0.0, 0.0
    for start in range(0, size, BLOCK):
        _, inside, v = _chunk(x, base, start, size, BLOCK)
        n = tl.minimum(size - start, BLOCK).to(tl.float32)
        if CENTRE:
            own = tl.sum(v) / n
            off = tl.where(inside, v - own, 0.0)
            total = count + n
            delta = own - mean
            square += tl.sum(off * off) + delta * delta * count * n / total
            mean += delta * n / total
            count = total
        else:
            square += tl.sum(v * v)
            count += n
    scale = 1.0 / tl.sqrt(square / count + eps)
    place = stats + (sample * groups + group) * 2
    tl.store(place, mean)
    tl.store(place + 1, scale)
    for start in range(0, size, BLOCK):
        e, inside, v = _chunk(x, base, start, size, BLOCK)
        channel = sample * rows + group * CHANNELS + e // spatial
        w = tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32)
        b = tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)
        u = (v - mean) * scale * w + b
        if SILU:
            u = u / (1.0 + tl.exp(-u))
        tl.store(out + base + e, u.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _normed_gradient(dy, u, SILU: tl.constexpr):
    if SILU:
        gate = 1.0 / (1.0 + tl.exp(-u))
        dy = dy * gate * (1.0 + u * (1.0 - gate))
    return dy


@triton.jit
def norm_silu_backward_kernel(
    dx, dweight, dbias, dy, x, weight, bias, stats, rows, spatial,
    CHANNELS: tl.constexpr, CENTRE: tl.constexpr, SILU: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """As the kernel above; the gradients of weight and bias are those of each state, [B, C]."""
    group, sample = tl.program_id(0), tl.program_id(1)
    groups = tl.num_programs(0)
    size = CHANNELS * spatial
    base = (sample.to(tl.int64) * groups + group) * size
    place = stats + (sample * groups + group) * 2
    mean, scale = tl.load(place), tl.load(place + 1)
    along, total = 0.0, 0.0
    for c in range(CHANNELS):
        channel = group * CHANNELS + c
        w = tl.load(weight + sample * rows + channel).to(tl.float32)
        b = tl.load(bias + sample * rows + channel).to(tl.float32)
        dw, db = 0.0, 0.0
        for start in range(0, spatial, BLOCK):
            e, inside, v = _chunk(x, base + c * spatial, start, spatial, BLOCK)
            normed = (v - mean) * scale
            g = tl.load(dy + base + c * spatial + e, mask=inside, other=0.0).to(tl.float32)
            g = _normed_gradient(g, normed * w + b, SILU)
            dw += tl.sum(g * normed)
            db += tl.sum(g)
        tl.store(dweight + sample * groups * CHANNELS + channel, dw)
        tl.store(dbias + sample * groups * CHANNELS + channel, db)
        along += w * dw
        total += w * db
    along /= size
    total = total / size if CENTRE else 0.0
    for start in range(0, size, BLOCK):
        e, inside, v = _chunk(x, base, start, size, BLOCK)
        channel = sample * rows + group * CHANNELS + e // spatial
        w = tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32)
        b = tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)
        normed = (v - mean) * scale
        g = tl.load(dy + base + e, mask=inside, other=0.0).to(tl.float32)
        g = _normed_gradient(g, normed * w + b, SILU) * w
        found = scale * (g - total - normed * along)
        tl.store(dx + base + e, found.to(dx.dtype.element_ty), mask=inside)


def _block(size: int) -> int:
    return int(min(max(triton.next_power_of_2(size), 128), 4096))


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, centre: bool, silu: bool
) -> tuple[Tensor, Tensor]:
    """The result, and the mean and the scale of each group, [B, groups, 2] float32."""
    out = torch.empty_like(x)
    stats = torch.empty(len(x), groups, 2, device=x.device, dtype=torch.float32)
    if x.numel():
        channels, spatial = x.shape[1] // groups, x[0, 0].numel()
        norm_silu_kernel[(groups, len(x))](
            out, x, weight, bias, stats, x.shape[1] if weight.ndim > 1 else 0, spatial, eps,
            CHANNELS=channels, CENTRE=centre, SILU=silu, BLOCK=_block(channels * spatial),
        )  # fmt: skip
    return out, stats


def backward(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, stats: Tensor, centre: bool, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias, of their shapes and dtypes."""
    groups = stats.shape[1]
    dx = torch.empty_like(x)
    own = [torch.zeros(x.shape[:2], device=x.device, dtype=torch.float32) for _ in range(2)]
    if x.numel():
        spatial = x[0, 0].numel()
        norm_silu_backward_kernel[(groups, len(x))](
            dx, *own, dy, x, weight, bias, stats, x.shape[1] if weight.ndim > 1 else 0, spatial,
            CHANNELS=x.shape[1] // groups, CENTRE=centre, SILU=silu, BLOCK=_block(spatial),
        )  # fmt: skip
    if weight.ndim == 1:
        own = [g.sum(0) for g in own]
    return dx, own[0].to(weight.dtype), own[1].to(bias.dtype)
