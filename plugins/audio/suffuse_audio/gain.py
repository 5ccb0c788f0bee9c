r"""Classical noise reduction: a gain for each bin, from a running estimate of the noise.

With γ = |Y|² / λ the power over the noise's, and ξ the same of the clean speech, by the
decision-directed rule

    ξ_k = a G_{k−1}² γ_{k−1} + (1 − a) max(γ_k − 1, 0),

the gain that keeps log-amplitudes best is G = ξ/(1+ξ) exp(E_1(v)/2), v = ξ γ/(1+ξ); Wiener's is
ξ/(1+ξ). The noise λ follows |Y|² as far as speech is improbable.

All is causal but for the first noise, which is the lower quartile of the first second; so a long
sound may come in parts, one `Reducer` going on from part to part.

Sources: Ephraim, Malah, "Speech enhancement using a minimum mean-square error log-spectral
amplitude estimator" (1985), IEEE TASSP 33; Gerkmann, Hendriks, "Unbiased MMSE-based noise power
estimation with low complexity and low tracking delay" (2012), IEEE TASLP 20.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import exp1

from suffuse_audio.sound import Floats

__all__ = ["Reducer", "Rule"]

Rule = Literal["log-mmse", "wiener"]

_SPEECH = 10**1.5  # ξ of speech where there is any, 15 dB: Gerkmann and Hendriks, section III.C
_LEAST_XI = 10**-2.5
_TINY = 1e-20


class Reducer:
    """Gains for the frames of a sound, in order.

    Args:
        rule: how the gain follows from ξ and γ.
        memory: a of the decision-directed rule, for frames 10 ms apart.
        least: the smallest gain.
    """

    def __init__(self, rule: Rule = "log-mmse", memory: float = 0.97, least: float = 0.05) -> None:
        self.rule, self.memory, self.least = rule, memory, least
        self._noise: npt.NDArray[np.float64] | None = None
        self._kept: npt.NDArray[np.float64] | None = None
        self._presence: npt.NDArray[np.float64] | None = None

    def __call__(self, power: npt.ArrayLike) -> Floats:
        """Gains in [least, 1] of powers |Y|² [..., F, T], float32; T may be any number."""
        y2 = np.moveaxis(np.asarray(power, dtype=np.float64), -1, 0)
        out = np.empty(y2.shape, dtype=np.float32)
        if not len(y2):
            return np.moveaxis(out, 0, -1)
        if self._noise is None or self._kept is None or self._presence is None:
            # the lower quartile of an exponential variable of mean 1 is log(4/3)
            self._noise = np.quantile(y2[:100], 0.25, axis=0) / np.log(4 / 3) + _TINY
            self._kept = np.ones_like(self._noise)
            self._presence = np.zeros_like(self._noise)
        noise, kept, presence = self._noise, self._kept, self._presence
        slope = _SPEECH / (1 + _SPEECH)
        for k, frame in enumerate(y2):
            ratio = np.minimum(frame / noise, 1e4)
            speech = 1 / (1 + (1 + _SPEECH) * np.exp(-np.minimum(ratio * slope, 200)))
            presence = 0.9 * presence + 0.1 * speech
            speech = np.where(presence > 0.99, np.minimum(speech, 0.99), speech)
            noise = 0.8 * noise + 0.2 * (speech * noise + (1 - speech) * frame) + _TINY
            gamma = np.minimum(frame / noise, 1e4)
            xi = self.memory * kept + (1 - self.memory) * np.maximum(gamma - 1, 0)
            xi = np.maximum(xi, _LEAST_XI)
            gain = xi / (1 + xi)
            if self.rule == "log-mmse":
                gain = gain * np.exp(0.5 * exp1(np.maximum(gain * gamma, 1e-8)))
            gain = np.clip(gain, self.least, 1.0)
            kept = gain**2 * gamma
            out[k] = gain
        self._noise, self._kept, self._presence = noise, kept, presence
        return np.moveaxis(out, 0, -1)
