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
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suffuse.diffusion.derivatives import pullback
from suffuse.diffusion.guidance import LEAST_ALPHA
from suffuse.diffusion.noise import Noise, Stream
from suffuse.diffusion.operators import SEEN, Operator
from suffuse.diffusion.plan import Plan, Row
from suffuse.diffusion.process import Denoiser, Gaussian, Process, Registers, align
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


@dataclass(frozen=True)
class Observation:
    """y = A x_0 + noise.

    Attributes:
        operator: A.
        y: the data, [B, ...], or [1, ...] for all samples.
        noise: the deviation of its normal noise: a number, or, for methods that steer the estimate,
            a tensor that broadcasts against y.
    """

    operator: Operator
    y: Tensor
    noise: float | Tensor = 0.0

    def __post_init__(self) -> None:
        if not bool((torch.as_tensor(self.noise) >= 0).all()):
            raise SuffuseError(f"the noise of an observation is 0 or more, and {self.noise} is not")
        if self.operator.projection:
            object.__setattr__(self, "y", self.operator(self.y))

    def variance(self, like: Tensor) -> Tensor:
        """Σ_y, broadcasting against y, in the dtype of `like`."""
        return torch.as_tensor(self.noise, dtype=like.dtype, device=like.device) ** 2

    def residual(self, x: Tensor) -> Tensor:
        """y − A x, in the dtype of x [B, *shape]."""
        seen = self.operator(x)
        if seen.shape[1:] != self.y.shape[1:] or len(self.y) not in (1, len(x)):
            raise SuffuseError(
                f"the data have the shape {tuple(self.y.shape)}, but {self.operator.name!r} makes "
                f"{tuple(seen.shape)} of states of shape {tuple(x.shape)}"
            )
        return self.y.to(seen) - seen


# Steering the estimate


def _linearised(
    denoiser: Denoiser, schedule: Schedule, x_t: Tensor, t: Tensor, conditions: dict[str, Any]
) -> tuple[Tensor, Callable[[Tensor], Tensor], Tensor]:
    """d, the function v -> Jᵀ v, and the factor σ²/α with which it is Tweedie's covariance."""
    if schedule.gauge != "ve":
        # below this α Tweedie's covariance is a quotient of vanishing numbers
        t = torch.minimum(t, schedule.t(math.log(LEAST_ALPHA)).to(t))
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
        d, pull, factor = _linearised(denoiser, schedule, x_t, _one_level(t), conditions)
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
        odds = weight * torch.exp(2 * schedule.at(_one_level(t)).align(d).lam)
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
    times, reached = torch.from_numpy(plan.t), torch.from_numpy(plan.s)
    sizes = [torch.hypot(c.alpha, c.sigma) for c in map(plan.schedule.at, (times, reached))]
    worth = torch.from_numpy(plan.B.sum(1)) / (sizes[0] * sizes[1])

    def steered(x_t: Tensor, t: Tensor, **conditions: Any) -> Tensor:
        d, pull, factor = _linearised(denoiser, plan.schedule, x_t, t, conditions)
        with torch.inference_mode(False), torch.enable_grad():
            x_0 = d.clone().requires_grad_()
            r = observation.residual(x_0)
            likelihood = r**2 / observation.variance(r) / 2
            misfit = likelihood if zeta is None else r.flatten(1).norm(dim=1)
            (slope,) = torch.autograd.grad(misfit.sum(), x_0)
        if zeta is not None:
            row = (times.to(t) - _one_level(t)[:, None]).abs().argmin(1)
            factor = align((zeta / worth.to(t)[row]).to(d.dtype), d)
        return d - factor * pull(slope)

    return steered


def _one_level(t: Any) -> Any:
    if isinstance(t, Tensor) and t.ndim > 1:
        raise SuffuseError("for a level for each frame or token, restore with method 'mmps'")
    return t


def _one_noise(observation: Observation) -> float:
    if isinstance(observation.noise, Tensor):
        raise SuffuseError("noise that differs between data is for methods that steer the estimate")
    return observation.noise


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


# Changing the step


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
        A, noisy = self.observation.operator, _one_noise(self.observation)
        alpha, sigma, _ = (k.reshape(()) for k in self.schedule.at(_one_level(s)))

        def clear(v: Tensor) -> Tensor:
            return (v > SEEN * v.max()) & (sigma * v >= alpha * noisy)

        def spread(v: Tensor) -> Tensor:
            left = sigma**2 - (alpha * noisy / v) ** 2
            return torch.where(clear(v), left.clamp(min=0).sqrt(), 0)

        change = alpha * A.pseudo_inverse(self.observation.y.to(x)) - x
        seen = A.spectral(lambda v: clear(v).to(x.dtype), change)
        return x + seen + A.spectral(spread, _draw(noise, x, draw))


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
        A, noisy = self.observation.operator, _one_noise(self.observation)
        x, d = registers.states[0], registers.estimates[0]
        t, s = (self.schedule.at(_one_level(k)) for k in (row.t, row.s))
        alpha, sigma, fresh = float(s.alpha), float(s.sigma), self.eta * float(s.sigma)
        keep = math.sqrt(1 - self.eta**2) * sigma
        eps = (x - float(t.alpha) * d) / float(t.sigma)
        datum = A.pseudo_inverse(self.observation.y.to(x))

        def factors(v: Tensor, unseen: float, noisier: Tensor | float, clearer: Any) -> Tensor:
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
            (_draw(noise, x, row.index + 1), lambda v: factors(v, fresh, fresh, left(v))),
        ]
        return sum((A.spectral(f, value) for value, f in terms), torch.zeros_like(x))


def _draw(noise: Noise | None, x: Tensor, draw: int | Tensor) -> Tensor:
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


def consistent(observation: Observation, x: Tensor) -> Tensor:
    """x [B, ...] with the components that A passes well set to what the data say.

    Well means with at least half of the largest gain, so that no error is made larger; for a mask
    it is every known element, bit by bit.
    """
    A = observation.operator
    return A.unseen(x, 0.5) + A.pseudo_inverse(observation.y.to(x), 0.5)


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
        c = plan.schedule.at(_one_level(plan.begin))
        if float(c.alpha) == 0:
            raise SuffuseError("'sdedit' begins at noised data: solvers.plan(..., begin=0.6)")
        guess = observation.operator.pseudo_inverse(observation.y)
        guess = guess.expand(len(noise or guess), *guess.shape[1:])
        x = float(c.alpha) * guess + float(c.sigma) * _draw(noise, guess, 0) if x is None else x
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
            x = base.prior(noise, shape, float(_one_level(plan.begin)))
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
