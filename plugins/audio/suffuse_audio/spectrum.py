r"""The short-time Fourier transform, compressed.

Frame k of a sound is the window of `window` samples around sample k · hop, so that n samples have
n // hop + 1 frames. A bin S is divided by the root of the window's energy, so that white noise of
deviation 1 has E|S|² = 1 in every bin, at every rate and size. Compressed,

    X = |S|^{1/2} e^{i arg S},    S = |X| X,

a spectrum has about the same size at all frequencies. As a state it is real: [2F, T], the real
parts of the F bins before the imaginary ones.

Source: the compression: Richter et al., "Speech enhancement and dereverberation with
diffusion-based generative models" (2022), arXiv 2208.05830, section III.B.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

__all__ = [
    "bins",
    "complex_frames",
    "compress",
    "expand",
    "griffin_lim",
    "hann",
    "inverse",
    "real_frames",
    "stft",
]


@lru_cache(maxsize=32)
def hann(window: int) -> Tensor:
    """The periodic Hann window, float32, divided by the root of its energy."""
    w = torch.hann_window(window, dtype=torch.float64)
    return (w / w.square().sum().sqrt()).float()


def bins(window: int) -> int:
    """How many frequencies a frame has."""
    return window // 2 + 1


def stft(x: Tensor, window: int, hop: int) -> Tensor:
    """Samples [..., n] as complex frames [..., F, n // hop + 1]; zeros stand around the sound."""
    flat = x.reshape(-1, x.shape[-1])
    frames = torch.stft(
        flat,
        window,
        hop,
        window=hann(window).to(x),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    return frames.reshape(*x.shape[:-1], *frames.shape[-2:])


def inverse(frames: Tensor, window: int, hop: int, length: int) -> Tensor:
    """The sound [..., length] whose frames are the nearest to complex frames [..., F, T]."""
    flat = frames.reshape(-1, *frames.shape[-2:])
    w = hann(window).to(flat.real)
    x = torch.istft(flat, window, hop, window=w, center=True, length=length)
    return x.reshape(*frames.shape[:-2], length)


def griffin_lim(amplitudes: Tensor, window: int, hop: int, length: int, iterations: int) -> Tensor:
    """Sounds [B, length] whose frames have nearly these amplitudes [B, F, T]; the same every time.

    Sources: Griffin, Lim, "Signal estimation from modified short-time Fourier transform" (1984);
    with momentum: Perraudin, Balazs, Søndergaard, "A fast Griffin-Lim algorithm" (2013).
    """
    from torchaudio.functional import griffinlim

    found: Tensor = griffinlim(
        amplitudes,
        hann(window),
        window,
        hop,
        window,
        power=1.0,
        n_iter=iterations,
        momentum=0.99,
        length=length,
        rand_init=False,
    )
    return found


def compress(frames: Tensor) -> Tensor:
    """X = |S|^{1/2} e^{i arg S} of complex frames."""
    return frames * frames.abs().clamp(min=1e-12).rsqrt()


def expand(frames: Tensor) -> Tensor:
    """S = |X| X, the inverse of `compress`."""
    return frames * frames.abs()


def real_frames(frames: Tensor) -> Tensor:
    """Complex frames [..., F, T] as states [..., 2F, T]."""
    return torch.cat([frames.real, frames.imag], dim=-2)


def complex_frames(state: Tensor) -> Tensor:
    """States [..., 2F, T] as complex frames [..., F, T]."""
    re, im = state.chunk(2, dim=-2)
    return torch.complex(re.contiguous(), im.contiguous())
