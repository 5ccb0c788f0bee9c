"""A folder of clips: video files, GIFs, and folders of frames.

    clips/a.mp4                      without labels
    clips/walk/a.mp4  clips/run/b.gif   subfolders are labels
    clips/a/0001.png, 0002.png, ...  a folder of pictures is one clip, at 12 frames a second
    clips/a.txt                      what a.mp4, or the folder a, shows: a caption

Each file is cut into clips of so many frames at an even rate; what is read is one clip at a time. A
file's last clip may be shorter, where that is asked for.
The test split is of whole files: those whose name's SHA-256 digest, as a fraction, is below
`test_fraction`, and at least one file if there are two.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Example, Split

from .clip import Clip, fitted, shrunk
from .reading import VIDEOS, holds_frames, length, shown, stream
from .splits import checked, fraction

__all__ = ["Folder"]

logger = logging.getLogger("suffuse_video")

_ONE_KIND = "clip"
"""The label where there are no subfolders."""


@dataclass(frozen=True)
class _File:
    """A file or a folder of frames.

    Attributes:
        path, name: name is relative to the folder.
        label: the subfolder it lies in, if any.
        caption: what the text file beside it says, if there is one.
        seconds: from its first frame to its last.
    """

    path: Path
    name: str
    label: str | None
    seconds: float
    caption: str | None


class Folder:
    """One split of a folder of clips.

    Files that cannot be read, and those without a clip of `least` frames, are left out, counted,
    and named in a warning of the logger "suffuse_video". One that turns out damaged later gives way
    to the next.

    Args:
        split: "train" or "test".
        path: the folder.
        frames: of a clip, at most.
        least: frames of a file's last clip, at least; `frames` where 0 or more than that.
        fps: frames per second; files of other and of uneven rates are resampled.
        stride: frames from the start of a clip to that of the next; `frames` where 0.
        side: frames are shrunk to at most so many pixels on their longer side.
        test_fraction: the share of the files in the test split, in [0, 1).

    Raises:
        SuffuseError: for a folder that is missing or without a clip that is long enough.
    """

    def __init__(
        self,
        split: Split = "train",
        path: str | None = None,
        frames: int = 16,
        least: int = 0,
        fps: float = 8.0,
        stride: int = 0,
        side: int = 128,
        test_fraction: float = 0.1,
    ) -> None:
        if not path:
            raise SuffuseError("video/folder needs a folder: --data DIR, or dataset.path=DIR")
        whole = frames >= 1 and min(least, stride) >= 0 and side >= 1
        if not (whole and fps > 0 and 0 <= test_fraction < 1):
            raise SuffuseError(
                "a clip has 1 frame or more at a rate above 0, least and stride are 0 or more, a "
                "side 1 or more, and test_fraction at least 0 and below 1; given "
                f"{frames}, {fps}, {least}, {stride}, {side} and {test_fraction}"
            )
        root = Path(path)
        if not root.is_dir():
            raise SuffuseError(f"there is no folder {str(root)!r}")
        self.split, self.fps, self.side = checked(split), fps, side
        least = min(least or frames, frames)
        # A clip of one frame is as long as that frame is shown: nothing.
        files = _scan(root.resolve(), (least - 1) / fps)
        # Without subfolders all clips are of one kind, so that recipes with labels serve them too.
        self.names = tuple(sorted({f.label for f in files if f.label is not None})) or (_ONE_KIND,)
        self.captioned = any(file.caption for file in files)
        held_out = _held_out(files, test_fraction)
        self._clips: list[tuple[_File, float, int]] = []
        for file in files:
            if (file.name in held_out) == (split == "test"):
                total = max(least, int(file.seconds * fps + 0.1) + 1)
                for start, count in _cut(total, frames, least, stride or frames):
                    self._clips.append((file, start / fps, count))

    @property
    def conditions(self) -> Mapping[str, Condition]:
        found = {"label": Condition("category", self.names)}
        return {**found, "prompt": Condition("text")} if self.captioned else found

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Example:
        """Clip `index`; where its file is damaged there, the next that can be read.

        Raises:
            SuffuseError: where none can be read.
        """
        n = len(self._clips)
        if not -n <= index < n:
            raise IndexError(index)
        problem: SuffuseError | None = None
        for k in range(n):
            file, start, frames = self._clips[(index + k) % n]
            try:
                clip = self._read(file.path, start, frames)
            except SuffuseError as error:
                problem = problem or error
                continue
            if problem is not None:
                logger.warning("%s; another clip stands in for it", problem)
            label = _ONE_KIND if self.names == (_ONE_KIND,) else file.label
            told = {"label": label, "prompt": file.caption}
            return Example(clip, {k: v for k, v in told.items() if v is not None})
        assert problem is not None
        raise problem

    def _read(self, path: Path, start: float, count: int) -> Clip:
        end = start + (count - 1) / self.fps
        moments: list[float] = []
        frames = []
        for moment, frame in stream(path, start):
            if moment <= start:  # the last one before the start is what is shown then
                moments.clear()
                frames.clear()
            moments.append(moment)
            frames.append(shrunk(frame, self.side))
            if moment > end:
                break
        if not moments or moments[-1] < end - 1.5 / self.fps:
            raise SuffuseError(f"{path} ends before {end:.2f} s, although it says otherwise")
        chosen = shown(moments, self.fps, count, start)
        first = frames[chosen[0]].shape
        return Clip(np.stack([fitted(frames[i][None], *first[:2])[0] for i in chosen]), self.fps)


def _cut(total: int, frames: int, least: int, stride: int) -> list[tuple[int, int]]:
    """Where clips begin in a file of so many frames, and how many each has.

    >>> _cut(total=20, frames=8, least=4, stride=8), _cut(20, 8, 8, 6), _cut(19, 8, 4, 8)
    ([(0, 8), (8, 8), (16, 4)], [(0, 8), (6, 8), (12, 8)], [(0, 8), (8, 8)])
    """
    found: list[tuple[int, int]] = []
    for start in range(0, total - least + 1, stride):
        found.append((start, min(frames, total - start)))
        if start + frames >= total:  # what comes after it is a part of it
            break
    return found


def _held_out(files: tuple[_File, ...], test_fraction: float) -> set[str]:
    ranked = sorted((file.name for file in files), key=fraction)
    chosen = {name for name in ranked if fraction(name) < test_fraction}
    if test_fraction and len(ranked) > 1:
        chosen = (chosen or {ranked[0]}) - {ranked[-1]}
    elif len(ranked) == 1:
        chosen = set()
    return chosen


@lru_cache(maxsize=8)
def _scan(root: Path, seconds: float) -> tuple[_File, ...]:
    """The files that hold a clip of so many seconds, in the order of their names."""
    found: list[_File] = []
    faults: list[str] = []
    for path, label in _candidates(root):
        name = path.relative_to(root).as_posix()
        try:
            lasts, count = length(path)
        except SuffuseError as error:
            faults.append(str(error))
            continue
        if lasts < seconds * 0.999 or (seconds and count < 2):
            faults.append(
                f"{path} has {count} frame{'s' * (count != 1)} in {lasts:.2f} s, and a clip lasts "
                f"{seconds:.2f} s"
            )
            continue
        found.append(_File(path, name, label, lasts, _caption(path)))
    if not found:
        why = f": {faults[0]}" if faults else f" with one of {', '.join(sorted(VIDEOS))}"
        more = f" (and {len(faults) - 1} more files)" if len(faults) > 1 else ""
        raise SuffuseError(f"there is no clip that is long enough in {str(root)!r}{why}{more}")
    if faults:
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        logger.warning(
            "%d of %d files in %s are left out: %s%s",
            *(len(faults), len(faults) + len(found), root, "; ".join(faults[:5]), more),
        )
    return tuple(found)


def _caption(path: Path) -> str | None:
    """What the text file beside a clip says, on one line.

    Raises:
        SuffuseError: where it is no UTF-8.
    """
    beside = path.parent / f"{path.name if path.is_dir() else path.stem}.txt"
    if not beside.is_file():
        return None
    try:
        return " ".join(beside.read_text(encoding="utf-8").split()) or None
    except (OSError, UnicodeDecodeError) as error:
        raise SuffuseError(f"cannot read the caption {beside}: {error}") from None


def _candidates(root: Path) -> Iterator[tuple[Path, str | None]]:
    """Files and folders of frames, with the subfolder that they lie in as their label."""
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if any(part.startswith(".") for part in parts):
            continue
        label = parts[0] if len(parts) > 1 else None
        film = path.is_file() and path.suffix.lower() in VIDEOS
        if film or holds_frames(path):
            yield path, label
