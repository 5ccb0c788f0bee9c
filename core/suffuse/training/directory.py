"""The directory of a run: who may write to it, and what it must be told to go on.

run.json         the recipe as it was asked for, and what was found out at the start
metrics.jsonl    one line every `log_every` steps
samples/         sheets of samples over the training
checkpoints/     all that is needed to go on
evaluation.json  what the evaluators found, with the step
cache/           the encoded training data; may be removed
model.safetensors, config.json, README.md: the model, as `suffuse.load` reads it
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from suffuse import storage
from suffuse.errors import SuffuseError
from suffuse.recipe import Recipe
from suffuse.training import checkpoint
from suffuse.training.rate import learning_rate

__all__ = ["Record", "alike", "begin", "locked"]

LOCK = ".lock"

CHANGEABLE = frozenset(
    f"training.{key}"
    for key in (
        "log_every",
        "sample_every",
        "evaluate_every",
        "checkpoint_every",
        "keep",
        "steps",
        "trackers",
        "divergence",
        "patience",
        "sharded",
        "recompute",
        "micro_batch",
    )
)
"""What a run may be given anew when it goes on; `training.steps` only if it grows."""

APART = ("summary", "renderer", "evaluators", "sampling")
"""Parts of the recipe that the training itself does not depend on, and which may change as well."""


class Record(BaseModel):
    """What run.json holds.

    Attributes:
        recipe: as asked for, resolved.
        encoder: the options that fitting the encoder found.
        precision: what was chosen; "auto" as long as nothing was.
        micro_batch: what memory had room for, where it was less than asked; else 0.
        compiled: whether the network is compiled; None as long as it was not decided.
        teacher: the digest of the weights that are distilled; empty where there are none.
        lowered: how often the learning rate was halved, since training diverged.
        examples: how many the training split has.
        conditions: the categories of each condition of the data.
        finished: the step at which the run was last complete, with evaluation and card.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    recipe: dict[str, Any]
    encoder: dict[str, Any]
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    micro_batch: NonNegativeInt = 0
    compiled: bool | None = None
    teacher: str = ""
    lowered: NonNegativeInt = 0
    examples: int
    conditions: dict[str, list[str]]
    finished: int = 0

    def write(self, run: Path) -> None:
        """Write run.json. Raises SuffuseError where it cannot be written."""
        storage.write_json(run / "run.json", self.model_dump())

    @classmethod
    def read(cls, run: Path) -> Record:
        """Raises SuffuseError where run.json is missing or damaged."""
        path = run / "run.json"
        try:
            return cls.model_validate(storage.read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "its whole"
            raise SuffuseError(
                f"{path} is damaged or of another version: {where}: {first['msg']}"
            ) from error


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Make the directory and hold it for this process, until the block or the process ends.

    A directory that it made is removed again where the block leaves nothing in it.

    Raises:
        SuffuseError: where another training holds it, or it cannot be written.
    """
    path = run / LOCK
    made = [folder for folder in (run, *run.parents) if not folder.exists()]
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise storage.unwritable(path, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise SuffuseError(
                f"{run} is being trained already, by process {file.read().strip() or 'unknown'}; "
                "wait for it, stop it, or choose another directory"
            ) from None
        with suppress(OSError):  # the number is a courtesy; a full disk is told of by what follows
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        try:
            yield
        finally:
            if made and [p.name for p in run.iterdir()] == [LOCK]:
                path.unlink()
                with suppress(OSError):  # another one uses it by now
                    for folder in made:
                        folder.rmdir()


def begin(run: Path, asked: Recipe, resume: bool) -> Record | None:
    """What the run recorded, or None where a new one begins. The caller holds the directory.

    Args:
        run: the directory.
        asked: the recipe, resolved.
        resume: go on with what is there, if anything.

    Raises:
        SuffuseError: where something is there and `resume` is not set; where it is no run; where
            the recipe is not the recorded one, naming the keys that differ. Steps may change where
            the learning rate so far is the same.
    """
    mine = (LOCK, "cache")
    others = [
        p.name
        for p in run.iterdir()
        if p.name not in mine and not p.name.startswith(storage.TEMPORARY)
    ]
    if not others:
        return None
    if "run.json" not in others:
        raise SuffuseError(
            f"{run} is not empty and holds no training run; choose another directory"
        )
    if not resume:
        raise SuffuseError(
            f"{run} holds a training run already; go on with it by --resume (resume=True), "
            "or choose another directory"
        )
    record = Record.read(run)
    plain = asked.model_dump(mode="json")
    try:  # what an earlier version did not know of was as it is by default
        recorded = Recipe.model_validate(record.recipe).model_dump(mode="json")
    except ValidationError:
        recorded = record.recipe
    _agree(run, recorded, plain)
    if any(record.recipe[part] != plain[part] for part in ("evaluators", "sampling")):
        # Figures of the old ones do not hold; the end of the run measures anew.
        (run / "evaluation.json").unlink(missing_ok=True)
        record = record.model_copy(update={"finished": 0})
    return record


def _agree(run: Path, recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    before, now = _leaves(recorded), _leaves(asked)
    differing = [
        f"{key} was {before.get(key, 'not set')!r} and is {now.get(key, 'not set')!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
        and key not in CHANGEABLE
        and key.split(".")[0] not in APART
    ]
    if differing:
        raise SuffuseError(
            f"the run in {run} was begun with another recipe: {'; '.join(differing)}; "
            f"go on with the same one, remove {run}, or choose another directory"
        )
    steps, fewer = before.get("training.steps", 0), now["training.steps"]
    if fewer < steps and not alike(run, recorded, asked):
        raise SuffuseError(
            f"the run in {run} has training.steps = {steps}, which may grow but not shrink to "
            f"{fewer}: its learning rate so far would have been another"
        )


def alike(run: Path, recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether the learning rate up to the newest checkpoint is that of both recipes."""
    done = checkpoint.newest_step(run / "checkpoints")
    one, other = (Recipe.model_validate(r).training for r in (recorded, asked))
    if done > other.steps:
        return False
    return done == 0 or learning_rate(one, done - 1) == learning_rate(other, done - 1)


def _leaves(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        items: Any = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return {name: value}
    out: dict[str, Any] = {}
    for key, part in items:
        out |= _leaves(part, f"{name}.{key}" if name else str(key))
    return out
