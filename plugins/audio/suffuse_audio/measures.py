"""Figures of one sound against the sound that it should be.

Sources: SI-SDR: Le Roux et al., "SDR – half-baked or well done?" (2018), arXiv 1811.02508, eq. 5;
log-spectral distance: Gray, Markel, "Distance measures for speech processing" (1976).
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import numpy.typing as npt
import torch

from suffuse.errors import SuffuseError
from suffuse_audio import spectrum

__all__ = ["dnsmos", "estoi", "log_spectral_distance", "pesq", "si_sdr", "stoi"]

Samples = npt.NDArray[np.float32]


def si_sdr(made: Samples, real: Samples) -> float:
    """Scale-invariant signal-to-distortion ratio in dB; NaN where either is silent.

    >>> round(si_sdr(np.array([2.0, 0.2]), np.array([1.0, 0.0])), 6)
    20.0
    """
    a, b = np.asarray(made, np.float64), np.asarray(real, np.float64)
    energy, own = float(b @ b), float(a @ a)
    if energy <= 0 or own <= 0:
        return math.nan
    target = (a @ b) / energy * b
    rest = a - target
    return 10 * math.log10(max(float(target @ target), 1e-30) / max(float(rest @ rest), 1e-30))


def log_spectral_distance(
    made: Samples, real: Samples, window: int = 256, low: float = 0.0, high: float = 1.0
) -> float:
    """Root mean square over bins, averaged over frames, of the difference in dB.

    Args:
        made, real: [n], of one rate.
        window: samples of a frame; the hop is a quarter.
        low, high: the band, as parts of half the rate.
    """
    powers = []
    for x in (made, real):
        frames = spectrum.stft(torch.from_numpy(np.array(x, np.float32)), window, window // 4)
        powers.append(frames.abs().square())
    first, last = round(low * (window // 2)), round(high * (window // 2)) + 1
    floor = 1e-6 * float(powers[1].mean()) + 1e-12
    a, b = (10 * (p[first:last] + floor).log10() for p in powers)
    return float((a - b).square().mean(0).sqrt().mean())


def pesq(made: Samples, real: Samples, rate: int) -> float:
    """PESQ, MOS-LQO: narrow band at 8 kHz, wide band at 16; NaN where it fails, as on silence.

    Needs the extra `evaluation`.
    """
    from pesq import PesqError
    from pesq import pesq as work

    try:
        found = work(rate, real, made, "nb" if rate == 8000 else "wb")
    except (PesqError, ValueError):
        return math.nan
    return float(found)


def stoi(made: Samples, real: Samples, rate: int, extended: bool = False) -> float:
    """STOI (or ESTOI); NaN under half a second, also without the pauses of the real one, where it
    means nothing. Extra `evaluation`."""
    if len(real) < rate / 2:
        return math.nan
    from pystoi import stoi as work

    state = np.random.get_state()
    np.random.seed(0)  # it adds tiny noise of the global generator
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
            return float(work(real, made, rate, extended=extended))
    except RuntimeWarning:
        return math.nan
    finally:
        np.random.set_state(state)


def estoi(made: Samples, real: Samples, rate: int) -> float:
    """The extended STOI."""
    return stoi(made, real, rate, extended=True)


def dnsmos(made: Samples, rate: int) -> float:
    """DNSMOS P.835's overall quality, 1 to 5, without an original; NaN under a second.

    Means over windows of 9.01 s, a second apart, of the sound repeated to at least one window, as
    its authors' script does. Needs the packages speechmos, whose weights it reads, and onnxruntime.
    Source: Reddy, Gopal, Cutler (2022), arXiv 2110.01763.

    Raises:
        SuffuseError: at another rate than 16 kHz, for which alone it was made.
    """
    if rate != 16000:
        raise SuffuseError(f"DNSMOS is defined at 16000 Hz alone, and the sound has {rate} Hz")
    if len(made) < rate:
        return math.nan
    from suffuse_audio.baselines import onnx

    session, window = onnx("speechmos", "dnsmos_models/sig_bak_ovr.onnx"), round(9.01 * rate)
    x = np.tile(np.asarray(made, np.float32), math.ceil(window / len(made)))
    found = [
        float(session.run(None, {"input_1": x[None, start : start + window]})[0][0][2])
        for start in range(0, len(x) - window + 1, rate)
    ]
    return float(np.mean(np.polyval([-0.06766283, 1.11546468, 0.04602535], found)))
