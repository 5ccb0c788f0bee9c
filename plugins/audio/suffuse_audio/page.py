"""A page to listen to: players before and after, spectrograms, figures. Opens from a file.

The sounds are inside the page, as MP3 where there is a rate for it and they are long, else as WAV.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from markupsafe import Markup
from PIL import Image

from suffuse.report.blocks import Cell, Html
from suffuse.report.page import Page, Section
from suffuse_audio import files
from suffuse_audio.pictures import decibels, spectrogram
from suffuse_audio.sound import Sound

__all__ = ["listen", "pictured", "player", "write_comparison"]

_SECONDS = 20.0
_MP3 = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


def player(sound: Sound, label: str) -> Markup:
    """An audio element with the sound inside; the first 20 s of a longer one."""
    samples = np.ascontiguousarray(sound.samples[:2, : round(_SECONDS * sound.rate)].T)
    file = io.BytesIO()
    if sound.rate in _MP3 and samples.size > 100_000:
        soundfile.write(file, samples, sound.rate, format="MP3", subtype="MPEG_LAYER_III")
        kind = "mpeg"
    else:
        soundfile.write(file, samples, sound.rate, format="WAV", subtype="PCM_16")
        kind = "wav"
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return Markup(
        '<figure style="margin:.4em 0"><figcaption>{}</figcaption>'
        '<audio controls preload="none" style="width:100%" src="data:audio/{};base64,{}">'
        "</audio></figure>"
    ).format(label, kind, data)


def pictured(sound: Sound, top: float | None = None) -> bytes:
    """A spectrogram as PNG; of the first 20 s."""
    part = Sound(sound.samples[:, : round(_SECONDS * sound.rate)], sound.rate)
    file = io.BytesIO()
    spectrogram(part, 480, 160, top=top).save(file, "PNG")
    return file.getvalue()


def listen(section: Section, sounds: Sequence[tuple[str, Sound]]) -> None:
    """Players and spectrograms of sounds side by side, on the scale of the first."""
    for label, sound in sounds:
        section.add(Html(player(sound, label)))
    top = float(decibels(sounds[0][1]).max())
    section.tiles(
        [
            (
                "",
                [
                    Cell(pictured(sound, top), label, f"spectrogram: {label}")
                    for label, sound in sounds
                ],
            )
        ],
        caption=f"Spectrograms, 0 to half the rate, 70 dB below {top:.0f} dB.",
    )


def _band(worker: Any, sound: Sound) -> tuple[bytes, float]:
    """Where draws of the model differ: the deviation of eight in dB, drawn; and its mean."""
    import dataclasses

    draws = [
        decibels(dataclasses.replace(worker, steps=2, seed=seed, strength=1.0)(sound))
        for seed in range(8)
    ]
    spread = np.stack(draws).std(0)
    grey = np.clip(spread[::-1] / 8, 0, 1)
    file = io.BytesIO()
    Image.fromarray((255 * grey).astype(np.uint8)).resize((480, 160)).save(file, "PNG")
    return file.getvalue(), float(spread.mean())


def write_comparison(
    path: Path, title: str, pairs: Sequence[tuple[Path, Path]], worker: Any = None
) -> None:
    """A page of files before and after.

    Args:
        path: of the page.
        title: its title.
        pairs: the file before and the file after.
        worker: an `Enhancer`; with it the page also shows where its draws differ.
    """
    page = Page(title, f"{len(pairs)} sound{'s' if len(pairs) != 1 else ''}, before and after")
    rows = []
    for number, (before, after) in enumerate(pairs, 1):
        a, b = files.read(before), files.read(after)
        section = page.section(before.name, number=number)
        listen(section, [("before", a), ("after", b)])
        if worker is not None:
            part = Sound(a.samples[:, : round(_SECONDS * a.rate)], a.rate)
            band, mean = _band(worker, part)
            section.figure(
                band,
                "where draws of the model differ",
                f"Uncertainty: the deviation of eight draws, black 0 to white 8 dB; {mean:.1f} dB "
                "on average.",
            )
        removed = (
            _decibels(a.samples - b.samples[:, : a.samples.shape[1]])
            if len(a) == len(b)
            else np.nan
        )
        rows.append(
            (before.name, a.seconds, a.rate, _decibels(a.samples), _decibels(b.samples), removed)
        )
    section = page.section("Figures")
    head = ["file", "seconds", "rate, Hz", "before, dBFS", "after, dBFS", "difference, dBFS"]
    section.table(head, rows, "Root mean squares; 0 dBFS is a square wave of full scale.")
    page.write(path)


def _decibels(x: np.ndarray) -> float:
    return float(20 * np.log10(max(float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))), 1e-8)))
