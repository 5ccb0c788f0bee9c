"""The averages of a run's weights: the one that the model is made of, and those for snapshots."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from suffuse import storage
from suffuse.recipe import Training
from suffuse.training.ema import EMA, SNAPSHOT_STDS, SNAPSHOTS

__all__ = ["Averages"]


class Averages:
    """The averaged weights of a learning network, of one width or of several.

    Args:
        network: the model's, which holds the average of the recipe's width, so that sampling and
            saving need no exchange of weights.
        learning: the network that is trained.
        training: the recipe's settings.
    """

    def __init__(self, network: nn.Module, learning: nn.Module, training: Training) -> None:
        self._network = network
        self._snapshots = {
            std: copy.deepcopy(network) for std in (SNAPSHOT_STDS if training.ema_snapshots else ())
        }
        self._count, self._steps = training.ema_snapshots, training.steps
        self._all = [
            EMA(network, learning, training.ema_std),
            *(EMA(averaged, learning, std) for std, averaged in self._snapshots.items()),
        ]

    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 1."""
        for ema in self._all:
            ema.update(step)

    def collect(self) -> None:
        """Bring averages that are split among processes together; all processes call this."""
        for ema in self._all:
            ema.collect()

    def state(self) -> dict[str, Tensor]:
        """All of them by name, as `restore` takes them; after `collect`."""
        return {**self._network.state_dict(), **self._narrow_and_wide()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state` told."""
        self._network.load_state_dict(_part(tensors, ""))
        for std, averaged in self._snapshots.items():
            averaged.load_state_dict(_part(tensors, f"{std:g}/"))
        for ema in self._all:
            ema.distribute()

    def snapshot_due(self, step: int) -> bool:
        """Whether one of the evenly spread snapshots falls on this step, counted from 1."""
        n, steps = self._count, self._steps
        return n > 0 and step * n // steps > (step - 1) * n // steps

    def snapshot(self, run: Path, step: int) -> None:
        """Keep the averages that those of other widths are made of; after `collect`."""
        path = run / SNAPSHOTS / f"{step:08d}.safetensors"
        storage.save_tensors(path, self._narrow_and_wide())

    def _narrow_and_wide(self) -> dict[str, Tensor]:
        return {
            f"{std:g}/{name}": tensor
            for std, averaged in self._snapshots.items()
            for name, tensor in averaged.state_dict().items()
        }


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names have the prefix before a name without a slash."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix) and "/" not in name.removeprefix(prefix)
    }
