"""What a rescaled guidance needs to know before the step: see `suffuse.kernels.guided_step`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

MOST = 4
"""How many estimates can be weighed."""


@triton.jit
def moments_kernel(
    sums, d0, d1, d2, d3, weights, n, TERMS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """For each block of a sample Σ d_0, Σ d_0², Σ g, Σ g², where g = Σ_j w_j d_j."""
    sample, block = tl.program_id(1), tl.program_id(0)
    e = block * BLOCK + tl.arange(0, BLOCK)
    inside = e < n
    at = sample.to(tl.int64) * n + e
    first = tl.load(d0 + at, mask=inside, other=0.0).to(tl.float32)
    mixed = tl.load(weights) * first
    if TERMS > 1:
        mixed += tl.load(weights + 1) * tl.load(d1 + at, mask=inside, other=0.0).to(tl.float32)
    if TERMS > 2:
        mixed += tl.load(weights + 2) * tl.load(d2 + at, mask=inside, other=0.0).to(tl.float32)
    if TERMS > 3:
        mixed += tl.load(weights + 3) * tl.load(d3 + at, mask=inside, other=0.0).to(tl.float32)
    place = sums + (sample * tl.num_programs(0) + block) * 4
    tl.store(place, tl.sum(first))
    tl.store(place + 1, tl.sum(first * first))
    tl.store(place + 2, tl.sum(mixed))
    tl.store(place + 3, tl.sum(mixed * mixed))


def deviations(
    estimates: Sequence[Tensor], weights: Tensor, block: int = 4096
) -> tuple[Tensor, Tensor]:
    """The deviations, over each sample, of the first estimate and of the mixture; [B] float32."""
    first = estimates[0]
    n = first[0].numel()
    blocks = triton.cdiv(n, block)
    sums = torch.empty(len(first), blocks, 4, device=first.device, dtype=torch.float32)
    given = [*estimates, *[first] * (MOST - len(estimates))]
    moments_kernel[(blocks, len(first))](
        sums, *given, weights, n, TERMS=len(estimates), BLOCK=block
    )
    total = sums.to(torch.float64).sum(1) / n
    variance = (total[:, 1::2] - total[:, ::2] ** 2).clamp(min=0).sqrt().float()
    return variance[:, 0], variance[:, 1]
