"""Samplers of azula. Its steps are equal in its schedule's clock, of which three are tried.

It ends at the lowest level of the schedule, so the last call goes into the clean estimate there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from suffuse_benchmarks.peers import RATIOS, Estimate, in_double

__all__ = ["CONFIGURATIONS", "DISTRIBUTION", "sample"]

DISTRIBUTION = "azula"

CLOCKS = ("model", "exponential", "karras")
SAMPLERS = ("zAB", "vAB", "zEAB", "xEAB", "REAB")
CONFIGURATIONS: dict[str, tuple[str, int, str]] = {
    **{
        f"{name.lower()}-{order} {clock}": (name, order, clock)
        for name in SAMPLERS
        for order in (2, 3)
        for clock in CLOCKS
    },
    **{f"heun {clock}": ("Heun", 0, clock) for clock in CLOCKS},
}


def _ratio(clock: str, t: Tensor) -> Tensor:
    """σ/α at t in [0, 1] by a clock, between the ends of the model's table."""
    low, high = float(RATIOS[0]), float(RATIOS[-1])
    t = t.double()
    if clock == "karras":
        return (low ** (1 / 7) + (high ** (1 / 7) - low ** (1 / 7)) * t) ** 7
    if clock == "exponential":
        return low * (high / low) ** t
    last = len(RATIOS) - 1
    logs = np.interp(t.clamp(0, 1).numpy() * last, np.arange(last + 1), np.log(RATIOS))
    return in_double(logs).exp()


def sample(name: str, calls: int, estimate: Estimate, x_T: Tensor) -> Tensor:
    """x_0 by a configuration."""
    import azula.denoise
    import azula.noise
    import azula.sample

    sampler, order, clock = CONFIGURATIONS[name]

    class Schedule(azula.noise.Schedule):  # type: ignore[misc]
        def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
            ratio = _ratio(clock, t)
            alpha = 1 / (1 + ratio**2).sqrt()
            return alpha, alpha * ratio

        __call__ = forward

    class Denoiser(azula.denoise.Denoiser):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.schedule = Schedule()

        def forward(self, x_t: Tensor, t: Tensor, **_: Any) -> Any:
            alpha, sigma = self.schedule(t)
            clean = estimate(x_t / alpha, float(sigma / alpha))
            return azula.denoise.DiracPosterior(mean=clean)

    denoiser = Denoiser()
    steps = calls - 1 if order else (calls - 1) // 2
    options: dict[str, Any] = {"order": order} if order else {}
    made = getattr(azula.sample, sampler + "Sampler")(
        denoiser, steps=steps, silent=True, dtype=torch.float64, **options
    )
    end: Tensor = denoiser(made(x_T.double()), torch.zeros((), dtype=torch.float64)).mean
    return end
