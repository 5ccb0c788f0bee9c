"""Products: several states that are corrupted each by its own process, on one clock.

States, times, levels, noise and masks are mappings by the names of the parts, and so is what the
network takes and answers. The parts share u in training, and the rows of their plans in sampling;
their schedules, and so their noise levels at the same time, are their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from suffuse.diffusion.noise import Noise
from suffuse.diffusion.plan import JointPlan, Plan, Row
from suffuse.diffusion.process import Process, Registers, State
from suffuse.errors import SuffuseError, unknown

__all__ = ["Product", "product"]


@dataclass(frozen=True)
class Product(Process):
    """Independent corruption of the parts of a state.

    Attributes:
        parts: the process and the weight of the loss of each part, by name.

    The network is called once, with mappings of inputs and of levels, and answers with a mapping.
    A time is one for all parts, or a mapping: parts may be at different times, for instance one
    clean and given, and the other sampled.
    """

    parts: Mapping[str, tuple[Process, float]]

    def __post_init__(self) -> None:
        if not self.parts or not all(weight >= 0 for _, weight in self.parts.values()):
            raise SuffuseError(
                "a product has one part or more, each with a weight of 0 or more; given "
                f"{ {name: weight for name, (_, weight) in self.parts.items()} }"
            )

    def given(self, conditions: Mapping[str, Any]) -> Product:
        """With every part for these conditions."""
        return Product({n: (part.given(conditions), w) for n, (part, w) in self.parts.items()})

    def noise(self, source: Noise, like: State, *, step: int | Tensor, stream: int) -> State:
        """The noise of every part, from its `Noise.branch`."""
        return self._each(
            lambda n, part: part.noise(source.branch(n), like[n], step=step, stream=stream)
        )

    def prior(self, noise: Noise, shape: Mapping[str, Any], t: Any = 1.0) -> State:
        """States of every part, whose shapes are given by name."""
        for name in self.parts:
            if name not in shape:
                raise SuffuseError(f"sampling a product needs the shape of its part {name!r}")
        return self._each(lambda n, part: part.prior(noise.branch(n), shape[n], _of(t, n)))

    def corrupt(self, x_0: State, t: Any, noise: State) -> State:
        """Every part corrupted, at one time or at its own."""
        return self._each(lambda n, part: part.corrupt(x_0[n], _of(t, n), noise[n]))

    def levels(self, u: Tensor) -> dict[str, Any]:
        """The training times of every part, from the same u."""
        return self._each(lambda n, part: part.levels(u))

    def present(self, x_t: State, t: Any) -> tuple[State, Any]:
        """The inputs and the levels of every part."""
        shown = self._each(lambda n, part: part.present(x_t[n], _of(t, n)))
        return {n: x for n, (x, _) in shown.items()}, {n: level for n, (_, level) in shown.items()}

    def estimate(self, raw: State, x_t: State, t: Any) -> State:
        """The clean estimate of every part."""
        return self._each(lambda n, part: part.estimate(raw[n], x_t[n], _of(t, n)))

    def error(
        self, raw: State, x_0: State, x_t: State, t: Any, noise: State, mask: State | None
    ) -> Tensor:
        """Σ weight · error of the part, [B]."""
        seen = mask or {}
        errors = self._each(
            lambda n, part: part.error(raw[n], x_0[n], x_t[n], _of(t, n), noise[n], seen.get(n))
        )
        return torch.stack([self.parts[n][1] * error for n, error in errors.items()]).sum(0)

    def draw(self, estimate: State, source: Noise, step: int | Tensor) -> State:
        """A clean state of every part."""
        return self._each(lambda n, part: part.draw(estimate[n], source.branch(n), step))

    def check(self, plan: Plan | JointPlan) -> None:
        """Refuse plans that are not one for each part, each of its own kind.

        Raises:
            SuffuseError: naming the part.
        """
        if not isinstance(plan, JointPlan):
            raise SuffuseError(
                f"a product takes a plan for each of its parts, by name: {', '.join(self.parts)}"
            )
        for name in plan.parts:
            if name not in self.parts:
                raise unknown("part of the product", name, self.parts)
        for name, (part, _) in self.parts.items():
            if name not in plan.parts:
                raise SuffuseError(f"the product's part {name!r} has no plan")
            part.check(plan.parts[name])

    def step(self, row: Mapping[str, Row], registers: Registers, noise: Noise | None) -> State:
        """The step of every part, which may look back less far than another."""

        def take(name: str, part: Process) -> State:
            depth = len(row[name].a), len(row[name].b)
            own = Registers(
                *(
                    tuple(kept[name] for kept in kind[:n])
                    for kind, n in zip(registers, depth, strict=True)
                )
            )
            step = part.renoise if row[name].law == "renoise" else part.step
            return step(row[name], own, None if noise is None else noise.branch(name))

        return self._each(take)

    def _each(self, function: Callable[[str, Process], Any]) -> dict[str, Any]:
        return {name: function(name, part) for name, (part, _) in self.parts.items()}


def _of(t: Any, name: str) -> Any:
    return t[name] if isinstance(t, Mapping) else t


def product(parts: Mapping[str, tuple[Process, float]]) -> Product:
    """The product of processes: see `Product`."""
    return Product(dict(parts))
