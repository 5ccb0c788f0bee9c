"""Collections of recordings that users bring: archives in the folder that SUFFUSE_DATA names.

* ``audio/fsdd_8k_flac.zip``: the Free Spoken Digit Dataset, `{digit}_{speaker}_{index}.flac`,
  8 kHz (CC BY-SA 4.0, Jakobovski/free-spoken-digit-dataset).
* ``audio/esc10_22k_ogg.zip``: ESC-10, environmental sounds, `{class}/{fold}-....ogg`, 22.05 kHz
  (CC BY 3.0, K. J. Piczak, karoldvl/ESC-10).
"""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from suffuse.errors import SuffuseError
from suffuse_audio.sound import Floats, resample

__all__ = ["DIGITS", "NAMES", "NOISES", "Recording", "available", "digits", "noises"]

DIGITS = "audio/fsdd_8k_flac.zip"
NOISES = "audio/esc10_22k_ogg.zip"

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True, eq=False)
class Recording:
    """One clip.

    Attributes:
        samples: [n], at the rate that was asked for.
        label: the digit, or the kind of sound.
        group: the speaker, or the fold.
        index: its number within these; 0 where there is none.
    """

    samples: Floats
    label: str
    group: str
    index: int = 0


def _path(name: str) -> Path:
    folder = os.environ.get("SUFFUSE_DATA")
    if not folder:
        raise SuffuseError(
            f"this needs {name}: set the environment variable SUFFUSE_DATA to the folder that "
            "holds it"
        )
    path = Path(folder) / name
    if not path.is_file():
        raise SuffuseError(f"there is no file {name} in the folder of SUFFUSE_DATA, {folder!r}")
    return path


def available(name: str) -> bool:
    """Whether an archive is there."""
    try:
        _path(name)
    except SuffuseError:
        return False
    return True


def digits(rate: int = 8000) -> tuple[Recording, ...]:
    """The spoken digits, brought to a rate in Hz, sorted by name. Read once a process."""
    return _digits(_path(DIGITS), rate)


def noises(rate: int = 8000) -> tuple[Recording, ...]:
    """The environmental sounds, brought to a rate in Hz, sorted by name. Read once a process."""
    return _noises(_path(NOISES), rate)


@lru_cache(maxsize=2)
def _digits(path: Path, rate: int) -> tuple[Recording, ...]:
    found = []
    for name, samples in _read(path, ".flac", rate):
        digit, speaker, index = PurePosixPath(name).stem.split("_")
        found.append(Recording(samples, NAMES[int(digit)], speaker, int(index)))
    return tuple(found)


@lru_cache(maxsize=2)
def _noises(path: Path, rate: int) -> tuple[Recording, ...]:
    found = []
    for name, samples in _read(path, ".ogg", rate):
        where = PurePosixPath(name)
        found.append(Recording(samples, where.parent.name, where.name[0]))
    return tuple(found)


def _read(path: Path, suffix: str, to: int) -> list[tuple[str, Floats]]:
    import soundfile

    found = []
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(n for n in archive.namelist() if n.endswith(suffix)):
                samples, rate = soundfile.read(io.BytesIO(archive.read(name)), dtype="float32")
                found.append((name, resample(samples, rate, to)))
    except (OSError, zipfile.BadZipFile, soundfile.LibsndfileError) as error:
        raise SuffuseError(f"cannot read {path}: {error}") from error
    return found
