r"""Drawing what is missing of a vector, given what is there, from noised examples.

Let S be the covariance of the vectors (by expectation and maximisation where there are gaps).
Examples x_i are noised with noise of that covariance,

    x = α x_i + σ ε,    ε normal with covariance S,    α² + σ² = 1

so that x keeps the covariance of the data. At σ = 1 this is one normal distribution, and completing
is linear regression; at small σ it is the examples themselves, and completing is taking them from
similar ones. Given the entries o that are there, those missing, m, are drawn exactly:

    i   with the probability ∝ N(x_o; α x_i,o, σ² S_oo)
    x_m normal with the mean α x_i,m + G (x_o − α x_i,o), G = S_mo S_oo⁻¹,
        and the covariance σ² (S_mm − G S_om)

Two numbers are chosen on a fifth of the examples, by a posterior that was fitted without them: σ,
by the likelihood of entries that are hidden there; and ω, since a covariance that is estimated from
few examples makes draws too narrow: normal noise of ω posterior deviations is added to them, the
least with which no fewer hidden entries than 19 of 21, which is what should, lie within the range
of 20 draws; fewer by more than two standard errors.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.special import logsumexp

from suffuse.diffusion import Noise

__all__ = ["Completion"]

Floats = npt.NDArray[np.float64]

SIGMAS = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 0.95, 1.0)
OMEGAS = tuple(np.arange(0, 2.01, 0.1))
EXAMPLES = 2000
"""The most examples that are drawn from."""
HIDDEN = 150
"""Held-out examples by which σ and ω are chosen."""


class Completion:
    """The posterior.

    Attributes:
        mean, covariance: of the vectors, [D] and [D, D].
        examples: without gaps, [N, D].
        sigma, omega: see above.
        log_prob: the mean log-density of the entries that were hidden to choose σ.
    """

    def __init__(self, mean: Floats, covariance: Floats, examples: Floats) -> None:
        self.mean, self.covariance, self.examples = mean, covariance, examples
        self.sigma, self.omega, self.log_prob = 1.0, 0.0, -np.inf

    @classmethod
    def fit(cls, Z: Floats, groups: npt.NDArray[np.intp], rng: np.random.Generator) -> Self:
        """Learn from vectors Z [N, D], NaN where an entry is missing.

        Args:
            groups: entries with the same number are hidden together, [D].
            rng: chooses the examples, and what is hidden.
        """
        Z = Z[rng.permutation(len(Z))[:EXAMPLES]]
        found = cls(*_normal(Z, rng))
        held, rest = Z[: min(HIDDEN, len(Z) // 5)], Z[len(Z) // 5 :]
        if len(held) < 2:
            return found
        hidden = (rng.random((len(held), int(groups.max()) + 1)) < 0.3)[:, groups]
        other = cls(*_normal(rest, rng))
        scores = [other._likelihood(held, hidden, sigma) for sigma in SIGMAS]
        found.sigma, found.log_prob = SIGMAS[int(np.argmax(scores))], max(scores)
        other.sigma = found.sigma
        found.omega = other._widening(held, hidden, rng)
        return found

    def posterior(
        self, row: Floats, away: npt.NDArray[np.bool_], sigma: float
    ) -> tuple[Floats, Floats, Floats]:
        """log p(example) [N], means [N, M] less `mean`, and covariance [M, M] of what is away."""
        alpha = np.sqrt(1 - sigma**2)
        o, m = ~away, away
        S, centres = self.covariance, alpha * (self.examples - self.mean)
        gap = (row - self.mean)[o] - centres[:, o]
        if not o.any():
            uniform = np.full(len(centres), -np.log(len(centres)))
            return uniform, centres[:, m], sigma**2 * S[np.ix_(m, m)]
        factor = np.linalg.cholesky(S[np.ix_(o, o)])
        whitened = np.linalg.solve(factor, gap.T)
        log_p = -(whitened**2).sum(0) / (2 * sigma**2)
        gain = np.linalg.solve(factor, S[np.ix_(o, m)])
        means = centres[:, m] + whitened.T @ gain
        covariance = sigma**2 * (S[np.ix_(m, m)] - gain.T @ gain)
        return log_p - logsumexp(log_p), means, covariance

    def draw(self, row: Floats, draws: int, seed: int) -> Floats:
        """A vector [D] with its gaps filled, [draws, D]; what is drawn depends on seed and row."""
        found, away = np.repeat(row[None], draws, 0), np.isnan(row)
        if not away.any():
            return found
        key = pd.util.hash_array(np.nan_to_num(row, nan=1e300)).sum(dtype=np.uint64)
        noise = Noise([(int(key) ^ seed) % 2**63])
        shape = (draws, int(away.sum()))
        u = noise.uniform((draws,), step=0, stream=0)[0].double().numpy()
        z, more = (
            noise.normal(shape, step=i, stream=0, dtype=torch.float64)[0].numpy() for i in (1, 2)
        )
        found[:, away] = self._drawn(row, away, u, z, more)
        return found

    def _drawn(
        self, row: Floats, away: npt.NDArray[np.bool_], u: Floats, z: Floats, more: Floats
    ) -> Floats:
        """Draws [n, M] by uniform numbers u [n] and normal ones z, more [n, M]."""
        log_p, means, covariance = self.posterior(row, away, self.sigma)
        p = np.exp(log_p)
        chosen = np.minimum(np.searchsorted(np.cumsum(p), u), len(p) - 1)
        v, U = np.linalg.eigh(covariance)
        spread = (z * np.sqrt(np.maximum(v, 0))) @ U.T
        centre = p @ means
        variance = p @ (means - centre) ** 2 + np.diag(covariance)
        wide = self.omega * np.sqrt(np.maximum(variance, 0)) * more
        return self.mean[away] + means[chosen] + spread + wide

    def _likelihood(self, rows: Floats, hidden: npt.NDArray[np.bool_], sigma: float) -> float:
        """The mean log-density of hidden entries of rows that are no examples."""
        total, count = 0.0, 0
        for row, away in zip(rows, hidden, strict=True):
            asked = away & ~np.isnan(row)
            if not asked.any():
                continue
            missing = away | np.isnan(row)
            log_p, means, covariance = self.posterior(row, missing, sigma)
            at = asked[missing]
            variance = np.maximum(np.diag(covariance)[at], 1e-4)
            gap = (row - self.mean)[asked] - means[:, at]
            density = -(gap**2) / (2 * variance) - np.log(2 * np.pi * variance) / 2
            total += float(logsumexp(density + log_p[:, None], axis=0).sum())
            count += int(asked.sum())
        return total / max(count, 1)

    def _widening(
        self, rows: Floats, hidden: npt.NDArray[np.bool_], rng: np.random.Generator
    ) -> float:
        """The least ω of `OMEGAS` with which enough hidden entries lie among 20 draws."""
        inside = np.zeros(len(OMEGAS))
        count = 0
        for row, away in zip(rows, hidden, strict=True):
            asked = away & ~np.isnan(row)
            if not asked.any():
                continue
            missing = away | np.isnan(row)
            at, truth = asked[missing], row[asked]
            shape = (20, int(missing.sum()))
            drawn = (rng.random(20), rng.normal(size=shape), rng.normal(size=shape))
            for i, omega in enumerate(OMEGAS):
                self.omega = omega
                made = self._drawn(row, missing, *drawn)[:, at]
                inside[i] += ((truth >= made.min(0)) & (truth <= made.max(0))).sum()
            count += int(asked.sum())
        share = 19 / 21
        enough = inside >= share * count - 2 * np.sqrt(share * (1 - share) * count)
        return float(OMEGAS[int(np.argmax(enough))]) if enough.any() else float(OMEGAS[-1])


def _normal(Z: Floats, rng: np.random.Generator, rounds: int = 15) -> tuple[Floats, Floats, Floats]:
    """Mean [D] and covariance [D, D] of rows with gaps, by expectation and maximisation.

    Covariances between entries are shrunk by D / (D + 4 n), n the rows that a pair of entries
    has on average. Returns the rows too, each gap filled by a draw given the rest of its row.
    """
    gaps = np.isnan(Z)
    mean = np.where(gaps.all(0), 0.0, np.nanmean(np.where(gaps.all(0), 0.0, Z), 0))
    filled = np.where(gaps, mean, Z)
    pairs = len(Z) * float(1 - gaps.mean()) ** 2
    shrink = Z.shape[1] / (Z.shape[1] + 4 * pairs)
    one = np.eye(Z.shape[1])

    def shrunk(S: Floats) -> Floats:
        return S * (1 - shrink + shrink * one) + 1e-3 * one

    covariance = shrunk(np.cov(filled.T, bias=True).reshape(one.shape))
    holed = np.flatnonzero(gaps.any(1))
    for k in range(rounds if len(holed) else 0):
        extra = np.zeros_like(covariance)
        for i in holed:
            m, o = gaps[i], ~gaps[i]
            if not o.any():
                extra[np.ix_(m, m)] += covariance[np.ix_(m, m)]
                filled[i] = mean
                continue
            gain = np.linalg.solve(covariance[np.ix_(o, o)], covariance[np.ix_(o, m)])
            left = covariance[np.ix_(m, m)] - covariance[np.ix_(m, o)] @ gain
            filled[i, m] = mean[m] + (Z[i, o] - mean[o]) @ gain
            extra[np.ix_(m, m)] += left
            if k == rounds - 1:
                filled[i, m] += rng.multivariate_normal(np.zeros(m.sum()), left, method="eigh")
        if k < rounds - 1:
            mean = filled.mean(0)
            centred = filled - mean
            covariance = shrunk((centred.T @ centred + extra) / len(Z))
    return mean, covariance, filled
