r"""One clock, many gauges.

A noisy state is x_t = α x_0 + σ ε with ε standard normal. All that matters of α and σ is their
ratio, so a schedule is told by

    λ = log(α / σ),

half the log of the signal-to-noise ratio of variances, written `lam`, and by a **gauge**, which
fixes the scale of the state:

    variance preserving   α² = sigmoid(2λ)   σ² = sigmoid(−2λ)     α² + σ² = 1
    flow                  α  = sigmoid(λ)    σ  = sigmoid(−λ)      α  + σ  = 1
    variance exploding    α  = 1             σ  = e^{−λ}

No difference of near numbers is taken, and both ends are legal: λ = +∞ is clean data and λ = −∞
pure noise (which the variance exploding gauge does not have). A **schedule** adds the clock: a
decreasing map from t in [0, 1] to λ with λ(0) = +∞, and its inverse.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from inspect import signature
from typing import Any, Literal, NamedTuple, ParamSpec, cast

import torch
from torch import Tensor

from suffuse.diffusion.constant import Constant
from suffuse.errors import SuffuseError, unknown

Gauge = Literal["vp", "flow", "ve"]
Map = Callable[[Tensor], Tensor]
Clock = tuple[Gauge, Map, Map]
P = ParamSpec("P")


class Coefficients(NamedTuple):
    """x_t = alpha x_0 + sigma ε and lam = log(alpha / sigma); float64, of the shape of t."""

    alpha: Tensor
    sigma: Tensor
    lam: Tensor

    def align(self, x: Tensor) -> Coefficients:
        """These as tensors that broadcast over `x` [B, ...], in its dtype and on its device.

        Their axes are matched with the leading axes of `x`: [B] is a level for each sample, and
        [B, F] a level for each of the F frames or tokens of a state [B, F, ...].
        """
        dtype = torch.promote_types(x.dtype, torch.float32)
        return Coefficients(
            *(k.to(x.device, dtype).reshape(k.shape + (1,) * (x.ndim - k.ndim)) for k in self)
        )


def in_gauge(gauge: Gauge, lam: Tensor) -> Coefficients:
    """α and σ that follow from λ in a gauge; float64."""
    if gauge == "vp":
        return Coefficients(torch.sigmoid(2 * lam).sqrt(), torch.sigmoid(-2 * lam).sqrt(), lam)
    if gauge == "flow":
        return Coefficients(torch.sigmoid(lam), torch.sigmoid(-lam), lam)
    return Coefficients(torch.ones_like(lam), torch.exp(-lam), lam)


@dataclass(frozen=True)
class Schedule:
    """A gauge and a clock.

    Attributes:
        gauge: "vp", "flow" or "ve".
        to_lam: t in [0, 1] to λ, decreasing; float64 tensor to float64 tensor.
        to_t: its inverse, for λ in [λ(1), +∞].
        config: the name and the options that make this schedule again, as plain values.
    """

    gauge: Gauge
    to_lam: Map = field(repr=False)
    to_t: Map = field(repr=False)
    config: dict[str, Any] = field(default_factory=dict)

    def at(self, t: Tensor | float) -> Coefficients:
        """α, σ and λ at the times t in [0, 1], 0 clean and 1 noise; any shape, float64.

        >>> c = cosine().at(0.5)
        >>> round(float(c.alpha), 6), round(float(c.sigma), 6), abs(float(c.lam)) < 1e-15
        (0.707107, 0.707107, True)
        """
        return in_gauge(self.gauge, self.to_lam(torch.as_tensor(t, dtype=torch.float64)))

    def t(self, lam: Tensor | float) -> Tensor:
        """The times at which λ is reached, float64; λ outside the schedule's range is clamped."""
        lam = torch.as_tensor(lam, dtype=torch.float64)
        lowest = self.to_lam(torch.ones((), dtype=torch.float64, device=lam.device))
        return self.to_t(torch.maximum(lam, lowest)).clamp(0.0, 1.0)


SCHEDULES: dict[str, Callable[..., Schedule]] = {}
"""The core's schedules by name."""


def _named(clock: Callable[P, Clock]) -> Callable[P, Schedule]:
    """A schedule of what the function answers with; its config are the name and the options."""
    name = clock.__name__.replace("_", "-")

    @wraps(clock)
    def make(*args: P.args, **options: P.kwargs) -> Schedule:
        asked = signature(clock).bind(*args, **options)
        asked.apply_defaults()
        # tensors and arrays as plain values, so that plans can be kept
        config = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in asked.arguments.items()}
        gauge, to_lam, to_t = cast(Callable[..., Clock], clock)(**config)
        return Schedule(gauge, to_lam, to_t, {"name": name, **config})

    SCHEDULES[name] = make
    return make


def _shifted(shift: float, gauge: Gauge, to_lam: Map, to_t: Map) -> Clock:
    """λ − log(shift): above 1 there is more noise at the same t (for larger states)."""
    if not shift > 0:
        raise SuffuseError(f"a schedule's shift is above 0, and {shift} is not")
    by = math.log(shift)
    return gauge, lambda t: to_lam(t) - by, lambda lam: to_t(lam + by)


@_named
def cosine(shift: float = 1.0) -> Clock:
    """α = cos(πt/2), σ = sin(πt/2), in the variance preserving gauge; λ = −log tan(πt/2).

    Args:
        shift: noise for larger states: λ − log(shift).

    Sources: Nichol, Dhariwal, "Improved denoising diffusion probabilistic models" (2021),
    arXiv 2102.09672, without its offset; the shift: Hoogeboom, Heek, Salimans, "Simple diffusion"
    (2023), arXiv 2301.11093, eq. 3.
    """

    def to_lam(t: Tensor) -> Tensor:
        half = t * (math.pi / 2)
        return torch.where(t < 1, torch.log(torch.cos(half) / torch.sin(half)), -math.inf)

    def to_t(lam: Tensor) -> Tensor:
        return torch.atan(torch.exp(-lam)) * (2 / math.pi)

    return _shifted(shift, "vp", to_lam, to_t)


@_named
def flow(shift: float = 1.0, power: float = 1.0) -> Clock:
    """α = 1 − t, σ = t: the straight path of rectified flow; λ = log((1 − t) / t).

    Args:
        shift: noise for larger states, t' = shift·t / (1 + (shift − 1)·t), which is λ − log(shift).
        power: σ = t^power instead; above 1, equal steps of t are shorter near clean data, as
            tokens that depend on each other want it.

    Raises:
        SuffuseError: for a power that is not above 0.

    Sources: Liu, Gong, Liu (2022), arXiv 2209.03003; the shift: Esser et al. (2024),
    arXiv 2403.03206, eq. 23; a power for tokens: Qin et al. (DeFoG, 2025), arXiv 2410.04263.
    """
    if not power > 0:
        raise SuffuseError(f"the power of a flow is above 0; given {power}")

    def to_lam(t: Tensor) -> Tensor:
        return torch.log1p(-(t**power)) - power * torch.log(t)

    return _shifted(shift, "flow", to_lam, lambda lam: torch.sigmoid(-lam) ** (1 / power))


@_named
def edm(sigma_max: float = 80.0, rho: float = 7.0) -> Clock:
    """σ = sigma_max · t^rho in the variance exploding gauge, so that t is Karras's ramp.

    Source: Karras, Aittala, Aila, Laine, "Elucidating the design space of diffusion-based
    generative models" (2022), arXiv 2206.00364, eq. 5 with sigma_min = 0.
    """
    if not (sigma_max > 0 and rho > 0):
        raise SuffuseError(f"sigma_max and rho are above 0; given {sigma_max} and {rho}")
    top = math.log(sigma_max)
    return "ve", lambda t: -top - rho * torch.log(t), lambda lam: torch.exp(-(lam + top) / rho)


@_named
def geometric(sigma_min: float = 0.01, sigma_max: float = 50.0) -> Clock:
    """σ falls geometrically from sigma_max to sigma_min, then straight to 0, variance exploding.

    The geometric part takes t from 1 down to 0.05; it is the exponential schedule of score-based
    models.

    Source: Song et al., "Score-based generative modeling through stochastic differential
    equations" (2021), arXiv 2011.13456, appendix C.
    """
    if not 0 < sigma_min < sigma_max:
        raise SuffuseError(f"0 < sigma_min < sigma_max; given {sigma_min} and {sigma_max}")
    knee = 0.05
    low, high = math.log(sigma_min), math.log(sigma_max)

    def to_lam(t: Tensor) -> Tensor:
        steep = high + (low - high) * (1 - t) / (1 - knee)
        return -torch.where(t > knee, steep, low + torch.log(t / knee))

    def to_t(lam: Tensor) -> Tensor:
        steep = 1 - (1 - knee) * (high + lam) / (high - low)
        return torch.where(-lam > low, steep, knee * torch.exp(-lam - low))

    return "ve", to_lam, to_t


@_named
def inverse_cosine() -> Clock:
    """The cosine schedule mirrored: λ changes fast in the middle, and the ends are dwelt on.

    The density of λ is that of the cosine schedule with the clock and the level exchanged:
    α² = arccos(2t − 1)/π.

    Source: in the family of Chen, "On the importance of noise scheduling for diffusion models"
    (2023), arXiv 2301.10972.
    """

    def to_lam(t: Tensor) -> Tensor:
        squared = torch.acos((2 * t - 1).clamp(-1, 1)) / math.pi
        return (torch.log(squared) - torch.log1p(-squared)) / 2

    def to_t(lam: Tensor) -> Tensor:
        return (1 + torch.cos(math.pi * torch.sigmoid(2 * lam))) / 2

    return "vp", to_lam, to_t


@_named
def zero_terminal(beta_start: float = 0.00085, beta_end: float = 0.012, steps: int = 1000) -> Clock:
    """The scaled-linear table rescaled so that the last index is pure noise.

    Source: Lin et al. (2023), arXiv 2305.08891, algorithm 1.
    """
    roots = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64)
    alpha = torch.cumprod(1 - roots**2, 0).sqrt()
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    return _table(alpha**2)


@_named
def sigmoid(start: float = -3.0, end: float = 3.0, temperature: float = 1.0) -> Clock:
    """α² falls along a sigmoid between `start` and `end`, rescaled to go from 1 to 0.

    With y = (start + t (end − start)) / (2 temperature), S and E its values at t = 0 and 1,
    a difference of sigmoids is sinh(difference / 2) / (2 cosh cosh), hence
    e^{2λ} = sinh(E − y) cosh(S) / (sinh(y − S) cosh(E)), without cancellation.

    Source: Jabri, Fleet, Chen, "Scalable adaptive computation for iterative generation" (2022),
    arXiv 2212.11972, algorithm 1.
    """
    if not (end > start and temperature > 0):
        raise SuffuseError(
            f"a sigmoid schedule needs start < end and temperature > 0; given {start}, {end} and "
            f"{temperature}"
        )
    low, high = start / (2 * temperature), end / (2 * temperature)
    offset = math.log(math.cosh(low) / math.cosh(high))

    def to_lam(t: Tensor) -> Tensor:
        span = high - low
        ratio = torch.log(torch.sinh(span * (1 - t))) - torch.log(torch.sinh(span * t))
        return (ratio + offset) / 2

    def to_t(lam: Tensor) -> Tensor:
        q = torch.sigmoid(2 * lam - offset)
        p = torch.sigmoid(offset - 2 * lam)
        # tanh(y − S) rather than y itself, so that small t keeps its digits
        rise = p * math.sinh(high - low) / (q + p * math.cosh(high - low))
        return torch.atanh(rise) / (high - low)

    return "vp", to_lam, to_t


@_named
def discrete(alphas_cumprod: list[float]) -> Clock:
    """The table of a pretrained discrete model, made continuous.

    Index i of N is t = (i + 1) / N, and t = 0 is clean. Between the nodes the angle
    atan(σ / α) = atan(e^{−λ}) runs straight, which reaches both ends: a table whose last value is 0
    (zero terminal signal-to-noise ratio) is legal.

    Args:
        alphas_cumprod: α² at the indices, decreasing, in [0, 1); a list, an array or a tensor.
    """
    return _table(torch.tensor(alphas_cumprod, dtype=torch.float64))


def _table(squares: Tensor) -> Clock:
    if len(squares) < 2 or not bool(((squares >= 0) & (squares < 1)).all()):
        raise SuffuseError("a discrete schedule needs two values or more of α², all in [0, 1)")
    if not bool((squares.diff() < 0).all()):
        raise SuffuseError("the α² of a discrete schedule have to fall from index to index")
    nodes = torch.atan2((1 - squares).sqrt(), squares.sqrt())
    angles = Constant(torch.cat([nodes.new_zeros(1), nodes]))
    n, whole = len(squares), bool(squares[-1] == 0)

    def to_lam(t: Tensor) -> Tensor:
        nodes = angles.on(t.device)
        position = t.clamp(0, 1) * n
        i = position.floor().clamp(max=n - 1).long()
        angle = torch.lerp(nodes[i], nodes[i + 1], position - i)
        ended = (angle >= math.pi / 2) | ((position >= n) & whole)
        return torch.where(ended, -math.inf, -torch.log(torch.tan(angle)))

    def to_t(lam: Tensor) -> Tensor:
        nodes = angles.on(lam.device)
        angle = torch.atan(torch.exp(-lam))
        i = (torch.searchsorted(nodes, angle.contiguous()) - 1).clamp(0, n - 1)
        return (i + (angle - nodes[i]) / (nodes[i + 1] - nodes[i])) / n

    return "vp", to_lam, to_t


@_named
def linear_beta(beta_start: float = 1e-4, beta_end: float = 0.02, steps: int = 1000) -> Clock:
    """β rises straight over `steps` indices; α² is the running product of 1 − β.

    Source: Ho, Jain, Abbeel, "Denoising diffusion probabilistic models" (2020), arXiv 2006.11239.
    """
    return _from_betas(torch.linspace(beta_start, beta_end, steps, dtype=torch.float64))


@_named
def scaled_linear(beta_start: float = 0.00085, beta_end: float = 0.012, steps: int = 1000) -> Clock:
    """√β rises straight over `steps` indices: the schedule of latent diffusion.

    Source: Rombach et al., "High-resolution image synthesis with latent diffusion models" (2022),
    arXiv 2112.10752.
    """
    roots = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64)
    return _from_betas(roots**2)


def _from_betas(betas: Tensor) -> Clock:
    if not bool(((betas > 0) & (betas < 1)).all()):
        raise SuffuseError(
            f"every beta lies between 0 and 1; given {float(betas[0])} to {float(betas[-1])}"
        )
    return _table(torch.cumprod(1 - betas, 0))


@_named
def bridge_exponential(c: float = 0.4, k: float = 2.6) -> Clock:
    """A bridge's reference with g² = c k^{2t}, in the variance exploding gauge ("SB-VE").

    σ² = c (k^{2t} − 1) / (2 log k).

    Source: Jukić et al. (2024), arXiv 2407.16074.
    """
    if not (c > 0 and k > 1):
        raise SuffuseError(f"an exponential bridge has c above 0 and k above 1; given {c} and {k}")
    rate = 2 * math.log(k)

    def to_t(lam: Tensor) -> Tensor:
        return torch.log1p(torch.exp(-2 * lam) * (rate / c)) / rate

    return "ve", lambda t: -torch.log(torch.expm1(rate * t) * (c / rate)) / 2, to_t


@_named
def bridge_gmax(beta_0: float = 0.01, beta_1: float = 20.0) -> Clock:
    """A bridge's reference with g² rising straight from beta_0 to beta_1, variance exploding.

    σ² = beta_0 t + (beta_1 − beta_0) t² / 2.

    Source: Chen et al. (2023), arXiv 2312.03491, table 1.
    """
    if not 0 < beta_0 < beta_1:
        raise SuffuseError(f"a gmax bridge has 0 < beta_0 < beta_1; given {beta_0} and {beta_1}")
    slope = beta_1 - beta_0

    def to_t(lam: Tensor) -> Tensor:
        # 2ν / (β₀ + sqrt(β₀² + 2 slope ν)), divided through by sqrt(ν) = e^{−λ}, for λ = ±∞
        ratio = beta_0 * torch.exp(lam)
        whole = ratio + torch.sqrt(ratio**2 + 2 * slope)
        return 2 * torch.exp(-lam) / whole.clamp(max=1e300)

    return "ve", lambda t: -torch.log(t * (beta_0 + slope * t / 2)) / 2, to_t


def schedule(name: str, **options: Any) -> Schedule:
    """One of the core's schedules by its name.

    >>> schedule("cosine", shift=2.0).config
    {'name': 'cosine', 'shift': 2.0}
    """
    if name not in SCHEDULES:
        raise unknown("schedule", name, SCHEDULES)
    return SCHEDULES[name](**options)
