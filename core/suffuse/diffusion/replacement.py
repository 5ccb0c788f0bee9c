r"""Posterior sampling by other steps: what is observed of a state is put in its place.

The samplers of `suffuse.diffusion.posterior` that change the step of a plan and not the estimate:
replacement, DDRM and the walk of RePaint. Sources are told there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suffuse.diffusion.noise import Noise, Stream
from suffuse.diffusion.observation import Observation, one_level, one_noise
from suffuse.diffusion.operators import SEEN
from suffuse.diffusion.plan import Plan, Row
from suffuse.diffusion.process import Gaussian, Registers
from suffuse.errors import SuffuseError

__all__ = ["DDRM", "Replacement", "drawn", "resampled"]


@dataclass(frozen=True)
class Replacement(Gaussian):
    """A Gaussian process whose every step ends by replacing what is observed.

    The components of x_s that A passes become α_s A⁺y + σ_s z: with a mask, the known elements,
    noised. The noise of the data counts towards σ_s; components that have more of it stay.
    """

    observation: Observation = field(kw_only=True)

    def step(self, row: Row, registers: Registers, noise: Noise | None) -> Tensor:
        """The row's step, then the replacement; `noise` is needed."""
        return self.replaced(super().step(row, registers, noise), row.s, noise, row.index + 1)

    def replaced(self, x: Tensor, s: Any, noise: Noise | None, draw: int | Tensor) -> Tensor:
        """The state x [B, ...] of time s with what is observed replaced; draw `draw` of noise."""
        A, noisy = self.observation.operator, one_noise(self.observation)
        alpha, sigma, _ = (k.reshape(()) for k in self.schedule.at(one_level(s)))

        def clear(v: Tensor) -> Tensor:
            return (v > SEEN * v.max()) & (sigma * v >= alpha * noisy)

        def spread(v: Tensor) -> Tensor:
            left = sigma**2 - (alpha * noisy / v) ** 2
            return torch.where(clear(v), left.clamp(min=0).sqrt(), 0)

        change = alpha * A.pseudo_inverse(self.observation.y.to(x)) - x
        seen = A.spectral(lambda v: clear(v).to(x.dtype), change)
        return x + seen + A.spectral(spread, drawn(noise, x, draw))


@dataclass(frozen=True)
class DDRM(Replacement):
    """Denoising diffusion restoration: a rule for each singular component (eq. 7 and 8).

    Of a plan, only the times count.

    Attributes:
        eta: fresh noise, as in DDIM, of components whose data are noisier than the state, or none.
        eta_b: how much the datum counts against the estimate in the others.
    """

    eta: float = 0.85
    eta_b: float = 1.0

    def step(self, row: Row, registers: Registers, noise: Noise | None) -> Tensor:
        """The next state from the present one and its clean estimate; `noise` is needed."""
        A, noisy = self.observation.operator, one_noise(self.observation)
        x, d = registers.states[0], registers.estimates[0]
        before, after = (self.schedule.at(one_level(k)) for k in (row.t, row.s))
        alpha, sigma, alpha_t, sigma_t = (k.reshape(()) for k in (*after[:2], *before[:2]))
        fresh, keep = self.eta * sigma, math.sqrt(1 - self.eta**2) * sigma
        eps = ((x - alpha_t * d) / sigma_t).to(x.dtype)
        datum = A.pseudo_inverse(self.observation.y.to(x))

        def factors(v: Tensor, unseen: Any, noisier: Any, clearer: Any) -> Tensor:
            by_noise = torch.where(alpha * noisy <= sigma * v, clearer + 0 * v, noisier + 0 * v)
            return torch.where(v > SEEN * v.max(), by_noise, unseen)

        def drift(v: Tensor) -> Tensor:
            return keep * v / max(noisy, 1e-30)

        def left(v: Tensor) -> Tensor:
            return (sigma**2 - (alpha * noisy * self.eta_b / v) ** 2).clamp(min=0).sqrt()

        terms: list[tuple[Tensor, Callable[[Tensor], Tensor]]] = [
            (d, lambda v: factors(v, alpha, alpha - drift(v), alpha * (1 - self.eta_b))),
            (datum, lambda v: factors(v, 0.0, drift(v), alpha * self.eta_b)),
            (eps, lambda v: factors(v, keep, 0.0, 0.0)),
            (drawn(noise, x, row.index + 1), lambda v: factors(v, fresh, fresh, left(v))),
        ]
        return sum((A.spectral(f, value) for value, f in terms), torch.zeros_like(x))


def drawn(noise: Noise | None, x: Tensor, draw: int | Tensor) -> Tensor:
    """Standard normal noise for states like x [B, ...], by its draw's number."""
    if noise is None:
        raise SuffuseError("this method draws noise: give noise=Noise(seed, n)")
    return noise.normal(x.shape[1:], step=draw, stream=Stream.CORRUPT, dtype=x.dtype)


def resampled(plan: Plan, *, jump: int = 10, repeats: int = 10) -> Plan:
    """A plan that walks every `jump` rows `repeats` times: down, back up by noise, down again.

    The way up has no row of its own, since x_s = A x_t + B d + C z followed by
    x_t' = (α_t'/α_s) x_s + noise is one row. Blocks are counted from the end; the first, in pure
    noise, is walked once. The plan is that of a one-step method. In the paper: j and r.
    """
    if plan.depth != (1, 1) or plan.t.ndim > 1 or min(jump, repeats) < 1:
        raise SuffuseError(
            "resampling needs the plan of a one-step method, as 'ddpm', and jump and repeats above "
            f"0; given {plan.solver!r}, {jump} and {repeats}"
        )
    n, table = len(plan), np.stack([plan.t, plan.s, plan.A[:, 0], plan.B[:, 0], plan.C], 1)
    starts = [0, *range(n - jump, 0, -jump)[::-1]]
    blocks = []
    for start, stop in zip(starts, [*starts[1:], n], strict=True):
        block = table[start:stop]
        if start > 0:
            _, s, a, b, c = block[-1]
            up, low = plan.schedule.at(block[0, 0]), plan.schedule.at(s)
            k = float(up.alpha / low.alpha)
            added = float(up.sigma**2 - (k * low.sigma) ** 2)
            back = [block[-1, 0], block[0, 0], k * a, k * b, math.sqrt((k * c) ** 2 + added)]
            blocks += [block[:-1], np.array([back])] * (repeats - 1)
        blocks.append(block)
    t, s, A, B, C = np.concatenate(blocks).T
    options = {**plan.options, "jump": jump, "repeats": repeats}
    return Plan(plan.solver, plan.schedule, t, s, A[:, None], B[:, None], C, options)
