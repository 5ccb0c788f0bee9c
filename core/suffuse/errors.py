"""Errors that are sentences to their reader."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["MissingExtra", "SuffuseError", "out_of_memory", "unknown"]


class SuffuseError(Exception):
    """A mistake that the user can mend: says what was given, what was expected and what to do.

    The command line prints its text alone, without a traceback, and exits with status 1.
    """


class MissingExtra(SuffuseError):  # noqa: N818 - it says what is wrong
    """Something needs packages that an extra of its distribution installs, and that are absent."""


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: of the interpreter, of a GPU, or of torch's tensors on a host.

    >>> out_of_memory(MemoryError()), out_of_memory(RuntimeError("shapes cannot be multiplied"))
    (True, False)
    """
    # torch has a class of it for GPUs alone, and that is a RuntimeError
    said = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in said)
    )


def unknown(kind: str, name: object, choices: Iterable[str]) -> SuffuseError:
    """The error for a name that is not among the known ones, with the nearest of them.

    >>> print(unknown("recipe", "image/digit", ["image/digits", "image/folder"]))
    no recipe 'image/digit'; did you mean 'image/digits'?
    >>> print(unknown("solver", "zzz", ["ddim", "heun"]))
    no solver 'zzz'; there are: ddim, heun
    """
    known = sorted(choices)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    if near:
        return SuffuseError(f"no {kind} {str(name)!r}; did you mean {near[0]!r}?")
    listing = ", ".join(known) if known else "none"
    return SuffuseError(f"no {kind} {str(name)!r}; there are: {listing}")
