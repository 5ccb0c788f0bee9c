"""Which rows a detector learns from, by which it is calibrated, and which it keeps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from suffuse_anomaly.member import Rows
from suffuse_anomaly.neighbours import KnnTime
from suffuse_anomaly.table import Table

__all__ = ["held_out", "thinned", "trimmed"]

Places = npt.NDArray[np.intp]

ROUNDS = 3
"""Of trimming."""


def trimmed(rows: Rows, table: Table, share: float, k: int) -> Places:
    """The rows of a mixed table that are left when its most unusual ones are taken away.

    In rounds: the rows that are left say which are unusual in the next round.

    Args:
        rows: encoded, [N, D].
        table: of their columns.
        share: the part that is taken away.
        k: how many neighbours are asked.
    """
    chosen = np.arange(len(rows))
    size = max(2, round((1 - share) * len(rows)))
    for _ in range(ROUNDS):
        score = KnnTime.fit("knn-time", rows[chosen], table, seed=0, steps=1, k=k)
        ranks = score.raw(rows).argsort(0, kind="stable").argsort(0, kind="stable")
        chosen = np.sort(np.argsort(ranks.max(1), kind="stable")[:size])
    return chosen


def held_out(rows: Rows, seed: int) -> Places:
    """About a fifth of the rows [N, D], for calibration, by what they hold.

    So a row that is held out is so after every refreshing too, and no network has seen it. Of equal
    rows each has a lot of its own. Where few rows come out too few or too many, a fifth by lot.
    """
    keys = pd.util.hash_array(rows.ravel()).reshape(rows.shape)
    places = np.arange(1, 2 * rows.shape[1], 2, dtype=np.uint64)
    keys = (keys * places).sum(1, dtype=np.uint64)
    copies = pd.Series(keys).groupby(keys).cumcount().to_numpy(np.uint64)
    lots = pd.util.hash_array(keys ^ pd.util.hash_array(copies + np.uint64(seed)))
    held = np.flatnonzero(lots < 2**64 // 5)
    if max(2, len(rows) // 10) <= len(held) <= len(rows) // 2:
        return held
    order = np.random.default_rng(seed).permutation(len(rows))
    return np.sort(order[: max(2, len(rows) // 5)])


def thinned(rows: Rows, n: int) -> Rows:
    """All rows [N, D], or n of them, evenly spaced in their order."""
    if len(rows) <= n:
        return rows
    return rows[np.linspace(0, len(rows) - 1, n).astype(int)]
