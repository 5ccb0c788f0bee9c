"""Prompts as weighted words.

    a red fox                 each word with the weight 1
    a (red:1.5) fox           one word, or several, with a weight of their own, 0 or below too
    a (red fox:0.5)
    a fox :: a cat            two prompts, read apart and mixed half and half
    a fox ::3 a cat           the first counts three times as much

Words are runs of letters and digits after NFKC and case folding; a pictograph stands for its name
in Unicode, so that "🦊" is a fox. A bracket that opens no weight, or is never closed, is read as a
blank: a prompt is a sentence, and no mistake in it is an error.
Weights are held within ±`MOST`; those of prompts that are mixed say only how much each counts
beside the others.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

__all__ = ["COLOURS", "MOST", "STOP", "Word", "mixed", "parse", "segments", "words"]

MOST = 4.0
"""The largest weight."""

LONGEST = 100_000
"""So many characters of a prompt are read."""

STOP = frozenset(
    ["a", "an", "and", "are", "at", "for", "in", "is", "of", "on", "style", "the", "to", "with"]
)
"""Words that say nothing of what is to be seen."""

COLOURS = frozenset(
    [
        "black",
        "blue",
        "brown",
        "gray",
        "green",
        "grey",
        "orange",
        "pink",
        "purple",
        "red",
        "white",
        "yellow",
    ]
)
"""Words that say how a thing looks, and not what it is."""

_WEIGHTED = re.compile(r"\(([^()]*):\s*([+-]?\d+(?:\.\d+)?|[+-]?\.\d+)(?:\s*\)|(?=[\s,]|$))")
_MIXED = re.compile(r"::\s*([+-]?\d+(?:\.\d+)?|[+-]?\.\d+)?")
_WORD = re.compile(r"[^\W_]+")


class Word(NamedTuple):
    """A word of a prompt, and how much it counts."""

    text: str
    weight: float


def words(text: str) -> list[str]:
    """The words of a text, without stop words unless there are no others.

    >>> words("A red FOX, in the snow!")
    ['red', 'fox', 'snow']
    >>> words("🍎")
    ['red', 'apple']
    """
    named = "".join(
        f" {_name(c)} " if unicodedata.category(c) == "So" else c for c in text[:LONGEST]
    )
    found = _WORD.findall(unicodedata.normalize("NFKC", named).casefold())
    return [word for word in found if word not in STOP]


def _name(pictograph: str) -> str:
    """Of a face only what it is of: "FOX FACE" is a fox."""
    return unicodedata.name(pictograph, "").removesuffix(" FACE")


def mixed(prompt: str) -> list[tuple[str, float]]:
    """The prompts that a prompt mixes, each with its share; the sizes of the shares sum to 1.

    >>> mixed("a fox ::3 a cat")
    [('a fox ', 0.75), (' a cat', 0.25)]
    >>> mixed("a fox")
    [('a fox', 1.0)]
    """
    texts = _MIXED.split(prompt[:LONGEST])  # text, weight, text, weight, ..., text
    weights = [1.0 if weight is None else float(weight) for weight in [*texts[1::2], None]]
    found = [(t, w) for t, w in zip(texts[::2], weights, strict=True) if t.strip() and w]
    total = sum(abs(weight) for _, weight in found)
    return [(text, weight / total) for text, weight in found]


def segments(prompt: str) -> list[tuple[str, float]]:
    """The parts of a prompt, each with the weight of its words.

    >>> segments("a (red:1.5) fox")
    [('a ', 1.0), ('red', 1.5), (' fox', 1.0)]
    """
    prompt = prompt[:LONGEST]
    out: list[tuple[str, float]] = []
    end = 0
    for match in _WEIGHTED.finditer(prompt):
        out += [(prompt[end : match.start()], 1.0)]
        out += [(match[1], max(-MOST, min(MOST, float(match[2]))))]
        end = match.end()
    out.append((prompt[end:], 1.0))
    return [(text, weight) for text, weight in out if text.strip()]


def parse(prompt: str) -> list[Word]:
    """The words of a prompt with their weights, in their order.

    >>> parse("a (red:1.5) fox")
    [Word(text='red', weight=1.5), Word(text='fox', weight=1.0)]
    >>> parse("((red:2 fox")
    [Word(text='red', weight=2.0), Word(text='fox', weight=1.0)]
    """
    return [Word(word, weight) for text, weight in segments(prompt) for word in words(text)]
