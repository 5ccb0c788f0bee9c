"""Looks at a model under way: a sheet of samples, and what the evaluators say."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from suffuse import storage
from suffuse.errors import SuffuseError
from suffuse.model import Model
from suffuse.stats import evenly
from suffuse.training.ema import SNAPSHOTS

logger = logging.getLogger(__name__)

__all__ = ["evaluate", "evaluations", "forget", "sheet", "since_best"]

ROWS = 4
CATEGORIES = 12
PLAIN = 16


def sheet(model: Model, path: Path) -> None:
    """Sample the same seeds each time and draw them: a column for each of the first categories.

    Words and whole objects as conditions are those of held-out examples, one for each row where
    there are columns.

    Args:
        model: with the weights to look at.
        path: of the PNG.
    """
    named = [(k, c.names) for k, c in model.conditions.items() if c.kind == "category" and c.names]
    name, columns = (named[0][0], list(named[0][1][:CATEGORIES])) if named else ("", [])
    count, wide = (ROWS, len(columns)) if columns else (PLAIN, 1)
    given: dict[str, Any] = {
        key: [value for value in values for _ in range(wide)]
        for key, values in _held_out(model, count).items()
    }
    if columns:
        given[name] = columns * ROWS
    made = model.sample(count * wide, seed=0, **given)
    png = model.renderer.sheet(made, columns * ROWS or None, len(columns))
    storage.write_bytes(path, png)


def _held_out(model: Model, count: int) -> dict[str, list[Any]]:
    """Values of the conditions that are words or objects, of held-out examples in turns."""
    names = [name for name, c in model.conditions.items() if c.kind in ("text", "state")]
    if not names:
        return {}
    try:
        test = model.dataset("test")
    except SuffuseError:  # a look is not worth a run
        return {}
    examples = [test[i] for i in evenly(len(test), count)] if len(test) else []
    return {
        name: [examples[i % len(examples)].conditions.get(name) for i in range(count)]
        for name in names
        if examples
    }


def evaluations(path: Path) -> list[dict[str, Any]]:
    """The metrics in evaluation.json; none where it is missing or damaged."""
    try:
        found = storage.read_json(path)
    except SuffuseError:
        return []
    if not isinstance(found, list):
        return []
    return [m for m in found if isinstance(m, dict) and "step" in m]


def evaluate(model: Model, path: Path, step: int) -> list[dict[str, Any]]:
    """Run the recipe's evaluators and keep what they find beside earlier findings.

    Args:
        model: with the weights to evaluate.
        path: of evaluation.json: a list of metrics (`suffuse.plugins.contracts.Metric`), each with
            its "step"; those of the last step come last.
        step: the training steps done.

    Returns:
        The metrics of this step.
    """
    try:
        metrics = model.evaluate(seed=0)
    except SuffuseError as error:  # no reason to lose a training that is done
        logger.warning("no evaluation after step %d: %s", step, error)
        return []
    found = [{"step": step, **metric.plain()} for metric in metrics]
    if found:
        earlier = [m for m in evaluations(path) if m["step"] < step]
        storage.write_json(path, earlier + found)
    return found


def forget(run: Path, step: int) -> None:
    """Remove what is there of later steps: sheets, figures and averages of weights given up."""
    sheets = (run / "samples").glob("step-*.png")
    for path in (*sheets, *(run / SNAPSHOTS).glob("*.safetensors")):
        if int(path.stem.removeprefix("step-")) > step:
            path.unlink()
    found = evaluations(run / "evaluation.json")
    kept = [metric for metric in found if metric["step"] <= step]
    if kept != found:
        storage.write_json(run / "evaluation.json", kept)


def since_best(metrics: list[dict[str, Any]]) -> int:
    """How many evaluations were made since the best one, by the first figure of each.

    >>> found = [{"step": i, "value": v, "better": "lower"} for i, v in enumerate([3, 2, 4, 5])]
    >>> since_best(found)
    2
    """
    first: dict[int, dict[str, Any]] = {}
    for metric in metrics:
        first.setdefault(metric["step"], metric)
    sign = {"higher": 1.0, "lower": -1.0}
    worst = -math.inf
    values = [
        worst if m["value"] is None else sign.get(m["better"], -1.0) * m["value"]
        for _, m in sorted(first.items())
    ]
    return len(values) - 1 - values.index(max(values)) if values else 0
