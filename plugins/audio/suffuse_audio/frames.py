"""Sounds as frames of their compressed spectrum: states [2F, T] (see `suffuse_audio.spectrum`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from suffuse.diffusion import operators
from suffuse.diffusion.observation import Observation
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset
from suffuse.stats import evenly
from suffuse_audio import spectrum
from suffuse_audio.sound import Floats, Sound, resample

__all__ = ["Framed", "Frames", "OfOneLength", "few", "finite", "fitted"]


def fitted(sound: Sound, rate: int, n: int) -> Floats:
    """One channel [n] at a rate, cut off or with silence behind it."""
    if not isinstance(sound, Sound):
        raise SuffuseError(
            f"a sound is expected (suffuse_audio.Sound), not a {type(sound).__name__}"
        )
    enough = math.ceil(n / rate * sound.rate) + 64 * (1 + sound.rate // rate)  # and the filter
    x = resample(sound.samples[:, :enough].mean(0), sound.rate, rate)[:n]
    out = np.zeros(n, dtype=np.float32)
    out[: len(x)] = x
    return out


def few(dataset: Dataset, most: int) -> Iterator[Sound]:
    """At most so many sounds of a data set, spread evenly over it, to measure; none is refused."""
    if not len(dataset):
        raise SuffuseError("the training split holds no sounds to measure")
    for i in evenly(len(dataset), most):
        yield dataset[i].data


def finite(x: Tensor) -> None:
    """Refuse states with NaN or infinity, as a model that has diverged makes them."""
    if not bool(torch.isfinite(x).all()):
        raise SuffuseError(
            "the model made values that are not finite (NaN or infinity), so there is no sound "
            "to hear; its training has probably diverged"
        )


class OfOneLength:
    """What encoders of sounds of one rate and length share.

    Attributes:
        rate: Hz.
        seconds: the length of every sound.
    """

    rate: int
    seconds: float

    @property
    def n(self) -> int:
        """Samples of a sound."""
        return round(self.seconds * self.rate)

    def samples(self, objects: Sequence[Sound]) -> Tensor:
        """Sounds of any rate and length as [B, n], float32: cut, or followed by silence."""
        return torch.from_numpy(np.stack([fitted(sound, self.rate, self.n) for sound in objects]))

    def sounds(self, samples: Tensor) -> list[Sound]:
        """Samples [B, n] as sounds of one channel."""
        return [Sound(row, self.rate) for row in samples.numpy()]


class Framed(OfOneLength):
    """What encoders by the short-time Fourier transform share.

    Attributes:
        window: samples of a frame.
        hop: samples from frame to frame.
    """

    window: int
    hop: int

    @property
    def count(self) -> int:
        """Frames of a sound, T."""
        return self.n // self.hop + 1

    def beginning(self, sound: Sound) -> Observation:
        """What is known of the state of a sound that goes on: frames whose whole window is known.

        Args:
            sound: of the encoder's rate, of which only the beginning is known.
        """
        known = torch.from_numpy(self._before(np.arange(self.count) * self.hop, sound))
        return Observation(operators.mask(known.expand(self.shape)), self.encode([sound]))

    def _before(self, at: npt.NDArray[Any], sound: Sound) -> npt.NDArray[np.bool_]:
        """Whether windows around some samples lie within a sound."""
        found: npt.NDArray[np.bool_] = at + self.window // 2 <= sound.samples.shape[-1]
        return found

    def amplitudes_of(self, objects: Sequence[Sound]) -> Tensor:
        """|S| [B, F, T] of sounds, float32."""
        return spectrum.stft(self.samples(objects), self.window, self.hop).abs()

    def heard(self, amplitudes: Tensor, iterations: int) -> list[Sound]:
        """Sounds whose frames have nearly these amplitudes [B, F, T]."""
        size = (self.window, self.hop, self.n)
        return self.sounds(spectrum.griffin_lim(amplitudes, *size, iterations))


class Frames(Framed):
    """Encoder between sounds and their compressed complex spectrum, standardised; float32 [2F, T].

    What decoding gives is what was encoded, but for rounding: nothing is left out.

    Args:
        rate: Hz; sounds of other rates are resampled, and several channels averaged.
        seconds: the length of every sound: longer ones are cut, shorter ones are followed by
            silence.
        window: samples of a frame.
        hop: samples from frame to frame.
        level: the root mean square of a usual sound; it becomes 1 before compression.
        std: the deviation of compressed spectra, that states have 1. None: measured by `fit`.

    >>> encoder = Frames(rate=8000, seconds=0.5, std=1.0)
    >>> encoder.shape
    (258, 51)
    """

    def __init__(
        self,
        rate: int = 8000,
        seconds: float = 1.0,
        window: int = 256,
        hop: int = 80,
        level: float = 0.1,
        std: float | None = None,
    ) -> None:
        if min(rate, seconds, window, hop, level) <= 0 or hop > window // 2 or window % 2:
            raise SuffuseError(
                "rate, seconds and level are above 0, window is even and hop at most half of it; "
                f"given {rate}, {seconds:g}, {level:g}, {window} and {hop}"
            )
        self.rate, self.seconds, self.window, self.hop = rate, seconds, window, hop
        self.level, self.std = level, std

    @property
    def shape(self) -> tuple[int, int]:
        """(2F, T) of one state."""
        return (2 * spectrum.bins(self.window), self.count)

    def fit(self, dataset: Dataset) -> Mapping[str, Any]:
        """Measure the deviation on at most 256 sounds of `dataset`."""
        if self.std is None:
            self.std = 1.0
            x = self.encode(list(few(dataset, 256)))
            self.std = round(max(float(x.square().mean().sqrt()), 1e-3), 6)
        return {"std": self.std}

    def encode(self, objects: Sequence[Sound]) -> Tensor:
        """States [B, 2F, T], float32."""
        frames = spectrum.stft(self.samples(objects) / self.level, self.window, self.hop)
        return spectrum.real_frames(spectrum.compress(frames)) / self._std()

    def decode(self, x: Tensor) -> list[Sound]:
        """Sounds of one channel.

        Raises:
            SuffuseError: if a state holds NaN or infinity.
        """
        finite(x)
        frames = spectrum.expand(spectrum.complex_frames(x.detach().cpu().float() * self._std()))
        samples = spectrum.inverse(frames, self.window, self.hop, self.n) * self.level
        return self.sounds(samples)

    def _std(self) -> float:
        if self.std is None:
            raise RuntimeError("this encoder has no std yet: call fit, or give it")
        return self.std
