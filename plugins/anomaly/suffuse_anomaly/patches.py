"""Pictures by their patches: which pictures are unusual, and where.

A picture is described at each point of a grid by features of its neighbourhood
(`suffuse_anomaly.patch_features`). These rows of numbers are a table, and any method of the
detector judges them (`suffuse_anomaly.member`): its levels are calibrated on patches of normal
pictures that were not learned from, which for neighbours are all pictures in turn. A patch's nats
make the heat map; a picture's score is that of its hottest patch, calibrated on the held-out
pictures. What can be laid out as pictures is judged alike: sounds (`suffuse_anomaly.sound_patches`)
and clips (`suffuse_anomaly.clip_patches`).

Source: patches as a memory of what is normal: Roth et al., "Towards total recall in industrial
anomaly detection" (PatchCore, 2022), arXiv 2106.08265.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from suffuse.diffusion.scores import Calibration, calibrate
from suffuse.errors import unknown
from suffuse_anomaly import decisions, keeping
from suffuse_anomaly.ensemble import MEMBERS
from suffuse_anomaly.member import Floats, Member, Rows
from suffuse_anomaly.neighbours import KnnTime
from suffuse_anomaly.patch_features import FEATURES
from suffuse_anomaly.table import Column, Table, TableError
from suffuse_anomaly.views import Plain

__all__ = ["PatchDetector", "as_array"]

FORMAT = 1
MOST = 10_000
"""The most patches that are learned from."""
FEWEST = 10
"""Normal pictures that are needed."""
PARTS = 10
"""Parts of the pictures that are left out in turn."""
HELD = 200
"""The most pictures by which is measured what is usual."""


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

    things: ClassVar[str] = "pictures"
    """What is judged."""

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
        """Learn from normal pictures, `FEWEST` or more, of like channels.

        What is usual is measured on pictures that were not learned from: for knn-time on each in
        turn, by parts; a network is trained once, without a fifth of them.
        """
        if not isinstance(pictures, Sequence | np.ndarray) or isinstance(pictures, str):
            raise TableError(
                f"{FEWEST} normal {self.things} or more are needed, as a list; given "
                f"{type(pictures).__name__}"
            )
        n = len(pictures)
        if n < FEWEST:
            raise TableError(f"{FEWEST} normal {self.things} or more are needed; given {n}")
        rng = np.random.default_rng(self.seed)
        order = rng.permutation(n)
        part = np.empty(n, int)
        part[order] = np.arange(n) % PARTS
        held, learned = order[:HELD], np.arange(n)
        if MEMBERS[self.method].trained:
            held, learned = order[: max(2, n // 5)], np.sort(order[max(2, n // 5) :])
        self._scale_up([pictures[i] for i in learned])
        laid = [self._pictures(thing) for thing in pictures]
        self.channels_ = _channels(laid[0][0])
        self._check_channels(laid)
        described = [np.concatenate([self._rows(one) for one in each]) for each in laid]
        places = [(i, j) for i in learned for j in range(len(described[i]))]
        kept = [places[k] for k in rng.permutation(len(places))[:MOST]]
        of = np.array([i for i, _ in kept])
        rows = np.stack([described[i][j] for i, j in kept])
        self._mean, deviation = rows.mean(0, np.float64), rows.std(0, np.float64)
        self._scale = np.where(deviation > 0, deviation, 1)
        rows = self._standard(rows)
        self._member = self._fitted(rows)
        if MEMBERS[self.method].trained:
            raw = [self._member.raw(self._standard(described[i])) for i in held]
        else:
            without = [self._fitted(rows[part[of] != p]) for p in range(PARTS)]
            raw = [without[part[i]].raw(self._standard(described[i])) for i in held]
        patches = np.concatenate(raw)
        if len(patches) < 20:
            raise TableError(
                f"{len(held)} {self.things} are held out to calibrate, and have {len(patches)} "
                "patches where 20 or more are needed: give larger ones, more of them, or a smaller "
                "stride"
            )
        self._usual = [
            calibrate(torch.from_numpy(level[:, None].copy()), "quantile") for level in patches.T
        ]
        scores = np.array([self._patch_nats(one).max() for one in raw])
        self._last = (
            calibrate(torch.from_numpy(scores[:, None]), "quantile") if len(held) >= 20 else None
        )
        self.held_ = np.sort(self._nats(scores))
        return self

    @property
    def threshold_(self) -> float:
        """The score above which a picture is an alarm: as one normal one in a hundred is.

        Where fewer than 20 were held out, which cannot tell that, above all of them.
        """
        return decisions.by_tail(self.held_, 0.01, nats=self._last is not None)

    def _scale_up(self, things: Sequence[Any]) -> None:
        """Learn what `_pictures` needs to know; pictures need nothing."""

    def _pictures(self, thing: Any) -> list[Floats]:
        """What is laid out of one thing as pictures [H, W] or [H, W, C], in their order."""
        return [as_array(thing)]

    def _fitted(self, rows: Rows) -> Member:
        if self.method == "knn-time":  # features are alike as they are: one view is enough
            return KnnTime(rows, self.n_neighbors, Plain.fit(rows))
        how = {"seed": self.seed, "steps": self.steps, "k": self.n_neighbors}
        return MEMBERS[self.method].fit(self.method, rows, _table(rows.shape[1]), **how)

    def _rows(self, picture: Floats) -> Rows:
        found = self._describe(picture, self.stride)
        return found.reshape(-1, found.shape[2]).astype(np.float32)

    def _standard(self, rows: Rows) -> Rows:
        return ((rows - self._mean) / self._scale).astype(np.float32)

    def _raw(self, picture: Floats) -> Floats:
        return self._member.raw(self._standard(self._rows(picture)))

    def _patch_nats(self, raw: Floats) -> Floats:
        """Raw scores [N, L] of patches in nats, [N]."""
        levels = np.stack(
            [
                usual(torch.from_numpy(raw[:, i : i + 1].copy())).numpy()
                for i, usual in enumerate(self._usual)
            ]
        )
        return levels.max(0) if self._member.loudest else levels.mean(0)

    def _heats(self, pictures: list[Floats]) -> list[Floats]:
        """The nats of each patch, on the grids of pictures."""
        return [
            self._patch_nats(self._raw(p)).reshape(*(-(-n // self.stride) for n in p.shape[:2]))
            for p in pictures
        ]

    def _nats(self, scores: Floats) -> Floats:
        if self._last is None:
            return scores
        return self._last(torch.from_numpy(scores[:, None])).numpy()

    def _checked(self, things: Sequence[Any]) -> list[list[Floats]]:
        """The pictures of things."""
        if not hasattr(self, "held_"):
            raise TableError(
                f"the detector has learned nothing yet: call fit(normal {self.things})"
            )
        found = [self._pictures(thing) for thing in things]
        self._check_channels(found)
        return found

    def _check_channels(self, laid: list[list[Floats]]) -> None:
        for i, pictures in enumerate(laid):
            if _channels(pictures[0]) != self.channels_:
                raise TableError(
                    f"the detector was fitted on {self.things} of {self.channels_} channels, and "
                    f"number {i} has the shape {list(pictures[0].shape)}"
                )

    def score(self, things: Sequence[Any]) -> Floats:
        """How unusual each picture is, in nats, [N]; higher is more unusual."""
        highest = [max(h.max() for h in self._heats(one)) for one in self._checked(things)]
        return self._nats(np.array(highest))

    def p_values(self, things: Sequence[Any]) -> Floats:
        """Conformal p-values, [N] (`suffuse_anomaly.decisions`)."""
        return decisions.p_values(self.score(things), self.held_)

    def heat_map(self, things: Sequence[Any]) -> Any:
        """Where each picture is unusual, in nats: [N, H, W]; of several sizes a list."""
        found = [self._map(one, self._heats(one)) for one in self._checked(things)]
        return np.stack(found) if len({one.shape for one in found}) == 1 else found

    def judge(self, thing: Any) -> tuple[float, Floats]:
        """The score and the heat map of one thing, for the time of one of them."""
        (pictures,) = self._checked([thing])
        heats = self._heats(pictures)
        score = self._nats(np.array([max(heat.max() for heat in heats)]))[0]
        return float(score), self._map(pictures, heats)

    def _map(self, pictures: list[Floats], heats: list[Floats]) -> Floats:
        """The heat map of one thing."""
        return self._maps(pictures, heats)[0]

    def _maps(self, pictures: list[Floats], heats: list[Floats]) -> list[Floats]:
        found = []
        for picture, heat in zip(pictures, heats, strict=True):
            places = [
                np.clip(np.arange(n) / self.stride, 0, m - 1)
                for n, m in zip(picture.shape[:2], heat.shape, strict=True)
            ]
            grid = np.meshgrid(*places, indexing="ij")
            found.append(ndimage.map_coordinates(heat, grid, order=1))
        return found

    # Keeping

    def _learned(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What `_scale_up` learned: arrays by name, and plain values by name."""
        return {}, {}

    def _restore(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
        """Take back what `_learned` gave."""

    def save(self, path: str | PathLike[str]) -> None:
        """Write a directory: model.safetensors and config.json. It holds training patches."""
        if not hasattr(self, "held_"):
            raise TableError(
                f"the detector has learned nothing yet: call fit(normal {self.things})"
            )
        given = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        tensors, own = self._learned()
        tensors |= {"mean": self._mean, "scale": self._scale, "held": self.held_}
        tensors |= {f"usual.{i}": usual.table for i, usual in enumerate(self._usual)}
        if self._last is not None:
            tensors["last"] = self._last.table
        tensors |= {f"member/{name}": value for name, value in self._member.tensors().items()}
        keeping.save(
            path,
            kind=f"anomaly/{self.things}",
            version=FORMAT,
            settings=keeping.plain(given),
            tensors=tensors,
            own=own | {"channels": self.channels_, "levels": len(self._usual)},
        )

    @classmethod
    @keeping.whole
    def load(cls, path: str | PathLike[str]) -> Self:
        """The detector in a directory; its scores are the same to the last bit.

        Raises:
            SuffuseError: where it is none, or of another format.
        """
        config, tensors = keeping.load(path, kind=f"anomaly/{cls.things}", version=FORMAT)
        found = cls(**config["settings"])
        found._restore(tensors, config)
        found._mean, found._scale = tensors["mean"].numpy(), tensors["scale"].numpy()
        found.held_, found.channels_ = tensors["held"].numpy(), config["channels"]
        levels = [tensors[f"usual.{i}"] for i in range(config["levels"])]
        found._usual = [Calibration("quantile", level) for level in levels]
        found._last = Calibration("quantile", tensors["last"]) if "last" in tensors else None
        start = "member/"
        own = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
        table = _table(len(found._mean))
        found._member = MEMBERS[found.method].load(found.method, own, table)
        return found


def _table(n: int) -> Table:
    """Of n columns of numbers."""
    return Table([Column(f"x{i}", "number") for i in range(n)])


def _channels(picture: Floats) -> int:
    return int(picture.shape[2]) if picture.ndim == 3 else 1


def as_array(picture: Any) -> Floats:
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
