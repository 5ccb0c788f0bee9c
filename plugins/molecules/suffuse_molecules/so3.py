r"""Diffusion of rotations: the isotropic Gaussian on SO(3), IGSO3.

Brownian motion on the rotations, with the angle of a rotation as its distance from the identity,
reaches in the time σ² a rotation of angle ω about a uniform axis. Its density with respect to the
uniform distribution is

    f_σ(ω) = Σ_{l ≥ 0} (2l + 1) e^{−l(l + 1) σ² / 2} sin((l + ½) ω) / sin(ω / 2),

and ω itself has the density f_σ(ω) (1 − cos ω) / π on [0, π]. By Poisson's summation this is also

    f_σ(ω) = e^{σ² / 8} sqrt(2π) / σ³ · Σ_k (−1)^k (ω − 2πk) e^{−(ω − 2πk)² / 2σ²} / sin(ω / 2),

of which a few terms do for small σ, where the series needs many.

Sources: Nikolayev, Savyolov, "Normal distribution on the rotation group SO(3)" (1997), doi
10.1155/TSM.29.201; Leach et al., "Denoising diffusion probabilistic models on SO(3)" (2022); Yim et
al. (2023), arXiv 2302.02277, proposition 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from suffuse.diffusion import Noise
from suffuse.diffusion.noise import Stream
from suffuse.diffusion.schedules import Schedule

from .manifold import Manifold

__all__ = [
    "Rotations",
    "igso3_density",
    "igso3_score",
    "rotation_of",
    "so3",
    "vector_of",
]

_LARGE = 1.0
"""From this σ on the series in l is summed; 12 terms are then exact to double precision."""
_TERMS = 12
_GRID = 2048


def rotation_of(v: Tensor) -> Tensor:
    """The rotation [..., 3, 3] about v [..., 3] by its length in radians (Rodrigues)."""
    square = (v * v).sum(-1)[..., None, None]
    angle = square.clamp(min=1e-24).sqrt()
    # sin ω / ω and (1 − cos ω) / ω², without cancellation
    first = torch.sinc(angle / math.pi)
    second = 0.5 * torch.sinc(angle / (2 * math.pi)) ** 2
    k = _skew(v)
    return torch.eye(3, dtype=v.dtype, device=v.device) + first * k + second * (k @ k)


def vector_of(r: Tensor) -> Tensor:
    """The rotation vector [..., 3] of length at most π, of rotations [..., 3, 3]."""
    q = _quaternion(r)
    w, axis = q[..., :1], q[..., 1:]
    length = axis.norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(length, w)
    # angle / length tends to 2 / w
    scale = torch.where(length > 1e-12, angle / length.clamp(min=1e-12), 2.0)
    return axis * scale


def _quaternion(r: Tensor) -> Tensor:
    """Unit quaternions (w, x, y, z) with w ≥ 0, by the largest component (Shepperd)."""
    m = r.flatten(-2).unbind(-1)
    xx, yy, zz = m[0], m[4], m[8]
    squares = torch.stack(
        [1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz], -1
    )
    a, b, c = m[7] - m[5], m[2] - m[6], m[3] - m[1]
    d, e, f = m[3] + m[1], m[2] + m[6], m[7] + m[5]
    rows = torch.stack(
        [
            torch.stack([squares[..., 0], a, b, c], -1),
            torch.stack([a, squares[..., 1], d, e], -1),
            torch.stack([b, d, squares[..., 2], f], -1),
            torch.stack([c, e, f, squares[..., 3]], -1),
        ],
        -2,
    )
    best = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    q = rows.gather(-2, best)[..., 0, :]
    q = q / q.norm(dim=-1, keepdim=True)
    return torch.where(q[..., :1] < 0, -q, q)


def _skew(v: Tensor) -> Tensor:
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))


def igso3_density(omega: Tensor, sigma: Tensor) -> Tensor:
    """f_σ(ω) with respect to the uniform distribution; ω in (0, π] and σ > 0 broadcast."""
    omega, sigma = torch.broadcast_tensors(omega, sigma)
    images, _ = _images(omega, sigma)
    front = torch.exp(sigma**2 / 8) * math.sqrt(2 * math.pi) / sigma**3
    small = front * images / torch.sin(omega / 2)
    series, _ = _series(omega, sigma)
    return torch.where(sigma < _LARGE, small, series)


def igso3_score(omega: Tensor, sigma: Tensor) -> Tensor:
    """d log f_σ(ω) / dω, along the axis away from x_0; ω in (0, π] and σ > 0 broadcast."""
    omega, sigma = torch.broadcast_tensors(omega, sigma)
    total, slope = _images(omega, sigma)
    # far out both underflow for small σ, where one image alone says the score
    alone = 1 / omega - omega / sigma**2
    small = torch.where(total > 1e-30, slope / total.clamp(min=1e-30), alone)
    small = small - 0.5 / torch.tan(omega / 2)
    series, change = _series(omega, sigma)
    return torch.where(sigma < _LARGE, small, change / series.clamp(min=1e-12))


def _images(omega: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_k (−1)^k (ω − 2πk) e^{...} and its derivative in ω, over |k| ≤ 2."""
    k = torch.arange(-2, 3, device=omega.device, dtype=omega.dtype)
    sign = 1 - 2 * (k % 2)
    far = omega[..., None] - 2 * math.pi * k
    ratio = far**2 / sigma[..., None] ** 2
    weight = sign * torch.exp(-ratio / 2)
    return (weight * far).sum(-1), (weight * (1 - ratio)).sum(-1)


def _series(omega: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """The sum over l and its derivative in ω."""
    order = torch.arange(_TERMS, device=omega.device, dtype=omega.dtype)
    decay = (2 * order + 1) * torch.exp(-order * (order + 1) * sigma[..., None] ** 2 / 2)
    half = omega[..., None] / 2
    up = (2 * order + 1) * half
    below = torch.sin(half)
    value = torch.sin(up) / below
    slope = ((order + 0.5) * torch.cos(up) - 0.5 * value * torch.cos(half)) / below
    return (decay * value).sum(-1), (decay * slope).sum(-1)


@lru_cache(maxsize=256)
def _quantiles(sigma: float) -> tuple[Tensor, Tensor]:
    """Angles on a grid and the distribution function of ω there; float64."""
    most = min(math.pi, 10 * sigma)
    # kept tensors serve training too, which takes none that were made in inference mode
    with torch.inference_mode(False):
        omega = torch.linspace(0, most, _GRID + 1, dtype=torch.float64)
        rate = torch.zeros_like(omega)
        density = igso3_density(omega[1:], torch.tensor(sigma, dtype=torch.float64))
        rate[1:] = density.clamp(min=0) * (1 - torch.cos(omega[1:]))
        total = torch.zeros_like(omega)
        total[1:] = torch.cumulative_trapezoid(rate, omega)
        return omega, total / total[-1]


@dataclass(frozen=True)
class Rotations(Manifold):
    """Rotation matrices [B, ..., 3, 3]; tangent vectors [B, ..., 3] rotate in the space's frame.

    exp_x(v) is the rotation by v after x.
    """

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """R(v) x."""
        return (rotation_of(v) @ x.to(v.dtype)).to(x.dtype)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The rotation vector of y xᵀ."""
        return vector_of(y @ x.transpose(-1, -2))

    def score(self, x_t: Tensor, x_0: Tensor, sigma: Tensor) -> Tensor:
        """The score of IGSO3 about x_0."""
        v = vector_of((x_t @ x_0.transpose(-1, -2)).double())
        omega = v.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        return (v / omega * igso3_score(omega, sigma.double())).to(x_t.dtype)

    def spread(self, sigma: Tensor) -> Tensor:
        """sqrt(E |s|² / 3), by the trapezoidal rule in ω."""
        wide = sigma.double()
        half = torch.minimum(torch.full_like(wide, math.pi), 10 * wide)
        u = torch.linspace(0, 1, 513, dtype=torch.float64, device=sigma.device)[1:]
        omega = u * half[..., None]
        rate = igso3_density(omega, wide[..., None]) * (1 - torch.cos(omega))
        square = igso3_score(omega, wide[..., None]) ** 2 * rate
        mean = torch.trapezoid(square, u, dim=-1) / torch.trapezoid(rate, u, dim=-1)
        return (mean / 3).clamp(min=1e-12).sqrt().to(sigma.dtype)

    def walk(self, x_0: Tensor, sigma: Tensor, z: Tensor) -> Tensor:
        """A draw of IGSO3 about x_0: the axis of z, and the quantile of its length.

        For small σ this is the rotation by σ z.
        """
        length = z.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        wide = length.double()
        # the distribution function of the length of three normal numbers
        u = torch.erf(wide / math.sqrt(2)) - wide * torch.exp(-(wide**2) / 2) * math.sqrt(
            2 / math.pi
        )
        levels = sigma.double().expand_as(u)
        omega = torch.empty_like(u)
        for level in levels.unique().tolist():
            where = levels == level
            omega[where] = _interpolated(u[where], *_quantiles(round(level, 9))) if level else 0.0
        return self.exp(x_0, (z / length * omega.to(z.dtype)).to(z.dtype))

    def tangent(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """[..., 3]."""
        return shape[:-1]

    def prior(self, noise: Noise, shape: Sequence[int], t: Tensor | float = 1.0) -> Tensor:
        """Uniform rotations [B, *shape]: the limit of large σ."""
        q = noise.normal((*shape[:-2], 4), step=0, stream=Stream.PRIOR)
        return _matrix(q / q.norm(dim=-1, keepdim=True))


def _interpolated(u: Tensor, omega: Tensor, total: Tensor) -> Tensor:
    """The angles at which the distribution function is u, straight between the grid's points."""
    i = torch.searchsorted(total, u.clamp(0, 1)).clamp(1, len(total) - 1)
    low, high = total[i - 1], total[i]
    part = ((u - low) / (high - low).clamp(min=1e-300)).clamp(0, 1)
    return omega[i - 1] + part * (omega[i] - omega[i - 1])


def _matrix(q: Tensor) -> Tensor:
    w, x, y, z = q.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    ]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def so3(schedule: Schedule) -> Rotations:
    """The process of rotations, for recipes."""
    return Rotations(schedule)
