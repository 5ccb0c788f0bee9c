r"""Diffusion of angles: the wrapped normal distribution.

An angle that walks on the real line for the time σ² and is taken modulo 2π has the density

    p_σ(θ) = Σ_k N(θ + 2πk; 0, σ²) = (1 / 2π) [1 + 2 Σ_{l ≥ 1} e^{−l² σ² / 2} cos lθ].

The first sum converges fast for small σ, the second for large; σ² times the score of the first is
minus the mean of the lifts θ + 2πk that the angle may have come by, which is Tweedie's formula.

Source: Jing, Corso, Chang, Barzilay, Jaakkola, "Torsional diffusion for molecular conformer
generation" (2022), arXiv 2206.01729, section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from suffuse.diffusion import Noise
from suffuse.diffusion.noise import Stream
from suffuse.diffusion.schedules import Schedule

from .manifold import Manifold

__all__ = ["Torus", "torus", "wrap", "wrapped_normal_density", "wrapped_normal_score"]

_LARGE = math.pi / 2
"""From this σ on the Fourier series is summed; 12 terms are then exact to double precision."""
_TERMS = 12


def wrap(theta: Tensor) -> Tensor:
    """The same angle in [−π, π)."""
    return torch.remainder(theta + math.pi, 2 * math.pi) - math.pi


def wrapped_normal_density(theta: Tensor, sigma: Tensor) -> Tensor:
    """p_σ(θ), with respect to dθ; θ and σ broadcast.

    >>> theta = torch.linspace(-math.pi, math.pi, 101, dtype=torch.float64)[:-1]
    >>> density = wrapped_normal_density(theta, torch.tensor(0.7, dtype=torch.float64))
    >>> round(float(density.sum() * 2 * math.pi / 100), 12)
    1.0
    """
    theta, sigma = torch.broadcast_tensors(theta, sigma)
    _, weights = _lifts(theta, sigma)
    small = weights.sum(-1) / (sigma * math.sqrt(2 * math.pi))
    waves, decay = _waves(theta, sigma)
    large = (1 + 2 * (decay * torch.cos(waves)).sum(-1)) / (2 * math.pi)
    return torch.where(sigma < _LARGE, small, large)


def wrapped_normal_score(theta: Tensor, sigma: Tensor) -> Tensor:
    """d log p_σ(θ) / dθ; θ and σ > 0 broadcast."""
    theta, sigma = torch.broadcast_tensors(theta, sigma)
    lifts, _ = _lifts(theta, sigma)
    weights = torch.softmax(-(lifts**2) / (2 * sigma[..., None] ** 2), dim=-1)
    small = -(weights * lifts).sum(-1) / sigma**2
    waves, decay = _waves(theta, sigma)
    order = torch.arange(1, _TERMS + 1, device=theta.device, dtype=theta.dtype)
    density = 1 + 2 * (decay * torch.cos(waves)).sum(-1)
    large = -2 * (order * decay * torch.sin(waves)).sum(-1) / density.clamp(min=1e-12)
    return torch.where(sigma < _LARGE, small, large)


def _lifts(theta: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """θ + 2πk for |k| ≤ 3, which is all that counts below `_LARGE`, and their Gaussian weights."""
    turns = torch.arange(-3, 4, device=theta.device, dtype=theta.dtype) * (2 * math.pi)
    lifts = wrap(theta)[..., None] + turns
    return lifts, torch.exp(-(lifts**2) / (2 * sigma[..., None] ** 2))


def _waves(theta: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    order = torch.arange(1, _TERMS + 1, device=theta.device, dtype=theta.dtype)
    return order * theta[..., None], torch.exp(-((order * sigma[..., None]) ** 2) / 2)


@dataclass(frozen=True)
class Torus(Manifold):
    """Angles in [−π, π), [B, *shape], each walking by itself; tangent vectors have their shape."""

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """x + v, wrapped."""
        return wrap(x + v).to(x.dtype)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """y − x, wrapped."""
        return wrap(y - x)

    def score(self, x_t: Tensor, x_0: Tensor, sigma: Tensor) -> Tensor:
        """The score of the wrapped normal distribution about x_0."""
        return wrapped_normal_score(x_t - x_0, sigma.to(x_t.dtype))

    def spread(self, sigma: Tensor) -> Tensor:
        """sqrt(E s²), by the trapezoidal rule in the lifted angle, exact but for rounding."""
        wide = sigma.double()
        # the kernel is smooth and periodic; for small σ its mass lies within a few σ
        half = torch.minimum(torch.full_like(wide, math.pi), 9 * wide)
        u = torch.linspace(-1, 1, 257, dtype=torch.float64, device=sigma.device)
        theta = u * half[..., None]
        density = wrapped_normal_density(theta, wide[..., None])
        square = wrapped_normal_score(theta, wide[..., None]) ** 2 * density
        mean = torch.trapezoid(square, u, dim=-1) / torch.trapezoid(density, u, dim=-1)
        return mean.clamp(min=1e-12).sqrt().to(sigma.dtype)

    def walk(self, x_0: Tensor, sigma: Tensor, z: Tensor) -> Tensor:
        """x_0 + σ z, wrapped."""
        return wrap(x_0 + sigma * z)

    def tangent(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """That of the state."""
        return shape

    def prior(self, noise: Noise, shape: Sequence[int], t: Tensor | float = 1.0) -> Tensor:
        """Uniform angles [B, *shape]: the limit of large σ."""
        u = noise.uniform(shape, step=0, stream=Stream.PRIOR)
        return ((2 * u - 1) * math.pi).to(torch.float32)


def torus(schedule: Schedule) -> Torus:
    """The process of angles, for recipes."""
    return Torus(schedule)
