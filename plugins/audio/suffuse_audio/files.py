"""Sound files that say how they were made, and sheets of spectrograms.

The metadata is one JSON object in the file's comment: for WAV in a LIST/INFO/ICMT chunk, which
players ignore or show, for FLAC and Ogg in a Vorbis comment. The others hold none.
"""

from __future__ import annotations

import io
import json
import logging
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from suffuse.errors import SuffuseError
from suffuse.storage import replacing, write_bytes
from suffuse_audio.sound import Sound

__all__ = [
    "SUFFIXES",
    "Files",
    "Form",
    "form_for",
    "opened",
    "read",
    "read_with_form",
    "tell_short",
    "why",
    "write",
    "writing",
]

logger = logging.getLogger("suffuse_audio")

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".opus")

_FORMATS = {
    ".wav": "WAV",
    ".flac": "FLAC",
    ".ogg": "OGG",
    ".mp3": "MP3",
    ".aiff": "AIFF",
    ".aif": "AIFF",
    ".opus": "OGG",
}
_RATES = {".opus": (8000, 12000, 16000, 24000, 48000)}
_OWN = {".ogg": "VORBIS", ".mp3": "MPEG_LAYER_III", ".opus": "OPUS"}
_PLAIN = ("PCM_16", "PCM_24", "PCM_32", "PCM_U8", "PCM_S8", "FLOAT", "DOUBLE")


@dataclass(frozen=True)
class Form:
    """How a file holds its samples: names of libsndfile's, for instance WAV and PCM_16."""

    format: str = "WAV"
    subtype: str = "PCM_16"


def why(error: Exception) -> str:
    """What an error of libsndfile says, in short."""
    text = str(error)
    return text.split(": ", 1)[-1].rstrip(".") or type(error).__name__


def opened(path: Path) -> Any:
    """A file open for reading, a `soundfile.SoundFile`.

    Raises:
        SuffuseError: naming the file, where it is missing, no sound, or empty.
    """
    path = Path(path)
    if path.is_dir():
        raise SuffuseError(f"{path} is a folder, and one sound file is needed here")
    if not path.is_file():
        raise SuffuseError(f"there is no file {path}")
    if not path.stat().st_size:
        raise SuffuseError(f"{path} is empty")
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError, RuntimeError, OSError) as error:
        said = why(error)
        if "not a regular file" in said:  # what libsndfile says of an MP3 without a whole frame
            said = "no sound was found in it"
        raise SuffuseError(
            f"{path} is no sound that can be read ({said}); known are {', '.join(SUFFIXES)}"
        ) from None
    return file


def tell_short(path: Path, read: int, stated: int, rate: int) -> None:
    """Warn where a file holds fewer samples than its header says: it was cut off."""
    if read < stated:
        logger.warning(
            "%s ends too early: %.2f of %.2f s could be read", path, read / rate, stated / rate
        )


def read_with_form(
    path: Path, start: float = 0.0, seconds: float | None = None
) -> tuple[Sound, Form]:
    """A sound, or a part of it, and how its file holds it; see `read`."""
    with opened(path) as file:
        rate = file.samplerate
        try:
            if start:
                file.seek(round(start * rate))
            count = -1 if seconds is None else round(seconds * rate)
            samples = file.read(count, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise SuffuseError(f"{path} is damaged: {why(error)}") from None
        sound = Sound(np.ascontiguousarray(samples.T), rate)
        if seconds is None:
            tell_short(path, round(start * rate) + len(sound), file.frames, rate)
        form = Form(file.format, file.subtype)
    if not len(sound):
        raise SuffuseError(f"{path} holds no samples: its length is zero")
    if not np.isfinite(sound.samples).all():
        raise SuffuseError(f"{path} holds samples that are no finite numbers (NaN or infinity)")
    return sound, form


def read(path: Path, start: float = 0.0, seconds: float | None = None) -> Sound:
    """The sound in a file.

    Args:
        path: of the file.
        start: where it begins, in seconds.
        seconds: how much of it is read; all where None.

    Raises:
        SuffuseError: naming the file, where it cannot be read, holds no samples, or such as are
            not finite.
    """
    return read_with_form(path, start, seconds)[0]


def form_for(path: Path, source: Form | None = None) -> Form:
    """The form to write a file in: by its suffix, keeping the subtype of the source if it can.

    Raises:
        SuffuseError: for an unknown suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise SuffuseError(f"cannot write {path}: sounds are written as {', '.join(SUFFIXES)}")
    kind = _FORMATS[suffix]
    if suffix in _OWN:
        return Form(kind, _OWN[suffix])
    if source is not None and source.format == kind:
        return source
    wanted = source.subtype if source is not None and source.subtype in _PLAIN else "PCM_16"
    return Form(kind, wanted if soundfile.check_format(kind, wanted) else "PCM_24")


def checked_rate(path: Path, rate: int) -> None:
    """Refuse a rate that the format of a file does not have."""
    allowed = _RATES.get(Path(path).suffix.lower())
    if allowed and rate not in allowed:
        raise SuffuseError(
            f"cannot write {path}: Opus has the rates {', '.join(map(str, allowed))} Hz, and the "
            f"sound has {rate}"
        )


def write(
    path: Path, sound: Sound, form: Form | None = None, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a sound, atomically. Samples beyond full scale are clipped where numbers are whole."""
    path = Path(path)
    form = form or form_for(path)
    checked_rate(path, sound.rate)
    file = io.BytesIO()
    try:
        with soundfile.SoundFile(
            file, "w", sound.rate, sound.channels, form.subtype, format=form.format
        ) as out:
            if metadata and form.format in ("FLAC", "OGG"):
                out.comment = json.dumps(dict(metadata))
            out.write(np.ascontiguousarray(sound.samples.T))
    except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
        raise SuffuseError(f"cannot write {path}: {why(error)}") from None
    data = file.getvalue()
    if metadata and form.format == "WAV":
        data = _with_comment(data, json.dumps(dict(metadata)).encode("ascii"))
    write_bytes(path, data)


def _with_comment(wav: bytes, text: bytes) -> bytes:
    """A WAV file with a LIST/INFO/ICMT chunk at its end."""
    text += b"\0" * (2 - len(text) % 2)
    body = b"INFO" + b"ICMT" + struct.pack("<I", len(text)) + text
    wav += b"\0" * (len(wav) % 2) + b"LIST" + struct.pack("<I", len(body)) + body
    return wav[:4] + struct.pack("<I", len(wav) - 8) + wav[8:]


def _comments(path: Path) -> Iterator[str]:
    with opened(path) as file:
        kind, comment = file.format, getattr(file, "comment", "")
    if kind != "WAV":
        yield comment
        return
    data = path.read_bytes()
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], struct.unpack("<I", data[at + 4 : at + 8])[0]
        if name == b"LIST" and data[at + 8 : at + 16] == b"INFOICMT":
            yield data[at + 20 : at + 8 + size].rstrip(b"\0").decode("utf-8", "replace")
        at += 8 + size + size % 2


class Files:
    """Renderer of sounds: 16-bit WAV by default, FLAC, Ogg, MP3, AIFF and Opus by suffix."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        return SUFFIXES

    def write(self, data: Sound, path: Path, metadata: Mapping[str, str]) -> None:
        """Write a sound, atomically, with `metadata` inside where the format holds text.

        Raises:
            SuffuseError: for an unknown suffix, or a rate that the format does not have.
        """
        write(Path(path), data, metadata=metadata)

    def read(self, path: Path) -> Sound:
        """The sound in a file.

        Raises:
            SuffuseError: naming the file, where it cannot be read.
        """
        return read(Path(path))

    def metadata(self, path: Path) -> Mapping[str, str]:
        """The text entries of a file; empty where there are none."""
        for comment in _comments(Path(path)):
            try:
                entries = json.loads(comment)
            except ValueError:  # someone else's comment
                continue
            if isinstance(entries, dict):
                return {key: text for key, text in entries.items() if isinstance(text, str)}
        return {}

    def compose(self, model: Any, names: Iterable[str]) -> Any:
        """What says sentences ("text") by a model of digits, and plays a "melody" by one of notes;
        the model itself where neither is among the names."""
        from suffuse_audio.composing import composed

        return composed(model, names)

    def sheet(
        self, objects: Sequence[Sound], captions: Sequence[str] | None = None, columns: int = 0
    ) -> bytes:
        """Spectrograms of all sounds on one PNG, row by row."""
        from suffuse_audio.pictures import sheet

        return sheet(objects, captions, columns)

    def players(self, objects: Sequence[Sound], captions: Sequence[str]) -> str:
        """HTML with a player for each sound, below its caption; of longer ones the first 20 s."""
        from suffuse_audio.page import player

        return "".join(map(player, objects, captions))


@contextmanager
def writing(path: Path, rate: int, channels: int, form: Form) -> Iterator[Callable[[Any], None]]:
    """A file that is written in parts [C, n], and is there when all of them are.

    Raises:
        SuffuseError: where the file cannot be written.
    """

    def told(work: Callable[..., Any], *given: Any, **named: Any) -> Any:
        try:
            return work(*given, **named)
        except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
            raise SuffuseError(f"cannot write {path}: {why(error)}") from None

    with replacing(path) as temporary:
        form_of = {"subtype": form.subtype, "format": form.format}
        with told(soundfile.SoundFile, temporary, "w", rate, channels, **form_of) as out:
            yield lambda part: told(out.write, np.ascontiguousarray(part.T))
