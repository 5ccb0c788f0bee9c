r"""Posterior sampling: clean states that agree with what was observed, y = A x_0 + noise.

A sampler needs E[x_0 | x_t, y]. If x_0 given x_t is normal with the denoiser's answer d as mean and
a covariance C, then

    E[x_0 | x_t, y] = d + C Aᵀ (A C Aᵀ + Σ_y)⁻¹ (y − A d),

and since Cov[x_0 | x_t] = (σ²/α) ∂d/∂x_t, C v is a pass backward through the network. The methods
that steer the estimate (Denoiser -> Denoiser, for every plan) differ in what they put for C:

    method        outer C             C within the inverse     passes: forward, backward
    mmps          Cov[x_0 | x_t]      the same                 1, 1 + iterations
    pigdm         Cov[x_0 | x_t]      σ² s² / (α² s² + σ²)     1, 1
    dps           Cov[x_0 | x_t]      0, or a step by hand     1, 1
    diffpir       σ² / (α² weight)    the same                 1, 0

"mmps" is exact for normal data, "pigdm" for those of covariance s² I; "dps" goes too far, by
1 + A C Aᵀ / Σ_y. Others change the step, or the start, of the plan; a row is then one pass forward:

    replacement   what A sees of x_s is replaced by noised data
    repaint       the same, walking back and forth, for data without noise
    ddrm          each singular component by its own rule
    sdedit        the plan begins at the noised data

`restore` is the one entry. Data without noise are met exactly at the end (known elements of a mask,
bit by bit).

Sources: MMPS, Rozet et al. (2024), arXiv 2405.13712; ΠGDM, Song, Vahdat, Mardani, Kautz (ICLR
2023); DPS, Chung et al. (2022), arXiv 2209.14687; DiffPIR, Zhu et al. (2023), arXiv 2305.08995;
replacement, Song et al. (2021), arXiv 2011.13456, and Choi et al. (2021), arXiv 2108.02938;
RePaint, Lugmayr et al. (2022), arXiv 2201.09865; DDRM, Kawar et al. (2022), arXiv 2201.11793;
SDEdit, Meng et al. (2021), arXiv 2108.01073.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suffuse.diffusion.constant import Constant
from suffuse.diffusion.derivatives import pullback
from suffuse.diffusion.guidance import LEAST_ALPHA
from suffuse.diffusion.noise import Noise
from suffuse.diffusion.observation import Observation, consistent, one_level
from suffuse.diffusion.operators import SEEN
from suffuse.diffusion.plan import Plan
from suffuse.diffusion.process import Denoiser, Gaussian, Process, align
from suffuse.diffusion.replacement import DDRM, Replacement, drawn, resampled
from suffuse.diffusion.sampling import Step, sample
from suffuse.diffusion.schedules import Schedule
from suffuse.errors import SuffuseError, unknown

__all__ = [
    "DDRM",
    "METHODS",
    "Observation",
    "Replacement",
    "consistent",
    "diffpir",
    "dps",
    "mmps",
    "pigdm",
    "resampled",
    "restore",
]


# Steering the estimate


def _linearised(
    denoiser: Denoiser, schedule: Schedule, x_t: Tensor, t: Tensor, conditions: dict[str, Any]
) -> tuple[Tensor, Callable[[Tensor], Tensor], Tensor]:
    """d, the function v -> Jᵀ v, and the factor σ²/α with which it is Tweedie's covariance."""
    if schedule.gauge != "ve":
        # below this α Tweedie's covariance is a quotient of vanishing numbers
        t = torch.minimum(t, schedule.t(torch.full_like(t, math.log(LEAST_ALPHA))))
    c = schedule.at(t).align(x_t)
    d, pull = pullback(denoiser, x_t, t, **conditions)
    return d, pull, (c.sigma**2 / c.alpha).to(d.dtype)


def mmps(
    denoiser: Denoiser, observation: Observation, schedule: Schedule, *, iterations: int = 5
) -> Denoiser:
    """Moment matching: Tweedie's covariance everywhere, its inverse by conjugate gradients.

    Args:
        observation: with a linear operator.
        iterations: of the solver; as many as there are independent data solve exactly.
    """
    A = observation.operator

    def steered(x_t: Tensor, t: Tensor, **conditions: Any) -> Tensor:
        d, pull, factor = _linearised(denoiser, schedule, x_t, t, conditions)
        r = observation.residual(d)
        variance = observation.variance(r)

        def covariance(v: Tensor) -> Tensor:
            return A(factor * pull(A.T(v))) + variance * v

        return d + factor * pull(A.T(_conjugate_gradients(covariance, r, iterations)))

    return steered


def pigdm(
    denoiser: Denoiser, observation: Observation, schedule: Schedule, *, sigma_data: float = 1.0
) -> Denoiser:
    """Pseudoinverse guidance: within the inverse the covariance of data N(0, sigma_data² I).

    Args:
        observation: with a linear operator; one without singular values costs iterations on it.
        sigma_data: the deviation s of the data.
    """

    def steered(x_t: Tensor, t: Tensor, **conditions: Any) -> Tensor:
        d, pull, factor = _linearised(denoiser, schedule, x_t, one_level(t), conditions)
        odds = 1 / sigma_data**2 + torch.exp(2 * schedule.at(t).align(d).lam)
        return d + factor * pull(odds * _explained(observation, observation.residual(d), odds))

    return steered


def diffpir(
    denoiser: Denoiser, observation: Observation, schedule: Schedule, *, weight: float = 1.0
) -> Denoiser:
    """The point near d that explains the data: argmin ‖y − A x‖²/σ_y² + weight ‖x − d‖² α²/σ².

    Args:
        observation: with a linear operator; one without singular values costs iterations on it.
        weight: trust in the denoiser, the paper's λ.
    """

    def steered(x_t: Tensor, t: Tensor, **conditions: Any) -> Tensor:
        d = denoiser(x_t, t, **conditions)
        odds = weight * torch.exp(2 * schedule.at(one_level(t)).align(d).lam)
        return d + _explained(observation, observation.residual(d), odds)

    return steered


def dps(
    denoiser: Denoiser, observation: Observation, plan: Plan, *, zeta: float | None = 1.0
) -> Denoiser:
    """Diffusion posterior sampling: the likelihood of the clean estimate stands for that of x_t.

    Args:
        observation: with any differentiable operator, linear or not.
        plan: the table that will be walked.
        zeta: the published step: every row's state moves by zeta against the gradient of
            ‖y − A(d)‖ in x_t, both in the scale of the variance preserving gauge; plans with fewer
            rows want more of it. None is the likelihood's own, N(y; A(d), Σ_y), which needs noise
            and, where C is large beside Σ_y, short steps.
    """
    if zeta is None and not bool((observation.variance(observation.y) > 0).all()):
        raise SuffuseError("'dps' without zeta needs an observation with noise above 0")
    # What a shift of the estimates is worth in the next state, by the time of the row.
    every = [torch.from_numpy(k) for k in (plan.t, plan.s)]
    sizes = [torch.hypot(c.alpha, c.sigma) for c in map(plan.schedule.at, every)]
    worth = Constant(torch.from_numpy(plan.B.sum(1)) / (sizes[0] * sizes[1]))
    times = Constant(every[0])

    def steered(x_t: Tensor, t: Tensor, **conditions: Any) -> Tensor:
        d, pull, factor = _linearised(denoiser, plan.schedule, x_t, t, conditions)
        with torch.inference_mode(False), torch.enable_grad():
            x_0 = d.clone().requires_grad_()
            r = observation.residual(x_0)
            likelihood = r**2 / observation.variance(r) / 2
            misfit = likelihood if zeta is None else r.flatten(1).norm(dim=1)
            (slope,) = torch.autograd.grad(misfit.sum(), x_0)
        if zeta is not None:
            row = (times.on(t.device) - one_level(t)[:, None]).abs().argmin(1)
            factor = align((zeta / worth.on(t.device)[row]).to(d.dtype), d)
        return d - factor * pull(slope)

    return steered


def _explained(observation: Observation, r: Tensor, odds: Tensor) -> Tensor:
    """Aᵀ (A Aᵀ + odds · Σ_y)⁻¹ r, r [B, ...], odds [B, 1, ...]; 0 for unseen parts at Σ_y = 0."""
    A = observation.operator
    if A.spectrum is not None and not isinstance(observation.noise, Tensor):
        ridge = odds * observation.noise**2

        def inverse(s: Tensor) -> Tensor:
            return torch.where((s > SEEN * s.max()) | (ridge > 0), 1 / (s**2 + ridge), 0)

        return A.spectral(inverse, A.T(r))
    variance = observation.variance(r)
    ridge = align(odds.flatten(), r) * variance
    return A.T(_conjugate_gradients(lambda v: A(A.T(v)) + ridge * v, r, 50))


def _conjugate_gradients(apply: Callable[[Tensor], Tensor], b: Tensor, iterations: int) -> Tensor:
    """x with apply(x) = b in each sample; one that has converged, or meets no curvature, stays."""

    def dot(u: Tensor, v: Tensor) -> Tensor:
        return align((u * v).flatten(1).sum(1), u)

    x, r, p = torch.zeros_like(b), b, b
    size = start = dot(r, r)
    for _ in range(iterations):
        q = apply(p)
        curvature = dot(p, q)
        live = (curvature > 0) & (size > (100 * torch.finfo(b.dtype).eps) ** 2 * start)
        step = torch.where(live, size / torch.where(live, curvature, 1), 0)
        x, r = x + step * p, r - step * q
        after = dot(r, r)
        p = r + torch.where(live, after / torch.where(live, size, 1), 0) * p
        size = after
    return x


# The entry

STEERED: dict[str, Callable[..., Denoiser]] = {"diffpir": diffpir, "mmps": mmps, "pigdm": pigdm}
METHODS: dict[str, tuple[str, ...]] = {
    "ddrm": ("eta", "eta_b"),
    "diffpir": ("weight",),
    "dps": ("zeta",),
    "mmps": ("iterations",),
    "pigdm": ("sigma_data",),
    "repaint": ("jump", "repeats"),
    "replacement": (),
    "sdedit": (),
}
"""The methods of `restore`, and the names of their options."""


def restore(
    denoiser: Denoiser,
    plan: Plan,
    observation: Observation,
    *,
    method: str = "mmps",
    options: Mapping[str, Any] | None = None,
    noise: Noise | None = None,
    shape: Sequence[int] | None = None,
    x: Tensor | None = None,
    process: Process | None = None,
    on_step: Callable[[Step], None] | None = None,
    **conditions: Any,
) -> Tensor:
    """Samples of p(x_0 | y), as the method has it.

    Args:
        denoiser: of the unobserved model.
        plan: any for the methods that steer the estimate and for "replacement"; of a one-step
            method for "repaint"; its times alone count for "ddrm"; for "sdedit", one that begins
            where the data are to be noised to: `solvers.plan(..., begin=0.6)`.
        observation: operator, data and noise.
        method: one of `METHODS`.
        options: of the method, see `METHODS` and the functions and classes of these names.
        noise, shape, x, process, on_step, conditions: as for `sample`.

    Returns:
        States [B, *shape]. Where the data have no noise, they agree with them (`consistent`).

    Raises:
        SuffuseError: for unknown methods and options, shapes that do not fit, and operators of
            which a method asks what they do not have.

    >>> from suffuse.diffusion import operators, oracle, schedules, solvers
    >>> exact = oracle.Gaussian(torch.zeros(2), torch.tensor([[1.0, 0.9], [0.9, 1.0]]))
    >>> plan = solvers.plan("ddim", schedules.cosine(), steps=5)
    >>> seen = Observation(operators.mask(torch.tensor([True, False])), torch.tensor([[2.0, 0.0]]))
    >>> x = restore(exact.denoiser(plan.schedule), plan, seen, noise=Noise(0, 3), shape=(2,))
    >>> x[:, 0].tolist()
    [2.0, 2.0, 2.0]
    """
    if method not in METHODS:
        raise unknown("method of restoring", method, METHODS)
    given = dict(options or {})
    for name in given:
        if name not in METHODS[method]:
            raise unknown(f"option of method {method!r}", name, METHODS[method])
    if method == "dps":
        denoiser = dps(denoiser, observation, plan, **given)
    elif method in STEERED:
        denoiser = STEERED[method](denoiser, observation, plan.schedule, **given)
    elif method == "sdedit":
        c = plan.schedule.at(one_level(plan.begin))
        if float(c.alpha) == 0:
            raise SuffuseError("'sdedit' begins at noised data: solvers.plan(..., begin=0.6)")
        guess = observation.operator.pseudo_inverse(observation.y)
        guess = guess.expand(len(noise or guess), *guess.shape[1:])
        x = float(c.alpha) * guess + float(c.sigma) * drawn(noise, guess, 0) if x is None else x
    else:
        base = Gaussian(plan.schedule) if process is None else process
        if not isinstance(base, Gaussian) or plan.law != "affine":
            raise SuffuseError(f"{method!r} changes affine steps of a Gaussian process only")
        if method == "repaint":
            plan, given = resampled(plan, **given), {}
        chained = np.array_equal(plan.s[:-1], plan.t[1:]) and bool((plan.s < plan.t).all())
        if method == "ddrm" and not chained:
            raise SuffuseError(f"'ddrm' needs a plan with one call a step, and not {plan.solver!r}")
        kept = {f.name: getattr(base, f.name) for f in fields(Gaussian)}
        kind = DDRM if method == "ddrm" else Replacement
        process = replacing = kind(**kept, observation=observation, **given)
        if x is None and noise is not None and shape is not None:
            x = base.prior(noise, shape, float(one_level(plan.begin)))
        if x is not None:
            x = replacing.replaced(x, plan.begin, noise, 0)
    found = sample(
        denoiser,
        plan,
        x=x,
        noise=noise,
        shape=shape,
        process=process,
        on_step=on_step,
        **conditions,
    )
    exact = not isinstance(observation.noise, Tensor) and observation.noise == 0
    if exact and observation.operator.spectrum is not None and method != "sdedit":
        found = consistent(observation, found)
    return found
