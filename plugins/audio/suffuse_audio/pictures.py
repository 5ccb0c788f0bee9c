"""Spectrograms as pictures."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont

from suffuse_audio import spectrum
from suffuse_audio.sound import Sound

__all__ = ["coloured", "decibels", "sheet", "spectrogram"]

_MARGIN, _CAPTION = 6, 13
_FLOOR = -100.0  # dB of digital silence

# Dark violet to yellow in seven steps of about equal difference in lightness; our own.
_COLOURS = np.array(
    [
        (12, 8, 32),
        (52, 18, 92),
        (104, 28, 120),
        (160, 42, 110),
        (214, 72, 82),
        (246, 132, 56),
        (252, 236, 148),
    ],
    dtype=np.float64,
)


def decibels(sound: Sound, window: float = 0.032, hop: float = 0.008) -> npt.NDArray[np.float32]:
    """Power of the first channel in dB, [F, T], of frames of so many seconds."""
    size = max(2 * round(window * sound.rate / 2), 16)
    x = torch.from_numpy(np.array(sound.samples[0], dtype=np.float32))
    frames = spectrum.stft(x, size, max(round(hop * sound.rate), 1))
    out: npt.NDArray[np.float32] = (
        10 * (frames.abs().square() + 10 ** (_FLOOR / 10)).log10()
    ).numpy()
    return out


def spectrogram(
    sound: Sound, width: int = 256, height: int = 128, span: float = 70.0, top: float | None = None
) -> Image.Image:
    """A spectrogram, time to the right and frequency upwards, straight from 0 to half the rate.

    Args:
        sound: its first channel is drawn.
        width, height: pixels.
        span: dB from black to the brightest colour.
        top: dB of the brightest colour; the sound's loudest where None, but so that silence is
            black.
    """
    power = decibels(sound)
    top = max(float(power.max()) if top is None else top, _FLOOR + span)
    return coloured((power - top) / span + 1, width, height)


def coloured(values: npt.NDArray[np.float32], width: int, height: int) -> Image.Image:
    """Values [F, T] as colours, 0 the darkest and 1 the brightest; the first row lies lowest."""
    grey = Image.fromarray((255 * np.clip(values[::-1], 0, 1)).astype(np.uint8))
    at = np.asarray(grey.resize((width, height), Image.Resampling.BOX)) / 255 * (len(_COLOURS) - 1)
    low = np.minimum(at.astype(int), len(_COLOURS) - 2)
    rest = (at - low)[..., None]
    colours = _COLOURS[low] * (1 - rest) + _COLOURS[low + 1] * rest
    return Image.fromarray(np.rint(colours).astype(np.uint8))


def sheet(
    objects: Sequence[Sound], captions: Sequence[str] | None = None, columns: int = 0
) -> bytes:
    """Spectrograms of all sounds, row by row, on white.

    Args:
        objects: at least one sound.
        captions: a line of text under each.
        columns: pictures a row; 0 makes the sheet about square.
    """
    if not objects:
        raise ValueError("a sheet needs at least one sound")
    if captions is not None and len(captions) != len(objects):
        raise ValueError(f"{len(captions)} captions for {len(objects)} sounds")
    columns = min(columns or math.ceil(math.sqrt(len(objects))), len(objects))
    rows = math.ceil(len(objects) / columns)
    width, height = (160, 96) if len(objects) > 1 else (480, 256)
    step_w, step_h = width + _MARGIN, height + _MARGIN + (_CAPTION if captions else 0)
    page = Image.new("RGB", (columns * step_w + _MARGIN, rows * step_h + _MARGIN), (255, 255, 255))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(_CAPTION - 3)
    for i, sound in enumerate(objects):
        left, top = _MARGIN + (i % columns) * step_w, _MARGIN + (i // columns) * step_h
        page.paste(spectrogram(sound, width, height), (left, top))
        if captions is not None:
            line = " ".join(captions[i].split())
            while line and font.getlength(line) > width:
                line = line[:-1]
            draw.text((left, top + height), line, fill=(0, 0, 0), font=font)
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()
