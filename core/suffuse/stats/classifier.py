"""Classifiers for evaluators: trained in the project, on real data, when first wanted.

What a domain brings is the network and how an example may be changed without changing its class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["trained_classifier"]

N = TypeVar("N", bound=nn.Module)


def trained_classifier(
    network: Callable[[], N],
    x: Tensor,
    y: Tensor,
    jittered: Callable[[Tensor, torch.Generator], Tensor],
    *,
    steps: int,
    batch: int,
    rate: float = 3e-3,
) -> N:
    """A network that tells classes apart, by cross-entropy with label smoothing.

    The same arguments give the same network: it draws from generators of its own, and leaves the
    global one as it was.

    Args:
        network: makes a fresh one, [B, ...] to logits [B, classes].
        x: examples [N, ...], on the CPU.
        y: their classes, int64 [N].
        jittered: (examples [B, ...], generator) -> the same, each changed a little.
        steps, batch: of training.
        rate: the highest learning rate, of one cycle.

    Returns:
        The network, in evaluation mode.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        # For the initial weights and dropout. (torch.manual_seed would seed the GPUs too.)
        torch.default_generator.manual_seed(0)
        made = network().train()
        optimiser = torch.optim.AdamW(made.parameters(), lr=rate, weight_decay=0.05)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.2)
        for _ in range(steps):
            rows = torch.randint(len(x), (batch,), generator=generator)
            logits = made(jittered(x[rows], generator))
            loss = functional.cross_entropy(logits, y[rows], label_smoothing=0.05)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            cycle.step()
    return made.eval()
