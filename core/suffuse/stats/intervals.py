"""Confidence intervals: the bootstrap, the jackknife, and Wilson's for proportions.

A statistic θ(x_1, ..., x_n) is computed again on B resamples of n observations drawn from the n
with replacement; the spread of the replicates θ* about θ stands for that of θ about its target
(Efron 1979). With Φ the normal distribution function, the interval of level 1 − 2q runs between
two quantiles of the replicates:

    percentile   q and 1 − q
    BCa          Φ(z_0 + (z_0 + z)/(1 − a (z_0 + z)))   at z = Φ⁻¹(q) and z = Φ⁻¹(1 − q)

where the bias z_0 = Φ⁻¹(share of θ* below θ) and the acceleration a, a sixth of the skewness of
the influences, are measured (Efron 1987, "Better bootstrap confidence intervals"; Efron and
Tibshirani 1993, eq. 14.9, 14.10, 14.14, 14.15). BCa is second-order correct and the default.

A proportion needs no resampling: Wilson's interval (1927) inverts the score test and stays
sensible at 0 and 1, where the bootstrap has no width at all.

The bootstrap repeats observations. Do not use it for what looks at pairs of examples or at
nearest neighbours: a repeated point is its own neighbour at distance 0. `mmd`, `manifold` and
`neighbours` have intervals of their own. Nor is it one for distances between distributions and
cosines of counts: a resample has fewer different observations than the sample and is further from
the truth than that, so that the quantiles hold neither. The delete-group jackknife only leaves
observations out. With T_g the figure without group g of G random ones,

    error of T      SE² = (G − 1)/G Σ_g (T_g − mean T_g)²

and the interval is T ± t SE, for the expectation of T at this sample size (Efron and Tibshirani
1993, ch. 11; Student's t with G − 1 degrees of freedom).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from suffuse.errors import SuffuseError, unknown

__all__ = ["Interval", "bootstrap", "difference", "jackknife", "mean", "proportion"]

Sample: TypeAlias = Tensor | npt.NDArray[Any] | Sequence[float]
Indices: TypeAlias = npt.NDArray[np.int64]

_NORMAL = NormalDist()
_JACKKNIFE = 1000  # most evaluations of the statistic that measuring the acceleration may cost


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    >>> print(Interval(0.5, 0.41, 0.59))
    0.5 [0.41, 0.59]
    >>> 0.45 in Interval(0.5, 0.41, 0.59)
    True
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def bootstrap(
    statistic: Callable[..., Any],
    *samples: Sample,
    paired: bool = False,
    strata: Sequence[Any] | npt.NDArray[Any] | None = None,
    method: Literal["bca", "percentile"] = "bca",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The bootstrap interval of any statistic of one or more samples.

    Args:
        statistic: takes as many samples as are given and returns one number. It must not depend
            on the order of the observations.
        samples: each of shape [N, ...], N >= 2, tensors or arrays; several are resampled
            independently of each other, unless `paired`.
        paired: row i of every sample belongs to the same observation; rows are drawn together.
        strata: one label an observation; each stratum is resampled by itself and so keeps its
            size. Right where the sizes were fixed beforehand, as with 100 samples of each class.
        method: "bca" or "percentile". BCa falls back on the percentiles where it is not
            defined: all replicates on one side of the estimate, or no influence at all.
        level: the share of such intervals that hold the target.
        resamples: number of replicates B.
        seed: the same seed gives the same interval.

    Raises:
        SuffuseError: for samples that are too small, not finite or of unequal length though
            paired, and for a statistic that is not finite.

    >>> heights = np.array([1.62, 1.70, 1.81, 1.75, 1.68, 1.77, 1.90, 1.66])
    >>> print(bootstrap(np.median, heights, seed=1))
    1.725 [1.66, 1.81]
    """
    check_level(level)
    if method not in ("bca", "percentile"):
        raise unknown("bootstrap method", method, ("bca", "percentile"))
    if resamples < 100:
        raise SuffuseError(f"resamples must be at least 100 for an interval; got {resamples}")
    data = _checked(samples, paired)
    blocks = _strata(data, paired, strata)

    def replicate(chosen: list[list[Indices]]) -> float:
        rows = [np.concatenate(parts) for parts in chosen]
        if paired:
            rows = rows * len(data)
        taken = [_take(x, r) for x, r in zip(data, rows, strict=True)]
        return _finite(statistic(*taken))

    value = _finite(statistic(*data))
    rng = np.random.default_rng(seed)
    replicates = np.array(
        [
            replicate([[rng.choice(part, part.size) for part in parts] for parts in blocks])
            for _ in range(resamples)
        ]
    )
    tails = ((1 - level) / 2, (1 + level) / 2)
    if method == "bca":
        tails = _bca_tails(value, replicates, tails, lambda: _acceleration(replicate, blocks, rng))
    low, high = np.quantile(replicates, tails)
    return Interval(value, float(low), float(high))


def jackknife(
    statistic: Callable[..., Any],
    *samples: Sample,
    groups: int = 20,
    level: float = 0.95,
    seed: int = 0,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """The interval of the delete-group jackknife, for a statistic that resamples would mislead.

    Args:
        statistic: takes as many samples as are given and returns one number. It must not depend
            on the order of the observations.
        samples: each of shape [N, ...] with N >= `groups`; group g of all is left out at once.
        groups: G, at least 10; the statistic is computed G + 1 times.
        level, seed: of the interval; of the random groups.
        bounds: the least and the largest that the statistic can be; the interval ends there.

    Raises:
        SuffuseError: for fewer groups, samples that are smaller or not finite, and for a statistic
            that is not finite.

    >>> print(jackknife(np.mean, np.arange(100.0)))
    49.5 [44.43, 54.57]
    """
    data = _checked(samples, paired=False)
    orders = random_groups([len(x) for x in data], groups, level, seed)
    left_out = []
    for part in zip(*orders, strict=True):
        rest = [np.delete(np.arange(len(x)), g) for x, g in zip(data, part, strict=True)]
        left_out.append(
            _finite(statistic(*(_take(x, rows) for x, rows in zip(data, rest, strict=True))))
        )
    value = _finite(statistic(*data))
    half = t_quantile(level, groups - 1) * jackknife_error(left_out)
    return Interval(value, max(bounds[0], value - half), min(bounds[1], value + half))


def random_groups(
    sizes: Sequence[int], groups: int, level: float, seed: int
) -> list[list[Indices]]:
    """For each sample the rows of each of its random groups, after a check of the arguments."""
    check_level(level)
    if groups < 10:
        raise SuffuseError(f"a jackknife needs at least 10 groups; got {groups}")
    if min(sizes) < groups:
        raise SuffuseError(
            f"a jackknife of {groups} groups needs as many observations; got {min(sizes)}"
        )
    rng = np.random.default_rng(seed)
    return [np.array_split(rng.permutation(n), groups) for n in sizes]


def jackknife_error(left_out: Sequence[float]) -> float:
    """SE of a figure from what it is without each of the groups, [G]."""
    groups = len(left_out)
    return math.sqrt((groups - 1) ** 2 / groups * np.var(left_out, ddof=1))


def mean(values: Sample, **options: Any) -> Interval:
    """The mean of `values` [N] with its bootstrap interval; options as for `bootstrap`.

    >>> print(mean([2.0, 3.0, 5.0, 7.0, 11.0, 13.0], seed=0))
    6.833 [4, 10.33]
    """
    return bootstrap(_mean, values, **options)


def difference(
    a: Sample,
    b: Sample,
    statistic: Callable[[Any], Any] | None = None,
    *,
    paired: bool = True,
    **options: Any,
) -> Interval:
    """statistic(a) − statistic(b), of the means by default, with its bootstrap interval.

    Args:
        a, b: shape [N, ...]. With `paired`, row i of both belongs to the same observation (two
            models on the same test case, say): what makes a case hard then cancels.
        statistic: takes one sample and returns one number.
        options: as for `bootstrap`.

    >>> print(difference([0.9, 0.8, 0.7, 0.6, 0.9], [0.8, 0.7, 0.6, 0.5, 0.7], seed=0))
    0.12 [0.1, 0.18]
    """
    of = _mean if statistic is None else statistic
    return bootstrap(lambda x, y: float(of(x)) - float(of(y)), a, b, paired=paired, **options)


def proportion(successes: int, n: int, level: float = 0.95) -> Interval:
    """The share of `successes` among `n`, with Wilson's score interval (Wilson 1927).

        (p + z²/2n ± z √(p (1 − p)/n + z²/4n²)) / (1 + z²/n)

    >>> print(proportion(48, 50))
    0.96 [0.8654, 0.989]
    """
    if n < 1 or not 0 <= successes <= n:
        raise SuffuseError(f"a proportion needs 0 <= successes <= n, n >= 1; got {successes}, {n}")
    return wilson(successes / n, n, level)


def wilson(p: float, n: float, level: float = 0.95, df: int | None = None) -> Interval:
    """Wilson's interval of a share p that is as precise as one of `n` independent draws.

    `n` need not be whole: where draws depend on each other it is the effective number
    p (1 − p)/variance (Kish 1965, section 8.2; for intervals, Korn and Graubard 1998). `df` are
    the degrees of freedom that an estimated variance rests on: Student's t then stands for z.
    """
    check_level(level)
    z = normal_quantile(level) if df is None else t_quantile(level, df)
    z2 = z**2 / n
    half = math.sqrt(z2 * p * (1 - p) + z2**2 / 4)
    low, high = (p + z2 / 2 - half) / (1 + z2), (p + z2 / 2 + half) / (1 + z2)
    return Interval(p, min(p, max(0.0, low)), max(p, min(1.0, high)))


def check_level(level: float) -> None:
    if not 0 < level < 1:
        raise SuffuseError(f"level must lie between 0 and 1, for instance 0.95; got {level}")


def normal_quantile(level: float) -> float:
    """z such that a standard normal lies within ±z with probability `level`."""
    return _NORMAL.inv_cdf((1 + level) / 2)


def t_quantile(level: float, df: int) -> float:
    """The like of `normal_quantile` for Student's t with df >= 4 (Abramowitz, Stegun 26.7.5)."""
    z = normal_quantile(level)
    return (
        z
        + (z**3 + z) / (4 * df)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * df**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * df**4)
    )


def _mean(x: Any) -> float:
    return float(x.mean())


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise SuffuseError(f"the statistic to bootstrap must be finite; it gave {number}")
    return number


def _checked(samples: Sequence[Sample], paired: bool) -> list[Tensor | npt.NDArray[Any]]:
    if not samples:
        raise SuffuseError("bootstrap needs at least one sample; got none")
    data: list[Tensor | npt.NDArray[Any]] = []
    for sample in samples:
        x = sample.detach() if isinstance(sample, Tensor) else np.asarray(sample)
        if x.ndim == 0 or len(x) < 2:
            raise SuffuseError(
                f"bootstrap needs at least 2 observations a sample; got shape {list(x.shape)}"
            )
        if isinstance(x, np.ndarray):
            if x.dtype.kind not in "fiub":
                raise SuffuseError(f"bootstrap needs numbers; got dtype {x.dtype}")
            x = x.astype(np.float64) if x.dtype.kind in "biu" else x
            finite = bool(np.isfinite(x).all())
        else:
            x = x if x.is_floating_point() else x.double()
            finite = bool(x.isfinite().all())
        if not finite:
            raise SuffuseError("bootstrap needs finite observations; got NaN or infinity")
        data.append(x)
    if paired and len({len(x) for x in data}) > 1:
        raise SuffuseError(
            f"paired samples must be equally long; got {[len(x) for x in data]} observations"
        )
    return data


def _strata(
    data: Sequence[Tensor | npt.NDArray[Any]], paired: bool, strata: Any
) -> list[list[Indices]]:
    """For each sample (one for all when paired), the rows of each stratum."""
    if strata is None:
        return [[np.arange(len(x))] for x in (data[:1] if paired else data)]
    if len(data) > 1 and not paired:
        raise SuffuseError("strata go with one sample, or with paired ones")
    labels = strata.detach().cpu().numpy() if isinstance(strata, Tensor) else np.asarray(strata)
    if labels.shape != (len(data[0]),):
        raise SuffuseError(
            f"strata must hold one label an observation: {len(data[0])}; "
            f"got shape {list(labels.shape)}"
        )
    names, member = np.unique(labels, return_inverse=True)
    parts = [np.flatnonzero(member == s) for s in range(len(names))]
    for name, part in zip(names, parts, strict=True):
        if part.size < 2:
            raise SuffuseError(f"stratum {str(name)!r} has 1 observation; each needs at least 2")
    return [parts]


def _take(x: Tensor | npt.NDArray[Any], rows: Indices) -> Any:
    return x[torch.from_numpy(rows).to(x.device)] if isinstance(x, Tensor) else x[rows]


def _bca_tails(
    value: float,
    replicates: npt.NDArray[np.float64],
    tails: tuple[float, float],
    acceleration: Callable[[], float],
) -> tuple[float, float]:
    # Replicates that differ from the estimate by rounding alone are ties; half of them count.
    tied = np.isclose(replicates, value, rtol=1e-12, atol=0)
    below = float(np.mean((replicates < value) & ~tied) + np.mean(tied) / 2)
    if not 0 < below < 1 or tied.all():
        return tails
    z_0, a = _NORMAL.inv_cdf(below), acceleration()

    def shifted(tail: float) -> float:
        z = z_0 + _NORMAL.inv_cdf(tail)
        # Beyond the pole, 1 - a z <= 0, the quantile is the last one.
        return _NORMAL.cdf(z_0 + z / (1 - a * z)) if a * z < 1 else float(z > 0)

    return shifted(tails[0]), shifted(tails[1])


def _acceleration(
    replicate: Callable[[list[list[Indices]]], float],
    blocks: list[list[Indices]],
    rng: np.random.Generator,
) -> float:
    """A sixth of the skewness of the summed influences, by the jackknife over all strata.

    Large samples are left out in random groups: a group's influence is the sum of its members',
    so the sums of squares and cubes over groups keep their expectation.
    """
    total = sum(part.size for parts in blocks for part in parts)
    square = cube = 0.0
    for s, parts in enumerate(blocks):
        for p, part in enumerate(parts):
            groups = min(part.size, max(2, _JACKKNIFE * part.size // total))
            estimates, sizes = [], []
            for group in np.array_split(rng.permutation(part.size), groups):
                rest = [*parts[:p], np.delete(part, group), *parts[p + 1 :]]
                estimates.append(replicate([*blocks[:s], rest, *blocks[s + 1 :]]))
                sizes.append(group.size)
            left_out = np.array(estimates)
            influence = (left_out.mean() - left_out) * (part.size - np.array(sizes)) / part.size
            square += float((influence**2).sum())
            cube += float((influence**3).sum())
    return cube / (6 * square**1.5) if square > 0 else 0.0
