"""Clips as states: standardised pixels, frame by frame.

A state has the shape [frames, 3, height, width], frames first, so that a noise level for each frame
is a number for each entry of the first axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset

from .clip import Clip, as_clip, fitted, resampled

__all__ = ["Pixels"]

_LOOKED_AT = 256
"""Clips of the training split that mean and deviation are measured on."""


class Pixels:
    """Encoder of clips.

    Args:
        frames: of a state; longer clips are cut, shorter ones refused.
        size: of a frame in pixels: a side, or height and width. Other frames are scaled to fit,
            with black bars.
        fps: frames per second; clips of another rate are resampled. That of the first training
            clip where None.
        mean, std: of each channel, in [0, 1]; measured by `fit` where None.

    >>> encoder = Pixels(frames=4, size=8, fps=8, mean=[0.1] * 3, std=[0.2] * 3)
    >>> encoder.encode([Clip(np.zeros((4, 8, 8, 3), np.uint8), 8)]).shape
    torch.Size([1, 4, 3, 8, 8])
    """

    def __init__(
        self,
        frames: int = 16,
        size: int | list[int] = 16,
        fps: float | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        sides = [size, size] if isinstance(size, int) else list(size)
        if len(sides) != 2 or min(frames, *sides) < 1:
            raise SuffuseError(
                "frames is 1 or more and size a side or height and width of 1 or more; given "
                f"{frames} and {size}"
            )
        self.frames, self.sides, self.fps = frames, (sides[0], sides[1]), fps
        self.mean, self.std = mean, std

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.frames, 3, *self.sides)

    def fit(self, dataset: Dataset) -> Mapping[str, Any]:
        """The rate, and mean and deviation of up to 256 clips spread evenly.

        Raises:
            SuffuseError: where there is no clip.
        """
        return self._measured(dataset)[0]

    def _measured(self, dataset: Dataset) -> tuple[dict[str, Any], list[int]]:
        """What `fit` finds, and how many frames each of those clips has."""
        n = len(dataset)
        if not n:
            raise SuffuseError("there is no clip to train on")
        chosen = np.unique(np.linspace(0, n - 1, min(n, _LOOKED_AT)).round().astype(int))
        total = np.zeros(3)
        squares = np.zeros(3)
        count, lengths = 0, []
        for i in chosen:
            clip = dataset[int(i)].data
            if self.fps is None:
                self.fps = float(clip.fps)
            frames = self._pixels(clip)[: self.frames]
            lengths.append(len(frames))
            x = frames.astype(np.float64).reshape(-1, 3) / 255
            total += x.sum(0)
            squares += (x**2).sum(0)
            count += len(x)
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0)).clip(min=0.02)
        self.mean, self.std = mean.round(6).tolist(), std.round(6).tolist()
        return {"fps": self.fps, "mean": self.mean, "std": self.std}, lengths

    def encode(self, objects: Sequence[Clip]) -> Tensor:
        """States [B, frames, 3, height, width], float32.

        Raises:
            SuffuseError: for a clip that is too short, saying how long it is.
        """
        states = []
        for clip in objects:
            x = self.states(clip)
            if len(x) < self.frames:
                raise SuffuseError(
                    f"the clip has {len(x)} frames at {self.rate:g} a second, and this model takes "
                    f"{self.frames}: give a longer clip, or train with --set "
                    f"encoder.frames={len(x)}, or on clips of all lengths with --set "
                    "encoder.name=video/lengths"
                )
            states.append(x[: self.frames])
        return torch.stack(states) if states else torch.empty(0, *self.shape)

    def states(self, clip: Clip) -> Tensor:
        """All frames of a clip, [F, 3, height, width], float32, at the model's rate."""
        x = torch.from_numpy(np.ascontiguousarray(self._pixels(clip))).permute(0, 3, 1, 2)
        mean, std = self._moments()
        return (x.float() / 255 - mean) / std

    def decode(self, x: Tensor) -> list[Clip]:
        """Clips from states [B, F, 3, height, width], of any number of frames."""
        mean, std = self._moments()
        pixels = ((x * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
        return [Clip(clip.permute(0, 2, 3, 1).contiguous().numpy(), self.rate) for clip in pixels]

    def count(self, clip: Clip) -> int:
        """How many frames a clip has at the model's rate."""
        return len(self._resampled(clip))

    def filled(self, frames: Tensor) -> Tensor:
        """Frames [F, ...] up to the length of a state: the last one stays."""
        return torch.cat([frames, frames[-1:].expand(self.frames - len(frames), *frames.shape[1:])])

    def told(self, n: int, frames: int) -> dict[str, Any]:
        """What `Model.sample` and `restore` are told to make n clips: all have one length."""
        return {}

    @property
    def rate(self) -> float:
        """Frames per second."""
        return 12.0 if self.fps is None else self.fps

    def _pixels(self, clip: Clip) -> Any:
        return fitted(self._resampled(clip).frames, *self.sides)

    def _resampled(self, clip: Clip) -> Clip:
        return resampled(clip, self.fps or as_clip(clip).fps)

    def _moments(self) -> tuple[Tensor, Tensor]:
        if self.mean is None or self.std is None:
            raise SuffuseError("mean and std are not known: fit this encoder first, or give them")
        wide = (3, 1, 1)
        return torch.tensor(self.mean).reshape(wide), torch.tensor(self.std).reshape(wide)
