"""Other libraries' samplers, each brought to one form at the edge.

A peer is a module with

    DISTRIBUTION      its name on the package index
    CONFIGURATIONS    names of its deterministic samplers with their settings, listed without
                      importing the library
    sample(name, calls, estimate, x_T) -> x_0

where `calls` is the most network calls that it may make, and `estimate(y, ratio)` the exact clean
estimate of y = x/α at the level ratio = σ/α. All start from the same x_T in the variance preserving
gauge, and are asked at the very level that their own tables hold: rounding of times to the indices
of a discrete model is not counted against them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

__all__ = ["RATIOS", "Estimate", "installed"]

Estimate = Callable[[Tensor, float], Tensor]

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "steps": 1000}
"""The schedule of Stable Diffusion, scaled-linear."""


def _ratios() -> np.ndarray:
    roots = np.linspace(BETAS["beta_start"] ** 0.5, BETAS["beta_end"] ** 0.5, int(BETAS["steps"]))
    squares = np.cumprod(1 - roots**2)
    return np.sqrt((1 - squares) / squares)


RATIOS = _ratios()
"""σ/α at the 1,000 indices, rising."""


def to_ve(x: Tensor, ratio: float) -> Tensor:
    """y = x/α of a variance preserving state."""
    return x * (1 + ratio**2) ** 0.5


def installed() -> list[ModuleType]:
    """The peers whose libraries are there, by module."""
    from suffuse_benchmarks.peers import azula_samplers, diffusers_schedulers, k_diffusion_samplers

    modules = {
        "azula": azula_samplers,
        "diffusers": diffusers_schedulers,
        "k_diffusion": k_diffusion_samplers,
    }
    return [peer for library, peer in modules.items() if importlib.util.find_spec(library)]


def in_double(values: object) -> Tensor:
    """Values as a float64 tensor."""
    return torch.as_tensor(np.asarray(values, dtype=np.float64))
