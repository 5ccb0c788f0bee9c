"""A clip: frames at an even rate, the raw object of video models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from suffuse.errors import SuffuseError

__all__ = ["Clip", "as_clip", "fitted", "resampled", "shrunk"]

Frames = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames at an even rate.

    Attributes:
        frames: uint8 [F, height, width, 3], RGB; F at least 1.
        fps: frames per second.

    Raises:
        SuffuseError: for frames of another shape or type, none, or a rate that is not above 0.

    >>> clip = Clip(np.zeros((16, 8, 8, 3), np.uint8), fps=8)
    >>> len(clip), clip.fps
    (16, 8)
    """

    frames: Frames
    fps: float = 12.0

    def __post_init__(self) -> None:
        shape = np.shape(self.frames)
        if len(shape) != 4 or shape[-1] != 3 or min(shape) < 1 or self.frames.dtype != np.uint8:
            raise SuffuseError(
                "a clip is uint8 [frames, height, width, 3] with at least one frame; given "
                f"{getattr(self.frames, 'dtype', type(self.frames).__name__)} {list(shape)}"
            )
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise SuffuseError(f"a clip has a frame rate above 0, and {self.fps} is not")

    def __len__(self) -> int:
        return len(self.frames)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The frames, so that numpy takes a clip for them."""
        return np.array(self.frames, dtype=dtype, copy=bool(copy) or dtype is not None)


def as_clip(value: object) -> Clip:
    """The value, which has to be a clip; raises SuffuseError where it is something else."""
    if not isinstance(value, Clip):
        raise SuffuseError(f"a clip is expected, and not {type(value).__name__}")
    return value


def resampled(clip: Clip, fps: float) -> Clip:
    """The clip at another rate: for each new moment the frame that was shown then.

    >>> resampled(Clip(np.zeros((16, 2, 2, 3), np.uint8), 8.0), 4.0).frames.shape[0]
    8
    """
    if abs(fps / as_clip(clip).fps - 1) < 0.01:
        return clip
    count = max(1, round(len(clip) * fps / clip.fps))
    shown = np.floor(np.arange(count) * (clip.fps / fps) + 1e-6).astype(int)
    return Clip(clip.frames[shown.clip(max=len(clip) - 1)], fps)


def shrunk(frame: Frames, side: int) -> Frames:
    """A frame [h, w, 3] with its longer side at most so many pixels.

    >>> shrunk(np.zeros((30, 60, 3), np.uint8), 20).shape
    (10, 20, 3)
    """
    h, w = frame.shape[:2]
    scale = min(1.0, side / max(h, w))
    return fitted(frame[None], max(1, round(h * scale)), max(1, round(w * scale)))[0]


def fitted(frames: Frames, height: int, width: int) -> Frames:
    """Frames [F, h, w, 3] scaled to fit into a height and width, in the middle of black bars.

    What has the size already is answered as it is. Scaling averages over areas.
    """
    h, w = frames.shape[1:3]
    if (h, w) == (height, width):
        return frames
    scale = min(height / h, width / w)
    inner = (max(1, round(h * scale)), max(1, round(w * scale)))
    x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    out = np.zeros((len(frames), height, width, 3), dtype=np.uint8)
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    for i in range(0, len(frames), 16):  # few at a time: as float32 they are four times as large
        part = x[i : i + 16].float()
        if h % inner[0] == 0 and w % inner[1] == 0:
            small = functional.adaptive_avg_pool2d(part, inner)
        else:
            small = functional.interpolate(part, inner, mode="bilinear", antialias=True)
        pixels = small.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        out[i : i + 16, top : top + inner[0], left : left + inner[1]] = pixels
    return out
