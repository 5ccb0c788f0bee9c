r"""The probability flow as an ordinary differential equation, and integrators for it.

In the coordinate that networks are given, z = x_t / (α r) with r² = s² + σ²/α² (s the deviation of
the data), the flow that carries x_t along with its distribution reads

    dz/dλ = (d − d_s) / r,     d_s = s² x_t / (α r²),

where d is the clean estimate and d_s the one for normal data N(0, s²): the flow is how the data
differ from that. z keeps its scale from pure noise to clean data, and no term grows. In D
dimensions its divergence is α tr(∂d/∂x_t) − D s²/r².

Plans are the fast way to sample; this is for when the error must be known: likelihoods, reference
solutions, and `sample_adaptive`, a sampler that finds its own steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from suffuse.diffusion.derivatives import pullback, trace
from suffuse.diffusion.noise import Noise
from suffuse.diffusion.process import Denoiser, Gaussian, align, masked
from suffuse.diffusion.schedules import Schedule
from suffuse.errors import SuffuseError, unknown

__all__ = ["Flow", "Solution", "fixed", "rk45", "sample_adaptive"]

State = tuple[Tensor, ...]
Field = Callable[[State, Tensor], State]
"""(tensors [B, ...], u [B] float64) -> their derivatives in u."""


@dataclass(frozen=True)
class Flow:
    """The probability flow of a denoiser, in z and λ; sigma_data is s."""

    denoiser: Denoiser
    schedule: Schedule
    sigma_data: float = 1.0
    conditions: dict[str, Any] = field(default_factory=dict)

    def scales(self, lam: Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """At λ [B]: t [B], and x_t / z = α r and 1/r, aligned with `like` and in its dtype."""
        t = self.schedule.t(lam)
        c = self.schedule.at(t).align(like)
        size = (c.alpha**2 * self.sigma_data**2 + c.sigma**2).sqrt()
        return t, size.to(like.dtype), (c.alpha / size).to(like.dtype)

    def velocity(self, state: State, lam: Tensor) -> State:
        """dz/dλ; state is (z,)."""
        t, size, over_r = self.scales(lam, state[0])
        d = self.denoiser(size * state[0], t, **self.conditions)
        return (over_r * d - (over_r * self.sigma_data) ** 2 * state[0],)

    def with_divergence(self, probes: Tensor | None) -> Field:
        """The field of (z, ℓ), dℓ/dλ [B, K] the divergence by probes [K, B, ...], or exact.

        Probes are of signs; a column of ℓ keeps its own, so that the field is smooth.
        """

        def velocity(state: State, lam: Tensor) -> State:
            z = state[0]
            t, size, over_r = self.scales(lam, z)
            d, pull = pullback(self.denoiser, size * z, t, **self.conditions)
            share = (over_r * self.sigma_data) ** 2
            inner = trace(lambda v: over_r * size * pull(v), z, probes).double()
            rest = share.double().reshape(-1, 1) * z[0].numel()
            return over_r * d - share * z, inner - rest

        return velocity


class Tableau(NamedTuple):
    """Butcher's table: times and coefficients of the stages, weights of the step and its error."""

    c: Sequence[float]
    a: Sequence[Sequence[float]]
    b: Sequence[float]
    error: Sequence[float] = ()


_LAST = (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
TABLEAUS = {
    "heun": Tableau((0, 1), ((), (1,)), (0.5, 0.5)),
    "rk4": Tableau(
        (0, 0.5, 0.5, 1), ((), (0.5,), (0, 0.5), (0, 0, 1)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)
    ),
    # Dormand, Prince, "A family of embedded Runge-Kutta formulae" (1980)
    "rk45": Tableau(
        (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1),
        (
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            _LAST,
        ),
        _LAST,
        (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    ),
}


class Solution(NamedTuple):
    """Where an integration arrived, and how often the field was asked."""

    state: State
    calls: int


def _moved(state: State, h: Tensor, k: Sequence[State], weights: Sequence[float]) -> State:
    """state + h Σ_j weights_j k_j, with a step h [B] for each sample."""

    def one(i: int, y: Tensor) -> Tensor:
        pairs = zip(weights, k, strict=False)
        slope = sum((w * stage[i] for w, stage in pairs if w), torch.zeros_like(y))
        return y + align(h, y).to(y.dtype) * slope

    return tuple(one(i, y) for i, y in enumerate(state))


def _stages(
    field: Field, state: State, u: Tensor, h: Tensor, table: Tableau, first: State | None = None
) -> list[State]:
    k = [field(state, u) if first is None else first]
    for c, a in zip(table.c[1:], table.a[1:], strict=True):
        k.append(field(_moved(state, h, k, a), u + c * h))
    return k


def fixed(field: Field, state: State, nodes: Sequence[float], method: str = "rk4") -> Solution:
    """Integrate tensors [B, ...] along given nodes, rising or falling.

    Args:
        method: "heun" (2 calls a step, order 2) or "rk4" (4 calls, order 4).

    >>> start = (torch.ones(1, dtype=torch.float64),)
    >>> grown = fixed(lambda state, u: state, start, [0.0, 0.5, 1.0])
    >>> round(float(grown.state[0]), 3), grown.calls
    (2.717, 8)
    """
    if method not in TABLEAUS:
        raise unknown("integrator", method, TABLEAUS)
    table, calls = TABLEAUS[method], 0
    for now, after in pairwise(nodes):
        u = torch.full((len(state[0]),), now, dtype=torch.float64, device=state[0].device)
        k = _stages(field, state, u, torch.full_like(u, after - now), table)
        state, calls = _moved(state, torch.full_like(u, after - now), k, table.b), calls + len(k)
    return Solution(state, calls)


def rk45(
    field: Field,
    state: State,
    begin: float,
    end: float,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    most: int = 10_000,
) -> Solution:
    """Integrate tensors [B, ...] with steps that keep the local error below atol + rtol |state|.

    A loop of its own: the pair of orders 5 and 4 of Dormand and Prince, 6 calls a step. Every
    sample has its own steps, so that what becomes of it does not depend on its batch; samples that
    have arrived wait for the slowest.

    Args:
        begin, end: of u, in any order.
        rtol, atol: of the root mean square over a sample's elements, tensor by tensor.
        most: steps until giving up.

    Raises:
        SuffuseError: where the steps become too many, or the field is not finite.
    """
    table = TABLEAUS["rk45"]
    u = torch.full((len(state[0]),), begin, dtype=torch.float64, device=state[0].device)
    h, left = torch.full_like(u, (end - begin) / 64), torch.full_like(u, end - begin)
    first, calls = field(state, u), 1
    for _ in range(most):
        last = h.abs() >= left.abs()
        step = torch.where(last, left, h)
        k = _stages(field, state, u, step, table, first)
        calls += len(k) - 1
        new = _moved(state, step, k, table.b)
        wrong = _moved(tuple(torch.zeros_like(y) for y in state), step, k, table.error)
        parts = [
            (e / (atol + rtol * torch.maximum(y.abs(), x.abs()))).double().reshape(len(e), -1)
            for e, y, x in zip(wrong, new, state, strict=True)
        ]
        error = torch.stack([e.square().mean(1).sqrt() for e in parts]).amax(0)
        good = error <= 1
        u = torch.where(good, torch.where(last, end, u + step), u)
        state, first = (
            tuple(torch.where(align(good, y), y, x) for y, x in zip(after, before, strict=True))
            for after, before in ((new, state), (k[-1], first))
        )
        h = step * (0.9 * error.clamp(min=1e-10) ** -0.2).nan_to_num(0.2).clamp(0.2, 5.0)
        left = end - u
        if not bool((left != 0).any()):
            return Solution(state, calls)
        if bool(((h.abs() < 1e-10 * abs(end - begin)) & (left != 0)).any()):
            break
    raise SuffuseError(
        f"the integration did not arrive in {most} steps of fair length: loosen rtol and atol "
        f"({rtol:g}, {atol:g}), or look for values of the network that are not finite"
    )


def sample_adaptive(
    denoiser: Denoiser,
    schedule: Schedule,
    x: Tensor | None = None,
    *,
    noise: Noise | None = None,
    shape: Sequence[int] | None = None,
    begin: float = 1.0,
    lam: tuple[float, float] = (-6.0, 6.0),
    sigma_data: float = 1.0,
    rtol: float = 1e-4,
    atol: float = 1e-4,
    **conditions: Any,
) -> Solution:
    """Clean states from x [B, ...] at time `begin`, by the probability flow with adaptive steps.

    Steps go between the levels `lam`, as far as `begin` reaches down; from the last on, the clean
    estimate is the answer. For rtol and atol see `rk45`; sigma_data is the deviation of the data.
    Where x is None it is drawn from the prior, [B, *shape], by `noise`. Beyond the condition "mask"
    of ragged states all is 0.
    """
    if x is None:
        if noise is None or shape is None:
            raise SuffuseError(
                "without x the prior is drawn: give shape=... and noise=Noise(seed, n)"
            )
        x = Gaussian(schedule, sigma_data=sigma_data).prior(noise, shape, begin)
    mask = conditions.get("mask")
    x = masked(x, mask)

    def ask(x_t: Tensor, t: Tensor, **given: Any) -> Tensor:
        found: Tensor = masked(denoiser(x_t, t, **given), mask)
        return found

    flow = Flow(ask, schedule, sigma_data, conditions)
    low = max(float(schedule.at(begin).lam), lam[0])
    levels = torch.tensor([low, lam[1]], dtype=torch.float64, device=x.device)
    start, stop = levels[:, None].expand(2, len(x))
    (z,), calls = rk45(
        flow.velocity, (x / flow.scales(start, x)[1],), low, lam[1], rtol=rtol, atol=atol
    )
    t, size, _ = flow.scales(stop, x)
    return Solution((ask(size * z, t, **conditions),), calls + 1)
