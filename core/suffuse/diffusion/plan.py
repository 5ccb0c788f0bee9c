"""A Gaussian sampler is a table.

Every linear method, ordinary or stochastic, of one step or several, is a list of rows

    x' = Σ_j A_j x_j + Σ_j B_j d_j + C z

over registers of earlier states x_j (x_0 the present one) and clean estimates d_j (d_0 the one that
this row asks of the denoiser, at the present state), with fresh standard normal noise z. A solver
is a function that computes such a table, in float64, once; the sampling loop only reads it.

That is the law of Gaussian rows, "affine". Other processes read the same three tables by a law of
their own, which the plan names and the process checks.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from suffuse.diffusion.schedules import Schedule, schedule
from suffuse.errors import SuffuseError
from suffuse.kernels.plan_step import Coefficient

__all__ = ["JointPlan", "Plan", "Row"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """One row, ready for use: coefficients are numbers, or tensors [1, *axes] for levels with axes.

    In `Plan.on` all are tensors.

    Attributes:
        index: the row's place in the plan.
        t, s: the time at which the denoiser is asked, and the time that the row reaches.
        a, b, c: coefficients of states, estimates (newest first) and noise.
        law: how the process reads them.
    """

    index: int | Tensor
    t: Coefficient
    s: Coefficient
    a: Sequence[Coefficient]
    b: Sequence[Coefficient]
    c: Coefficient
    law: str = "affine"


@dataclass(frozen=True)
class Plan:
    """A sampler's table, float64.

    With R rows, K state registers and M estimate registers, and `axes` empty for one noise level a
    sample or, for instance, (F,) for a level for each frame:

    Attributes:
        solver: the name of the method.
        schedule: the schedule that it was computed for.
        t, s: times of the denoiser's call and of the state reached, [R, *axes].
        A: [R, K, *axes]. B: [R, M, *axes]. C: [R, *axes].
        options: what the solver was asked for, plain values.
        law: how the rows are read, and so for which processes they are.
    """

    solver: str
    schedule: Schedule
    t: Array
    s: Array
    A: Array
    B: Array
    C: Array
    options: dict[str, Any] = field(default_factory=dict)
    law: str = "affine"

    def __post_init__(self) -> None:
        for name in "tsABC":
            if not np.isfinite(getattr(self, name)).all():
                raise SuffuseError(
                    f"the plan of {self.solver!r} has numbers that are not finite in {name}: the "
                    "grid has times that this method cannot take (twice the same, or its ends)"
                )

    def __len__(self) -> int:
        """The number of rows, which is the number of network calls."""
        return len(self.t)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The rows, the noisiest first."""

        def entry(k: Any) -> Coefficient:
            return float(k) if np.ndim(k) == 0 else torch.from_numpy(np.asarray(k)[None])

        t, s, c = ([entry(k) for k in table] for table in (self.t, self.s, self.C))
        a, b = ([tuple(map(entry, row)) for row in table] for table in (self.A, self.B))
        parts = zip(range(len(self)), t, s, a, b, c, [self.law] * len(self), strict=True)
        return tuple(itertools.starmap(Row, parts))

    def on(self, device: torch.device, depth: tuple[int, int] = (0, 0)) -> tuple[Row, ...]:
        """The rows with tensors for all numbers, for loops that are compiled or recorded.

        Args:
            device: where the tensors are.
            depth: how many coefficients of states and of estimates a row has at least; those that
                the plan does not know are 0.

        Returns:
            Rows with index [], t, s and c [1, *axes], a [K, 1, *axes] and b [M, 1, *axes]; the same
            tensors at every call.
        """

        def wide(table: Array, least: int) -> Array:
            more = np.zeros((len(self), max(least - table.shape[1], 0), *table.shape[2:]))
            return np.concatenate([table, more], 1)[:, :, None]

        def made() -> tuple[Row, ...]:
            tables = (
                self.t[:, None],
                self.s[:, None],
                wide(self.A, depth[0]),
                wide(self.B, depth[1]),
            )
            parts = [torch.from_numpy(k).to(device).unbind() for k in (*tables, self.C[:, None])]
            index = torch.arange(len(self)).to(device).unbind()
            law = [self.law] * len(self)
            return tuple(itertools.starmap(Row, zip(index, *parts, law, strict=True)))

        rows: tuple[Row, ...] = self._kept((device, depth), made)
        return rows

    def times(self, n: int, device: torch.device) -> tuple[Tensor, ...]:
        """The time of each row as the denoiser of n samples takes it, float64, [n, *axes]."""
        t: Tensor = self._kept(device, lambda: torch.from_numpy(self.t).to(device)[:, None])
        return tuple(t.expand(-1, n, *t.shape[2:]).contiguous().unbind())

    def _kept(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` makes, once for each key: recorded loops go on reading the tensors."""
        kept = self.__dict__.setdefault("_tensors", {})
        if key not in kept:
            with torch.inference_mode(False):
                made = make()
            one = made if isinstance(made, Tensor) else made[0].t
            if type(one) is not Tensor:  # fake tensors are not kept
                return made
            kept[key] = made
        return kept[key]

    @property
    def begin(self) -> Coefficient:
        """The first time: a number, or a tensor [1, *axes]."""
        return self.rows[0].t

    @property
    def depth(self) -> tuple[int, int]:
        """How many states and how many estimates the rows look back on."""
        return self.A.shape[1], self.B.shape[1]

    @cached_property
    def stochastic(self) -> bool:
        """Whether any row draws noise."""
        return self.law not in ("affine", "bridge") or bool((self.C != 0).any())

    def to_json(self) -> str:
        """The whole table as JSON, from which `from_json` makes an equal plan."""
        tables = {name: getattr(self, name).tolist() for name in "tsABC"}
        head = {"solver": self.solver, "options": self.options, "schedule": self.schedule.config}
        return json.dumps(head | {"law": self.law} | tables)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that `to_json` wrote."""
        data = json.loads(text)
        tables = {name: np.asarray(data[name], dtype=np.float64) for name in "tsABC"}
        return cls(
            data["solver"],
            schedule(**data["schedule"]),
            options=data["options"],
            law=data.get("law", "affine"),
            **tables,
        )

    def __str__(self) -> str:
        """The table for people: a line a row."""
        if self.t.ndim > 1:
            return f"{self.solver}: {len(self)} rows with levels of shape {self.t.shape[1:]}"
        lines = [f"{self.solver}: {len(self)} network calls", f"{'t':>9} {'s':>9}   A | B | C"]
        for i in range(len(self)):
            a, b = (
                " ".join(f"{k:+.5f}" for k in np.trim_zeros(table[i], "b"))
                for table in (self.A, self.B)
            )
            lines.append(f"{self.t[i]:9.5f} {self.s[i]:9.5f}   {a} | {b} | {self.C[i]:.5f}")
        return "\n".join(lines)


@dataclass(frozen=True)
class JointPlan:
    """A plan for each part of a product, walked together row by row.

    Raises:
        SuffuseError: where the parts have different numbers of rows.
    """

    parts: Mapping[str, Plan]
    law: str = "joint"

    def __post_init__(self) -> None:
        rows = {name: len(plan) for name, plan in self.parts.items()}
        if len(set(rows.values())) != 1:
            raise SuffuseError(
                "the plans of a product walk together and need the same number of rows; given "
                f"{rows}"
            )

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    @property
    def rows(self) -> tuple[dict[str, Row], ...]:
        """The rows of every part, by name."""
        return self._by_name(lambda plan: plan.rows)

    def on(
        self, device: torch.device, depth: tuple[int, int] = (0, 0)
    ) -> tuple[dict[str, Row], ...]:
        """The rows of every part with tensors for numbers: see `Plan.on`."""
        return self._by_name(lambda plan: plan.on(device, depth))

    def times(self, n: int, device: torch.device) -> tuple[dict[str, Tensor], ...]:
        """The times of every part: see `Plan.times`."""
        return self._by_name(lambda plan: plan.times(n, device))

    def _by_name(self, function: Callable[[Plan], Sequence[Any]]) -> tuple[dict[str, Any], ...]:
        each = zip(*(function(plan) for plan in self.parts.values()), strict=True)
        return tuple(dict(zip(self.parts, row, strict=True)) for row in each)

    @property
    def begin(self) -> dict[str, Coefficient]:
        """The first time of every part."""
        return {name: plan.begin for name, plan in self.parts.items()}

    @property
    def depth(self) -> tuple[int, int]:
        """The most states and the most estimates that any part looks back on."""
        depths = [plan.depth for plan in self.parts.values()]
        return max(a for a, _ in depths), max(b for _, b in depths)

    @property
    def stochastic(self) -> bool:
        """Whether any part draws noise."""
        return any(plan.stochastic for plan in self.parts.values())
