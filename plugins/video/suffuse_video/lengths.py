"""Clips of differing lengths as states of one shape: pixels, and padding behind a clip's frames.

A state of a clip of n frames is that of `pixels`, with zeros in frames n to `frames` − 1. How long
a clip is goes with its state as its size, so that neither the loss nor a neighbour sees padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suffuse.diffusion.noise import Noise, Stream
from suffuse.plugins.contracts import Dataset

from .clip import Clip
from .pixels import Pixels

__all__ = ["Lengths"]


class Lengths(Pixels):
    """Encoder of clips of up to so many frames.

    Args:
        frames: the most of a state; longer clips are cut.
        size, fps, mean, std: see `pixels.Pixels`.
        lengths: how many clips there are of 1, 2, ... frames; measured by `fit` where None, on up
            to 256 training clips.

    >>> encoder = Lengths(frames=4, size=8, fps=8, mean=[0.1] * 3, std=[0.2] * 3, lengths=[0, 1])
    >>> clip = Clip(np.zeros((2, 8, 8, 3), np.uint8), 8)
    >>> encoder.encode([clip]).shape, encoder.sizes([clip])
    (torch.Size([1, 4, 3, 8, 8]), tensor([2]))
    """

    def __init__(
        self,
        frames: int = 16,
        size: int | list[int] = 16,
        fps: float | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        lengths: list[int] | None = None,
    ) -> None:
        super().__init__(frames, size, fps, mean, std)
        self.lengths = lengths

    def fit(self, dataset: Dataset) -> Mapping[str, Any]:
        """As for `Pixels`, and how many of these clips have which length."""
        found, counts = self._measured(dataset)
        self.lengths = np.bincount(counts)[1:].tolist()
        return {**found, "lengths": self.lengths}

    def sizes(self, objects: Sequence[Clip]) -> Tensor:
        """Frames of each clip's state, int64 [B]."""
        return torch.tensor([min(self.count(clip), self.frames) for clip in objects])

    def mask(self, sizes: Tensor) -> Tensor:
        """True for a clip's own frames, [B, frames]."""
        return torch.arange(self.frames, device=sizes.device) < sizes[:, None]

    def draw_sizes(self, noise: Noise) -> Tensor:
        """Lengths as they are distributed in the training split, int64 [B]."""
        counts = torch.tensor(self.lengths or [0] * (self.frames - 1) + [1], dtype=torch.float64)
        u = noise.uniform((1,), step=1, stream=Stream.PRIOR)[:, 0].cpu()
        ends = counts.cumsum(0)
        return torch.searchsorted(ends, u * ends[-1], right=True) + 1

    def encode(self, objects: Sequence[Clip]) -> Tensor:
        """States [B, frames, 3, height, width], float32."""
        states = torch.zeros(len(objects), *self.shape)
        for state, clip in zip(states, objects, strict=True):
            x = self.states(clip)[: self.frames]
            state[: len(x)] = x
        return states

    def decode(self, x: Tensor, sizes: Tensor | None = None) -> list[Clip]:
        """Clips of these sizes from states [B, F, 3, height, width]; of all F frames where None."""
        clips = super().decode(x)
        if sizes is None:
            return clips
        return [Clip(c.frames[:n], c.fps) for c, n in zip(clips, sizes.tolist(), strict=True)]

    def filled(self, frames: Tensor) -> Tensor:
        """Frames [F, ...] with padding up to the length of a state."""
        return torch.cat([frames, frames.new_zeros(self.frames - len(frames), *frames.shape[1:])])

    def told(self, n: int, frames: int) -> dict[str, Any]:
        """What `Model.sample` and `restore` are told to make n clips of so many frames."""
        return {"sizes": [frames] * n}
