"""What a benchmark's case is, what it answers, and by what it is known again."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Metric
from suffuse.storage import fingerprint

__all__ = ["Case", "Context", "Record", "Result", "Table", "code", "key", "parameters"]

T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """What a case found.

    Attributes:
        metrics: figures with their 95 % intervals; times are metrics too, in a unit of time.
        detail: more, as plain JSON values, for the suite's own summary.
        note: a sentence for the reader, for instance what could not be measured.
    """

    metrics: Sequence[Metric]
    detail: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


class Context:
    """What cases that run one after the other share: things that are costly to make.

    >>> context = Context()
    >>> context.once("three", lambda: 3), context.once("three", lambda: 4)
    (3, 3)
    """

    def __init__(self) -> None:
        self._made: dict[object, Any] = {}

    def once(self, name: object, make: Callable[[], T]) -> T:
        """What `make` answered when it was first called for this name."""
        if name not in self._made:
            self._made[name] = make()
        made: T = self._made[name]
        return made


class Case(Protocol):
    """One thing to measure: a frozen dataclass of values that JSON can hold.

    Attributes:
        task: what is measured, as ``subject/detail``; a report has a table for each task.
        model: who is measured: a row of that table.
        seed: of whatever is random.
        measures: names of the modules, packages and distributions whose code decides the answer,
            beside the module of the case's own class.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def task(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def seed(self) -> int: ...

    @property
    def measures(self) -> Sequence[str]: ...

    def run(self, context: Context) -> Result:
        """Measure."""


@dataclass(frozen=True)
class Table:
    """A table of a summary."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | float | int]]
    caption: str = ""


@dataclass(frozen=True)
class Record:
    """A case's file: the case, and what became of it.

    Attributes:
        key: see `key`.
        suite: the registered name of the suite.
        task, model, seed: of the case.
        parameters: its other fields.
        code: what of its code the key was made of.
        environment: of the process that ran it, see `suffuse.bench.environment`.
        started: when, in UTC.
        used: when a run last made or kept it, in UTC; empty for what is in no file yet.
        seconds, cpu_seconds: that it took: by the clock, and of the processors.
        metrics, detail, note: its result.
        error: None, or the type, the message and the traceback of what was raised.
    """

    key: str
    suite: str
    task: str
    model: str
    seed: int
    parameters: Mapping[str, Any]
    code: Mapping[str, str]
    environment: Mapping[str, Any]
    started: str
    seconds: float
    cpu_seconds: float
    metrics: Sequence[Metric] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    error: Mapping[str, str] | None = None
    used: str = ""

    @property
    def identity(self) -> tuple[str, str, str, int]:
        """(suite, task, model, seed): what stays the same when code or parameters change."""
        return self.suite, self.task, self.model, self.seed

    def metric(self, name: str) -> Metric | None:
        """The metric of this name."""
        return next((m for m in self.metrics if m.name == name), None)


def parameters(case: Case) -> dict[str, Any]:
    """The fields of a case beside task, model and seed."""
    names = [f.name for f in fields(case) if f.name not in ("task", "model", "seed")]
    return {name: getattr(case, name) for name in names}


@cache
def _code(name: str) -> str:
    """A module's or package's source as a digest, or a distribution's version; "absent" for none.

    An installed distribution that is no module of ours is known by its version, since nobody edits
    it in place. Only a top-level name may be absent: a peer that is not installed.

    Raises:
        SuffuseError: for a dotted name that is not there, and a module without a file.
    """
    origin, found = _origin(name)
    if origin is None or "site-packages" in origin.parts:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            if origin is None and not found and "." not in name:
                return "absent"
    if origin is None:
        what = "is a module without a source file" if found else "is not found"
        raise SuffuseError(
            f"{name}, whose code a case says that it measures, {what}; "
            "`measures` holds names of modules, packages and distributions"
        )
    files = [origin]
    if origin.name == "__init__.py":  # tables of settings decide answers too
        files = sorted([*origin.parent.rglob("*.py"), *origin.parent.rglob("*.toml")])
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(origin.parent).as_posix().encode() + b"\0")
        digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _origin(name: str) -> tuple[Path | None, bool]:
    """The file of a module, if it has one, and whether there is such a module."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None, False
    except ValueError:  # a module without a specification: a script, an interactive session
        file = getattr(sys.modules.get(name), "__file__", None)
        return (Path(file).absolute() if file else None), name in sys.modules
    if spec is None:
        return None, False
    return (Path(spec.origin) if spec.has_location and spec.origin else None), True


def code(case: Case) -> dict[str, str]:
    """The code that a case's answer depends on: name to digest of the source, or to version."""
    names = {type(case).__module__, *case.measures}
    return {name: _code(name) for name in sorted(names)}


def key(case: Case) -> str:
    """The name of a case by its content, 64 hexadecimal digits.

    It is the SHA-256 of: the task, the model and the seed; the name of the case's class and its
    other fields; and `code`, that is the source of the module that defines the class, of the
    modules and packages that it names in `measures`, and the versions of the distributions there.
    So a case is done when it was run as it now stands, and is run again when what it measures has
    changed. The environment is recorded and is no part of the key.
    """
    kind = type(case)
    value = {
        "task": case.task,
        "model": case.model,
        "seed": case.seed,
        "class": f"{kind.__module__}:{kind.__qualname__}",
        "parameters": parameters(case),
        "code": code(case),
    }
    try:
        return fingerprint(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise SuffuseError(
            f"the case {case.task!r} of {case.model!r} has a field that JSON cannot hold: {error}"
        ) from error
