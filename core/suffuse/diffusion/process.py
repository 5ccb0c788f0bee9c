"""What corruption is: a process says how clean states become noisy, and how a sampler steps back.

The sampling loop and the training engine know only the class `Process`, so that one loop serves
Gaussian noise, discrete corruption, bridges, products of these and whatever a plugin brings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, overload

import torch
from torch import Tensor

from suffuse.diffusion import prediction as predictions
from suffuse.diffusion.noise import Noise, Stream
from suffuse.diffusion.plan import JointPlan, Plan, Row
from suffuse.diffusion.schedules import Coefficients, Schedule
from suffuse.errors import SuffuseError, unknown
from suffuse.kernels import plan_step
from suffuse.kernels.plan_step import Coefficient, Fresh

__all__ = [
    "Denoiser",
    "Gaussian",
    "Network",
    "Process",
    "Registers",
    "State",
    "align",
    "by_name",
    "gaussian",
    "masked",
    "mean_over",
    "network_level",
]

State = Any
"""A tensor [B, *shape]; for a product of processes a mapping of names to such tensors."""

Denoiser = Callable[..., Tensor]
"""(x_t [B, ...], t [B] or [B, *axes], **conditions) -> the clean estimate E[x_0 | x_t].

For a categorical state, the logits [B, ..., K] of the clean tokens; for a product, a mapping.
"""

Network = Callable[..., Tensor]
"""(x [B, ...], level [B] or [B, *axes], **conditions) -> the raw prediction, of the shape of x."""


class Registers(NamedTuple):
    """What a sampler remembers: earlier states and clean estimates, newest first."""

    states: tuple[State, ...]
    estimates: tuple[State, ...]


class Process(ABC):
    """The corruption that a model undoes.

    A process of one's own says what is abstract here; it can then be trained, sampled by `renoise`
    and be part of a product.

    Attributes:
        laws: which laws of a plan's rows its `step` can read.
    """

    laws: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def prior(self, noise: Noise, shape: Any, t: Any = 1.0) -> State:
        """States [B, *shape] as they are distributed at time t, or near to it."""

    @abstractmethod
    def corrupt(self, x_0: State, t: Any, noise: State) -> State:
        """x_t from clean states, at times t [B] or [B, *axes], and what `noise` draws for them."""

    @abstractmethod
    def present(self, x_t: State, t: Any) -> tuple[State, Any]:
        """What the network is shown: the scaled input, and the level, of the shape of t."""

    @abstractmethod
    def estimate(self, raw: State, x_t: State, t: Any) -> State:
        """The clean estimate that the network's raw answer stands for."""

    @abstractmethod
    def error(
        self, raw: State, x_0: State, x_t: State, t: Any, noise: State, mask: State | None
    ) -> Tensor:
        """The loss of the network's raw answer, averaged over the elements of each sample; [B]."""

    @abstractmethod
    def step(self, row: Any, registers: Registers, noise: Noise | None) -> State:
        """The next state; inputs are not written to. `noise` is None for plans without noise."""

    def noise(self, source: Noise, like: State, *, step: int | Tensor, stream: int) -> State:
        """The noise that `corrupt` takes for states like these, [B, ...]: standard normal."""
        wide = torch.float64 if like.dtype == torch.float64 else torch.float32
        return source.normal(like.shape[1:], step=step, stream=stream, dtype=wide)

    def levels(self, u: Tensor) -> Any:
        """Training times from uniform numbers in (0, 1), of the same shape.

        Where `extra` asks for further numbers, training gives u [B, 1 + extra], and times have
        axes of their own: [B, *axes].
        """
        return u.to(torch.float64)

    def extra(self, x_0: State) -> int:
        """How many uniform numbers beside the first `levels` takes for each of these states."""
        return 0

    def draw(self, estimate: State, source: Noise, step: int | Tensor) -> State:
        """A clean state drawn from a clean estimate: the estimate, where that is a state."""
        return estimate

    def given(self, conditions: Mapping[str, Any]) -> Process:
        """This process for certain conditions, where the corruption itself depends on them."""
        return self

    def check(self, plan: Plan | JointPlan) -> None:
        """Refuse a plan whose rows are none of this process's.

        Raises:
            SuffuseError: naming the plan's solver.
        """
        if not isinstance(plan, Plan) or plan.law not in {*self.laws, "renoise"}:
            solver = plan.solver if isinstance(plan, Plan) else "a product"
            raise SuffuseError(
                f"the plan of {solver!r} has rows by the law {plan.law!r}, and a process of the "
                f"kind {type(self).__name__!r} reads {', '.join(sorted({*self.laws, 'renoise'}))}; "
                "give a plan of another solver, or the process=... that it is for"
            )

    def loss(
        self,
        network: Network,
        x_0: State,
        t: Any,
        noise: State,
        *,
        mask: State | None = None,
        **conditions: Any,
    ) -> Tensor:
        """The training loss of each sample, before any mean over samples.

        Args:
            network: (x, level, **conditions) -> the raw prediction.
            x_0: clean states [B, *shape].
            t: times [B] or [B, *axes].
            noise: as `Process.noise` draws it.
            mask: True where an element belongs to a ragged state, over the leading axes of x_0;
                the network is given it as the condition "mask".
            conditions: handed to the network.

        Returns:
            The mean over elements, [B].
        """
        x_t = masked(self.given(conditions).corrupt(x_0, t, noise), mask)
        if mask is not None:
            conditions["mask"] = mask
        return self.error(network(*self.present(x_t, t), **conditions), x_0, x_t, t, noise, mask)

    def denoiser(self, network: Network) -> Denoiser:
        """The network as a denoiser."""

        def denoise(x_t: State, t: Any, **conditions: Any) -> Any:
            return self.estimate(network(*self.present(x_t, t), **conditions), x_t, t)

        return denoise

    def renoise(self, row: Any, registers: Registers, noise: Noise | None) -> State:
        """Draw the clean estimate, and corrupt it afresh to the time that the row reaches."""
        assert noise is not None
        x_0 = self.draw(registers.estimates[0], noise, row.index)
        fresh = self.noise(noise, registers.states[0], step=row.index, stream=Stream.CORRUPT)
        return self.corrupt(x_0, row.s, fresh)


def weighed(
    tensors: Sequence[Tensor],
    coefficients: Sequence[Coefficient],
    row: Row,
    noise: Noise | None,
) -> Tensor:
    """Σ k y, and C z where the row has noise."""
    c = row.c
    if isinstance(c, Tensor):
        x = tensors[0]
        coefficients, c = [align(k, x) for k in coefficients], align(c, x)
    fresh = None
    if noise is not None and (isinstance(c, Tensor) or c != 0.0):
        fresh = Fresh(noise, row.index, Stream.STEP, c)
    return plan_step(tensors, coefficients, fresh)


@overload
def align(k: Tensor, x: Tensor) -> Tensor: ...
@overload
def align(k: Coefficient, x: Tensor) -> Coefficient: ...
def align(k: Coefficient, x: Tensor) -> Coefficient:
    """A coefficient with the leading axes of x, made to broadcast over x, on its device."""
    if not isinstance(k, Tensor):
        return k
    return k.to(x.device).reshape(k.shape + (1,) * (x.ndim - k.ndim))


def by_name(function: Callable[..., Any], *values: Any) -> Any:
    """The function of the values; for mappings, of the values of each name of the first."""
    if isinstance(values[0], Mapping):
        return {name: by_name(function, *(v[name] for v in values)) for name in values[0]}
    return function(*values)


def masked(x: State, mask: State | None) -> State:
    """x with 0 where the mask, over its leading axes, is False; by name for mappings.

    A mapping's part without a mask is left alone.
    """
    if mask is None:
        return x
    if isinstance(x, Mapping):
        return {name: masked(part, mask.get(name)) for name, part in x.items()}
    return torch.where(align(mask, x), x, 0)


def mean_over(error: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of each sample's elements [B, ...] where the mask, over leading axes, is True; [B].

    A sample whose mask is nowhere True has the mean 0.
    """
    if mask is None:
        return error.flatten(1).mean(1)
    mask = align(mask, error).expand_as(error)
    total = torch.where(mask, error, 0).flatten(1).sum(1)
    return total / mask.flatten(1).sum(1).clamp(min=1)


def network_level(lam: Tensor) -> Tensor:
    """λ / 4, as EDM's c_noise = log(σ) / 4, with λ held within ±20 so that the ends are finite."""
    return lam.clamp(-20.0, 20.0) / 4


WEIGHTINGS: dict[str, tuple[str | None, Callable[[Coefficients, Gaussian], Tensor]]] = {
    "unit": (None, lambda c, process: torch.ones_like(c.lam)),
    "min-snr": ("x0", lambda c, process: torch.exp(2 * c.lam).clamp(max=5.0)),
    "edm": ("x0", lambda c, process: torch.exp(2 * c.lam) + process.sigma_data**-2),
    "sigmoid": ("eps", lambda c, process: torch.sigmoid(process.bias - 2 * c.lam)),
}
"""The weight of a squared error, and of which prediction's; None is the network's own."""


@dataclass(frozen=True)
class Gaussian(Process):
    """x_t = α x_0 + σ ε, ε standard normal.

    Attributes:
        schedule: the gauge and the clock.
        prediction: what the network answers, a name in `prediction.PREDICTIONS`.
        sigma_data: the deviation of the clean states; it sets the input's scale,
            c_in = 1 / sqrt(α² sigma_data² + σ²), and the row of "edm".
        weighting: on a squared error: "unit", of the network's own output; "min-snr", min(SNR, 5),
            or "edm", SNR + 1 / sigma_data², of the clean estimate; "sigmoid", sigmoid(bias − log
            SNR), of the noise. SNR = e^{2λ}. How often a level is drawn is no part of it.
        level_mean, level_std: draw training times with λ normal; the schedule's clock where None.
        bias: of "sigmoid": the log SNR at which the weight has fallen to a half.

    Sources: the preconditioning and "edm": Karras et al. (2022), arXiv 2206.00364, section 5;
    min-SNR: Hang et al. (2023), arXiv 2303.09556; sigmoid: Kingma, Gao (2023), arXiv 2303.00848,
    and Hoogeboom et al. (2024), arXiv 2410.19324.
    """

    schedule: Schedule
    prediction: str = "v"
    sigma_data: float = 1.0
    weighting: Literal["unit", "min-snr", "edm", "sigmoid"] = "unit"
    level_mean: float | None = None
    level_std: float = 1.2
    bias: float = 0.0
    laws: ClassVar[frozenset[str]] = frozenset({"affine"})

    def __post_init__(self) -> None:
        if self.prediction not in predictions.PREDICTIONS:
            raise unknown("prediction", self.prediction, predictions.PREDICTIONS)
        if self.weighting not in WEIGHTINGS:
            raise unknown("weighting", self.weighting, WEIGHTINGS)
        if not (self.sigma_data > 0 and self.level_std > 0):
            raise SuffuseError(
                f"sigma_data and level_std are above 0; given {self.sigma_data} and "
                f"{self.level_std}"
            )

    def prior(self, noise: Noise, shape: Sequence[int], t: Tensor | float = 1.0) -> Tensor:
        """Normal noise with the variance of the marginal at t, α² sigma_data² + σ²; [B, *shape]."""
        z = noise.normal(shape, step=0, stream=Stream.PRIOR)
        return z * self._input_scale(self.schedule.at(t).align(z[:1])).reciprocal()

    def corrupt(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """α x_0 + σ ε, in the dtype of x_0."""
        c = self.schedule.at(t).align(x_0)
        return (c.alpha * x_0 + c.sigma * noise).to(x_0.dtype)

    def levels(self, u: Tensor) -> Tensor:
        """t = u by the schedule's clock, or t(λ) with λ normal; float64, of the shape of u."""
        u = u.to(torch.float64)
        if self.level_mean is None:
            return u
        return self.schedule.t(self.level_mean - self.level_std * torch.special.ndtri(u))

    def present(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """c_in x_t, and the level, of the shape of t."""
        c = self.schedule.at(t).align(x_t)
        return self._input_scale(c).to(x_t.dtype) * x_t, network_level(c.lam).reshape(t.shape)

    def estimate(self, raw: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The network's prediction as the clean estimate, in the dtype of x_t."""
        c = self.schedule.at(t).align(x_t)
        clean = predictions.convert(raw, self.prediction, "x0", x_t, c, self.sigma_data)
        return clean.to(x_t.dtype)

    def error(
        self, raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor, mask: Tensor | None
    ) -> Tensor:
        """The weighted squared error of the network's output, averaged over elements; [B]."""
        c = self.schedule.at(t).align(x_0)
        a, b = predictions.row(self.prediction, c, self.sigma_data)
        of, weigh = WEIGHTINGS[self.weighting]
        scale = predictions.weights(self.prediction, of or self.prediction, c, self.sigma_data)[1]
        error = weigh(c, self) * (scale * (raw - (a * x_0 + b * noise))) ** 2
        return mean_over(error, mask)

    def step(self, row: Row, registers: Registers, noise: Noise | None) -> Tensor:
        """Σ A_j x_j + Σ B_j d_j + C z, over the registers that are filled."""
        states, estimates = registers
        k = (*row.a[: len(states)], *row.b[: len(estimates)])
        return weighed((*states, *estimates), k, row, noise)

    def _input_scale(self, c: Coefficients) -> Tensor:
        return (c.alpha**2 * self.sigma_data**2 + c.sigma**2).rsqrt()


gaussian = Gaussian
"""The name for recipes."""
