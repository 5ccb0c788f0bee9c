r"""Diffusion time from neighbours: which noise level a row looks like.

A row x that is a training row x_i with noise of deviation σ lies at the squared distance ‖x − x_i‖²
from it. With the prior uniform in log σ, the posterior of σ² is an inverse gamma distribution, and
its logarithm has the mean

    E[log σ | x, x_i] = log ‖x − x_i‖ + const(D)

The score of a view is the mean of that over the k nearest training rows, without the constant. It
is not cut into bins: the published form takes the most likely of 300 bins, and rows that share a
bin share a score, which costs average precision.

A row that equals a training row exactly is taken to be it, and is scored by the others. So scores
of training rows are scores of rows held out.

Source: Livernoche et al., "On diffusion modeling for anomaly detection" (2023), arXiv 2305.18593,
section 4.1, for the posterior and the neighbours.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors

from suffuse_anomaly.views import Views

__all__ = ["KnnTime"]

Floats = npt.NDArray[np.float64]

NEAR = 1e-3
"""Distances below this part of the usual one count as this part: rounding is no anomaly."""


class KnnTime:
    """The score, fitted on standardised rows.

    Attributes:
        rows: training rows, float32 [N, D].
        k: how many neighbours are asked.
        views: the fitted views.
        floor: for each view the least distance that counts.
    """

    def __init__(
        self, rows: npt.NDArray[np.float32], k: int, views: Views, floor: Floats | None = None
    ) -> None:
        self.rows, self.k, self.views = rows, min(k, len(rows) - 1), views
        self.seen = views(rows)
        self.trees = [NearestNeighbors().fit(view) for view in self.seen]
        if floor is None:
            usual = [np.median(self._nearest(i, view)[0]) for i, view in enumerate(self.seen)]
            floor = NEAR * np.maximum(usual, 1e-9)
        self.floor = floor

    @classmethod
    def fit(cls, rows: npt.NDArray[np.float32], k: int, views: type[Views] = Views) -> KnnTime:
        """Learn from rows [N, D], N at least 2."""
        return cls(rows, k, views.fit(rows))

    def _nearest(self, i: int, view: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
        """Distances to the k nearest rows but the row itself, rising, and which they are; [N, k].

        The search finds candidates; their distances are taken anew from the differences, which are
        exact for equal rows, and the same in a batch of any size.
        """
        asked = min(self.k + 4, len(self.rows))
        index = np.sort(self.trees[i].kneighbors(view, asked, return_distance=False), axis=1)
        distance = np.empty(index.shape)
        for j in range(asked):
            distance[:, j] = np.sqrt(((view - self.seen[i][index[:, j]]) ** 2).sum(1))
        order = np.argsort(distance, axis=1, kind="stable")
        distance = np.take_along_axis(distance, order, 1)
        index = np.take_along_axis(index, order, 1)
        itself = distance[:, 0] == 0
        first = np.where(itself, 1, 0)[:, None] + np.arange(self.k)
        return np.take_along_axis(distance, first, 1), np.take_along_axis(index, first, 1)

    def raw(self, rows: npt.NDArray[np.float32]) -> Floats:
        """log σ in each view, [N, views]; higher is more unusual."""
        found = []
        for i, view in enumerate(self.views(rows)):
            distance, _ = self._nearest(i, view)
            found.append(np.log(np.maximum(distance, self.floor[i])).mean(1))
        return np.stack(found, 1)

    def shares(self, rows: npt.NDArray[np.float32]) -> Floats:
        """What part of each score each dimension has, [N, views, D]: of the squared distances."""
        found = np.empty((len(rows), len(self.seen), rows.shape[1]))
        for i, view in enumerate(self.views(rows)):
            distance, index = self._nearest(i, view)
            parts = np.zeros(view.shape)
            for j in range(self.k):
                squares = (view - self.seen[i][index[:, j]]) ** 2
                parts += squares / np.maximum(distance[:, j, None], self.floor[i]) ** 2
            found[:, i] = even(parts)
        return found


def even(parts: Floats) -> Floats:
    """Rows that sum to 1; a row of zeros is shared evenly."""
    total = parts.sum(1, keepdims=True)
    return np.where(total > 0, parts / np.where(total > 0, total, 1), 1 / parts.shape[1])
