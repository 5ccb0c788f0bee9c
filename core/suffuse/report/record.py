"""What a run recorded of itself, read leniently: a page shows what is there."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suffuse import storage
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Metric

__all__ = ["Log", "evaluation", "log", "sheets", "started"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Log:
    """The lines of metrics.jsonl as columns; NaN where a line has no such figure.

    Attributes:
        step: [N], rising.
        loss, learning_rate, examples_per_second, seconds: [N].
        memory: the most that was used until then, in bytes, [N].
        levels: the loss in equal parts of t in [0, 1], [N, K]; K is 0 where none were logged.
    """

    step: Array
    loss: Array
    learning_rate: Array
    examples_per_second: Array
    seconds: Array
    memory: Array
    levels: Array

    def __len__(self) -> int:
        return len(self.step)

    def last(self, name: str) -> float | None:
        """The newest finite value of a column."""
        values = getattr(self, name)
        finite = values[np.isfinite(values)]
        return float(finite[-1]) if len(finite) else None


def log(run: Path) -> Log:
    """metrics.jsonl of a run; of no lines where there is none. Damaged lines are left out."""
    path = run / "metrics.jsonl"
    lines: dict[float, Mapping[str, Any]] = {}
    for text in path.read_bytes().splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int | float):
            lines[float(line["step"])] = line
    rows = [lines[step] for step in sorted(lines)]
    levels = [[_number(v) for v in row.get("levels") or ()] for row in rows]
    width = max((len(row) for row in levels), default=0)
    return Log(
        **{
            name: np.array([_number(row.get(name)) for row in rows])
            for name in (f.name for f in fields(Log))
            if name != "levels"
        },
        levels=np.array([row + [math.nan] * (width - len(row)) for row in levels]).reshape(
            len(rows), width
        ),
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def evaluation(run: Path) -> list[Metric]:
    """The newest figures in evaluation.json of a run; none where it is missing.

    Raises:
        SuffuseError: for a file that is there and damaged.
    """
    path = run / "evaluation.json"
    if not path.exists():
        return []
    found = storage.read_json(path)
    if not isinstance(found, list) or not all(
        isinstance(m, dict) and isinstance(m.get("name"), str) for m in found
    ):
        raise SuffuseError(f"{path} is damaged: it is not a list of metrics")
    newest = max((m.get("step", 0) for m in found), default=0)
    known = {f.name for f in fields(Metric)}
    numbers = {"value", "low", "high"}
    out: list[Metric] = []
    for m in found:
        if m.get("step", 0) == newest:
            kept = {k: _number(v) if k in numbers else v for k, v in m.items() if k in known}
            out.append(
                Metric(**({"better": "lower", "n": 0} | dict.fromkeys(numbers, math.nan) | kept))
            )
    return out


def sheets(run: Path, most: int = 6) -> list[tuple[int, bytes]]:
    """Steps and PNGs of the sample sheets of a run: the first, the last, and some between."""
    found = []
    for path in (run / "samples").glob("step-*.png"):
        number = path.stem.removeprefix("step-")
        if number.isdigit():
            found.append((int(number), path))
    found.sort()
    if len(found) > most:
        found = [found[round(i * (len(found) - 1) / (most - 1))] for i in range(most)]
    return [(step, path.read_bytes()) for step, path in found]


def started(run: Path) -> Mapping[str, Any]:
    """run.json: what was found out when the run began; empty for a model that is no run."""
    try:
        found = storage.read_json(run / "run.json")
    except SuffuseError:
        return {}
    return found if isinstance(found, dict) else {}
