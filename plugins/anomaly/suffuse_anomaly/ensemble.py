"""Fitted methods, whose calibrated levels are joined to one number of nats.

Each method looks at a row in several ways, its levels. These are calibrated one by one on the
scores of normal rows: −log of the part of them that are at least as unusual. Of the views of
knn-time the one counts that finds the row most unusual, of the levels of the other methods the
mean; the mean over methods is calibrated again, and contributions are scaled with it, so that they
sum to what comes out:

    unusualness = Σ over columns of contributions
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from suffuse.diffusion.scores import Calibration, calibrate
from suffuse_anomaly.learned import LEARNED, Learned
from suffuse_anomaly.member import Floats, Member, Rows
from suffuse_anomaly.neighbours import KnnTime
from suffuse_anomaly.surprisal import Surprisal
from suffuse_anomaly.table import Table
from suffuse_anomaly.time_network import NETWORKS, TimeNetwork

__all__ = ["MEMBERS", "Ensemble"]

MEMBERS: dict[str, type[Member]] = {
    "knn-time": KnnTime,
    **dict.fromkeys(LEARNED, Learned),
    **dict.fromkeys(NETWORKS, TimeNetwork),
    "surprisal": Surprisal,
}
"""The methods."""
CHUNK = 4096
"""Rows that are scored at once, so that memory stays flat."""
ENOUGH = 20
"""With fewer normal scores there are no quantiles of them: levels are standardised instead."""


class Ensemble:
    """Methods and their calibrations.

    Attributes:
        members: the fitted methods by name.
        usual: for each of them the calibrations of its levels.
        last: the calibration of what is joined; None where normal scores were too few.
    """

    def __init__(
        self,
        members: Mapping[str, Member],
        usual: Mapping[str, Sequence[Calibration]],
        last: Calibration | None = None,
    ) -> None:
        self.members, self.usual, self.last = members, usual, last

    @classmethod
    def calibrated(cls, members: Mapping[str, Member], raw: Mapping[str, Floats]) -> Self:
        """Calibrated by raw scores [N, L] of N normal rows by each of the members."""
        n = len(next(iter(raw.values())))
        kind = "quantile" if n >= ENOUGH else "z"
        usual = {
            name: [calibrate(torch.from_numpy(level[:, None].copy()), kind) for level in levels.T]
            for name, levels in raw.items()
        }
        found = cls(members, usual)
        if n >= ENOUGH:
            joined = found.unusualness_of(raw)
            found.last = calibrate(torch.from_numpy(joined[:, None]), "quantile")
        return found

    def unusualness(self, rows: Rows) -> Floats:
        """How unusual encoded rows [N, D] are, in nats, [N]."""
        parts = [
            self.unusualness_of({name: one.raw(part) for name, one in self.members.items()})
            for part in _chunks(rows)
        ]
        return np.concatenate(parts)

    def unusualness_of(self, raw: Mapping[str, Floats]) -> Floats:
        """How unusual rows with these raw scores [N, L] are, in nats, [N]."""
        levels = self._levels(raw)
        return self._joined(levels, self._weights(levels))[1]

    def contributions(self, rows: Rows, table: Table) -> Floats:
        """What each column adds to the unusualness of encoded rows [N, D], [N, columns]."""
        found = []
        for part in _chunks(rows):
            levels = self._levels({name: one.raw(part) for name, one in self.members.items()})
            weights = self._weights(levels)
            mean, nats = self._joined(levels, weights)
            scale = np.divide(nats, mean, out=np.ones_like(mean), where=mean != 0)
            total = np.zeros(part.shape)
            for name, level in levels.items():
                weighed = level * weights[name] * scale[:, None]
                total += (weighed[..., None] * self.members[name].shares(part)).sum(1)
            found.append(table.by_column(total))
        return np.concatenate(found)

    def _levels(self, raw: Mapping[str, Floats]) -> dict[str, Floats]:
        """Calibrated scores, [N, L]."""
        return {
            name: np.stack(
                [
                    usual(torch.from_numpy(np.ascontiguousarray(level))[:, None]).numpy()
                    for usual, level in zip(self.usual[name], score.T, strict=True)
                ],
                1,
            )
            for name, score in raw.items()
        }

    def _weights(self, levels: Mapping[str, Floats]) -> dict[str, Floats]:
        """How much each level counts, [N, L]; the sum over levels and members is 1."""
        found = {}
        for name, level in levels.items():
            if self.members[name].loudest:
                weight = np.eye(level.shape[1])[level.argmax(1)]
            else:
                weight = np.full(level.shape, 1 / level.shape[1])
            found[name] = weight / len(levels)
        return found

    def _joined(
        self, levels: Mapping[str, Floats], weights: Mapping[str, Floats]
    ) -> tuple[Floats, Floats]:
        """The mean of calibrated levels by their weights, and what it means in nats; [N] both."""
        mean = np.sum([(weights[name] * level).sum(1) for name, level in levels.items()], axis=0)
        if self.last is None:
            return mean, mean
        return mean, self.last(torch.from_numpy(mean[:, None])).numpy()

    def tensors(self) -> dict[str, Any]:
        """All that was learned, as arrays by name."""
        found: dict[str, Any] = {} if self.last is None else {"last": self.last.table}
        for name, member in self.members.items():
            usual = {f"usual.{i}": one.table for i, one in enumerate(self.usual[name])}
            found |= {f"{name}/{key}": value for key, value in (member.tensors() | usual).items()}
        return found

    def kinds(self) -> dict[str, str]:
        """The members, in order, and how each is calibrated."""
        return {name: usual[0].kind for name, usual in self.usual.items()}

    @classmethod
    def load(cls, kinds: Mapping[str, str], tensors: Mapping[str, Tensor], table: Table) -> Self:
        """What `kinds` and `tensors` kept."""
        members, calibrations = {}, {}
        for name, kind in kinds.items():
            start = f"{name}/"
            own = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
            usual = [own[f"usual.{i}"] for i in range(sum(k.startswith("usual.") for k in own))]
            members[name] = MEMBERS[name].load(name, own, table)
            calibrations[name] = [Calibration(kind, one) for one in usual]
        last = Calibration("quantile", tensors["last"]) if "last" in tensors else None
        return cls(members, calibrations, last)


def _chunks(rows: Rows) -> Iterator[Rows]:
    """Rows [N, D] in parts of `CHUNK`; one, of none, where there are none."""
    for start in range(0, max(len(rows), 1), CHUNK):
        yield rows[start : start + CHUNK]
