r"""Objectives for few steps: what a student learns instead of the process's own loss.

An objective is called like `Process.loss`: (network, x_0, t, noise, *, mask, **conditions) -> [B].
A teacher is a denoiser, D(x_t, t), and its flow is the probability-flow equation

    dx/dλ = (dα/dλ) D + (dσ/dλ) (x_t − α D) / σ,

of which DDIM is the step of first order. f is the student's own clean estimate. Of a consistency
model f is the end of the flow, f(x_t, t) = x_0 on the whole path, which holds where f at the clean
end is the state itself (true of every prediction but "x0") and df/dλ = 0 along the flow.

    progressive    one step of f does what several of the teacher do
    consistency    f at t leads where f at the next lower time does, a step of the teacher further;
                   without a teacher a step along x_0 and ε, whose mean it is
    continuous     the same in the limit of small steps: f moves by df/dλ, taken forward
    reflow         the process's own loss on pairs of noise and of what the teacher makes of it

Average velocities, for networks that are told where a step ends as well, are `mean_flow` and
`shortcut`; their path is x_t = (1 − t) x_0 + t ε.

Sources: Salimans, Ho, "Progressive distillation" (2022), arXiv 2202.00512; Song et al.,
"Consistency models" (2023), arXiv 2303.01469; Song, Dhariwal (2023), arXiv 2310.14189 (no average
of the student as target; the pseudo-Huber distance); Lu, Song (2024), arXiv 2410.11081 (the
continuous form); Liu, Gong, Liu, "Flow straight and fast" (2022), arXiv 2209.03003; Geng et al.,
"Mean flows" (2025), arXiv 2505.13447; Frans et al., "One step diffusion via shortcut models"
(2024), arXiv 2410.12557.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from suffuse.diffusion.process import Denoiser, Gaussian, Network, align, masked, mean_over
from suffuse.diffusion.sampling import sample
from suffuse.diffusion.schedules import Coefficients, Schedule
from suffuse.diffusion.solvers import plan
from suffuse.errors import SuffuseError

__all__ = [
    "Objective",
    "consistency",
    "continuous",
    "flow",
    "mean_flow",
    "progressive",
    "reflow",
    "shortcut",
]

Objective = Callable[..., Tensor]
"""(network, x_0, t [B], noise, *, mask=None, **conditions) -> the loss of each sample, [B]."""

AverageVelocity = Callable[..., Tensor]
"""(x_t, t [B], r [B], **conditions) -> the mean velocity on the way from t to r < t."""


def _gaussian(process: Any) -> Gaussian:
    if not isinstance(process, Gaussian):
        raise SuffuseError(
            f"distillation is of Gaussian processes, and this one is a {type(process).__name__}"
        )
    return process


def _along(function: Any, at: tuple[Any, ...], move: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    """The value of a function and its derivative in a direction, forward.

    torch's fused attention has no forward derivative, so attention is made of plain products.
    """
    with sdpa_kernel(SDPBackend.MATH):
        found: Any = jvp(function, at, move)
    return found[0], found[1]


def _moved(x: Tensor, d: Tensor, t: Coefficients, s: Coefficients) -> Tensor:
    """DDIM's step: where the flow of the clean estimate d goes from t to s."""
    ratio = s.sigma / t.sigma
    return (ratio * x + (s.alpha - ratio * t.alpha) * d).to(x.dtype)


def _leading(x_t: Tensor, x_s: Tensor, t: Coefficients, s: Coefficients) -> Tensor:
    """The clean estimate with which DDIM's step from x_t ends in x_s; `_moved` the other way."""
    ratio = s.sigma / t.sigma
    return ((x_s - ratio * x_t) / (s.alpha - ratio * t.alpha)).to(x_t.dtype)


def _followed(
    schedule: Schedule,
    teacher: Denoiser,
    x: Tensor,
    t: Tensor,
    s: Tensor,
    steps: int,
    order: int,
    mask: Any,
    given: Any,
) -> Tensor:
    """Where the teacher's flow takes x from t to s, in equal steps of t.

    At order 1 a step is DDIM's. At order 2 it is done again with the mean of the estimates before
    and behind it, which is the trapezoidal rule for d(x/σ) = D d(α/σ); the next step begins with
    the estimate behind, so that there is one call a step, and one more.
    """
    d = teacher(x, t, **given)
    for k in range(steps):
        u = s if k == steps - 1 else t + (s - t) / (steps - k)
        at, after = (schedule.at(v).align(x) for v in (t, u))
        before, start = d, x
        x = masked(_moved(start, before, at, after), mask)
        if order == 2 or k < steps - 1:
            d = teacher(x, u, **given)
        if order == 2:
            x = masked(_moved(start, (before + d) / 2, at, after), mask)
        t = u
    return x


def _objective(
    process: Gaussian, held: Callable[[Tensor], Tensor], loss: Callable[..., Tensor]
) -> Objective:
    """An objective at the times held(t): (student, x_0, x_t, t, mask, conditions) -> loss [B].

    Ragged states are 0 beyond the mask, which is the condition "mask", as in `Process.loss`.
    """

    def objective(
        network: Network, x_0: Tensor, t: Tensor, noise: Tensor, *, mask: Any = None, **given: Any
    ) -> Tensor:
        t = held(t)
        x_t = masked(process.corrupt(x_0, t, noise), mask)
        if mask is not None:
            given["mask"] = mask
        return loss(process.denoiser(network), x_0, x_t, t, mask, given)

    return objective


def _steps(n: int) -> Callable[[Tensor], Tensor]:
    """The end of the one of n equal steps in which t lies."""
    return lambda t: (t * n).ceil().clamp(1, n) / n


def progressive(
    process: Any,
    teacher: Denoiser,
    *,
    steps: int = 4,
    teacher_steps: int = 2,
    order: Literal[1, 2] = 1,
) -> Objective:
    """One DDIM step of the student does what several steps of the teacher do.

    Sample the student with "ddim" in `steps` steps, uniform in t. It learns the errors of the
    teacher's steps too: a student of 4 steps whose teacher takes 2 for each is as good as DDIM in
    8. So a teacher that was not distilled takes many, of the second order.

    Args:
        steps: of the student.
        teacher_steps: of the teacher for each of the student's. A teacher that was distilled to n
            steps takes n / `steps`, of order 1.
        order: of the teacher's steps, 1 or 2.

    Source: Salimans, Ho (2022), arXiv 2202.00512, algorithm 2 (which has 2 steps of order 1), with
    the weight max(SNR, 1).
    """
    process = _gaussian(process)
    schedule = process.schedule
    if min(steps, teacher_steps) < 1 or order not in (1, 2):
        raise SuffuseError(
            "steps and teacher_steps of a progressive distillation are 1 or more, and the order is "
            f"1 or 2; given {steps}, {teacher_steps} and {order}"
        )

    def loss(student: Denoiser, x_0: Tensor, x_t: Tensor, t: Tensor, mask: Any, given: Any) -> Any:
        s = (t - 1 / steps).clamp(min=0)
        at, after = (schedule.at(k).align(x_t) for k in (t, s))
        with torch.no_grad():
            x_s = _followed(schedule, teacher, x_t, t, s, teacher_steps, order, mask, given)
            target = _leading(x_t, x_s, at, after)
        weight = torch.exp(2 * at.lam).clamp(min=1.0, max=1e4)
        return mean_over(weight * (student(x_t, t, **given) - target) ** 2, mask)

    return _objective(process, _steps(steps), loss)


def consistency(
    process: Any,
    teacher: Denoiser | None = None,
    *,
    steps: int = 32,
    segments: int = 1,
    order: Literal[1, 2] = 2,
    huber: float = 0.03,
) -> Objective:
    """The student's estimates at neighbouring times lead to the same end of the flow.

    With one segment the end is the clean one; sample the student with "lcm". With more, each part
    of the time has an end of its own, where its DDIM step leads to; sample with "ddim" in as many
    steps, uniform in t.

    Args:
        teacher: whose flow it is; None for the flow of the data themselves (consistency training).
        steps: into how many the time is cut, a multiple of `segments`.
        segments: how many parts of the time have an end of their own.
        order: of the teacher's step, 1 (DDIM) or 2; see `progressive`.
        huber: c of the distance sqrt(Σ δ² / n + c²) − c, over the n elements of a sample.

    Sources: Song et al. (2023), arXiv 2303.01469, algorithms 2 and 3; Song, Dhariwal (2023),
    arXiv 2310.14189, section 3.3; segments: Heek, Hoogeboom, Salimans, "Multistep consistency
    models" (2024), arXiv 2403.06807, algorithm 1.
    """
    process = _gaussian(process)
    schedule = process.schedule
    if segments < 1 or steps < segments or steps % segments or order not in (1, 2):
        raise SuffuseError(
            "the steps of a consistency distillation are a multiple of its segments, and the order "
            f"is 1 or 2; given {steps}, {segments} and {order}"
        )

    def loss(student: Denoiser, x_0: Tensor, x_t: Tensor, t: Tensor, mask: Any, given: Any) -> Any:
        step = (t * steps).round()
        low = ((step - 1) * segments / steps).floor() / segments
        s = (step - 1) / steps
        at, after, end = (schedule.at(k).align(x_t) for k in (t, s, low))
        with torch.no_grad():
            if teacher is None:
                x_s = masked(_moved(x_t, x_0, at, after), mask)
            else:
                x_s = _followed(schedule, teacher, x_t, t, s, 1, order, mask, given)
            there = _moved(x_s, student(x_s, s, **given), after, end)
            there = torch.where(align(s > low, x_s), there, x_s)
            target = _leading(x_t, there, at, end)
        square = mean_over((student(x_t, t, **given) - target) ** 2, mask)
        return (square + huber**2).sqrt() - huber

    return _objective(process, _steps(steps), loss)


def flow(
    schedule: Schedule, x_t: Tensor, t: Tensor, d: Tensor
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """dx/dt of the probability flow with the clean estimate d, and dλ/dt; t [B], by the clock.

    dα/dλ = k α and dσ/dλ = (k − 1) σ, with k = σ², σ or 0 in the gauges vp, flow and ve.
    """
    lam = _along(lambda u: schedule.at(u).lam, (t,), (torch.ones_like(t),))[1]
    c = schedule.at(t).align(x_t)
    k = {"vp": c.sigma**2, "flow": c.sigma, "ve": torch.zeros_like(c.sigma)}[schedule.gauge]
    slope = k * c.alpha * d + (k - 1) * (x_t - c.alpha * d)
    return (slope * align(lam, slope)).to(x_t.dtype), lam


def continuous(
    process: Any, teacher: Denoiser | None = None, *, low: float = 1e-3, high: float = 0.999
) -> Objective:
    """Consistency in continuous time: the estimate is moved by its own derivative along the flow.

    The loss is |f − (f + g)|² with the last two held fixed, g = df/dλ over max(1, its root mean
    square): so its value says nothing, and its gradient is that of consistency.

    Args:
        teacher: whose flow it is; None for that of the data.
        low, high: the times between which t is held.

    Source: Lu, Song (2024), arXiv 2410.11081, eq. 2 and section 4.2 (normalised tangents).
    """
    process = _gaussian(process)
    schedule = process.schedule

    def loss(student: Denoiser, x_0: Tensor, x_t: Tensor, t: Tensor, mask: Any, given: Any) -> Any:
        with torch.no_grad():
            d = x_0 if teacher is None else teacher(x_t, t, **given)
            slope, lam = flow(schedule, x_t, t, d)
            _, along = _along(
                lambda x, u: student(x, u, **given), (x_t, t), (slope, torch.ones_like(t))
            )
            g = along / align(lam, along).to(along.dtype)
            g = g / align(mean_over(g**2, mask).sqrt().clamp(min=1.0), g)
        found = student(x_t, t, **given)
        return mean_over((found - (found.detach() + g)) ** 2, mask)

    return _objective(process, lambda t: t.clamp(low, high), loss)


def reflow(process: Any, teacher: Denoiser, *, calls: int = 12, solver: str = "adams") -> Objective:
    """The process's own loss on pairs of noise and of what the teacher's flow makes of it.

    The paths between such pairs cross less, so that fewer steps suffice. The data are not looked
    at. Sample the student with "flow-euler" or "ddim".

    Args:
        calls: of the teacher for each example.
        solver: that takes them; without noise.

    Source: Liu, Gong, Liu (2022), arXiv 2209.03003, section 2.2.
    """
    process = _gaussian(process)
    table = plan(solver, process.schedule, steps=calls)
    if table.stochastic:
        raise SuffuseError(f"reflow follows a flow, and {solver!r} adds noise")

    def objective(
        network: Network, x_0: Tensor, t: Tensor, noise: Tensor, *, mask: Any = None, **given: Any
    ) -> Tensor:
        c = process.schedule.at(1.0)
        spread = (c.alpha**2 * process.sigma_data**2 + c.sigma**2).sqrt()
        with torch.no_grad():
            start = (noise * float(spread)).to(x_0.dtype)
            made = sample(teacher, table, x=start, mask=mask, **given)
        loss: Tensor = process.loss(network, made, t, noise, mask=mask, **given)
        return loss

    return objective


def _straight(x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    share = align(t, x_0).to(x_0.dtype)
    return (1 - share) * x_0 + share * noise


def mean_flow(velocity: AverageVelocity, x_0: Tensor, t: Tensor, r: Tensor, noise: Tensor,
              **given: Any) -> Tensor:  # fmt: skip
    """The loss of an average velocity u(x_t, t, r) on x_t = (1 − t) x_0 + t ε; [B].

    Its target is v − (t − r) du/dt, with v = ε − x_0 and the derivative along the path. One step
    then goes all the way: x_r = x_t − (t − r) u(x_t, t, r).

    Args:
        t, r: [B], 0 <= r <= t <= 1; where r = t it is flow matching.

    Source: Geng et al. (2025), arXiv 2505.13447, algorithm 1.
    """
    gap = align(t - r, x_0).to(x_0.dtype)
    x_t, v = _straight(x_0, t, noise), noise - x_0
    found, along = _along(
        lambda x, u, w: velocity(x, u, w, **given),
        (x_t, t, r),
        (v, torch.ones_like(t), torch.zeros_like(r)),
    )
    return mean_over((found - (v - gap * along).detach()) ** 2, None)


def shortcut(velocity: AverageVelocity, x_0: Tensor, t: Tensor, r: Tensor, noise: Tensor,
             **given: Any) -> Tensor:  # fmt: skip
    """The loss of the same by self-consistency: a step is its two halves; [B].

    Where r = t the target is v = ε − x_0, as in flow matching.

    Source: Frans et al. (2024), arXiv 2410.12557, eq. 5.
    """
    half = align((t - r) / 2, x_0).to(x_0.dtype)
    x_t, middle = _straight(x_0, t, noise), (t + r) / 2
    with torch.no_grad():
        one = velocity(x_t, t, middle, **given)
        two = velocity(x_t - half * one, middle, r, **given)
        target = torch.where(half > 0, (one + two) / 2, noise - x_0)
    return mean_over((velocity(x_t, t, r, **given) - target) ** 2, None)
