"""Long sounds in parts: frames out of blocks of samples, samples out of frames.

Frame k stands around sample k · hop, whatever the blocks were: what comes out is the same for every
size of block. Nothing longer than a few blocks is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from suffuse.errors import SuffuseError
from suffuse_audio.files import opened, tell_short, why
from suffuse_audio.sound import Floats, Sound
from suffuse_audio.spectrum import hann

__all__ = ["BLOCK", "blocks_of", "file_blocks", "frames_of", "joined"]

BLOCK = 1 << 18
"""Samples of a block."""

Complex = npt.NDArray[np.complex64]


def blocks_of(sound: Sound) -> Iterator[Floats]:
    """A sound's samples [C, n] in blocks."""
    for start in range(0, len(sound), BLOCK):
        yield sound.samples[:, start : start + BLOCK]


def file_blocks(path: Path, tell: bool = False) -> Iterator[Floats]:
    """A file's samples [C, n] in blocks; nothing for a file without samples.

    Args:
        path: of the file.
        tell: warn where it ends before its header says.

    Raises:
        SuffuseError: naming the file, where it cannot be read or holds what is not finite.
    """
    import soundfile

    count = 0
    with opened(path) as file:
        while True:
            try:
                part = file.read(BLOCK, dtype="float32", always_2d=True)
            except (soundfile.LibsndfileError, RuntimeError) as error:
                raise SuffuseError(f"{path} is damaged: {why(error)}") from None
            count += len(part)
            if not len(part):
                if tell:
                    tell_short(path, count, file.frames, file.samplerate)
                return
            if not np.isfinite(part).all():
                raise SuffuseError(
                    f"{path} holds samples that are no finite numbers (NaN or infinity)"
                )
            yield np.ascontiguousarray(part.T)


def frames_of(blocks: Iterable[Floats], window: int, hop: int) -> Iterator[Complex]:
    """The frames [C, F, m] of blocks of samples, n // hop + 1 in all, as `spectrum.stft` has them.

    Zeros stand around the sound.
    """
    w = hann(window).numpy()
    kept: Floats | None = None
    count = done = 0
    for block in blocks:
        if kept is None:
            kept = np.zeros((len(block), window // 2), dtype=np.float32)
        kept = np.concatenate([kept, block], axis=1)
        count += block.shape[1]
        ready = (kept.shape[1] - window) // hop + 1
        if ready > 0:
            yield _spectra(kept, w, hop, ready)
            kept = kept[:, ready * hop :]
            done += ready
    if kept is None:
        return
    left = count // hop + 1 - done
    if left > 0:
        behind = max((left - 1) * hop + window - kept.shape[1], 0)
        yield _spectra(np.pad(kept, ((0, 0), (0, behind))), w, hop, left)


def _spectra(samples: Floats, w: Floats, hop: int, count: int) -> Complex:
    windows = np.lib.stride_tricks.sliding_window_view(samples, len(w), axis=1)[:, ::hop][:, :count]
    out: Complex = np.fft.rfft(windows * w, axis=-1).astype(np.complex64)
    return np.moveaxis(out, 1, 2)


def joined(chunks: Iterable[Complex], window: int, hop: int) -> Iterator[Floats]:
    """Samples [C, n] of frames [C, F, m] in order: the sound whose frames are the nearest.

    The last part ends half a window behind the last frame; the caller cuts it where its sound ends.
    """
    w = hann(window).numpy()
    squares = (w**2)[None]
    total: Floats | None = None
    weight = np.zeros((1, 0), dtype=np.float32)
    skip = window // 2
    for chunk in chunks:
        parts = np.fft.irfft(np.moveaxis(chunk, 2, 1), window, axis=-1).astype(np.float32) * w
        if total is None:
            total = np.zeros((len(chunk), 0), dtype=np.float32)
        length = (parts.shape[1] - 1) * hop + window
        total = np.pad(total, ((0, 0), (0, length - total.shape[1])))
        weight = np.pad(weight, ((0, 0), (0, length - weight.shape[1])))
        for k in range(parts.shape[1]):
            at = k * hop
            total[:, at : at + window] += parts[:, k]
            weight[:, at : at + window] += squares
        ready = parts.shape[1] * hop
        yield _divided(total[:, :ready], weight[:, :ready])[:, skip:]
        skip = max(skip - ready, 0)
        total, weight = total[:, ready:], weight[:, ready:]
    if total is not None:
        yield _divided(total, weight)[:, skip:]


def _divided(total: Floats, weight: Floats) -> Floats:
    out: Floats = total / np.maximum(weight, 1e-3 * float(weight.max(initial=1e-9)))
    return out
