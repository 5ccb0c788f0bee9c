"""What a run is begun from: the processes it has, its data, and a run.json that fits both."""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch

from suffuse import plugins, storage
from suffuse.errors import SuffuseError
from suffuse.model import load
from suffuse.plugins.contracts import Dataset, Encoder
from suffuse.recipe import Recipe
from suffuse.training import directory
from suffuse.training.allocation import keep_freed
from suffuse.training.directory import Record
from suffuse.training.progress import Report

__all__ = ["accelerator", "begin", "dataset"]


def leave_at_exit() -> None:
    """End the group of processes, if there is one, before the interpreter ends.

    Its threads abort a process that ends while they still run.
    """

    def leave() -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    atexit.register(leave)


def _meet_again() -> None:
    """Form the group of processes that torchrun has begun anew, under names of this attempt.

    torchrun keeps one store over all attempts, where the addresses of the processes that are gone
    still stand; whoever reads before they are written over waits for a dead one.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if attempt == "0" or not kept or torch.distributed.is_initialized():
        return
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    torch.distributed.init_process_group(
        backend="gloo" if not torch.accelerator.is_available() else None,
        store=torch.distributed.PrefixStore(  # type: ignore[attr-defined]
            f"suffuse/{attempt}",
            torch.distributed.TCPStore(address, port, is_master=False),  # type: ignore[attr-defined]
        ),
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )


def accelerator() -> Any:
    """The processes and devices of this run, as the launcher made them.

    Raises:
        SuffuseError: where it made something else of them than data-parallel processes.
    """
    from accelerate import Accelerator, DistributedType
    from accelerate.utils import DistributedDataParallelKwargs, GradientAccumulationPlugin

    _meet_again()
    found = Accelerator(
        # Only told so does accelerate take several processes without a GPU for what they are.
        cpu=not torch.accelerator.is_available(),
        mixed_precision="no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    kind = found.distributed_type
    if kind != DistributedType.NO and not kind.name.startswith("MULTI_"):
        raise SuffuseError(
            f"training runs on one process or on data-parallel ones, and accelerate is set up for "
            f"{kind.name}; start it by torchrun"
        )
    leave_at_exit()
    if found.device.type == "cpu":
        keep_freed()
    return found


def dataset(recipe: Recipe) -> Dataset:
    """The training split."""
    return cast(Dataset, plugins.build("dataset", recipe.dataset, split="train"))


def _encoding(asked: Recipe) -> Mapping[str, Any]:
    """The encoder's options; what is None in them, to be measured, as training.start has it.

    Weights know the states that they were trained on: measured anew on other data, a mean or an
    axis would mean another thing. Where the options differ otherwise, all is measured anew.
    """
    if not asked.training.start:
        return asked.encoder
    theirs = load(asked.training.start).recipe.encoder
    given = {name: value for name, value in asked.encoder.items() if value is not None}
    return theirs if given == {name: theirs.get(name) for name in given} else asked.encoder


def begin(out: Path, asked: Recipe, resume: bool, report: Report) -> None:
    """Leave a run.json in `out` that fits the recipe and the data.

    Raises:
        SuffuseError: see `directory.begin`; and for data that are empty or have changed.
    """
    record = directory.begin(out, asked, resume)
    if record is not None and record.finished >= asked.training.steps:
        return
    if record is not None:
        before, now = record.recipe["training"]["steps"], asked.training.steps
        if now > before and not directory.alike(out, record.recipe, asked.model_dump(mode="json")):
            report.say(
                f"training.steps grows from {before} to {now}: the learning rate, which falls to 0 "
                "at the last step, rises again to where the longer run has it; the result is not "
                "that of a run that was begun with so many steps"
            )
    data = dataset(asked)
    found = {name: list(c.names) for name, c in data.conditions.items()}
    plain = asked.model_dump(mode="json")
    if record is None:
        if not len(data):
            raise SuffuseError(f"the training split of {asked.dataset['name']!r} is empty")
        encoder = cast(Encoder, plugins.build("encoder", _encoding(asked)))
        with report.bar("fitting the encoder", 1):
            fitted = dict(encoder.fit(data))
        record = Record(recipe=plain, encoder=fitted, examples=len(data), conditions=found)
    elif (record.examples, record.conditions) != (len(data), found):
        raise SuffuseError(
            f"the data of {asked.dataset['name']!r} has changed since the run in {out} began "
            f"({record.examples} examples then, {len(data)} now); restore it, or train anew in "
            "another directory"
        )
    record.model_copy(update={"recipe": plain}).write(out)  # first: it is what makes `out` a run
    storage.write_text(out / "recipe.toml", asked.to_toml())
