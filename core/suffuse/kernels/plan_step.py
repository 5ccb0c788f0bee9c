"""One row of a sampler's table: x' = Σ_j a_j x_j + c z, in one pass over memory on a GPU."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from suffuse.kernels.dispatch import aligned, fused

__all__ = ["Fresh", "guided_step", "plan_step"]

Coefficient = float | Tensor

TILE = 2**18
"""Elements of a tile on the CPU: a mebibyte in float32."""

WIDE = (torch.float32, torch.float64)
"""The dtypes that sums are taken in; in float32 for all others."""


class Source(Protocol):
    """Where noise comes from, one source a sample: `suffuse.diffusion.Noise`."""

    @property
    def words(self) -> Tensor:
        """Seed and number of each sample, [3, B] int64, as `philox.draw` takes them."""

    def stream(self, number: int) -> int:
        """The fourth word of the counter for a stream."""

    def normal(
        self, shape: Sequence[int], *, step: int | Tensor, stream: int, dtype: torch.dtype
    ) -> Tensor:
        """Standard normal numbers [B, *shape]."""


class Fresh(NamedTuple):
    """Standard normal noise that a step adds.

    Attributes:
        source: of the numbers.
        step, stream: of the draw; the step may be an int64 tensor [].
        scale: its coefficient.
    """

    source: Source
    step: int | Tensor
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
            A number 0 leaves its tensor unread, so that 0 · inf is 0. The Triton version takes
            coefficients that are one for all elements of a sample.
        noise: what is added to the sum; made in registers on a GPU.
        clamp: bounds of the result.
        known, kept: what replaces the result, clamped or not, where `kept` (bool) is True.

    Returns:
        [B, ...] of the first tensor's dtype. Sums are taken in 32 bits or more.
    """
    first = tensors[0]
    if not first.is_cpu:
        found = _on_gpu(tensors, coefficients, noise, clamp, known, kept)
        if found is not None:
            return found
    wide = first.dtype if first.dtype in WIDE else torch.float32
    terms = list(zip(tensors, coefficients, strict=True))
    out = _tiled(terms) if first.numel() >= 2 * TILE else None
    if out is not None:
        terms = []
    if noise is not None:
        z = noise.source.normal(first.shape[1:], step=noise.step, stream=noise.stream, dtype=wide)
        terms.append((z, noise.scale))
    for x, k in terms:
        if isinstance(k, Tensor):
            k = k.to(wide)
        elif k == 0.0:
            continue
        if x.dtype != wide:
            x = x.to(wide)
        if out is None:
            out = x * k
        elif isinstance(k, Tensor):
            out.addcmul_(x, k)
        else:
            out.add_(x, alpha=k)
    if out is None:
        out = torch.zeros_like(first, dtype=wide)
    if clamp is not None:
        out = out.clamp_(*clamp)
    if kept is not None and known is not None:
        out = torch.where(kept, known.to(wide), out)
    return out if out.dtype == first.dtype else out.to(first.dtype)


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
    every = [*tensors, *estimates]
    if fused("guided_step", *every) and not _learning(every):
        device, every = tensors[0].device, aligned(every)
        split = len(tensors)
        out, guided = _guided_operator(
            every[:split], _table(tuple(coefficients), device),
            every[split:], _table(tuple(weights), device), weight, rescale,
        )  # fmt: skip
        return out, guided
    guided = plan_step(estimates, weights)
    if rescale:
        axes = tuple(range(1, guided.ndim))
        one, mixed = (
            x.to(torch.promote_types(x.dtype, torch.float32)).std(axes, correction=0, keepdim=True)
            for x in (estimates[0], guided)
        )
        ratio = torch.where(mixed > 0, one / mixed, 1.0)  # a flat estimate is left as it is
        guided = guided * (rescale * ratio + (1 - rescale)).to(guided.dtype)
    return plan_step([*tensors, guided], [*coefficients, weight]), guided


def _tiled(every: Sequence[tuple[Tensor, Coefficient]]) -> Tensor | None:
    """The sum, a tile after the other: the tile of the result stays in the cache meanwhile.

    None where that cannot be, or with fewer than three terms gains nothing.
    """
    dtype = every[0][0].dtype
    terms: list[tuple[Tensor, float]] = []
    for x, k in every:
        if isinstance(k, Tensor):
            return None
        if k != 0.0:
            terms.append((x, k))
    if len(terms) < 3 or dtype not in WIDE or torch.compiler.is_compiling():
        return None
    if not all(x.dtype == dtype and x.is_contiguous() and not x.requires_grad for x, _ in terms):
        return None
    out = torch.empty_like(terms[0][0])
    tiles = [torch.split(x.view(-1), TILE) for x in (out, *(x for x, _ in terms))]
    (_, first), *rest = terms
    for into, begin, *more in zip(*tiles, strict=True):
        torch.mul(begin, first, out=into)
        for x, (_, k) in zip(more, rest, strict=True):
            into.add_(x, alpha=k)
    return out


# On a GPU


def _on_gpu(
    tensors: Sequence[Tensor],
    coefficients: Sequence[Coefficient],
    noise: Fresh | None,
    clamp: tuple[float, float] | None,
    known: Tensor | None,
    kept: Tensor | None,
) -> Tensor | None:
    """The Triton version's answer, or None where it cannot take these."""
    device = tensors[0].device
    row = _row([*coefficients, 0.0 if noise is None else noise.scale], device)
    why = "a coefficient has axes of its own, or a tensor another shape"
    fits = row is not None and all(x.shape == tensors[0].shape for x in tensors)
    if not fused("plan_step", *tensors, known, fits=fits, why=why) or _learning([*tensors, row]):
        return None
    assert row is not None
    words, step, stream = None, None, 0
    if noise is not None:
        words, stream = noise.source.words.to(device), noise.source.stream(noise.stream)
        step = noise.step
        if not isinstance(step, Tensor):
            step = torch.full((), step, dtype=torch.int64, device=device)
    blend = [] if known is None or kept is None else [known, kept]
    given = aligned([*tensors, *(x.expand_as(tensors[0]) for x in blend)])
    count = len(tensors)
    out: Tensor = _operator(
        given[:count], row, words, step, stream, None if clamp is None else list(clamp),
        *(given[count:] or (None, None)),
    )  # fmt: skip
    return out


def _learning(tensors: Sequence[Tensor | None]) -> bool:
    """Whether a gradient is asked for, which the plain version has."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def _row(coefficients: Sequence[Coefficient], device: torch.device) -> Tensor | None:
    """The coefficients as float32 [1 or B, K]; None where one has axes beyond the samples'."""
    numbers = tuple(k for k in coefficients if not isinstance(k, Tensor))
    if len(numbers) == len(coefficients):
        return _table(numbers, device)[None]
    columns = [
        k.reshape(len(k) if k.ndim else 1, -1).to(device)
        if isinstance(k, Tensor)
        else torch.full((1, 1), k, device=device)
        for k in coefficients
    ]
    if any(k.shape[1] != 1 for k in columns):
        return None
    rows = max(map(len, columns))
    return torch.cat([k.expand(rows, 1) for k in columns], 1).to(torch.float32)


@functools.lru_cache(maxsize=4096)
def _table(numbers: tuple[float, ...], device: torch.device) -> Tensor:
    """Coefficients on the device; kept, so that a plan's rows are sent there once."""
    with torch.inference_mode(False):
        return torch.tensor(numbers, dtype=torch.float32, device=device)


@torch.library.custom_op("suffuse::plan_step", mutates_args=())
def _operator(
    tensors: Sequence[Tensor],
    table: Tensor,
    words: Tensor | None,
    step: Tensor | None,
    stream: int,
    clamp: Sequence[float] | None,
    known: Tensor | None,
    kept: Tensor | None,
) -> Tensor:
    from suffuse.kernels.gpu.plan_step import plan_step as run

    bounds = None if clamp is None else (clamp[0], clamp[1])
    return run(
        tensors, table, words=words, step=step, stream=stream,
        clamp=bounds, known=known, kept=kept,
    )[0]  # fmt: skip


@_operator.register_fake
def _(
    tensors: Sequence[Tensor],
    table: Tensor,
    words: Tensor | None,
    step: Tensor | None,
    stream: int,
    clamp: Sequence[float] | None,
    known: Tensor | None,
    kept: Tensor | None,
) -> Tensor:
    return torch.empty_like(tensors[0])


@torch.library.custom_op("suffuse::guided_step", mutates_args=())
def _guided_operator(
    tensors: Sequence[Tensor],
    coefficients: Tensor,
    estimates: Sequence[Tensor],
    weights: Tensor,
    weight: float,
    rescale: float,
) -> tuple[Tensor, Tensor]:
    from suffuse.kernels.gpu.guided_step import guided_step as run

    return run(tensors, coefficients, estimates, weights, weight, rescale)


@_guided_operator.register_fake
def _(
    tensors: Sequence[Tensor],
    coefficients: Tensor,
    estimates: Sequence[Tensor],
    weights: Tensor,
    weight: float,
    rescale: float,
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(tensors[0]), torch.empty_like(tensors[0])
