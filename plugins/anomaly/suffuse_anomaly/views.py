r"""Views of standardised numbers: what is far depends on how distances are measured.

Noise of the same strength in every dimension means a different thing in each of these, and no one
of them is right for all tables:

    range      x / (max − min): columns of few values weigh more than heavy tails
    arcsinh    asinh((x − median) / deviation by quartiles): heavy tails are drawn in
    normal     the normal score of the rank: each column is bell-shaped; beyond its ends a logarithm
    …, white   arcsinh and normal in noise of the data's own covariance, z = (x − m) S^{-1/2}

Noise that is independent from column to column does not see that two columns which always agree
disagree; noise of the data's covariance does (it is the one of `suffuse_anomaly.imputer`, too). Of
all square roots of S the symmetric one of the correlations, R^{-1/2} / s, keeps each dimension of z
most alike to its own dimension of x, so that distances stay sums over columns. R is shrunk to the
identity as Ledoit and Wolf do.

Sources: the choice of the root: Kessy, Lewin, Strimmer, "Optimal whitening and decorrelation"
(2018), arXiv 1512.00809, ZCA-cor; Ledoit, Wolf (2004), "A well-conditioned estimator for
large-dimensional covariance matrices".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtri
from sklearn.covariance import ledoit_wolf_shrinkage

from suffuse_anomaly.blocks import by_block

__all__ = ["Plain", "Views", "knots"]

Floats = npt.NDArray[np.float64]

PLAIN = ("range", "arcsinh", "normal")
WHITE = ("arcsinh", "normal")
MOST = 1000
"""With more dimensions than this there are no white views: their matrices would be too large."""
KNOTS = 256


class Views:
    """The views, fitted on rows [N, D].

    Attributes:
        tables: float64 arrays by name, which are all that was learned.
    """

    def __init__(self, tables: Mapping[str, Floats]) -> None:
        self.tables = dict(tables)

    @classmethod
    def fit(cls, Z: npt.NDArray[np.float32]) -> Self:
        """Measure rows [N, D]."""
        Z = Z.astype(np.float64)
        spread = Z.max(0) - Z.min(0)
        low, centre, high = np.quantile(Z, (0.25, 0.5, 0.75), axis=0)
        scale = np.where(high > low, (high - low) / 1.349, Z.std(0))
        pairs = [knots(column) for column in Z.T]
        found = cls(
            {
                "spread": np.where(spread > 0, spread, 1.0),
                "centre": centre,
                "scale": np.where(scale > 0, scale, 1.0),
                "knots": np.stack([x for x, _ in pairs]),
                "values": np.stack([y for _, y in pairs]),
            }
        )
        if Z.shape[1] <= MOST and len(Z) > 2:
            for name in WHITE:
                x = found.one(name, Z)
                found.tables[f"{name}.mean"] = x.mean(0)
                found.tables[f"{name}.white"] = _whitening(x)
        return found

    @classmethod
    def load(cls, tensors: Mapping[str, Any]) -> Self:
        """Those among tensors whose names begin with "views."."""
        return cls({k[6:]: v.numpy() for k, v in tensors.items() if k.startswith("views.")})

    def __call__(self, Z: npt.NDArray[np.float32]) -> list[Floats]:
        """The rows in each view, each [N, D]."""
        found = {name: self.one(name, Z) for name in PLAIN}
        white = [
            _product(found[name] - self.tables[f"{name}.mean"], self.tables[f"{name}.white"])
            for name in WHITE
            if f"{name}.white" in self.tables
        ]
        return [*found.values(), *white]

    def one(self, name: str, Z: npt.NDArray[np.float32]) -> Floats:
        """The rows in one view of `PLAIN`, [N, D]."""
        x, t = Z.astype(np.float64), self.tables
        if name == "range":
            return x / t["spread"]
        if name == "arcsinh":
            return np.arcsinh((x - t["centre"]) / t["scale"])
        normal = np.empty_like(x)
        for j, (at, to) in enumerate(zip(t["knots"], t["values"], strict=True)):
            beyond = x[:, j] - np.clip(x[:, j], at[0], at[-1])
            normal[:, j] = np.interp(x[:, j], at, to) + np.sign(beyond) * np.log1p(np.abs(beyond))
        return normal


class Plain(Views):
    """One view: the numbers as they are."""

    @classmethod
    def fit(cls, Z: npt.NDArray[np.float32]) -> Self:
        return cls({})

    def __call__(self, Z: npt.NDArray[np.float32]) -> list[Floats]:
        return [Z.astype(np.float64)]


def _product(x: Floats, matrix: Floats) -> Floats:
    """x [N, D] by a matrix [D, D]; of each row the same, whatever the others are."""
    own = torch.from_numpy(matrix)
    found: Floats = by_block(lambda block: block @ own, torch.from_numpy(x)).numpy()
    return found


def _whitening(x: Floats) -> Floats:
    """R^{-1/2} / s of rows [N, D], [D, D]; a constant dimension stays as it is."""
    deviation = x.std(0)
    deviation = np.where(deviation > 1e-9, deviation, 1.0)
    standard = (x - x.mean(0)) / deviation
    shrink = ledoit_wolf_shrinkage(standard, assume_centered=True)
    correlation = (1 - shrink) * standard.T @ standard / len(x)
    correlation += np.eye(x.shape[1]) * np.where(np.diag(correlation) > 0, shrink, 1.0)
    values, vectors = np.linalg.eigh(correlation)
    return (vectors / np.sqrt(np.maximum(values, 1e-3))) @ vectors.T / deviation[:, None]


def knots(column: Floats) -> tuple[Floats, Floats]:
    """Values and the normal scores of their middle ranks, KNOTS of each, rising."""
    values, counts = np.unique(column, return_counts=True)
    scores = ndtri((np.cumsum(counts) - counts / 2) / len(column))
    at = np.linspace(0, len(values) - 1, KNOTS)
    place = np.arange(len(values))
    return np.interp(at, place, values), np.interp(at, place, scores)
