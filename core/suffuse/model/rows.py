"""Rows of a batch: values repeated to its size, and slices of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from suffuse.errors import SuffuseError

__all__ = ["batches", "repeated"]


def repeated(name: str, value: Any, n: int) -> list[Any]:
    if not isinstance(value, list | tuple):
        return [value] * n
    if not value:
        raise SuffuseError(f"the condition {name!r} was given an empty list")
    return [value[i % len(value)] for i in range(n)]


def batches(n: int, batch: int) -> Iterator[slice]:
    return (slice(i, min(i + batch, n)) for i in range(0, n, batch))
