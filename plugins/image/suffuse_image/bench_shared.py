"""What the cases of the benchmarks share: the model that ships, its data, and figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import suffuse
from suffuse import stats
from suffuse.bench import Context
from suffuse.plugins.contracts import Metric

from .emoji import Emoji

__all__ = ["CODE", "MODEL", "PLAIN", "data", "mean", "share", "shipped"]

MODEL = "image/emoji"
PLAIN = "fluent-high-contrast"
"""The style without colours."""
CODE = ("suffuse_image", "suffuse_text", "suffuse.diffusion", "suffuse.nn")


def shipped(context: Context) -> Any:
    """The model that ships, loaded once."""
    return context.once(MODEL, lambda: suffuse.load(MODEL))


def data(context: Context, split: Any) -> Emoji:
    """A split of the emoji, made once."""
    return context.once(("emoji", split), lambda: Emoji(split))


def mean(name: str, values: Sequence[float], better: Any, unit: str = "") -> Metric:
    """The mean with its interval."""
    found = stats.mean(np.asarray(values, dtype=np.float64), seed=0)
    return Metric.of(name, found, better, len(values), unit=unit)


def share(name: str, hits: int, n: int) -> Metric:
    """A part of n in percent with its interval."""
    return Metric.of(name, stats.proportion(hits, n), "higher", n, scale=100, unit="%")
