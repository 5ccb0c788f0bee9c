r"""Categorical states: tokens that are forgotten one by one.

A token of K categories is either still the clean one, with the probability a, or has been drawn
afresh from a distribution m that knows nothing of it:

    q(x_t | x_0) = a 1[x_t = x_0] + b m(x_t),        b = 1 − a.

**The clock.** a = sigmoid(λ) and b = sigmoid(−λ), which are α and σ of the flow gauge: λ is the
log-odds of being clean. So every schedule serves, whatever its own gauge; `schedules.flow()` is
a = 1 − t. Both ends are legal.

**The kernels** differ in m: "absorbing" puts all of it on a token of its own, the mask, which has
the number K; "uniform" is 1/K; "marginal" is given, for instance the frequencies of the data.

**The step.** Given the clean estimate p(x_0 | x_t), the probability that x_t is still clean data is

    ρ = p(x_0 = x_t | x_t) · a / (a + b m(x_t)),

and the rest of the estimate, p′(x_0) = p(x_0) − ρ 1[x_0 = x_t], is about tokens that are noise. A
row (A, B, C) of a sampler's table says what becomes of each kind. A token that is data stays so
with the probability A, and is else drawn afresh. A token that is noise takes the clean estimate's
value with B, is drawn afresh with C, and else is left alone. Hence the law "mixture",

    p(x_s | x_t) =   [A ρ + (1 − B − C)(1 − ρ)] 1[x_s = x_t]
                   + B p′(x_s) + [C (1 − ρ) + (1 − A) ρ] m(x_s).

The right share of the tokens at s is clean wherever A a_t + B b_t = a_s. With r = e^{λ_t − λ_s}
the exact posterior q(x_s | x_t, x_0), averaged over the estimate, is the row
(1, a_s (1 − r), b_s (1 − r)): noise is left alone with the probability r, and else the clean token
is corrupted afresh to s. `suffuse.diffusion.solvers.discrete` has the others.

The law "rates" is tau-leaping. Its rows are the same, but stand for rates that are held for the
step: a token of noise jumps to y at −log(1 − B − C) / (B + C) times B p′(y) + C (1 − ρ) m(y), one
that is data at −log(A) ρ m(y), and the first jump is taken.

Sources: Austin et al., "Structured denoising diffusion models in discrete state-spaces" (D3PM,
2021), arXiv 2107.03006; Vignac et al. (DiGress, 2023), arXiv 2209.14734; Campbell et al., "A
continuous time framework for discrete denoising models" (2022), arXiv 2205.14987; Sahoo et al.,
"Simple and effective masked diffusion language models" (MDLM, 2024), arXiv 2406.07524; Song, Meng,
Ermon (2021), arXiv 2010.02502, appendix A; Wang et al. (ReMDM, 2025), arXiv 2503.00307.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from suffuse.diffusion.constant import Constant
from suffuse.diffusion.noise import Noise, Stream
from suffuse.diffusion.plan import Row
from suffuse.diffusion.process import (
    Denoiser,
    Process,
    Registers,
    align,
    mean_over,
    network_level,
)
from suffuse.diffusion.schedules import Schedule
from suffuse.errors import SuffuseError, unknown
from suffuse.kernels.categorical_step import (
    Split,
    categorical_step,
    invert,
    mixture,
    padded,
    split,
)

__all__ = ["Categorical", "categorical", "tempered"]

KERNELS = ("absorbing", "uniform", "marginal")
NEVER = -1e30
"""The logit of an impossible token: finite, so that guidance may subtract two of them."""


@dataclass(frozen=True)
class Categorical(Process):
    """Tokens of K categories, int64 [B, *shape], each forgotten by itself.

    Attributes:
        schedule: the clock; a = sigmoid(λ).
        categories: K. The tokens of clean states are 0 to K − 1, and the mask is K.
        kernel: "absorbing", "uniform" or "marginal".
        marginal: m for the kernel "marginal": K numbers above 0, brought to the sum 1.
        symmetric: states are [B, *shape, N, N] and equal to their transpose: noise is drawn for one
            triangle and mirrored, logits are averaged with their transpose, and the diagonal is 0
            and counts for nothing.
        weighting: "unit" is the cross-entropy of the clean tokens; "elbo" the bound on the negative
            log-likelihood, in nats a token, exact in continuous time. Its times, `levels`, are
            drawn so that b is uniform: it does not depend on the schedule as long as that begins in
            pure noise, λ(1) = −∞.

    The network takes tokens and answers with logits [B, *shape, K]. Under the absorbing kernel a
    token that is not the mask is known to be clean, and its logits are set so.

    Sources: as of this module; the bound: Campbell et al. (2022), arXiv 2205.14987, proposition 2,
    which for the absorbing kernel is the weighted cross-entropy of Sahoo et al. (2024),
    arXiv 2406.07524, section 3.
    """

    schedule: Schedule
    categories: int
    kernel: Literal["absorbing", "uniform", "marginal"] = "absorbing"
    marginal: tuple[float, ...] | None = None
    symmetric: bool = False
    weighting: Literal["unit", "elbo"] = "unit"
    _stationary: Constant = field(init=False, repr=False, compare=False)
    laws: ClassVar[frozenset[str]] = frozenset({"mixture", "rates"})

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise unknown("kernel", self.kernel, KERNELS)
        if self.weighting not in ("unit", "elbo"):
            raise unknown("weighting", self.weighting, ["unit", "elbo"])
        if self.categories < 2:
            raise SuffuseError(f"tokens have 2 categories or more, and not {self.categories}")
        if (self.marginal is not None) != (self.kernel == "marginal"):
            raise SuffuseError(
                "marginal=... belongs to the kernel 'marginal', and that needs it; given "
                f"{self.marginal} for {self.kernel!r}"
            )
        if self.marginal is not None and (
            len(self.marginal) != self.categories or not min(self.marginal) > 0
        ):
            raise SuffuseError(
                f"a marginal has one number above 0 for each of the {self.categories} categories; "
                f"given {self.marginal}"
            )
        object.__setattr__(self, "_stationary", Constant(self.stationary))

    @property
    def states(self) -> int:
        """How many values a token has, S: K, and one more with the mask."""
        return self.categories + (self.kernel == "absorbing")

    @cached_property
    def stationary(self) -> Tensor:
        """m, float64 [S]."""
        if self.kernel == "absorbing":
            return torch.eye(self.states, dtype=torch.float64)[-1]
        if self.marginal is None:
            return torch.full((self.states,), 1 / self.states, dtype=torch.float64)
        weights = torch.tensor(self.marginal, dtype=torch.float64)
        return weights / weights.sum()

    def clean(self, t: Tensor | float, x: Tensor) -> tuple[Tensor, Tensor]:
        """a and b at the times t, float64, made to broadcast over x [B, ...]."""
        lam = align(self.schedule.at(t).lam, x)
        return torch.sigmoid(lam), torch.sigmoid(-lam)

    # Corruption

    def noise(self, source: Noise, like: Tensor, *, step: int | Tensor, stream: int) -> Tensor:
        """Uniform numbers in (0, 1), float64, of the shape of the tokens; symmetric if they are."""
        u = source.uniform(like.shape[1:], step=step, stream=stream)
        return u.triu() + u.triu(1).mT if self.symmetric else u

    def prior(self, noise: Noise, shape: Sequence[int], t: Any = 1.0) -> Tensor:
        """Tokens drawn from m, [B, *shape], at whatever time."""
        like = torch.empty(len(noise), *shape, device="meta")
        return self._from_stationary(self.noise(noise, like, step=0, stream=Stream.PRIOR))

    def corrupt(self, x_0: Tensor, t: Tensor | float, noise: Tensor) -> Tensor:
        """x_t by inversion: the clean token where the uniform noise is below a, else from m."""
        a, b = self.clean(t, x_0)
        fresh = self._from_stationary(((noise - a) / b).nan_to_num(0.0).clamp(0.0, 1.0))
        return self._tidy(torch.where(noise < a, x_0, fresh))

    def levels(self, u: Tensor) -> Tensor:
        """t = u by the schedule's clock; for the weighting "elbo" the times at which b = u."""
        u = u.to(torch.float64)
        return self.schedule.t(torch.log1p(-u) - u.log()) if self.weighting == "elbo" else u

    # The network

    def present(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens themselves, and the level, of the shape of t."""
        return x_t, network_level(self.schedule.at(t).lam).to(x_t.device, torch.float32)

    def estimate(self, raw: Tensor, x_t: Tensor, t: Tensor | float) -> Tensor:
        """Logits of the clean tokens, [B, *shape, K], float32 or float64.

        Raises:
            SuffuseError: where the network's answer has another shape.
        """
        if raw.shape != (*x_t.shape, self.categories):
            raise SuffuseError(
                f"a network for tokens {list(x_t.shape)} of {self.categories} categories answers "
                f"with logits {[*x_t.shape, self.categories]}, and not {list(raw.shape)}"
            )
        logits = raw.to(torch.promote_types(raw.dtype, torch.float32))
        if self.symmetric:
            logits = (logits + logits.transpose(-2, -3)) / 2
        if self.kernel == "absorbing":
            token = torch.arange(self.categories, device=x_t.device)
            certain = torch.where(x_t[..., None] == token, 0.0, NEVER).to(logits)
            logits = torch.where((x_t < self.categories)[..., None], certain, logits)
        return logits

    def error(
        self,
        raw: Tensor,
        x_0: Tensor,
        x_t: Tensor,
        t: Tensor,
        noise: Tensor,
        mask: Tensor | None,
    ) -> Tensor:
        """The loss averaged over tokens, in nats a token; [B]."""
        logits = self.estimate(raw, x_t, t)
        if self.weighting == "elbo":
            error = self._rate_divergence(logits, x_0, x_t, t)
        else:
            flat = functional.cross_entropy(logits.flatten(0, -2), x_0.flatten(), reduction="none")
            error = flat.reshape(x_0.shape)
        if self.symmetric:
            pairs = ~torch.eye(x_0.shape[-1], dtype=torch.bool, device=x_0.device)
            mask = pairs.expand_as(x_0) if mask is None else pairs & mask
        return mean_over(error, mask)

    def _rate_divergence(self, logits: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Σ_y R_θ(y) − R(y) + R(y) log(R(y) / R_θ(y)) over changes to y, in units where b is time.

        R(y) = [(1 − ρ) m(y) + (a/b) p′(y)] / a are the rates of the reversed process, with the
        clean token itself as the estimate, and R_θ those of the model.
        """
        a, b = self.clean(t, x_t)
        truth = functional.one_hot(x_0, self.categories).double()
        change = functional.one_hot(x_t, self.states) == 0

        def rates(p: Tensor) -> Tensor:
            part = self._split(padded(p, self.states), x_t, a, b)
            fresh = (1 - part.data)[..., None] * self._stationary.on(p.device)
            return torch.where(change, fresh / a[..., None] + part.noise / b[..., None], 0.0)

        exact, model = rates(truth), rates(logits.double().softmax(-1))
        # the floor keeps impossible changes out of the logarithm's gradient
        known = torch.where(exact > 0, model.clamp(min=1e-300), 1.0)
        terms = model - exact + torch.xlogy(exact, exact) - exact * known.log()
        return terms.sum(-1).to(logits.dtype)

    # Steps

    def probabilities(self, estimate: Tensor) -> Tensor:
        """Logits [..., K] as the probabilities of all tokens, float64 [..., S]; the mask has 0."""
        return padded(estimate.double().softmax(-1), self.states)

    def draw(self, estimate: Tensor, source: Noise, step: int | Tensor) -> Tensor:
        """Clean tokens from logits [B, *shape, K]."""
        u = self.noise(source, estimate[..., 0], step=step, stream=Stream.STEP)
        return self._tidy(invert(self.probabilities(estimate), u))

    def step(self, row: Row, registers: Registers, noise: Noise | None) -> Tensor:
        """Tokens drawn from `transition`, by inversion in float64 of one uniform number each."""
        assert noise is not None
        x, logits = registers.states[0], registers.estimates[0]
        u = self.noise(noise, x, step=row.index, stream=Stream.STEP)
        if row.law == "mixture":
            weights = _full(row.a[0], x), _full(row.b[0], x), _full(row.c, x)
            clean, m = self.clean(row.t, x), self._stationary.on(x.device)
            return self._tidy(categorical_step(logits, x, weights, clean, m, u))
        return self._tidy(invert(self.transition(row, x, logits), u))

    def transition(self, row: Row, x_t: Tensor, estimate: Tensor) -> Tensor:
        """The distribution p(x_s | x_t) of each token that a row stands for, float64.

        Args:
            row: by the laws "mixture" or "rates"; or "renoise", which is (a_s, a_s, b_s).
            x_t: tokens [B, *shape].
            estimate: logits of the clean tokens [B, *shape, K].

        Returns:
            [B, *shape, S].
        """
        part = self._split(self.probabilities(estimate), x_t, *self.clean(row.t, x_t))
        m = self._stationary.on(x_t.device)
        A, B, C = (_full(k, x_t) for k in (row.a[0], row.b[0], row.c))
        if row.law == "renoise":
            A, C = (_full(k, x_t) for k in self.clean(row.s, x_t))
            B = A
        found = mixture(part, x_t, A, B, C, m)
        if row.law != "rates":
            return found
        # the first jump at the present rates; where those are infinite, the mixture
        rho, p = part
        left = (1 - B - C).clamp(min=0)
        finite = left > 1e-9  # 1 − B − C, of which rounding may leave a little
        left, kept = (torch.where(finite, k, 1.0) for k in (left, A))
        scale = -left.log() / (B + C).clamp(min=1e-300)
        again = scale * C * (1 - rho) - kept.log() * rho
        rates = (scale * B)[..., None] * p + again[..., None] * m
        rates = rates.scatter(-1, x_t[..., None], 0.0)
        total = rates.sum(-1)
        share = torch.where(total > 0, -torch.expm1(-total) / total, 1.0)
        jumped = (share[..., None] * rates).scatter(
            -1, x_t[..., None], torch.exp(-total)[..., None]
        )
        return torch.where(finite[..., None], jumped, found)

    def posterior(self, x_t: Tensor, x_0: Tensor, t: Tensor | float, s: Tensor | float) -> Tensor:
        """q(x_s | x_t, x_0) for s < t, float64 [B, *shape, S].

        Source: Austin et al. (2021), arXiv 2107.03006, eq. 3.
        """
        (a_t, _), (a_s, b_s) = self.clean(t, x_t), self.clean(s, x_t)
        m = self._stationary.on(x_t.device)
        stays = a_t / a_s  # a token that is clean at s is so at t, too
        origin = functional.one_hot(x_0, self.states).double()
        at_s = a_s[..., None] * origin + b_s[..., None] * m
        here = functional.one_hot(x_t, self.states).double()
        reached = stays[..., None] * here + ((1 - stays) * m[x_t])[..., None]
        joint = at_s * reached
        return joint / joint.sum(-1, keepdim=True)

    def _split(self, p: Tensor, x_t: Tensor, a: Tensor, b: Tensor) -> Split:
        return split(p, x_t, a, b, self._stationary.on(x_t.device))

    def _from_stationary(self, u: Tensor) -> Tensor:
        cdf = self._stationary.on(u.device).cumsum(0)
        tokens = torch.searchsorted(cdf, u.contiguous() * cdf[-1], right=True)
        return self._tidy(tokens.clamp(max=self.states - 1))

    def _tidy(self, x: Tensor) -> Tensor:
        if not self.symmetric:
            return x
        diagonal = torch.eye(x.shape[-1], dtype=torch.bool, device=x.device)
        return x.masked_fill(diagonal, 0)


def _full(k: Any, x: Tensor) -> Tensor:
    """A row's coefficient as float64, broadcasting over x."""
    k = align(k, x)
    return k if isinstance(k, Tensor) else torch.full((), k, dtype=torch.float64, device=x.device)


def tempered(denoiser: Denoiser, temperature: float = 1.0, top_p: float = 1.0) -> Denoiser:
    """Logits divided by a temperature, and cut to the likeliest tokens that hold `top_p` of it all.

    Args:
        denoiser: of a categorical process.
        temperature: above 0; below 1 sharpens.
        top_p: in (0, 1]; the likeliest token always stays.

    Source: Holtzman et al., "The curious case of neural text degeneration" (2020),
    arXiv 1904.09751.
    """
    if not (temperature > 0 and 0 < top_p <= 1):
        raise SuffuseError(
            f"a temperature is above 0 and top_p in (0, 1]; given {temperature} and {top_p}"
        )

    def denoise(x_t: Tensor, t: Tensor, **conditions: Any) -> Tensor:
        logits = denoiser(x_t, t, **conditions) / temperature
        if top_p == 1:
            return logits
        p, order = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
        beyond = p.cumsum(-1) - p >= top_p
        return logits.masked_fill(beyond.scatter(-1, order, beyond), NEVER)

    return denoise


def categorical(
    schedule: Schedule,
    categories: int | None = None,
    kernel: Literal["absorbing", "uniform", "marginal"] = "absorbing",
    marginal: list[float] | None = None,
    symmetric: bool = False,
    weighting: Literal["unit", "elbo"] = "unit",
    encoder: Any = None,
) -> Categorical:
    """The categorical process, for recipes: see `Categorical` for the options.

    What is None, `categories` and the numbers of a marginal kernel, is the encoder's.
    """
    if categories is None:
        categories = getattr(encoder, "categories", None)
        if categories is None:
            raise SuffuseError(
                "the process 'categorical' needs to know how many categories there are"
            )
    if kernel == "marginal" and marginal is None:
        marginal = getattr(encoder, "marginal", None)
    fixed = None if marginal is None else tuple(marginal)
    return Categorical(schedule, categories, kernel, fixed, symmetric, weighting)
