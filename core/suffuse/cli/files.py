"""Files that commands are given: those named, and those in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Renderer

__all__ = ["found", "new_folder", "read"]


def found(paths: Sequence[Path], renderer: Renderer) -> list[Path]:
    """The files, and those of folders and their subfolders whose suffix the renderer knows.

    Raises:
        SuffuseError: for a path that is not there, and a folder that holds none.
    """
    files: list[Path] = []
    known = {*renderer.suffixes, *getattr(renderer, "reads", ())}
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in known)
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
    kept: list[Path] = []
    objects: list[Any] = []
    for path in files:
        try:
            objects.append(renderer.read(path))
        except SuffuseError as error:
            if len(files) == 1:
                raise
            click.echo(f"left out: {error}", err=True)
        else:
            kept.append(path)
    if not kept:
        raise SuffuseError(f"none of the {len(files)} files can be read")
    return kept, objects


def new_folder(out: Path) -> None:
    """Refuse a place for a new folder where something is.

    Raises:
        SuffuseError: where there is a file, or a folder with something in it.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise SuffuseError(f"{str(out)!r} exists; give a new folder, so that nothing is lost")
