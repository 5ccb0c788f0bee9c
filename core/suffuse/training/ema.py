r"""Averaged weights, by a power function of the training time.

The average after t steps weighs the weights of step τ by τ^γ,

    θ̂(t) = ∫_0^t τ^γ θ(τ) dτ / ∫_0^t τ^γ dτ,

so that its width grows with t and the random start is forgotten. Told in steps,

    θ̂(t) = β(t) θ̂(t − 1) + (1 − β(t)) θ(t),      β(t) = (1 − 1/t)^{γ+1}.

The width is given by σ_rel, the deviation of the profile as a fraction of t:

    σ_rel² = (γ + 1) / ((γ + 2)² (γ + 3)).

Averages of any width can be made afterwards from snapshots of two widths, kept at several times:
the profile that is asked for is met, in the sense of least squares, by a sum of those of the
snapshots, and the weights are summed alike. Profiles are compared exactly,

    ∫ p_i p_j dτ  with  p_i(τ) = (γ_i + 1) τ^{γ_i} / t_i^{γ_i + 1} on [0, t_i].

Source: Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (2024),
arXiv 2312.02696, equations 121, 123, 126 and 127; the reconstruction: section 3.2 and algorithm 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from suffuse import storage
from suffuse.errors import SuffuseError
from suffuse.training.sharding import local, split_like

__all__ = ["EMA", "SNAPSHOTS", "SNAPSHOT_STDS", "decay", "exponent", "mixture", "rebuilt"]

SNAPSHOT_STDS = (0.05, 0.1)
"""The widths of the snapshots that other widths are made of."""

SNAPSHOTS = "ema"
"""The folder of a run that holds them, a safetensors file for each step."""


def exponent(std: float) -> float:
    """γ of the profile whose relative deviation is `std`, in (0, 12^{-1/2}).

    The largest root of a cubic, by equation 126. Raises SuffuseError for other widths.

    >>> round(exponent(0.1), 2)
    6.94
    """
    if not 0 < std < 12**-0.5:
        raise SuffuseError(
            f"the width of averaged weights (ema_std) is between 0 and 0.288 of the training time; "
            f"given {std:g}"
        )
    s = std**-2
    return float(np.roots([1, 7, 16 - s, 12 - s]).real.max())


def decay(gamma: float, t: int) -> float:
    """β(t) of equation 127: what is kept of the average at step t, counted from 1."""
    return float((1 - 1 / t) ** (gamma + 1))


class EMA:
    """Keeps a network's weights averaged over the training of another.

    Args:
        averaged: the network that holds the average, in float32.
        learning: the one that is trained, of the same layout. Its weights may be split among
            processes: the average is then too, and `averaged` has it after `collect` alone.
        std: σ_rel, the relative width.
    """

    def __init__(self, averaged: nn.Module, learning: nn.Module, std: float) -> None:
        self.gamma = exponent(std)
        self._learning = learning
        self._whole = dict(averaged.named_parameters())
        self._buffers = list(zip(averaged.buffers(), learning.buffers(), strict=True))
        self._split = {
            name: split_like(k.detach(), like)
            for name, k in self._whole.items()
            if hasattr(like := self._learned(name), "full_tensor")
        }
        self._averages = [local(k) for k in (self._split or self._whole).values()]

    def _learned(self, name: str) -> Tensor:
        """The weight as the network uses it, also where it is the sum of several."""
        place, _, last = name.rpartition(".")
        weight: Tensor = getattr(self._learning.get_submodule(place), last)
        return weight

    @torch.no_grad()
    def update(self, t: int) -> None:
        """Take in the weights after step t, counted from 1. Buffers are copied."""
        # 1 − β(t) without cancellation at large t; 1 at t = 1.
        new = -math.expm1((self.gamma + 1) * math.log1p(-1 / t)) if t > 1 else 1.0
        torch._foreach_lerp_(self._averages, [local(self._learned(n)) for n in self._whole], new)
        for mine, theirs in self._buffers:
            mine.copy_(theirs)

    @torch.no_grad()
    def collect(self) -> None:
        """Bring a split average together in the network that holds it; all processes call this."""
        for name, part in self._split.items():
            self._whole[name].copy_(part.full_tensor())  # type: ignore[attr-defined]

    @torch.no_grad()
    def distribute(self) -> None:
        """The other way round, after the network was given other weights."""
        for name, part in self._split.items():
            local(part).copy_(local(split_like(self._whole[name].detach(), part)))


def rebuilt(run: Path, std: float) -> dict[str, Tensor]:
    """The average of another width, at the last step, from a run's snapshots.

    Raises:
        SuffuseError: where there are none.
    """
    files = sorted((run / SNAPSHOTS).glob("*.safetensors"))
    if not files:
        raise SuffuseError(
            f"{str(run)!r} has no snapshots of averaged weights; train with "
            "--set training.ema_snapshots=16"
        )
    times = [int(file.stem) for file in files for _ in SNAPSHOT_STDS]
    stds = [s for _ in files for s in SNAPSHOT_STDS]
    weights = mixture(stds, times, std, times[-1])
    out: dict[str, Tensor] = {}
    for i, file in enumerate(files):
        tensors = storage.load_tensors(file)
        for j, width in enumerate(SNAPSHOT_STDS):
            for name, tensor in tensors.items():
                if not name.startswith(f"{width:g}/"):
                    continue
                own = name.removeprefix(f"{width:g}/")
                if not tensor.is_floating_point():
                    out[own] = tensor
                    continue
                share = tensor.double() * weights[2 * i + j]
                out[own] = out[own] + share if own in out else share
    return {name: t.float() if t.is_floating_point() else t for name, t in out.items()}


def mixture(stds: Sequence[float], times: Sequence[float], std: float, time: float) -> list[float]:
    """How much of each snapshot goes into the average of another width.

    Args:
        stds, times: the relative width, and the step, of each snapshot.
        std, time: those of the average that is asked for.

    Returns:
        Weights of the snapshots; they sum to about 1.

    >>> [abs(round(w, 6)) for w in mixture([0.05, 0.1], [100, 100], 0.1, 100)]
    [0.0, 1.0]
    """
    gamma = np.array([exponent(s) for s in [*stds, std]])
    last = np.array([*times, time], dtype=np.float64)
    earlier = np.minimum(last[:, None], last)
    # exponents are large: the powers are taken of ratios
    inner = (gamma[:, None] + 1) * (gamma + 1) / (gamma[:, None] + gamma + 1) / earlier
    inner *= (earlier / last[:, None]) ** (gamma[:, None] + 1) * (earlier / last) ** (gamma + 1)
    found, *_ = np.linalg.lstsq(inner[:-1, :-1], inner[:-1, -1], rcond=None)
    return [float(weight) for weight in found]
