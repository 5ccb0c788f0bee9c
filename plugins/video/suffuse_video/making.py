"""Frames that are missing, made by a model with a noise level for each frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from suffuse.diffusion import Noise
from suffuse.errors import SuffuseError

from . import levels
from .forcing import Forcing

__all__ = ["How", "complete", "window"]

How = Literal["full", "sequential", "rolling"]
"""The unknown frames of a window at once, one after the other, or on a staircase (see `levels`)."""


def complete(
    model: Any,
    states: Tensor,
    known: NDArray[np.bool_],
    *,
    how: How = "full",
    context: int = 0,
    steps: int | None = None,
    seed: int = 0,
    counted: Callable[[int], None] | None = None,
    **settings: Any,
) -> Tensor:
    """States with their unknown frames made, window after window of the model's length.

    A window begins `context` frames before the first frame that is unknown, and all that is unknown
    in it is made.

    Args:
        model: with the process video/forcing.
        states: [B, L, C, h, w]; what stands at unknown frames is not looked at.
        known: [L]; at least one frame is not.
        how: see `How`.
        context: the most frames that a window goes back; half of its length where 0.
        steps: network calls for a frame; the model's where None.
        seed: sample b is made by the noise (seed, b), a window by that of its own.
        counted: told the network calls of each window.
        settings: of `Model.sample`: solver, guidance, batch, conditions.

    Returns:
        [B, L, C, h, w]; known frames are those given.

    Raises:
        SuffuseError: for a model without levels for each frame, or a context that leaves nothing
            to make.
    """
    length = model.shape[0]
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
    total = states.shape[1]
    padded = max(total, length)
    x = torch.zeros(len(states), padded, *states.shape[2:])
    x[:, :total] = states.float().cpu()
    done = np.zeros(padded, dtype=bool)
    done[:total] = known
    for turn in range(padded):
        if done[:total].all():
            break
        first = int(np.flatnonzero(~done)[0])
        begin = min(max(0, first - context), padded - length)
        here = slice(begin, begin + length)
        x[:, here] = window(
            model,
            x[:, here],
            done[here],
            how=how,
            steps=steps,
            seed=seed + 1_000_003 * turn,
            counted=counted,
            **settings,
        )
        done[here] = True
    return x[:, :total]


def window(
    model: Any,
    states: Tensor,
    known: NDArray[np.bool_],
    *,
    how: How = "full",
    steps: int | None = None,
    seed: int = 0,
    counted: Callable[[int], None] | None = None,
    **settings: Any,
) -> Tensor:
    """One window: states [B, F, C, h, w] with their unknown frames made; see `complete`."""
    if how not in get_args(How):
        raise SuffuseError(f"how is {', '.join(get_args(How))}, and {how!r} is not")
    calls = steps or model.recipe.sampling.steps
    grid = getattr(levels, how)(known.tolist(), calls)
    if counted is not None:
        counted(len(grid) - 1)
    noise = Noise(seed, len(states), device=model.device)
    begin = torch.from_numpy(grid[:1].copy()).to(model.device)
    prior = model.process.prior(noise, states.shape[1:], begin)
    seen = torch.from_numpy(known)[None, :, None, None, None]
    x = torch.where(seen.to(prior.device), states.to(prior), prior)
    made = model.sample(len(states), seed=seed, x=x, grid=grid.tolist(), **settings)
    out = torch.stack([model.encoder.states(clip) for clip in made])
    return torch.where(seen, states.float(), out)
