r"""Strings of words read back by a classifier of single ones.

A string of k words is cut where the classifier is surest of all parts together: over boundaries
b_0 = 0 < b_1 < ... < b_k = end on a grid,

    max Σ_i max_w log p(w | sound from b_{i−1} to b_i),

by dynamic programming (Bellman 1957; Vintsyuk 1968 of words). The reader knows how many words there
are, and nothing of where they were put together; each part lasts from 0.16 s to as long as the
classifier's sounds.
"""

from __future__ import annotations

import numpy as np

from suffuse.errors import SuffuseError
from suffuse_audio.judge import Judge
from suffuse_audio.sound import Sound

__all__ = ["read"]

_STEP, _SHORTEST = 0.04, 0.16  # seconds between boundaries, and of the shortest part


def read(judge: Judge, sound: Sound, count: int) -> list[str]:
    """The most likely `count` words of a sound, of the judge's categories.

    Raises:
        SuffuseError: where the sound is too short or too long for so many.
    """
    step = round(_STEP * sound.rate)
    shortest = round(_SHORTEST / _STEP)
    longest = int(judge.n / judge.rate / _STEP)
    size = -(-len(sound) // step)
    if count < 1 or not shortest * count <= size <= longest * count:
        raise SuffuseError(
            f"{sound.seconds:.2f} s cannot hold {count} words of {_SHORTEST:g} to "
            f"{judge.n / judge.rate:g} s"
        )
    spans = [(a, b) for a in range(size) for b in range(a + shortest, min(a + longest, size) + 1)]
    x = sound.mono
    parts = [Sound(x[a * step : b * step].copy(), sound.rate) for a, b in spans]
    scores = judge.log_probabilities(parts).numpy()
    best = np.full((count + 1, size + 1), -np.inf)
    best[0, 0] = 0.0
    came = np.zeros((count + 1, size + 1), dtype=int)
    for k in range(count):
        for i, (a, b) in enumerate(spans):
            score = best[k, a] + scores[i].max()
            if score > best[k + 1, b]:
                best[k + 1, b], came[k + 1, b] = score, i
    out, at = [], size
    for k in range(count, 0, -1):
        i = int(came[k, at])
        out.append(judge.names[int(scores[i].argmax())])
        at = spans[i][0]
    return out[::-1]
