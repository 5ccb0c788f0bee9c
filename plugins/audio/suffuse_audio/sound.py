"""The raw object of this domain: samples with a rate."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, gcd
from typing import Any

import numpy as np
import numpy.typing as npt

from suffuse.errors import SuffuseError

__all__ = ["Floats", "Sound", "resample"]

Floats = npt.NDArray[np.float32]

_TABLE = 1_000_000  # entries of a resampling filter, at most


@dataclass(frozen=True, eq=False)
class Sound:
    """A sound.

    Attributes:
        samples: float32 [channels, n]; full scale is ±1, and more is legal. A vector is one
            channel.
        rate: samples a second, Hz.

    Raises:
        SuffuseError: for samples of another shape, or a rate that is not above 0.

    >>> Sound(np.zeros(4000), 8000)
    Sound(1 channel, 0.500 s at 8000 Hz)
    """

    samples: Floats
    rate: int

    def __post_init__(self) -> None:
        samples: Any = np.asarray(self.samples, dtype=np.float32)
        samples = samples[None] if samples.ndim == 1 else samples
        if samples.ndim != 2 or samples.shape[0] < 1:
            raise SuffuseError(
                f"the samples of a sound are [channels, n] or [n]; given {list(samples.shape)}"
            )
        if not self.rate > 0:
            raise SuffuseError(f"the rate of a sound is above 0 Hz, and {self.rate} is not")
        object.__setattr__(self, "samples", samples)
        object.__setattr__(self, "rate", int(self.rate))

    def __repr__(self) -> str:
        plural = "" if self.channels == 1 else "s"
        return f"Sound({self.channels} channel{plural}, {self.seconds:.3f} s at {self.rate} Hz)"

    def __len__(self) -> int:
        return int(self.samples.shape[1])

    @property
    def channels(self) -> int:
        """How many channels there are."""
        return int(self.samples.shape[0])

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self) / self.rate

    @property
    def mono(self) -> Floats:
        """The mean of the channels, [n]."""
        mean: Floats = self.samples.mean(0)
        return mean


def resample(samples: npt.ArrayLike, rate: int, to: int) -> Floats:
    """Samples [..., n] at another rate, [..., ⌈n · to / rate⌉], by a windowed sinc.

    Between rates with next to no common divisor, of which a filter would need a table of their
    product's size, by Fourier's series.

    >>> resample(np.zeros((1, 8001)), 8000, 16000).shape
    (1, 16002)
    """
    x = np.asarray(samples, dtype=np.float32)
    if rate == to or not x.shape[-1]:
        return x
    common = gcd(rate, to)
    old, new = rate // common, to // common
    if old * new > _TABLE:
        return _by_series(x, old, new)
    import torch
    from torchaudio.functional import resample as work

    out: Floats = work(
        torch.from_numpy(np.ascontiguousarray(x)),
        old,
        new,
        lowpass_filter_width=24,
        rolloff=0.96,
    ).numpy()
    return out


def _by_series(x: Floats, old: int, new: int) -> Floats:
    """Samples [..., n] at new / old times the rate, [..., ⌈n · new / old⌉], with silence around."""
    from scipy.signal import resample as work

    n, around = x.shape[-1], ceil(1000 / old)  # in lengths of `old` samples
    whole = 2 * around + ceil(n / old)
    padded = np.zeros((*x.shape[:-1], whole * old), dtype=np.float32)
    padded[..., around * old : around * old + n] = x
    made = work(padded, whole * new, axis=-1)[..., around * new :][..., : ceil(n * new / old)]
    out: Floats = np.ascontiguousarray(made, dtype=np.float32)
    return out
