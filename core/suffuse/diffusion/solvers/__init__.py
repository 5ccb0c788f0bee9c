r"""Solvers: functions from a schedule and a grid to a `Plan`.

With data prediction the probability-flow equation has the exact solution, in any gauge,

    x_s = (σ_s / σ_t) x_t + α_s ∫_{λ_t}^{λ_s} e^{λ − λ_s} d(λ) dλ,

d(λ) being the clean estimate on the way. The methods differ in what they put for d between the
levels where it is known. All limits are taken in the table: a node at λ = ±∞ never enters a
polynomial, so the order drops to 1 where a step begins in pure noise or ends in clean data, and a
step of no length (a frame that keeps its level) leaves the state alone: the method never sees it.

Grids are times [n + 1] falling to 0; a matrix [n + 1, *axes] gives every frame or token its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from suffuse.diffusion.grids import GRIDS
from suffuse.diffusion.plan import Plan
from suffuse.diffusion.schedules import Schedule
from suffuse.diffusion.solvers.adams import adams
from suffuse.diffusion.solvers.discrete import ancestral, remask, renoise, reveal, tau_leaping
from suffuse.diffusion.solvers.multistep import (
    deis,
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_3m,
    dpmpp_3m_sde,
    er_sde,
    ipndm,
    lms,
    multistep,
    sa,
    unipc,
)
from suffuse.diffusion.solvers.onestep import bridge, ddim, ddpm, euler, euler_ancestral, lcm
from suffuse.diffusion.solvers.quadrature import exponential_weights, quadrature_weights
from suffuse.diffusion.solvers.runge_kutta import (
    dpm_2s,
    dpm_3s,
    dpmpp_2s,
    flow_euler,
    flow_midpoint,
    flow_rk4,
    heun,
    pndm,
    restart,
)
from suffuse.diffusion.solvers.table import Array, Solver, solver
from suffuse.diffusion.tuning import tune
from suffuse.errors import SuffuseError, unknown

__all__ = [
    "ALL",
    "DEFAULT",
    "DISCRETE",
    "SOLVERS",
    "Solver",
    "exponential_weights",
    "plan",
    "quadrature_weights",
    "solver",
    "tune",
]

DEFAULT = "adams"
"""The solver that is taken where none is named."""

SOLVERS: dict[str, Any] = {
    "adams": adams,
    "ddim": ddim,
    "ddpm": ddpm,
    "deis": deis,
    "dpm-2s": dpm_2s,
    "dpm-3s": dpm_3s,
    "dpmpp-2m": dpmpp_2m,
    "dpmpp-2m-sde": dpmpp_2m_sde,
    "dpmpp-2s": dpmpp_2s,
    "dpmpp-3m": dpmpp_3m,
    "dpmpp-3m-sde": dpmpp_3m_sde,
    "er-sde": er_sde,
    "euler": euler,
    "euler-ancestral": euler_ancestral,
    "flow-euler": flow_euler,
    "flow-midpoint": flow_midpoint,
    "flow-rk4": flow_rk4,
    "heun": heun,
    "ipndm": ipndm,
    "lcm": lcm,
    "lms": lms,
    "multistep": multistep,
    "pndm": pndm,
    "restart": restart,
    "sa": sa,
    "unipc": unipc,
}
"""For Gaussian states."""

DISCRETE: dict[str, Any] = {
    "ancestral": ancestral,
    "remask": remask,
    "renoise": renoise,
    "reveal": reveal,
    "tau-leaping": tau_leaping,
}
"""For categorical states; "renoise" for all."""

ALL: dict[str, Any] = {**SOLVERS, **DISCRETE, "bridge": bridge}
"""Every solver of the core by name."""


def plan(
    solver: str | Solver = DEFAULT,
    schedule: Schedule | None = None,
    *,
    steps: int = 20,
    grid: str | Mapping[str, Any] | Array | Sequence[float] | None = None,
    begin: float = 1.0,
    **options: Any,
) -> Plan:
    """A plan of at most `steps` network calls.

    Args:
        solver: a name in `ALL`, or a function (schedule, grid, **options) -> Plan.
        schedule: the schedule of the model.
        steps: the most calls of the network; not used where `grid` holds times.
        grid: a name in `grids.GRIDS`, such a "name" with the grid's options, or times falling to 0,
            [n + 1] or [n + 1, *axes]; where None, the one that the solver is made for: "balanced"
            for the default, else "uniform".
        begin: the time at which sampling starts; below 1 for image-to-image.
        options: the solver's own.

    Raises:
        SuffuseError: for unknown names, and for fewer steps than the method needs.

    >>> from suffuse.diffusion import schedules
    >>> len(plan("heun", schedules.cosine(), steps=12))
    12
    """
    if schedule is None:
        raise SuffuseError("a plan needs the model's schedule: plan(..., schedule=schedule)")
    if isinstance(solver, str):
        if solver not in ALL:
            raise unknown("solver", solver, ALL)
        solver = ALL[solver]
    assert not isinstance(solver, str)
    if grid is None:
        grid = getattr(solver, "grid", "uniform")  # a plain function need not say
    if not isinstance(grid, str | Mapping):
        return solver(schedule, np.asarray(grid, dtype=np.float64), **options)
    chosen = {"name": grid} if isinstance(grid, str) else dict(grid)
    name = str(chosen.pop("name", ""))
    if name not in GRIDS:
        raise unknown("grid", name, GRIDS)
    if not 1 <= steps <= 100_000 or not 0 < begin <= 1:
        raise SuffuseError(
            "sampling takes 1 step or more, up to 100,000, from a time in (0, 1]; given "
            f"{steps} and {begin}"
        )

    def of(n: int) -> Plan:
        assert schedule is not None
        assert not isinstance(solver, str)
        return solver(schedule, GRIDS[name](schedule, n, begin, **chosen), **options)

    # Steps cost different numbers of calls (one from pure noise, several in the middle), so the
    # method's own rule is a first guess.
    intervals = getattr(solver, "intervals", None)
    n = steps if intervals is None else intervals(steps)
    best = of(n)
    while len(best) > steps:
        n -= 1
        if n < 1:
            raise SuffuseError(f"{best.solver!r} needs {len(best)} network calls, and not {steps}")
        best = of(n)
    while len(best) < steps and len(more := of(n + 1)) <= steps:
        best, n = more, n + 1
    return best
