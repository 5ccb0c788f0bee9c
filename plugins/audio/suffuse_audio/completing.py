r"""Gaps, clipped peaks and missing bands, from what stands around them.

**Gaps and clipped samples** by Janssen's method: a sound is short-time autoregressive, so that the
residual e = a * x of a model of order p is small. In turn, a is fitted to the current x, and the
unknown samples are set to minimise ‖e‖², a banded system of linear equations. For clipped samples
the known bound |x| >= the level is kept by raising what falls short to it.

**Gaps with a draw**: the least-squares answer fades towards the middle of a long gap, since the
mean of what may have been there is smaller than any of it. `fill` adds a draw from the same model
conditional on both sides, e = noise of the residual's deviation, scaled by `texture`.

**A missing band** by folding the band below upwards, under an envelope that continues the
spectrum's slope: what `extend` adds is plausible and not what was there.

Sources: Janssen, Veldhuis, Vries, "Adaptive interpolation of discrete-time signals that can be
modeled as autoregressive processes" (1986), IEEE TASSP 34; Makhoul, Berouti, "High-frequency
regeneration in speech coding systems" (1979), ICASSP.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import gcd

import numpy as np
import numpy.typing as npt
import torch
from scipy.fft import irfft, next_fast_len, rfft
from scipy.linalg import solve_toeplitz, solveh_banded

from suffuse.diffusion.noise import Noise
from suffuse.errors import SuffuseError
from suffuse_audio import spectrum
from suffuse_audio.sound import Floats, Sound, resample

__all__ = ["clipped", "declip", "extend", "fill", "gaps", "interpolated", "kept_low"]

Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_SILENCE = 1000  # samples behind a sound, before its Fourier series begins anew
_AROUND = 0.1  # seconds of context to each side, at least; three times the gap, if that is more


def gaps(text: str, sound: Sound) -> list[tuple[int, int]]:
    """Gaps as pairs of samples [start, stop), from "1.20-1.28" or "0.5-0.6,1-1.1" in seconds.

    Raises:
        SuffuseError: for what is no gap, lies outside the sound, or leaves nothing of it.
    """
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d*\.?\d+)\s*-\s*(\d*\.?\d+)\s*", part)
        if not match:
            raise SuffuseError(
                f"a gap is written as START-STOP in seconds, for instance 1.20-1.28; given {part!r}"
            )
        a, b = (float(k) for k in match.groups())
        start, stop = round(a * sound.rate), round(b * sound.rate)
        if start >= stop:
            raise SuffuseError(f"the gap {part.strip()} holds no sample: it ends after it begins")
        if stop > len(sound):
            raise SuffuseError(
                f"the gap {part.strip()} does not lie inside the sound, which lasts "
                f"{sound.seconds:.3f} s"
            )
        found.append((start, stop))
    apart = _merged(found)
    if apart == [(0, len(sound))]:
        raise SuffuseError("the gaps leave nothing of the sound to go by")
    return apart


def _merged(places: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Gaps in order; those that touch are one."""
    apart: list[tuple[int, int]] = []
    for start, stop in sorted(places):
        if apart and start <= apart[-1][1]:
            start, stop = apart[-1][0], max(stop, apart.pop()[1])
        apart.append((start, stop))
    return apart


def interpolated(
    x: Doubles, missing: Bools, order: int, iterations: int = 3, bound: float | None = None
) -> tuple[Doubles, Doubles, float]:
    """Janssen's interpolation of the missing samples of x [n].

    Args:
        x: samples; what stands where they are missing is a first guess.
        missing: which are not known.
        order: of the autoregression.
        iterations: of fitting and filling in turn.
        bound: missing samples keep their sign and at least this size.

    Returns:
        The samples; the model a [order + 1], a_0 = 1; the residual's deviation.
    """
    x = x.copy()
    order = max(min(order, len(x) // 3), 1)
    at = np.flatnonzero(missing)
    sign = np.sign(x[at])
    if bound is None:
        x[at] = 0.0
    a, deviation = np.zeros(order + 1), 0.0
    a[0] = 1.0
    for _ in range(iterations):
        a, deviation = _autoregression(x, order)
        x[at] = _least(x, at, a)
        if bound is not None:
            x[at] = sign * np.maximum(sign * x[at], bound)
    return x, a, deviation


def _autoregression(x: Doubles, order: int) -> tuple[Doubles, float]:
    """a with a_0 = 1 by the autocorrelation method, and the residual's deviation."""
    size = 1 << (2 * len(x)).bit_length()
    power = np.abs(np.fft.rfft(x, size)) ** 2
    r = np.fft.irfft(power)[: order + 1] / len(x)
    if r[0] <= 0:
        return np.eye(1, order + 1)[0], 0.0
    r[0] *= 1 + 1e-9
    solved = solve_toeplitz(r[:order], -r[1:])
    a = np.concatenate([[1.0], solved])
    return a, float(np.sqrt(max(r[0] + solved @ r[1:], 0.0)))


def _least(
    x: Doubles, at: npt.NDArray[np.intp], a: Doubles, drive: Doubles | None = None
) -> Doubles:
    """The unknown samples that minimise ‖a * x − drive‖², the others being known.

    The system's matrix is b_{|i − j|} for unknowns at i and j, b_k = Σ_m a_m a_{m+k}, which is 0
    from k = len(a) on: a band, however the unknowns lie.
    """
    p = len(a) - 1
    known = x.copy()
    known[at] = 0.0
    residual = np.convolve(known, a)[: len(x) + p]
    if drive is not None:
        residual = residual - drive
    right = -np.correlate(residual, a, "valid")[at]
    b = np.append(np.correlate(a, a, "full")[p:], 0.0)
    width = min(p, len(at) - 1)
    band = np.zeros((width + 1, len(at)))
    for k in range(width + 1):
        band[width - k, k:] = b[np.minimum(at[k:] - at[: len(at) - k], p + 1)]
    band[-1] *= 1 + 1e-9
    found: Doubles = solveh_banded(band, right)
    return found


def fill(
    sound: Sound, places: list[tuple[int, int]], *, texture: float = 0.0, seed: int = 0
) -> Sound:
    """The sound with its gaps filled; what lies outside them is untouched, to the bit.

    Args:
        sound: with anything in the gaps.
        places: [start, stop) in samples; those that touch are one.
        texture: 0 gives the most probable samples, 1 a draw from the model, which does not fade
            towards the middle.
        seed: of the draw.
    """
    out = sound.samples.copy()
    places = _merged(places)
    for number, (start, stop) in enumerate(places):
        around = max(3 * (stop - start), round(_AROUND * sound.rate))
        a, b = max(start - around, 0), min(stop + around, len(sound))
        missing = np.zeros(b - a, dtype=bool)
        missing[start - a : stop - a] = True
        for other, _ in places:  # a neighbour not yet filled is not to be learned from
            if other > start and other < b:
                b = other
                missing = missing[: b - a]
        for channel in range(sound.channels):
            x = out[channel, a:b].astype(np.float64)
            order = min(max(round(sound.rate / 90), 32), 512, 3 * (b - a) // 8)
            made, model, deviation = interpolated(x, missing, order, iterations=4)
            if texture > 0:
                source = Noise(seed, 1, first=number)
                z = source.normal((len(made) + len(model) - 1,), step=0)[0].numpy()
                drawn = _least(made, np.flatnonzero(missing), model, deviation * texture * z)
                made[missing] = drawn
            out[channel, start:stop] = made[missing]
    return Sound(out, sound.rate)


def clipped(x: npt.ArrayLike) -> tuple[Bools, float]:
    """Which samples [n] stand at the largest value for two in a row or more, and that value."""
    x = np.asarray(x, dtype=np.float64)
    level = float(np.abs(x).max(initial=0.0))
    if level == 0:
        return np.zeros(len(x), dtype=bool), 0.0
    flat = np.abs(x) >= level * (1 - 2e-3)
    same = np.sign(x[1:]) == np.sign(x[:-1])
    pairs = flat[1:] & flat[:-1] & same
    found = np.zeros(len(x), dtype=bool)
    found[1:] |= pairs
    found[:-1] |= pairs
    return found, level


def declip(sound: Sound) -> Sound:
    """The sound with its clipped peaks rounded out again; the others are as they were.

    The result may exceed full scale: it is scaled down by as much as it does.
    """
    out = sound.samples.astype(np.float64)
    rate, step = sound.rate, max(round(0.05 * sound.rate), 64)
    for channel in range(sound.channels):
        missing, level = clipped(out[channel])
        for start in range(0, len(sound), step):
            here = missing[start : start + step]
            if not here.any():
                continue
            a, b = max(start - step, 0), min(start + 2 * step, len(sound))
            inside = missing[a:b].copy()
            order = min(max(2 * round(rate / 1000), 16), 64)
            x, *_ = interpolated(out[channel, a:b], inside, order, iterations=3, bound=level)
            part = slice(start, min(start + step, len(sound)))
            fresh = x[start - a : start - a + (part.stop - start)]
            out[channel, part] = np.where(
                here, np.clip(fresh, -4 * level, 4 * level), out[channel, part]
            )
    top = float(np.abs(out).max(initial=0.0))
    if top > 1 and float(np.abs(sound.samples).max()) <= 1:
        out = out / top
    return Sound(out.astype(np.float32), sound.rate)


def extend(sound: Sound, rate: int, *, seed: int = 0) -> Sound:
    """The sound at a higher rate, with a band above what it had.

    The band that it had stays, up to half its rate; see the module for what is added above.

    Raises:
        SuffuseError: for a rate that is not above the sound's.
    """
    if rate <= sound.rate:
        raise SuffuseError(
            f"--rate is above the sound's own, {sound.rate} Hz, and {rate} is not; to go down, "
            "resample"
        )
    base = torch.from_numpy(resample(sound.samples, sound.rate, rate))
    window = 4 * round(0.008 * rate)
    hop = window // 4
    frames = spectrum.stft(base, window, hop)
    bins = frames.shape[1]
    edge = int(bins * sound.rate / rate * 0.94)  # below the resampling filter's slope
    low, high = edge // 2, edge
    power = frames.abs().square()
    # The slope from the lower half of the band to the upper, in dB an octave, held within reason.
    a, b = (power[:, s].mean(1).clamp(min=1e-14) for s in (slice(low // 2, low), slice(low, high)))
    slope = (10 * (b / a).log10()).clamp(-12.0, -1.0)
    made = frames.clone()
    turn = torch.from_numpy(
        Noise(seed, frames.shape[2]).uniform((bins,), step=0, stream=1).T.numpy()
    )
    for k in range(edge, bins):
        source = low + (k - edge) % (high - low)
        octaves = np.log2((k + 1) / (source + 1))
        gain = 10 ** (slope * octaves / 20)
        phase = torch.polar(torch.ones_like(turn[k]), 2 * torch.pi * turn[k]).to(frames)
        fresh = frames[:, source] * gain * (phase if k % 2 else 1)
        weight = min((k - edge) / max(0.06 * edge, 1), 1.0)
        made[:, k] = frames[:, k] + weight * (fresh - frames[:, k])
    added = spectrum.inverse(made - frames, window, hop, base.shape[1])
    return Sound(kept_low((base + added).numpy(), sound, rate), rate)


def kept_low(made: Floats, sound: Sound, rate: int) -> Floats:
    """Samples [C, n] at a higher rate with all of the sound's band put back.

    Below half the sound's rate their Fourier series is that of the sound, with silence behind.
    """
    common = gcd(sound.rate, rate)
    old, new = sound.rate // common, rate // common
    whole = next_fast_len(-(-(len(sound) + _SILENCE) // old))  # in lengths of `old` samples
    known = rfft(sound.samples, whole * old)[:, : (whole * old + 1) // 2]
    spectra = rfft(made, whole * new)
    spectra[:, : known.shape[1]] = known * np.float32(new / old)
    out: Floats = irfft(spectra, whole * new)[:, : made.shape[1]]
    return out
