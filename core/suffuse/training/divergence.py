"""When training goes wrong: how it is told, and what is kept to look into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from suffuse import storage
from suffuse.errors import SuffuseError

__all__ = ["MOST_LOWERED", "NOTE", "Diverged", "exploded", "keep", "stopped"]

MOST_LOWERED = 5
"""How often the learning rate is halved before a run that diverges stops after all."""

NOTE = "diverged.json"
"""The file of a run that names the step and the batch; the weights lie beside it."""


class Diverged(Exception):  # noqa: N818
    """The loss exploded, or is not finite, at a step counted from 0."""

    def __init__(self, step: int, why: str) -> None:
        super().__init__(f"training diverged: {why} at step {step + 1}")
        self.step, self.why = step, why


def exploded(loss: float, earlier: Sequence[float]) -> bool:
    """Whether a mean loss is a hundred times the least and ten times the first of earlier ones.

    >>> exploded(50.0, [1.0, 0.4]), exploded(50.0, [20.0, 0.4])
    (True, False)
    """
    return bool(earlier) and loss > 100 * min(earlier) and loss > 10 * earlier[0]


def keep(run: Path, note: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write what is needed to look into a divergence."""
    storage.write_json(run / NOTE, dict(note))
    storage.save_tensors((run / NOTE).with_suffix(".safetensors"), weights)


def stopped(run: Path, found: Diverged, saved: int) -> SuffuseError:
    """The end of a run that is not to go on; `saved` is the step of its last checkpoint."""
    kept = f"the weights of step {saved} are kept" if saved > 0 else "nothing is kept"
    return SuffuseError(
        f"{found}; {kept} in {run}, and {NOTE} there names the batch. Train anew with a lower "
        "training.learning_rate or a smaller training.clip, or with --set training.divergence=lower"
    )
