r"""A plan made for one model and one budget.

On a fine trajectory of the model the states and the estimates are known at every level. From there
a plan is fitted in two stages.

* **The grid.** How well a step from i to j can do at best, having come from h, is the residual of
  x_j on the span of x_i, d_i and d_h; it follows from inner products alone, without a call. Dynamic
  programming over pairs of levels finds the levels whose residuals sum to the least.
* **Times and coefficients.** Each row has a level at which it asks, a coefficient of the state, and
  one of every estimate that it remembers. All of them are moved together by Gauss and Newton's
  method, damped, towards the ends of the trajectories: the derivative of a sample in a number of
  row i is what the later rows make of a small change after row i. The denoiser is only asked, and
  need not be differentiable.

A part of the trajectories is kept aside, and counts in what is accepted: a damping, a round, and
one of the two beginnings, which are the default plan and its solver on the grid that was found.

The grid is in the spirit of GITS (Chen et al. 2024, arXiv 2405.11326); rows whose numbers are all
free are those of bespoke non-stationary solvers (Shaul et al. 2024, arXiv 2403.01329), fitted to
the ends of trajectories as S4S does (Frankel et al. 2025, arXiv 2502.17423).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suffuse.diffusion.grids import balanced
from suffuse.diffusion.plan import Plan
from suffuse.diffusion.process import Denoiser, Registers
from suffuse.diffusion.sampling import Step, sample
from suffuse.diffusion.schedules import Schedule
from suffuse.diffusion.solvers.adams import adams
from suffuse.diffusion.solvers.table import Array
from suffuse.errors import SuffuseError

__all__ = ["tune"]

MEMORY = 4
"""How many estimates a row remembers."""

FITTED = 256
"""How many trajectories the derivatives are taken on at most."""

DAMPING = (1.0, 0.1, 1e-2, 1e-3, 1e-4)
"""Parts of the normal equations' diagonal that are tried."""


def tune(
    denoiser: Denoiser,
    schedule: Schedule,
    *,
    calls: int,
    x: Tensor,
    levels: int = 96,
    rounds: int = 8,
    **conditions: Any,
) -> Plan:
    """The plan of `calls` network calls that suits this denoiser.

    A quarter of the trajectories is kept aside. A round costs as much as 10 · calls network calls
    on all trajectories, and 3 · calls² on at most 256 of them, in batches up to six times as large,
    with room for six copies of these for every call. Of more than that, half are those on which the
    plan errs most, as they pass near where the flow parts and there are few of them; the others
    are weighed as all that they stand for.

    Args:
        denoiser: the one that will be sampled, with its guidance.
        schedule: its schedule.
        calls: the budget.
        x: states at t = 1 to learn from, [N, *shape], N at least 4; 64 or more are
            wise, and 1,000 for 15 calls or more, where a few samples make most of the error.
        levels: of the fine trajectory, which costs about this many calls.
        rounds: of Gauss and Newton's method, at most; 0 leaves the analytic coefficients.
        conditions: handed to the denoiser, N values each.

    Returns:
        A plan without noise, named "tuned"; its options tell the mean relative error of
        the ends kept aside (which is too low, as they had a say).

    Raises:
        SuffuseError: where the budget does not lie between 1 and `levels`, or N is below 4.
    """
    if not 1 <= calls < levels:
        raise SuffuseError(f"tuning takes from 1 to {levels - 1} calls, and not {calls}")
    if len(x) < 4:
        raise SuffuseError(f"tuning needs 4 starting states or more, and not {len(x)}")
    times = balanced(schedule, levels)
    with torch.no_grad():
        steps: list[Step] = []
        fine = adams(schedule, times)
        end = sample(denoiser, fine, x=x, on_step=steps.append, **conditions)
        path = torch.stack([k.flatten().double() for k in (x, *(s.x for s in steps[:-1]), end)])
        estimates = torch.stack([step.denoised.flatten().double() for step in steps])
        found = times[_grid(path, estimates, calls)]
        fit = _Fit(denoiser, x, end, conditions)
        begun = [adams(schedule, grid) for grid in (balanced(schedule, calls), found)]
        best, _ = min((fit.moved(plan, rounds) for plan in begun), key=lambda k: k[1])
        options = {"calls": len(best), "trajectories": len(x), "error": fit.errors(best)[0]}
    return replace(best, solver="tuned", options=options)


class _Fit:
    """Trajectories' beginnings and ends, those kept aside first."""

    def __init__(
        self, denoiser: Denoiser, x: Tensor, end: Tensor, conditions: dict[str, Any]
    ) -> None:
        self.denoiser, self.x, self.end, self.conditions = denoiser, x, end, conditions
        self.aside = max(len(x) // 4, 1)
        self.fitted = torch.arange(self.aside, len(x), device=x.device)
        self.share = torch.ones(len(self.fitted), dtype=torch.float64, device=x.device)
        self.size = end.flatten(1).double().norm(dim=1)
        self.small = 1e-4 if x.dtype == torch.float64 else 3e-3

    def far(self, plan: Plan) -> Tensor:
        """The relative error of every end, [N]."""
        found = sample(self.denoiser, plan, x=self.x, **self.conditions)
        far: Tensor = (found - self.end).flatten(1).double().norm(dim=1) / self.size
        return far

    def errors(self, plan: Plan) -> tuple[float, float]:
        """The mean relative error of the ends kept aside, and of the others."""
        far = self.far(plan)
        return float(far[: self.aside].mean()), float(far[self.aside :].mean())

    def moved(self, plan: Plan, rounds: int) -> tuple[Plan, float]:
        """The plan moved for so many rounds, and its errors of both parts, added."""
        width = max(MEMORY, plan.B.shape[1])
        plan = replace(plan, B=np.pad(plan.B, [(0, 0), (0, width - plan.B.shape[1])]))
        least = sum(self.errors(plan))
        if len(self.x) - self.aside > FITTED:
            worst = self.far(plan)[self.aside :].argsort(descending=True, stable=True)
            half = FITTED // 2
            self.fitted = self.aside + torch.cat([worst[:half], worst[half:].sort().values[:half]])
            self.share = torch.ones_like(self.share[:FITTED])
            self.share[half:] = (len(worst) - half) / half  # each stands for so many others
        for _ in range(rounds):
            normal, right = self._normal(plan)
            if not np.isfinite(normal).all():
                break
            whole = [
                np.linalg.lstsq(normal + damping * np.diag(np.diag(normal)), right, rcond=None)[0]
                for damping in DAMPING
            ]
            steps = [np.asarray(part * by, np.float64) for by in whole for part in (1.0, 0.3)]
            tried = [after for after in (_shifted(plan, by) for by in steps) if after is not None]
            errors = [sum(self.errors(after)) for after in tried]
            if not errors or not min(errors) < 0.99 * least:
                break
            plan, least = tried[int(np.argmin(errors))], min(errors)
        return plan, least

    def _normal(self, plan: Plan) -> tuple[Array, Array]:
        """The normal equations of Σ |x_0 − end| / |end| by changes to every row's numbers.

        Rows are walked once, and from each on a batch that holds a copy of the states for each of
        its numbers, changed a little. Squares are weighed so that they sum to the distances.
        """
        kept = self.fitted
        x, size = self.x[kept], self.size[kept]
        given = {name: value[kept] for name, value in self.conditions.items()}
        steps: list[Step] = []
        end = sample(self.denoiser, plan, x=x, on_step=steps.append, **given)
        lam = plan.schedule.at(torch.from_numpy(plan.t)).lam.numpy()
        slopes: list[Tensor] = []
        for i, step in enumerate(steps):
            state = x if i == 0 else steps[i - 1].x
            known = [steps[i - j].denoised for j in range(min(plan.B.shape[1], i + 1))]
            changed = [(step.x + self.small * y, step.denoised) for y in (state, *known)]
            if i > 0:
                t = plan.schedule.t(lam[i] + self.small).expand(len(x)).to(x.device)
                d = self.denoiser(state, t, **given)
                changed.append((step.x + float(plan.B[i, 0]) * (d - step.denoised), d))
            states, newest = (torch.cat(parts) for parts in zip(*changed, strict=True))
            if i + 1 < len(plan):
                k = len(changed)
                older = (torch.cat([d] * k) for d in known[1:])
                states = sample(
                    self.denoiser,
                    plan,
                    start=i + 1,
                    registers=Registers((states,), (newest, *older)),
                    **{name: torch.cat([value] * k) for name, value in given.items()},
                )
            slopes += ((states - torch.cat([end] * len(changed))) / self.small).chunk(len(changed))
        missing = (self.end[kept] - end).flatten(1).double()
        far = missing.norm(dim=1) / size
        weight = self.share.sqrt() / (size * (far + far.median()).sqrt().clamp(min=1e-30))
        columns = torch.stack([(s.flatten(1).double() * weight[:, None]).flatten() for s in slopes])
        right = columns @ (missing * weight[:, None]).flatten()
        return (columns @ columns.T).cpu().numpy(), right.cpu().numpy()


def _shifted(plan: Plan, by: Array) -> Plan | None:
    """The plan with its numbers moved, in the order of `_Fit._normal`; None where none is left."""
    A, B = plan.A.copy(), plan.B.copy()
    lam = plan.schedule.at(torch.from_numpy(plan.t)).lam.numpy()
    numbers = iter(by)
    for i in range(len(plan)):
        A[i, 0] += next(numbers)
        for j in range(min(B.shape[1], i + 1)):
            B[i, j] += next(numbers)
        if i > 0:
            lam[i] += next(numbers)
    t = np.append(plan.t[:1], plan.schedule.t(torch.from_numpy(lam[1:])).numpy())
    if not (np.isfinite(A).all() and np.isfinite(B).all() and (np.diff(t) < 0).all()):
        return None
    return replace(plan, t=t, s=np.append(t[1:], 0.0), A=A, B=B)


def _grid(path: Tensor, estimates: Tensor, calls: int) -> Array:
    """Indices of the levels to stop at: `calls` of them, and the last one, which is clean.

    With cost(h, i, j) the squared residual of x_j on x_i, d_i and d_h, the least sum over chains
    0 = i_0 < i_1 < ... < i_calls = last.
    """
    n = len(estimates)  # the clean level has the index n
    known = torch.cat([path, estimates])
    gram = (known @ known.T).cpu().numpy()
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
