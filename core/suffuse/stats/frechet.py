"""The Fréchet distance between Gaussians fitted to features; on Inception features, FID.

    d² = |μ_1 − μ_2|² + tr Σ_1 + tr Σ_2 − 2 tr (Σ_1^½ Σ_2 Σ_1^½)^½

(Dowson and Landau 1982; as a figure of merit Heusel et al. 2017, arXiv:1706.08500). With factors
Σ_1 = A Aᵀ and Σ_2 = B Bᵀ from symmetric eigendecompositions the last trace is the sum of the
singular values of Aᵀ B: no root of a matrix that is not symmetric, no eigenvalue below 0.

d² of n examples overestimates d² of the distributions by about c/n, and c grows with the square of
the dimension D: figures at different n cannot be compared, and at n <= D it means nothing.

**Intervals.** A bootstrap resample holds the bias twice (its expectation is further above the
estimate than the estimate above the truth), so the bootstrap's percentiles may miss the estimate
itself. Here the examples are split into G random groups and each pair of groups is left out once
(the delete-group jackknife, `suffuse.stats.intervals`). With T_g the figure without group g,

    error of T      SE² = (G − 1)/G Σ_g (T_g − mean T_g)²
    limit n → ∞     T_∞ = G T − (G − 1) mean T_g

T_∞ (Quenouille 1956) is the straight line in 1/n through the figures at n and at n (G − 1)/G,
prolonged to 1/n = 0: the extrapolation of Chong and Forsyth (2020, arXiv:1911.07023), fitted near
n and without random subsets. For equal distributions SE is too large, by up to √2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from suffuse.errors import SuffuseError
from suffuse.stats.features import Features, as_features, as_pair, row_blocks
from suffuse.stats.intervals import Interval, jackknife_error, random_groups, t_quantile

__all__ = ["frechet_distance", "frechet_gaussians", "frechet_infinity", "frechet_interval"]


def frechet_gaussians(
    mean_1: Features, covariance_1: Features, mean_2: Features, covariance_2: Features
) -> float:
    """d² between two Gaussians: means [D], covariances [D, D], symmetric and semidefinite.

    >>> one = torch.eye(2)
    >>> frechet_gaussians(torch.zeros(2), one, torch.tensor([3.0, 4.0]), 4 * one)
    27.0
    """
    means = [_vector(mean_1), _vector(mean_2)]
    covariances = [
        as_features(covariance_1, "a covariance"),
        as_features(covariance_2, "a covariance"),
    ]
    d = len(means[0])
    for mean, covariance in zip(means, covariances, strict=True):
        if mean.shape != (d,) or covariance.shape != (d, d):
            raise SuffuseError(
                f"Gaussians of {d} dimensions need means [{d}] and covariances [{d}, {d}]; "
                f"got {list(mean.shape)} and {list(covariance.shape)}"
            )
    return _distance(means[0], covariances[0], means[1], covariances[1])


def frechet_distance(x: Features, y: Features) -> float:
    """d² between the Gaussians fitted to x [M, D] and y [N, D]; unbiased covariances.

    Raises:
        SuffuseError: for bad features, and unless M > D and N > D.

    >>> x = torch.randn(500, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> round(frechet_distance(x, x + torch.tensor([1.0, 0.0])), 12)
    1.0
    """
    a, b = as_pair(x, y, least=2)
    _check_enough(a, b, 1)
    return _between(_Sums.of(a), _Sums.of(b))


def frechet_interval(
    x: Features, y: Features, groups: int = 20, level: float = 0.95, seed: int = 0
) -> Interval:
    """`frechet_distance` with an interval for its expectation at these sample sizes.

    The bias at finite n is inside: read it beside the same figure of real data at the same n.
    What the distributions themselves are apart is `frechet_infinity`.

    Args:
        x, y: [M, D] and [N, D], more than D rows after a group is left out.
        groups: G; the distance is computed G + 1 times.
        level, seed: of the interval; of the random groups.
    """
    value, left_out = _jackknife(x, y, groups, level, seed)
    half = t_quantile(level, groups - 1) * jackknife_error(left_out)
    return Interval(value, max(0.0, value - half), value + half)


def frechet_infinity(
    x: Features, y: Features, groups: int = 20, level: float = 0.95, seed: int = 0
) -> Interval:
    """d² extrapolated to infinitely many examples, with an interval; arguments as above.

    The bias that is left is of order 1/n². For equal distributions it scatters about 0.

    >>> x, y = torch.randn(2, 300, 4, generator=torch.Generator().manual_seed(0))
    >>> 0 in frechet_infinity(x, y)
    True
    """
    value, left_out = _jackknife(x, y, groups, level, seed)
    limit = groups * value - (groups - 1) * math.fsum(left_out) / groups
    half = t_quantile(level, groups - 1) * jackknife_error(left_out)
    return Interval(limit, limit - half, limit + half)


@dataclass(frozen=True)
class _Sums:
    """The count, the sum and the sum of outer products of rows, taken about `origin`."""

    n: int
    total: Tensor
    outer: Tensor
    origin: Tensor

    @classmethod
    def of(cls, x: Tensor, origin: Tensor | None = None) -> _Sums:
        origin = x.mean(0) if origin is None else origin
        total, outer = torch.zeros_like(origin), x.new_zeros(x.shape[1], x.shape[1])
        for rows in row_blocks(*x.shape):
            part = x[rows] - origin
            total += part.sum(0)
            outer.addmm_(part.T, part)
        return cls(len(x), total, outer, origin)

    def without(self, part: _Sums) -> _Sums:
        return _Sums(self.n - part.n, self.total - part.total, self.outer - part.outer, self.origin)

    def mean(self) -> Tensor:
        return self.origin + self.total / self.n

    def covariance(self) -> Tensor:
        return (self.outer - torch.outer(self.total, self.total) / self.n) / (self.n - 1)


def _between(a: _Sums, b: _Sums) -> float:
    return _distance(a.mean(), a.covariance(), b.mean(), b.covariance())


def _distance(mean_1: Tensor, cov_1: Tensor, mean_2: Tensor, cov_2: Tensor) -> float:
    shared = torch.linalg.svdvals(_factor(cov_1).T @ _factor(cov_2)).sum()
    squared = (mean_1 - mean_2).square().sum() + cov_1.trace() + cov_2.trace() - 2 * shared
    return max(0.0, float(squared))


def _factor(covariance: Tensor) -> Tensor:
    """A with A Aᵀ the covariance; eigenvalues below 0 are rounding."""
    values, vectors = torch.linalg.eigh(covariance)
    factor: Tensor = vectors * values.clamp(min=0).sqrt()
    return factor


def _vector(mean: Features) -> Tensor:
    flat = mean.reshape(1, -1) if mean.ndim == 1 else mean
    return as_features(flat, "a mean")[0]


def _check_enough(a: Tensor, b: Tensor, groups: int) -> None:
    for x in (a, b):
        n, d = x.shape
        left = n if groups == 1 else n - math.ceil(n / groups)
        if left <= d:
            when = "" if groups == 1 else f" after one of {groups} groups is left out"
            raise SuffuseError(
                f"the Fréchet distance of {d}-dimensional features needs more than {d} examples "
                f"a set{when}; got {left}. Give more, or use KID, which needs no covariance"
            )


def _jackknife(
    x: Features, y: Features, groups: int, level: float, seed: int
) -> tuple[float, list[float]]:
    """The distance, and the distances without each pair of groups."""
    a, b = as_pair(x, y, least=groups)
    orders = random_groups([len(a), len(b)], groups, level, seed)
    _check_enough(a, b, groups)
    sums = [_Sums.of(data) for data in (a, b)]
    left_out = []
    for pair in zip(*orders, strict=True):
        rest = [
            whole.without(_Sums.of(data[torch.from_numpy(rows).to(data.device)], whole.origin))
            for whole, data, rows in zip(sums, (a, b), pair, strict=True)
        ]
        left_out.append(_between(*rest))
    return _between(*sums), left_out
