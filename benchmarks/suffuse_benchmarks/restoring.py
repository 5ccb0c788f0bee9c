"""Posterior sampling where the posterior is known: normal data, linear observations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from suffuse.bench import Context, Result
from suffuse.diffusion import Noise, oracle, schedules, solvers
from suffuse.diffusion.operators import subset
from suffuse.diffusion.posterior import Observation, restore
from suffuse.plugins.contracts import Metric
from suffuse.stats import frechet_gaussians

__all__ = ["METHODS", "NOISES", "Restored", "cases"]

NOISES = (0.0, 0.05, 0.2, 1.0)
METHODS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "mmps": ("mmps", "", {}),
    "pigdm": ("pigdm", "", {}),
    "diffpir": ("diffpir", "", {}),
    "dps": ("dps", "", {}),
    "replacement": ("replacement", "", {}),
    "repaint": ("repaint", "ddpm", {"jump": 5, "repeats": 5}),
    "ddrm": ("ddrm", "ddim", {}),
    "sdedit": ("sdedit", "", {}),
}
"""Its name for `restore`, the solver, empty for the default, and options."""

BEGIN = 0.6
"""The time that the data are noised to for "sdedit"; the others begin in pure noise."""

REPEATS = 5


@dataclass(frozen=True)
class Restored:
    """Wasserstein-2 distance between the samples, as a normal distribution, and the posterior.

    The data are normal in eight dimensions with deviations from 0.2 to 2 along random axes, and
    every other component is observed. The floor is the same figure for samples of the posterior
    itself. Intervals are over repeats with fresh noise.
    """

    task: str
    model: str
    seed: int
    method: str
    noise: float
    solver: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    calls: int = 50
    samples: int = 1000

    @property
    def measures(self) -> tuple[str, ...]:
        """Whose code decides the figures."""
        return ("suffuse.diffusion",)

    def run(self, context: Context) -> Result:
        """The distance, the floor, and calls of the denoiser, each with whether it goes back."""
        dimensions = 8
        random = torch.Generator().manual_seed(self.seed)
        axes, _ = torch.linalg.qr(
            torch.randn(dimensions, dimensions, generator=random, dtype=torch.float64)
        )
        spread = torch.linspace(math.log(0.2), math.log(2.0), dimensions).double().exp()
        covariance = axes @ torch.diag(spread**2) @ axes.T
        exact = oracle.Gaussian(torch.zeros(dimensions, dtype=torch.float64), covariance)
        seen = list(range(0, dimensions, 2))
        truth = torch.randn(1, dimensions, generator=random, dtype=torch.float64) @ _root(
            covariance
        )
        noise = torch.randn(1, len(seen), generator=random, dtype=torch.float64)
        y = truth[:, seen] + self.noise * noise
        mean, rest = _posterior(covariance, seen, y[0], self.noise)

        schedule = schedules.cosine()
        counted = _Counted(exact.denoiser(schedule))
        words = {"solver": self.solver} if self.solver else {}
        begin = BEGIN if self.method == "sdedit" else 1.0
        plan = solvers.plan(schedule=schedule, steps=self.calls, begin=begin, **words)
        observation = Observation(subset(seen, dimensions), y, self.noise)
        found, floors = [], []
        for repeat in range(REPEATS):
            source = Noise(1000 * self.seed + repeat, self.samples)
            start = source.normal((dimensions,), step=0, stream=99, dtype=torch.float64)
            made = restore(
                counted,
                plan,
                observation,
                method=self.method,
                options=self.options,
                noise=source,
                x=start if begin == 1.0 else None,
            )
            found.append(_distance(made.detach().double(), mean, rest))
            drawn = torch.randn(self.samples, dimensions, generator=random, dtype=torch.float64)
            floors.append(_distance(mean + drawn @ _root(rest), mean, rest))
        calls = counted.calls / REPEATS
        floor = sum(floors) / REPEATS
        value = sum(found) / REPEATS
        half = 2.776 * math.sqrt(sum((w - value) ** 2 for w in found) / (REPEATS - 1) / REPEATS)
        metric = Metric("W2", value, value - half, value + half, "lower", self.samples, floor)
        return Result(
            [metric, Metric("calls", calls, calls, calls, "lower", n=1)], {"floor": floor}
        )


class _Counted:
    """A denoiser that counts how often it is asked."""

    def __init__(self, denoiser: Any) -> None:
        self.denoiser, self.calls = denoiser, 0

    def __call__(self, x_t: Tensor, t: Tensor, **conditions: Any) -> Tensor:
        self.calls += 1
        return self.denoiser(x_t, t, **conditions)


def _posterior(
    covariance: Tensor, seen: list[int], y: Tensor, noise: float
) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x_0 given the observed components."""
    A = torch.eye(len(covariance), dtype=torch.float64)[seen]
    gain = (
        covariance
        @ A.T
        @ torch.linalg.inv(
            A @ covariance @ A.T + noise**2 * torch.eye(len(seen), dtype=torch.float64)
        )
    )
    rest = covariance - gain @ A @ covariance
    return gain @ y, (rest + rest.T) / 2


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T


def _distance(samples: Tensor, mean: Tensor, covariance: Tensor) -> float:
    """Wasserstein-2 between the normal distributions of these moments."""
    centred = samples - samples.mean(0)
    own = centred.T @ centred / (len(samples) - 1)
    squared = frechet_gaussians(samples.mean(0), own, mean, covariance)
    return math.sqrt(max(float(squared), 0.0))


def cases(seeds: int) -> Iterator[Restored]:
    """Every method at every level of noise that it is for."""
    for level in NOISES:
        for name, (method, solver, options) in METHODS.items():
            if method == "repaint" and level > 0:
                continue
            for seed in range(seeds):
                task = f"posterior/noise {level:g}"
                yield Restored(task, name, seed, method, level, solver, options)
