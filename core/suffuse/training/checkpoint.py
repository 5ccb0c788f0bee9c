"""Checkpoints: all that a run needs to go on as if it had never stopped.

    checkpoints/00000500/model.safetensors      the weights that learn
                         ema.safetensors        their average
                         optimizer.safetensors  the optimiser's moments
                         state.json             step, seed, versions, digests of the three

A checkpoint is written under another name, brought to the disk and renamed, so one that is there is
whole. What the disk did to it since is found by the digests: a damaged checkpoint is set aside and
the one before it is used.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import suffuse
from suffuse import storage
from suffuse.errors import SuffuseError
from suffuse.training.sharding import split_like

__all__ = [
    "FORMAT",
    "Checkpoint",
    "load",
    "newest",
    "newest_step",
    "optimizer_state",
    "prune",
    "restore_optimizer",
    "save",
]

FORMAT = 1
"""The version of a checkpoint's layout."""

_FILES = {
    "model": "model.safetensors",
    "ema": "ema.safetensors",
    "optimizer": "optimizer.safetensors",
}


class _DamagedError(SuffuseError):
    """A checkpoint that is not what was written."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after some step.

    Attributes:
        step: the steps done.
        seed: of the training.
        model, ema, optimizer: tensors by name.
        facts: plain JSON values that go with them (seconds spent, the metrics under way).
    """

    step: int
    seed: int
    model: Mapping[str, Tensor]
    ema: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    facts: Mapping[str, Any] = field(default_factory=dict)


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint into `folder` and answer with its path.

    Raises:
        SuffuseError: where it cannot be written; what was there before is untouched.
    """
    path = folder / f"{checkpoint.step:08d}"
    with storage.replacing_folder(path) as temporary:
        digests = {}
        for name, file in _FILES.items():
            storage.save_tensors(temporary / file, getattr(checkpoint, name))
            digests[file] = storage.digest(temporary / file)
        state = {
            "format": FORMAT,
            "step": checkpoint.step,
            "seed": checkpoint.seed,
            "versions": {"suffuse": suffuse.__version__, "torch": str(torch.__version__)},
            "files": digests,
            "facts": dict(checkpoint.facts),
        }
        # Of everything above, in any format, so that another format is told from a damaged file.
        state["sha256"] = storage.fingerprint(state)
        storage.write_json(temporary / "state.json", state)
    return path


def load(path: Path) -> Checkpoint:
    """The checkpoint in a folder, verified by its digests.

    Raises:
        SuffuseError: where it is damaged, or of another format.
    """
    try:
        state = storage.read_json(path / "state.json")
        claimed = state.pop("sha256")
        sound = storage.fingerprint(state) == claimed
    except (SuffuseError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise _DamagedError(
            f"the checkpoint {path} is damaged: its state.json is unreadable"
        ) from error
    if not sound:
        raise _DamagedError(f"the checkpoint {path} is damaged: its state.json has changed")
    if state.get("format") != FORMAT:
        raise SuffuseError(
            f"the checkpoint {path} is of format {state.get('format')}, and this version of "
            f"Suffuse ({suffuse.__version__}) reads {FORMAT}; go on with the version that wrote it "
            f"({state.get('versions', {}).get('suffuse', 'unknown')})"
        )
    parts = {}
    for name, file in _FILES.items():
        if not (path / file).is_file():
            raise _DamagedError(f"the checkpoint {path} is damaged: {file} is missing")
        try:
            found = storage.digest(path / file)
        except OSError as error:
            raise _DamagedError(
                f"the checkpoint {path} is damaged: {file} cannot be read ({error.strerror})"
            ) from error
        if found != state["files"][file]:
            raise _DamagedError(f"the checkpoint {path} is damaged: {file} is not what was written")
        parts[name] = storage.load_tensors(path / file)
    return Checkpoint(state["step"], state["seed"], facts=state["facts"], **parts)


def _all(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if re.fullmatch(r"\d{8,}", p.name))


def newest_step(folder: Path) -> int:
    """The step of the newest checkpoint in a folder; 0 where there is none."""
    found = _all(folder)
    return int(found[-1].name) if found else 0


def newest(folder: Path, warn: Callable[[str], object]) -> Checkpoint | None:
    """The newest checkpoint that is whole; None where there never was one.

    A damaged one is named to `warn` and set aside under another name.

    Raises:
        SuffuseError: where there are checkpoints and none is usable, or one is of another format.
    """
    damaged: dict[Path, _DamagedError] = {}
    for path in reversed(_all(folder)):
        try:
            found = load(path)
        except _DamagedError as error:
            damaged[path] = error
            continue
        for bad, why in damaged.items():
            warn(f"{why}; that of step {found.step} is used")
            with suppress(OSError):
                shutil.rmtree(aside := bad.with_name(f"{bad.name}.damaged"), ignore_errors=True)
                bad.rename(aside)
        return found
    if damaged:
        for why in damaged.values():
            warn(str(why))
        raise SuffuseError(
            f"no checkpoint in {folder} is usable: {', '.join(p.name for p in reversed(damaged))} "
            f"{'are' if len(damaged) > 1 else 'is'} damaged; train anew in another directory"
        )
    return None


def prune(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, and what crashes left half written."""
    for path in _all(folder)[:-keep]:
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(f"{storage.TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)


def optimizer_state(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """The optimiser's state as named tensors: "backbone.out.weight/exp_avg"."""
    return {
        f"{name}/{key}": torch.as_tensor(value)
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    tensors: Mapping[str, Tensor],
) -> None:
    """Put back what `optimizer_state` told; whole tensors are split where the parameters are."""
    by_name: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        parameter, _, key = name.rpartition("/")
        by_name.setdefault(parameter, {})[key] = split_like(tensor, parameters[parameter])
    names = {id(parameter): name for name, parameter in parameters.items()}
    order = [names[id(p)] for group in optimizer.param_groups for p in group["params"]]
    state = {i: by_name[name] for i, name in enumerate(order) if name in by_name}
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
