"""What was observed of a clean state: y = A x_0 + noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from suffuse.diffusion.operators import Operator
from suffuse.errors import SuffuseError

__all__ = ["Observation", "consistent", "one_level", "one_noise"]


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
        if isinstance(self.noise, Tensor):
            return self.noise.to(like) ** 2
        return torch.full((), self.noise, dtype=like.dtype, device=like.device) ** 2

    def residual(self, x: Tensor) -> Tensor:
        """y − A x, in the dtype of x [B, *shape]."""
        seen = self.operator(x)
        if seen.shape[1:] != self.y.shape[1:] or len(self.y) not in (1, len(x)):
            raise SuffuseError(
                f"the data have the shape {tuple(self.y.shape)}, but {self.operator.name!r} makes "
                f"{tuple(seen.shape)} of states of shape {tuple(x.shape)}"
            )
        return self.y.to(seen) - seen


def consistent(observation: Observation, x: Tensor) -> Tensor:
    """x [B, ...] with the components that A passes well set to what the data say.

    Well means with at least half of the largest gain, so that no error is made larger; for a mask
    it is every known element, bit by bit.
    """
    A = observation.operator
    return A.unseen(x, 0.5) + A.pseudo_inverse(observation.y.to(x), 0.5)


def one_level(t: Any) -> Any:
    """A time that is one for the whole of each sample; others are refused."""
    if isinstance(t, Tensor) and t.ndim > 1:
        raise SuffuseError("for a level for each frame or token, restore with method 'mmps'")
    return t


def one_noise(observation: Observation) -> float:
    """The deviation of noise that is one for all data; others are refused."""
    if isinstance(observation.noise, Tensor):
        raise SuffuseError("noise that differs between data is for methods that steer the estimate")
    return observation.noise
