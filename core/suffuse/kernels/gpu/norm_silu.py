"""Group normalisation, affine, SiLU, forward and backward: see `suffuse.kernels.norm_silu`.

A program has one group of one state, [channels of a group, S]. A group of up to `WHOLE` elements is
read once and stays in registers; a larger one is walked twice, chunk by chunk along S, and its
statistics are joined (Chan, Golub, LeVeque (1983)), so that large means cost no digits.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

WHOLE = 16384
"""The largest group, padded to powers of two, that stays in registers; half of it channels last."""

CHUNK = 4096
"""Elements of a chunk of a larger one."""


@triton.jit
def _places(group, s, channels, spatial, CHANNELS: tl.constexpr, LAST: tl.constexpr,
            ROWS: tl.constexpr):  # fmt: skip
    """Where the elements [ROWS, len(s)] of a group lie in their sample, and which there are.

    In 32 bits: a sample has fewer than 2^31 elements, and these places are kept in registers.
    """
    c = tl.arange(0, ROWS)[:, None]
    inside = (c < CHANNELS) & (s[None, :] < spatial)
    if LAST:
        return group * CHANNELS + s[None, :] * channels + c, inside
    return (group * CHANNELS + c) * spatial + s[None, :], inside


@triton.jit
def _steer(weight, group, sample, rows, CHANNELS: tl.constexpr, ROWS: tl.constexpr):
    """The weights or biases of a group's channels, [ROWS, 1]."""
    c = tl.arange(0, ROWS)
    at = weight + sample * rows + group * CHANNELS + c
    return tl.load(at, mask=c < CHANNELS, other=0.0).to(tl.float32)[:, None]


@triton.jit
def norm_silu_kernel(
    out, x, weight, bias, stats, rows, channels, spatial, eps,
    CHANNELS: tl.constexpr, CENTRE: tl.constexpr, SILU: tl.constexpr, LAST: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, ONCE: tl.constexpr,
):  # fmt: skip
    """The grid has every group; CHANNELS are a group's; `rows` the weights' stride over states.

    With LAST the channels are the innermost axis. ONCE: a tile, [ROWS, COLUMNS], is a whole group.
    """
    groups = channels // CHANNELS
    sample, group = tl.program_id(0) // groups, tl.program_id(0) % groups
    start = sample.to(tl.int64) * channels * spatial
    x, out = x + start, out + start
    mean, square, count = 0.0, 0.0, 0.0
    v = tl.zeros((ROWS, COLUMNS), tl.float32)
    for i in range(0, COLUMNS if ONCE else spatial, COLUMNS):
        s = i + tl.arange(0, COLUMNS)
        at, inside = _places(group, s, channels, spatial, CHANNELS, LAST, ROWS)
        v = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        n = (tl.minimum(spatial - i, COLUMNS) * CHANNELS).to(tl.float32)
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
    place = stats + tl.program_id(0) * 2
    tl.store(place, mean)
    tl.store(place + 1, scale)
    w = _steer(weight, group, sample, rows, CHANNELS, ROWS)
    b = _steer(bias, group, sample, rows, CHANNELS, ROWS)
    for i in range(0, COLUMNS if ONCE else spatial, COLUMNS):
        s = i + tl.arange(0, COLUMNS)
        at, inside = _places(group, s, channels, spatial, CHANNELS, LAST, ROWS)
        if not ONCE:
            v = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        u = (v - mean) * scale * w + b
        if SILU:
            u = u / (1.0 + tl.exp(-u))
        tl.store(out + at, u.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _gradient(g, normed, w, b, SILU: tl.constexpr):
    """Of SiLU(normed w + b) by its argument."""
    if SILU:
        u = normed * w + b
        gate = 1.0 / (1.0 + tl.exp(-u))
        g = g * gate * (1.0 + u * (1.0 - gate))
    return g


@triton.jit
def norm_silu_backward_kernel(
    dx, dweight, dbias, dy, x, weight, bias, stats, rows, channels, spatial,
    CHANNELS: tl.constexpr, CENTRE: tl.constexpr, SILU: tl.constexpr, LAST: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, ONCE: tl.constexpr,
):  # fmt: skip
    """As the kernel above; the gradients of weight and bias are those of each state, [B, C]."""
    groups = channels // CHANNELS
    sample, group = tl.program_id(0) // groups, tl.program_id(0) % groups
    start = sample.to(tl.int64) * channels * spatial
    x, dy, dx = x + start, dy + start, dx + start
    place = stats + tl.program_id(0) * 2
    mean, scale = tl.load(place), tl.load(place + 1)
    w = _steer(weight, group, sample, rows, CHANNELS, ROWS)
    b = _steer(bias, group, sample, rows, CHANNELS, ROWS)
    dw = tl.zeros((ROWS,), tl.float32)
    db = tl.zeros((ROWS,), tl.float32)
    normed = tl.zeros((ROWS, COLUMNS), tl.float32)
    g = tl.zeros((ROWS, COLUMNS), tl.float32)
    for i in range(0, COLUMNS if ONCE else spatial, COLUMNS):
        s = i + tl.arange(0, COLUMNS)
        at, inside = _places(group, s, channels, spatial, CHANNELS, LAST, ROWS)
        normed = (tl.load(x + at, mask=inside, other=0.0).to(tl.float32) - mean) * scale
        g = tl.load(dy + at, mask=inside, other=0.0).to(tl.float32)
        g = _gradient(g, normed, w, b, SILU)
        dw += tl.sum(g * normed, axis=1)
        db += tl.sum(g, axis=1)
    c = tl.arange(0, ROWS)
    own = tl.program_id(0) * CHANNELS + c
    tl.store(dweight + own, dw, mask=c < CHANNELS)
    tl.store(dbias + own, db, mask=c < CHANNELS)
    size = CHANNELS * spatial
    along = tl.sum(w * dw[:, None]) / size
    total = 0.0
    if CENTRE:
        total = tl.sum(w * db[:, None]) / size
    for i in range(0, COLUMNS if ONCE else spatial, COLUMNS):
        s = i + tl.arange(0, COLUMNS)
        at, inside = _places(group, s, channels, spatial, CHANNELS, LAST, ROWS)
        if not ONCE:
            normed = (tl.load(x + at, mask=inside, other=0.0).to(tl.float32) - mean) * scale
            g = tl.load(dy + at, mask=inside, other=0.0).to(tl.float32)
            g = _gradient(g, normed, w, b, SILU)
        found = scale * (g * w - total - normed * along)
        tl.store(dx + at, found.to(dx.dtype.element_ty), mask=inside)


def launch(channels: int, spatial: int, last: bool) -> dict[str, Any]:
    """The tile for groups of so many channels, and the warps for it; `last`: channels last.

    A thread has 16 elements of a tile, and 8 with channels last or where a group is walked chunk by
    chunk. Tiles of one warp are the smallest, so that fewer have to be compiled.
    """
    rows = triton.next_power_of_2(channels)
    columns = max(triton.next_power_of_2(spatial), 512 // rows)
    once = rows * columns <= (WHOLE // 2 if last else WHOLE)
    if not once:
        columns = max(CHUNK // rows, 2)
    warps = min(max(rows * columns // (512 if once and not last else 256), 1), 32)
    return {"ROWS": rows, "COLUMNS": columns, "ONCE": once, "num_warps": warps}


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, centre: bool, silu: bool
) -> tuple[Tensor, Tensor]:
    """The result, and the mean and the scale of each group, [B, groups, 2] float32.

    x is contiguous or channels last, and so is the result.
    """
    out = torch.empty_like(x)
    stats = torch.empty(len(x), groups, 2, device=x.device, dtype=torch.float32)
    if x.numel():
        channels, spatial, last = x.shape[1], x[0, 0].numel(), not x.is_contiguous()
        norm_silu_kernel[(groups * len(x),)](
            out, x, weight, bias, stats, channels if weight.ndim > 1 else 0, channels, spatial,
            eps, CHANNELS=channels // groups, CENTRE=centre, SILU=silu,
            LAST=last, **launch(channels // groups, spatial, last),
        )  # fmt: skip
    return out, stats


def backward(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, stats: Tensor, centre: bool, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias, of their shapes and dtypes; dy lies as x does."""
    groups = stats.shape[1]
    dx = torch.empty_like(x)
    own = [torch.zeros(x.shape[:2], device=x.device, dtype=torch.float32) for _ in range(2)]
    if x.numel():
        channels, spatial, last = x.shape[1], x[0, 0].numel(), not x.is_contiguous()
        norm_silu_backward_kernel[(groups * len(x),)](
            dx, *own, dy, x, weight, bias, stats, channels if weight.ndim > 1 else 0, channels,
            spatial, CHANNELS=channels // groups, CENTRE=centre, SILU=silu,
            LAST=last, **launch(channels // groups, spatial, last),
        )  # fmt: skip
    if weight.ndim == 1:
        own = [g.sum(0) for g in own]
    return dx, own[0].to(weight.dtype), own[1].to(bias.dtype)
