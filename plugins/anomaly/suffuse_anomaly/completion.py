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

S and G are estimates, by n examples, and what is drawn is to be wide enough for that: with
r = x_o − α x_i,o, s the part by which correlations are shrunk (below), and h the mean over examples
of x_i,oᵀ S_oo⁻¹ x_i,o, the covariance is multiplied by

    (1 + 1/n + (1 − s) rᵀ S_oo⁻¹ r / (σ² n)) / (1 − 1/n − (1 − s) h / n)

At σ = 1 that is the variance of a prediction by linear, or ridge, regression: its leverage above,
and below what the degrees of freedom take from the residuals.

The gaps of an example are filled by a draw from the others. A vector that is itself an example,
gaps and all, is completed by the others alone: what was put into its gaps is no evidence of what
belongs there.

Three numbers are chosen on a fifth of the examples, by a posterior that was fitted without them:
how far correlations are shrunk, and σ, by the likelihood of entries that are hidden there (many
entries and few examples ask for much shrinking, and entries that follow from each other nearly
exactly for little); and ω, for data that are not as is assumed here: normal noise of ω posterior
deviations is added to draws, the least with which no fewer hidden entries than 19 of 21, which is
what should, lie within the range of 20 draws; fewer by more than two standard errors.

Source: for the variance of predictions: Hastie, Tibshirani, Friedman, "The elements of statistical
learning" (2009), section 3.4.1 (degrees of freedom of ridge regression) and 7.10 (leverage).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.special import logsumexp
from torch import Tensor

from suffuse.diffusion import Noise

__all__ = ["Completion", "numbers"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SHRINKS = (0.003, 0.03, 0.2, 1.0)
"""Correlations are shrunk by these parts of D / (D + 4 n)."""
FLOOR = 1e-4
"""Added to each variance."""
SIGMAS = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 0.95, 1.0)
OMEGAS = tuple(np.arange(0, 2.01, 0.1))
EXAMPLES = 2000
"""The most examples that are drawn from."""
HIDDEN = 150
"""The most examples, held out, by which is chosen."""
MOST_FREEDOM = 0.9
"""Degrees of freedom over examples, at most: beyond that residuals say nothing."""
ROUNDS = 15
"""Of expectation and maximisation."""


@dataclass(frozen=True)
class _Asked:
    """What is the same for all σ: entries whitened by S_oo, and how the missing follow from them.

    Attributes:
        rows, examples: L⁻¹ (x_o − mean), S_oo = L Lᵀ, of n rows and N examples, [., O].
        away: x_m − mean of the examples, [N, M].
        gain: Lᵀ Gᵀ, [O, M].
        covariance: S_mm − G S_om, [M, M].
        others: which examples are not the row itself, [n, N].
        one, each: 1 / n and (1 − s) / n, how much one example counts in means and in S.
    """

    rows: Floats
    examples: Floats
    away: Floats
    gain: Floats
    covariance: Floats
    others: Bools
    one: float
    each: float

    def posterior(self, sigma: float) -> tuple[Floats, Floats, Floats, Floats]:
        """log p(example) [n, N]; what of the means is the example's [N, M] and the row's; and by
        what the covariance σ² `covariance` is multiplied, [n, N]."""
        alpha = np.sqrt(1 - sigma**2)
        centres = alpha * self.examples
        products = self.rows @ centres.T - (centres**2).sum(1) / 2
        log_p = np.where(self.others, products, -np.inf) / sigma**2
        log_p -= logsumexp(log_p, axis=1, keepdims=True)
        away = np.maximum((self.rows**2).sum(1)[:, None] - 2 * products, 0)
        freedom = self.one + self.each * float((self.examples**2).sum(1).mean())
        wider = 1 + self.one + self.each * away / sigma**2
        wider /= 1 - min(freedom, MOST_FREEDOM)
        return log_p, alpha * self.away - centres @ self.gain, self.rows @ self.gain, wider


class Completion:
    """The posterior.

    Attributes:
        mean, covariance: of the vectors, [D] and [D, D].
        examples: their gaps filled, [N, D].
        gaps: which of their entries were missing, [N, D].
        shrink: the part by which correlations are shrunk.
        sigma, omega: see above.
        log_prob: the mean log-density of the entries that were hidden to choose.
    """

    def __init__(
        self, mean: Floats, covariance: Floats, examples: Floats, gaps: Bools, shrink: float
    ) -> None:
        self.mean, self.covariance, self.examples, self.gaps = mean, covariance, examples, gaps
        self.shrink = shrink
        self.sigma, self.omega, self.log_prob = 1.0, 0.0, -np.inf

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """What was learned, as arrays by name; beside `choice` all that drawing needs."""
        return {
            "mean": self.mean,
            "covariance": self.covariance,
            "examples": self.examples,
            "gaps": self.gaps,
        }

    def choice(self) -> dict[str, float]:
        """What was chosen, by name."""
        return {"shrink": self.shrink, "sigma": self.sigma, "omega": self.omega}

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], choice: Mapping[str, Any]) -> Self:
        """What `tensors` and `choice` kept; it draws the same to the last bit."""
        names = ("mean", "covariance", "examples", "gaps")
        found = cls(*(tensors[name].numpy() for name in names), choice["shrink"])
        found.sigma, found.omega = choice["sigma"], choice["omega"]
        return found

    @classmethod
    def fit(
        cls,
        Z: Floats,
        groups: npt.NDArray[np.intp],
        rng: np.random.Generator,
        places: npt.NDArray[np.intp] | None = None,
        overlap: int = 0,
        free: Floats | None = None,
    ) -> Self:
        """Learn from vectors Z [N, D], NaN where an entry is missing.

        Args:
            groups: entries with the same number are hidden together, [D].
            rng: chooses the examples, and what is hidden.
            places: where vectors lie that are windows, [N], rising: those nearer to each other
                than `overlap` share entries, and are not held out one without the other.
            free: a covariance [D, D] that is added to what the vectors show, of what may change
                beyond it.
        """
        kept = np.sort(rng.permutation(len(Z))[:EXAMPLES])
        Z = Z[kept]
        if places is None:
            order = rng.permutation(len(Z))
            held, rest = np.split(order, [len(Z) // 5])
        else:
            places = places[kept]
            begin = int(rng.integers(len(Z) - len(Z) // 5))
            held = np.arange(begin, begin + len(Z) // 5)
            apart = np.abs(places[:, None] - places[held]).min(1, initial=overlap) >= overlap
            rest = np.flatnonzero(apart)
            held = rng.permutation(held)
        held = held[: int(np.clip(1e10 / (len(Z) * Z.shape[1] ** 2), 20, HIDDEN))]
        if len(held) < 2 or len(rest) < 2:
            return cls._of(Z, 1.0, rng, free)
        hidden = (rng.random((len(held), int(groups.max()) + 1)) < 0.3)[:, groups]
        tried = []
        for shrink in SHRINKS:
            one = cls._of(Z[rest], shrink, rng, free)
            scores = one._likelihoods(Z[held], hidden)
            one.sigma, one.log_prob = SIGMAS[int(np.argmax(scores))], max(scores)
            tried.append((one, shrink))
        other, shrink = max(tried, key=lambda pair: pair[0].log_prob)
        found = cls._of(Z, shrink, rng, free)
        found.sigma, found.log_prob = other.sigma, other.log_prob
        found.omega = other._widening(Z[held], hidden, rng)
        found._refill(rng)
        return found

    @classmethod
    def _of(cls, Z: Floats, shrink: float, rng: np.random.Generator, free: Floats | None) -> Self:
        gaps, D = np.isnan(Z), Z.shape[1]
        part = shrink * D / (D + 4 * _pairs(gaps))
        mean, covariance, filled = _normal(Z, part, rng)
        return cls(mean, covariance if free is None else covariance + free, filled, gaps, part)

    def _refill(self, rng: np.random.Generator) -> None:
        """Fill the examples' gaps by draws from the posterior, where it is not the normal one."""
        filled = self.examples.copy()
        for i in np.flatnonzero(self.gaps.any(1)) if self.sigma < 1 else ():
            row, away = np.where(self.gaps[i], np.nan, self.examples[i]), self.gaps[i]
            z = rng.normal(size=(1, int(away.sum())))
            filled[i, away] = self.drawn(row[None], away, rng.random(1), z, 0 * z)[0]
        self.examples = filled

    def _asked(self, rows: Floats, away: Bools) -> _Asked:
        """For rows [n, D] in which the same entries are missing."""
        o, m, S = ~away, away, self.covariance
        centred = self.examples - self.mean
        others = np.ones((len(rows), len(centred)), bool)
        twins = np.flatnonzero((self.gaps == away).all(1))
        if o.any() and len(twins) < len(centred):
            others[:, twins] = (rows[:, None, o] != self.examples[twins][:, o]).any(2)
        white = np.linalg.inv(np.linalg.cholesky(S[np.ix_(o, o)]))

        def whitened(x: Floats) -> Floats:
            return x @ white.T

        gain = whitened(S[np.ix_(m, o)]).T
        return _Asked(
            whitened((rows - self.mean)[:, o]),
            whitened(centred[:, o]),
            centred[:, m],
            gain,
            S[np.ix_(m, m)] - gain.T @ gain,
            others,
            1 / _pairs(self.gaps),
            (1 - self.shrink) / _pairs(self.gaps),
        )

    def expected(self, rows: Floats, away: Bools) -> Floats:
        """The means of what is missing of rows [n, D], in which the same is, given the rest."""
        asked = self._asked(rows, away)
        log_p, example, row, _ = asked.posterior(self.sigma)
        return self.mean[away] + np.exp(log_p) @ example + row

    def draw(self, row: Floats, draws: int, seed: int) -> Floats:
        """A vector [D] with its gaps filled, [draws, D]; what is drawn depends on seed and row."""
        found, away = np.repeat(row[None], draws, 0), np.isnan(row)
        if away.any():
            found[:, away] = self.drawn(found, away, *numbers(found, seed))
        return found

    def drawn(self, rows: Floats, away: Bools, u: Floats, z: Floats, more: Floats) -> Floats:
        """One draw of what is missing, [n, M], of each of rows [n, D] in which the same is.

        Args:
            u, z, more: the random numbers: uniform [n], and normal [n, M].
        """
        asked = self._asked(rows, away)
        log_p, example, row, wider = asked.posterior(self.sigma)
        p = np.exp(log_p)
        chosen = np.minimum((np.cumsum(p, 1) < u[:, None]).sum(1), p.shape[1] - 1)
        v, U = np.linalg.eigh(asked.covariance)
        spread = (z * (self.sigma * np.sqrt(np.maximum(v, 0)))) @ U.T
        spread *= np.sqrt(np.take_along_axis(wider, chosen[:, None], 1))
        variance = p @ example**2 - (p @ example) ** 2
        variance += self.sigma**2 * (p * wider).sum(1)[:, None] * np.diag(asked.covariance)
        wide = self.omega * np.sqrt(np.maximum(variance, 0)) * more
        return self.mean[away] + example[chosen] + row + spread + wide

    def _likelihoods(self, rows: Floats, hidden: Bools) -> list[float]:
        """For each σ the mean log-density of hidden entries of rows that are no examples."""
        total, count = np.zeros(len(SIGMAS)), 0
        for row, away in zip(rows, hidden, strict=True):
            wanted = away & ~np.isnan(row)
            if not wanted.any():
                continue
            missing = away | np.isnan(row)
            asked, at = self._asked(row[None], missing), wanted[missing]
            truth = (row - self.mean)[wanted]
            left = np.diag(asked.covariance)[at]
            for i, sigma in enumerate(SIGMAS):
                log_p, example, own, wider = asked.posterior(sigma)
                variance = np.maximum(sigma**2 * wider[0, :, None] * left, FLOOR)
                gap = truth - own[0, at] - example[:, at]
                density = -(gap**2) / (2 * variance) - np.log(2 * np.pi * variance) / 2
                total[i] += logsumexp(density + log_p[0, :, None], axis=0).sum()
            count += int(wanted.sum())
        return list(total / max(count, 1))

    def _widening(self, rows: Floats, hidden: Bools, rng: np.random.Generator) -> float:
        """The least ω of `OMEGAS` with which enough hidden entries lie among 20 draws."""
        inside = np.zeros(len(OMEGAS))
        count = 0
        for row, away in zip(rows, hidden, strict=True):
            wanted = away & ~np.isnan(row)
            if not wanted.any():
                continue
            missing = away | np.isnan(row)
            at, truth = wanted[missing], row[wanted]
            shape = (20, int(missing.sum()))
            drawn = (rng.random(20), rng.normal(size=shape), rng.normal(size=shape))
            self.omega = 0.0
            narrow = self.drawn(np.repeat(row[None], 20, 0), missing, *drawn)[:, at]
            self.omega = 1.0
            wide = self.drawn(np.repeat(row[None], 20, 0), missing, *drawn)[:, at] - narrow
            for i, omega in enumerate(OMEGAS):
                made = narrow + omega * wide
                inside[i] += ((truth >= made.min(0)) & (truth <= made.max(0))).sum()
            count += int(wanted.sum())
        share = 19 / 21
        enough = inside >= share * count - 2 * np.sqrt(share * (1 - share) * count)
        return float(OMEGAS[int(np.argmax(enough))]) if enough.any() else float(OMEGAS[-1])


def numbers(rows: Floats, seed: int) -> tuple[Floats, Floats, Floats]:
    """Random numbers for rows [n, D] in which the same is missing: uniform, and twice normal ones.

    Those of a row depend on what it holds, and on its place from the seed on.
    """
    keys = pd.util.hash_array(np.nan_to_num(rows, nan=1e300).ravel()).reshape(rows.shape)
    seeds = [(int(key.sum(dtype=np.uint64)) ^ (seed + i)) % 2**63 for i, key in enumerate(keys)]
    noise, shape = Noise(seeds), (int(np.isnan(rows[0]).sum()),)
    u = noise.uniform((1,), step=0, stream=0)[:, 0].double().numpy()
    z, more = (noise.normal(shape, step=i, stream=0, dtype=torch.float64).numpy() for i in (1, 2))
    return u, z, more


def _pairs(gaps: Bools) -> float:
    """In how many rows [N, D] a pair of entries is on average."""
    return max(len(gaps) * float(1 - gaps.mean()) ** 2, 1.0)


def _normal(Z: Floats, shrink: float, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Mean [D] and covariance [D, D] of rows with gaps, by expectation and maximisation.

    Covariances between entries are shrunk by the part `shrink`. Returns the rows too, each gap
    filled by a draw given the rest of its row. Of many rows of many entries a part, drawn anew, is
    brought up to date in each round.
    """
    gaps = np.isnan(Z)
    mean = np.where(gaps.all(0), 0.0, np.nanmean(np.where(gaps.all(0), 0.0, Z), 0))
    filled = np.where(gaps, mean, Z)
    D = Z.shape[1]
    one = np.eye(D)

    def shrunk(S: Floats) -> Floats:
        return S * (1 - shrink + shrink * one) + FLOOR * one

    covariance = shrunk(np.cov(filled.T, bias=True).reshape(one.shape))
    holed = np.flatnonzero(gaps.any(1))
    most = max(64, int(1e10 / D**3))
    for k in range(ROUNDS if len(holed) else 0):
        last = k == ROUNDS - 1
        some = holed if last else rng.permutation(holed)[:most]
        extra = np.zeros_like(covariance)
        for part in np.split(some, range(256, len(some), 256)):
            m, o = gaps[part].astype(float), ~gaps[part]
            # S_oo⁻¹ in its place among zeros, of all rows at once
            system = np.where(o[:, :, None] & o[:, None, :], covariance, one)
            inverse = np.linalg.inv(system) * o[:, :, None] * o[:, None, :]
            gain = covariance @ inverse
            told = mean + np.einsum("nij,nj->ni", gain, filled[part] - mean)
            filled[part] = np.where(gaps[part], told, filled[part])
            left = (covariance - gain @ covariance) * m[:, :, None] * m[:, None, :]
            extra += left.sum(0)
            if last:
                v, U = np.linalg.eigh(left)
                z = rng.normal(size=m.shape) * np.sqrt(np.maximum(v, 0))
                filled[part] += m * np.einsum("nij,nj->ni", U, z)
        if not last:
            mean = filled.mean(0)
            centred = filled - mean
            extra *= len(holed) / len(some)
            covariance = shrunk((centred.T @ centred + extra) / len(Z))
    return mean, covariance, filled
