"""Gaussian noise with a level for each frame.

    x_t[f] = α(t_f) x_0[f] + σ(t_f) ε[f]

A network that has seen frames at levels of their own makes a whole clip at once, goes on from known
frames, fills gaps or walks through time, by the matrix of levels that the sampler visits alone (see
`levels`).

Training draws, for each clip, one of four patterns: one level for all frames; known frames at level
0 and one level for the others; levels that rise along the clip; independent levels. Known are the
first frames, all but a gap, some at random, or every second, third and so on: what is asked of a
model later is to go on, to fill, and to make more frames between. Known frames do not count in the
loss.

Sources: independent levels: Chen et al., "Diffusion forcing: next-token prediction meets
full-sequence diffusion" (2024), arXiv 2407.01392; levels that do not fall: Sun et al.,
"AR-Diffusion: asynchronous video generation with auto-regressive diffusion" (2025),
arXiv 2503.07418; known frames: Voleti et al., "MCVD: masked conditional video diffusion" (2022),
arXiv 2205.09853.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from suffuse.diffusion.process import Gaussian, Network, State, masked, mean_over
from suffuse.diffusion.schedules import Schedule
from suffuse.errors import SuffuseError

__all__ = ["Forcing", "forcing"]


MOST = 10.0
"""So many times more a frame's error counts at most, by `Forcing.details`."""


@dataclass(frozen=True)
class Forcing(Gaussian):
    """The Gaussian process on states [F, ...], with training times for each frame.

    Attributes:
        together, known, rising: the shares of clips with these patterns; the rest has independent
            levels.
        details: a frame's error counts 1 + min(details · SNR, 10) times, so that what is still
            unsure where there is little noise is learned as well. SNR is the frame's own, or the
            lesser one of its two neighbours where that is more.
    """

    together: float = 0.4
    known: float = 0.3
    rising: float = 0.15
    details: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.details < 0:
            raise SuffuseError(f"details is 0 or more, and {self.details} is not")
        shares = (self.together, self.known, self.rising)
        if min(shares) < 0 or sum(shares) > 1:
            raise SuffuseError(
                "together, known and rising are shares of 0 or more with a sum of at most 1; given "
                f"{', '.join(map(str, shares))}"
            )

    def extra(self, x_0: State) -> int:
        """One for the pattern, two for each frame."""
        return 1 + 2 * int(x_0.shape[1])

    def levels(self, u: Tensor) -> Tensor:
        """Times [B, F] from uniform numbers [B, 2 + 2F]; [B] from [B], one for all frames."""
        if u.ndim == 1:
            return super().levels(u)
        shared, pattern = u[:, :1], u[:, 1:2]
        own, chance = u[:, 2:].chunk(2, dim=1)
        frames = own.shape[1]
        t = super().levels(shared).expand(-1, frames)
        t_known = torch.where(_seen(own, chance), 0.0, t)
        independent = super().levels(own)
        rising = independent.sort(1).values
        edges = (self.together, self.together + self.known)
        found = torch.where(pattern < edges[0] + self.known + self.rising, rising, independent)
        found = torch.where(pattern < edges[1], t_known, found)
        return torch.where(pattern < edges[0], t, found)

    def loss(
        self,
        network: Network,
        x_0: State,
        t: Tensor,
        noise: State,
        *,
        mask: State | None = None,
        **conditions: Any,
    ) -> Tensor:
        """As of the Gaussian process. Where all frames that a shorter clip has were to be known,
        and its padding alone was not, none is: they share the level of the padding."""
        if isinstance(mask, Tensor) and t.ndim > 1:
            asked = ((t > 0) & mask).any(1, keepdim=True)
            t = torch.where(asked, t, t.amax(1, keepdim=True))
        return super().loss(network, x_0, t, noise, mask=mask, **conditions)

    def error(
        self, raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor, mask: Tensor | None
    ) -> Tensor:
        """As of the Gaussian process, over the frames that are not known; [B]."""
        there = mask
        if t.ndim > 1:
            noisy = t > 0
            mask = noisy if there is None else there & noisy
        b, frames = x_0.shape[:2]
        rows = (b * frames, *x_0.shape[2:])
        each = t[:, None].expand(b, frames) if t.ndim == 1 else t
        parts = [x.reshape(rows) for x in (raw, x_0, x_t)]
        flat = super().error(*parts, each.reshape(-1), noise.reshape(rows), None)
        found = flat.reshape(b, frames)
        if self.details:
            c = self.schedule.at(each)
            ratio = self.details * (c.alpha / c.sigma.clamp(min=1e-6)).square()
            ratio = masked(ratio.clamp(max=MOST), there)
            between = torch.minimum(ratio[:, :-2], ratio[:, 2:])
            ratio = torch.maximum(ratio, pad(between, (1, 1)))
            found = found * (1 + ratio.to(found))
        return mean_over(found, mask)


def _seen(own: Tensor, chance: Tensor) -> Tensor:
    """Which frames are known, [B, F], by uniform numbers [B, F] each; never all of a clip."""
    frames = own.shape[1]
    i = torch.arange(frames, device=own.device)
    how, size, place = own[:, -1:], own[:, :1], chance[:, :1]
    first = i < frames * size**3
    gap = 1 + torch.floor(size * (frames - 1))
    begin = torch.floor(place * (frames - gap + 1))
    around = (i < begin) | (i >= begin + gap)
    some = chance < size
    apart = 2 + torch.floor(6 * size**2)
    every = (i + torch.floor(place * apart)) % apart == 0
    seen = torch.where(how < 0.75, some, every)
    seen = torch.where(how < 0.55, around, seen)
    seen = torch.where(how < 0.35, first, seen)
    return seen & ~seen.all(1, keepdim=True)


def forcing(
    schedule: Schedule,
    prediction: str = "x0",
    weighting: Literal["unit", "min-snr", "edm", "sigmoid"] = "unit",
    together: float = 0.4,
    known: float = 0.3,
    rising: float = 0.15,
    details: float = 0.0,
) -> Forcing:
    """The process, for recipes.

    By default the network answers the clean clip: its plain squared error gives the noisiest
    levels, which decide what happens where, as much weight as the details.
    """
    return Forcing(
        schedule,
        prediction,
        weighting=weighting,
        together=together,
        known=known,
        rising=rising,
        details=details,
    )
