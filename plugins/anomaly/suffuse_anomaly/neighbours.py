r"""Diffusion time from neighbours: which noise level a row looks like.

A row x that is a training row x_i with noise of deviation σ lies at the squared distance ‖x − x_i‖²
from it. With the prior uniform in log σ, the posterior of σ² is an inverse gamma distribution, and
its logarithm has the mean

    E[log σ | x, x_i] = log ‖x − x_i‖ + const(D)

The score of a view is the mean of that over the k nearest training rows, without the constant. It
is not cut into bins: the published form takes the most likely of 300 bins, and rows that share a
bin share a score, which costs average precision.

A search in each of five views takes five times as long as one. So among more than `MANY` rows of
more than `NARROW` columns few neighbours are sought among candidates, a few times k, that are
nearest in one view, the white arcsinh. Else they are the nearest of all in each view.

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
import torch
from torch import Tensor

from suffuse_anomaly.member import Floats, Member, Rows, even
from suffuse_anomaly.search import Search
from suffuse_anomaly.table import Table
from suffuse_anomaly.views import Plain, Views

__all__ = ["KnnTime"]

Places = npt.NDArray[np.intp]

MOST = 50_000
"""The most training rows that are searched."""
SAMPLE = 1000
"""Training rows by which the usual distance is measured."""
PARTS = 10
"""Parts of the training rows that are left out in turn."""
MANY = 5000
"""More rows than this are searched in one view; that one of them was among those that views are
fitted on does not show."""
FEWEST = 10
"""So few rows are not left out in turn: of the rest nothing can be measured."""
NARROW = 15
"""With so few columns what is near in one view is too often far in another."""
SOUGHT = 3
"""The view in which candidates are sought: the first white one; without white ones the second."""
FEW = 10
"""Of more neighbours, as where rows are not all normal, candidates leave out too much."""
TIMES = 3
"""Candidates beyond those that are asked for: so many times k."""
CACHE = 2**18
"""Numbers of candidates that are measured at once: so few that they stay in the cache."""
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
        seen = views(rows)
        wide = len(rows) > MANY and rows.shape[1] > NARROW
        self._many = wide and len(seen) > 1 and self.k <= FEW
        if self._many:
            self._by = SOUGHT if len(seen) > SOUGHT else 1
            self._search, self._seen = Search(seen[self._by], whole=True), _stacked(seen)
        else:
            self._searches = [Search(view) for view in seen]
        if floor is None:
            distance, _ = self._nearest([view[:SAMPLE] for view in seen])
            floor = NEAR * np.maximum(np.median(distance, axis=(0, 2)), 1e-9)
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

    def _nearest(self, seen: list[Floats], own: bool = False) -> tuple[Floats, Places]:
        """Distances to the k nearest rows but one that is equal, and which they are.

        Of `own` rows, which are among those that are searched, it is first the row itself that is
        left out. With too few rows the farthest counts again.

        Args:
            seen: rows [N, D] in each view.

        Returns:
            [N, views, k] both.
        """
        asked = min(self.k + 1 + own, len(self.rows))
        if self._many:
            distance, index = self._among_candidates(seen, asked)
        else:
            found = [search(x, asked) for search, x in zip(self._searches, seen, strict=True)]
            distance, index = (np.stack(one, 1) for one in zip(*found, strict=True))
        equal = (distance[:, :, : 1 + own] == 0).sum(2, keepdims=True)
        chosen = np.minimum(equal + np.arange(self.k), asked - 1)
        return np.take_along_axis(distance, chosen, 2), np.take_along_axis(index, chosen, 2)

    def _among_candidates(self, seen: list[Floats], asked: int) -> tuple[Floats, Places]:
        """Distances of the candidates nearest in each view, and places, [N, views, asked]."""
        wanted = min(asked + TIMES * self.k, len(self.rows))
        index = torch.from_numpy(self._search.candidates(seen[self._by], wanted))
        x, distances, places = _stacked(seen), [], []
        step = max(1, CACHE // (wanted * self._seen[0].numel()))
        for part, at in zip(x.split(step), index.split(step), strict=True):
            gaps = self._seen.index_select(0, at.flatten()).view(*at.shape, *part.shape[1:])
            squares = gaps.sub_(part[:, None]).square_().sum(3).transpose(1, 2).contiguous()
            least, place = squares.topk(asked, dim=2, largest=False)
            distances.append(least.double().sqrt_())
            places.append(at[:, None].expand(-1, squares.shape[1], -1).gather(2, place))
        return torch.cat(distances).numpy(), torch.cat(places).numpy()

    def raw(self, rows: Rows, own: bool = False) -> Floats:
        """log σ in each view, [N, views]."""
        distance, _ = self._nearest(self.views(rows), own)
        found: Floats = np.log(np.maximum(distance, self.floor[:, None])).mean(2)
        return found

    def left_out(self, rows: Rows, seed: int) -> Floats:
        if len(rows) > MANY or len(rows) <= FEWEST:
            return self.raw(rows, own=True)
        part = np.random.default_rng(seed).permutation(len(rows)) % PARTS
        found = np.empty((len(rows), len(self.floor)))
        for i in np.unique(part):
            views = type(self.views).fit(rows[part != i])
            one = KnnTime(rows, self.k, views, self.floor)
            found[part == i] = one.raw(rows[part == i], own=True)
        return found

    def shares(self, rows: Rows) -> Floats:
        """Of the squared distances; [N, views, D]."""
        found, views = np.empty((len(rows), len(self.floor), rows.shape[1])), self.views(rows)
        distance, index = self._nearest(views)
        for i, view in enumerate(views):
            mine = self._seen[:, i].numpy() if self._many else self._searches[i].rows
            parts = np.zeros(view.shape)
            for j in range(self.k):
                squares = (view - mine[index[:, i, j]]) ** 2
                parts += squares / np.maximum(distance[:, i, j, None], self.floor[i]) ** 2
            found[:, i] = even(parts)
        return found


def _stacked(seen: list[Floats]) -> Tensor:
    """Rows [N, D] in each view as one, float32 [N, views, D]."""
    return torch.stack([torch.from_numpy(view.astype(np.float32)) for view in seen], 1)
