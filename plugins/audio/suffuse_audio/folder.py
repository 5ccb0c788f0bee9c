"""A folder of sounds: subfolders are labels.

A sound belongs to the test split if the SHA-256 digest of its name, as a fraction, is below
`test_fraction`, so that adding sounds moves no other; each split of two sounds or more gets at
least one. Files are read through when the data set is made, so that a damaged one stops no training
later, and kept nowhere. A long file is several examples, which begin at different places in it.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Example, Split
from suffuse_audio.files import SUFFIXES, opened, read
from suffuse_audio.streaming import file_blocks

__all__ = ["Folder", "fraction", "readable", "sounds_in"]

logger = logging.getLogger("suffuse_audio")

_ONE_CLASS = "sound"
_LONGEST = 60.0  # seconds of an example, at most


def sounds_in(folder: Path) -> list[Path]:
    """The sound files below a folder, by their suffix, sorted; hidden ones are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def fraction(name: str) -> float:
    """A number in [0, 1) that follows from a name alone: its SHA-256 digest."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def readable(folder: Path, tell: bool = True) -> list[Path]:
    """The sounds below a folder that can be read to their end and are not empty, sorted.

    Args:
        folder: its path.
        tell: name those that were left out in a warning of "suffuse_audio".

    Raises:
        SuffuseError: where it is no folder, or holds no readable sound.
    """
    folder = folder.expanduser()
    if not folder.is_dir():
        raise SuffuseError(f"there is no folder {folder}")
    found, skipped = [], []
    for path in sounds_in(folder):
        try:
            _length(path)
        except SuffuseError as error:
            skipped.append(str(error))
        else:
            found.append(path)
    if skipped and tell:
        named = "\n".join(f"  {why}" for why in skipped[:20])
        logger.warning("left out %d files of %s:\n%s", len(skipped), folder, named)
    if not found:
        raise SuffuseError(f"there is no readable sound in {folder}")
    return found


def _length(path: Path) -> float:
    """How many seconds of a file can be read.

    Raises:
        SuffuseError: where it cannot be trained on.
    """
    told = path.stat()
    seconds, why = _looked_at(path, told.st_size, told.st_mtime_ns)
    if why:
        raise SuffuseError(why)
    return seconds


@lru_cache(maxsize=100_000)
def _looked_at(path: Path, size: int, changed: int) -> tuple[float, str]:
    """The seconds of a file, and what is wrong with it; one as it was is read once a process."""
    try:
        with opened(path) as file:
            rate = file.samplerate
        count = sum(part.shape[1] for part in file_blocks(path))
    except SuffuseError as error:
        return 0.0, str(error)
    return count / rate, "" if count else f"{path} holds no samples: its length is zero"


class Folder:
    """One split of the sounds in a folder, sorted by name.

    A file is an example for each `every` seconds of it. They begin at even distances, the last
    `every` seconds before the end, and go on to the end or for a minute: the encoder takes of each
    what it is long. Files that cannot be read are left out, and named once in a warning of
    "suffuse_audio".

    Args:
        split: "train" or "test".
        path: the folder.
        test_fraction: share of the files in the test split, in [0, 1).
        every: seconds of a file for each example; about as long as those of the encoder.

    Raises:
        SuffuseError: if no path is given, it is no folder, or holds no readable sound.
    """

    licence = "not stated"
    source = "a folder of sounds"

    def __init__(
        self,
        split: Split = "train",
        path: str | None = None,
        test_fraction: float = 0.1,
        every: float = 2.0,
    ) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"split is 'train' or 'test', not {split!r}")
        if not path:
            raise SuffuseError(
                "audio/folder needs a folder of sounds: give it with --data DIR "
                "(or --set dataset.path=DIR)"
            )
        if not 0 <= test_fraction < 1:
            raise SuffuseError(f"test_fraction is at least 0 and below 1, not {test_fraction:g}")
        if not every > 0:
            raise SuffuseError(f"every is above 0 seconds, not {every:g}")
        self.root = Path(path).expanduser()
        names = [
            file.relative_to(self.root).as_posix()
            for file in readable(self.root, tell=split == "train")
        ]
        found = [(fraction(name), name) for name in names]
        ranked = sorted(found)
        inside = max(sum(u < test_fraction for u, _ in ranked), 1 if test_fraction else 0)
        inside = min(inside, len(ranked) - 1)
        chosen = ranked[:inside] if split == "test" else ranked[inside:]
        self.parts = [
            (name, start)
            for name in sorted(name for _, name in chosen)
            for start in _starts(_length(self.root / name), every)
        ]
        labels = sorted({name.split("/")[0] for _, name in found if "/" in name})
        self._labels = tuple(labels) or (_ONE_CLASS,)

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return {"label": Condition("category", self._labels)}

    def __len__(self) -> int:
        return len(self.parts)

    def name(self, index: int) -> str:
        """The file of an example, and where in it the example begins unless at 0."""
        name, start = self.parts[index]
        return f"{name} from {start:.2f} s" if start else name

    def __getitem__(self, index: int) -> Example:
        name, start = self.parts[index]
        label = name.split("/")[0] if "/" in name else None
        if self._labels == (_ONE_CLASS,):
            label = _ONE_CLASS
        return Example(read(self.root / name, start, _LONGEST), {"label": label})


def _starts(seconds: float, every: float) -> list[float]:
    """Where the examples of a file begin, in seconds; a tenth of `every` is not worth another."""
    count = max(math.ceil(seconds / every - 0.1), 1)
    return [k * max(seconds - every, 0.0) / max(count - 1, 1) for k in range(count)]
