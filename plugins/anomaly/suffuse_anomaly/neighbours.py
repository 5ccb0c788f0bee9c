r"""Diffusion time from neighbours: which noise level a row looks like.

A row x that is a training row x_i with noise of deviation σ lies at the squared distance ‖x − x_i‖²
from it. With the prior uniform in log σ, the posterior of σ² is an inverse gamma distribution, and
its logarithm has the mean

    E[log σ | x, x_i] = log ‖x − x_i‖ + const(D)

The score of a view is the mean of that over the k nearest training rows, without the constant. It
is not cut into bins: the published form takes the most likely of 300 bins, and rows that share a
bin share a score, which costs average precision.

A row that equals a training row exactly is taken to be it, and is scored by the others. But views
are fitted on it too, and where rows are few and columns many they make it look more usual than a
new one: of 60 rows of 40 columns four in ten new ones would look like one in twenty. So what is
usual is measured by parts: each tenth of the training rows in views that are fitted on the others
(cross-conformal prediction: Vovk (2015), Annals of Mathematics and Artificial Intelligence 74).
Its neighbours are sought among all rows but itself: were they sought in the other parts alone, new
rows, which have all for neighbours, would look more usual than they are.

Source: Livernoche et al., "On diffusion modeling for anomaly detection" (2023), arXiv 2305.18593,
section 4.1, for the posterior and the neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from torch import Tensor

from suffuse_anomaly.member import Floats, Member, Rows, even
from suffuse_anomaly.search import Search
from suffuse_anomaly.table import Table
from suffuse_anomaly.views import Plain, Views

__all__ = ["KnnTime"]

MOST = 50_000
"""The most training rows that are searched."""
SAMPLE = 1000
"""Training rows by which the usual distance is measured."""
PARTS = 10
"""Parts of the training rows that are left out in turn."""
MANY = 5000
"""That one of more rows than this was among those that views are fitted on does not show."""
NEAR = 1e-3
"""Distances below this part of the usual one count as this part: rounding is no anomaly."""


class KnnTime(Member):
    """The score, fitted on standardised rows.

    Attributes:
        rows: training rows, float32 [N, D].
        k: how many neighbours are asked.
        views: the fitted views.
        floor: for each view the least distance that counts.
    """

    trained: ClassVar[bool] = False
    loudest: ClassVar[bool] = True

    def __init__(self, rows: Rows, k: int, views: Views, floor: Floats | None = None) -> None:
        self.rows, self.k, self.views = rows, min(k, len(rows) - 1), views
        self.searches = [Search(view) for view in views(rows)]
        if floor is None:
            some = [search.rows[:SAMPLE] for search in self.searches]
            usual = [np.median(self._nearest(i, view)[0]) for i, view in enumerate(some)]
            floor = NEAR * np.maximum(usual, 1e-9)
        self.floor = floor

    @classmethod
    def fit(
        cls,
        name: str,
        rows: Rows,
        table: Table,
        *,
        seed: int,
        steps: int,
        k: int,
        start: Any = None,
    ) -> Self:
        """At most `MOST` rows are kept, evenly spaced; of a start the new rows join its own."""
        if start is not None:
            rows = np.concatenate([start.rows, rows])
        if len(rows) > MOST:
            rows = rows[np.linspace(0, len(rows) - 1, MOST).astype(int)]
        return cls(rows, k, Views.fit(rows))

    @classmethod
    def load(cls, name: str, tensors: Mapping[str, Tensor], table: Table) -> Self:
        rows, k = tensors["rows"].numpy(), int(tensors["k"])
        kind = Views if any(name.startswith("views.") for name in tensors) else Plain
        return cls(rows, k, kind.load(tensors), tensors["floor"].numpy())

    def tensors(self) -> dict[str, Any]:
        kept: dict[str, Any] = {f"views.{k}": v for k, v in self.views.tables.items()}
        return kept | {"rows": self.rows, "k": np.array(self.k), "floor": self.floor}

    def _nearest(
        self, i: int, view: Floats, own: bool = False
    ) -> tuple[Floats, npt.NDArray[np.intp]]:
        """Distances to the k nearest rows but one that is equal, and which they are; [N, k].

        Of `own` rows, which are among those that are searched, it is first the row itself that is
        left out. With too few rows the farthest counts again.
        """
        distance, index = self.searches[i](view, min(self.k + 1 + own, len(self.rows)))
        equal = (distance[:, : 1 + own] == 0).sum(1, keepdims=True)
        chosen = np.minimum(equal + np.arange(self.k), distance.shape[1] - 1)
        return np.take_along_axis(distance, chosen, 1), np.take_along_axis(index, chosen, 1)

    def raw(self, rows: Rows, own: bool = False) -> Floats:
        """log σ in each view, [N, views]."""
        found = []
        for i, view in enumerate(self.views(rows)):
            distance, _ = self._nearest(i, view, own)
            found.append(np.log(np.maximum(distance, self.floor[i])).mean(1))
        return np.stack(found, 1)

    def left_out(self, rows: Rows, seed: int) -> Floats:
        if len(rows) > MANY:
            return self.raw(rows, own=True)
        part = np.random.default_rng(seed).permutation(len(rows)) % PARTS
        found = np.empty((len(rows), len(self.searches)))
        for i in np.unique(part):
            views = type(self.views).fit(rows[part != i])
            one = KnnTime(rows, self.k, views, self.floor)
            found[part == i] = one.raw(rows[part == i], own=True)
        return found

    def shares(self, rows: Rows) -> Floats:
        """Of the squared distances; [N, views, D]."""
        found = np.empty((len(rows), len(self.searches), rows.shape[1]))
        for i, view in enumerate(self.views(rows)):
            distance, index = self._nearest(i, view)
            parts = np.zeros(view.shape)
            for j in range(self.k):
                squares = (view - self.searches[i].rows[index[:, j]]) ** 2
                parts += squares / np.maximum(distance[:, j, None], self.floor[i]) ** 2
            found[:, i] = even(parts)
        return found
