"""A new plugin, from the template beside this file: a complete one, with its names replaced."""

from __future__ import annotations

import re
from pathlib import Path

from suffuse import storage
from suffuse.errors import SuffuseError
from suffuse.plugins.candidates import canonical

__all__ = ["TEMPLATE", "write"]

TEMPLATE = Path(__file__).parent / "template"
"""The plugin that new ones are made of; its own name is "myplugin"."""

_PLACEHOLDER = "myplugin"


def write(name: str, folder: Path, taken: frozenset[str] = frozenset()) -> list[Path]:
    """Write a plugin of this name into a folder.

    Args:
        name: its namespace: lower-case letters, digits, and - between them.
        folder: where it goes; new, or empty.
        taken: namespaces that others have.

    Returns:
        The files, relative to the folder.

    Raises:
        SuffuseError: the name is none, or is taken; the folder holds something, or cannot be
            written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise SuffuseError(
            f"a plugin's name is lower-case letters and digits, with - between them; {name!r} is "
            "not"
        )
    if canonical(name) in taken or name == "core":
        raise SuffuseError(f"there is a plugin {name!r} already; choose another name")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SuffuseError(f"{folder} is there already and not empty; choose another with -o")
    module = name.replace("-", "_")
    written = []
    with storage.replacing_folder(folder) as beside:
        for source in sorted(TEMPLATE.rglob("*")):
            if not source.is_file() or source.suffix == ".pyc":
                continue
            place = Path(_renamed(source.relative_to(TEMPLATE).as_posix(), name, module))
            storage.write_text(beside / place, _renamed(source.read_text("utf-8"), name, module))
            written.append(place)
    return written


def _renamed(text: str, name: str, module: str) -> str:
    return text.replace(f"suffuse_{_PLACEHOLDER}", f"suffuse_{module}").replace(_PLACEHOLDER, name)
