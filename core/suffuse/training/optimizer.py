"""The optimiser of a run."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from suffuse.recipe import Training

__all__ = ["BETAS", "adamw"]

BETAS = (0.9, 0.99)
"""AdamW's, as EDM2 trains (arXiv 2312.02696)."""


def adamw(
    parameters: Iterable[nn.Parameter], training: Training, apart: Iterable[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """AdamW; weight decay is on matrices and kernels, not on biases and scales.

    Args:
        parameters: of the network.
        training: the recipe's settings.
        apart: further ones, without decay, in a group of their own (a fused step takes no group of
            which only some are split among processes).
    """
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        {"params": list(apart), "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    try:
        return torch.optim.AdamW(groups, lr=training.learning_rate, betas=BETAS, fused=True)
    except RuntimeError:  # no fused kernel for this device
        return torch.optim.AdamW(groups, lr=training.learning_rate, betas=BETAS)
