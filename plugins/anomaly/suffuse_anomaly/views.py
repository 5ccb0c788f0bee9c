"""Views of standardised numbers: what is far depends on how distances are measured.

Noise of the same strength in every dimension means a different thing in each of these, and no one
of them is right for all tables:

    range      x / (max − min): columns of few values weigh more than heavy tails
    arcsinh    asinh((x − median) / deviation by quartiles): heavy tails are drawn in
    normal     the normal score of the rank: each column is bell-shaped; beyond its ends a logarithm

Each acts on one dimension at a time, so that distances stay sums over columns.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

__all__ = ["VIEWS", "Plain", "Views", "knots"]

Floats = npt.NDArray[np.float64]

VIEWS = ("range", "arcsinh", "normal")
KNOTS = 256


class Views:
    """The three views, fitted on rows [N, D].

    Attributes:
        tables: float64 arrays by name, which are all that was learned.
    """

    def __init__(self, tables: Mapping[str, Floats]) -> None:
        self.tables = dict(tables)

    @classmethod
    def fit(cls, Z: npt.NDArray[np.float32]) -> Views:
        """Measure rows [N, D]."""
        Z = Z.astype(np.float64)
        spread = Z.max(0) - Z.min(0)
        low, centre, high = np.quantile(Z, (0.25, 0.5, 0.75), axis=0)
        scale = np.where(high > low, (high - low) / 1.349, Z.std(0))
        found = [knots(column) for column in Z.T]
        return cls(
            {
                "spread": np.where(spread > 0, spread, 1.0),
                "centre": centre,
                "scale": np.where(scale > 0, scale, 1.0),
                "knots": np.stack([x for x, _ in found]),
                "values": np.stack([y for _, y in found]),
            }
        )

    def __call__(self, Z: npt.NDArray[np.float32]) -> list[Floats]:
        """The rows in each view, each [N, D]."""
        Z, t = Z.astype(np.float64), self.tables
        normal = np.empty_like(Z)
        for j, (x, y) in enumerate(zip(t["knots"], t["values"], strict=True)):
            beyond = Z[:, j] - np.clip(Z[:, j], x[0], x[-1])
            normal[:, j] = np.interp(Z[:, j], x, y) + np.sign(beyond) * np.log1p(np.abs(beyond))
        return [Z / t["spread"], np.arcsinh((Z - t["centre"]) / t["scale"]), normal]


class Plain(Views):
    """One view: the numbers as they are."""

    @classmethod
    def fit(cls, Z: npt.NDArray[np.float32]) -> Plain:
        return cls({})

    def __call__(self, Z: npt.NDArray[np.float32]) -> list[Floats]:
        return [Z.astype(np.float64)]


def knots(column: Floats) -> tuple[Floats, Floats]:
    """Values and the normal scores of their middle ranks, KNOTS of each, rising."""
    values, counts = np.unique(column, return_counts=True)
    scores = ndtri((np.cumsum(counts) - counts / 2) / len(column))
    at = np.linspace(0, len(values) - 1, KNOTS)
    place = np.arange(len(values))
    return np.interp(at, place, values), np.interp(at, place, scores)
