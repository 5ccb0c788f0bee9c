r"""What a plan does to normal data, exactly.

With data N(0, v) the denoiser is linear, d = α v / (α² v + σ²) · x, so that every state of a plan
is a combination of the first state, of the rows' noises, and of what the denoiser says amiss.
Propagating these combinations tells, without a single draw,

* the variance of every state beside the variance α² v + σ² that it should have: how a plan loses or
  gains scale on its way, and what error remains at the end (`spread`);
* how much of an error in one estimate arrives in the sample (`amplification`): a plan is stable
  where errors of size 1 in all estimates arrive as little more than 1.
"""

from __future__ import annotations

import numpy as np

from suffuse.diffusion.plan import Plan
from suffuse.diffusion.solvers.table import Array
from suffuse.errors import SuffuseError

__all__ = ["amplification", "combinations", "spread"]


def _propagated(plan: Plan, variance: float) -> Array:
    """Every state by the first one, the rows' noises and the estimates' errors, [R + 1, 1 + 2R]."""
    if plan.t.ndim != 1 or not variance > 0:
        raise SuffuseError(
            "a plan is analysed on one noise level a sample and on a variance above 0; given "
            f"levels of shape {plan.t.shape[1:]} and {variance}"
        )
    n = len(plan)
    unit = np.eye(1 + 2 * n)
    c = [plan.schedule.at(float(t)) for t in plan.t]
    states, estimates = [unit[0]], []
    for i in range(n):
        alpha, sigma = float(c[i].alpha), float(c[i].sigma)
        gain = alpha * variance / (alpha**2 * variance + sigma**2)
        estimates.append(gain * states[-1] + unit[1 + n + i])
        x = plan.C[i] * unit[1 + i]
        x = x + sum(k * r for k, r in zip(plan.A[i], reversed(states), strict=False))
        x = x + sum(k * r for k, r in zip(plan.B[i], reversed(estimates), strict=False))
        states.append(x)
    return np.stack(states)


def combinations(plan: Plan, variance: float) -> Array:
    """Every state as a combination of the first one and the rows' noises.

    Args:
        plan: levels without axes.
        variance: v of the data, above 0.

    Returns:
        [rows + 1, rows + 1] float64: row i for the state after i rows; column 0 for the first
        state, column i + 1 for the noise of row i.
    """
    return _propagated(plan, variance)[:, : len(plan) + 1]


def amplification(plan: Plan, variance: float) -> Array:
    """∂x_0/∂d_i: what arrives in the sample of an error of 1 in the estimate of row i, [rows].

    Their absolute sum is how much of errors of size 1 in all estimates arrives at most.
    """
    return _propagated(plan, variance)[-1, len(plan) + 1 :]


def spread(plan: Plan, variance: float) -> Array:
    """The deviation of every state over the one that it should have, [rows + 1]; 1 is exact.

    The last one less 1 is the relative error of the deviation of the samples.
    """
    gains = combinations(plan, variance)
    times = np.append(plan.t[0], plan.s)
    c = [plan.schedule.at(float(t)) for t in times]
    right = np.array([float(k.alpha) ** 2 * variance + float(k.sigma) ** 2 for k in c])
    found = gains[:, 0] ** 2 * right[0] + (gains[:, 1:] ** 2).sum(1)
    return np.asarray(np.sqrt(found / right), np.float64)
