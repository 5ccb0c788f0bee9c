"""Guidance and the step at once: see `suffuse.kernels.guided_step`.

Without rescaling it is one launch of the plan's kernel, which then stores two sums; rescaling needs
the deviations of the estimates first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from suffuse.kernels.gpu.plan_step import plan_step

MOMENTS = {"BLOCK": 2048, "num_warps": 8}
"""Eight elements of each estimate a thread, of which nine are loaded at once."""


@triton.jit
def moments_kernel(sums, estimates, weights, n, TERMS: tl.constexpr, BLOCK: tl.constexpr):
    """For each block of a sample Σ d_0, Σ d_0², Σ g, Σ g², where g = Σ_j w_j d_j."""
    blocks = tl.cdiv(n, BLOCK)
    sample, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    e = block * BLOCK + tl.arange(0, BLOCK)
    inside = e < n
    at = sample.to(tl.int64) * n + e
    first = tl.load(estimates[0] + at, mask=inside, other=0.0).to(tl.float32)
    mixed = tl.load(weights) * first
    for j in tl.static_range(1, TERMS):
        value = tl.load(estimates[j] + at, mask=inside, other=0.0).to(tl.float32)
        mixed += tl.load(weights + j) * value
    place = sums + tl.program_id(0).to(tl.int64) * 4
    tl.store(place, tl.sum(first))
    tl.store(place + 1, tl.sum(first * first))
    tl.store(place + 2, tl.sum(mixed))
    tl.store(place + 3, tl.sum(mixed * mixed))


def deviations(estimates: Sequence[Tensor], weights: Tensor) -> tuple[Tensor, Tensor]:
    """The deviations, over each sample, of the first estimate and of the mixture; [B] float32."""
    first = estimates[0]
    n = first[0].numel()
    blocks = triton.cdiv(n, MOMENTS["BLOCK"])
    sums = torch.empty(len(first), blocks, 4, device=first.device, dtype=torch.float32)
    moments_kernel[(blocks * len(first),)](
        sums, tuple(estimates), weights, n, TERMS=len(estimates), **MOMENTS
    )
    total = sums.to(torch.float64).sum(1) / n
    variance = (total[:, 1::2] - total[:, ::2] ** 2).clamp(min=0).sqrt().float()
    return variance[:, 0], variance[:, 1]


def guided_step(
    tensors: Sequence[Tensor],
    coefficients: Tensor,
    estimates: Sequence[Tensor],
    weights: Tensor,
    weight: float,
    rescale: float,
) -> tuple[Tensor, Tensor]:
    """Launch the kernels: x' and the guided estimate; all tensors of one layout.

    Args:
        coefficients: of `tensors`, [K] float32; weights: of the estimates, [M] float32.
    """
    guided = weights[None]
    if rescale and len(tensors[0]):
        one, mixed = deviations(estimates, weights)
        ratio = torch.where(mixed > 0, one / mixed, 1.0)
        guided = guided * (rescale * ratio + (1 - rescale))[:, None]
    free, rest = coefficients.expand(len(guided), -1), torch.zeros_like(coefficients)
    none = torch.zeros_like(guided[:, :1])
    table = torch.cat([free, weight * guided, none, rest.expand(len(guided), -1), guided], 1)
    out, also = plan_step([*tensors, *estimates], table)
    assert also is not None
    return out, also
