"""A folder of pictures, by the imagefolder convention.

One of these layouts; all take a further level, ``train/`` and ``test/`` (or ``validation/``,
``valid/``, ``val/``), for an official split:

    pictures/a.png                  without labels
    pictures/cat/a.png              subfolders are classes
    pictures/metadata.csv           columns file_name and label and/or text (or caption)
    pictures/metadata.jsonl         the same, one JSON object a line

Every picture has the condition "label"; where a folder labels nothing, that is its one class,
"picture", so that the same recipe serves both. Captions are the condition "text".

Without an official split, a picture belongs to the test split if the SHA-256 digest of its name
relative to the folder, as a fraction, is below `test_fraction`, so that adding pictures moves no
other (but for a folder so small that the test split would else be empty).
Pictures are found and checked when the data set is made, and decoded only when asked for.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Example, Split

from .reading import SUFFIXES, fault, read

__all__ = ["Folder"]

logger = logging.getLogger("suffuse_image")

_TEST_FOLDERS = ("test", "validation", "valid", "val")
_METADATA = ("metadata.csv", "metadata.jsonl")
_TEXT_COLUMNS = ("text", "caption")
_ONE_CLASS = "picture"
_NAMED = 20  # so many unreadable files are named in the warning


@dataclass(frozen=True)
class _Picture:
    name: str
    """Relative to the folder, with forward slashes."""
    split: Split
    label: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class _Listing:
    pictures: tuple[_Picture, ...]
    skipped: Mapping[str, str]


class Folder:
    """One split of the pictures in a folder, sorted by name.

    Files that are no readable pictures (damaged, empty, text, decompression bombs) are left out,
    counted, and named once in a warning of the logger "suffuse_image". One that turns out damaged
    when it is decoded is named likewise, and the next readable picture stands in for it, so that a
    run of hours does not end at one file.

    Args:
        split: "train" or "test".
        path: the folder.
        test_fraction: share of the pictures in the test split, in [0, 1), where the folder has no
            official split. Above 0, each split of a folder with two pictures or more gets at least
            one.
        captions: whether pictures have to have captions, for models of prompts.
        reduce_to: a picture whose shorter side is at least twice this many pixels is shrunk upon
            reading, by a whole factor, to no less than this; 0 keeps all pixels.

    Attributes:
        skipped: for each file that was left out, its name and why.

    Raises:
        SuffuseError: if no path is given, it is no folder, holds no readable picture, or no
            captions where they are asked for, or its metadata cannot be read.
    """

    licence = "not stated"
    source = "a folder of pictures"

    def __init__(
        self,
        split: Split = "train",
        path: str | None = None,
        test_fraction: float = 0.1,
        reduce_to: int = 512,
        captions: bool = False,
    ) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"split is 'train' or 'test', not {split!r}")
        if not path:
            raise SuffuseError(
                "image/folder needs a folder of pictures: give it with --data DIR "
                "(or --set dataset.path=DIR)"
            )
        if not 0 <= test_fraction < 1:
            raise SuffuseError(f"test_fraction is at least 0 and below 1, not {test_fraction:g}")
        if reduce_to < 0:
            raise SuffuseError(f"reduce_to is 0 or a number of pixels, not {reduce_to}")
        self.root = Path(path).expanduser()
        self.split: Split = split
        self.reduce_to = reduce_to
        listing = _list(self.root, test_fraction)
        self.skipped = dict(listing.skipped)
        self._pictures = [p for p in listing.pictures if p.split == split]
        labels = {p.label for p in listing.pictures if p.label is not None}
        self._conditions = {"label": Condition("category", tuple(sorted(labels or {_ONE_CLASS})))}
        self._unlabelled = None if labels else _ONE_CLASS
        if any(p.text is not None for p in listing.pictures):
            self._conditions["text"] = Condition("text")
        elif captions:
            raise SuffuseError(
                f"the pictures in {self.root} have no captions: put a metadata.csv with the "
                "columns file_name and text beside them (image/folder trains without captions)"
            )

    @property
    def conditions(self) -> Mapping[str, Condition]:
        """The category "label", and "text" where the folder has captions."""
        return self._conditions

    @property
    def names(self) -> list[str]:
        """The name of each picture, relative to the folder."""
        return [picture.name for picture in self._pictures]

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Example:
        count = len(self._pictures)
        if not -count <= index < count:
            raise IndexError(f"picture {index} of {count}")
        for offset in range(count):
            picture = self._pictures[(index + offset) % count]
            if picture.name in self.skipped:
                continue
            try:
                data = read(self.root / picture.name, self.reduce_to)
            except SuffuseError as error:
                if not self.root.is_dir():
                    raise SuffuseError(f"the folder {self.root} is gone") from error
                self.skipped[picture.name] = str(error)
                logger.warning("%s; another picture stands in for it", error)
                continue
            values = {"label": picture.label or self._unlabelled, "text": picture.text}
            return Example(data, {name: values[name] for name in self._conditions})
        raise SuffuseError(f"no picture in {self.root} can be read any more")


def _list(root: Path, test_fraction: float) -> _Listing:
    """All pictures of a folder; scanned again only after something in it has changed."""
    if not root.exists():
        raise SuffuseError(f"there is no folder {root}")
    if not root.is_dir():
        raise SuffuseError(f"{root} is a file; image/folder takes a folder of pictures")
    return _scan(root.resolve(), root, test_fraction, _fingerprint(root))


def _walk(root: Path) -> Iterable[Path]:
    """Files below `root`, sorted, hidden ones left out; a link to a folder is followed once."""
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(files) if not name.startswith("."))


def _wanted(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES or path.name in _METADATA


def _fingerprint(root: Path) -> str:
    digest = hashlib.sha256()
    for path in filter(_wanted, _walk(root)):
        try:
            status = path.stat()
            entry = (path.as_posix(), status.st_size, status.st_mtime_ns)
        except OSError:  # a dangling link
            entry = (path.as_posix(), -1, 0)
        digest.update(repr(entry).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


@lru_cache(maxsize=8)
def _scan(resolved: Path, root: Path, test_fraction: float, fingerprint: str) -> _Listing:
    files = [
        path.relative_to(root).as_posix() for path in _walk(root) if path.suffix.lower() in SUFFIXES
    ]
    official = _official(files)
    if official is None:
        candidates = _group(root, "", files, _by_hash(test_fraction))
    elif _has_metadata(root):
        candidates = _group(root, "", files, _by_top(official))
        candidates = [p for p in candidates if PurePosixPath(p.name).parts[0] in official]
    else:
        candidates = []
        for top in official:
            inside = [name for name in files if name.startswith(f"{top}/")]
            candidates += _group(root, f"{top}/", inside, _by_top(official))
    skipped: dict[str, str] = {}
    pictures = []
    for picture in candidates:
        reason = fault(root / picture.name)
        if reason is None:
            pictures.append(picture)
        else:
            skipped[picture.name] = reason
    if not pictures:
        raise SuffuseError(_nothing(root, skipped))
    if skipped:
        logger.warning("%s", _complaint(root, skipped, len(candidates)))
    if official is None and test_fraction:
        pictures = _at_least_one_each(pictures)
    return _Listing(tuple(sorted(pictures, key=lambda picture: picture.name)), skipped)


def _official(files: list[str]) -> Mapping[str, Split] | None:
    """The folders of an official split: train and a test one, and no pictures beside those."""
    tops = {PurePosixPath(name).parts[0] for name in files}
    test = next((name for name in _TEST_FOLDERS if name in tops), None)
    if "train" not in tops or test is None or tops - {"train", *_TEST_FOLDERS}:
        return None
    return {"train": "train", test: "test"}


def _has_metadata(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _METADATA)


def _group(
    root: Path, prefix: str, files: list[str], split_of: Callable[[str], Split]
) -> list[_Picture]:
    """The pictures below `prefix`, with their labels and texts; all names relative to `root`."""
    for name in _METADATA:
        path = root / prefix / name
        if path.is_file():
            rows = _csv_rows(path) if name.endswith(".csv") else _json_rows(path)
            return _from_rows(path, prefix, rows, split_of)
    pictures = []
    for name in files:
        parts = name[len(prefix) :].split("/")
        pictures.append(_Picture(name, split_of(name), parts[0] if len(parts) > 1 else None))
    return pictures


def _from_rows(
    path: Path,
    prefix: str,
    rows: list[tuple[int, Mapping[str, Any]]],
    split_of: Callable[[str], Split],
) -> list[_Picture]:
    pictures: dict[str, _Picture] = {}
    for line, row in rows:
        file_name = row.get("file_name")
        if not isinstance(file_name, str) or not file_name.strip():
            raise SuffuseError(
                f"{path}, line {line}: no file_name; the columns are file_name and label, text or "
                f"caption, and here there are {', '.join(map(str, row)) or 'none'}"
            )
        relative = PurePosixPath(file_name.strip().replace("\\", "/"))
        if relative.is_absolute() or ".." in relative.parts:
            raise SuffuseError(f"{path}, line {line}: {file_name!r} lies outside the folder")
        name = prefix + relative.as_posix()
        text = next((row[key] for key in _TEXT_COLUMNS if row.get(key) not in (None, "")), None)
        label = row.get("label")
        pictures[name] = _Picture(
            name,
            split_of(name),
            None if label in (None, "") else str(label),
            None if text is None else str(text),
        )
    if not pictures:
        raise SuffuseError(f"{path} lists no pictures")
    return list(pictures.values())


def _csv_rows(path: Path) -> list[tuple[int, Mapping[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            return [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SuffuseError(f"cannot read {path}: {error}") from error


def _json_rows(path: Path) -> list[tuple[int, Mapping[str, Any]]]:
    rows: list[tuple[int, Mapping[str, Any]]] = []
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SuffuseError(f"cannot read {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SuffuseError(f"{path}, line {number}: this is no JSON ({error})") from error
        if not isinstance(row, dict):
            raise SuffuseError(f"{path}, line {number}: expected a JSON object with a file_name")
        rows.append((number, row))
    return rows


def _fraction(name: str) -> float:
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _by_hash(test_fraction: float) -> Callable[[str], Split]:
    return lambda name: "test" if _fraction(name) < test_fraction else "train"


def _by_top(official: Mapping[str, Split]) -> Callable[[str], Split]:
    return lambda name: official.get(PurePosixPath(name).parts[0], "train")


def _at_least_one_each(pictures: list[_Picture]) -> list[_Picture]:
    """Of two pictures or more, the one with the lowest hash tests and the highest trains."""
    if len(pictures) < 2:
        return [_Picture(p.name, "train", p.label, p.text) for p in pictures]
    first, *middle, last = sorted(pictures, key=lambda picture: _fraction(picture.name))
    return [
        _Picture(first.name, "test", first.label, first.text),
        *middle,
        _Picture(last.name, "train", last.label, last.text),
    ]


def _complaint(root: Path, skipped: Mapping[str, str], total: int) -> str:
    named = [f"  {name}: {reason}" for name, reason in list(skipped.items())[:_NAMED]]
    if len(skipped) > _NAMED:
        named.append(f"  and {len(skipped) - _NAMED} more")
    return "\n".join([f"left out {len(skipped)} of {total} files in {root}:", *named])


def _nothing(root: Path, skipped: Mapping[str, str]) -> str:
    if not skipped:
        return f"there are no pictures in {root}"
    name, reason = next(iter(skipped.items()))
    return (
        f"none of the {len(skipped)} files in {root} is a readable picture; for instance "
        f"{name}: {reason}"
    )
