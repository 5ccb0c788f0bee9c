"""Files that commands are given: those named, and those in a folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Renderer

__all__ = ["ensure_folder", "found", "new_folder", "read", "read_each", "readable"]

_LIKE_A_FILE = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}")
"""Suffixes by which a new name is taken for one of a file, and not of a folder."""


def readable(path: Path, renderer: Renderer) -> bool:
    """Whether the suffix of a file, or what is in a folder, is of those that the renderer reads."""
    if not path.is_dir():
        return path.suffix.lower() in {*renderer.suffixes, *getattr(renderer, "reads", ())}
    return _whole(path, renderer) or any(
        p.is_file() and readable(p, renderer) for p in path.rglob("*.*")
    )


def _whole(path: Path, renderer: Renderer) -> bool:
    return bool(getattr(renderer, "whole", lambda path: False)(path))


def found(paths: Sequence[Path], renderer: Renderer) -> list[Path]:
    """The files, and those of folders and their subfolders whose suffix the renderer knows.

    A folder that is one object, as frames are one clip, counts as a file.

    Raises:
        SuffuseError: for a path that is not there, and a folder that holds none.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir() and not _whole(path, renderer):
            inside = sorted(p for p in path.rglob("*.*") if p.is_file() and readable(p, renderer))
            if not inside:
                raise SuffuseError(f"{str(path)!r} holds no file of {', '.join(renderer.suffixes)}")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise SuffuseError(f"there is no file {str(path)!r}")
    if not files:
        raise SuffuseError("give at least one file, or a folder of files")
    return files


def read(files: Sequence[Path], renderer: Renderer) -> tuple[list[Path], list[Any]]:
    """The files that can be read, and what is in them.

    Of several, those that cannot be read are named on standard error and left out.

    Raises:
        SuffuseError: where none can be read.
    """
    found = _read(files, renderer.read)
    return [path for path, _ in found], [inside for _, inside in found]


def read_each(
    files: Sequence[Path], renderer: Renderer, source: Path
) -> tuple[list[str], list[Any]]:
    """As `read`, but of files that hold many objects all; and what to call each within `source`.

    Raises:
        SuffuseError: where none can be read.
    """
    if not hasattr(renderer, "read_all"):
        kept, objects = read(files, renderer)
        return [_within(path, source) for path in kept], objects
    names: list[str] = []
    objects = []
    for path, inside in _read(files, renderer.read_all):
        many = len(inside) > 1
        names += [_within(path, source) + (f": {name}" if many else "") for name, _ in inside]
        objects += [one for _, one in inside]
    return names, objects


def _read(files: Sequence[Path], reader: Callable[[Path], Any]) -> list[tuple[Path, Any]]:
    found: list[tuple[Path, Any]] = []
    for path in files:
        try:
            found.append((path, reader(path)))
        except SuffuseError as error:
            if len(files) == 1:
                raise
            click.echo(f"left out: {error}", err=True)
    if not found:
        raise SuffuseError(f"none of the {len(files)} files can be read")
    return found


def _within(path: Path, source: Path) -> str:
    return str(path.relative_to(source)) if source.is_dir() else path.name


def ensure_folder(out: Path, suffixes: Iterable[str]) -> None:
    """Refuse what -o names where results go into a folder, and it is a file or looks like one.

    Args:
        out: what was given; an existing folder may have any name.
        suffixes: of the files that -o could have named.

    Raises:
        SuffuseError: for a file, or a new name that ends as names of files do (.pdb, .mol2).
    """
    if out.is_dir() or not (out.is_file() or _LIKE_A_FILE.fullmatch(out.suffix)):
        return
    kinds = ", ".join(dict.fromkeys(suffixes))
    made = "" if out.is_file() else "; for a folder of that name, make it first"
    raise SuffuseError(
        f"-o is a folder, or a file that ends in {kinds}; {str(out)!r} is a file of another kind"
        f"{made}"
    )


def new_folder(out: Path) -> None:
    """Refuse a place for a new folder where something is.

    Raises:
        SuffuseError: where there is a file, or a folder with something in it.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise SuffuseError(f"{str(out)!r} exists; give a new folder, so that nothing is lost")
