"""The unusual among pictures, sounds, molecules: by whatever model knows the usual ones.

A model of any domain brings an encoder and a denoiser, and both judge:

    knn-time           neighbours among normal objects, in the encoder's states (`neighbours`)
    loss               the loss of training at several times: how badly the model undoes the noise
                       of its own process, be it normal noise, forgotten tokens, or both at once
    score-norm, …      the scores of `suffuse.diffusion.scores`, for models with Gaussian noise

Each is calibrated on normal objects that were not trained on, as in `suffuse_anomaly.detector`; the
mean of the answers is calibrated again, so that a score is −log of a part of the normal objects.
"auto" takes knn-time with score-norm where states are tensors under Gaussian noise, and with the
loss elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

import suffuse
from suffuse import plugins
from suffuse.diffusion import Noise
from suffuse.diffusion.noise import Stream
from suffuse.diffusion.process import Gaussian, masked
from suffuse.diffusion.scores import SCORES, Calibration, calibrate
from suffuse.errors import SuffuseError, unknown
from suffuse.model import Model
from suffuse.plugins.contracts import RaggedEncoder
from suffuse_anomaly import decisions, keeping
from suffuse_anomaly.attribution import by_part, by_place, part_losses
from suffuse_anomaly.member import even
from suffuse_anomaly.neighbours import KnnTime
from suffuse_anomaly.table import Table
from suffuse_anomaly.views import Plain

__all__ = ["AnomalyDetector"]

Floats = npt.NDArray[np.float64]

FORMAT = 1
KIND = "anomaly/model"
TIMES = (0.2, 0.35, 0.5, 0.65, 0.8)
DRAWS = 4
PLACES = ("score-norm", "reconstruction", "curvature")
TOKENS = 32
CALIBRATE, NEIGHBOURS = 512, 4096
"""The most examples of the model's own data that are calibrated on, and that are neighbours."""


class AnomalyDetector:
    """How unusual objects are, by a model of their domain.

    Args:
        model: a `suffuse.Model` (`suffuse.load`).
        method: "auto", "knn-time", "loss", or the name of a registered scorer.
        n_neighbors: how many neighbours knn-time asks.
        seed: of the noise that scores draw; an object has the same score in any batch.
        batch: how many objects the network sees at once.

    >>> AnomalyDetector(suffuse.load("image/digits")).score(pictures)          # doctest: +SKIP
    """

    def __init__(
        self,
        model: Model,
        method: str = "auto",
        *,
        n_neighbors: int = 5,
        seed: int = 0,
        batch: int = 64,
    ) -> None:
        if not isinstance(model, Model):
            raise SuffuseError(
                "a detector wraps a model, as suffuse.load(name or folder) gives it; given "
                f"{type(model).__name__}"
            )
        known = {"auto", "knn-time", "loss", *(e.name for e in plugins.entries("scorer"))}
        if not isinstance(method, str) or method not in known:
            raise unknown("method", str(method), known)
        self.model, self.method, self.n_neighbors = model, method, n_neighbors
        self.seed, self.batch = seed, batch
        for name, least in (("n_neighbors", 1), ("seed", 0), ("batch", 1)):
            value = getattr(self, name)
            if not (isinstance(value, int | np.integer) and value >= least):
                raise SuffuseError(f"{name} is a whole number, {least} or more; given {value!r}")
        gaussian = isinstance(model.process, Gaussian) and isinstance(model.shape, tuple)
        if method not in ("auto", "knn-time", "loss") and not gaussian:
            raise SuffuseError(
                f"{method!r} is for models whose states are tensors under Gaussian noise; the "
                "states of this one are not: take the method 'knn-time' or 'loss'"
            )
        self.methods = (method,)
        if method == "auto":
            self.methods = ("knn-time", "score-norm" if gaussian else "loss")
        self._scores: dict[str, Callable[[Sequence[Any]], Floats]] = {}

    def fit(self, normal: Sequence[Any] | None = None) -> Self:
        """Learn what is usual.

        Args:
            normal: normal objects, 20 or more, best ones that the model was not trained on; they
                are neighbours too. Without them the model's own data serve: those of its training
                split as neighbours, those of its test split for calibration.
        """
        near = normal = None if normal is None else _listed(normal)
        if normal is None:
            test, train = self.model.dataset("test"), self.model.dataset("train")
            normal = [test[i].data for i in _spread(len(test), CALIBRATE)]
            near = [train[i].data for i in _spread(len(train), NEIGHBOURS)]
        if len(normal) < 20:
            raise SuffuseError(f"calibration needs 20 normal objects or more; given {len(normal)}")
        if "knn-time" in self.methods:
            rows = self.embed(near if near is not None else normal)
            self._near = KnnTime(rows, self.n_neighbors, Plain.fit(rows))
        self._scores = {method: self._score(method) for method in self.methods}
        raw = self._raw(normal)
        self._usual = {method: calibrate(levels, "quantile") for method, levels in raw.items()}
        mean = self._mean(raw)
        self._last = calibrate(torch.from_numpy(mean[:, None]), "quantile")
        self.held_ = np.sort(self._nats(mean))
        return self

    def _score(self, method: str) -> Callable[[Sequence[Any]], Floats]:
        if method == "knn-time":
            return lambda objects: self._near.raw(self.embed(objects))
        if method == "loss":
            return self._loss
        scorer = plugins.build(
            "scorer",
            {"name": method},
            denoiser=self.model.denoiser(),
            schedule=self.model.schedule,
        )
        return lambda objects: self._by_batch(
            objects, lambda x, given: scorer(x, seed=self.seed, **given)
        )

    @property
    def threshold_(self) -> float:
        """The score above which an object is an alarm: as one normal one in a hundred is."""
        if not hasattr(self, "held_"):
            self.fit()
        return decisions.by_tail(self.held_, 0.01, nats=True)

    def embed(self, objects: Sequence[Any]) -> npt.NDArray[np.float32]:
        """The states of objects as rows of numbers, [N, D]."""
        parts = [_numbers(self.model.encode(objects[rows])) for rows in self._rows(objects)]
        return torch.cat(parts).float().cpu().numpy()

    def _loss(self, objects: Sequence[Any], parts: bool = False) -> Floats:
        """The loss at each time, [N, L]; or what each part of an object adds to it, [N, L, n]."""
        process, network = self.model.process, self.model.network

        def losses(x: Any, given: dict[str, Any]) -> Tensor:
            n = len(next(iter(x.values())) if isinstance(x, dict) else x)
            noise, columns = Noise([self.seed] * n, device=self.model.device), []
            for i, time in enumerate(TIMES):
                t = process.levels(torch.full((n,), time, device=self.model.device))
                draws = []
                for k in range(DRAWS):
                    step, stream = i * DRAWS + k, Stream.CORRUPT
                    eps = process.noise(noise, x, step=step, stream=stream)
                    if parts:
                        draws.append(self._part_losses(x, t, eps, given))
                    else:
                        draws.append(process.loss(network, x, t, eps, **given))
                columns.append(torch.stack(draws).mean(0))
            return torch.stack(columns, 1)

        return self._by_batch(objects, losses)

    def _part_losses(self, x: Any, t: Any, eps: Any, given: dict[str, Any]) -> Tensor:
        process, mask = self.model.process, given["mask"]
        conditions = {name: value for name, value in given.items() if name != "mask"}
        x_t = masked(process.given(conditions).corrupt(x, t, eps), mask)
        raw = self.model.network(*process.present(x_t, t), **given)
        return part_losses(lambda seen: process.error(raw, x, x_t, t, eps, seen), mask)

    def _by_batch(
        self, objects: Sequence[Any], score: Callable[[Any, dict[str, Any]], Tensor]
    ) -> Floats:
        found = []
        for rows in self._rows(objects):
            # Always a full batch, so that an object has the same score in a batch of any size.
            part = list(objects[rows])
            n = len(part)
            part += [part[0]] * (self.batch - n)
            given: dict[str, Any] = self.model.prepare({}, len(part))
            sizes = self.model.sizes(part)
            if sizes is not None:
                given["mask"] = self.model.mask(sizes.to(self.model.device))
            with torch.no_grad():
                found.append(score(self.model.encode(part), given)[:n].double().cpu())
        return torch.cat(found).numpy()

    def _rows(self, objects: Sequence[Any]) -> list[slice]:
        return [slice(i, i + self.batch) for i in range(0, len(objects), self.batch)]

    def _raw(self, objects: Sequence[Any]) -> dict[str, Tensor]:
        return {method: torch.from_numpy(score(objects)) for method, score in self._scores.items()}

    def _mean(self, raw: Mapping[str, Tensor]) -> Floats:
        parts = [self._usual[method](levels).numpy() for method, levels in raw.items()]
        return np.mean(parts, axis=0)

    def _nats(self, mean: Floats) -> Floats:
        return self._last(torch.from_numpy(mean[:, None])).numpy()

    def score(self, objects: Sequence[Any]) -> Floats:
        """How unusual each object is, in nats, [N]; higher is more unusual. Fits where it must."""
        objects = _listed(objects)
        if not hasattr(self, "held_"):
            self.fit()
        if not objects:
            return np.zeros(0)
        return self._nats(self._mean(self._raw(objects)))

    def p_values(self, objects: Sequence[Any]) -> Floats:
        """Conformal p-values, [N] (`suffuse_anomaly.decisions`)."""
        found = self.score(objects)
        return decisions.p_values(found, self.held_)

    def select(self, objects: Sequence[Any], fdr: float = 0.1) -> npt.NDArray[np.bool_]:
        """Which objects to look at, [N]: on average at most the part `fdr` of them is normal."""
        return decisions.select(self.p_values(objects), fdr)

    def explain(self, objects: Sequence[Any]) -> list[Floats]:
        """What each place of an object adds to its score, in nats; an array sums to the score.

        Returns:
            An array for each object: [n] of its n parts where objects have several sizes, such as
            the atoms of a molecule in their order; else [*size], the state's without channels, such
            as the pixels of a picture.

        Raises:
            SuffuseError: where a method in use cannot be told by places.
        """
        objects = _listed(objects)
        sizes = self.model.sizes(objects) if objects else None
        ragged = isinstance(self.model.encoder, RaggedEncoder)
        able = ("knn-time", "loss") if ragged else ("knn-time", *PLACES)
        for method in self.methods:
            if method not in able or not (ragged or isinstance(self.model.shape, tuple)):
                raise SuffuseError(
                    f"{method!r} does not say what each place of these objects adds; methods that "
                    f"do: {', '.join(able)}"
                )
        if not hasattr(self, "held_"):
            self.fit()
        if not objects:
            return []
        total: Any = 0.0
        every = self._raw(objects)
        mean = self._mean(every)
        scale = np.divide(self._nats(mean), mean, out=np.ones_like(mean), where=mean != 0)
        for method, raw in every.items():
            table = self._usual[method].table
            levels = [
                Calibration("quantile", table[:, i : i + 1].contiguous())(raw[:, i : i + 1])
                for i in range(raw.shape[1])
            ]
            nats = torch.stack(levels, 1).numpy() / raw.shape[1] / len(every) * scale[:, None]
            shares = self._shares(method, objects, sizes)
            total = total + (nats.reshape(*nats.shape, *(1,) * (shares.ndim - 2)) * shares).sum(1)
        if sizes is None:
            return list(total)
        return [row[:n] for row, n in zip(total, sizes.tolist(), strict=True)]

    def _shares(self, method: str, objects: list[Any], sizes: Tensor | None) -> Floats:
        """What part of each level's score each place has, [N, L, *size]."""
        if sizes is None:
            if method == "knn-time":
                parts = self._near.shares(self.embed(objects))
                return by_place(parts.reshape(len(objects), 1, *self.model.shape))
            scorer = SCORES[method](self.model.denoiser(), self.model.schedule)
            return by_place(
                self._by_batch(
                    objects, lambda x, given: scorer.elements(x, seed=self.seed, **given)
                )
            )
        mask = self.model.mask(sizes)
        masks = mask if isinstance(mask, Mapping) else {"": mask}
        if method == "loss":
            parts = np.maximum(self._loss(objects, parts=True), 0)
        else:
            state = self.model.encode(objects)
            states = state if isinstance(state, Mapping) else {"": state}
            widths = [_numbers(part).shape[1] for part in states.values()]
            rows = self._near.shares(self.embed(objects))
            blocks = np.split(rows, np.cumsum(widths)[:-1], axis=2)
            shaped = {
                name: block.reshape(*block.shape[:2], *part.shape[1 : masks[name].ndim], -1)
                for (name, part), block in zip(states.items(), blocks, strict=True)
            }
            parts = by_part(shaped, masks)
        own = np.arange(parts.shape[2]) < sizes.numpy()[:, None, None]
        inside = np.where(own, parts, 0)
        bare = ~(inside.sum(2, keepdims=True) > 0)  # nothing of it is inside: evenly
        return even(np.where(bare & own, 1.0, inside))

    def heat_map(self, objects: Sequence[Any]) -> Floats:
        """Where each object is unusual, of the shape of its state without channels, [N, *size].

        What each place adds to the network's score, averaged over channels and levels.

        Raises:
            SuffuseError: where no method in use is a sum over places.
        """
        name = next((m for m in self.methods if m in PLACES), None)
        if name is None:
            raise SuffuseError(
                f"heat maps come from one of the methods {', '.join(PLACES)}, or from 'auto' with "
                f"it; this detector has {', '.join(self.methods)}"
            )
        scorer = SCORES[name](self.model.denoiser(), self.model.schedule)
        return self._by_batch(
            _listed(objects),
            lambda x, given: scorer.elements(x, seed=self.seed, **given).mean((1, 2)),
        )

    # Keeping

    def save(self, path: str | PathLike[str]) -> None:
        """Write a directory, with the model inside: its scores stay what they are.

        It holds the states of the neighbours. Fits where it must.
        """
        if not hasattr(self, "held_"):
            self.fit()
        tensors: dict[str, Any] = {f"usual.{m}": one.table for m, one in self._usual.items()}
        if "knn-time" in self.methods:
            tensors |= {f"near/{name}": value for name, value in self._near.tensors().items()}
        settings = ("method", "n_neighbors", "seed", "batch")
        keeping.save(
            path,
            kind=KIND,
            version=FORMAT,
            settings={name: getattr(self, name) for name in settings},
            tensors=tensors | {"last": self._last.table, "held": self.held_},
            own={},
            model=self.model,
        )

    @classmethod
    @keeping.whole
    def load(cls, path: str | PathLike[str]) -> Self:
        """The detector in a directory; its scores are the same to the last bit.

        Raises:
            SuffuseError: where it is none, of another format, or plugins of the model are missing.
        """
        config, tensors = keeping.load(path, kind=KIND, version=FORMAT)
        found = cls(suffuse.load(Path(path) / keeping.MODEL), **config["settings"])
        near = {
            name.removeprefix("near/"): value
            for name, value in tensors.items()
            if name.startswith("near/")
        }
        if near:
            found._near = KnnTime.load("knn-time", near, Table([]))
        found._usual = {
            method: Calibration("quantile", tensors[f"usual.{method}"]) for method in found.methods
        }
        found._last = Calibration("quantile", tensors["last"])
        found.held_ = tensors["held"].numpy()
        found._scores = {method: found._score(method) for method in found.methods}
        return found


def _numbers(state: Any) -> Tensor:
    """A state as rows of numbers, [N, D]; tokens, of at most `TOKENS` kinds, as one of so many."""
    if isinstance(state, dict):
        return torch.cat([_numbers(part) for part in state.values()], 1)
    if not state.is_floating_point():
        state = functional.one_hot(state.long().clamp(0, TOKENS - 1), TOKENS)
    return state.flatten(1).float()


def _listed(objects: Any) -> list[Any]:
    """Objects as a list; one alone, a path or nothing is none."""
    if isinstance(objects, str | PathLike) or not isinstance(objects, Iterable):
        raise SuffuseError(
            f"objects are given as a list, one alone too; given {type(objects).__name__}"
        )
    return list(objects)


def _spread(n: int, most: int) -> list[int]:
    """At most so many of n indices, evenly."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(int)).tolist() if n else []
