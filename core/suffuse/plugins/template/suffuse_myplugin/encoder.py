"""Curves as states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset

from .data import POINTS


class Standard:
    """Values less `mean`, over `scale`: states of shape [1, 64], one channel.

    Args:
        mean, scale: of the values, measured by `fit`.
    """

    shape = (1, POINTS)

    def __init__(self, *, mean: float = 0.0, scale: float = 1.0) -> None:
        self.mean, self.scale = mean, scale

    def fit(self, dataset: Dataset) -> Mapping[str, Any]:
        values = np.stack([dataset[i].data for i in range(len(dataset))])
        return {"mean": float(values.mean()), "scale": float(values.std())}

    def encode(self, objects: Sequence[Any]) -> Tensor:
        try:
            curves = np.asarray(objects, dtype=np.float32).reshape(len(objects), *self.shape)
        except (TypeError, ValueError) as error:
            raise SuffuseError(f"expected curves of {POINTS} numbers: {error}") from error
        if not np.isfinite(curves).all():
            raise SuffuseError("a curve holds numbers that are not finite")
        return (torch.from_numpy(curves) - self.mean) / self.scale

    def decode(self, x: Tensor) -> list[Any]:
        return list((x[:, 0] * self.scale + self.mean).numpy().astype(np.float64))
