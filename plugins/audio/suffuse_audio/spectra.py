r"""Sounds as principal components of their amplitude spectra: states [K, T], a frame a column.

With |S| of a frame (`suffuse_audio.spectrum`), the state is

    z = D^{-1/2} Uᵀ (|S|^{0.3} − m) / s,

U the first K principal axes over the training sounds, D their standard deviations over the first's,
and s one number that brings the mean square to 1: axes are flattened half way, so that the small
ones count for something and do not drown the large ones. Phases are found again by Griffin and
Lim's iteration (`suffuse_audio.spectrum`).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset
from suffuse_audio import spectrum
from suffuse_audio.frames import Framed, few, finite
from suffuse_audio.sound import Sound

__all__ = ["Spectra"]

_POWER = 0.3
_FIT = 1024  # at most so many sounds are measured


class Spectra(Framed):
    """Encoder between sounds and K numbers a frame; float32 [K, T].

    Args:
        rate: Hz; sounds of other rates are resampled, and several channels averaged.
        seconds: the length of every sound: longer ones are cut, shorter ones are followed by
            silence.
        window: samples of a frame.
        hop: samples from frame to frame.
        components: K; fewer where there are not as many bins.
        iterations: of Griffin and Lim.
        basis: m, U and the scales, measured by `fit`: float16 in base 64.

    >>> Spectra(rate=8000, seconds=0.5, window=256, hop=64, components=32).shape
    (32, 63)
    """

    def __init__(
        self,
        rate: int = 16000,
        seconds: float = 1.0,
        window: int = 1024,
        hop: int = 256,
        components: int = 64,
        iterations: int = 60,
        basis: str | None = None,
    ) -> None:
        if min(rate, seconds, window, hop, components, iterations) <= 0 or hop > window // 2:
            raise SuffuseError(
                "all numbers of audio/spectra are above 0, and hop is at most half of window; "
                f"given {rate}, {seconds:g}, {window}, {hop}, {components} and {iterations}"
            )
        self.rate, self.seconds, self.window, self.hop = rate, seconds, window, hop
        self.components = min(components, spectrum.bins(window))
        self.iterations, self.basis = iterations, basis
        self._found: tuple[Tensor, Tensor, Tensor] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(K, T) of one state."""
        return (self.components, self.count)

    def fit(self, dataset: Dataset) -> Mapping[str, Any]:
        """The principal axes of at most 1,024 sounds of `dataset`."""
        if self.basis is None:
            f = spectrum.bins(self.window)
            mean, second, frames = torch.zeros(f).double(), torch.zeros(f, f).double(), 0
            for sound in few(dataset, _FIT):
                a = self._amplitudes([sound])[0].double()
                mean += a.sum(1)
                second += a @ a.T
                frames += a.shape[1]
            mean /= frames
            values, axes = torch.linalg.eigh(second / frames - torch.outer(mean, mean))
            values = values.flip(0)[: self.components].clamp(min=1e-10)
            axes = axes.flip(1)[:, : self.components]
            scale = (values / values[0]) ** 0.25
            scale = scale * (values / scale**2).mean().sqrt()
            table = torch.cat([mean[:, None], axes * scale], dim=1).half().numpy()
            self.basis = base64.b64encode(table.tobytes()).decode("ascii")
        return {"basis": self.basis}

    def encode(self, objects: Sequence[Sound]) -> Tensor:
        """States [B, K, T], float32."""
        mean, _, down = self._axes()
        out: Tensor = down @ (self._amplitudes(objects) - mean)
        return out

    def decode(self, x: Tensor) -> list[Sound]:
        """Sounds of one channel, with phases of our own making.

        Raises:
            SuffuseError: if a state holds NaN or infinity.
        """
        finite(x)
        return self.heard(self.amplitudes(x), self.iterations)

    def amplitudes(self, x: Tensor) -> Tensor:
        """|S| of states: [B, K, T] to [B, F, T], float32."""
        mean, up, _ = self._axes()
        return (up @ x.detach().cpu().float() + mean).clamp(min=0) ** (1 / _POWER)

    def states(self, amplitudes: Tensor) -> Tensor:
        """The states nearest to |S| [B, F, T]."""
        mean, _, down = self._axes()
        out: Tensor = down @ (amplitudes**_POWER - mean)
        return out

    def seen(self, bins: slice) -> tuple[Tensor, Tensor]:
        """What a part of the bins says of states: M [F', K] and m [F', 1] of |S|^0.3 = M x + m."""
        mean, up, _ = self._axes()
        return up[bins], mean[bins]

    def _amplitudes(self, objects: Sequence[Sound]) -> Tensor:
        return self.amplitudes_of(objects) ** _POWER

    def _axes(self) -> tuple[Tensor, Tensor, Tensor]:
        """m [F, 1], the scaled axes [F, K], and what undoes them [K, F]."""
        if self.basis is None:
            raise RuntimeError("this encoder has no basis yet: call fit, or give it")
        if self._found is None:
            table = np.frombuffer(base64.b64decode(self.basis), dtype=np.float16)
            f = spectrum.bins(self.window)
            whole = torch.from_numpy(table.astype(np.float32).reshape(f, self.components + 1))
            up = whole[:, 1:]
            self._found = (whole[:, :1], up, torch.linalg.pinv(up))
        return self._found
