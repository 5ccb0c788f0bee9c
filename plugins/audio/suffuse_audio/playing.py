"""Scores and sentences: sounds of a model put one after the other.

A score is a Standard MIDI File, or text: notes with their lengths in beats, "C4:1 E4:1 G4:2 -:1",
where "-" is a rest and a note without a length lasts one beat.
"""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suffuse.errors import SuffuseError, unknown
from suffuse_audio import synthesis
from suffuse_audio.corpora import NAMES
from suffuse_audio.sound import Floats, Sound

__all__ = ["Note", "joined", "melody", "midi_file", "play", "say", "score", "trimmed", "words"]

logger = logging.getLogger("suffuse_audio")


@dataclass(frozen=True)
class Note:
    """A note of a score: when it begins and how long it lasts, in seconds; its MIDI number."""

    start: float
    seconds: float
    number: int


def score(text: str, beats_per_minute: float = 120.0) -> list[Note]:
    """The notes of a score in text.

    >>> [(n.start, n.seconds, n.number) for n in score("A4 -:2 C5:0.5", 60)]
    [(0.0, 1.0, 69), (3.0, 0.5, 72)]

    Raises:
        SuffuseError: for what is no note, a length that is not above 0, or no notes.
    """
    if not beats_per_minute > 0:
        raise SuffuseError(f"a tempo is above 0 beats a minute, and {beats_per_minute:g} is not")
    at, out = 0.0, []
    for item in re.split(r"[\s,]+", text.strip()):
        pitch, colon, beats = item.partition(":")
        try:
            length = (float(beats) if colon else 1.0) * 60 / beats_per_minute
        except ValueError:
            length = 0.0
        if not 0 < length < 600:
            raise SuffuseError(
                f"a note is written like C4:0.5, its length in beats; given {item!r}"
            )
        if pitch != "-":
            out.append(Note(at, length, synthesis.midi(pitch)))
        at += length
    if not out:
        raise SuffuseError("the score has no notes")
    return out


def midi_file(path: Path) -> list[Note]:
    """The notes of a Standard MIDI File, all tracks and channels together, drums left out.

    Raises:
        SuffuseError: naming the file, where it is no such file or holds no notes.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SuffuseError(f"cannot read {path}: {error.strerror}") from None
    if data[:4] != b"MThd" or len(data) < 14:
        raise SuffuseError(f"{path} is no MIDI file")
    division = struct.unpack(">H", data[12:14])[0]
    if division & 0x8000 or not division:
        raise SuffuseError(f"{path} counts time in frames, not in beats, which is not supported")
    events: list[tuple[int, int, int, int]] = []  # tick, order, kind and value
    at = 8 + struct.unpack(">I", data[4:8])[0]
    try:
        while at + 8 <= len(data):
            name, size = data[at : at + 4], struct.unpack(">I", data[at + 4 : at + 8])[0]
            if name == b"MTrk":
                events += _track(data[at + 8 : at + 8 + size])
            at += 8 + size
    except (IndexError, struct.error):
        raise SuffuseError(f"{path} is damaged: it ends too early") from None
    out, sounding = [], {}
    tempo, now, seconds = 500_000, 0, 0.0
    for tick, kind, channel, value in sorted(events):
        seconds += (tick - now) * tempo / division / 1e6
        now = tick
        if kind == 2:
            tempo = value
        else:
            begun = sounding.pop((channel, value), None)
            if begun is not None and seconds > begun:
                out.append(Note(begun, seconds - begun, value))
            if kind == 1:
                sounding[channel, value] = seconds
    if not out:
        raise SuffuseError(f"{path} holds no notes")
    return sorted(out, key=lambda note: (note.start, note.number))


def melody(text: str, beats_per_minute: float = 120.0) -> list[Note]:
    """The notes of a MIDI file, named by its path, or of a score in text."""
    path = Path(text)
    if path.suffix.lower() in (".mid", ".midi"):
        return midi_file(path)
    return score(text, beats_per_minute)


def _track(data: bytes) -> list[tuple[int, int, int, int]]:
    """Events (tick, kind, channel, value): kind 0 ends a note, 1 begins one, 2 is a tempo."""
    at = tick = status = 0
    out = []

    def number() -> int:
        nonlocal at
        value = 0
        while True:
            byte = data[at]
            at += 1
            value = value << 7 | byte & 127
            if byte < 128:
                return value

    while at < len(data):
        tick += number()
        if data[at] & 128:
            status = data[at]
            at += 1
        if status == 0xFF:
            kind = data[at]
            at += 1
            size = number()
            if kind == 0x51 and size == 3:
                out.append((tick, 2, 0, int.from_bytes(data[at : at + 3], "big")))
            at += size
        elif status in (0xF0, 0xF7):
            at += number()
        else:
            channel, high = status & 15, status >> 4
            if high in (8, 9) and channel != 9:
                on = high == 9 and data[at + 1] > 0
                out.append((tick, int(on), channel, data[at]))
            at += 1 if high in (12, 13) else 2
    return out


def play(model: Any, notes: list[Note], *, seed: int = 0, **conditions: Any) -> Sound:
    """A score by a model of notes; each note is cut to its length, with a short release.

    A note that is to last longer than the model's sounds ends with them, and a warning of the
    logger "suffuse_audio" says so.

    Raises:
        SuffuseError: for notes outside what the model knows.
    """
    known = model.conditions["pitch"].names if "pitch" in model.conditions else None
    if known is None:
        raise SuffuseError("a melody needs a model of notes, with the condition 'pitch'")
    pitches = [synthesis.name(note.number) for note in notes]
    strange = sorted(set(pitches) - set(known), key=pitches.index)
    if strange:
        raise SuffuseError(
            f"the model knows the notes from {known[0]} to {known[-1]}, and the score has "
            f"{', '.join(strange[:5])}; transpose it"
        )
    made = model.sample(len(notes), seed=seed, pitch=pitches, **conditions)
    rate, longest = made[0].rate, made[0].seconds
    held = sum(note.seconds > longest + 0.05 for note in notes)
    if held:
        logger.warning(
            "%d of %d notes are to last longer than the %g s that the model makes, and end there",
            *(held, len(notes), longest),
        )
    end = max(note.start + min(note.seconds, longest) for note in notes)
    out = np.zeros(round((end + 0.05) * rate) + 1, dtype=np.float32)
    for note, sound in zip(notes, made, strict=True):
        x = _released(sound.mono, round(note.seconds * rate), round(0.03 * rate))
        at = round(note.start * rate)
        x = x[: len(out) - at]
        out[at : at + len(x)] += x
    return Sound(out / max(float(np.abs(out).max()), 1.0), rate)


def _released(x: Floats, n: int, fade: int) -> Floats:
    x = x[: n + fade].copy()
    if len(x) > n:
        x[n:] *= np.linspace(1, 0, len(x) - n, dtype=np.float32)
    return x


def words(text: str, known: Sequence[str] = NAMES) -> list[str]:
    """The words of a text that a model knows; figures are words of their own.

    >>> words("Seven, 31")
    ['seven', 'three', 'one']

    Raises:
        SuffuseError: for no words, or an unknown one.
    """
    out = []
    for word in re.findall(r"[^\W\d_]+|\d", text.lower()):
        said = NAMES[int(word)] if word.isdigit() else word
        if said not in known:
            raise unknown("word of this model", word, known)
        out.append(said)
    if not out:
        example = "seven three one" if known == NAMES else " ".join(known[:3])
        raise SuffuseError(f"there is no word in {text!r}: give for instance {example!r}")
    return out


def say(model: Any, text: str, *, seed: int = 0, pause: float = 0.06, **conditions: Any) -> Sound:
    """Words one after the other by a model of digits or of words."""
    part = next((name for name in ("digit", "word") if name in model.conditions), None)
    if part is None:
        raise SuffuseError("speech needs a model of it, with the condition 'digit' or 'word'")
    parts = words(text, model.conditions[part].names)
    made = model.sample(len(parts), seed=seed, **{part: parts}, **conditions)
    return joined(made, pause)


def joined(sounds: Sequence[Sound], pause: float = 0.06) -> Sound:
    """Sounds of one rate one after the other, without their silence, with pauses in seconds."""
    rate = sounds[0].rate
    gap = np.zeros(round(pause * rate), dtype=np.float32)
    parts = [part for sound in sounds for part in (trimmed(sound), gap)]
    return Sound(np.concatenate(parts), rate)


def trimmed(sound: Sound) -> Floats:
    """Without the silence at both ends: frames 35 dB below the loudest."""
    x, n = sound.mono, max(sound.rate // 100, 1)
    frames = x[: len(x) // n * n].reshape(-1, n)
    power = (frames**2).mean(1)
    loud = np.flatnonzero(power > power.max() * 10**-3.5)
    if not len(loud):
        return x
    return x[max(loud[0] - 1, 0) * n : (loud[-1] + 2) * n]
