"""Sounds as they are: states [1, n] of samples, standardised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset
from suffuse_audio.frames import OfOneLength, few, finite
from suffuse_audio.sound import Sound

__all__ = ["Waveform"]


class Waveform(OfOneLength):
    """Encoder between sounds and their samples over one deviation; float32 [1, n].

    Args:
        rate: Hz; sounds of other rates are resampled, and several channels averaged.
        seconds: the length of every sound: longer ones are cut, shorter ones are followed by
            silence.
        std: the deviation of samples, that states have 1. None: measured by `fit`.

    >>> Waveform(rate=8000, seconds=0.5, std=0.1).shape
    (1, 4000)
    """

    def __init__(self, rate: int = 8000, seconds: float = 1.0, std: float | None = None) -> None:
        if min(rate, seconds) <= 0:
            raise SuffuseError(f"rate and seconds are above 0; given {rate} and {seconds:g}")
        self.rate, self.seconds, self.std = rate, seconds, std

    @property
    def shape(self) -> tuple[int, int]:
        """(1, n) of one state."""
        return (1, self.n)

    def fit(self, dataset: Dataset) -> Mapping[str, Any]:
        """Measure the deviation on at most 256 sounds of `dataset`."""
        if self.std is None:
            self.std = 1.0
            x = self.encode(list(few(dataset, 256)))
            self.std = round(max(float(x.square().mean().sqrt()), 1e-4), 6)
        return {"std": self.std}

    def encode(self, objects: Sequence[Sound]) -> Tensor:
        """States [B, 1, n], float32."""
        if self.std is None:
            raise RuntimeError("this encoder has no std yet: call fit, or give it")
        return self.samples(objects)[:, None] / self.std

    def decode(self, x: Tensor) -> list[Sound]:
        """Sounds of one channel; a `SuffuseError` where a state holds NaN or infinity."""
        finite(x)
        return self.sounds(x.detach().cpu().float()[:, 0] * (self.std or 1.0))
