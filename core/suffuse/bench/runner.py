"""Running the cases of a suite, each into a file of its own."""

from __future__ import annotations

import math
import re
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from suffuse import storage
from suffuse.bench import environment
from suffuse.bench.case import Case, Context, Record, Result, code, key, parameters
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Metric

__all__ = ["Outcome", "file_name", "load", "read", "run"]


@dataclass(frozen=True)
class Outcome:
    """What became of one case: "done" now, "kept" from an earlier run, or "failed"."""

    case: Case
    state: str
    record: Record


def file_name(case: Case) -> str:
    """Of a case's file: its task, model, seed, and the beginning of its key."""
    words = (
        re.sub(r"[^a-z0-9.+]+", "-", w.lower()).strip("-")[:60] for w in (case.task, case.model)
    )
    return "--".join([*words, str(case.seed), key(case)[:12]]) + ".json"


def run(
    cases: Iterable[Case],
    out: Path,
    suite: str,
    *,
    force: bool = False,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Run cases, one after the other, into JSON files in the folder `out`.

    A case whose file is there and holds no error is not run again, unless `force`. A case that
    raises is recorded with its error and the others go on; an interrupt ends the run and loses only
    the case that was running.
    """
    context, outcomes, surroundings = Context(), list[Outcome](), dict[tuple[str, ...], Any]()
    for case in cases:
        path = out / file_name(case)
        kept = None if force else _readable(path)
        if kept is not None and kept.error is None:
            outcome = Outcome(case, "kept", kept)
        else:
            names = tuple(sorted(case.measures))
            if names not in surroundings:
                surroundings[names] = environment.environment(names)
            record = _measured(case, context, suite, surroundings[names])
            storage.write_json(path, _plain(record))
            outcome = Outcome(case, "done" if record.error is None else "failed", record)
        outcomes.append(outcome)
        if on_outcome is not None:
            on_outcome(outcome)
    return outcomes


def _measured(case: Case, context: Context, suite: str, surroundings: dict[str, Any]) -> Record:
    record = Record(
        key=key(case),
        suite=suite,
        task=case.task,
        model=case.model,
        seed=case.seed,
        parameters=parameters(case),
        code=code(case),
        environment=surroundings | {"load": environment.load()},
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=0.0,
        cpu_seconds=0.0,
    )
    clock, processor = time.perf_counter(), time.process_time()
    try:
        result = case.run(context)
        _check(result)
        record = replace(
            record, metrics=tuple(result.metrics), detail=dict(result.detail), note=result.note
        )
    except Exception as error:
        record = replace(
            record,
            error={
                "type": type(error).__name__,
                "message": str(error),
                "traceback": traceback.format_exc(),
            },
        )
    return replace(
        record,
        seconds=round(time.perf_counter() - clock, 4),
        cpu_seconds=round(time.process_time() - processor, 4),
        environment={**record.environment, "load_after": environment.load()},
    )


def _check(result: Result) -> None:
    for m in result.metrics:
        for name, value in asdict(m).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise SuffuseError(f"the metric {m.name!r} has the {name} {value}")


def _plain(record: Record) -> dict[str, Any]:
    return {"format": 1} | asdict(record)


def read(path: Path) -> Record:
    """The record in a case's file. Raises SuffuseError where it is damaged or of another format."""
    data = storage.read_json(path)
    try:
        if data.pop("format") != 1:
            raise SuffuseError(f"{path} has a format that this version of Suffuse does not know")
        data["metrics"] = tuple(Metric(**m) for m in data["metrics"])
        return Record(**data)
    except (AttributeError, KeyError, TypeError) as error:
        raise SuffuseError(f"{path} is damaged: it is no record of a case ({error})") from error


def _readable(path: Path) -> Record | None:
    try:
        return read(path) if path.exists() else None
    except SuffuseError:
        return None  # it is made again


def load(folder: Path) -> list[Record]:
    """The newest record of every (task, model, seed) in a folder of results.

    Raises:
        SuffuseError: where the folder holds no record, or a damaged one.
    """
    newest: dict[tuple[str, str, int], Record] = {}
    for path in sorted(folder.glob("*.json")):
        record = read(path)
        other = newest.get(record.identity)
        if other is None or record.started >= other.started:
            newest[record.identity] = record
    if not newest:
        raise SuffuseError(f"there are no results in {folder}: suffuse bench run makes them")
    return list(newest.values())
