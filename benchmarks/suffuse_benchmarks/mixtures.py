r"""Gaussian mixtures as problems whose probability flow is known to ten digits.

A problem is a mixture with its exact denoiser, standardised as encoders standardise data: mean 0,
and variance 1 on average over the dimensions. With x_T ~ N(0, I) given, the probability flow has
one end x_0*, and a sampler's error there is ‖x_0 − x_0*‖ / ‖x_0*‖, averaged over starting points.

The flow is integrated by the core's own pair of orders 5 and 4 in z = x / sqrt(α² + σ²) and λ, with
relative and absolute tolerances of 1e-10 for every sample, down to σ/α = 1e-7, where the clean
estimate is the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from suffuse.diffusion import Denoiser, Schedule, ode, oracle

__all__ = ["BUDGETS", "SHAPES", "Problem", "problems"]

BUDGETS = (5, 8, 10, 15, 20, 40)
"""Network calls."""

SHAPES = (
    (2, 6, 0.2),
    (8, 10, 0.1),
    (8, 10, 0.3),
    (16, 10, 0.2),
    (16, 10, 0.3),
    (16, 10, 0.1),
    (32, 10, 0.2),
    (32, 30, 0.1),
    (64, 10, 0.3),
    (64, 20, 0.15),
)
"""Dimensions, components, and the components' mean width."""


@dataclass(frozen=True)
class Problem:
    """A mixture, starting points and, for guidance, a part of its components.

    Attributes:
        mixture: float64.
        start: starting points, x_T, [N, D], the same for every schedule.
        guidance: 1, or the weight on the difference between the condition "one of the first three
            components" and none.
    """

    mixture: oracle.Mixture
    start: Tensor
    guidance: float = 1.0

    def denoiser(self, schedule: Schedule) -> Denoiser:
        """The exact clean estimate under a schedule."""
        everything = self.mixture.denoiser(schedule)
        if self.guidance == 1.0:
            return everything
        m = self.mixture
        part = oracle.Mixture(m.weights[:3] / m.weights[:3].sum(), m.means[:3], m.variances[:3])
        some = part.denoiser(schedule)

        def guided(x_t: Tensor, t: Tensor, **conditions: Any) -> Tensor:
            unconditional = everything(x_t, t)
            return unconditional + self.guidance * (some(x_t, t) - unconditional)

        return guided

    def end(self, schedule: Schedule, tolerance: float = 1e-10) -> Tensor:
        """Where the probability flow brings the starting points, [N, D]."""
        levels = (-16.0, math.log(1e7))
        return ode.sample_adaptive(
            self.denoiser(schedule),
            schedule,
            self.start,
            lam=levels,
            rtol=tolerance,
            atol=tolerance,
        ).state[0]

    @cached_property
    def _ends(self) -> dict[str, Tensor]:
        return {}

    def errors(self, made: Tensor, schedule: Schedule) -> Tensor:
        """‖x_0 − x_0*‖ / ‖x_0*‖ of every starting point, [N]."""
        name = repr(sorted(schedule.config.items(), key=str))
        if name not in self._ends:
            self._ends[name] = self.end(schedule)
        end = self._ends[name]
        return (made.double() - end).norm(dim=1) / end.norm(dim=1)


def problems(
    seed: int,
    shapes: Sequence[tuple[int, int, float]] = SHAPES,
    starts: int = 96,
    guidance: float = 1.0,
) -> Iterator[Problem]:
    """A problem of each shape, drawn from the seed.

    Args:
        shapes: dimensions, components and mean width of each.
        starts: starting points.
        guidance: see `Problem`.
    """
    for place, (dimensions, components, width) in enumerate(shapes):
        random = torch.Generator().manual_seed(1000 * seed + place)

        def normal(*shape: int, random: torch.Generator = random) -> Tensor:
            return torch.randn(*shape, generator=random, dtype=torch.float64)

        weights = torch.softmax(normal(components) / 2, 0)
        variances = width**2 * torch.exp(normal(components) / 2)
        variances = variances * min(1.0, 0.9 / float(weights @ variances))
        means = normal(components, dimensions)
        means = means - weights @ means
        between = float((weights[:, None] * means**2).sum()) / dimensions
        means = means * math.sqrt((1 - float(weights @ variances)) / between)
        mixture = oracle.Mixture(weights, means, variances)
        yield Problem(mixture, normal(starts, dimensions), guidance)
