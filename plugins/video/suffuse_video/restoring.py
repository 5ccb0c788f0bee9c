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
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from suffuse.diffusion import operators
from suffuse.diffusion.operators import SEEN, Operator
from suffuse.diffusion.posterior import Observation
from suffuse.errors import SuffuseError

from .clip import Clip, fitted, resampled
from .making import turned
from .pixels import Pixels

__all__ = ["ClipEdit", "Denoise", "Restore", "Stabilise", "Upscale", "by_windows", "steadied"]


class Restore(Protocol):
    """Clips of one window."""

    def __call__(self, y: Tensor, here: slice, made: Tensor, told: dict[str, Any]) -> list[Clip]:
        """n clips.

        Args:
            y: what is known of the window's frames, [F, ...].
            here: where it is.
            made: states [n, K, 3, h, w] of its first K frames, which windows before it have made;
                none in the first window.
            told: what `Model.sample` and `restore` are told of its length, and its seed.
        """


def by_windows(model: Any, frames: Tensor, n: int, restore: Restore, seed: int = 0) -> list[Clip]:
    """Clips put together from windows of the model's length, each begun within the one before.

    Args:
        model: of clips.
        frames: [L, ...], what is known of each frame.
        n: how many clips.
        restore: see `Restore`.
        seed: each window has noise of its own.

    Returns:
        n clips of L frames. Windows overlap by half, and what is made first stays; the last one
        ends with the clip. A clip that is shorter than a window has its last frame repeated, and is
        cut again; for models of clips of differing lengths it has padding, and they are told so.
    """
    length, total = model.shape[0], len(frames)
    told = model.encoder.told(n, min(total, length))
    if total < length:
        frames = model.encoder.filled(frames)
    last = max(total - length, 0)
    clips: list[Clip] = []
    made = torch.zeros(n, 0, *model.shape[1:])
    for turn, start in enumerate([*range(0, last, max(1, length // 2)), last]):
        here, done = slice(start, start + length), made.shape[1]
        own = {**told, "seed": turned(seed, turn)}
        new = restore(frames[here], here, made[:, start:], own)
        clips = [
            Clip(np.concatenate([old.frames, clip.frames[done - start :]]), clip.fps)
            for old, clip in zip(clips, new, strict=True)
        ] if clips else new  # fmt: skip
        made = torch.stack([model.encoder.states(clip) for clip in clips])
    return [Clip(clip.frames[:total], clip.fps) for clip in clips]


class ClipEdit:
    """What edits of clips have in common.

    Args:
        model: of clips.

    Raises:
        SuffuseError: for a model of anything else.
    """

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


class Upscale(ClipEdit):
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

    def __call__(
        self, objects: Sequence[Clip], n: int = 1, *, seed: int = 0, **settings: Any
    ) -> list[Clip]:
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
                y: Tensor,
                here: slice,
                made: Tensor,
                told: dict[str, Any],
                noise: float = noise,
                a: Operator = shrink,
            ) -> list[Clip]:
                # V Uᵀ y has as many pixels as a state; before it stands what is made already.
                data = a.spectral(lambda s: torch.where(s > SEEN * s.max(), 1 / s, 0), a.T(y[None]))
                data = torch.cat([made, data.expand(n, *data.shape[1:])[:, made.shape[1] :]], dim=1)
                seen = Observation(_known_too(a, made.shape[1], len(y)), data, noise)
                found: list[Clip] = self.model.restore(
                    seen, n, method=self.method, **told, **settings
                )
                return found

            out += by_windows(self.model, (pixels - mean) / std, n, restore, seed)
        return out


class Denoise(ClipEdit):
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

    def __call__(
        self, objects: Sequence[Clip], n: int = 1, *, seed: int = 0, **settings: Any
    ) -> list[Clip]:
        """n clips for each, by `ddim` where no solver is named: without fresh noise the clip is
        kept to best, and all n are the same."""
        settings = {"guidance": 1.0, "solver": "ddim", **settings}
        noise = self.noise / 255 / float(self._moments()[1].mean())
        schedule = self.model.schedule
        t = float(schedule.t(-math.log(noise)))
        alpha = float(schedule.at(t).alpha)

        def restore(y: Tensor, here: slice, made: Tensor, told: dict[str, Any]) -> list[Clip]:
            x = (alpha * y).expand(n, *y.shape)
            found: list[Clip] = self.model.sample(n, x=x, begin=t, **told, **settings)
            return found

        out = []
        for clip in objects:
            out += by_windows(self.model, self.model.encoder.states(clip), n, restore, seed)
        return out


class Stabilise(ClipEdit):
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


def _known_too(operator: Operator, first: int, frames: int) -> Operator:
    """V diag(s) Vᵀ, of an operator A = U diag(s) Vᵀ on single frames, with s = 1 in the first ones.

    These are seen as they are, and the others as A sees them; of data y = A x it is V Uᵀ y.
    """
    done = (torch.arange(frames) < first)[:, None, None, None]

    def spectrum(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        there = done.to(x.device)
        return operator.spectral(lambda s: f(torch.where(there, torch.ones_like(s), s)), x)

    def forward(x: Tensor) -> Tensor:
        return spectrum(lambda s: s, x)

    return Operator(f"{operator.name}, and the first {first} frames", forward, forward, spectrum)


def steadied(frames: NDArray[np.uint8], window: int) -> NDArray[np.uint8]:
    """Frames [F, h, w, 3] with each channel's mean the same as on average around the frame."""
    means = frames.mean((1, 2))
    half = window // 2
    padded = np.pad(means, [(half, half), (0, 0)], mode="reflect" if len(frames) > half else "edge")
    around = np.stack([padded[i : i + 2 * half + 1].mean(0) for i in range(len(frames))])
    gain = around / np.maximum(means, 1e-3)
    out = np.where(means[:, None, None] > 0.5, frames * gain[:, None, None], frames)
    return np.rint(out).clip(0, 255).astype(np.uint8)
