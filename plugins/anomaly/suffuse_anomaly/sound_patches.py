r"""Sounds by patches of their spectrograms: which are unusual, and where in time and frequency.

The energy of a sound in bands of equal steps of pitch, in dB, is a picture of time and frequency.
Of each band the mean and the deviation over normal sounds are taken off, so that a patch says how
its bands differ from what is usual in them; then it is judged as a patch of any picture
(`suffuse_anomaly.patches`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann
from torch import Tensor

from suffuse_anomaly.member import Floats
from suffuse_anomaly.patches import PatchDetector
from suffuse_anomaly.table import TableError

__all__ = ["SoundPatchDetector", "sound_of", "spectrogram"]

BANDS = 48
LOWEST = 60.0
"""Hz."""
HOP = 0.016
"""Seconds from one spectrum to the next; a window has four times as many."""
FLOOR = 1e-9
"""Energy, of full scale 1, that counts as silence: −90 dB."""


class SoundPatchDetector(PatchDetector):
    """Which sounds are unusual, and where in time and frequency.

    A sound has `samples`, [n] or [channels, n], and a `rate` in Hz, or is a pair of both; channels
    are averaged. All have one rate; their lengths may differ. Arguments are those of
    `PatchDetector`, whose `features` here are "filters".

    >>> rng = np.random.default_rng(0)
    >>> hums = [(0.1 * rng.normal(size=8000), 8000) for _ in range(20)]
    >>> detector = SoundPatchDetector().fit(hums)
    >>> whistle = 0.1 * rng.normal(size=8000)
    >>> whistle[4000:5000] += np.sin(2 * np.pi * 1000 * np.arange(1000) / 8000)
    >>> at = detector.where([(whistle, 8000)])[0]
    >>> 0.4 < at["seconds"] < 0.7, 700 < at["hertz"] < 1400
    (True, True)
    """

    things = "sounds"

    def __init__(
        self,
        method: str = "knn-time",
        *,
        stride: int = 4,
        n_neighbors: int = 5,
        steps: int = 1500,
        seed: int = 0,
    ) -> None:
        super().__init__(method, stride=stride, n_neighbors=n_neighbors, steps=steps, seed=seed)

    def _scale_up(self, things: Sequence[Any]) -> None:
        self.rate_ = sound_of(things[0])[1]
        columns = np.concatenate([self._bands(thing) for thing in things], 1)
        self._usual_band = columns.mean(1, keepdims=True)
        self._band_scale = np.maximum(columns.std(1, keepdims=True), 1.0)  # dB

    def _learned(self) -> tuple[dict[str, Any], dict[str, Any]]:
        bands = {"usual_band": self._usual_band, "band_scale": self._band_scale}
        return bands, {"rate": self.rate_}

    def _restore(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
        self._usual_band = tensors["usual_band"].numpy()
        self._band_scale, self.rate_ = tensors["band_scale"].numpy(), config["rate"]

    def _bands(self, thing: Any) -> Floats:
        samples, rate = sound_of(thing)
        if rate != self.rate_:
            raise TableError(
                f"the detector was fitted on sounds of {self.rate_:g} Hz; given one of {rate:g} "
                "Hz: resample it first"
            )
        return spectrogram(samples, rate)[0]

    def _pictures(self, thing: Any) -> list[Floats]:
        return [(self._bands(thing) - self._usual_band) / self._band_scale]

    def where(self, sounds: Sequence[Any]) -> list[dict[str, float]]:
        """Where the most unusual place of each sound is: its seconds, hertz and nats."""
        return [self.place(sound, self.judge(sound)[1]) for sound in sounds]

    def place(self, sound: Any, heat: Floats) -> dict[str, float]:
        """The seconds, hertz and nats of the hottest place of a sound's heat map."""
        samples, rate = sound_of(sound)
        _, hertz, seconds = spectrogram(samples, rate)
        band, column = np.unravel_index(heat.argmax(), heat.shape)
        return {
            # the first and the last column reach beyond the sound
            "seconds": float(np.clip(seconds[column], 0, len(samples) / rate)),
            "hertz": float(hertz[band]),
            "nats": float(heat[band, column]),
        }


def spectrogram(samples: Floats, rate: float) -> tuple[Floats, Floats, Floats]:
    """Energies in dB [bands, columns], the middles of the bands in Hz and of the columns in s.

    >>> tone = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    >>> energy, hertz, seconds = spectrogram(tone, 8000)
    >>> bool(400 < hertz[energy.mean(1).argmax()] < 480)
    True
    """
    hop = max(1, round(HOP * rate))
    transform = ShortTimeFFT(hann(4 * hop, sym=False), hop, rate, mfft=8 * hop, scale_to="psd")
    power = transform.spectrogram(samples)
    edges = np.geomspace(LOWEST, rate / 2, BANDS + 2)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    up = (transform.f - low) / np.maximum(middle - low, transform.delta_f)
    down = (high - transform.f) / np.maximum(high - middle, transform.delta_f)
    weights = np.clip(np.minimum(up, down), 0, None)
    # below, bands are narrower than what the transform tells apart: each takes its nearest line
    nearest = np.abs(transform.f - middle).argmin(1)
    weights[np.arange(BANDS), nearest] = np.maximum(weights[np.arange(BANDS), nearest], 1e-3)
    energy = weights / weights.sum(1, keepdims=True) @ power * rate
    return 10 * np.log10(np.maximum(energy, FLOOR)), edges[1:-1], transform.t(len(samples))


def sound_of(thing: Any) -> tuple[Floats, float]:
    """Samples [n] and the rate in Hz."""
    given = thing
    if hasattr(thing, "samples") and hasattr(thing, "rate"):
        thing = (thing.samples, thing.rate)
    try:
        samples, rate = thing
        samples, rate = np.asarray(samples, np.float64), float(rate)
    except (TypeError, ValueError):
        raise TableError(
            "a sound has samples and a rate, or is a pair (samples, rate); given "
            f"{type(given).__name__}"
        ) from None
    samples = samples.mean(0) if samples.ndim == 2 else samples
    if samples.ndim != 1 or not rate > 2 * LOWEST or len(samples) < 4 * HOP * rate:
        raise TableError(
            f"a sound has samples [n] or [channels, n] of {4 * HOP:g} s or more, and a rate above "
            f"{2 * LOWEST:g} Hz; given the shape {list(np.shape(samples))} at {rate:g} Hz"
        )
    if not np.isfinite(samples).all():
        raise TableError("a sound holds NaN or inf; its samples must be finite")
    return samples, rate
