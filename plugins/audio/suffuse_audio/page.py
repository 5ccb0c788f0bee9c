"""A page to listen to: players before and after, spectrograms, figures. Opens from a file.

The sounds are inside the page, as MP3 where there is a rate for it and they are long, else as WAV.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import math
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from markupsafe import Markup

from suffuse.report.blocks import Html
from suffuse.report.page import Page, Section
from suffuse.stats import evenly
from suffuse_audio import files
from suffuse_audio.pictures import coloured, decibels, spectrogram
from suffuse_audio.sound import Sound, resample
from suffuse_audio.streaming import file_blocks
from suffuse_audio.uncertainty import compressed, expected_error

__all__ = ["film", "listen", "pictured", "player", "section", "write_comparison"]

_SECONDS = 20.0
_FILM = 4.0  # seconds of a film
_NARROW = ("PESQ", "STOI", "ESTOI")  # measured at 8 kHz
_SIZE = 780, 200  # pixels of a spectrogram
_MP3 = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


def _cut(sound: Sound, seconds: float) -> Sound:
    """Its first seconds."""
    return Sound(sound.samples[:, : round(seconds * sound.rate)], sound.rate)


def player(sound: Sound, label: str) -> Markup:
    """An audio element with the sound inside; the first 20 s of a longer one."""
    samples = np.ascontiguousarray(_cut(sound, _SECONDS).samples[:2].T)
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
        '<audio controls preload="metadata" style="width:100%" src="data:audio/{};base64,{}">'
        "</audio></figure>"
    ).format(label, kind, data)


def pictured(sound: Sound, top: float | None = None) -> bytes:
    """A spectrogram as PNG; of the first 20 s."""
    file = io.BytesIO()
    spectrogram(_cut(sound, _SECONDS), *_SIZE, top=top).save(file, "PNG")
    return file.getvalue()


def listen(section: Section, sounds: Sequence[tuple[str, Sound]]) -> None:
    """Players of sounds, each above its spectrogram, on the scale of the first."""
    top = float(decibels(_cut(sounds[0][1], _SECONDS)).max())
    for label, sound in sounds:
        section.add(Html(player(sound, label)))
        section.figure(
            pictured(sound, top),
            f"spectrogram: {label}",
            f"{min(sound.seconds, _SECONDS):.1f} s, upwards from 0 to {sound.rate / 2000:g} kHz, "
            f"70 dB from dark to bright.",
        )


def _band(noisy: Sound, made: Sound) -> tuple[bytes, float, float]:
    """The error to be expected, drawn; its mean and top as parts of the loudest bin."""
    found = expected_error(noisy, made) / max(float(compressed(made).max()), 1e-9)
    top = max(float(np.quantile(found, 0.99)), 1e-6)
    file = io.BytesIO()
    coloured(found / top, *_SIZE).save(file, "PNG")
    return file.getvalue(), float(found.mean()), top


def film(sounds: Sequence[Sound], milliseconds: int = 400) -> bytes:
    """Spectrograms of sounds one after the other, an animated PNG on the scale of the last."""
    top = float(decibels(sounds[-1]).max())
    frames = [spectrogram(sound, *_SIZE, top=top) for sound in sounds]
    waits = [milliseconds] * (len(frames) - 1) + [4 * milliseconds]
    file = io.BytesIO()
    frames[0].save(
        file, "PNG", save_all=True, append_images=frames[1:], duration=waits, loop=0, disposal=0
    )
    return file.getvalue()


def section(run: Path, shown: int = 6) -> tuple[str, str] | None:
    """A section of a run's report: held-out and made sounds to listen to, and one being made.

    None for models whose conditions are sounds, which make nothing by themselves.
    """
    import suffuse

    model = suffuse.load(run)
    if any(condition.kind == "state" for condition in model.conditions.values()):
        return None
    test = model.dataset("test")
    held_out = [test[i] for i in evenly(len(test), shown)]
    wanted: dict[str, Any] = {
        name: [e.conditions.get(name) for e in held_out] for name in model.conditions
    }
    made = model.sample(len(held_out), seed=0, **wanted)
    rows = []
    for i, (real, sound) in enumerate(zip(held_out, made, strict=True)):
        said = ", ".join(str(v[i]) for v in wanted.values() if v[i] is not None)
        cells = [
            Markup("<td>{}{}</td>").format(player(k, what), _picture(pictured(k), what))
            for what, k in (("held-out", real.data), ("made", sound))
        ]
        rows.append(Markup("<tr><td>{}</td>{}</tr>").format(said, Markup("").join(cells)))
    states: list[Any] = []
    one = {name: values[:1] for name, values in wanted.items()}
    model.sample(1, seed=0, on_step=lambda step: states.append(step.x.clone()), **one)
    frames = [model.decode(x)[0] for x in states]
    text = Markup(
        "<p>Spectrograms from 0 to half the rate, 70 dB below the loudest.</p>"
        "<table>{}</table><p>The first of them being made, step by step:</p>{}"
    ).format(Markup("").join(rows), _picture(film(frames), "spectrograms of the steps"))
    return "Sounds", str(text)


def _picture(png: bytes, alt: str) -> Markup:
    data = base64.b64encode(png).decode("ascii")
    return Markup('<img src="data:image/png;base64,{}" alt="{}" style="max-width:100%">').format(
        data, alt
    )


def _against(section: Section, reference: Sound, sounds: Sequence[tuple[str, Sound]]) -> None:
    """A table of figures of sounds against what they should be, as far as both go on."""
    from suffuse_audio.speech import FIGURES

    rows: list[list[str | float]] = []
    for label, sound in sounds:
        real = resample(reference.mono, reference.rate, sound.rate)
        n = min(len(sound), len(real))
        row: list[str | float] = [label]
        for name, figure in FIGURES.items():
            rate = 8000 if name in _NARROW else sound.rate
            a, b = (resample(x[:n], sound.rate, rate) for x in (sound.mono, real))
            try:
                value = figure.of(a, b, rate)
            except ImportError:  # the extra `evaluation`
                value = math.nan
            row.append("not measured" if math.isnan(value) else value)
        rows.append(row)
    units = (f"{name}, {figure.unit}" if figure.unit else name for name, figure in FIGURES.items())
    section.table(
        ["", *units],
        rows,
        f"Against the reference, over the first {_SECONDS:g} s; PESQ, STOI and ESTOI at 8 kHz, "
        "where they can be measured: on sounds of half a second and more, with "
        "pip install 'suffuse-audio[evaluation]'.",
    )


def _levels(before: Path, after: Path) -> tuple[int, float, float, float]:
    """The samples before; dBFS before, after, and of the difference, NaN where lengths differ.

    Block by block: of a long file no more is in memory.
    """
    energy, count, same, length = np.zeros(3), np.zeros(2), True, 0
    for a, b in zip_longest(file_blocks(before), file_blocks(after)):
        same = same and a is not None and b is not None and a.shape == b.shape
        parts = [a, b, a - b if same else None]
        energy += [0.0 if k is None else float(np.square(k, dtype=np.float64).sum()) for k in parts]
        count += [0 if k is None else k.size for k in (a, b)]
        length += 0 if a is None else a.shape[1]
    levels = [
        float(10 * np.log10(max(e / max(n, 1), 1e-16)))
        for e, n in zip(energy, (*count, count[0]), strict=True)
    ]
    return length, levels[0], levels[1], levels[2] if same else math.nan


def write_comparison(
    path: Path,
    title: str,
    pairs: Sequence[tuple[Path, Path]],
    worker: Any = None,
    reference: Path | None = None,
) -> None:
    """A page of files before and after; of each the first 20 s, and the loudness of the whole.

    Args:
        path: of the page.
        title: its title.
        pairs: the file before and the file after.
        worker: an `Enhancer`; with it the page also shows where its answer is unsure, and how
            the sound becomes clean.
        reference: what the first sound should be; with it the page has figures of quality.
    """
    page = Page(title, f"{len(pairs)} sound{'s' if len(pairs) != 1 else ''}, before and after")
    rows = []
    for number, (before, after) in enumerate(pairs, 1):
        a, b = files.read(before, seconds=_SECONDS), files.read(after, seconds=_SECONDS)
        section = page.section(f"{before.name} → {after.name}", number=number)
        listen(section, [("before", a), ("after", b)])
        if worker is not None:
            band, mean, top = _band(a, dataclasses.replace(worker, strength=1.0)(a))
            section.figure(
                band,
                "where the answer is unsure",
                f"Where the answer is unsure: the brighter, the more it may be wrong. Errors to be "
                f"expected of the root of the amplitude, from 0 to {100 * top:.1f} % of the "
                f"loudest bin's; {100 * mean:.1f} % on average.",
            )
            begin = _cut(a, _FILM)
            section.figure(
                film(worker.film(begin)),
                "spectrograms from noisy to clean",
                f"The first {begin.seconds:.1f} s on the bridge from noisy to clean, step by step.",
            )
        if number == 1 and reference is not None:
            _against(
                section, files.read(reference, seconds=_SECONDS), [("before", a), ("after", b)]
            )
        length, *levels = _levels(before, after)
        rows.append((before.name, after.name, length / a.rate, a.rate, *levels))
    section = page.section("Figures")
    head = ["before", "after", "seconds", "rate, Hz", "dB before", "dB after", "dB removed"]
    section.table(
        head, rows, "Root mean squares of whole files in dBFS; 0 is a square wave of full scale."
    )
    page.write(path)
