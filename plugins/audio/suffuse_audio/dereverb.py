r"""Reverberation taken out of speech: weighted prediction error (WPE), and rooms to try it with.

In each bin f of the spectrum, what reverberates late is predicted from frames at least `delay`
before, and taken away:

    d_t = y_t − Σ_k g_k* y_{t−delay−k},     g = argmin Σ_t |d_t|² / λ_t,     λ_t = |d_t|² smoothed,

λ and g in turn. With several channels the frames of all of them predict each. Early reflections,
which carry the sound, stay.

Source: Nakatani et al., "Speech dereverberation based on variance-normalized delayed linear
prediction" (2010), IEEE TASLP 18.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from suffuse.errors import SuffuseError
from suffuse_audio import spectrum
from suffuse_audio.sound import Floats, Sound

__all__ = ["dereverberate", "room"]

_MOST = 60.0  # seconds that one filter is fitted to; longer sounds are done in parts


def dereverberate(
    sound: Sound, *, taps: int = 10, delay: int = 3, iterations: int = 3, strength: float = 1.0
) -> Sound:
    """The sound with less late reverberation, of the same rate, channels and length.

    Args:
        sound: of one room and one place in it.
        taps: of the filter, in frames of 32 ms, 8 ms apart.
        delay: frames that are left alone.
        iterations: of fitting the filter and the power in turn.
        strength: 1 takes away all that is predicted, 0 nothing.

    Raises:
        SuffuseError: for numbers out of range.
    """
    if not (1 <= taps <= 100 and 1 <= delay <= 50 and iterations >= 1 and 0 <= strength <= 1):
        raise SuffuseError(
            "taps is from 1 to 100, delay from 1 to 50, iterations at least 1 and strength from 0 "
            f"to 1; given {taps}, {delay}, {iterations} and {strength:g}"
        )
    window = max(4 * round(0.008 * sound.rate), 16)
    hop, most = window // 4, round(_MOST * sound.rate)
    parts = [
        _part(sound.samples[:, a : a + most], window, hop, taps, delay, iterations, strength)
        for a in range(0, max(len(sound), 1), most)
    ]
    return Sound(np.concatenate(parts, axis=1), sound.rate)


def _part(
    x: Floats, window: int, hop: int, taps: int, delay: int, iterations: int, strength: float
) -> Floats:
    if x.shape[1] < 2 * window or not np.any(x):
        return x
    frames = spectrum.stft(torch.from_numpy(np.ascontiguousarray(x)), window, hop)
    y = frames.numpy().astype(np.complex128).transpose(1, 0, 2)  # [F, C, T]
    late = np.stack([_late(each, taps, delay, iterations) for each in y])
    kept = torch.from_numpy((y - strength * late).transpose(1, 0, 2).astype(np.complex64))
    out: Floats = spectrum.inverse(kept, window, hop, x.shape[1]).numpy()
    return out


def _late(
    y: npt.NDArray[np.complex128], taps: int, delay: int, iterations: int
) -> npt.NDArray[np.complex128]:
    """What is predicted of one bin's frames [C, T]."""
    channels, n = y.shape
    before = np.zeros((channels * taps, n), dtype=np.complex128)
    for k in range(taps):
        shift = delay + k
        if shift < n:
            before[k * channels : (k + 1) * channels, shift:] = y[:, : n - shift]
    d, late = y, np.zeros_like(y)
    for _ in range(iterations):
        power = np.mean(np.abs(d) ** 2, axis=0)
        power = np.convolve(power, np.ones(3) / 3, "same")
        weight = 1 / np.maximum(power, 1e-3 * power.mean() + 1e-12)
        r = (before * weight) @ before.conj().T
        r = r + 1e-6 * (np.trace(r).real / len(r) + 1e-12) * np.eye(len(r))
        g = np.linalg.solve(r, (before * weight) @ y.conj().T)
        late = g.conj().T @ before
        d = y - late
    return late


def room(seconds: float, rate: int, seed: int, direct: float = 0.5) -> Floats:
    """A room's response: the direct sound, then noise that falls by 60 dB in so many seconds.

    Args:
        seconds: the reverberation time, T60.
        rate: Hz.
        seed: of the noise.
        direct: energy of the direct sound over that of the rest.

    Polack's model; see Habets, "Single- and multi-microphone speech dereverberation using spectral
    enhancement" (2007), section 2.3.
    """
    n = max(round(seconds * rate), 2)
    tail = np.random.default_rng(seed).standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
    tail[: round(0.002 * rate) + 1] = 0
    tail *= 1 / max(float(np.sqrt(np.sum(tail**2) * direct)), 1e-9)
    tail[0] = 1.0
    return tail.astype(np.float32)
