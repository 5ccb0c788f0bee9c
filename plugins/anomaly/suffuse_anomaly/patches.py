"""Pictures by their patches: which pictures are unusual, and where.

A picture is described at each point of a grid by features of its neighbourhood
(`suffuse_anomaly.patch_features`). These rows of numbers are a table, and any method of the
detector judges them (`suffuse_anomaly.member`): its levels are calibrated on patches of normal
pictures that were not learned from. A patch's nats make the heat map; a picture's score is that of
its hottest patch, calibrated on the held-out pictures.

Source: patches as a memory of what is normal: Roth et al., "Towards total recall in industrial
anomaly detection" (PatchCore, 2022), arXiv 2106.08265.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from scipy import ndimage

from suffuse.diffusion.scores import calibrate
from suffuse.errors import unknown
from suffuse_anomaly import decisions
from suffuse_anomaly.detector import MEMBERS
from suffuse_anomaly.member import Floats, Member, Rows
from suffuse_anomaly.neighbours import KnnTime
from suffuse_anomaly.patch_features import FEATURES
from suffuse_anomaly.table import Column, Table, TableError
from suffuse_anomaly.views import Plain

__all__ = ["PatchDetector"]

MOST = 10_000
"""The most patches that are learned from."""
FEWEST = 10
"""Normal pictures that are needed."""


class PatchDetector:
    """Which pictures are unusual, and where.

    Args:
        method: one of the detector's methods that judge rows of numbers.
        features: how patches are described, a name in `patch_features.FEATURES`.
        stride: points from one patch to the next.
        n_neighbors: how many neighbours knn-time asks.
        steps: of training a network.
        seed: of training, and of which patches are learned from.

    >>> rng = np.random.default_rng(0)
    >>> detector = PatchDetector().fit(rng.normal(size=(20, 32, 32)))
    >>> picture = rng.normal(size=(32, 32))
    >>> picture[8:16, 20:28] = 6
    >>> row, column = np.unravel_index(detector.heat_map([picture])[0].argmax(), (32, 32))
    >>> bool(4 <= row < 20 and 16 <= column < 32)
    True
    """

    def __init__(
        self,
        method: str = "knn-time",
        *,
        features: str = "filters",
        stride: int = 4,
        n_neighbors: int = 5,
        steps: int = 1500,
        seed: int = 0,
    ) -> None:
        known = [name for name in MEMBERS if name != "surprisal"]
        if method not in known:
            raise unknown("method", method, known)
        if features not in FEATURES:
            raise unknown("kind of features", features, FEATURES)
        self.features, self._describe = features, FEATURES[features]()
        for name, value in (("stride", stride), ("n_neighbors", n_neighbors), ("steps", steps)):
            if not (isinstance(value, int) and value >= 1):
                raise TableError(f"{name} is a whole number, 1 or more; given {value!r}")
        self.method, self.stride, self.n_neighbors = method, stride, n_neighbors
        self.steps, self.seed = steps, seed

    def fit(self, pictures: Sequence[Any]) -> Self:
        """Learn from normal pictures, `FEWEST` or more, all of one size; a fifth calibrates."""
        pictures = [_array(p) for p in pictures]
        if len(pictures) < FEWEST:
            raise TableError(f"{FEWEST} normal pictures or more are needed; given {len(pictures)}")
        self.shape_ = pictures[0].shape
        rng = np.random.default_rng(self.seed)
        order = rng.permutation(len(pictures))
        held = [pictures[i] for i in order[: max(2, len(pictures) // 5)]]
        rows = np.concatenate([self._rows(pictures[i]) for i in order[len(held) :]])
        rows = rows[rng.permutation(len(rows))[:MOST]]
        self._mean, self._scale = rows.mean(0), np.where(rows.std(0) > 0, rows.std(0), 1)
        rows = ((rows - self._mean) / self._scale).astype(np.float32)
        self._member = self._fitted(rows)
        raw = np.concatenate([self._raw(p) for p in held])
        if len(raw) < 20:
            raise TableError(
                f"{len(held)} pictures are held out to calibrate, and have {len(raw)} patches where "
                "20 or more are needed: give larger pictures, more of them, or a smaller stride"
            )
        self._usual = [
            calibrate(torch.from_numpy(level[:, None].copy()), "quantile") for level in raw.T
        ]
        scores = np.array([self._heat(p).max() for p in held])
        self._last = (
            calibrate(torch.from_numpy(scores[:, None]), "quantile") if len(held) >= 20 else None
        )
        self.held_ = np.sort(self._nats(scores))
        return self

    def _fitted(self, rows: Rows) -> Member:
        if self.method == "knn-time":  # features are alike as they are: one view is enough
            return KnnTime(rows, self.n_neighbors, Plain.fit(rows))
        table = Table([Column(f"x{i}", "number") for i in range(rows.shape[1])])
        how = {"seed": self.seed, "steps": self.steps, "k": self.n_neighbors}
        return MEMBERS[self.method].fit(self.method, rows, table, **how)

    def _rows(self, picture: Floats) -> Floats:
        found = self._describe(picture, self.stride)
        return found.reshape(-1, found.shape[2])

    def _raw(self, picture: Floats) -> Floats:
        rows = ((self._rows(picture) - self._mean) / self._scale).astype(np.float32)
        return self._member.raw(rows)

    def _heat(self, picture: Floats) -> Floats:
        """The nats of each patch, on the grid."""
        raw = torch.from_numpy(np.ascontiguousarray(self._raw(picture)))
        levels = np.stack([u(raw[:, i : i + 1]).numpy() for i, u in enumerate(self._usual)])
        nats = levels.max(0) if self._member.loudest else levels.mean(0)
        return nats.reshape(*(-(-n // self.stride) for n in picture.shape[:2]))

    def _nats(self, scores: Floats) -> Floats:
        if self._last is None:
            return scores
        return self._last(torch.from_numpy(scores[:, None])).numpy()

    def _checked(self, pictures: Sequence[Any]) -> list[Floats]:
        if not hasattr(self, "held_"):
            raise TableError("the detector has learned nothing yet: call fit(normal pictures)")
        arrays = [_array(p) for p in pictures]
        for i, array in enumerate(arrays):
            if array.shape[2:] != self.shape_[2:]:
                raise TableError(
                    f"the detector was fitted on pictures of {_channels(self.shape_)} channels, "
                    f"and picture {i} has the shape {list(array.shape)}"
                )
        return arrays

    def score(self, pictures: Sequence[Any]) -> Floats:
        """How unusual each picture is, in nats, [N]; higher is more unusual."""
        return self._nats(np.array([self._heat(p).max() for p in self._checked(pictures)]))

    def p_values(self, pictures: Sequence[Any]) -> Floats:
        """Conformal p-values, [N] (`suffuse_anomaly.decisions`)."""
        return decisions.p_values(self.score(pictures), self.held_)

    def heat_map(self, pictures: Sequence[Any]) -> Floats:
        """Where each picture is unusual, in nats, of the pictures' one size, [N, H, W]."""
        found = []
        for picture in self._checked(pictures):
            heat, (height, width) = self._heat(picture), picture.shape[:2]
            rows = np.clip((np.arange(height)) / self.stride, 0, heat.shape[0] - 1)
            columns = np.clip((np.arange(width)) / self.stride, 0, heat.shape[1] - 1)
            grid = np.meshgrid(rows, columns, indexing="ij")
            found.append(ndimage.map_coordinates(heat, grid, order=1))
        return np.stack(found)


def _channels(picture: Any) -> int:
    shape = getattr(picture, "shape", picture)
    return int(shape[2]) if len(shape) == 3 else 1


def _array(picture: Any) -> Floats:
    """A picture as numbers; of 8 bits as parts of 1."""
    array = np.asarray(picture)
    whole = array.dtype == np.uint8
    if array.dtype.kind not in "uif" or array.ndim not in (2, 3) or min(array.shape) < 1:
        raise TableError(
            "a picture is an array [H, W] or [H, W, C] of numbers, or a PIL image; given "
            f"{type(picture).__name__} of the shape {list(array.shape)}"
        )
    array = array.astype(np.float64) / (255 if whole else 1)
    if not np.isfinite(array).all():
        raise TableError("a picture holds NaN or inf; its numbers must be finite")
    return array
