"""Strings are cut where the classifier is surest, against all ways to cut them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from suffuse.errors import SuffuseError
from suffuse_audio.reading import read
from suffuse_audio.sound import Sound

RATE = 1000
STEP = 40  # samples


class _Reader:
    """Answers by a table of how likely each span is, which the sound's samples number."""

    names = ("one", "two", "three")
    rate, n = RATE, 400

    def __init__(self, table: np.ndarray) -> None:
        self.table = table

    def log_probabilities(self, sounds: list[Sound]) -> torch.Tensor:
        """Of the span that the first and the last sample of a sound name."""
        at = [(round(s.mono[0]) // STEP, (round(s.mono[-1]) + 1) // STEP) for s in sounds]
        return torch.tensor(np.stack([self.table[a, b] for a, b in at]))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_best_cut_is_that_of_enumeration(count: int, rng: np.random.Generator) -> None:
    size = 4 * count + 3 if count > 1 else 9
    table = np.log(rng.dirichlet(np.ones(3), (size + 1, size + 1)))
    reader = _Reader(table)
    sound = Sound(np.arange(size * STEP, dtype=np.float32), RATE)
    best, words = -np.inf, []
    for inner in itertools.combinations(range(1, size), count - 1):
        ends = [0, *inner, size]
        spans = list(itertools.pairwise(ends))
        if all(4 <= b - a <= 10 for a, b in spans):
            score = sum(table[a, b].max() for a, b in spans)
            if score > best:
                best, words = score, [reader.names[int(table[a, b].argmax())] for a, b in spans]
    assert words
    assert read(reader, sound, count) == words  # type: ignore[arg-type]


@pytest.mark.parametrize(("seconds", "count"), [(0.2, 2), (1.0, 2), (0.5, 0)])
def test_sounds_that_cannot_hold_the_words_are_refused(seconds: float, count: int) -> None:
    sound = Sound(np.zeros(round(seconds * RATE), np.float32), RATE)
    with pytest.raises(SuffuseError, match="cannot hold"):
        read(_Reader(np.zeros((1, 1, 3))), sound, count)  # type: ignore[arg-type]
