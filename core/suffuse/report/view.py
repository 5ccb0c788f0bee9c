"""A run as the sections of its page see it: the model, some of its data, and what it recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suffuse.errors import SuffuseError
from suffuse.model import Model
from suffuse.plugins.contracts import Dataset, Example, Metric
from suffuse.report import record
from suffuse.report.blocks import number

__all__ = ["SHOWN", "View", "drawn", "look", "recipe_path", "shape", "spread"]

SHOWN = 10
"""Examples in a row; and the most categories that get a row."""


@dataclass
class View:
    """A run as the sections see it.

    Attributes:
        run, model: the directory and what it holds.
        train, test: the data; None where it is not to be had.
        category: the first condition with categories, and those that are shown; or None.
        examples: training examples in rows, by the name of the row.
        log, metrics, started: what the run recorded.
    """

    run: Path
    model: Model
    train: Dataset | None
    test: Dataset | None
    category: str | None
    names: tuple[str, ...]
    examples: list[tuple[str, list[Example]]]
    log: record.Log
    metrics: list[Metric]
    started: Mapping[str, Any]

    @property
    def few(self) -> list[tuple[str, Example]]:
        """Up to four examples, of different rows where there are several."""
        firsts = [(name, row[0]) for name, row in self.examples if row]
        if len(firsts) == 1:
            name, row = self.examples[0]
            firsts = [(name, example) for example in row]
        return firsts[:4]

    def parameters(self) -> int:
        return sum(p.numel() for p in self.model.network.parameters())

    def conditions(self, n: int) -> dict[str, Any]:
        """What to ask for in n samples: the shown categories in turn, else as in real data."""
        if self.category is not None:
            return {self.category: [self.names[i % len(self.names)] for i in range(n)]}
        source = self.test if self.test is not None and len(self.test) else self.train
        if source is None or not len(source) or not self.model.conditions:
            return {}
        picked = [source[i % len(source)].conditions for i in range(n)]
        return {name: [c.get(name) for c in picked] for name in self.model.conditions}


def look(run: Path) -> View:
    model = Model.load(run)
    category = next(
        (name for name, c in model.conditions.items() if c.kind == "category" and c.names), None
    )
    names = model.conditions[category].names[:SHOWN] if category is not None else ()
    train, test = _dataset(model, "train"), _dataset(model, "test")
    return View(
        run=run,
        model=model,
        train=train,
        test=test,
        category=category,
        names=names,
        examples=[] if train is None else _examples(train, category, names),
        log=record.log(run),
        metrics=record.evaluation(run),
        started=record.started(run),
    )


def _dataset(model: Model, split: str) -> Dataset | None:
    try:
        found = model.dataset(split)
    except SuffuseError:
        return None
    return found if len(found) else None


def spread(n: int, most: int) -> list[int]:
    """At most so many of the indices up to n, evenly."""
    return sorted({round(i) for i in np.linspace(0, n - 1, min(n, most)).tolist()})


def _examples(
    dataset: Dataset, category: str | None, names: Sequence[str]
) -> list[tuple[str, list[Example]]]:
    if category is None:
        picked = [dataset[i] for i in spread(len(dataset), 3 * SHOWN)]
        return [("", picked[i : i + SHOWN]) for i in range(0, len(picked), SHOWN)]
    rows: dict[str, list[Example]] = {name: [] for name in names}
    for i in spread(len(dataset), 2000):
        example = dataset[i]
        row = rows.get(str(example.conditions.get(category)))
        if row is not None and len(row) < SHOWN:
            row.append(example)
        if all(len(row) == SHOWN for row in rows.values()):
            break
    return [(name, row) for name, row in rows.items() if row]


def _caption(example: Example, besides: str | None) -> str:
    parts = [
        number(v) if isinstance(v, float) else str(v)
        for k, v in example.conditions.items()
        if k != besides and v is not None
    ]
    text = ", ".join(parts)
    return text if len(text) <= 40 else text[:39] + "…"


def drawn(row: Sequence[Example], besides: str | None) -> tuple[list[Any], list[str]]:
    return [e.data for e in row], [_caption(e, besides) for e in row]


def shape(shape: Sequence[int] | Mapping[str, Sequence[int]]) -> str:
    """
    >>> shape((1, 8, 8)), shape({"atoms": (9,), "bonds": (9, 9)})
    ('1 × 8 × 8', 'atoms 9, bonds 9 × 9')
    """
    if isinstance(shape, Mapping):
        return ", ".join(f"{name} {_sizes(part)}" for name, part in shape.items())
    return _sizes(shape)


def _sizes(sizes: Sequence[int]) -> str:
    return " × ".join(str(k) for k in sizes)


def recipe_path(view: View) -> str:
    path = view.run / "recipe.toml"
    return path.as_posix() if path.exists() else "recipe.toml"
