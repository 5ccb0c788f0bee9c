r"""Diffusion on a manifold of shapes: Brownian motion, and every linear sampler, by exp and log.

A clean state x_0 walks at random for the time σ², so that its noisy state x_t follows the heat
kernel p_σ(x_t | x_0). With the score s = ∇ log p of the noisy states, the clean estimate is

    d = exp_{x_t}(σ² s),

which on flat spaces is Tweedie's mean of x_0. The schedule is variance exploding (α = 1). There the
coefficients of a sampler's row sum to one, so that a row Σ_j A_j x_j + Σ_j B_j d_j + C z of a flat
space says how to go from the present state x,

    x' = exp_x(Σ_j A_j log_x(x_j) + Σ_j B_j log_x(d_j) + C z),

which is the same in flat space, and a step along geodesics elsewhere (a geodesic random walk where
C is not 0). So plans of all linear solvers serve manifolds too.

Sources: De Bortoli et al., "Riemannian score-based generative modelling" (2022), arXiv 2202.02763;
Jing et al., "Torsional diffusion" (2022), arXiv 2206.01729; Yim et al., "SE(3) diffusion model"
(2023), arXiv 2302.02277.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from suffuse.diffusion import Noise
from suffuse.diffusion.plan import Row
from suffuse.diffusion.process import Process, Registers, align, mean_over, network_level
from suffuse.diffusion.schedules import Schedule
from suffuse.errors import SuffuseError

__all__ = ["Manifold"]


@dataclass(frozen=True)
class Manifold(Process):
    """Brownian motion on a manifold. The network answers with the score in units of its deviation.

    States are [B, *shape]; a tangent vector at a state has the state's leading axes and, last, its
    own (`tangent`).

    Attributes:
        schedule: the clock, variance exploding: σ is how far a state has walked, in radians.
    """

    schedule: Schedule
    laws: ClassVar[frozenset[str]] = frozenset({"affine"})

    def __post_init__(self) -> None:
        if self.schedule.gauge != "ve":
            raise SuffuseError(
                "angles and rotations walk away from their clean state and are never scaled: they "
                "need a variance exploding schedule, for instance 'geometric' or 'edm', and this "
                f"one is {self.schedule.config.get('name', self.schedule.gauge)!r}"
            )

    @abstractmethod
    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """The state at the end of the geodesic that leaves x with the velocity v."""

    @abstractmethod
    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The velocity of the shortest geodesic from x to y."""

    @abstractmethod
    def score(self, x_t: Tensor, x_0: Tensor, sigma: Tensor) -> Tensor:
        """∇ log p_σ(x_t | x_0) at x_t, a tangent vector; σ broadcasts over tangent vectors."""

    @abstractmethod
    def spread(self, sigma: Tensor) -> Tensor:
        """The root mean square of one component of the score, of the shape of σ; 1/σ for small."""

    @abstractmethod
    def walk(self, x_0: Tensor, sigma: Tensor, z: Tensor) -> Tensor:
        """x_t drawn from the heat kernel by standard normal numbers, tangent vectors z."""

    @abstractmethod
    def tangent(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a tangent vector at a state of the given shape."""

    def noise(self, source: Noise, like: Tensor, *, step: int, stream: int) -> Tensor:
        """Standard normal tangent vectors."""
        wide = torch.float64 if like.dtype == torch.float64 else torch.float32
        shape = self.tangent(tuple(like.shape[1:]))
        return source.normal(shape, step=step, stream=stream, dtype=wide)

    def corrupt(self, x_0: Tensor, t: Any, noise: Tensor) -> Tensor:
        """The state after walking for σ²; in the dtype of x_0."""
        return self.walk(x_0, self._sigma(t, noise), noise).to(x_0.dtype)

    def present(self, x_t: Tensor, t: Any) -> tuple[Tensor, Any]:
        """The state as it is, and the level."""
        return x_t, network_level(self.schedule.at(t).lam).to(x_t.device)

    def estimate(self, raw: Tensor, x_t: Tensor, t: Any) -> Tensor:
        """exp_{x_t}(σ² s), for the score s = raw · spread(σ)."""
        sigma = self._sigma(t, raw)
        return self.exp(x_t, sigma**2 * self.spread(sigma) * raw)

    def error(
        self, raw: Tensor, x_0: Tensor, x_t: Tensor, t: Any, noise: Tensor, mask: Tensor | None
    ) -> Tensor:
        """The squared error of the score in units of its mean square, over components; [B]."""
        sigma = self._sigma(t, raw)
        wanted = self.score(x_t, x_0, sigma) / self.spread(sigma)
        return mean_over((raw - wanted) ** 2, mask)

    def step(self, row: Row, registers: Registers, noise: Noise | None) -> Tensor:
        """Along the geodesic that the row's combination of logarithms says."""
        x = registers.states[0]
        others = [*zip(registers.states[1:], row.a[1:], strict=False)]
        others += zip(registers.estimates, row.b, strict=False)
        v = torch.zeros_like(self.log(x, x))
        for y, k in others:
            v = v + align(k, v) * self.log(x, y)
        if noise is not None and (isinstance(row.c, Tensor) or row.c != 0.0):
            z = self.noise(noise, x, step=row.index, stream=1)
            v = v + align(row.c, v) * z.to(v)
        return self.exp(x, v)

    def _sigma(self, t: Any, like: Tensor) -> Tensor:
        return self.schedule.at(t).align(like).sigma
