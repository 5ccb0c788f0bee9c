"""From a solver's formulas to the tables of a plan.

A solver walks the levels of its grid and says for every row which combination of what is known it
answers with. What is known are the states X(r) and the clean estimates D(r) of the rows r up to the
present one; `tabulate` turns them into registers, newest first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from itertools import pairwise
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from suffuse.diffusion.plan import Plan
from suffuse.diffusion.schedules import Schedule
from suffuse.errors import SuffuseError

Array = NDArray[np.float64]
Terms = dict[tuple[str, int], float]
"""A linear combination of states and estimates: coefficients by ("x" or "d", row)."""


def X(row: int) -> Terms:  # noqa: N802
    """The state at which row `row` asks the denoiser."""
    return {("x", row): 1.0}


def D(row: int) -> Terms:  # noqa: N802
    """The clean estimate of row `row`."""
    return {("d", row): 1.0}


BEHIND: Terms = {("x", -1): 1.0}
"""What a law keeps all the way in the register behind the state (a bridge's other end)."""


def combine(*weighted: tuple[float, Terms]) -> Terms:
    """Σ weight · terms; a weight 0 leaves its terms out."""
    out: Terms = {}
    for weight, terms in weighted:
        if weight != 0.0:
            for key, k in terms.items():
                out[key] = out.get(key, 0.0) + weight * k
    return out


@dataclass(frozen=True)
class Level:
    """t, and α, σ and λ there, as numbers."""

    t: float
    alpha: float
    sigma: float
    lam: float

    @classmethod
    def at(cls, schedule: Schedule, t: float) -> Level:
        """The level of a schedule at time t."""
        return cls(t, *(float(k) for k in schedule.at(t)))

    @classmethod
    def along(cls, schedule: Schedule, times: Array) -> list[Level]:
        """The levels at many times."""
        c = schedule.at(torch.from_numpy(np.ascontiguousarray(times)))
        return [cls(*map(float, row)) for row in zip(times, *(k.numpy() for k in c), strict=True)]

    @property
    def ratio(self) -> float:
        """σ/α = e^{−λ}; inf in pure noise."""
        return math.exp(-self.lam)


@dataclass(frozen=True)
class Entry:
    """One row of one column: the times of call and of arrival, the combination, the noise."""

    t: float
    s: float
    terms: Terms
    noise: float = 0.0


class Solver(Protocol):
    """A solver, with what is known of it.

    Attributes:
        order: of convergence of its noise-free form.
        exponential: whether its weights integrate polynomials in λ exactly up to that order.
        stochastic: whether any of its options adds noise.
        grid: the name of the grid that it takes where none is asked for.
    """

    order: int
    exponential: bool
    stochastic: bool
    grid: str

    def __call__(self, schedule: Schedule, grid: Array, **options: Any) -> Plan: ...

    def intervals(self, calls: int) -> int:
        """How many steps of a grid a number of network calls buys."""


Column = Callable[[Sequence[Level]], list[Entry]]
"""The rows of a method along the levels of a grid, the noisiest first, none of them twice."""


def single(step: Callable[[int, Level, Level], tuple[Terms, float]]) -> Column:
    """One row a step: (row, level t, level s) -> the state at s and the noise in it."""

    def column(levels: Sequence[Level]) -> list[Entry]:
        return [Entry(t.t, s.t, *step(i, t, s)) for i, (t, s) in enumerate(pairwise(levels))]

    return column


def several(step: Callable[[int, Level, Level], list[Entry]]) -> Column:
    """Rows from the given number on for each step: (number, level t, level s) -> rows."""

    def column(levels: Sequence[Level]) -> list[Entry]:
        rows: list[Entry] = []
        for t, s in pairwise(levels):
            rows += step(len(rows), t, s)
        return rows

    return column


def solver(
    order: int,
    *,
    law: str = "affine",
    exponential: bool = False,
    stochastic: bool = False,
    grid: str = "uniform",
    intervals: Callable[[int], int] = lambda calls: calls,
) -> Callable[[Callable[..., Column]], Solver]:
    """Make a `Solver` of a function (schedule, **options) -> column; its plans have its name."""

    def make(function: Callable[..., Column]) -> Solver:
        name = function.__name__.replace("_", "-")

        @wraps(function)
        def plan(schedule: Schedule, grid: Array, **options: Any) -> Plan:
            return tabulate(name, schedule, grid, function(schedule, **options), law, options)

        vars(plan).update(
            order=order,
            exponential=exponential,
            stochastic=stochastic,
            grid=grid,
            intervals=intervals,
        )
        return cast(Solver, plan)

    return make


def _register(row: int, of: int) -> int:
    return row - of if of >= 0 else 1


def _along(column: Column, levels: Sequence[Level], rows: int) -> list[Entry] | None:
    """A method's rows along the levels of one column; None where they cannot be told.

    Where the column keeps its level, the state is left alone, and the method, which never sees that
    step, remembers the estimate of the row in which the column moves on. A column that never moves
    has as many rows as asked for.
    """
    moves = [i for i, (t, s) in enumerate(pairwise(levels)) if t.lam != s.lam]
    if not moves:
        return [Entry(levels[0].t, levels[0].t, X(i)) for i in range(rows)]
    entries = column([*(levels[i] for i in moves), levels[-1]])
    if len(moves) == len(levels) - 1:
        return entries
    if len(entries) > len(moves):
        return None
    out = [Entry(t.t, s.t, X(i)) for i, (t, s) in enumerate(pairwise(levels))]
    for i, e in zip(moves, entries, strict=True):
        terms = {(kind, moves[r] if r >= 0 else r): k for (kind, r), k in e.terms.items()}
        out[i] = Entry(e.t, e.s, terms, e.noise)
    return out


def tabulate(
    name: str,
    schedule: Schedule,
    grid: Array,
    column: Column,
    law: str,
    options: dict[str, Any],
) -> Plan:
    """Run `column` down every column of the grid, and put the rows into tables of equal width.

    Raises:
        SuffuseError: for a grid that does not fall within [0, 1], or whose columns need different
            numbers of rows.
    """
    grid = np.asarray(grid, dtype=np.float64)
    falls = np.diff(grid, axis=0)
    if len(grid) < 2 or not (falls <= 0).all() or grid.max() > 1 or grid.min() < 0:
        raise SuffuseError(
            "a grid is two times or more, falling within [0, 1]; given "
            + np.array2string(grid, threshold=8)
        )
    if grid.ndim == 1 and not (falls < 0).all():
        raise SuffuseError("a grid may not hold the same time twice")
    flat = grid.reshape(len(grid), -1)
    ways = [Level.along(schedule, times) for times in flat.T]
    columns: list[list[Entry]] = []
    # those that move most come first, as they tell how many rows there are
    order = sorted(range(len(ways)), key=lambda j: -len({level.lam for level in ways[j]}))
    for j in order:
        entries = _along(column, ways[j], len(columns[0]) if columns else len(ways[j]) - 1)
        if entries is None or len(entries) != len((columns or [entries])[0]):
            raise SuffuseError(
                f"{name!r} needs different numbers of calls for different levels of this grid; "
                "give every frame or token the same number of steps, or take a multistep solver"
            )
        columns.append(entries)
    rows = len(columns[0])
    cells = [
        (kind, i, _register(i, r), j, k)
        for j, entries in zip(order, columns, strict=True)
        for i, e in enumerate(entries)
        for (kind, r), k in e.terms.items()
    ]
    depth = {kind: 1 + max([c[2] for c in cells if c[0] == kind], default=0) for kind in "xd"}
    tables = {kind: np.zeros((rows, width, len(columns))) for kind, width in depth.items()}
    for kind, i, register, j, k in cells:
        tables[kind][i, register, j] = k
    scalars = np.zeros((3, rows, len(columns)))
    for j, entries in zip(order, columns, strict=True):
        scalars[:, :, j] = np.array([(e.t, e.s, e.noise) for e in entries]).T
    axes = grid.shape[1:]
    t, s, noise = scalars.reshape(3, rows, *axes)
    A, B = (tables[kind].reshape(rows, depth[kind], *axes) for kind in ("x", "d"))
    return Plan(name, schedule, t=t, s=s, A=A, B=B, C=noise, options=options, law=law)
