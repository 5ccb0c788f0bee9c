"""What learning rate and batch suit a recipe, found by short trainings that are thrown away.

**The rate.** Over `STEPS` steps it rises in equal ratios from 1e-6 to 1. The loss, smoothed, falls
and then explodes; a tenth of the rate where it was least is advised (Smith, "Cyclical learning
rates for training neural networks" (2015), arXiv 1506.01186, section 3.3).

**The batch.** With the gradient's mean G and the covariance Σ of one example's, a batch of
B = tr Σ / |G|² has as much noise as signal: much smaller ones waste steps, much larger ones
examples. Both are estimated from the norms of the gradients of a batch and of its parts,

    |G|² = (B |G_B|² − b |G_b|²) / (B − b),      tr Σ = (|G_b|² − |G_B|²) / (1/b − 1/B),

after `STEPS` steps at the advised rate, over `BATCHES` batches (McCandlish, Kaplan, Amodei, "An
empirical model of large-batch training" (2018), arXiv 1812.06162, appendix A.1). It grows as
training goes on, so that this is about the least.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from suffuse.errors import SuffuseError
from suffuse.recipe import Recipe
from suffuse.training import precision
from suffuse.training.engine import preparing
from suffuse.training.optimizer import adamw
from suffuse.training.session import Session

__all__ = ["Advice", "advise", "noise_scale", "rate_of"]

STEPS = 100
BATCHES = 8
PARTS = 4
LOWEST, HIGHEST = 1e-6, 1.0
SMOOTHING = 0.85


@dataclass(frozen=True)
class Advice:
    """What was found.

    Attributes:
        learning_rate: a tenth of that where the loss was least.
        batch: tr Σ / |G|² in examples; None where the gradient drowns in its noise.
        rates, losses: of the search, the losses smoothed.
    """

    learning_rate: float
    batch: float | None
    rates: list[float]
    losses: list[float]


def advise(recipe: Recipe) -> Advice:
    """Try a recipe on one process, on its own data; nothing is left behind.

    Raises:
        SuffuseError: as `train` does; and for a batch of less than two examples.
    """
    if recipe.training.batch < 2:
        raise SuffuseError("advice on the batch needs training.batch of 2 or more")
    with tempfile.TemporaryDirectory() as folder, preparing(recipe, Path(folder, "run")) as run:
        first = copy.deepcopy(run.model.network).train()
        rates = [LOWEST * (HIGHEST / LOWEST) ** (i / (STEPS - 1)) for i in range(STEPS)]
        found: list[float] = []
        for loss in _trained(run, copy.deepcopy(first), rates):
            found.append(loss)
            if not loss < 4 * min(found) or loss != loss:
                break
        smooth = _smoothed(found)
        if not smooth:
            raise SuffuseError(
                "there is no advice: the loss of the first batch is not finite at the lowest rate"
            )
        rate = rate_of(rates[: len(smooth)], smooth)
        network = copy.deepcopy(first)
        for _ in _trained(run, network, [rate] * STEPS):
            pass
        return Advice(rate, _batch(run, network), rates[: len(smooth)], smooth)


def rate_of(rates: Sequence[float], losses: Sequence[float]) -> float:
    """A tenth of the rate at the least smoothed loss, to two digits."""
    return float(f"{rates[losses.index(min(losses))] / 10:.1e}")


def noise_scale(small: float, large: float, b: float, n: float) -> float | None:
    """tr Σ / |G|² of the mean square norms of gradients over b and over n > b examples.

    None where |G|² comes out at 0 or less: it drowns in the noise.

    >>> noise_scale(1.0 + 8.0 / 2, 1.0 + 8.0 / 16, 2, 16)  # |G|² = 1 and tr Σ = 8
    8.0
    """
    signal = (n * large - b * small) / (n - b)
    noise = (small - large) / (1 / b - 1 / n)
    return noise / signal if signal > 0 else None


def _smoothed(losses: Sequence[float]) -> list[float]:
    """Exponential means without the bias towards 0; not of numbers that are not finite."""
    out, mean = [], 0.0
    for i, loss in enumerate(losses, start=1):
        if loss != loss or loss == float("inf"):
            break
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        out.append(mean / (1 - SMOOTHING**i))
    return out


def _trained(run: Session, network: nn.Module, rates: Sequence[float]) -> Iterator[float]:
    """Train a network over these rates; the loss of each step."""
    optimizer = adamw(network.parameters(), run.training)
    forward = precision.autocast(network, run.device, run.precision)
    for step, rate in enumerate(rates):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        losses = run.losses(forward, run.batches(step))[0]
        loss = losses.mean()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), run.training.clip or float("inf"))
        optimizer.step()
        yield float(loss.detach())


def _batch(run: Session, network: nn.Module) -> float | None:
    forward = precision.autocast(network, run.device, run.precision)
    small, large, n = 0.0, 0.0, run.training.batch
    parts = min(PARTS, n)
    for step in range(STEPS, STEPS + BATCHES):
        batch = run.batches(step)
        # One example's place is one level: every PARTS-th, so that each part has all levels.
        grads = []
        for part in range(parts):
            network.zero_grad()
            mean = run.losses(forward, batch.rows(slice(part, None, parts)))[0].mean()
            mean.backward()  # type: ignore[no-untyped-call]
            grads.append(torch.cat([p.grad.flatten() for p in network.parameters()
                                    if p.grad is not None]))  # fmt: skip
        sizes = [len(range(part, n, parts)) / n for part in range(parts)]
        whole = sum((g * w for g, w in zip(grads, sizes, strict=True)), torch.zeros(()))
        assert isinstance(whole, Tensor)
        small += sum(float(g.square().sum()) for g in grads) / parts / BATCHES
        large += float(whole.square().sum()) / BATCHES
    return noise_scale(small, large, n / parts, n)
