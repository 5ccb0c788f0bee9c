"""Rows of a batch: values repeated to its size, numbers drawn from ranges, and slices of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from suffuse.diffusion.noise import Noise, Stream
from suffuse.errors import SuffuseError

if TYPE_CHECKING:
    from suffuse.plugins.contracts import Condition

__all__ = ["batches", "drawn", "repeated"]


def repeated(name: str, value: Any, n: int) -> list[Any]:
    if not isinstance(value, list | tuple):
        return [value] * n
    if not value:
        raise SuffuseError(f"the condition {name!r} was given an empty list")
    return [value[i % len(value)] for i in range(n)]


def drawn(
    values: Mapping[str, Sequence[Any]], conditions: Mapping[str, Condition], noise: Noise
) -> dict[str, list[Any]]:
    """The values of conditions, with a number drawn evenly wherever a range "1..2" is asked for.

    Args:
        values: of each condition as many as there are samples.
        conditions: of the model. Only numbers have ranges.
        noise: the samples' own, so that a sample is asked for the same in every batch.

    Raises:
        SuffuseError: for a range that is none.
    """
    out = {name: list(several) for name, several in values.items()}
    for name, several in out.items():
        if name not in conditions or conditions[name].kind != "number":
            continue
        texts = [i for i, value in enumerate(several) if isinstance(value, str)]
        if texts:
            u = noise.branch(f"range of {name}").uniform((1,), step=0, stream=Stream.PRIOR)
        for i in texts:
            low, high = _range(name, several[i])
            several[i] = low + (high - low) * float(u[i])
    return out


def _range(name: str, text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(".."))
    except ValueError:
        low = high = math.nan
    if not (low <= high and math.isfinite(high - low)):
        raise SuffuseError(
            f"the condition {name!r} takes a number, or a range of two like 1..2, the lower one "
            f"first, and not {text!r}"
        )
    return low, high


def batches(n: int, batch: int) -> Iterator[slice]:
    return (slice(i, min(i + batch, n)) for i in range(0, n, batch))
