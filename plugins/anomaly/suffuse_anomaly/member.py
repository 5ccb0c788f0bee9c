"""What a method of the detector is: raw scores at some levels, and what each dimension adds.

A level is a way to look at a row: a view of its columns, a noise level, a share of hidden columns.
The detector calibrates levels one by one, joins them, and knows nothing else of a method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from suffuse_anomaly.table import Table
from suffuse_anomaly.views import Views

__all__ = ["Input", "Member", "even"]

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float32]


class Member(ABC):
    """A fitted method.

    Attributes:
        trained: whether it has a network, whose scores of training rows are not those of new ones.
        loudest: whether the most unusual of its levels counts, and not their mean.
    """

    trained: ClassVar[bool] = True
    loudest: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def fit(
        cls,
        name: str,
        rows: Rows,
        table: Table,
        *,
        seed: int,
        steps: int,
        k: int,
        start: Any = None,
    ) -> Self:
        """Learn from encoded rows [N, D].

        Args:
            name: of the method.
            rows: of `Table.encode`; of a method without a network those that are new to `start`.
            table: which dimension is of which column.
            seed, steps: of training.
            k: how many neighbours are asked.
            start: a fitted member of the same kind to go on from.
        """

    @abstractmethod
    def raw(self, rows: Rows) -> Floats:
        """Scores of rows [N, D] at L levels, [N, L]; higher is more unusual."""

    def left_out(self, rows: Rows, seed: int) -> Floats:
        """`raw` of the rows [N, D] of training, as it would be had each not been among them."""
        return self.raw(rows)

    @abstractmethod
    def shares(self, rows: Rows) -> Floats:
        """What part of each score each dimension has, [N, L, D]; the sum over dimensions is 1."""

    @abstractmethod
    def tensors(self) -> dict[str, Any]:
        """All that was learned, as arrays by name."""

    @classmethod
    @abstractmethod
    def load(cls, name: str, tensors: Mapping[str, Tensor], table: Table) -> Self:
        """What `tensors` kept."""


class Input:
    """The arcsinh view of rows, each dimension with the mean 0 and the deviation 1.

    Attributes:
        views: fitted on training rows.
        mean, deviation: of the arcsinh view, [D].
    """

    def __init__(self, views: Views, mean: Floats, deviation: Floats) -> None:
        self.views, self.mean, self.deviation = views, mean, deviation

    @classmethod
    def fit(cls, rows: Rows) -> Self:
        views = Views.fit(rows)
        seen = views.one("arcsinh", rows)
        deviation = seen.std(0)
        return cls(views, seen.mean(0), np.where(deviation > 0, deviation, 1.0))

    def __call__(self, rows: Rows) -> Tensor:
        """Rows [N, D] as the network's input, float32."""
        seen = (self.views.one("arcsinh", rows) - self.mean) / self.deviation
        return torch.from_numpy(seen.astype(np.float32))

    def tensors(self) -> dict[str, Any]:
        kept: dict[str, Any] = {f"views.{k}": v for k, v in self.views.tables.items()}
        return kept | {"mean": self.mean, "deviation": self.deviation}

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor]) -> Self:
        return cls(Views.load(tensors), tensors["mean"].numpy(), tensors["deviation"].numpy())


def even(parts: Floats) -> Floats:
    """Rows that sum to 1; a row of zeros is shared evenly."""
    total = parts.sum(-1, keepdims=True)
    return np.where(total > 0, parts / np.where(total > 0, total, 1), 1 / parts.shape[-1])
