"""Running the cases of a suite, each into a file of its own."""

from __future__ import annotations

import json
import math
import numbers
import re
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from suffuse import storage
from suffuse.bench import environment
from suffuse.bench.case import Case, Context, Record, code, key, parameters
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Metric

__all__ = ["Outcome", "file_name", "load", "newest", "read", "read_all", "run"]


@dataclass(frozen=True)
class Outcome:
    """What became of one case.

    Attributes:
        case: that was run.
        state: "done" now, "kept" from an earlier run, or "failed".
        record: what came of it.
        stays: of a case that failed, the good record of an earlier run, which stays in its file.
    """

    case: Case
    state: str
    record: Record
    stays: Record | None = None


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

    A case whose file is there and holds no error is not run again, unless `force`; its record notes
    that it was used. A case that raises, or whose result JSON cannot hold, is recorded with its
    error and the others go on; a good record of an earlier run stays then. An interrupt ends the
    run and loses only the case that was running.

    Raises:
        SuffuseError: before the first case runs, where a case has no key or `out` cannot be
            written.
    """
    placed = [(case, out / _name(case, suite)) for case in cases]
    storage.ensure_writable(out / "case.json")
    context, outcomes, surroundings = Context(), list[Outcome](), dict[tuple[str, ...], Any]()
    for case, path in placed:
        earlier = _readable(path)
        if earlier is not None and earlier.error is not None:
            earlier = None
        if earlier is not None and not force:
            earlier = replace(earlier, used=_now())
            storage.write_json(path, _plain(earlier))
            outcome = Outcome(case, "kept", earlier)
        else:
            names = tuple(sorted(case.measures))
            if names not in surroundings:
                surroundings[names] = environment.environment(names)
            record = _measured(case, context, suite, surroundings[names])
            if record.error is None or earlier is None:
                storage.write_json(path, _plain(record))
            if record.error is None:
                outcome = Outcome(case, "done", record)
            else:
                outcome = Outcome(case, "failed", record, earlier)
        outcomes.append(outcome)
        if on_outcome is not None:
            on_outcome(outcome)
    return outcomes


def _name(case: Case, suite: str) -> str:
    try:
        return file_name(case)
    except SuffuseError:
        raise
    except Exception as error:
        raise SuffuseError(
            f"the suite {suite!r} has a {type(case).__name__} that is no case, a dataclass with "
            f"task, model, seed, measures and run: {type(error).__name__}: {error}"
        ) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


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
        started=_now(),
        seconds=0.0,
        cpu_seconds=0.0,
    )
    clock, processor = time.perf_counter(), time.process_time()
    try:
        result = case.run(context)
        metrics = tuple(_checked(m) for m in result.metrics)
        made = replace(record, metrics=metrics, detail=dict(result.detail), note=result.note)
        json.dumps(_plain(made), ensure_ascii=False, allow_nan=False).encode()  # can be written
        record = made
    except Exception as error:
        record = replace(
            record,
            error={
                "type": type(error).__name__,
                "message": _printable(error),
                "traceback": _printable(traceback.format_exc()),
            },
        )
    return replace(
        record,
        seconds=round(time.perf_counter() - clock, 4),
        cpu_seconds=round(time.process_time() - processor, 4),
        environment={**record.environment, "load_after": environment.load()},
        used=_now(),
    )


def _printable(value: object) -> str:
    """Text of anything, even of an exception that has none, such as a file can hold."""
    try:
        text = str(value)
    except Exception:
        text = "its text cannot be had"
    return text.encode(errors="backslashreplace").decode()


_NUMBERS = ("value", "low", "high", "n", "floor", "floor_low", "floor_high", "target")
_MUST = ("value", "low", "high", "n")


def _checked(m: Metric) -> Metric:
    """The metric with plain Python numbers, all of them finite."""
    plain: dict[str, Any] = {}
    for name in _NUMBERS:
        value = getattr(m, name)
        if value is None and name not in _MUST:
            continue
        if not isinstance(value, numbers.Real):
            raise SuffuseError(
                f"the metric {m.name!r} has as {name} a {type(value).__name__}, which is no number"
            )
        if not math.isfinite(value):
            raise SuffuseError(f"the metric {m.name!r} has the {name} {value}")
        plain[name] = int(float(value)) if name == "n" else float(value)
    return replace(m, **plain)


def _plain(record: Record) -> dict[str, Any]:
    return {"format": 1} | asdict(record)


def read(path: Path) -> Record:
    """The record in a case's file. Raises SuffuseError where it is damaged or of another format."""
    data = storage.read_json(path)
    try:
        if data.pop("format") != 1:
            raise SuffuseError(f"{path} has a format that this version of Suffuse does not know")
        data["metrics"] = tuple(Metric(**m) for m in data["metrics"])
        data.setdefault("used", data["started"])  # files of before 2026-11-27
        record = Record(**data)
        _check_types(record)
        return record
    except (AttributeError, KeyError, TypeError) as error:
        raise SuffuseError(f"{path} is damaged: it is no record of a case ({error})") from error


_TYPES: dict[str, Any] = {
    "seed": int,
    "seconds": (int, float),
    "cpu_seconds": (int, float),
    "metrics": tuple,
    "error": (dict, type(None)),
    **dict.fromkeys(("parameters", "code", "environment", "detail"), dict),
}
"""Of a record's fields; the others are text."""


def _check_types(record: Record) -> None:
    """Raises TypeError for a field that is not what `_plain` writes."""
    number = (int, float)
    of_metric = dict.fromkeys(_NUMBERS, (*number, type(None))) | dict.fromkeys(_MUST, number)
    values = [(f.name, getattr(record, f.name), _TYPES) for f in fields(record)]
    for m in record.metrics:
        values += [(f.name, getattr(m, f.name), of_metric) for f in fields(m)]
    for name, value, types in values:
        if not isinstance(value, types.get(name, str)):
            raise TypeError(f"its {name} is a {type(value).__name__}")
    if record.error is not None:
        for name in ("type", "message"):
            if not isinstance(record.error[name], str):
                raise TypeError(f"the {name} of its error is no text")


def _readable(path: Path) -> Record | None:
    try:
        return read(path) if path.exists() else None
    except SuffuseError:
        return None  # it is made again


def read_all(folder: Path) -> list[Record]:
    """Every record in a folder of results.

    Raises:
        SuffuseError: where the folder holds no record, or a damaged one.
    """
    found = [read(path) for path in sorted(folder.glob("*.json"))]
    if not found:
        raise SuffuseError(f"there are no results in {folder}: suffuse bench run makes them")
    return found


def newest(records: Iterable[Record]) -> list[Record]:
    """Of every (suite, task, model, seed) the record that a run made or kept last."""
    found: dict[tuple[str, str, str, int], Record] = {}
    for record in records:
        other = found.get(record.identity)
        if other is None or record.used >= other.used:
            found[record.identity] = record
    return list(found.values())


def load(folder: Path) -> list[Record]:
    """The `newest` records in a folder of results, of which `read_all` says what it raises."""
    return newest(read_all(folder))
