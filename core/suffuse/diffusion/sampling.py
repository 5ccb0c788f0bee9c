"""One loop for every process: walk the rows, ask the denoiser, let the process take the step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, overload

import torch
from torch import Tensor

from suffuse.diffusion.noise import Noise
from suffuse.diffusion.plan import JointPlan, Plan
from suffuse.diffusion.process import Denoiser, Gaussian, Process, Registers, State, by_name, masked
from suffuse.errors import SuffuseError
from suffuse.kernels.plan_step import Coefficient

__all__ = ["Step", "sample"]

Project = Callable[[State, State, Any], State]
"""(clean estimate, x_t, t) -> the clean estimate to go on with."""


@dataclass(frozen=True, slots=True)
class Step:
    """What `on_step` is told after each row.

    Attributes:
        index, calls: the row's place, from 0, and how many rows there are.
        t, s: times before and after; numbers, or tensors [1, *axes]; by name for a product.
        x, denoised: the state reached and the clean estimate that led there, [B, ...].
        registers: what the next row needs: with `start=index + 1`, sampling goes on from here.
        sizes: of ragged states, [B], where a model makes them.
    """

    index: int
    calls: int
    t: Any
    s: Any
    x: State
    denoised: State
    registers: Registers
    sizes: Tensor | None = None


@overload
def sample(denoiser: Denoiser, plan: Plan, **options: Any) -> Tensor: ...


@overload
def sample(denoiser: Denoiser, plan: Mapping[str, Plan], **options: Any) -> dict[str, Tensor]: ...


def sample(
    denoiser: Denoiser,
    plan: Plan | Mapping[str, Plan],
    *,
    x: State | None = None,
    noise: Noise | None = None,
    shape: Any = None,
    process: Process | None = None,
    start: int = 0,
    registers: Registers | None = None,
    on_step: Callable[[Step], None] | None = None,
    mask: State | None = None,
    project: Project | None = None,
    compiled: bool = False,
    **conditions: Any,
) -> Any:
    """x_0 from noise, by a plan.

    For a product of processes states, shapes, masks, times and plans are mappings by the names of
    its parts.

    Args:
        denoiser: (x_t, t [B] or [B, *axes], **conditions) -> the clean estimate.
        plan: the sampler's table.
        x: the state at the plan's first time, [B, ...]; drawn from the prior where None.
        noise: one source a sample; needed where x is None or the plan is stochastic.
        shape: of one state; needed where x is None.
        process: whose step is taken; the Gaussian process of the plan's schedule where None.
        start: the first row to run, with the `registers` of the row before it.
        on_step: called after each row.
        mask: True where an element belongs to a ragged state, over the leading axes of x; the state
            is 0 elsewhere, all the way. The denoiser is given it as the condition "mask".
        project: (clean estimate, x_t, t) -> the clean estimate to go on with, for what is known of
            clean states.
        compiled: rows run by `torch.compile`, denoiser, guidance and step in one. The first takes
            seconds to minutes; it serves plans of any method, length, order and noise.
        conditions: handed to the denoiser.

    Returns:
        States [B, ...] in the dtype of x. Inputs are not written to.

    Raises:
        SuffuseError: where noise, a shape, a process or registers are missing, there are not as
            many sources of noise as states, or the plan is not one of the process's.

    >>> from suffuse.diffusion import oracle, schedules, solvers
    >>> exact = oracle.Gaussian(mean=torch.zeros(2), covariance=torch.eye(2))
    >>> plan = solvers.plan("ddim", schedules.cosine(), steps=5)
    >>> sample(exact.denoiser(plan.schedule), plan, noise=Noise(0, 3), shape=(2,)).shape
    torch.Size([3, 2])
    """
    table = plan if isinstance(plan, Plan) else JointPlan(plan)
    process = prepared(table, process, noise, conditions)
    if not 0 <= start <= len(table) or (start and registers is None and table.depth != (1, 1)):
        raise SuffuseError(
            f"sampling goes on from row 0 to {len(table)}, with registers=... of the row before "
            f"where the plan looks back; given start={start}. To begin at a later time make the "
            "plan with solvers.plan(..., begin=...)"
        )
    if registers is None:
        registers = Registers((masked(drawn(table, process, x, noise, shape), mask),), ())
    if mask is not None:
        conditions["mask"] = mask
    one = first_tensor(registers.states[0])
    rows, depth, run = table.rows, table.depth, advance
    if compiled:
        depth = _deepest(table)
        registers, run = _filled(registers, depth), _compiled()
    if compiled or not one.is_cpu:
        rows = table.on(one.device, depth)
    (depth_a, depth_b), estimates = depth, registers.estimates
    states = registers.states[:depth_a]
    take = process.renoise if table.law == "renoise" else process.step
    walk = zip(rows, table.times(len(one), one.device), strict=True)
    for i, (row, t) in enumerate(islice(walk, start, None), start):
        before = estimates[: depth_b - 1]
        denoised, x = run(denoiser, take, row, t, states, before, noise, mask, project, conditions)
        states, estimates = (x, *states[: depth_a - 1]), (denoised, *before)
        if on_step is not None:
            on_step(_told(table.rows[i], len(table), Registers(states, estimates)))
    return states[0]


def advance(
    denoiser: Denoiser,
    take: Callable[[Any, Registers, Noise | None], State],
    row: Any,
    t: Any,
    states: tuple[State, ...],
    estimates: tuple[State, ...],
    noise: Noise | None,
    mask: State | None,
    project: Project | None,
    conditions: Mapping[str, Any],
) -> tuple[State, State]:
    """One row: the clean estimate, and the state that it leads to."""
    x = states[0]
    denoised = denoiser(x, t, **conditions)
    if project is not None:
        denoised = project(denoised, x, t)
    return denoised, masked(take(row, Registers(states, (denoised, *estimates)), noise), mask)


DEEPEST = 4, 5
"""How many states and estimates compiled rows look back on: as many as any method of ours."""


def _deepest(table: Plan | JointPlan) -> tuple[int, int]:
    """The depth of compiled rows: one for all affine plans, so that they share a compilation."""
    (a, b), (deep_a, deep_b) = table.depth, DEEPEST
    return (max(a, deep_a), max(b, deep_b)) if table.law == "affine" else (a, b)


def _filled(registers: Registers, depth: tuple[int, int]) -> Registers:
    """The registers with zeros for those that are still empty, so that all rows have as many."""
    x = registers.states[0]

    def fill(kept: tuple[State, ...], n: int) -> tuple[State, ...]:
        return *kept, *(by_name(torch.zeros_like, x) for _ in range(n - len(kept)))

    return Registers(fill(registers.states, depth[0]), fill(registers.estimates, depth[1]))


@functools.cache
def _compiled() -> Any:
    return torch.compile(advance)


def _told(row: Any, calls: int, registers: Registers) -> Step:
    """What `on_step` is told after a row, or the rows of a product's parts."""
    index = next(iter(row.values())).index if isinstance(row, Mapping) else row.index
    t, s = by_name(lambda r: r.t, row), by_name(lambda r: r.s, row)
    return Step(index, calls, t, s, registers.states[0], registers.estimates[0], registers)


def first_tensor(x: State) -> Tensor:
    """The state, or the first of a mapping's."""
    while isinstance(x, Mapping):
        x = next(iter(x.values()))
    found: Tensor = x
    return found


def expanded(t: Coefficient, x: Tensor) -> Tensor:
    """The time of a row as the denoiser takes it, float64, [B] or [B, *axes]."""
    if isinstance(t, Tensor):
        return t.to(x.device).expand(len(x), *t.shape[1:])
    return torch.full((len(x),), t, dtype=torch.float64, device=x.device)


def prepared(
    table: Plan | JointPlan,
    process: Process | None,
    noise: Noise | None,
    conditions: Mapping[str, Any],
) -> Process:
    """The process that takes a plan's steps, under these conditions."""
    if process is None:
        if not isinstance(table, Plan):
            raise SuffuseError("plans by name are for a product: give process=Product(...)")
        process = Gaussian(table.schedule)
    process = process.given(conditions)
    process.check(table)
    if noise is None and table.stochastic:
        raise SuffuseError("the plan adds noise: give a source of noise, noise=Noise(seed, n)")
    return process


def drawn(
    table: Plan | JointPlan, process: Process, x: State | None, noise: Noise | None, shape: Any
) -> State:
    """The state that a plan begins with: x, or a draw of the prior where it is None."""
    if x is not None:
        if noise is not None and len(noise) != len(first_tensor(x)):
            raise SuffuseError(
                f"each sample needs a source of noise of its own: {len(first_tensor(x))} states "
                f"and {len(noise)} sources were given"
            )
        return x
    if noise is None or shape is None:
        raise SuffuseError(
            "sampling begins with x=..., or with a draw from the prior, which needs the shape of "
            "one state and a source of noise: shape=..., noise=Noise(seed, n)"
        )
    return process.prior(noise, shape, table.begin)
