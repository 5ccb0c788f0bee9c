r"""Bridges: from data to a given other state, and back.

Let a reference process, x_t = α x_0 + σ ε with σ > 0 and α > 0 at t = 1, be known to arrive at y.
With f = (σ_t / α_t)² / (σ_1 / α_1)² = e^{2(λ_1 − λ_t)}, which rises from 0 to 1, it is then

    x_t = α_t [(1 − f) x_0 + (f / α_1) y] + α_t e^{−λ_1} sqrt(f (1 − f)) ε,

a Brownian bridge in the time f: x_0 itself at t = 0 and y itself at t = 1. For paired data this is
the Schrödinger bridge between the two. A model of x_0, given x_t and y, walks back from y to the
data.

The reference is any schedule that keeps λ(1) finite. In the variance exploding gauge g² = d(σ²)/dt
is the diffusion: `schedules.edm(sigma_max, rho=0.5)` has it constant, and two of the literature's
are `schedules.bridge_exponential` and `schedules.bridge_gmax`.

Sources: Liu et al., "I²SB: image-to-image Schrödinger bridge" (2023), arXiv 2302.05872, prop. 3.3;
Chen et al., "Schrodinger bridges beat diffusion models on text-to-speech synthesis" (2023),
arXiv 2312.03491, section 3; Jukić et al., "Schrödinger bridge for generative speech enhancement"
(2024), arXiv 2407.16074.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from suffuse.diffusion.noise import Noise, Stream
from suffuse.diffusion.plan import Row
from suffuse.diffusion.process import Process, Registers, align, mean_over, network_level, weighed
from suffuse.diffusion.schedules import Schedule
from suffuse.errors import SuffuseError

__all__ = ["Bridge", "Weights", "bridge", "weights"]


class Weights(NamedTuple):
    """The coefficients of x_0, y and ε in x_t; float64, of the shape of t."""

    x: Tensor
    y: Tensor
    noise: Tensor


def weights(schedule: Schedule, t: Tensor | float) -> Weights:
    """The bridge's coefficients at the times t.

    Raises:
        SuffuseError: for a schedule that ends in pure noise, which has no bridge.
    """
    end = schedule.at(1.0)
    if not bool(torch.isfinite(end.lam)):
        raise SuffuseError(
            "a bridge needs a schedule whose λ is finite at t = 1, for instance 'edm' or "
            "'linear-beta'; this one ends in pure noise: "
            f"{schedule.config.get('name', schedule.gauge)!r}"
        )
    c = schedule.at(t)
    f = torch.exp(2 * (end.lam.to(c.lam.device) - c.lam))
    rest = -torch.expm1(2 * (end.lam.to(c.lam.device) - c.lam))
    spread = torch.exp(-end.lam).to(f) * (f * rest).clamp(min=0).sqrt()
    return Weights(c.alpha * rest, c.alpha * f / end.alpha.to(f), c.alpha * spread)


@dataclass(frozen=True)
class Bridge(Process):
    """The bridge between data and y. The network answers with the clean state.

    Attributes:
        schedule: the reference process, with λ(1) finite.
        condition: the name of the condition that is y, [B, *shape]; the network is given it, too.
        y: y itself; set by `given`.
    """

    schedule: Schedule
    condition: str = "y"
    y: Tensor | None = None
    laws: ClassVar[frozenset[str]] = frozenset({"bridge"})

    def __post_init__(self) -> None:
        weights(self.schedule, 1.0)

    def given(self, conditions: Mapping[str, Any]) -> Bridge:
        """The bridge to the y among the conditions, or this one where there is none."""
        if self.condition not in conditions:
            return self
        return dataclasses.replace(self, y=conditions[self.condition])

    def prior(self, noise: Noise, shape: Sequence[int], t: Tensor | float = 1.0) -> Tensor:
        """y itself at t = 1; before that, the bridge's state with y in the place of x_0."""
        y = self._y()
        if y.shape != (len(noise), *shape):
            raise SuffuseError(
                f"the condition {self.condition!r} of a bridge is a state for each sample, "
                f"{[len(noise), *shape]}; given {list(y.shape)}"
            )
        return self.corrupt(y, t, self.noise(noise, y, step=0, stream=Stream.PRIOR))

    def corrupt(self, x_0: Tensor, t: Tensor | float, noise: Tensor) -> Tensor:
        """The state of the bridge, in the dtype of x_0."""
        dtype = torch.promote_types(x_0.dtype, torch.float32)
        kx, ky, kz = (align(k, x_0).to(dtype) for k in weights(self.schedule, t))
        return (kx * x_0 + ky * self._y() + kz * noise).to(x_0.dtype)

    def present(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The state itself, and the level of the reference process, of the shape of t."""
        return x_t, network_level(self.schedule.at(t).lam).to(x_t.device, torch.float32)

    def estimate(self, raw: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The network's answer."""
        return raw.to(x_t.dtype)

    def error(
        self, raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor, mask: Tensor | None
    ) -> Tensor:
        """The squared error of the clean state, averaged over elements; [B]."""
        return mean_over((raw - x_0) ** 2, mask)

    def step(self, row: Row, registers: Registers, noise: Noise | None) -> Tensor:
        """A_0 x_t + A_1 y + B d + C z; the table of a single step has no A_1, which is 0."""
        tensors = registers.states[0], self._y(), registers.estimates[0]
        own, y, *_ = (*row.a, 0.0)
        return weighed(tensors, (own, y, row.b[0]), row, noise)

    def _y(self) -> Tensor:
        if self.y is None:
            raise SuffuseError(
                f"a bridge needs the state that it comes from: give the condition "
                f"{self.condition}=..., [B, *shape]"
            )
        return self.y


def bridge(schedule: Schedule, condition: str = "y") -> Bridge:
    """The bridge process, for recipes: see `Bridge` for the options."""
    return Bridge(schedule, condition)
