r"""How unusual a datum is to a model. Higher is more unusual, in every score.

A score maps data [B, *shape] to a matrix [B, L]: a column for each noise level at which it looks,
since no level is the right one for all anomalies. `calibrate` learns from held-out normal data what
is usual at each level, and joins the columns to one number:

    score = Reconstruction(denoiser, schedule)
    usual = calibrate(score(held_out))
    usual(score(x))                                  # [B]

What the condition "mask" says is padding counts for nothing in a mean over elements; scores of
whole states refuse it. The noise that a score draws depends on the seed alone: a datum has the same
score in any batch, and scores differ by the data, not by luck. Costs are declared for a datum:
`calls` of the network, and `pullbacks`, passes backward through it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from suffuse.diffusion.derivatives import pullback, trace
from suffuse.diffusion.likelihood import log_likelihood, signs
from suffuse.diffusion.noise import Noise, Stream
from suffuse.diffusion.process import Denoiser, align, mean_over
from suffuse.diffusion.schedules import Schedule
from suffuse.errors import SuffuseError, unknown

__all__ = [
    "SCORES",
    "Calibration",
    "Curvature",
    "DiffusionTime",
    "NegativeLogLikelihood",
    "Reconstruction",
    "Score",
    "ScoreNorm",
    "calibrate",
]


@dataclass(frozen=True)
class Score:
    """What a score is: called with data [B, *shape], it answers with [B, L].

    Attributes:
        denoiser, schedule: of the model.
        lams: the levels λ at which it looks.
    """

    denoiser: Denoiser
    schedule: Schedule
    lams: tuple[float, ...] = (-1.0, 0.0, 1.0, 2.0, 3.0)

    @property
    def calls(self) -> int:
        """Network calls for a datum."""
        return len(self.lams)

    @property
    def pullbacks(self) -> int:
        """Passes backward through the network for a datum."""
        return 0

    def elements(self, x_0: Tensor, *, seed: int = 0, **conditions: Any) -> Tensor:
        """What each element of a state adds, [B, L, *shape]; the score is their mean."""
        raise SuffuseError(f"{type(self).__name__} is no sum over the elements of a state")

    def __call__(self, x_0: Tensor, *, seed: int = 0, **conditions: Any) -> Tensor:
        """The score at each level, [B, L]; higher is more unusual."""
        found, mask = self.elements(x_0, seed=seed, **conditions), conditions.get("mask")
        columns = [mean_over(found[:, i], mask) for i in range(found.shape[1])]
        return torch.stack(columns, 1)

    def estimate(self, x: Tensor, lam: float, conditions: dict[str, Any]) -> Tensor:
        """The clean estimate of x = x_t / α [B, *shape] at the level λ."""
        t = self.schedule.t(lam).to(x.device).expand(len(x))
        alpha = self.schedule.at(t).align(x).alpha.to(x.dtype)
        found: Tensor = self.denoiser(alpha * x, t, **conditions)
        return found


@dataclass(frozen=True)
class Reconstruction(Score):
    """(x_0 − d(x_t))² after noise was added, averaged over `draws` of it.

    Source: Graham et al. (2022), arXiv 2211.07740.
    """

    draws: int = 1

    @property
    def calls(self) -> int:
        return len(self.lams) * self.draws

    def elements(self, x_0: Tensor, *, seed: int = 0, **conditions: Any) -> Tensor:
        noise, shape = Noise([seed], device=x_0.device), x_0.shape[1:]
        columns = []
        for i in range(self.calls):
            lam = self.lams[i // self.draws]
            eps = noise.normal(shape, step=i, stream=Stream.CORRUPT, dtype=x_0.dtype)
            columns.append((x_0 - self.estimate(x_0 + math.exp(-lam) * eps, lam, conditions)) ** 2)
        drawn = torch.stack(columns, 1)
        return drawn.reshape(len(x_0), -1, self.draws, *shape).mean(2)


@dataclass(frozen=True)
class ScoreNorm(Score):
    """((x_0 − d) α/σ)²: the squared score of the datum itself, times σ²/α².

    Source: Mahmood, Oliva, Styner (2020), arXiv 2010.13132.
    """

    def elements(self, x_0: Tensor, *, seed: int = 0, **conditions: Any) -> Tensor:
        return torch.stack(
            [((x_0 - self.estimate(x_0, k, conditions)) * math.exp(k)) ** 2 for k in self.lams], 1
        )


@dataclass(frozen=True)
class Curvature(Score):
    """How the flow's path from the datum to noise bends: (∂ε/∂λ)², ε the estimate of the noise.

    The path is walked by DDIM's step along L + 1 falling levels.

    Source: Heng, Thiery, Soh (2024), arXiv 2405.11881.
    """

    lams: tuple[float, ...] = (4.0, 3.0, 2.0, 1.0, 0.0, -1.0, -2.0)

    def __post_init__(self) -> None:
        if len(self.lams) < 2 or not all(a > b for a, b in pairwise(self.lams)):
            raise SuffuseError(f"a path needs two levels or more, falling; given {self.lams}")

    def elements(self, x_0: Tensor, *, seed: int = 0, **conditions: Any) -> Tensor:
        x, slopes = x_0, []
        for lam, after in pairwise((*self.lams, self.lams[-1])):
            slopes.append((x - self.estimate(x, lam, conditions)) * math.exp(lam))
            x = x + (math.exp(-after) - math.exp(-lam)) * slopes[-1]
        bends = torch.stack(slopes, 1).diff(dim=1)
        gaps = torch.tensor(self.lams, dtype=bends.dtype, device=bends.device).diff()
        return (bends / align(gaps[None], bends)) ** 2


@dataclass(frozen=True)
class DiffusionTime(Score):
    """Which noise level the datum looks like: the posterior mean of log(σ/α); one column.

    The density of a fixed x under noise of level λ obeys the heat equation,
    ∂ log p_λ(x) / ∂λ = D − tr(∂d/∂x) − ‖x − d‖² α²/σ², so the denoiser itself tells the level, and
    no classifier of levels is trained.

    Attributes:
        lams: rising levels, between which the prior is uniform.
        probes: for the trace; 0 takes it exactly.

    Source: the score: Livernoche et al. (2023), arXiv 2305.18593.
    """

    lams: tuple[float, ...] = tuple(i / 2 for i in range(-6, 9))
    probes: int = 1

    @property
    def pullbacks(self) -> int:
        return len(self.lams) * self.probes

    def slopes(self, x_0: Tensor, *, seed: int = 0, **conditions: Any) -> Tensor:
        """∂ log p_λ(x) / ∂λ at the levels, [B, L], float64."""
        _whole(conditions)
        probes, columns = None, []
        if self.probes:
            drawn = signs(Noise([seed], device=x_0.device), x_0.shape[1:], self.probes, x_0.dtype)
            probes = drawn.expand(-1, *x_0.shape)
        for lam in self.lams:
            ask = lambda x, t, lam=lam: self.estimate(x, lam, conditions)  # noqa: E731
            d, pull = pullback(ask, x_0, x_0.new_zeros(len(x_0)))
            far = (x_0 - d).double().square().flatten(1).sum(1) * math.exp(2 * lam)
            columns.append(x_0[0].numel() - trace(pull, x_0, probes).double().mean(1) - far)
        return torch.stack(columns, 1)

    def __call__(self, x_0: Tensor, *, seed: int = 0, **conditions: Any) -> Tensor:
        """E[log(σ/α) | x], [B, 1], float64."""
        slope = self.slopes(x_0, seed=seed, **conditions)[..., None]
        lams = torch.tensor(self.lams, dtype=torch.float64, device=x_0.device)
        # Between levels the slope is taken to be straight, so that log p is a parabola.
        u = (torch.arange(64, dtype=torch.float64, device=x_0.device) + 0.5) / 64
        gaps = lams.diff()[:, None]
        inside = gaps * (slope[:, :-1] * u + slope.diff(dim=1) * u**2 / 2)
        whole = gaps[:, 0] * (slope[:, 1:, 0] + slope[:, :-1, 0]) / 2
        log_p = inside + (whole.cumsum(1) - whole)[..., None] + gaps.log()
        posterior = log_p.flatten(1).softmax(1)
        return -(posterior * (lams[:-1, None] + gaps * u).flatten()).sum(1, keepdim=True)


@dataclass(frozen=True)
class NegativeLogLikelihood(Score):
    """−log p(x_0) / D in nats, by the probability flow and Heun's steps; one column.

    Attributes:
        lams: the lowest and the highest level of the flow.
        probes, steps, sigma_data: as for `likelihood.log_likelihood`.
    """

    lams: tuple[float, float] = (-6.0, 4.0)
    probes: int = 1
    steps: int = 12
    sigma_data: float = 1.0

    @property
    def calls(self) -> int:
        return 2 * self.steps + 1

    @property
    def pullbacks(self) -> int:
        return 2 * self.steps * self.probes

    def __call__(self, x_0: Tensor, *, seed: int = 0, **conditions: Any) -> Tensor:
        """[B, 1], float64."""
        _whole(conditions)
        how: dict[str, Any] = {"method": "heun", "steps": self.steps, "lam": self.lams}
        how |= {"probes": self.probes, "sigma_data": self.sigma_data, **conditions}
        noise = Noise([seed] * len(x_0), device=x_0.device)
        found = log_likelihood(self.denoiser, self.schedule, x_0, noise=noise, **how)
        return -found.log_prob[:, None] / x_0[0].numel()


def _whole(conditions: dict[str, Any]) -> None:
    if conditions.get("mask") is not None:
        raise SuffuseError(
            "the density is that of a state, and these are padded: padding would count; take "
            "'reconstruction', 'score-norm' or 'curvature'"
        )


SCORES: dict[str, type[Score]] = {
    "curvature": Curvature,
    "diffusion-time": DiffusionTime,
    "likelihood": NegativeLogLikelihood,
    "reconstruction": Reconstruction,
    "score-norm": ScoreNorm,
}
"""The scores by name."""


@dataclass(frozen=True)
class Calibration:
    """What is usual at each level; called with scores [B, L], it joins them to [B].

    Attributes:
        kind: see `calibrate`.
        table: float64; [2, L], means and deviations; or [N, L], sorted scores of held-out data.
    """

    kind: str
    table: Tensor

    def __call__(self, raw: Tensor) -> Tensor:
        """The mean over levels of the calibrated scores; higher is more unusual; [B], float64."""
        table, raw = self.table.to(raw.device), raw.double()
        if raw.ndim != 2 or raw.shape[1] != table.shape[1]:
            raise SuffuseError(
                f"calibrated on {table.shape[1]} levels; given scores {tuple(raw.shape)}"
            )
        if self.kind == "z":
            return ((raw - table[0]) / table[1]).mean(1)
        # Straight lines between the held-out scores, and an exponential tail from 0.9 up.
        n, x, held = len(table), raw.T.contiguous(), table.T.contiguous()
        top = min(int(0.9 * n), n - 2)
        i = torch.searchsorted(held, x).clamp(1, n - 1)
        low, high, edge = held.gather(1, i - 1), held.gather(1, i), held[:, top, None]
        part = ((x - low) / (high - low).clamp(min=1e-300)).clamp(0, 1)
        inside = -torch.log1p(-(i - 0.5 + part) / n)
        # where all of the tail is alike, what is beyond it is far, and not infinitely far
        excess = (held[:, top + 1 :] - edge).mean(1, keepdim=True)
        excess = torch.maximum(excess, 1e-9 * (1 + edge.abs()))
        tail = (x - edge) / excess - math.log1p(-(top + 0.5) / n)
        return torch.where(x > edge, tail, inside).mean(0)


def calibrate(raw: Tensor, kind: str = "z") -> Calibration:
    """Learn from the scores [N, L] of held-out normal data what is usual.

    Args:
        raw: finite scores.
        kind: "z": (score − mean) / deviation at each level; N is 2 or more. "quantile": −log of the
            part of held-out data at least as unusual, without ties or an end; N is 20 or more.

    >>> usual = calibrate(torch.arange(100.0)[:, None], "quantile")
    >>> a, b, c = usual(torch.tensor([[49.5], [89.0], [200.0]])).tolist()
    >>> round(a, 2), a < b < c
    (0.69, True)
    >>> bool(calibrate(torch.ones(50, 1), "quantile")(torch.tensor([[2.0]])).isfinite())
    True
    """
    held, least = raw.double(), {"z": 2, "quantile": 20}
    if kind not in least:
        raise unknown("calibration", kind, least)
    if held.ndim != 2 or len(held) < least[kind] or not bool(held.isfinite().all()):
        raise SuffuseError(
            f"calibration by {kind!r} needs finite scores [N, L] of {least[kind]} data or more; "
            f"given {tuple(raw.shape)}"
        )
    if kind == "quantile":
        return Calibration(kind, held.sort(0).values)
    return Calibration(kind, torch.stack([held.mean(0), held.std(0).clamp(min=1e-300)]))
