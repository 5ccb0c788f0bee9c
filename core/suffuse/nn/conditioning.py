"""Conditions as vectors: raw values to a tensor (`prepare`), and that to embeddings (`forward`).

A value that is not given, None, has a learned embedding of its own, the null one. Training drops
conditions at random to it, and guidance without a classifier steers away from it (Ho, Salimans,
"Classifier-free diffusion guidance" (2022), arXiv 2207.12598).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from operator import index
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from suffuse.errors import SuffuseError, unknown
from suffuse.nn.embedding import fourier

__all__ = ["Condition", "Label", "Number", "StateCondition"]

logger = logging.getLogger(__name__)


class Condition(Protocol):
    """What a conditioner needs to know of its condition: see `suffuse.plugins.contracts`."""

    @property
    def kind(self) -> str:
        """What the values are, for instance "category" or "number"."""

    @property
    def names(self) -> Sequence[str]:
        """The categories in the order of their indices."""


class Label(nn.Module):
    """One of several categories, each with a learned embedding, and one more for none.

    Args:
        condition: of kind "category", with its names.
        width: features of an embedding.

    Raises:
        SuffuseError: where the condition has no names.
    """

    def __init__(self, condition: Condition, width: int) -> None:
        super().__init__()
        if condition.kind != "category" or not condition.names:
            raise SuffuseError(
                f"a label needs a condition with named categories; this one is a {condition.kind} "
                f"with {len(condition.names)} names"
            )
        self.names = tuple(condition.names)
        self.embedding = nn.Embedding(len(self.names) + 1, width)

    def prepare(self, values: Sequence[Any]) -> Tensor:
        """Indices [n], int64, of categories given by name; None is the null row.

        A number, or its figures, means the name that is written like it ("7"), or, where no name
        is a whole number, the index of a category.

        Raises:
            SuffuseError: for a value that is no category, with the nearest name.
        """
        return torch.tensor([self._row(value) for value in values], dtype=torch.int64)

    def forward(self, prepared: Tensor) -> Tensor:
        """Embeddings [n, width] of indices [n]."""
        out: Tensor = self.embedding(prepared)
        return out

    def null(self, n: int, device: torch.device | str | None = None) -> Tensor:
        """What `prepare` makes of n values that are not given."""
        return torch.full((n,), len(self.names), dtype=torch.int64, device=device)

    def _row(self, value: Any) -> int:
        if value is None:
            return len(self.names)
        name, number = str(value), None
        if isinstance(value, str) and value.isdecimal():
            number = int(value)
        elif not isinstance(value, (str, bool)):
            with suppress(TypeError):
                number = index(value)
                name = str(number)
        if name in self.names:
            return self.names.index(name)
        named = any(map(_whole, self.names))
        if number is not None and not named and 0 <= number < len(self.names):
            return number
        raise unknown("label", value, self.names)


class Number(nn.Module):
    """A number, by cosines and sines of its standardised value, with a learned embedding for none.

    Args:
        condition: of kind "number".
        width: features of an embedding.
        mean: a typical value, in the unit of the condition.
        scale: how far values usually are from it, in the same unit; above 0. Beyond eight times
            that, values look alike.
        low, high: the least and the greatest value of the data, None where they are not known; one
            beyond them is taken, with a warning.

    Raises:
        SuffuseError: where the condition is no number or the scale is not above 0.
    """

    FEATURES = 32

    def __init__(
        self,
        condition: Condition,
        width: int,
        *,
        mean: float = 0.0,
        scale: float = 1.0,
        low: float | None = None,
        high: float | None = None,
    ) -> None:
        super().__init__()
        if condition.kind != "number" or not scale > 0:
            raise SuffuseError(
                "a number needs a condition of that kind and a scale above 0; "
                f"given a {condition.kind} and {scale}"
            )
        self.mean, self.scale = mean, scale
        self.low = -math.inf if low is None else low
        self.high = math.inf if high is None else high
        self.linear_0 = nn.Linear(self.FEATURES, width)
        self.linear_1 = nn.Linear(width, width)
        self.nothing = nn.Parameter(torch.randn(width))

    def prepare(self, values: Sequence[Any]) -> Tensor:
        """Standardised values [n], float32; NaN where a value is None or NaN.

        Raises:
            SuffuseError: for a value that is no finite number.
        """
        found = torch.tensor([self._standardised(value) for value in values], dtype=torch.float32)
        given = [float(value) for value in values if value is not None]
        strange = [value for value in given if value < self.low or value > self.high]
        if strange:
            logger.warning(
                "%g is asked for, and the training data go from %g to %g: what is made comes as "
                "near as the model can",
                *(strange[0], self.low, self.high),
            )
        return found

    def forward(self, prepared: Tensor) -> Tensor:
        """Embeddings [n, width] of standardised values [n]."""
        missing = prepared.isnan()
        value = torch.where(missing, 0.0, prepared).clamp(-8.0, 8.0)
        h = fourier(value, self.FEATURES, high=2.0).to(self.linear_0.weight.dtype)
        h = self.linear_1(silu(self.linear_0(h)))
        return torch.where(missing[:, None], self.nothing.to(h.dtype), h)

    def null(self, n: int, device: torch.device | str | None = None) -> Tensor:
        """What `prepare` makes of n values that are not given."""
        return torch.full((n,), math.nan, device=device)

    def _standardised(self, value: Any) -> float:
        if value is None:
            return math.nan
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.inf
        if math.isinf(number):
            raise SuffuseError(f"a number is expected, and {value!r} is none that is finite")
        return (number - self.mean) / self.scale


class Encodes(Protocol):
    """What a state as a condition is made with."""

    @property
    def shape(self) -> Any:
        """Of one state."""

    def encode(self, objects: Sequence[Any]) -> Any:
        """States [B, *shape] of raw objects."""


class StateCondition(nn.Module):
    """A raw object, encoded as the model encodes its own, laid beside the input channel by channel.

    Args:
        condition: of kind "state".
        width: not used.
        encoder: the model's.
        always: whether the condition is always given; else it is dropped in training like others,
            and zeros stand for none.

    Raises:
        SuffuseError: for another kind of condition, and for a model whose states are no tensor.
    """

    def __init__(
        self, condition: Condition, width: int, encoder: Encodes, *, always: bool = True
    ) -> None:
        super().__init__()
        if condition.kind != "state" or not isinstance(encoder.shape, tuple):
            raise SuffuseError(
                "a state as a condition needs a condition of that kind, and a model whose states "
                f"are tensors; given a {condition.kind}, and states of shape {encoder.shape}"
            )
        self.encoder, self.always = encoder, always

    def prepare(self, values: Sequence[Any]) -> Tensor:
        """States [n, *shape], float32; zeros where a value is None.

        Values may be states already: tensors of one shape, of the model's or of a larger size.
        """
        if all(isinstance(value, Tensor) for value in values):
            return torch.stack(list(values)).float()
        out = torch.zeros(len(values), *self.encoder.shape)
        given = [i for i, value in enumerate(values) if value is not None]
        if given:
            out[given] = self.encoder.encode([values[i] for i in given]).to(out)
        return out

    def forward(self, prepared: Tensor) -> dict[str, Tensor]:
        """The states, for the network's slot "concat"."""
        return {"concat": prepared}

    def null(self, n: int, device: torch.device | str | None = None) -> Tensor:
        """What `prepare` makes of n values that are not given."""
        return torch.zeros(n, *self.encoder.shape, device=device)


def _whole(name: str) -> bool:
    return name.removeprefix("-").isdigit()
