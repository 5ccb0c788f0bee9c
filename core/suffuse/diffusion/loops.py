r"""Samplers that are no table: loops of their own, beside `sample`.

`adaptive` finds its steps by itself. `picard` walks a plan's rows all at once, for machines that
have more room than time. `langevin` lets every state settle before the next row, by steps whose
length depends on a norm. All draw their noise by counter, so that a sample is the same in any
batch, and say what they cost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from suffuse.diffusion.noise import Noise, Stream
from suffuse.diffusion.ode import sample_adaptive as adaptive
from suffuse.diffusion.plan import Plan, Row
from suffuse.diffusion.process import Denoiser, Gaussian, Process, Registers, align, by_name, masked
from suffuse.diffusion.sampling import drawn, expanded, prepared, sample
from suffuse.errors import SuffuseError

__all__ = ["Langevin", "Parallel", "adaptive", "langevin", "picard"]


class Parallel(NamedTuple):
    """Clean states, network calls for a sample, and how many of them came one after the other."""

    x: Tensor
    calls: int
    rounds: int


def picard(
    denoiser: Denoiser,
    plan: Plan,
    *,
    x: Tensor | None = None,
    noise: Noise | None = None,
    shape: Any = None,
    process: Process | None = None,
    tolerance: float = 1e-2,
    window: int | None = None,
    **conditions: Any,
) -> Parallel:
    """Parallel sampling: all rows at once, again and again, until the states change no more.

    A round asks for the clean estimates at the present guess of every state in one batch, and then
    walks the rows with these. Before the k-th round k states are final, so that it ends with what
    `sample` makes; mostly far sooner. Any plan will do, with memory or noise.

    Args:
        tolerance: a state is final when it moved by less than this part of sqrt(α² + σ²), root mean
            square; 0 ends in the result of `sample`, but for the rounding of larger batches.
        window: how many rows are walked at once, to save memory; all where None.
        denoiser, plan, x, noise, shape, process, conditions: as for `sample`; one tensor a state.

    Source: Shih et al. (ParaDiGMS, 2023), arXiv 2305.16317, algorithm 1, with the linear part of
    each step taken exactly.
    """
    if tolerance < 0 or (window is not None and window < 1):
        raise SuffuseError(
            f"a tolerance is 0 or more and a window 1 row or more; given {tolerance} and {window}"
        )
    if not isinstance(plan, Plan):
        raise SuffuseError(
            "picard walks one plan of one tensor a state, and not those of a product"
        )
    mask = conditions.get("mask")
    process = prepared(plan, process, noise, conditions)
    x = masked(drawn(plan, process, x, noise, shape), mask)
    take = process.renoise if plan.law == "renoise" else process.step
    depth_a, depth_b = plan.depth
    states, calls, rounds = [x], 0, 0
    estimates: list[Tensor] = []

    def ask(i: int, n: int) -> list[Tensor]:
        """The estimates at the states i to i + n."""
        many = torch.cat(states[i : i + n])
        times = torch.cat([expanded(plan.rows[j].t, x) for j in range(i, i + n)])
        again = {
            name: by_name(
                lambda v: v.repeat(n, *[1] * (v.ndim - 1)) if isinstance(v, Tensor) else v, value
            )
            for name, value in conditions.items()
        }
        return list(denoiser(many, times, **again).chunk(n))

    def walk(i: int, last: int) -> list[Tensor]:
        """The states that the rows from i to `last` reach with the present estimates."""
        path = states[: i + 1]
        for j in range(i, last):
            known = tuple(path[::-1][:depth_a]), tuple(estimates[j::-1][:depth_b])
            path.append(masked(take(plan.rows[j], Registers(*known), noise), mask))
        return path

    for first in range(0, len(plan), window or len(plan)):
        last = min(first + (window or len(plan)), len(plan))
        estimates[first:] = ask(first, 1) * (last - first)
        states = walk(first, last)
        calls, rounds = calls + 1, rounds + 1
        done = torch.full((len(x),), first + 1, device=x.device)  # states up to this one are final
        while (i := int(done.min())) < last:
            fresh = ask(i, last - i)
            calls, rounds = calls + last - i, rounds + 1
            for j, d in enumerate(fresh, i):
                estimates[j] = torch.where(align(done > j, d), estimates[j], d)
            before, states = states, walk(i, last)
            still = []
            for j in range(i, last):
                c = plan.schedule.at(plan.rows[j].s).align(x)
                moved = (states[j + 1] - before[j + 1]) ** 2 / (c.alpha**2 + c.sigma**2)
                still.append(moved.flatten(1).mean(1) <= tolerance**2)
            steady = torch.stack(still).cumprod(0).sum(0) + i
            done = torch.maximum(done + 1, steady).clamp(max=last)
    return Parallel(states[-1], calls, rounds)


@dataclass(frozen=True)
class Langevin(Gaussian):
    """A Gaussian process whose every step, but the one to clean data, ends with Langevin's.

    x ← x + e g + sqrt(2 e) z, with g = (α d − x) / σ² the score. Its stationary distribution is
    that of the level but for e: normal data of covariance S, so that S_t = α² S + σ² I, come to
    S_t (1 − e S_t⁻¹ / 2)⁻¹.

    Attributes:
        ask: the denoiser.
        times: how many steps.
        snr: e = 2 (snr ‖z‖ / ‖g‖)² of each sample; or 2 (snr σ)² where `norms` is False, which
            makes the step linear.
        mask: True where an element belongs to a ragged state; the others count for no norm.
    """

    ask: Denoiser = field(kw_only=True)
    times: int = 1
    snr: float = 0.16
    norms: bool = True
    mask: Tensor | None = None

    def step(self, row: Row, registers: Registers, noise: Noise | None) -> Tensor:
        """The row's step, then Langevin's; `noise` is needed."""
        assert noise is not None
        x: Tensor = masked(super().step(row, registers, noise), self.mask)
        t = expanded(row.s, x)
        c = self.schedule.at(t).align(x)
        for k in range(self.times if bool((c.sigma > 0).all()) else 0):
            g = ((c.alpha * self.ask(x, t) - x) / c.sigma**2).to(x.dtype)
            draw = row.index * self.times + k
            z = noise.normal(x.shape[1:], step=draw, stream=Stream.CORRECT, dtype=x.dtype)
            z, g = masked(z, self.mask), masked(g, self.mask)
            lengths = [align(v.flatten(1).norm(dim=1), x) for v in (z, g)]
            size = lengths[0] / lengths[1] if self.norms else c.sigma.to(x.dtype)
            e = 2 * (self.snr * size) ** 2
            x = x + e * g + (2 * e).sqrt() * z
        return x


def langevin(
    denoiser: Denoiser,
    plan: Plan,
    *,
    times: int = 1,
    snr: float = 0.16,
    norms: bool = True,
    sigma_data: float = 1.0,
    **settings: Any,
) -> Tensor:
    """Predictor and corrector: a plan whose states settle after each row.

    Costs `times` calls for each row but the last beside the plan's own.

    Args:
        plan: the predictor.
        times, snr, norms: see `Langevin`.
        sigma_data: the deviation of the data, for the prior.
        settings: as for `sample`, but for `process`; noise is needed.

    Source: Song et al. (2021), arXiv 2011.13456, algorithms 4 and 5, with norms of each sample
    where it takes means over the batch.
    """
    if times < 0 or not snr > 0:
        raise SuffuseError(
            f"Langevin's steps are 0 or more, of an snr above 0; given {times}, {snr}"
        )
    if plan.law != "affine":
        raise SuffuseError(f"Langevin's steps follow affine rows, and {plan.solver!r} has others")
    if settings.get("noise") is None:
        raise SuffuseError("Langevin's steps draw noise: give noise=Noise(seed, n)")
    known = {"x", "noise", "shape", "start", "registers", "on_step", "project", "compiled"}
    given = {name: value for name, value in settings.items() if name not in known}

    def ask(x: Tensor, t: Tensor) -> Tensor:
        return denoiser(x, t, **given)

    process = Langevin(
        plan.schedule,
        sigma_data=sigma_data,
        ask=ask,
        times=times,
        snr=snr,
        norms=norms,
        mask=settings.get("mask"),
    )
    found: Tensor = sample(denoiser, plan, process=process, **settings)
    return found
