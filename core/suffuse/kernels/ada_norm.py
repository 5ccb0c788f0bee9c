"""A gated residual and the modulated layer normalisation of the sum, in one pass on a GPU.

    s = x + gate · h;    y = (s − mean) / sqrt(variance + eps) · (1 + scale) + shift

with the mean and the variance of each token. Source: Peebles, Xie (2022), arXiv 2212.09748,
section 3.2 (adaLN-Zero).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from suffuse.kernels.dispatch import fused

__all__ = ["ada_norm"]

WIDEST = 4096
"""Features of a token whose gradient a block still holds in registers."""


def ada_norm(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    h: Tensor | None = None,
    gate: Tensor | None = None,
    *,
    eps: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    """s and y of the formula above; s is x where h is None.

    Args:
        x: tokens [B, N, width].
        scale, shift, gate: [B, 1 or N, width].
        h: what is added through the gate, [B, N, width].
    """
    why = f"tokens are wider than {WIDEST}, or steered by tensors of different shapes"
    each = (len(x), 1 if scale.shape[-2:-1] == (1,) else x.shape[-2], x.shape[-1])
    fits = x.ndim == 3 and x.shape[-1] <= WIDEST and (h is None) == (gate is None)
    fits &= all(k is None or k.shape == each for k in (scale, shift, gate))
    if fused("ada_norm", x, scale, shift, h, gate, fits=fits, why=why):
        given = [None if k is None else k.contiguous() for k in (x, scale, shift, h, gate)]
        total, out, _ = _operator(*given, eps)
        return (x if h is None else total), out
    if h is not None and gate is not None:
        x = torch.addcmul(x, gate, h)
    return x, torch.addcmul(shift, layer_norm(x, x.shape[-1:], eps=eps), 1 + scale)


@torch.library.custom_op("suffuse::ada_norm", mutates_args=())
def _operator(
    x: Tensor, scale: Tensor, shift: Tensor, h: Tensor | None, gate: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    from suffuse.kernels.gpu import ada_norm as gpu

    total, out, stats = gpu.forward(x, scale, shift, h, gate, eps)
    # an operator's results are none of its arguments
    return x.new_empty(0) if h is None else total, out, stats


@_operator.register_fake
def _(
    x: Tensor, scale: Tensor, shift: Tensor, h: Tensor | None, gate: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    total = x.new_empty(0) if h is None else torch.empty_like(x)
    return total, torch.empty_like(x), x.new_empty(*x.shape[:2], 2, dtype=torch.float32)


@torch.library.custom_op("suffuse::ada_norm_backward", mutates_args=())
def _backward_operator(
    dtotal: Tensor,
    dy: Tensor,
    total: Tensor,
    scale: Tensor,
    h: Tensor | None,
    gate: Tensor | None,
    stats: Tensor,
) -> list[Tensor]:
    from suffuse.kernels.gpu import ada_norm as gpu

    found = gpu.backward(dtotal.contiguous(), dy.contiguous(), total, scale, h, gate, stats)
    return [x for x in found if x is not None]


@_backward_operator.register_fake
def _(
    dtotal: Tensor,
    dy: Tensor,
    total: Tensor,
    scale: Tensor,
    h: Tensor | None,
    gate: Tensor | None,
    stats: Tensor,
) -> list[Tensor]:
    like = [total, scale, scale, h, gate]
    return [torch.empty_like(x) for x in like if x is not None]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, scale, _, h, gate, _ = inputs
    ctx.gated = h is not None
    kept = (output[0], h, gate) if ctx.gated else (x,)
    ctx.save_for_backward(scale, output[2], *kept)


def _gradient(ctx: Any, dtotal: Tensor, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    scale, stats, total, *rest = ctx.saved_tensors
    h, gate = rest if ctx.gated else (None, None)
    found = _backward_operator(dtotal, dy, total, scale, h, gate, stats)
    return (*found, *[None] * (6 - len(found)))


_operator.register_autograd(_gradient, setup_context=_keep)
