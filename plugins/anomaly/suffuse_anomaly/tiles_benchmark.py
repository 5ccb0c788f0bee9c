"""The suite `tiles`: defects of magnetic tiles, which pictures have one, and where.

Pictures and masks are those of anomaly/magnetic_tile_128.npz in SUFFUSE_DATA. Learned from are
pictures without a defect; judged are others without one, and those with blowholes and cracks. The
figures are the AUROC of pictures, with an interval by bootstrap over them, and PRO up to 30 % of
false alarms. The baseline is the distance to the nearest patch, as PatchCore takes it, on the same
features, patches and splits.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.metrics import roc_auc_score

from suffuse.bench import Context, Result
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Metric
from suffuse_anomaly.metrics import auroc, pro
from suffuse_anomaly.patches import PatchDetector

__all__ = ["Tiles", "interval", "tiles"]

NEAREST = "nearest patch (as PatchCore)"
FREE = "MT_Free"


def _tiles() -> tuple[list[npt.NDArray[Any]], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Pictures [128, 128], masks of their defects, and which have any."""
    path = Path(os.environ.get("SUFFUSE_DATA", "")) / "anomaly" / "magnetic_tile_128.npz"
    if "SUFFUSE_DATA" not in os.environ or not path.is_file():
        raise SuffuseError(
            "the suite 'tiles' reads $SUFFUSE_DATA/anomaly/magnetic_tile_128.npz, and there is no "
            "such file: set SUFFUSE_DATA to where it is"
        )
    with np.load(path) as data:
        jpeg, offsets = data["jpeg"].tobytes(), data["offsets"]
        masks = np.unpackbits(data["masks_packed"]).reshape(-1, 128, 128).astype(bool)
        odd = data["classes"][data["labels"]] != FREE
    pictures = [
        np.asarray(Image.open(io.BytesIO(jpeg[a:b]))) for a, b in pairwise(offsets.tolist())
    ]
    return pictures, masks, odd


@dataclass(frozen=True)
class Tiles:
    """One method on one split."""

    measures: ClassVar = ("suffuse_anomaly",)
    task: str
    model: str
    seed: int
    normal: int = 120
    judged: int = 80
    stride: int = 4

    def run(self, context: Context) -> Result:
        """AUROC of pictures and PRO of heat maps."""
        pictures, masks, odd = context.once("tiles", _tiles)
        rng = np.random.default_rng(self.seed)
        free, defects = rng.permutation(np.flatnonzero(~odd)), np.flatnonzero(odd)
        train, rest = free[: self.normal], free[self.normal : self.normal + self.judged]
        judged = np.concatenate([rest, rng.permutation(defects)[: self.judged]])
        method, k = (self.model, 5) if self.model != NEAREST else ("knn-time", 1)
        detector = PatchDetector(
            method,
            features=self.task.rpartition("/")[2],
            stride=self.stride,
            n_neighbors=k,
            seed=self.seed,
        ).fit([pictures[i] for i in train])
        chosen = [pictures[i] for i in judged]
        scores, maps = detector.score(chosen), detector.heat_map(chosen)
        labels = odd[judged]
        low, high = interval(labels, scores, rng)
        n = len(judged)
        metrics = [Metric("image AUROC", auroc(labels, scores), low, high, "higher", n)]
        found = pro(masks[judged], maps)
        metrics.append(Metric("PRO", found, found, found, "higher", int(labels.sum())))
        return Result(metrics, {})


def interval(
    labels: npt.NDArray[np.bool_], scores: npt.NDArray[Any], rng: np.random.Generator
) -> tuple[float, float]:
    """95 % of the AUROC of resampled pictures, normal ones and others apart."""
    groups = [np.flatnonzero(labels == value) for value in (False, True)]
    found = []
    for _ in range(500):
        some = np.concatenate([rng.choice(group, len(group)) for group in groups])
        found.append(roc_auc_score(labels[some], scores[some]))
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def tiles(
    seeds: int = 3, normal: int = 120, judged: int = 80, stride: int = 4, deep: bool = True
) -> Iterator[Tiles]:
    """Every method on the same features and splits.

    Args:
        seeds: how many splits.
        normal: pictures to learn from.
        judged: the most pictures of each kind to judge.
        stride: points from one patch to the next.
        deep: whether features of a network take part.
    """
    for seed in range(seeds):
        for features in ("filters", *["efficientnet"] * deep):
            for model in ("knn-time", "denoiser", NEAREST):
                yield Tiles(f"tiles/{features}", model, seed, normal, judged, stride)
