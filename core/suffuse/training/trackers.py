"""Trackers: what is logged, sent on to a program that draws it.

A tracker is made with the run's directory and recipe, is told values by name at a step, and is
closed at the end. Those of the core are accelerate's: tensorboard, trackio, wandb and mlflow, each
of which is installed apart. metrics.jsonl is written in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from suffuse import plugins
from suffuse.errors import SuffuseError
from suffuse.recipe import Recipe

__all__ = ["Tracker", "flat", "mlflow", "opened", "tensorboard", "trackio", "wandb"]


class Tracker(Protocol):
    """What a registered target makes: ``target(run=path, recipe=mapping, **options)``."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take in finite numbers by name."""

    def finish(self) -> None:
        """The run has ended, or stops."""


class _Accelerate:
    def __init__(self, kind: str, run: Path, recipe: Mapping[str, Any]) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS, filter_trackers

        if not filter_trackers([kind], logging_dir=str(run)):
            raise SuffuseError(f"the tracker {kind!r} is not installed: pip install {kind}")
        made: Any = LOGGER_TYPE_TO_CLASS[kind]
        folder = {"logging_dir": str(run / "tracking")} if made.requires_logging_directory else {}
        self._tracker: Any = made(run.resolve().name, **folder)
        self._tracker.start() if hasattr(self._tracker, "start") else None
        self._tracker.store_init_configuration(dict(flat(recipe)))

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._tracker.log(dict(values), step=step)

    def finish(self) -> None:
        self._tracker.finish()


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of tables as one, with dotted keys; lists as text.

    >>> flat({"training": {"steps": 5}, "evaluators": ["a"]})
    {'training.steps': 5, 'evaluators': "['a']"}
    """
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{prefix}{key}.")
        else:
            plain = isinstance(value, int | float | str | bool)
            out[f"{prefix}{key}"] = value if plain else str(value)
    return out


def _of(kind: str) -> Callable[[Path, Mapping[str, Any]], Tracker]:
    def made(run: Path, recipe: Mapping[str, Any]) -> Tracker:
        return _Accelerate(kind, run, recipe)

    return made


tensorboard, trackio, wandb, mlflow = map(_of, ("tensorboard", "trackio", "wandb", "mlflow"))


def opened(recipe: Recipe, run: Path) -> list[Tracker]:
    """The trackers that the recipe names."""
    make = partial(plugins.build, run=run, recipe=recipe.model_dump(mode="json"))
    return [make("tracker", part) for part in recipe.training.trackers]
