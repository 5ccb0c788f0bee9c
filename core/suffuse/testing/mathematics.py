"""The proofs that solvers, schedules and Gaussian processes are held to, the core's own first.

Every check takes the thing itself, needs no plugin, asserts in a sentence, and works in float64
without drawing noise. Solvers are functions (schedule, grid, **options) -> Plan, marked by
`suffuse.diffusion.solvers.solver`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from suffuse.diffusion import grids, oracle, prediction, schedules
from suffuse.diffusion.analysis import combinations, spread
from suffuse.diffusion.categorical import Categorical
from suffuse.diffusion.discrete_oracle import Discrete
from suffuse.diffusion.noise import Noise
from suffuse.diffusion.plan import Plan
from suffuse.diffusion.process import Denoiser, Gaussian, Network, Registers
from suffuse.diffusion.sampling import sample
from suffuse.diffusion.schedules import Schedule
from suffuse.diffusion.solvers.table import Array, Solver

__all__ = [
    "check_columns",
    "check_constants",
    "check_discrete_order",
    "check_exactness",
    "check_gaussian_loss",
    "check_json",
    "check_loop",
    "check_order",
    "check_schedule",
    "check_single_token",
    "check_variance",
    "exact_network",
    "same_plan",
]

F = torch.float64
DATA = oracle.Gaussian(
    mean=torch.tensor([0.3, -0.7], dtype=F),
    covariance=torch.tensor([[0.9, 0.4], [0.4, 0.5]], dtype=F),
)
Options = Mapping[str, Any]
NONE: Options = {}
START = torch.tensor([[0.8, -1.1]], dtype=F)


# Solvers


def check_exactness(
    solver: Solver, schedule: Schedule, order: int | None = None, options: Options = NONE
) -> None:
    """V1: where the clean estimate is a polynomial in λ, of a degree below the order, on irregular
    levels, the solution x_s = (σ_s/σ_t) x_t + α_s ∫ e^{λ − λ_s} d(λ) dλ is met to 1e-12.

    For solvers that are declared exponential, without noise.
    """
    order = order or solver.order
    rng = np.random.default_rng()
    lams = np.cumsum([-2.5, *rng.uniform(0.1, 0.6, 14)])
    for degree in range(order):

        def integral(lam: Tensor, k: int = degree) -> Tensor:
            """The antiderivative of e^λ λ^k, over e^λ."""
            return sum(
                ((-1) ** j * math.perm(k, j) * lam ** (k - j) for j in range(k + 1)),
                torch.zeros_like(lam),
            )

        def denoise(x: Tensor, t: Tensor, k: int = degree) -> Tensor:
            return schedule.at(t).align(x).lam.expand_as(x) ** k

        def exact(t: float) -> Tensor:
            c = schedule.at(t)
            return c.alpha * integral(c.lam) + 0.7 * c.sigma * torch.ones(1, 1, dtype=F)

        error, size = _error_from_exact_history(solver, schedule, lams, denoise, exact, options)
        assert error < 1e-12 * max(1.0, size), (
            f"λ^{degree} on the levels {lams.round(2).tolist()} is missed by {error:.1e}"
        )


def check_order(
    solver: Solver,
    schedule: Schedule,
    order: int | None = None,
    options: Options = NONE,
    *,
    equal: Literal["lam", "ratio"] = "lam",
) -> None:
    """V2: on normal data the error falls with the steps by the stated power, up to a quarter.

    The way from λ = −1.5 to 1.5 begins with exact registers, so that a warm-up hides nothing.

    Args:
        order: the solver's own where None.
        equal: the variable in which the steps are equal; "ratio" is σ/α, from λ = −1.5 to 0.
    """
    order = order or solver.order
    denoise = DATA.denoiser(schedule)
    errors = []
    for n in (96, 192, 384) if order > 3 else (24, 48, 96):
        lams: Array = np.linspace(-1.5 - 12.0 / n, 1.5 + 12.0 / n, n + 9)
        if equal == "ratio":
            top = math.exp(1.5)
            lams[: n + 5] = -np.log(np.linspace(top + (top - 1) * 4 / n, 1.0, n + 5))
            lams[n + 5 :] = 0.1, 0.2, 0.3, 0.4
        begin = float(schedule.t(float(lams[0])))

        def exact(t: float, begin: float = begin) -> Tensor:
            return DATA.flow(schedule, START, begin, t)

        errors.append(_error_from_exact_history(solver, schedule, lams, denoise, exact, options)[0])
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert slopes[-1] > order - 0.25, f"errors {errors} fall by the powers {slopes}, not {order}"
    assert errors[-1] < 1e-2, f"the error is {errors[-1]:.1e} after the longest way"


def _error_from_exact_history(
    solver: Solver,
    schedule: Schedule,
    lams: Array,
    denoise: Denoiser,
    exact: Callable[[float], Tensor],
    options: Options,
) -> tuple[float, float]:
    """The error at the fifth level from the end, begun at the fifth with exact registers; the size.

    Levels before the way fill the memory, and levels after it keep a solver that lowers its order
    towards the end from doing so on the way.
    """
    times = schedule.t(torch.from_numpy(lams)).numpy()
    plan = solver(schedule, times, **options)
    begins = [i for i in range(len(plan)) if plan.t[i] != plan.s[i]]
    first = next(i for i in begins if plan.t[i] == times[4])
    end = next(i for i in begins if plan.t[i] == times[-5])
    past = [(exact(float(t)), torch.full((1,), t, dtype=F)) for t in plan.t[:first]]
    registers = Registers(
        (exact(float(times[4])), *(x for x, _ in reversed(past))),
        tuple(denoise(x, t) for x, t in reversed(past)),
    )
    reached: list[Tensor] = []
    sample(denoise, plan, start=first, registers=registers, on_step=lambda s: reached.append(s.x))
    truth = exact(float(times[-5]))
    return float((reached[end - 1 - first] - truth).norm()), float(truth.norm())


def check_variance(
    solver: Solver, schedule: Schedule, variance: float, options: Options = NONE
) -> None:
    """V3: of normal data the variance arrives, with noise too; exactly propagated, not drawn."""
    errors = []
    for n in (32, 64, 128):
        plan = solver(schedule, grids.logsnr(schedule, n, lam_min=-8, lam_max=8), **options)
        errors.append(abs(float(spread(plan, variance)[-1]) ** 2 - 1))
    # 16 / 127 is the length of a step in λ: methods of first order
    assert errors[-1] < 16 / 127, f"of the variance {variance} the parts {errors} are missing"
    assert errors[2] < 0.75 * errors[1] or errors[2] < 1e-4, f"{errors} do not fall"


class _Unit(Noise):
    """Noise that is 1 in one row and 0 in all others."""

    def __init__(self, row: int) -> None:
        super().__init__(0, 1)
        self.row = row

    def normal(
        self,
        shape: Sequence[int],
        *,
        step: int | Tensor,
        stream: int = 1,
        dtype: torch.dtype = F,
    ) -> Tensor:
        return torch.full((1, *shape), float(step == self.row), dtype=dtype)


def check_loop(plan: Plan) -> None:
    """V3: sampling does what the table says, state by state and noise by noise."""
    one = torch.ones(1, 1, dtype=F)
    denoise = oracle.Gaussian(0 * one[0], 0.3 * one).denoiser(plan.schedule)
    expected = combinations(plan, 0.3)[-1]
    found = [sample(denoise, plan, x=one, noise=_Unit(-1))]
    found += [sample(denoise, plan, x=0 * one, noise=_Unit(i)) for i in range(len(plan))]
    np.testing.assert_allclose(torch.cat(found).squeeze().numpy(), expected, atol=1e-13)


def same_plan(one: Plan, other: Plan, atol: float = 1e-12) -> None:
    """Two plans have the same tables, but for columns of zeros."""
    for name in "tsABC":
        a, b = getattr(one, name), getattr(other, name)
        if a.ndim > 1:
            width = max(a.shape[1], b.shape[1])
            a, b = (
                np.pad(k, [(0, 0), (0, width - k.shape[1]), *[(0, 0)] * (k.ndim - 2)])
                for k in (a, b)
            )
        np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=name)


def check_json(plan: Plan) -> None:
    """A plan comes back from JSON as it was."""
    back = Plan.from_json(plan.to_json())
    same_plan(plan, back, atol=0)
    assert (back.solver, str(back)) == (plan.solver, str(plan)), "its name or its print differ"


def check_constants(plan: Plan) -> None:
    """Every row takes a constant estimate c exactly: states α_t c without noise become α_s c.

    Σ A_j α(t_j) + Σ B_j = α(s), whatever the grid; the t_j are those at which row j asked.
    """
    alpha = plan.schedule.at(torch.from_numpy(plan.t)).alpha.numpy()
    after = plan.schedule.at(torch.from_numpy(plan.s)).alpha.numpy()
    for i in range(len(plan)):
        found = sum(a * x for a, x in zip(plan.A[i], alpha[i::-1], strict=False)) + plan.B[i].sum(0)
        error = float(np.abs(found - after[i]).max())
        size = max(1.0, float(np.abs(plan.A[i]).max()), float(np.abs(plan.B[i]).max()))
        assert error < 1e-11 * size, f"row {i} of {plan.solver!r} misses a constant by {error:.1e}"


def check_columns(solver: Solver, schedule: Schedule, options: Options = NONE) -> None:
    """A matrix of levels gives each frame the plan that it would have alone."""
    one, two = np.linspace(1, 0, 7), np.linspace(1, 0, 7) ** 2
    both = solver(schedule, np.stack([one, two], 1), **options)
    for column, times in enumerate((one, two)):
        alone = solver(schedule, times, **options)
        for table in "tsABC":
            mine, theirs = getattr(both, table)[..., column], getattr(alone, table)
            if mine.ndim == 2:
                assert not mine[:, theirs.shape[1] :].any(), f"{table} is wider in company"
                mine = mine[:, : theirs.shape[1]]
            np.testing.assert_array_equal(mine, theirs, err_msg=table)


# Solvers of tokens


def _tokens(n: int, k: int, seed: int) -> Discrete:
    joint = torch.rand([k] * n, dtype=F, generator=torch.Generator().manual_seed(seed)) ** 2
    return Discrete(joint / joint.sum())


def check_single_token(
    solver: Solver, process: Categorical, options: Options = NONE, *, begin: float = 1.0
) -> None:
    """V7: a token that is alone ends in its distribution, in any number of steps."""
    data = _tokens(1, process.categories, seed=1)
    for n in (1, 2, 7):
        plan = solver(process.schedule, np.linspace(begin, 0.0, n + 1), **options)
        far = data.total_variation(data.propagate(process, plan))
        assert far < 1e-12, f"after {n} steps the total variation is {far:.1e}"


def check_discrete_order(
    solver: Solver,
    process: Categorical,
    order: float | None = None,
    options: Options = NONE,
    *,
    within: float = 0.25,
) -> None:
    """V7: of three dependent tokens the total variation to the truth falls by the stated power.

    The distribution is propagated exactly.
    """
    order = solver.order if order is None else order
    data, errors = _tokens(3, process.categories, seed=4), []
    for n in (12, 24, 48):
        plan = solver(process.schedule, np.linspace(1.0, 0.0, n + 1), **options)
        errors.append(data.total_variation(data.propagate(process, plan)))
    slope = math.log2(errors[1] / errors[2])
    assert abs(slope - order) < within, f"errors {errors} fall by the power {slope:.2f}"
    assert errors[-1] < 0.06, f"after 48 steps the total variation is {errors[-1]:.2g}"


# Schedules


def check_schedule(schedule: Schedule) -> None:
    """Clean at t = 0, ever noisier, α and σ those of its gauge, and t(λ) the inverse."""
    t = torch.linspace(0, 1, 1001, dtype=F)
    c = schedule.at(t)
    assert float(c.sigma[0]) == 0 and float(c.alpha[0]) == 1, "t = 0 is not clean data"
    assert not any(bool(k.isnan().any()) for k in c), "its coefficients are not numbers everywhere"
    assert bool((c.lam.diff() < 0).all()), "λ does not fall with t everywhere"
    assert bool((c.sigma.diff() > 0).all() and (c.alpha.diff() <= 0).all()), "σ falls or α rises"
    kept = {"vp": c.alpha**2 + c.sigma**2, "flow": c.alpha + c.sigma, "ve": c.alpha}
    torch.testing.assert_close(kept[schedule.gauge], torch.ones_like(t), rtol=0, atol=4e-16)
    inner = slice(1, -1)
    torch.testing.assert_close(
        torch.log(c.alpha / c.sigma)[inner], c.lam[inner], rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(schedule.t(c.lam)[1:], t[1:], rtol=1e-9, atol=0)
    assert float(schedule.t(math.inf)) == 0.0, "λ = ∞ is not t = 0"
    assert abs(float(schedule.t(-math.inf)) - 1) < 1e-12, "λ = −∞ is not t = 1"


# Gaussian processes


def exact_network(process: Gaussian, denoise: Denoiser) -> Network:
    """The network whose output is the exact prediction: undoes input scaling and conversion."""

    def network(x: Tensor, level: Tensor, **conditions: Any) -> Tensor:
        lam = (4 * level).double()
        c = schedules.in_gauge(process.schedule.gauge, lam).align(x)
        x_t = x / (c.alpha**2 * process.sigma_data**2 + c.sigma**2).rsqrt()
        clean = denoise(x_t, process.schedule.t(lam))
        return prediction.convert(clean, "x0", process.prediction, x_t, c, process.sigma_data)

    return network


def check_gaussian_loss(process: Gaussian, variance: float = 0.6) -> None:
    """V8: the exact model of data N(0, v) has no gradient, and the posterior's variance as loss.

    By quadrature over x_0 and ε, at several levels. The loss's weight is read off a loss that is
    known: that of the estimate 0, whose squared error is v.
    """
    data = oracle.Gaussian(torch.zeros(1, dtype=F), torch.full((1, 1), variance, dtype=F))
    exact = data.denoiser(process.schedule)
    x, w = (torch.from_numpy(k) for k in np.polynomial.hermite_e.hermegauss(12))
    x_0, eps = (k.reshape(-1, 1) for k in torch.meshgrid(x * math.sqrt(variance), x, indexing="ij"))
    weights = (w[:, None] * w[None]).flatten() / w.sum() ** 2
    for t in (0.2, 0.5, 0.8):
        times = torch.full((len(weights),), t, dtype=F)
        scale = torch.ones((), dtype=F, requires_grad=True)

        def loss(k: Tensor | float, times: Tensor = times) -> Tensor:
            network = exact_network(process, lambda x_t, now: k * exact(x_t, now))
            return (weights * process.loss(network, x_0, times, eps)).sum()

        least = loss(scale)
        (slope,) = torch.autograd.grad(least, scale)
        weight = float(loss(0.0)) / variance
        c = process.schedule.at(t)
        posterior = float(variance * c.sigma**2 / (c.alpha**2 * variance + c.sigma**2))
        found = least.item()
        assert abs(slope.item()) < 1e-8 * max(1.0, found), f"a gradient of {slope.item():.1e}"
        assert abs(found - weight * posterior) < 1e-8 * max(1.0, found), (
            f"at t = {t} the least loss is {found:.6g}, and not {weight * posterior:.6g}"
        )
