r"""The nearest normal counterfactual: which change would make a row usual.

The column that adds most to a row's score is drawn anew given the other columns, from the posterior
under the empirical distribution with noise of deviation σ in every dimension,

    p(x_m | x_o) = Σ_i w_i δ(x_m − x_i,m),    w_i ∝ exp(−‖x_o − x_i,o‖² / 2σ²),

o the other columns, m this one, x_i the training rows: the exact posterior of a denoiser that knows
these rows (`suffuse.diffusion.oracle`). Its DRAWS likeliest values, those of the rows that are most
alike in the other columns, are tried. Of those that make the row usual the nearest to its present
value is taken, else the one that makes it least unusual, and the next column follows, until the row
is no alarm.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from suffuse_anomaly.ensemble import Ensemble
from suffuse_anomaly.member import Rows
from suffuse_anomaly.table import Table

__all__ = ["nearest_usual"]

DRAWS = 20


def nearest_usual(
    rows: Rows,
    near: Rows,
    table: Table,
    ensemble: Ensemble,
    *,
    threshold: float,
    most: int,
) -> npt.NDArray[np.object_]:
    """What to change in each row, [N, columns]: the new value, or None.

    Args:
        rows: encoded rows [N, D].
        near: encoded training rows [M, D].
        table: of the columns.
        ensemble: says how unusual rows are, and through which columns.
        threshold: the unusualness up to which a row is usual.
        most: how many columns may change.
    """
    answer = np.full((len(rows), len(table.columns)), None, dtype=object)
    usual = ensemble.unusualness(rows) <= threshold if len(rows) else np.zeros(0, bool)
    for n in np.flatnonzero(~usual):
        row = rows[n].copy()
        for _ in range(min(most, len(table.columns))):
            parts = ensemble.contributions(row[None], table)[0]
            parts[[value is not None for value in answer[n]]] = -np.inf
            column = int(parts.argmax())
            own = table.owner == column
            away = ((near[:, ~own] - row[~own]) ** 2).sum(1)
            likeliest = near[np.argsort(away, kind="stable")[:DRAWS]]
            tries = np.repeat(row[None], len(likeliest), 0)
            tries[:, own] = likeliest[:, own]
            found = ensemble.unusualness(tries)
            change = ((tries - row) ** 2).sum(1)
            enough = found <= threshold
            best = np.where(enough, change, np.inf).argmin() if enough.any() else found.argmin()
            row = tries[best]
            answer[n, column] = table.value(row, column)
            if enough.any():
                break
    return answer
