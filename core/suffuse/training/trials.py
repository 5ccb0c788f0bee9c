"""What is found out by trying before a run's first step: the precision, and torch.compile.

What was found is kept in run.json, so that a run which goes on does not ask again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from suffuse.recipe import Recipe
from suffuse.training import precision
from suffuse.training.directory import Record
from suffuse.training.learner import COMPILING_PAYS, compiler
from suffuse.training.progress import duration
from suffuse.training.ranks import Ranks

__all__ = ["Trials"]

MANY = 1000
"""Steps from which a run may be long enough to be compiled; shorter ones are not timed."""


LEAST_GAIN = 1.03
"""How many times as fast compiled steps have to be, where nobody asked for them."""


class Trials:
    """Steps on copies of a network, and what they decide.

    Args:
        out: the run directory.
        recipe: the run's.
        network: is copied, not trained.
        gradient: a forward and backward pass on the first batch, given what is called.
        device: where.
        ranks: the processes, of which the first tries.
        say: told what is decided.
    """

    def __init__(
        self,
        out: Path,
        recipe: Recipe,
        network: nn.Module,
        gradient: Callable[[Any], object],
        device: torch.device,
        ranks: Ranks,
        say: Callable[[str], object],
    ) -> None:
        self._out, self._recipe, self._network = out, recipe, network
        self._gradient, self._device = gradient, device
        self._ranks, self._say = ranks, say

    def which_precision(self, record: Record) -> precision.Precision:
        """What the run has used, else what the recipe says, else what is measured; recorded."""

        def work() -> None:
            chosen = self._recipe.training.precision
            if chosen == "auto":
                chosen = precision.choose(self._trial(), self._device, self._say)
            record.model_copy(update={"precision": chosen}).write(self._out)

        if record.precision == "auto":
            self._ranks.lead(work)
            record = Record.read(self._out)
        return cast(precision.Precision, record.precision)

    def whether_compiled(self, record: Record, chosen: precision.Precision) -> bool:
        """Whether torch.compile pays: by how long the rest will take; recorded, and said."""
        if record.compiled is None and (self._out / "checkpoints").is_dir():
            return False  # begun by a version that did not compile
        if record.compiled is None:
            self._ranks.lead(lambda: self._decide(chosen))
            record = Record.read(self._out)
        return bool(record.compiled)

    def _decide(self, chosen: precision.Precision) -> None:
        asked, steps = self._recipe.training.compile, self._recipe.training.steps
        found, why, worth = asked == "on", "as asked", asked == "on"
        if asked == "auto" and steps >= MANY:
            seconds = precision.seconds(self._trial(), chosen, self._device) * steps
            found = worth = seconds > COMPILING_PAYS
            why = f"the run is estimated at {duration(seconds)}"
        if found and self._recipe.objective is not None:
            found, why = False, "distillation takes derivatives that it has none of"
        elif found and self._device.type == "cpu" and not compiler():
            found, why = False, f"{why}, and there is no C++ compiler"
        elif found:
            gain, told = self._gain(chosen)
            found = gain is not None and (asked == "on" or gain > LEAST_GAIN)
            why = f"{why}; {told}"
        if worth:
            self._say(f"torch.compile: {'on' if found else 'off'} ({why})")
        Record.read(self._out).model_copy(update={"compiled": found}).write(self._out)

    def _gain(self, chosen: precision.Precision) -> tuple[float | None, str]:
        """How many times as fast compiled steps are, None where there are none; and that said."""
        plain, made = self._trial(), self._trial(compiled=True)
        try:
            times = [
                min(precision.seconds(step, chosen, self._device) for _ in range(3))
                for step in (plain, made)
            ]
        except Exception as error:  # whatever a compiler answers, training goes on without
            return None, f"compiling failed with {type(error).__name__}"
        gain = times[0] / times[1]
        return gain, f"compiled steps are {gain:.2f} times as fast"

    def _trial(self, compiled: bool = False) -> Callable[[precision.Precision], None]:
        """A forward and backward pass on the first batch, on a copy of the network."""
        network: Any = copy.deepcopy(self._network).train()
        network = torch.compile(network) if compiled else network

        def step(chosen: precision.Precision) -> None:
            network.zero_grad()
            self._gradient(precision.autocast(network, self._device, chosen))

        return step
