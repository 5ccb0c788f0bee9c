"""What each training step sees, as a function of (seed, step, position in the global batch).

No generator is carried from step to step: a run that goes on after a stop, and a run on any number
of processes, see the same examples at the same noise levels under the same noise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from suffuse.diffusion.noise import Noise, Stream
from suffuse.diffusion.process import Process, State, by_name
from suffuse.errors import SuffuseError
from suffuse.training.states import States

__all__ = ["Batch", "Batches", "order"]


@functools.lru_cache(maxsize=2)
def order(seed: int, epoch: int, n: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """A permutation of n examples for one pass over them.

    It sorts the raw words of a counter-based generator (Philox), which no version of numpy may
    change, unlike its permutations.
    """
    key = np.array([seed, epoch], dtype=np.uint64)
    words = np.random.Philox(key=key).random_raw(n)
    permutation: np.ndarray[tuple[int], np.dtype[np.intp]] = np.argsort(words, kind="stable")
    return permutation


class Batch(NamedTuple):
    """One process's share of a step.

    Attributes:
        x_0: clean states [b, *shape], float32 or int64; a mapping for a product.
        u: uniform numbers in (0, 1), float64, [b]; one in each of as many equal parts as the global
            batch has examples. Where the process asks for more, [b, 1 + extra], the first such.
        noise: what the process corrupts x_0 with.
        mask: True where an element belongs to a ragged state; None where states are not ragged.
        conditions: prepared values, with some dropped.
        weight: of each example's loss, [b]; all 1 where None.
    """

    x_0: State
    u: Tensor
    noise: State
    mask: State | None
    conditions: dict[str, Tensor]
    weight: Tensor | None = None

    def rows(self, which: slice) -> Batch:
        """Some of the examples."""

        def cut(x: Any) -> Any:
            return x[which]

        mask = None if self.mask is None else by_name(cut, self.mask)
        conditions = {name: value[which] for name, value in self.conditions.items()}
        x_0, noise = by_name(cut, self.x_0), by_name(cut, self.noise)
        weight = None if self.weight is None else self.weight[which]
        return Batch(x_0, self.u[which], noise, mask, conditions, weight)


class Batches:
    """The batches of a run, by step.

    Args:
        states: the encoded training data.
        process: whose noise is drawn.
        mask: sizes [b] of ragged states to their mask.
        seed: of the training.
        batch: the size of the global batch.
        share: this process's positions in it.
        null: one row of each condition's "not given".
        dropout: how often each condition is dropped, in [0, 1]; those that it does not name stay.
        mirror: axes of a state, the last being −1, each reversed in half of the examples.
        beside: conditions that are states too, which are reversed with them.
        device: where batches are put.
    """

    def __init__(
        self,
        states: States,
        process: Process,
        *,
        mask: Callable[[Tensor], State],
        seed: int,
        batch: int,
        share: range,
        null: Mapping[str, Tensor],
        dropout: Mapping[str, float],
        mirror: Sequence[int] = (),
        beside: Iterable[str] = (),
        device: torch.device,
    ) -> None:
        self._states, self._process, self._mask = states, process, mask
        self._seed, self._batch, self._share = seed, batch, share
        self._device = device
        self._null = {name: row.to(device) for name, row in null.items()}
        self._dropout = dict(dropout)
        self._mirror, self._beside = tuple(mirror), frozenset(beside)
        self._noise = Noise(seed, len(share), first=share.start, device=device)
        self._place = torch.arange(share.start, share.stop, dtype=torch.float64, device=device)

    def indices(self, step: int) -> list[int]:
        """The examples of the global batch of a step, counted from 0; passes follow each other."""
        n, out = len(self._states), []
        for place in range(step * self._batch, (step + 1) * self._batch):
            out.append(int(order(self._seed, place // n, n)[place % n]))
        return out

    def __call__(self, step: int) -> Batch:
        """This process's share of a step, counted from 0."""
        chosen = self.indices(step)[self._share.start : self._share.stop]
        x_0 = by_name(lambda x: x.to(self._device), self._states.x(chosen))
        sizes = self._states.sizes(chosen)
        mask = None if sizes is None else self._mask(sizes.to(self._device))
        # One draw serves the level and the dropped conditions: a small draw costs its calls.
        named, extra = 2 + len(self._dropout), self._process.extra(x_0)
        every = named + extra + len(self._mirror)
        draws = self._noise.uniform((every,), step=step, stream=Stream.LEVEL)
        turns = draws[:, named + extra :]
        x_0 = self._mirrored(x_0, turns, mask)
        conditions = self._conditions(chosen, draws[:, 1:named])
        for name in self._beside:
            conditions[name] = self._mirrored(conditions[name], turns, None)
        u = (self._place + draws[:, 0]) / self._batch
        return Batch(
            x_0,
            torch.cat([u[:, None], draws[:, named : named + extra]], 1) if extra else u,
            self._process.noise(self._noise, x_0, step=step, stream=Stream.CORRUPT),
            mask,
            conditions,
        )

    def _mirrored(self, x_0: Any, draws: Tensor, mask: Any) -> Any:
        """Examples with each axis reversed where the uniform draw [b, axes] is below a half."""
        for axis, draw in zip(self._mirror, draws.unbind(1), strict=True):
            if isinstance(x_0, Mapping) or not 1 - x_0.ndim <= axis < 0:
                shape = "a mapping" if isinstance(x_0, Mapping) else list(x_0.shape[1:])
                raise SuffuseError(
                    "training.mirror names axes of states that are one tensor, the last being -1; "
                    f"given {axis}, and a state is {shape}"
                )
            if mask is not None and axis + x_0.ndim < mask.ndim:
                raise SuffuseError(
                    f"training.mirror reverses axes that are filled, and axis {axis} of these "
                    "states ends in padding, since they are of several sizes"
                )
            wide = (draw < 0.5).reshape(-1, *[1] * (x_0.ndim - 1))
            x_0 = torch.where(wide, x_0.flip(axis), x_0)
        return x_0

    def _conditions(self, chosen: list[int], draws: Tensor) -> dict[str, Tensor]:
        found = self._states.conditions(chosen)
        values = {name: value.to(self._device) for name, value in found.items()}
        if not any(self._dropout.values()):
            return values
        for name, dropped in self._dropped(draws).items():
            wide = dropped.reshape(-1, *[1] * (values[name].ndim - 1))
            values[name] = torch.where(wide, self._null[name], values[name])
        return values

    def _dropped(self, draws: Tensor) -> dict[str, Tensor]:
        """Which examples lose which conditions, [b] each, from uniform draws [b, 1 + conditions].

        With several conditions, half of the least dropout takes all of them at once: guidance asks
        the network without any, which independent draws would almost never show it.
        """
        together = min(self._dropout.values()) / 2 if len(self._dropout) > 1 else 0.0
        every = draws[:, 0] < together
        return {
            name: every | (draws[:, i] < (rate - together) / (1 - together))
            for i, (name, rate) in enumerate(self._dropout.items(), start=1)
        }
