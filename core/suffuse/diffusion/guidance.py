r"""Guidance: transforms Denoiser -> Denoiser, so that they nest.

All speak of clean estimates. Wherever two estimates are combined, a weight w means

    other + w · (wanted − other):

1 is the wanted estimate itself, 0 the other one, and above 1 their difference is exaggerated. For
tokens that is said of log-probabilities, so that the guided estimate is p^w q^(1 − w): a factor 0
of positive power makes a token impossible, one of negative power is left out. States that are
mappings are guided part by part, their tokens by the weight alone. What the condition "mask" says
is padding counts for no norm and no deviation.

Recipes, `Model.sample` and ``suffuse sample --guidance-by`` name them with dashes. What takes a
weight guides; the others (`rescale`, `clip`, `dynamic_threshold`) follow it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from suffuse.diffusion.categorical import NEVER
from suffuse.diffusion.constant import Constant
from suffuse.diffusion.plan import Plan
from suffuse.diffusion.process import Denoiser, State, align, by_name, masked, mean_over
from suffuse.diffusion.schedules import Schedule
from suffuse.errors import SuffuseError

__all__ = [
    "apg",
    "autoguidance",
    "cfg_plus_plus",
    "cfg_zero_star",
    "classifier",
    "classifier_free",
    "clip",
    "compose",
    "dynamic_threshold",
    "rescale",
]

LEAST_ALPHA = 1 / 128
"""Where α is below, x_t is noise to a part in a hundred, and says next to nothing of the class."""

Weight = float | Callable[[Tensor], Tensor]
Part = Callable[..., Tensor]
"""(estimates..., x_t, t, mask) -> an estimate; tensors [B, ...], t [B] or [B, *axes]."""


def _each(function: Part, estimates: Sequence[State], x_t: State, t: Any, mask: Any) -> State:
    """The function of a state's estimates, without padding; part by part of a mapping."""
    if not isinstance(x_t, Mapping):
        return function(*(masked(e, mask) for e in estimates), x_t, t, mask)
    return {
        name: _each(
            function,
            [e[name] for e in estimates],
            x,
            t[name] if isinstance(t, Mapping) else t,
            mask.get(name) if mask else None,
        )
        for name, x in x_t.items()
    }


def _weighed(x_t: Tensor, base: Tensor, *terms: tuple[Any, Tensor]) -> Tensor:
    """base + Σ w (estimate − base); for tokens of log-probabilities, as logits."""
    if x_t.is_floating_point():
        out = base
        for w, e in terms:
            w = align(w, x_t).to(base.dtype) if isinstance(w, Tensor) else w
            # the first by lerp, which is the estimate itself at w = 1
            out = torch.lerp(base, e, w) if out is base else out + w * (e - base)
        return out
    factors = [(1 - sum(w for w, _ in terms), base), *terms]
    out = torch.zeros_like(base, dtype=torch.float64)
    for w, estimate in factors:
        p = estimate.double().log_softmax(-1)
        if not isinstance(w, Tensor):
            w = torch.full((), w, dtype=torch.float64, device=p.device)
        w = align(w.to(p), p)
        never = torch.where(w > 0, NEVER, 0.0)
        out = out + torch.where(p > NEVER / 2, w * p, never)
    return out.clamp(min=NEVER)


def _together(
    denoiser: Denoiser, x_t: State, t: Any, several: Sequence[Mapping[str, Any]]
) -> list[State]:
    """The estimates under several sets of conditions of the same names, asked for in one batch."""
    k, sizes = len(several), []

    def repeat(v: Tensor) -> Tensor:
        sizes.append(len(v))
        return torch.cat([v] * k)

    def stack(*values: Any) -> Any:
        if not isinstance(values[0], Tensor):
            if any(v is not values[0] for v in values):
                raise SuffuseError(
                    "conditions that differ are asked for in one batch, and are tensors "
                    f"[1 or B, ...]; given {values}"
                )
            return values[0]
        return torch.cat([v.to(values[0]).expand(sizes[0], *v.shape[1:]) for v in values])

    asked = by_name(repeat, x_t), by_name(repeat, t)
    given = {name: by_name(stack, *(s[name] for s in several)) for name in several[0]}
    found = denoiser(*asked, **given)
    return [by_name(lambda e, i=i: e.chunk(k)[i], found) for i in range(k)]


Ask = Callable[[State, Any, dict[str, Any]], list[State]]


def _guided(ask: Ask, combine: Part) -> Denoiser:
    def guided(x_t: State, t: Any, **conditions: Any) -> Any:
        return _each(combine, ask(x_t, t, conditions), x_t, t, conditions.get("mask"))

    return guided


def _both(denoiser: Denoiser, null: Mapping[str, Any]) -> Ask:
    """The conditional and the unconditional estimate."""
    return lambda x_t, t, conditions: _together(
        denoiser, x_t, t, [conditions, {n: null.get(n, value) for n, value in conditions.items()}]
    )


def _of(*denoisers: Denoiser) -> Ask:
    return lambda x_t, t, conditions: [ask(x_t, t, **conditions) for ask in denoisers]


def _extrapolated(
    weight: Weight, numbers: Part | None = None, largest: float = float("inf")
) -> Part:
    """The wanted and the other estimate by weight; numbers by a function of their own.

    The log-ratio of tokens' probabilities is cut to `largest`.
    """

    def combine(wanted: Tensor, other: Tensor, x_t: Tensor, t: Tensor, mask: Any) -> Tensor:
        if numbers is not None and x_t.is_floating_point():
            return numbers(wanted, other, x_t, t, mask)
        if not x_t.is_floating_point() and largest < float("inf"):
            other = _near(other, wanted, largest)
        return _weighed(x_t, other, (weight(t) if callable(weight) else weight, wanted))

    return combine


def _near(other: Tensor, wanted: Tensor, largest: float) -> Tensor:
    """The other estimate's log-probabilities, each within `largest` of the wanted one's."""
    p, q = wanted.double().log_softmax(-1), other.double().log_softmax(-1)
    return torch.minimum(torch.maximum(q, p - largest), p + largest)


def _total(v: Tensor) -> Tensor:
    """The sum over each sample's elements, [B, 1, ...]."""
    return align(v.flatten(1).sum(1), v)


def classifier_free(
    denoiser: Denoiser,
    weight: Weight,
    null: Mapping[str, Any],
    *,
    interval: tuple[float, float] = (0.0, 1.0),
    largest: float = float("inf"),
) -> Denoiser:
    """Classifier-free guidance.

    Args:
        denoiser: conditional, and unconditional where it is given the null conditions.
        weight: a number, or a function of t.
        null: for every condition its value for "not given", [1, ...]; or a condition to keep away
            from (a negative prompt). Conditions without one stay as they are.
        interval: the times t between which guidance acts; elsewhere the weight is 1.
        largest: of tokens: the log-ratio of their two probabilities, in nats, is cut to this. The
            tokens of one state are exaggerated together, and without a bound a state goes where
            no data are.

    Sources: Ho, Salimans (2022), arXiv 2207.12598; the interval: Kynkäänniemi et al. (2024),
    arXiv 2404.07724; for tokens: Schiff et al. (2024), arXiv 2412.10193, eq. 12.
    """
    low, high = interval
    if not 0 <= low < high <= 1:
        raise SuffuseError(f"a guidance interval rises within [0, 1]; given {low} to {high}")

    def within(t: Tensor) -> Tensor:
        w = weight(t) if callable(weight) else torch.full_like(t, weight)
        return torch.where((t >= low) & (t <= high), w, torch.ones_like(w))

    return _guided(_both(denoiser, null), _extrapolated(within, largest=largest))


def cfg_plus_plus(
    denoiser: Denoiser, weight: float, null: Mapping[str, Any], plan: Plan | None
) -> Denoiser:
    """CFG++: the guided estimate, renoised with the unconditional noise.

    For a step from t to s, h = λ_s − λ_t, that is classifier-free guidance with the weight
    weight / (1 − e^{−h}), since the noise that DDIM would take from the guided estimate is put
    back. The plan's steps tell h.

    Args:
        weight: between 0 and 1.
        plan: the plan that the guided denoiser is sampled with, of one call a step; levels without
            axes.

    Raises:
        SuffuseError: for another weight, and without one such plan for the whole state.

    Source: Chung et al. (2024), arXiv 2406.08070, algorithm 2.
    """
    if not 0 <= weight <= 1:
        raise SuffuseError(f"the weight of CFG++ lies between 0 and 1, and {weight} does not")
    if not isinstance(plan, Plan) or plan.t.ndim > 1:
        raise SuffuseError("CFG++ is for sampling by one plan of the whole state, and knows none")
    lam = plan.schedule.at(torch.from_numpy(plan.t)).lam
    after = plan.schedule.at(torch.from_numpy(plan.s)).lam
    if not (plan.s < plan.t).all():
        raise SuffuseError(
            "CFG++ is for plans of one call a step, whose every row goes on towards clean data, as "
            f"'ddim'; {plan.solver!r} has rows that do not"
        )
    table = Constant(weight / -torch.expm1(lam - after))
    times = Constant(torch.from_numpy(plan.t))

    def by_step(t: Tensor) -> Tensor:
        nearest = (t[..., None] - times.on(t.device)).abs().argmin(-1)
        return table.on(t.device)[nearest].to(t)

    return classifier_free(denoiser, by_step, null)


def cfg_zero_star(
    denoiser: Denoiser,
    weight: float,
    null: Mapping[str, Any],
    schedule: Schedule,
    *,
    still_above: float = 1.0,
) -> Denoiser:
    """CFG-Zero*: the unconditional velocity scaled to fit the conditional one, and a still start.

    With the velocity u = (x_t − (α + σ) x_0) / σ of the straight path, the guided one is
    s u_0 + w (u_c − s u_0), s = ⟨u_c, u_0⟩ / ⟨u_0, u_0⟩.

    Args:
        schedule: of the states that are numbers.
        still_above: the velocity is 0 at times above this one; 1 is never.

    Source: Fan et al. (2025), arXiv 2503.18886, eq. 9 and 10.
    """

    def combine(wanted: Tensor, other: Tensor, x_t: Tensor, t: Tensor, mask: Any) -> Tensor:
        c = schedule.at(t).align(x_t)
        scale = c.alpha + c.sigma
        sigma = c.sigma.clamp(min=1e-12)
        u_c, u_0 = (masked((x_t - scale * e) / sigma, mask) for e in (wanted, other))
        fit = _total(u_c * u_0) / _total(u_0 * u_0).clamp(min=1e-12)
        u = torch.lerp(fit * u_0, u_c, torch.full_like(fit, weight))
        u = u * align(t <= still_above, x_t)
        return ((x_t - c.sigma * u) / scale).to(x_t.dtype)

    return _guided(_both(denoiser, null), _extrapolated(weight, combine))


def apg(
    denoiser: Denoiser,
    weight: float,
    null: Mapping[str, Any],
    *,
    parallel: float = 0.0,
    largest: float = float("inf"),
) -> Denoiser:
    """Adaptive projected guidance, without its momentum, which would need a memory.

    The difference of the two estimates is cut to a norm of at most `largest`; of its component
    along the conditional estimate, which over-saturates, the part `parallel` stays.

    Source: Sadat et al. (2024), arXiv 2410.02416, algorithm 1.
    """

    def combine(wanted: Tensor, other: Tensor, x_t: Tensor, t: Tensor, mask: Any) -> Tensor:
        difference = wanted - other
        norm = _total(difference**2).sqrt().clamp(min=1e-12)
        difference = difference * (largest / norm).clamp(max=1.0)
        unit = wanted / _total(wanted**2).sqrt().clamp(min=1e-12)
        along = _total(difference * unit) * unit
        return wanted + (weight - 1) * (difference - (1 - parallel) * along)

    return _guided(_both(denoiser, null), _extrapolated(weight, combine))


def autoguidance(denoiser: Denoiser, worse: Denoiser, weight: float) -> Denoiser:
    """Away from a worse version of the same model: smaller, or trained for less long.

    Source: Karras et al. (2024), arXiv 2406.02507, eq. 3.
    """
    return _guided(_of(denoiser, worse), _extrapolated(weight))


def compose(
    denoiser: Denoiser,
    weighted: Sequence[tuple[float, Mapping[str, Any]]],
    null: Mapping[str, Any],
) -> Denoiser:
    """Several conditions at once: null + Σ w_i (estimate_i − null); below 0 keeps away.

    Args:
        weighted: weights with conditions, each [1, ...] or [B, ...].
        null: the conditions that everything is measured from, [1, ...]; all that are weighted.

    Raises:
        SuffuseError: for a weighted condition that has no null.

    Source: Liu et al. (2022), arXiv 2206.01714, eq. 11.
    """

    for name in {name: None for _, given in weighted for name in given}:
        if name not in null:
            raise SuffuseError(f"the condition {name!r} has no null to be measured from")

    def combine(base: Tensor, *rest: Any) -> Tensor:
        *estimates, x_t, _, _ = rest
        return _weighed(x_t, base, *zip((w for w, _ in weighted), estimates, strict=True))

    def ask(x_t: State, t: Any, conditions: dict[str, Any]) -> list[State]:
        several = (null, *(given for _, given in weighted))
        return _together(denoiser, x_t, t, [{**conditions, **given} for given in several])

    return _guided(ask, combine)


def classifier(
    denoiser: Denoiser,
    log_prob: Callable[[Tensor, Tensor], Tensor],
    weight: float,
    schedule: Schedule | None = None,
) -> Denoiser:
    """The gradient of a classifier that reads noisy states: x_0 + w (σ²/α) ∇ log p(y | x_t).

    Args:
        log_prob: (x_t [B, ...], t) -> log p(y | x_t), [B], differentiable; for tokens the logits
            that it adds, log p(y | x_t, x_0 = k) of each token and each value k, [B, ..., K].
        schedule: for states that are numbers.

    Source: Dhariwal, Nichol (2021), arXiv 2105.05233, eq. 14, for the clean estimate; for tokens it
    is Bayes' rule.
    """

    def guided(x_t: Tensor, t: Tensor, **conditions: Any) -> Tensor:
        estimate = denoiser(x_t, t, **conditions)
        if not x_t.is_floating_point():
            return (estimate.double() + weight * log_prob(x_t, t)).clamp(min=NEVER)
        if schedule is None:
            raise SuffuseError(
                "a classifier's gradient needs the schedule: classifier(..., schedule)"
            )
        with torch.enable_grad(), torch.inference_mode(False):
            x = x_t.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad(log_prob(x, t).sum(), x)
        c = schedule.at(t).align(x_t)
        shift = weight * c.sigma**2 / c.alpha.clamp(min=LEAST_ALPHA)
        return estimate + (shift * gradient).to(x_t.dtype)

    return guided


def rescale(denoiser: Denoiser, plain: Denoiser, *, amount: float = 0.7) -> Denoiser:
    """The guided estimate with its deviation brought back towards the plain one's.

    Args:
        denoiser: guided.
        plain: the same without guidance.
        amount: from 0 (as guided) to 1 (the plain deviation).

    Source: Lin et al. (2023), arXiv 2305.08891, eq. 15 and 16, on the clean estimate.
    """

    def combine(plain: Tensor, strong: Tensor, x_t: Tensor, t: Tensor, mask: Any) -> Tensor:
        if not x_t.is_floating_point():
            return strong
        variances = []
        for e in (plain, strong):
            mean = align(mean_over(e, mask), e)
            variances.append(align(mean_over((e - mean) ** 2, mask), e))
        flat = variances[1] == 0  # nothing to rescale
        ratio = torch.where(flat, 1, variances[0] / variances[1].masked_fill(flat, 1)).sqrt()
        return strong * (1 + amount * (ratio - 1))

    return _guided(_of(plain, denoiser), combine)


def _bounded(denoiser: Denoiser, function: Callable[[Tensor, Any], Tensor]) -> Denoiser:
    """The estimate of numbers by a function of it and the mask; tokens as they are."""

    def part(x_0: Tensor, x_t: Tensor, t: Tensor, mask: Any) -> Tensor:
        return function(x_0, mask) if x_t.is_floating_point() else x_0

    return _guided(_of(denoiser), part)


def clip(denoiser: Denoiser, low: float, high: float) -> Denoiser:
    """The clean estimate held within the data's range: static thresholding."""
    if not low < high:
        raise SuffuseError(f"a range rises; given {low} to {high}")
    return _bounded(denoiser, lambda x_0, mask: x_0.clamp(low, high))


def dynamic_threshold(
    denoiser: Denoiser, bound: float = 1.0, percentile: float = 0.995
) -> Denoiser:
    """Each sample clipped at its own percentile of magnitudes, and scaled back to the range.

    Args:
        bound: the data lie within [−bound, bound].
        percentile: of the magnitudes; where it lies below the bound, the bound is taken.

    Source: Saharia et al. (2022), arXiv 2205.11487, section 2.3.
    """

    def threshold(x_0: Tensor, mask: Any) -> Tensor:
        sizes = x_0.abs().to(torch.promote_types(x_0.dtype, torch.float32))
        if mask is not None:
            sizes = torch.where(align(mask, sizes), sizes, torch.nan)
        # sample by sample, since torch takes quantiles of 2^24 numbers at most
        each = torch.stack([of.nanquantile(percentile) for of in sizes])
        s = align(each, x_0).clamp(min=bound)
        return (x_0.clamp(-s, s) * (bound / s)).to(x_0.dtype)

    return _bounded(denoiser, threshold)
