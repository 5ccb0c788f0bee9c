"""Edits of clips: going on, coming to life, more frames between, missing frames and regions.

    Continue(model, frames=48)([clip], n=4, seed=0, prompt="...") -> 4 clips

A model works at its own size and rate: clips are letterboxed to that size and answered so. To go on
they are resampled to its rate, too. What is missing between frames, or in them, is made for the
frames of the file as they are, and the answer is at their rate.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from suffuse.diffusion import operators
from suffuse.diffusion.posterior import Observation
from suffuse.errors import SuffuseError

from .clip import Clip, as_clip, fitted
from .files import ClipFiles
from .making import How, complete
from .reading import DAMAGE, VIDEOS, as_seen
from .restoring import ClipEdit, by_windows

__all__ = ["Animate", "Continue", "Fill", "Interpolate"]

logger = logging.getLogger("suffuse_video")


class _Edit(ClipEdit):
    def __init__(self, model: Any, how: How, context: int) -> None:
        super().__init__(model)
        self.how, self.context = how, context
        self.told = tuple(model.conditions)
        self.prompts = any(each.kind == "text" for each in model.conditions.values())

    def _made(
        self, clip: Clip, places: NDArray[np.intp], total: int, n: int, settings: dict[str, Any]
    ) -> list[Clip]:
        """n clips of `total` frames, of which those at `places` are the clip's."""
        frames = self.model.encoder.states(clip)
        states = torch.zeros(total, *frames.shape[1:])
        states[places] = frames[: len(places)]
        known = np.zeros(total, dtype=bool)
        known[places] = True
        if self._unasked(settings):
            settings = {"guidance": 1.0, **settings}
        x = complete(
            self.model,
            states.expand(n, *states.shape),
            known,
            how=self.how,
            context=self.context,
            **settings,
        )
        found: list[Clip] = self.model.encoder.decode(x)
        return found

    def _unasked(self, settings: dict[str, Any]) -> bool:
        """Whether nothing is said of what the clip shows; of models with prompts, it is told."""
        if any(value is not None for name, value in settings.items() if name in self.told):
            return False
        if self.prompts:
            self.prompts = False  # said once
            logger.warning(
                "this model was trained with prompts, and makes frames far better with one: "
                'say what the clip shows by --prompt "WORDS"'
            )
        return True

    def _given(self, clip: Clip) -> Clip:
        """Its frames as they are, which the model takes for frames of its own rate."""
        return Clip(clip.frames, self.model.encoder.rate)


class Continue(_Edit):
    """Go on where a clip ends; a clip of one frame is a picture that comes to life.

    Args:
        model: of clips, with a noise level for each frame.
        frames: how many to add.
        how: at once, one after the other, or rolling; see `suffuse_video.making`.
        context: known frames that each window sees, at most; half of it where 0.
    """

    def __init__(
        self, model: Any, *, frames: int = 16, how: How = "full", context: int = 0
    ) -> None:
        super().__init__(model, how, context)
        if frames < 1:
            raise SuffuseError(f"frames is 1 or more, and {frames} is not")
        self.frames = frames

    def __call__(self, objects: Sequence[Clip], n: int = 1, **settings: Any) -> list[Clip]:
        """n clips for each: its frames, and those that follow."""
        out = []
        for clip in objects:
            there = self.model.encoder.count(clip)
            out += self._made(clip, np.arange(there), there + self.frames, n, settings)
        return out


class Animate(Continue):
    """A picture as the first frame of a clip; the prompt says what happens.

    Args:
        model: of clips, with a noise level for each frame.
        frames: of the clip, with the picture; the model's where 0.
        how: as for `Continue`.
    """

    def __init__(self, model: Any, *, frames: int = 0, how: How = "full") -> None:
        total = frames or model.shape[0]
        if total < 2:
            raise SuffuseError(f"a clip that moves has 2 frames or more, and {total} is fewer")
        super().__init__(model, frames=total - 1, how=how)

    def __call__(self, objects: Sequence[Clip], n: int = 1, **settings: Any) -> list[Clip]:
        """n clips for each picture; of a clip, its first frame counts."""
        return super().__call__(
            [Clip(as_clip(c).frames[:1], c.fps) for c in objects], n, **settings
        )


class Interpolate(_Edit):
    """More frames between those of a clip.

    Args:
        model: of clips, with a noise level for each frame.
        times: so many times the frame rate, 2 or more; the clip stays as long as it is.
        how, context: as for `Continue`.
    """

    def __init__(self, model: Any, *, times: int = 2, how: How = "full", context: int = 0) -> None:
        super().__init__(model, how, context)
        if not 2 <= times < model.shape[0]:
            raise SuffuseError(f"times is 2 to {model.shape[0] - 1}, and {times} is not")
        self.times = times

    def __call__(self, objects: Sequence[Clip], n: int = 1, **settings: Any) -> list[Clip]:
        """n clips for each, at a higher rate."""
        out = []
        for clip in map(as_clip, objects):
            if len(clip) < 2:
                raise SuffuseError("a clip of one frame has nothing between its frames")
            places = np.arange(len(clip)) * self.times
            made = self._made(self._given(clip), places, int(places[-1]) + 1, n, settings)
            out += [Clip(each.frames, clip.fps * self.times) for each in made]
        return out


class Fill(_Edit):
    """Make missing frames, or what a mask marks in every frame.

    Args:
        model: of clips, with a noise level for each frame.
        missing: frames of the file, counted from 0: "5-8,12".
        mask: a picture, white where every frame is to be filled, or a clip whose frames say so each
            for its own frame; at the model's size or any other.
        how, context: as for `Continue`, where frames are missing.
        method: of posterior sampling, where a region is.
    """

    def __init__(
        self,
        model: Any,
        *,
        missing: str = "",
        mask: str = "",
        how: How = "full",
        context: int = 0,
        method: str = "ddrm",
    ) -> None:
        super().__init__(model, how, context)
        if bool(missing) == bool(mask):
            raise SuffuseError('fill takes either --missing "5-8,12" (frames) or --mask mask.png')
        self.missing = _numbers(missing)
        self.mask = _marked(mask, model.encoder.sides) if mask else None
        self.method = method

    def __call__(
        self, objects: Sequence[Clip], n: int = 1, *, seed: int = 0, **settings: Any
    ) -> list[Clip]:
        """n clips for each."""
        out = []
        for clip in map(as_clip, objects):
            if self.mask is not None:
                made = self._region(clip, n, seed, {"guidance": 1.0, **settings})
                out += [Clip(each.frames, clip.fps) for each in made]
                continue
            there = len(clip)
            if max(self.missing) >= there:
                raise SuffuseError(
                    f"the clip has {there} frames, counted from 0, and frame {max(self.missing)} "
                    "is to be filled"
                )
            places = np.setdiff1d(np.arange(there), self.missing)
            if not len(places):
                raise SuffuseError("every frame of the clip is missing: sample a new one instead")
            kept = self._given(Clip(clip.frames[places], clip.fps))
            made = self._made(kept, places, there, n, {"seed": seed, **settings})
            out += [Clip(each.frames, clip.fps) for each in made]
        return out

    def _region(self, clip: Clip, n: int, seed: int, settings: dict[str, Any]) -> list[Clip]:
        assert self.mask is not None
        self._unasked(settings)
        frames = self.model.encoder.states(self._given(clip))
        marked = self.mask[np.arange(len(frames)).clip(max=len(self.mask) - 1)]

        def restore(y: Tensor, here: slice, made: Tensor, told: dict[str, Any]) -> list[Clip]:
            own = marked[np.arange(here.start, here.stop).clip(max=len(marked) - 1)].copy()
            own[: made.shape[1]] = False  # what is made stays
            known = torch.from_numpy(~own)[:, None].expand(y.shape)
            data = torch.cat([made, y[made.shape[1] :].expand(n, -1, -1, -1, -1)], dim=1)
            seen = Observation(operators.mask(known), data)
            found: list[Clip] = self.model.restore(seen, n, method=self.method, **told, **settings)
            return found

        return by_windows(self.model, frames, n, restore, seed)


def _numbers(text: str) -> list[int]:
    found: set[int] = set()
    for part in text.split(",") if text else []:
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise SuffuseError(f'missing frames are given as "5-8,12", and {text!r} is not so')
        begin, end = int(first), int(last or first)
        if end < begin or end - begin > 100_000:
            raise SuffuseError(f"frames {part.strip()} are no range")
        found |= set(range(begin, end + 1))
    return sorted(found)


def _marked(path: str, sides: tuple[int, int]) -> NDArray[np.bool_]:
    """What is marked, [F, h, w]; F is 1 for a picture."""
    if Path(path).suffix.lower() in VIDEOS:
        pixels = ClipFiles().read(Path(path)).frames
    else:
        try:
            with Image.open(Path(path)) as image:
                pixels = np.array(as_seen(image).convert("RGB"))[None]
        except DAMAGE as error:
            raise SuffuseError(f"cannot read the mask {path}: {error}") from None
    marked = fitted(pixels, *sides).mean(-1) >= 64
    if not marked.any() or marked.all():
        raise SuffuseError(
            f"the mask {path} is {'white' if marked.all() else 'black'} all over: paint white what "
            "is to be filled, and nothing else"
        )
    return np.asarray(marked)
