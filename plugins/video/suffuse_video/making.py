"""Frames that are missing, made by a model with a noise level for each frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from suffuse.diffusion import Noise
from suffuse.diffusion import sample as run_plan
from suffuse.errors import SuffuseError

from . import levels
from .forcing import Forcing
from .lengths import Lengths
from .network import Cache, SpaceTime, each_frames, spread

__all__ = ["How", "Plan", "complete", "following", "turned", "window"]

How = Literal["full", "sequential", "rolling", "cached"]
"""The unknown frames of a window at once, one after the other, or on a staircase (see `levels`); or
one after the other without windows, with what the network remembers of the frames before."""

Plan = Callable[[Sequence[bool], int], levels.Matrix]
"""A matrix of levels by which frames are known and by the network calls for a frame."""

_TURN = 1_000_003
"""Between the seeds of one window and the next."""


def complete(
    model: Any,
    states: Tensor,
    known: NDArray[np.bool_],
    *,
    how: How | Plan = "full",
    context: int = 0,
    steps: int | None = None,
    seed: int | Sequence[int] = 0,
    first: int = 0,
    counted: Callable[[int], None] | None = None,
    **settings: Any,
) -> Tensor:
    """States with their unknown frames made, window after window of the model's length.

    A window begins `context` frames before the first frame that is unknown, or fewer where only so
    the next known frame lies inside it. All that is unknown in it is made; but what is behind its
    last known frame waits for the next window, where that one can hold the next known frame too.
    Clips that are shorter than a window are made as such by models of clips of differing lengths,
    and else as the beginning of a window.

    Args:
        model: with the process video/forcing.
        states: [B, L, C, h, w]; what stands at unknown frames is not looked at.
        known: [L]; at least one frame is not.
        how: see `How` and `Plan`.
        context: the most frames that a window goes back; half of its length where 0.
        steps: network calls for a frame; the model's where None.
        seed, first: as for `Model.sample`; a window has noise of its own, which is not that of a
            clip that `Model.sample` makes by the same seed.
        counted: told the network calls of each window.
        settings: of `Model.sample`: solver, guidance, batch, conditions.

    Returns:
        [B, L, C, h, w]; known frames are those given.

    Raises:
        SuffuseError: for a model without levels for each frame, or a context that leaves nothing
            to make.
    """
    length, total = model.shape[0], states.shape[1]
    context = context or max(1, length // 2)
    if not isinstance(model.process, Forcing):
        raise SuffuseError(
            "missing frames are made by models with a noise level for each frame: train with "
            "--set process.name=video/forcing"
        )
    if not 1 <= context < length:
        raise SuffuseError(
            f"context is 1 to {length - 1} of the model's {length} frames, and {context} is not"
        )
    if isinstance(model.encoder, Lengths):
        length = min(length, total)
    if how == "cached":
        count = int(np.sum(known))
        if not known[:count].all():
            raise SuffuseError(
                "with the cache, frames follow those that are known, and here some are known "
                "further on: choose another --how"
            )
        new = following(
            model,
            states[:, :count],
            total - count,
            steps=steps,
            seed=seed,
            first=first,
            counted=counted,
            **settings,
        )
        return torch.cat([states[:, :count].float().cpu(), new], dim=1)
    padded = max(total, length)
    x = torch.zeros(len(states), padded, *states.shape[2:])
    x[:, :total] = states.float().cpu()
    done = np.zeros(padded, dtype=bool)
    done[:total] = known
    for turn in range(padded):
        if done[:total].all():
            break
        begin, end = _next(done, length, context)
        here = slice(begin, begin + length)
        x[:, here] = window(
            model,
            x[:, here],
            done[here],
            how=how,
            steps=steps,
            seed=turned(seed, turn + 1),
            first=first,
            counted=counted,
            **settings,
        )
        done[begin:end] = True
    return x[:, :total]


def _next(done: NDArray[np.bool_], length: int, context: int) -> tuple[int, int]:
    """Where the next window begins, and up to where what it makes counts."""
    start = int(np.flatnonzero(~done)[0])
    later = np.flatnonzero(done[start:]) + start
    begin = max(0, start - context)
    if len(later) and later[0] - start < length - 1:  # with one frame before `start`, too
        begin = max(begin, int(later[0]) + 1 - length)
    begin = min(begin, len(done) - length)
    end = begin + length
    inside = int(np.searchsorted(later, end))
    if 0 < inside < len(later) and later[inside] - later[inside - 1] < length:
        end = int(later[inside - 1]) + 1
    return begin, end


def window(
    model: Any,
    states: Tensor,
    known: NDArray[np.bool_],
    *,
    how: How | Plan = "full",
    steps: int | None = None,
    seed: int | Sequence[int] = 0,
    first: int = 0,
    counted: Callable[[int], None] | None = None,
    **settings: Any,
) -> Tensor:
    """One window: states [B, F, C, h, w] with their unknown frames made; see `complete`.

    F is the model's; or less, for models of clips of differing lengths.
    """
    if not callable(how) and how not in get_args(How):
        raise SuffuseError(f"how is {', '.join(get_args(How))}, and {how!r} is not")
    plan: Plan = how if callable(how) else getattr(levels, how)
    (b, frames), padding = states.shape[:2], model.shape[0] - states.shape[1]
    grid = plan(known.tolist(), steps or model.recipe.sampling.steps)
    if counted is not None:
        counted(len(grid) - 1)
    noise = Noise(seed, b, first=first, device=model.device)
    begin = torch.from_numpy(grid[:1].copy()).to(model.device)
    prior = model.process.prior(noise, states.shape[1:], begin)
    seen = torch.from_numpy(known)[None, :, None, None, None]
    x = torch.where(seen.to(prior.device), states.to(prior), prior)
    made = model.sample(
        b,
        seed=seed,
        first=first,
        x=pad(x, (0, 0, 0, 0, 0, 0, 0, padding)),
        grid=np.pad(grid, [(0, 0), (0, padding)]).tolist(),
        **model.encoder.told(b, frames),
        **settings,
    )
    out = torch.stack([model.encoder.states(clip) for clip in made])
    return torch.where(seen, states.float(), out)


def following(
    model: Any,
    states: Tensor,
    frames: int,
    *,
    steps: int | None = None,
    solver: Any = None,
    seed: int | Sequence[int] = 0,
    first: int = 0,
    guidance: float | None = None,
    guidance_by: Any = None,
    counted: Callable[[int], None] | None = None,
    told: Callable[[int], None] | None = None,
    on_step: Callable[[Any], None] | None = None,
    **conditions: Any,
) -> Tensor:
    """The frames that follow, one after the other, each in the same time and memory.

    What the network made of the frames before is kept (`network.Cache`) for as many frames as it
    was trained with, so that a call computes one frame alone. What a prompt asks of the parts of a
    clip is told to the frames in turn; what it asks of the last part, to all that follow.

    Args:
        model: whose network was trained with a share of causal batches (denoiser.causal).
        states: the frames before, [B, K, C, h, w]; K may be 0.
        frames: how many follow.
        steps, solver, seed, first: as for `Model.sample`.
        guidance: of the conditions; 1 where None, since more of it changes how fast things go. With
            guidance a network call is of twice the size.
        guidance_by: none; there is no other guidance here.
        counted: told the network calls of each frame.
        told: told the number of each frame as it is done.
        on_step: called after each row of each frame.
        conditions: of the model.

    Returns:
        [B, frames, C, h, w], float32 on the CPU.

    Raises:
        SuffuseError: for a network that was not trained for it, and for `guidance_by`.
    """
    network = model.network.backbone
    if not isinstance(network, SpaceTime) or not network.causal:
        raise SuffuseError(
            "the cache needs a network that looks at the past alone: train video/spacetime with "
            "--set denoiser.causal=0.2"
        )
    if guidance_by is not None:
        raise SuffuseError(
            "with the cache guidance is plain: leave --guidance-by out, or choose another --how"
        )
    b, length = len(states), model.shape[0]
    if isinstance(model.encoder, Lengths):
        length = min(length, states.shape[1] + frames)
    values = {k: v if isinstance(v, list) else [v] * b for k, v in conditions.items()}
    given = any(v is not None for each in values.values() for v in each)
    weight = guidance if given and guidance is not None else 1.0
    cache = Cache(model.shape[0] - 1)
    plan = model.plan(solver, steps)
    made: list[Tensor] = []
    with torch.inference_mode():
        prepared = model.prepare(values, b)
        if weight != 1:
            nothing = model.prepare({name: [None] * b for name in values}, b)
            prepared = {k: torch.cat([v, nothing[k]]) for k, v in prepared.items()}
        slots = model.network.slots(prepared)
        asked = spread(slots.pop("moments"), length) if "moments" in slots else None

        def call(x: Tensor, level: Tensor) -> Tensor:
            begin, there = cache.frames, x.shape[1]
            if asked is not None:
                places = torch.arange(begin, begin + there).clamp(max=length - 1)
                slots["moments"] = asked[:, places.to(asked.device)]
            level = each_frames(level, x, x.shape[2])
            if weight == 1:
                return network(x, level, causal=True, cache=cache, **slots)
            twice = (torch.cat([k, k]) for k in (x, level))
            to, away = network(*twice, causal=True, cache=cache, **slots).chunk(2)
            return away + weight * (to - away)

        def remember(x: Tensor) -> None:
            cache.writing = True
            call(*model.process.present(x, torch.zeros(b, x.shape[1], device=x.device)))
            cache.writing = False

        denoise = model.process.denoiser(call)
        known = states.to(model.device, torch.float32)
        for part in known.split(model.shape[0], dim=1):
            if part.shape[1]:
                remember(part)
        for i in range(frames):
            noise = Noise(turned(seed, i + 1), b, first=first, device=model.device)
            x = run_plan(
                denoise,
                plan,
                noise=noise,
                shape=(1, *states.shape[2:]),
                process=model.process,
                on_step=on_step,
            )
            remember(x)
            made.append(x.float().cpu())
            if counted is not None:
                counted(len(plan) + 1)
            if told is not None:
                told(i)
    return torch.cat(made, dim=1)


def turned(seed: int | Sequence[int], turn: int) -> int | list[int]:
    """The seed of a window, or of a frame, by how many come before it."""
    if isinstance(seed, int):
        return seed + _TURN * turn
    return [each + _TURN * turn for each in seed]
