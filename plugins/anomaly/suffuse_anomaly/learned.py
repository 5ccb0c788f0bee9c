"""A learned denoiser of rows, and how far it moves a row at several noise levels.

A residual network (`suffuse.nn.MLP`) is trained on the arcsinh view of the rows, each dimension
with the variance 1. The score at the level λ is the logarithm of the mean over dimensions of
((x − d(x)) α/σ)², the squared length of the score of the row itself (`suffuse.diffusion.scores`).
Levels with little noise are left out: there a network that has seen a few thousand rows tells noise
of its own.

The network is always called with a full block of rows, so that a row has the same score, to the
last bit, in a batch of any size.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from suffuse.diffusion import schedules
from suffuse.diffusion.process import gaussian
from suffuse.diffusion.scores import ScoreNorm
from suffuse.nn import MLP
from suffuse_anomaly.neighbours import even
from suffuse_anomaly.views import Views

__all__ = ["LEVELS", "Learned"]

Floats = npt.NDArray[np.float64]

LEVELS = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""log(α / σ) at which a row is judged: noise from 2.7 deviations of the data down to 0.37."""
BLOCK = 256
"""Rows of one call."""


class Learned:
    """The score, with a trained network.

    Attributes:
        views: fitted on the training rows.
        mean, deviation: of the arcsinh view, [D].
        network: the trained `MLP`.
    """

    def __init__(self, views: Views, mean: Floats, deviation: Floats, network: MLP) -> None:
        self.views, self.mean, self.deviation, self.network = views, mean, deviation, network

    @classmethod
    def shell(cls, tensors: Mapping[str, Floats], views: Views, width: int) -> Learned:
        """One with an untrained network, for weights that are loaded into it."""
        mean = tensors["mean"]
        with torch.random.fork_rng(devices=[]):
            network = MLP((len(mean),), width=width).eval()
        return cls(views, mean, tensors["deviation"], network)

    @classmethod
    def fit(
        cls,
        rows: npt.NDArray[np.float32],
        *,
        seed: int,
        steps: int = 1500,
        width: int = 128,
        batch: int = 256,
        rate: float = 1e-3,
    ) -> Learned:
        """Train on rows [N, D]; the same seed gives the same network."""
        views = Views.fit(rows)
        seen = views(rows)[1]
        deviation = seen.std(0)
        tensors = {"mean": seen.mean(0), "deviation": np.where(deviation > 0, deviation, 1.0)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = MLP((rows.shape[1],), width=width)
        found = cls(views, tensors["mean"], tensors["deviation"], network)
        x = found._input(rows)
        process = gaussian(schedules.cosine(), level_mean=0.0, level_std=1.2)
        optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
        batch = min(batch, max(32, len(x)))
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
        network.eval()
        return found

    def _input(self, rows: npt.NDArray[np.float32]) -> Tensor:
        seen = (self.views(rows)[1] - self.mean) / self.deviation
        return torch.from_numpy(seen.astype(np.float32))

    def _elements(self, rows: npt.NDArray[np.float32]) -> Tensor:
        """((x − d) α/σ)² at each level, [N, L, D]."""
        process = gaussian(schedules.cosine())
        score = ScoreNorm(process.denoiser(self.network), process.schedule, LEVELS)
        x, found = self._input(rows), []
        with torch.no_grad():
            for part in x.split(BLOCK):
                block = torch.cat([part, part.new_zeros(BLOCK - len(part), x.shape[1])])
                found.append(score.elements(block)[: len(part)])
        return torch.cat(found).double()

    def raw(self, rows: npt.NDArray[np.float32]) -> Floats:
        """The logarithm of the score at each level, [N, L]; higher is more unusual."""
        return np.log(self._elements(rows).mean(2).clamp(min=1e-12).numpy())

    def shares(self, rows: npt.NDArray[np.float32]) -> Floats:
        """What part of each score each dimension has, [N, L, D]."""
        parts = self._elements(rows).numpy()
        return even(parts.reshape(-1, rows.shape[1])).reshape(parts.shape)
