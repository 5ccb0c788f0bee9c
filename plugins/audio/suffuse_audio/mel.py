r"""Sounds as log-mel spectra: states [M, T], a frame a column.

With the mel filters B over powers |S|² of a frame (`suffuse_audio.spectrum`), the state is
(log10(B |S|² + 1e-7) − m) / s, m by band and s one number. Bands are turned back to bins by the
least squares of B, without negative powers, and phases are found by Griffin and Lim's iteration.

Source: of the scale: O'Shaughnessy, "Speech communication" (1987), as HTK has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset
from suffuse_audio import spectrum
from suffuse_audio.frames import Framed, few, finite
from suffuse_audio.sound import Sound

__all__ = ["LogMel"]

_FLOOR = 1e-7


class LogMel(Framed):
    """Encoder between sounds and log-mel spectra; float32 [M, T].

    Args:
        rate: Hz; sounds of other rates are resampled, and several channels averaged.
        seconds: the length of every sound: longer ones are cut, shorter ones are followed by
            silence.
        window: samples of a frame.
        hop: samples from frame to frame.
        mels: M.
        iterations: of Griffin and Lim.
        mean: by band, and std: measured by `fit` where None.

    >>> LogMel(rate=8000, seconds=0.5, window=256, hop=64, mels=40).shape
    (40, 63)
    """

    def __init__(
        self,
        rate: int = 16000,
        seconds: float = 1.0,
        window: int = 1024,
        hop: int = 256,
        mels: int = 80,
        iterations: int = 60,
        mean: list[float] | None = None,
        std: float | None = None,
    ) -> None:
        if min(rate, seconds, window, hop, mels, iterations) <= 0 or hop > window // 2:
            raise SuffuseError(
                "all numbers of audio/log-mel are above 0, and hop is at most half of window; "
                f"given {rate}, {seconds:g}, {window}, {hop}, {mels} and {iterations}"
            )
        if mels > spectrum.bins(window) // 2:
            raise SuffuseError(
                f"a window of {window} has {spectrum.bins(window)} bins, which is too few for "
                f"{mels} bands: at most half as many"
            )
        self.rate, self.seconds, self.window, self.hop = rate, seconds, window, hop
        self.mels, self.iterations, self.mean, self.std = mels, iterations, mean, std

    @property
    def shape(self) -> tuple[int, int]:
        """(M, T) of one state."""
        return (self.mels, self.count)

    def fit(self, dataset: Dataset) -> Mapping[str, Any]:
        """The mean of each band and the deviation, of at most 256 sounds of `dataset`."""
        if self.mean is None or self.std is None:
            x = torch.cat([self._bands([sound]) for sound in few(dataset, 256)])
            mean = x.mean((0, 2))
            self.std = round(max(float((x - mean[:, None]).square().mean().sqrt()), 1e-3), 6)
            self.mean = [round(float(k), 5) for k in mean]
        return {"mean": self.mean, "std": self.std}

    def encode(self, objects: Sequence[Sound]) -> Tensor:
        """States [B, M, T], float32."""
        mean, std = self._scale()
        return (self._bands(objects) - mean) / std

    def decode(self, x: Tensor) -> list[Sound]:
        """Sounds of one channel; a `SuffuseError` where a state holds NaN or infinity."""
        finite(x)
        mean, std = self._scale()
        bands = 10 ** (x.detach().cpu().float() * std + mean).clamp(max=6.0) - _FLOOR
        power = (torch.linalg.pinv(self._bank()) @ bands.clamp(min=0)).clamp(min=0)
        return self.heard(power.sqrt(), self.iterations)

    def _bank(self) -> Tensor:
        from torchaudio.functional import melscale_fbanks

        bins = spectrum.bins(self.window)
        bank: Tensor = melscale_fbanks(bins, 20.0, self.rate / 2, self.mels, self.rate, None, "htk")
        return bank.T

    def _bands(self, objects: Sequence[Sound]) -> Tensor:
        return (self._bank() @ self.amplitudes_of(objects).square() + _FLOOR).log10()

    def _scale(self) -> tuple[Tensor, float]:
        if self.mean is None or self.std is None:
            raise RuntimeError("this encoder has no mean and std yet: call fit, or give them")
        return torch.tensor(self.mean)[:, None], self.std
