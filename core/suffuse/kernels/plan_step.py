"""One row of a sampler's table: x' = Σ_j a_j x_j + c z, in one pass over memory on a GPU."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from suffuse.kernels.dispatch import fused

__all__ = ["Fresh", "guided_step", "plan_step"]

Coefficient = float | Tensor

TILE = 2**18
"""Elements of a tile on the CPU: a mebibyte in float32."""

MOST = 8
"""How many tensors the Triton version reads."""


class Source(Protocol):
    """Where noise comes from, one source a sample: `suffuse.diffusion.Noise`."""

    @property
    def words(self) -> Tensor:
        """Seed and number of each sample, [3, B] int64, as `philox.draw` takes them."""

    def stream(self, number: int) -> int:
        """The fourth word of the counter for a stream."""

    def normal(self, shape: Sequence[int], *, step: int, stream: int, dtype: torch.dtype) -> Tensor:
        """Standard normal numbers [B, *shape]."""


class Fresh(NamedTuple):
    """Standard normal noise that a step adds.

    Attributes:
        source: of the numbers.
        step, stream: of the draw.
        scale: its coefficient.
    """

    source: Source
    step: int
    stream: int
    scale: Coefficient


def plan_step(
    tensors: Sequence[Tensor],
    coefficients: Sequence[Coefficient],
    noise: Fresh | None = None,
    *,
    clamp: tuple[float, float] | None = None,
    known: Tensor | None = None,
    kept: Tensor | None = None,
) -> Tensor:
    """The weighted sum of `tensors`, without temporaries; inputs are not written to.

    Args:
        tensors: states and estimates [B, ...], all of one shape.
        coefficients: one for each tensor: a number, or a tensor that broadcasts against it.
            A number 0 leaves its tensor unread, so that 0 · inf is 0.
        noise: what is added to the sum; made in registers on a GPU.
        clamp: bounds of the result.
        known, kept: what replaces the result, clamped or not, where `kept` (bool) is True.

    Returns:
        [B, ...] of the first tensor's dtype. Sums are taken in 32 bits or more.
    """
    scale = 0.0 if noise is None else noise.scale
    numbers = [k for k in (*coefficients, scale) if not isinstance(k, Tensor)]
    fits = len(numbers) == len(coefficients) + 1 and len(tensors) <= MOST
    why = f"it reads at most {MOST} tensors, weighed by numbers"
    if fused("plan_step", *tensors, known, fits=fits, why=why):
        from suffuse.kernels.gpu.plan_step import plan_step as run

        table = _table((tuple(numbers),), tensors[0].device)
        words, step, stream = None, 0, 0
        if noise is not None:
            words, step = noise.source.words, noise.step
            stream = noise.source.stream(noise.stream)
        return run(
            _contiguous(tensors), table, words=words, step=step, stream=stream,
            clamp=clamp, known=known, kept=kept,
        )[0]  # fmt: skip
    out_dtype = tensors[0].dtype
    wide = torch.promote_types(out_dtype, torch.float32)
    if _tileable(tensors, numbers, coefficients, wide):
        out: Tensor | None = _tiled(tensors, coefficients)
    else:
        out = None
        for x, k in zip(tensors, coefficients, strict=True):
            out = _add(out, x, k, wide)
    if noise is not None:
        shape = tensors[0].shape[1:]
        z = noise.source.normal(shape, step=noise.step, stream=noise.stream, dtype=wide)
        out = _add(out, z, noise.scale, wide)
    if out is None:
        out = torch.zeros_like(tensors[0], dtype=wide)
    if clamp is not None:
        out = out.clamp_(*clamp)
    if kept is not None and known is not None:
        out = torch.where(kept, known.to(wide), out)
    return out.to(out_dtype)


def guided_step(
    tensors: Sequence[Tensor],
    coefficients: Sequence[float],
    estimates: Sequence[Tensor],
    weights: Sequence[float],
    weight: float,
    *,
    rescale: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Guidance and the step at once: x' = Σ_j a_j x_j + weight · d, with d = r Σ_i w_i d_i.

    With `rescale` φ above 0, r = φ std(d_0) / std(Σ_i w_i d_i) + 1 − φ, sample by sample; this asks
    for one pass over the estimates before.

    Args:
        tensors, coefficients: as for `plan_step`, for all but the present estimate.
        estimates: two or more, [B, ...]: first the conditional one.
        weights: of the estimates.
        weight: of the guided estimate in the step.
        rescale: φ, in [0, 1].

    Returns:
        x' and d.

    Source of the rescaling: Lin, Liu, Li, Yang (2023), arXiv 2305.08891, section 3.4.
    """
    fits = len(tensors) + len(estimates) <= MOST and len(estimates) <= 4
    if fused(
        "guided_step", *tensors, *estimates, fits=fits, why=f"it reads at most {MOST} tensors"
    ):
        from suffuse.kernels.gpu import guided_step as gpu
        from suffuse.kernels.gpu.plan_step import plan_step as run

        device, every = tensors[0].device, _contiguous([*tensors, *estimates])
        rest = (0.0,) * len(tensors)
        row = (*coefficients, *(weight * w for w in weights), 0.0, *rest, *weights)
        table = _table((row,), device)
        if rescale:
            parts = every[len(tensors) :]
            one, mixed = gpu.deviations(parts, _table((tuple(weights),), device))
            ratio = (rescale * one / mixed + (1 - rescale))[:, None]
            free = _table(((*coefficients, *(0.0,) * (len(row) - len(tensors))),), device)
            table = (table - free) * ratio + free
        out, guided = run(every, table.contiguous())
        assert guided is not None
        return out, guided
    guided = plan_step(estimates, weights)
    if rescale:
        axes = tuple(range(1, guided.ndim))
        one, mixed = (
            x.to(torch.promote_types(x.dtype, torch.float32)).std(axes, correction=0, keepdim=True)
            for x in (estimates[0], guided)
        )
        guided = guided * (rescale * one / mixed + (1 - rescale)).to(guided.dtype)
    return plan_step([*tensors, guided], [*coefficients, weight]), guided


def _tileable(
    tensors: Sequence[Tensor],
    numbers: Sequence[float],
    coefficients: Sequence[Coefficient],
    wide: torch.dtype,
) -> bool:
    """Whether the sum can be taken tile by tile, and is large enough to gain by that."""
    read = sum(k != 0.0 for k in numbers[: len(coefficients)])
    return (
        read > 2
        and len(numbers) == len(coefficients) + 1
        and tensors[0].numel() >= 2 * TILE
        and all(x.dtype == wide and x.is_contiguous() for x in tensors)
        and not any(x.requires_grad for x in tensors)
    )


def _tiled(tensors: Sequence[Tensor], coefficients: Sequence[Coefficient]) -> Tensor:
    """The sum, a tile after the other: the tile of the result stays in the cache meanwhile."""
    out = torch.empty_like(tensors[0])
    terms = [(x, k) for x, k in zip(tensors, coefficients, strict=True) if k != 0.0]
    tiles = [torch.split(x.view(-1), TILE) for x in (out, *(x for x, _ in terms))]
    (_, first), *rest = terms
    for into, begin, *more in zip(*tiles, strict=True):
        torch.mul(begin, first, out=into)
        for x, (_, k) in zip(more, rest, strict=True):
            into.add_(x, alpha=k)
    return out


def _add(out: Tensor | None, x: Tensor, k: Coefficient, wide: torch.dtype) -> Tensor | None:
    """out + k x, in place; the first product where out is None."""
    if isinstance(k, Tensor):
        k = k.to(wide)
        return x.to(wide) * k if out is None else out.addcmul_(x.to(wide), k)
    if k == 0.0:
        return out
    return x.to(wide) * k if out is None else out.add_(x.to(wide), alpha=k)


def _contiguous(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [x.contiguous() for x in tensors]


@functools.lru_cache(maxsize=4096)
def _table(rows: tuple[tuple[float, ...], ...], device: torch.device) -> Tensor:
    """Coefficients on the device; kept, so that a plan's rows are sent there once."""
    return torch.tensor(rows, dtype=torch.float32, device=device)
