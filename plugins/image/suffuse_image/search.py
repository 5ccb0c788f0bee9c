"""Finding pictures in a folder by words or by a picture, with an index on disk.

The index is one SQLite file: for each picture its name, size and time of change, and unit vectors
of the dual encoder (`suffuse_image.dual`) for the whole and for 16 overlapping parts, so that a
crop is found as well. It names its encoder and is made anew for another. Only pictures that are new
or have changed are looked at again. A query reads all vectors once, in half precision, and is exact
(`nearest`).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from suffuse.errors import SuffuseError

from .dual import FEATURES, NAME, known, pretrained
from .modes import eight_bit
from .nearest import nearest
from .reading import SUFFIXES, read

__all__ = ["INDEX", "Found", "Index", "describe", "views"]

INDEX = ".suffuse-search.sqlite"
"""The name of the index in the folder that it is of."""

SIDE, ACROSS = 0.7, 4
"""Of parts: their sides, as a part of the picture's, and how many lie beside each other."""
PARTS = 1 + ACROSS**2
ENCODER = f"{NAME}, {PARTS} views"
BATCH = 64
BLOCK = 1024


@dataclass(frozen=True)
class Found:
    """A picture that fits a query.

    Attributes:
        name: relative to the folder.
        score: the cosine between the query and the picture, from -1 to 1.
    """

    name: str
    score: float


def views(image: Image.Image) -> list[Image.Image]:
    """The whole picture, and 16 parts of 0.7 of each side.

    >>> [view.size for view in views(Image.new("RGB", (100, 50)))][:2]
    [(100, 50), (70, 35)]
    """
    image = eight_bit(image, 3)
    w, h = (max(1, round(SIDE * side)) for side in image.size)
    out = [image]
    for i in range(ACROSS):
        for j in range(ACROSS):
            left = (image.width - w) * j // (ACROSS - 1)
            top = (image.height - h) * i // (ACROSS - 1)
            out.append(image.crop((left, top, left + w, top + h)))
    return out


class Index:
    """The pictures of a folder, ready to be searched.

    Args:
        folder: searched with its subfolders; hidden ones are left out.
        path: the index file; `INDEX` in the folder where None.
        progress: told how many of how many pictures have been looked at.

    Attributes:
        names: of the pictures, relative to the folder.
        vectors: [N, 17, 128] float16, as they are stored.
        skipped: files that cannot be read, and why.

    Raises:
        SuffuseError: for no folder, one without pictures, an index that cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        path: str | Path | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise SuffuseError(f"there is no folder {str(folder)!r}")
        self.path = self.folder / INDEX if path is None else Path(path)
        self.skipped: dict[str, str] = {}
        files = self._files()
        if not files:
            raise SuffuseError(f"there are no pictures in {str(folder)!r}")
        try:
            with closing(sqlite3.connect(self.path)) as database, database:
                self._update(database, files, progress)
                rows = database.execute("SELECT name, vectors FROM pictures ORDER BY name")
                found = [(n, np.frombuffer(v, np.float16)) for n, v in rows if n in files]
        except sqlite3.Error as error:
            raise SuffuseError(
                f"the index {self.path} cannot be used ({error}); give another place with --index, "
                "or remove the file if it is damaged"
            ) from error
        if not found:
            name, reason = next(iter(self.skipped.items()))
            raise SuffuseError(f"no picture in {str(folder)!r} can be read; {name}: {reason}")
        self.names = [name for name, _ in found]
        table = np.stack([vectors for _, vectors in found])
        self.vectors: Tensor = torch.from_numpy(table.reshape(len(found), PARTS, FEATURES))
        self._wholes = self.vectors[:, 0].contiguous()

    def by_text(self, text: str, n: int = 10) -> list[Found]:
        """The n pictures that fit words best, best first; raises for a text without known words."""
        if not any(c.isalnum() for c in text):
            raise SuffuseError(f"a search needs words, and {text!r} has none")
        if not known(text):
            raise SuffuseError(
                f"{NAME} knows no word like those of {text!r}: it was trained on the English names "
                "and keywords of emoji"
            )
        return self._best(self._wholes, pretrained().texts([text])[0], n)

    def by_image(self, image: Image.Image, n: int = 10) -> list[Found]:
        """The n pictures that a picture is most alike to, or to a part of which."""
        return self._best(self.vectors, pretrained().pictures([image])[0], n)

    def duplicates(self, above: float = 0.985) -> list[list[str]]:
        """Groups of pictures that show the same: as wholes, with at least this cosine.

        A picture is in a group if it is alike to one of it; names are sorted.

        Raises:
            SuffuseError: for a threshold that is not between 0 and 1.
        """
        if not 0 < above <= 1:
            raise SuffuseError(f"pictures count as the same above a cosine of 0 to 1, not {above}")
        wholes, group = self._wholes.float(), list(range(len(self.names)))

        def root(i: int) -> int:
            while group[i] != i:
                i = group[i]
            return i

        for start in range(0, len(wholes), BLOCK):
            alike = wholes[start : start + BLOCK] @ wholes.T >= above
            for i, j in alike.nonzero().tolist():
                a, b = sorted((root(start + i), root(j)))
                group[b] = a
        found: dict[int, list[str]] = {}
        for i, name in enumerate(self.names):
            found.setdefault(root(i), []).append(name)
        return [names for names in found.values() if len(names) > 1]

    def _best(self, vectors: Tensor, query: Tensor, n: int) -> list[Found]:
        if n < 1:
            raise SuffuseError(f"at least one picture is asked for, and not {n}")
        value, which = nearest(vectors, query, n)
        pairs = zip(which.tolist(), value.tolist(), strict=True)
        return [Found(self.names[i], score) for i, score in pairs]

    def _files(self) -> dict[str, tuple[int, int]]:
        """Size and time of change of each picture file, by its name."""
        out = {}
        for folder, folders, files in os.walk(self.folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                path = Path(folder) / name
                if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                    try:
                        status = path.stat()
                    except OSError:
                        continue
                    key = path.relative_to(self.folder).as_posix()
                    out[key] = (status.st_size, status.st_mtime_ns)
        return out

    def _update(
        self,
        database: sqlite3.Connection,
        files: dict[str, tuple[int, int]],
        progress: Callable[[int, int], object] | None,
    ) -> None:
        database.execute("CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT)")
        database.execute(
            "CREATE TABLE IF NOT EXISTS pictures "
            "(name TEXT PRIMARY KEY, size INTEGER, changed INTEGER, vectors BLOB)"
        )
        encoder = database.execute("SELECT value FROM about WHERE key = 'encoder'").fetchone()
        if encoder != (ENCODER,):
            database.execute("DELETE FROM pictures")
            database.execute("INSERT OR REPLACE INTO about VALUES ('encoder', ?)", (ENCODER,))
        kept = {
            name: (size, changed)
            for name, size, changed in database.execute("SELECT name, size, changed FROM pictures")
        }
        gone = [(name,) for name in kept if name not in files]
        database.executemany("DELETE FROM pictures WHERE name = ?", gone)
        new = [name for name, state in files.items() if kept.get(name) != state]
        for start in range(0, len(new), BATCH):
            part, pictures = [], []
            for name in new[start : start + BATCH]:
                try:
                    pictures += views(read(self.folder / name, 128))
                    part.append(name)
                except SuffuseError as error:
                    self.skipped[name] = str(error)
                    database.execute("DELETE FROM pictures WHERE name = ?", (name,))
            found = pretrained().pictures(pictures).reshape(len(part), PARTS * FEATURES)
            vectors = found.half().numpy()
            rows: Sequence[Any] = [
                (name, *files[name], vector.tobytes())
                for name, vector in zip(part, vectors, strict=True)
            ]
            database.executemany("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?)", rows)
            if progress is not None:
                progress(min(start + BATCH, len(new)), len(new))


def describe(
    images: Sequence[Image.Image], captions: Sequence[str], n: int = 5
) -> list[list[tuple[str, float]]]:
    """The n captions that fit each picture best, best first, with their cosines.

    Raises:
        SuffuseError: where there are no captions, or n is below 1.
    """
    told = sorted({caption.strip() for caption in captions if any(map(str.isalnum, caption))})
    if not told:
        raise SuffuseError("there are no captions to choose from")
    if n < 1:
        raise SuffuseError(f"at least one caption is asked for, and not {n}")
    fit = pretrained().pictures(images) @ pretrained().texts(told).T
    value, which = fit.topk(min(n, len(told)))
    return [
        [(told[i], score) for i, score in zip(row, scores, strict=True)]
        for row, scores in zip(which.tolist(), value.tolist(), strict=True)
    ]
