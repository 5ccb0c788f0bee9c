"""Samplers of tokens against the enumerated truth: no drawing, so no noise in the figures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from suffuse.bench import Context, Result
from suffuse.diffusion import Categorical, Discrete, schedules, solvers
from suffuse.plugins.contracts import Metric

__all__ = ["KERNELS", "SAMPLERS", "Tokens", "cases"]

BUDGETS = (4, 8, 16, 32, 64)
KERNELS = ("absorbing", "uniform", "marginal")
SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ancestral": ("ancestral", {}),
    "reveal": ("reveal", {}),
    "remask": ("remask", {}),
    "tau-leaping": ("tau-leaping", {}),
    "tau-leaping, corrected": ("tau-leaping", {"eta": 0.5}),
    "renoise": ("renoise", {}),
}


@dataclass(frozen=True)
class Tokens:
    """Total variation between where a sampler ends and the data, with the exact denoiser.

    The data are three tokens of three categories, their joint distribution drawn from the seed;
    the sampler's distribution is carried through all its steps as a vector over all states. The
    order is the slope between the two largest budgets.
    """

    task: str
    model: str
    seed: int
    kernel: str
    solver: str
    options: dict[str, Any] = field(default_factory=dict)
    budgets: tuple[int, ...] = BUDGETS

    @property
    def measures(self) -> tuple[str, ...]:
        """Whose code decides the figures."""
        return ("suffuse.diffusion",)

    def run(self, context: Context) -> Result:
        """Total variation at every budget, and the measured order."""
        random = torch.Generator().manual_seed(self.seed)
        drawn = torch.rand(3, 3, 3, generator=random, dtype=torch.float64)
        truth = Discrete((-drawn.log()) / (-drawn.log()).sum())
        marginal = (0.5, 0.3, 0.2) if self.kernel == "marginal" else None
        process = Categorical(schedules.flow(), 3, self.kernel, marginal)
        found: dict[int, float] = {}
        for calls in self.budgets:
            plan = solvers.plan(self.solver, schedules.flow(), steps=calls, **self.options)
            found[calls] = truth.total_variation(truth.propagate(process, plan))
        metrics = [Metric(f"{n} calls", v, v, v, "lower", n=1) for n, v in found.items()]
        (n, a), (m, b) = list(found.items())[-2:]
        order = math.log(a / b) / math.log(m / n) if min(a, b) > 0 else 0.0
        metrics.append(Metric("order", order, order, order, "higher", n=1))
        return Result(metrics)


def cases(seeds: int) -> Iterator[Tokens]:
    """Every sampler on every kernel."""
    for kernel in KERNELS:
        for name, (solver, options) in SAMPLERS.items():
            for seed in range(seeds):
                yield Tokens(f"discrete/{kernel}", name, seed, kernel, solver, options)
