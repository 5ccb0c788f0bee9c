"""Edits that make clips better: larger, without noise, steadier; and regions that are filled.

What was seen of a clip's state is an observation over space and time (`suffuse.diffusion.operators`
with the frames as a further axis), and the model restores window after window of its length. No
guidance is used: what was seen is condition enough, and guidance would lead away from it.

    Upscale(model)([small clip])        larger frames from smaller ones
    Denoise(model, noise=25)([clip])    without normal noise of 25 grey levels
    Stabilise(model)([clip])            without wavering light and colour
    Fill(model, mask="mask.mp4")        see `edits`
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from suffuse.diffusion import operators
from suffuse.diffusion.posterior import Observation
from suffuse.errors import SuffuseError

from .clip import Clip, fitted, resampled
from .pixels import Pixels

__all__ = ["Denoise", "Stabilise", "Upscale", "by_windows", "steadied"]


def by_windows(
    model: Any,
    frames: Tensor,
    n: int,
    restore: Callable[[Tensor, slice, dict[str, Any]], list[Clip]],
) -> list[Clip]:
    """Clips put together from windows of the model's length.

    Args:
        model: of clips.
        frames: [L, ...], what is known of each frame.
        n: how many clips.
        restore: (frames of a window [F, ...], where it is, what `Model.sample` is told of its
            length) -> n clips.

    Returns:
        n clips of L frames. The last window ends with the clip. A clip that is shorter than a
        window has its last frame repeated, and is cut again; for models of clips of differing
        lengths it has padding, and they are told so.
    """
    length, total = model.shape[0], len(frames)
    told = model.encoder.told(n, min(total, length))
    if total < length:
        frames = model.encoder.filled(frames)
    starts = [*range(0, max(total - length, 0) + 1, length)]
    if starts[-1] + length < total:
        starts.append(total - length)
    parts: list[list[NDArray[np.uint8]]] = []
    done = 0
    fps = 0.0
    for start in starts:
        made = restore(frames[start : start + length], slice(start, start + length), told)
        parts = parts or [[] for _ in made]
        for own, clip in zip(parts, made, strict=True):
            own.append(clip.frames[done - start :])
            fps = clip.fps
        done = start + length
    return [Clip(np.concatenate(own)[:total], fps) for own in parts]


class _Restore:
    def __init__(self, model: Any) -> None:
        if not isinstance(model.encoder, Pixels):
            raise SuffuseError(
                "clips are edited by models of clips, and this one has the encoder "
                f"{model.recipe.encoder['name']!r}"
            )
        self.model = model

    def _moments(self) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(k) for k in (self.model.encoder.mean, self.model.encoder.std))
        return mean[:, None, None], std[:, None, None]


class Upscale(_Restore):
    """Frames of the model's size from smaller ones.

    Args:
        model: of clips.
        size: what the clip is shrunk to first, the longer side in pixels, by means: for files that
            show small frames enlarged; not at all where 0.
        noise: deviation of the clip's noise, in grey levels of 255.
        method: of posterior sampling; see `suffuse.diffusion.posterior`.
    """

    def __init__(
        self, model: Any, *, size: int = 0, noise: float = 1.0, method: str = "ddrm"
    ) -> None:
        super().__init__(model)
        if size < 0 or noise < 0:
            raise SuffuseError(f"size and noise are 0 or more; given {size} and {noise}")
        self.size, self.noise, self.method = size, noise, method

    def __call__(self, objects: Sequence[Clip], n: int = 1, **settings: Any) -> list[Clip]:
        """n clips for each."""
        settings.setdefault("guidance", 1.0)
        height, width = self.model.encoder.sides
        mean, std = self._moments()
        out = []
        for clip in objects:
            small = resampled(clip, self.model.encoder.rate).frames
            h, w = small.shape[1:3]
            if self.size:
                scale = self.size / max(h, w)
                h, w = max(1, round(h * scale)), max(1, round(w * scale))
                small = fitted(small, h, w)
            if h > height or w > width or (h, w) == (height, width):
                raise SuffuseError(
                    f"the frames are {w}x{h}, and this model makes {width}x{height}: upscaling is "
                    "from smaller ones (--size shrinks them first)"
                )
            if h * width != w * height:
                raise SuffuseError(
                    f"frames of {w}x{h} have another shape than those of the model, {width}x"
                    f"{height}: crop the clip to that shape first"
                )
            shrink = operators.resample((height, width), (h, w), kernel="box")
            pixels = torch.from_numpy(np.ascontiguousarray(small)).permute(0, 3, 1, 2).float() / 255
            noise = self.noise / 255 / float(std.mean())

            def restore(
                y: Tensor, here: slice, told: dict[str, Any], noise: float = noise, a: Any = shrink
            ) -> list[Clip]:
                seen = Observation(a, y[None], noise)
                made: list[Clip] = self.model.restore(
                    seen, n, method=self.method, **told, **settings
                )
                return made

            out += by_windows(self.model, (pixels - mean) / std, n, restore)
        return out


class Denoise(_Restore):
    """Clips without normal noise: sampling begins with the clip, at the time with as much noise.

    Args:
        model: of clips.
        noise: deviation of the noise in grey levels of 255.
    """

    def __init__(self, model: Any, *, noise: float = 25.0) -> None:
        super().__init__(model)
        if not noise > 0:
            raise SuffuseError(f"noise is a deviation above 0, in grey levels; {noise:g} is not")
        self.noise = noise

    def __call__(self, objects: Sequence[Clip], n: int = 1, **settings: Any) -> list[Clip]:
        """n clips for each; without a stochastic solver they are the same."""
        settings.setdefault("guidance", 1.0)
        noise = self.noise / 255 / float(self._moments()[1].mean())
        schedule = self.model.schedule
        t = float(schedule.t(-math.log(noise)))
        alpha = float(schedule.at(t).alpha)

        def restore(y: Tensor, here: slice, told: dict[str, Any]) -> list[Clip]:
            x = (alpha * y).expand(n, *y.shape)
            made: list[Clip] = self.model.sample(n, x=x, begin=t, **told, **settings)
            return made

        out = []
        for clip in objects:
            out += by_windows(self.model, self.model.encoder.states(clip), n, restore)
        return out


class Stabilise(_Restore):
    """Clips without wavering light and colour.

    Each frame's channels are brought to what they are on average over the frames around it; what is
    left is then taken for noise.

    Args:
        model: of clips.
        window: frames that a frame is compared with, on both sides together.
        noise: as for `Denoise`; 0 leaves the model out.
    """

    def __init__(self, model: Any, *, window: int = 9, noise: float = 8.0) -> None:
        super().__init__(model)
        if window < 2 or noise < 0:
            raise SuffuseError(
                f"window is 2 frames or more and noise 0 or more; given {window} and {noise:g}"
            )
        self.window = window
        self.denoise = Denoise(model, noise=noise) if noise else None

    def __call__(self, objects: Sequence[Clip], n: int = 1, **settings: Any) -> list[Clip]:
        """n clips for each."""
        steady = [
            Clip(steadied(clip.frames, self.window), clip.fps)
            for clip in (resampled(clip, self.model.encoder.rate) for clip in objects)
        ]
        if self.denoise is not None:
            return self.denoise(steady, n, **settings)
        return [clip for clip in steady for _ in range(n)]


def steadied(frames: NDArray[np.uint8], window: int) -> NDArray[np.uint8]:
    """Frames [F, h, w, 3] with each channel's mean the same as on average around the frame."""
    means = frames.mean((1, 2))
    half = window // 2
    padded = np.pad(means, [(half, half), (0, 0)], mode="reflect" if len(frames) > half else "edge")
    around = np.stack([padded[i : i + 2 * half + 1].mean(0) for i in range(len(frames))])
    gain = around / np.maximum(means, 1e-3)
    out = np.where(means[:, None, None] > 0.5, frames * gain[:, None, None], frames)
    return np.rint(out).clip(0, 255).astype(np.uint8)
