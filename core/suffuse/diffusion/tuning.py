r"""A plan made for one model and one budget.

Two things are fitted, on trajectories of the model itself:

* **The grid.** On a fine trajectory the states x_i and the estimates d_i are known at every level.
  How well a step from i to j can do at best, having come from h, is the residual of x_j on the span
  of x_i, d_i and d_h; it follows from inner products alone, without a call. Dynamic programming
  over pairs of levels finds the K levels whose residuals sum to the least.
* **The coefficients.** Down that grid, each row's coefficients are those that bring the sampler's
  own states closest to the trajectory, by least squares drawn (ridge) towards the analytic ones.
  Since the regression sees the states that the earlier rows really reached, later rows mend what
  earlier ones left.

Both are closed forms, so that nothing has to be differentiated. The grid is in the spirit of GITS
(Chen et al. 2024, arXiv 2405.11326), the coefficients of S4S (Frankel et al. 2025,
arXiv 2502.17423) and of bespoke solvers (Shaul et al. 2024, arXiv 2310.19075).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suffuse.diffusion.grids import balanced, logsnr, uniform
from suffuse.diffusion.plan import Plan
from suffuse.diffusion.process import Denoiser
from suffuse.diffusion.sampling import Step, sample
from suffuse.diffusion.schedules import Schedule
from suffuse.diffusion.solvers.multistep import adams, multistep
from suffuse.diffusion.solvers.table import Array
from suffuse.errors import SuffuseError

__all__ = ["tune"]


def tune(
    denoiser: Denoiser,
    schedule: Schedule,
    *,
    calls: int,
    x: Tensor,
    levels: int = 96,
    **conditions: Any,
) -> Plan:
    """The plan of `calls` network calls that suits this denoiser.

    Half of the trajectories is kept aside. What does best there is taken: of the grid found and
    the usual ones, with fitted coefficients of several memories and dampings or analytic ones.

    Args:
        denoiser: the one that will be sampled, with its guidance.
        schedule: its schedule.
        calls: the budget.
        x: states at t = 1 to learn from, [N, *shape], N at least 4; 64 or more are wise.
        levels: of the fine trajectory, which costs about this many calls.
        conditions: handed to the denoiser, N values each.

    Returns:
        A plan without noise, named "tuned"; its options tell the mean relative error of
        the ends kept aside.

    Raises:
        SuffuseError: where the budget does not lie between 1 and `levels`, or N is below 4.
    """
    if not 1 <= calls < levels:
        raise SuffuseError(f"tuning takes from 1 to {levels - 1} calls, and not {calls}")
    if len(x) < 4:
        raise SuffuseError(f"tuning needs 4 starting states or more, and not {len(x)}")
    times = _fine(schedule, levels)
    steps: list[Step] = []
    with torch.no_grad():
        fine = multistep(schedule, times, order=3)
        end = sample(denoiser, fine, x=x, on_step=steps.append, **conditions)
    states = [x, *(step.x for step in steps[:-1]), end]
    path = torch.stack([s.flatten().double() for s in states])
    estimates = torch.stack([step.denoised.flatten().double() for step in steps])
    aside, kept = slice(0, len(x) // 2), slice(len(x) // 2, None)

    def part(which: slice) -> dict[str, Any]:
        return {name: value[which] for name, value in conditions.items()}

    def error(plan: Plan) -> float:
        found = sample(denoiser, plan, x=x[aside], **part(aside))
        far = (found - end[aside]).flatten(1).norm(dim=1)
        return float((far / end[aside].flatten(1).norm(dim=1)).mean())

    usual = [logsnr(schedule, calls, lam_max=top) for top in (2.0, 3.0, 4.0, 5.0)]
    usual += [uniform(schedule, calls), balanced(schedule, calls)]
    tried: list[Plan] = []
    with torch.no_grad():
        for chosen in [_grid(path, estimates, calls), *(_nearest(times, g) for g in usual)]:
            targets = [states[i][kept] for i in chosen]
            tried += [multistep(schedule, times[chosen], order=order) for order in (2, 3)]
            tried.append(adams(schedule, times[chosen]))
            tried += [
                _fitted(denoiser, schedule, times[chosen], targets, memory, ridge, part(kept))
                for memory in (2, 3)
                for ridge in (1e-3, 0.1, 1.0)
            ]
        errors = [error(plan) for plan in tried]
    best, least = tried[int(np.argmin(errors))], min(errors)
    options = {"calls": len(best), "trajectories": len(x), "error": least}
    return replace(best, solver="tuned", options=options)


def _fine(schedule: Schedule, levels: int) -> Array:
    """Times from 1 to 0, a half of them even in t and a half even in λ up to 7."""
    half = levels // 2
    lowest = max(float(schedule.at(1.0).lam), -5.0)
    lam = torch.linspace(lowest, 7.0, levels - half, dtype=torch.float64)
    times = np.concatenate([np.linspace(0, 1, half + 1), schedule.t(lam).numpy()])
    return np.unique(times.round(9))[::-1].copy()


def _nearest(times: Array, grid: Array) -> Array:
    """Indices of the fine levels nearest to a grid's, from the first to the last, none twice."""
    inner = np.abs(times[:, None] - grid[None, 1:-1]).argmin(0)
    return np.unique(np.concatenate([[0], inner, [len(times) - 1]]))


def _grid(path: Tensor, estimates: Tensor, calls: int) -> Array:
    """Indices of the levels to stop at: `calls` of them, and the last one, which is clean.

    With cost(h, i, j) the squared residual of x_j on x_i, d_i and d_h, the least sum over chains
    0 = i_0 < i_1 < ... < i_calls = last.
    """
    n = len(estimates)  # the clean level has the index n
    known = torch.cat([path, estimates])
    gram = (known @ known.T).numpy()
    scale = np.trace(gram) / len(gram)
    cost = np.full((n, n, n + 1), np.inf)  # from h by i to j; h = i where there is no history
    for i in range(n):
        for h in range(i + 1):
            columns = [i, n + 1 + i] if h == i else [i, n + 1 + i, n + 1 + h]
            if h == i and i > 0:
                continue
            basis = gram[np.ix_(columns, columns)] + 1e-9 * scale * np.eye(len(columns))
            right = gram[np.ix_(columns, range(i + 1, n + 1))]
            fitted = np.linalg.solve(basis, right)
            whole = np.diag(gram)[i + 1 : n + 1]
            # ‖x_j − Bw‖² with the w of the damped system
            residual = whole - 2 * (right * fitted).sum(0)
            residual += (fitted * (gram[np.ix_(columns, columns)] @ fitted)).sum(0)
            cost[h, i, i + 1 :] = np.maximum(residual, 0)
    best = np.full((n, n), np.inf)  # of chains that end with the step from h to i
    best[0, 0] = 0.0
    back: list[Array] = []
    for _ in range(calls - 1):
        total = best[:, :, None] + cost[:, :, :n]  # h, i, j
        back.append(total.argmin(0))
        best = total.min(0)  # i, j
    last = best + cost[:, :, n]
    h, i = (int(k) for k in np.unravel_index(last.argmin(), last.shape))
    chain = [n, i]
    for table in reversed(back):
        h, i = int(table[h, i]), h
        chain.append(i)
    return np.array(chain[::-1])


def _fitted(
    denoiser: Denoiser,
    schedule: Schedule,
    times: Array,
    targets: Sequence[Tensor],
    memory: int,
    ridge: float,
    conditions: dict[str, Any],
) -> Plan:
    """Coefficients row by row, by least squares around those of the analytic plan."""
    base = multistep(schedule, times, order=memory)
    A, B = base.A.copy(), np.zeros((len(base), memory))
    B[:, : base.B.shape[1]] = base.B
    state = targets[0]
    estimates: list[Tensor] = []
    for i in range(len(base)):
        t = torch.full((len(state),), base.t[i], dtype=torch.float64, device=state.device)
        estimates = [denoiser(state, t, **conditions), *estimates][:memory]
        basis = torch.stack([k.flatten().double() for k in (state, *estimates)], 1)
        start = torch.tensor([A[i, 0], *B[i, : len(estimates)]], dtype=torch.float64)
        start = start.to(basis)
        missing = targets[i + 1].flatten().double() - basis @ start
        gram = basis.T @ basis
        damped = gram + ridge / len(state) * torch.diag(torch.diag(gram))
        weights = start + torch.linalg.solve(damped, basis.T @ missing)
        A[i, 0], B[i, : len(estimates)] = float(weights[0]), weights[1:].cpu().numpy()
        state = (basis @ weights).reshape(state.shape).to(state.dtype)
    fitted: Plan = replace(base, A=A, B=B)
    return fitted
