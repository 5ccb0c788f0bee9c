"""Minimising many poses at once: BFGS along the motions of a flexible ligand.

Each pose has an inverse Hessian of its own, over its 6 + T motions in units of Å of its atoms; its
tangent vectors are those of the present pose, which bends the method only where steps are long. A
step that does not lower the energy is tried again at a third of its length.

Source: Nocedal, Wright, "Numerical optimization" (2006), algorithm 6.1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .flexible import Flexible, Motion
from .maps import Energy

__all__ = ["minimise"]

_LONGEST = 1.0  # Å, of all motions together
_ARMIJO = 1e-4


def minimise(
    ligand: Flexible, energy: Callable[[Tensor], Energy], x: Tensor, steps: int
) -> tuple[Tensor, Energy]:
    """Poses [B, N, 3] after so many evaluations of the energy, and their energies.

    No pose ends higher than it began.
    """
    scale = ligand.inertia(x).rsqrt()
    now = energy(x)
    slope = -ligand.pull(x, now.force).flat() * scale
    size = slope.shape[1]
    first = 0.03 * torch.eye(size, dtype=x.dtype).expand(len(x), size, size)
    inverse, length = first.clone(), torch.ones(len(x), 1, dtype=x.dtype)
    for _ in range(steps):
        way = -(inverse @ slope[..., None])[..., 0]
        # a direction that rises is no descent: begin again along the slope
        bad = (way * slope).sum(1) >= 0
        inverse = torch.where(bad[:, None, None], first, inverse)
        way = torch.where(bad[:, None], -0.03 * slope, way)
        way = length * way * (_LONGEST / way.norm(dim=1, keepdim=True)).clamp(max=1)
        tried = ligand.move(x, Motion.of(way * scale))
        after = energy(tried)
        lower = after.total <= now.total + _ARMIJO * (way * slope).sum(1)
        fresh = -ligand.pull(tried, after.force).flat() * scale
        updated = _updated(inverse, way, fresh - slope)
        inverse = torch.where(lower[:, None, None], updated, inverse)
        x = torch.where(lower[:, None, None], tried, x)
        slope = torch.where(lower[:, None], fresh, slope)
        parts = zip(after, now, strict=True)
        now = Energy(*(torch.where(lower.reshape(-1, *[1] * (p.ndim - 1)), p, q) for p, q in parts))
        length = torch.where(lower[:, None], 1.0, length / 3)
    return x, now


def _updated(inverse: Tensor, step: Tensor, change: Tensor) -> Tensor:
    """The BFGS update where the curvature along the step is positive."""
    along = (step * change).sum(1)
    fit = along > 1e-6 * step.norm(dim=1) * change.norm(dim=1)
    rho = torch.where(fit, along.reciprocal(), 0.0)[:, None, None]
    turned = (inverse @ change[..., None])[..., 0]
    cross = step[:, :, None] * turned[:, None, :]
    both = (change * turned).sum(1)[:, None, None]
    square = step[:, :, None] * step[:, None, :]
    return inverse - rho * (cross + cross.transpose(1, 2)) + rho * (1 + rho * both) * square
