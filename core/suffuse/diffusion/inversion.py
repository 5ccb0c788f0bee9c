r"""The noise that a clean state comes from: a deterministic plan walked backwards.

A row of a one-step plan, x_s = A x_t + B d(x_t, t), with the noise ε = (x_t − α_t d) / σ_t put for
the estimate, is solved for x_t by

    x_t ← (x_s + (B σ_t / α_t) ε(x_t, t)) / (A + B / α_t),

begun at x_t = x_s. One round is DDIM inversion (Song, Meng, Ermon (2020), arXiv 2010.02502, section
5.4); more find the state that the row really maps to x_s (Pan, Gherardi, Xie, Huang, "Effective
real image editing with accelerated iterative diffusion inversion" (2023), arXiv 2309.04907). Each
shrinks the error by (1 − A)(1 − J) where d has the derivative J, in [0, 1] for data of one mode.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from suffuse.diffusion.plan import Plan
from suffuse.diffusion.process import Denoiser
from suffuse.diffusion.sampling import expanded
from suffuse.errors import SuffuseError

__all__ = ["invert"]


def invert(
    denoiser: Denoiser, plan: Plan, x_0: Tensor, *, iterations: int = 4, **conditions: Any
) -> Tensor:
    """The state x_t at the plan's first time that the plan takes to x_0.

    Args:
        denoiser: (x_t, t [B], **conditions) -> the clean estimate.
        plan: deterministic, of a one-step method, as "ddim"; begun below pure noise for an edit
            that keeps much: `solvers.plan(..., begin=0.6)`.
        x_0: clean states [B, ...].
        iterations: rounds, and network calls, for each row; 1 is DDIM inversion.
        conditions: handed to the denoiser; those that describe x_0.

    Returns:
        [B, ...], of the dtype of x_0.

    Raises:
        SuffuseError: for a plan of another kind, or from pure noise, and fewer than one round.

    >>> from suffuse.diffusion import oracle, sample, schedules, solvers
    >>> exact = oracle.Gaussian(torch.zeros(1), torch.eye(1))
    >>> plan = solvers.plan("ddim", schedules.cosine(), steps=8, begin=0.5)
    >>> denoiser, x_0 = exact.denoiser(plan.schedule), torch.tensor([[0.7]])
    >>> again = sample(denoiser, plan, x=invert(denoiser, plan, x_0, iterations=30))
    >>> bool((again - x_0).abs().max() < 0.01)
    True
    """
    if plan.depth != (1, 1) or plan.t.ndim > 1 or plan.stochastic:
        raise SuffuseError(
            f"inversion walks a deterministic plan of a one-step method, as 'ddim', backwards; "
            f"given {plan.solver!r}"
        )
    if iterations < 1:
        raise SuffuseError(f"inversion takes 1 round or more for each row, and not {iterations}")
    if float(plan.schedule.at(float(plan.t[0])).alpha) == 0:
        raise SuffuseError("nothing leads back from pure noise: solvers.plan(..., begin=0.9)")
    x = x_0
    for i in reversed(range(len(plan))):
        t = expanded(plan.rows[i].t, x)
        c = plan.schedule.at(float(plan.t[i]))
        a, b = float(plan.A[i, 0]), float(plan.B[i, 0] / c.alpha)
        target = x
        with torch.no_grad():
            for _ in range(iterations):
                residue = x - float(c.alpha) * denoiser(x, t, **conditions)  # σ_t ε
                x = (target + b * residue) / (a + b)
    return x
