"""Scores by a learned denoiser of rows.

A residual network (`suffuse.nn.MLP`) is trained on the arcsinh view of the rows, each dimension
with the deviation 1. What it knows is asked in one of these ways (`suffuse.diffusion.scores`):

    denoiser         how far it moves the row itself, at several noise levels
    reconstruction   how well it undoes noise that was added, averaged over draws of it
    curvature        how the path of the row to noise bends
    diffusion-time   which noise level the row looks like
    likelihood       −log p of the row, along the probability flow
    k-dsm            as denoiser, at one level, with more noise in dimensions of heavy tails

Levels with little noise are left out: there a network that has seen a few thousand rows tells noise
of its own. What a dimension adds is its part of the squared differences that the score is made of;
of likelihood and diffusion time it is that of ‖x − d‖² α²/σ², whose integral over λ is all of
log p(x) that depends on where x lies (`suffuse.diffusion.scores.DiffusionTime`).

**Noise by kurtosis.** Noise of deviation σ_j in the dimension j is noise of deviation 1 on x_j/σ_j.
The method "k-dsm" takes σ_j = σ_0 (κ_j / 3)^¼, within a factor of 2, with the kurtosis κ_j, 3 for a
normal distribution: the fourth root, since κ is a ratio of fourth moments. So dimensions of heavy
tails, whose far values are few, are smoothed more. After Livernoche, Zan, Rabbany, "Kurtosis-guided
denoising score matching" (2026), arXiv 2605.06955, whose abstract gives the idea; the formula here
is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from suffuse.diffusion import schedules
from suffuse.diffusion.process import gaussian
from suffuse.diffusion.scores import (
    Curvature,
    DiffusionTime,
    NegativeLogLikelihood,
    Reconstruction,
    Score,
    ScoreNorm,
)
from suffuse.nn import MLP
from suffuse_anomaly.blocks import by_block
from suffuse_anomaly.member import Floats, Input, Member, Rows, even
from suffuse_anomaly.table import Table

__all__ = ["LEARNED", "Learned"]

LEVELS = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""log(α / σ) at which a row is judged: noise from 2.7 deviations of the data down to 0.37."""
SINGLE = 0.7
"""The one level of "k-dsm": noise of half a deviation of the data."""
WIDTH, BATCH, RATE = 128, 256, 1e-3


@dataclass(frozen=True)
class _Way:
    """How the network is trained and asked.

    Attributes:
        score: makes the core's score of (denoiser, schedule).
        places: makes the one whose elements say what each dimension adds.
        level_mean, level_std: of the λ of training.
        kurtosis: whether noise is scaled by it.
    """

    score: Any
    places: Any = None
    level_mean: float = 0.0
    level_std: float = 1.2
    kurtosis: bool = False


_NORM = partial(ScoreNorm, lams=LEVELS)
_ONE = partial(ScoreNorm, lams=(SINGLE,))
LEARNED: dict[str, _Way] = {
    "denoiser": _Way(_NORM),
    "reconstruction": _Way(partial(Reconstruction, lams=LEVELS, draws=8)),
    "curvature": _Way(partial(Curvature, lams=(2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0))),
    "diffusion-time": _Way(
        partial(DiffusionTime, lams=tuple(np.linspace(-2.0, 2.0, 9)), probes=4), _NORM
    ),
    "likelihood": _Way(partial(NegativeLogLikelihood, lams=(-3.0, 2.0), probes=4), _NORM),
    "k-dsm": _Way(_ONE, level_mean=SINGLE, level_std=0.01, kurtosis=True),
}
"""The methods."""


class Learned(Member):
    """A trained denoiser, and how it is asked.

    Attributes:
        way: the entry of `LEARNED`.
        input: of rows to the network's numbers.
        network: the trained `MLP`.
    """

    trained: ClassVar[bool] = True

    def __init__(self, name: str, own_input: Input, network: MLP) -> None:
        self.name, self.input, self.network = name, own_input, network

    @property
    def way(self) -> _Way:
        return LEARNED[self.name]

    @classmethod
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
        way, own = LEARNED[name], Input.fit(rows) if start is None else start.input
        if way.kurtosis and start is None:
            tails = stats.kurtosis(own(rows).numpy(), axis=0, fisher=False, nan_policy="omit")
            factor = np.clip((np.nan_to_num(tails, nan=3.0) / 3) ** 0.25, 0.5, 2.0)
            own.deviation = own.deviation * factor.astype(np.float64)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = MLP((rows.shape[1],), width=WIDTH)
        if start is not None:
            network.load_state_dict(start.network.state_dict())
        _train(network, own(rows), way, seed=seed, steps=steps)
        return cls(name, own, network.eval())

    @classmethod
    def load(cls, name: str, tensors: Mapping[str, Tensor], table: Table) -> Self:
        with torch.random.fork_rng(devices=[]):
            network = MLP((len(tensors["mean"]),), width=WIDTH)
        network.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("network.")})
        return cls(name, Input.load(tensors), network.eval())

    def tensors(self) -> dict[str, Any]:
        return self.input.tensors() | {
            f"network.{k}": v for k, v in self.network.state_dict().items()
        }

    def _score(self, make: Any) -> Score:
        process = gaussian(schedules.cosine())
        found: Score = make(process.denoiser(self.network), process.schedule)
        return found

    def raw(self, rows: Rows) -> Floats:
        """[N, L]; of squares the logarithm."""
        score = self._score(self.way.score)
        with torch.no_grad():
            found = by_block(score, self.input(rows)).double()
        return (found if self.way.places else found.clamp(min=1e-12).log()).numpy()

    def shares(self, rows: Rows) -> Floats:
        score = self._score(self.way.places or self.way.score)
        with torch.no_grad():
            parts = even(by_block(score.elements, self.input(rows)).double().numpy())
        return parts.mean(1, keepdims=True) if self.way.places else parts


def _train(network: MLP, x: Tensor, way: _Way, *, seed: int, steps: int) -> None:
    """AdamW on the denoising loss, its levels spread evenly in each batch."""
    process = gaussian(schedules.cosine(), level_mean=way.level_mean, level_std=way.level_std)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    batch = min(BATCH, max(32, len(x)))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(x), (batch,), generator=generator)
        u = (torch.arange(batch) + torch.rand(1, generator=generator)) / batch
        eps = torch.randn(batch, x.shape[1], generator=generator)
        loss = process.loss(network, x[chosen], process.levels(u.clamp(1e-4, 1 - 1e-4)), eps)
        optimizer.zero_grad(set_to_none=True)
        loss.mean().backward()
        optimizer.step()
        schedule.step()
