"""Fitted detectors and imputers in a directory: model.safetensors and config.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

import suffuse
from suffuse import storage
from suffuse.errors import SuffuseError
from suffuse.model import Model
from suffuse_anomaly.table import Table, TableError

__all__ = [
    "KINDS",
    "MODEL",
    "check_place",
    "load",
    "load_tables",
    "plain",
    "save",
    "save_tables",
    "whole",
]

T = TypeVar("T")

KINDS = {
    "anomaly/detector": "detector of tables",
    "anomaly/imputer": "imputer of tables",
    "anomaly/series": "detector of series",
    "anomaly/series-imputer": "imputer of series",
    "anomaly/pictures": "detector of pictures",
    "anomaly/sounds": "detector of sounds",
    "anomaly/clips": "detector of clips",
    "anomaly/model": "detector by a model",
}
"""What a directory may hold: the entry `kind` of its config.json, in words."""

MODEL = "model"
"""The folder inside for the model that a detector asks."""


def save(
    path: str | PathLike[str],
    *,
    kind: str,
    version: int,
    settings: Mapping[str, Any],
    tensors: Mapping[str, Any],
    own: Mapping[str, Any],
    model: Model | None = None,
) -> None:
    """Write the directory; one that is there is replaced as a whole.

    Args:
        path: of the directory.
        kind, version: of what is kept (`KINDS`), and of its form.
        settings: the arguments that made it, as JSON knows them.
        tensors: arrays or tensors by name.
        own: further entries of config.json.
        model: of another plugin, which is kept inside.
    """
    check_place(path)
    config = {
        "format": version,
        "kind": kind,
        "suffuse": suffuse.__version__,
        "settings": dict(settings),
        **own,
    }
    with storage.replacing_folder(path) as folder:
        storage.save_tensors(
            folder / "model.safetensors",
            {name: torch.as_tensor(value).contiguous() for name, value in tensors.items()},
        )
        storage.write_json(folder / "config.json", config)
        if model is not None:
            model.save(folder / MODEL)


def check_place(path: str | PathLike[str]) -> None:
    """Refuse to put a model in the place of anything but a model of `KINDS`, or of nothing.

    Raises:
        TableError: where `path` is a file, or a folder of other things.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise TableError(f"{str(folder)!r} is a file, and a model is a folder: name a new one")
    if folder.is_dir() and any(folder.iterdir()):
        try:
            held = storage.read_json(folder / "config.json")
        except SuffuseError:
            held = None
        if not (isinstance(held, dict) and held.get("kind") in KINDS):
            raise TableError(
                f"{str(folder)!r} holds other things, whose place the model would take: name a new "
                "folder"
            )


def whole(load: Callable[[type[T], Any], T]) -> Callable[[type[T], Any], T]:
    """A `load` that says in a sentence where what it reads does not fit together."""

    @wraps(load)
    def told(cls: type[T], path: str | PathLike[str]) -> T:
        try:
            return load(cls, path)
        except SuffuseError:
            raise
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise TableError(
                f"{str(path)!r} is damaged: what it holds does not fit together "
                f"({type(error).__name__}: {str(error).splitlines()[0]}); fit it again"
            ) from error

    return told


def load(
    path: str | PathLike[str], *, kind: str, version: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the tensors that `save` wrote.

    Raises:
        SuffuseError: where the directory holds none of this kind, or one of another format.
    """
    folder, what = Path(path), KINDS[kind]
    config = storage.read_json(folder / "config.json")
    given = config.get("kind") if isinstance(config, dict) else None
    if given != kind:
        held = f", but a {KINDS[given]}" if given in KINDS else ": its config.json says so"
        raise TableError(f"{str(folder)!r} is no {what}{held}")
    if config["format"] != version:
        raise TableError(
            f"{str(folder)!r} has the format {config['format']}, and this version of "
            f"suffuse-anomaly reads {version}; fit the {what.partition(' ')[0]} again"
        )
    return config, storage.load_tensors(folder / "model.safetensors")


def save_tables(
    path: str | PathLike[str],
    fitted: Any,
    *,
    kind: str,
    version: int,
    tensors: Mapping[str, Any],
    own: Mapping[str, Any],
) -> None:
    """`save` an estimator of tables, with its `table_`, `_seed` and perhaps `feature_names_in_`."""
    columns = {
        "seed": fitted._seed,
        "feature_names": getattr(fitted, "feature_names_in_", np.array([])).tolist(),
        "columns": fitted.table_.to_json(),
    }
    settings = plain(fitted.get_params())
    save(path, kind=kind, version=version, settings=settings, tensors=tensors, own=own | columns)


def load_tables(
    cls: type[T], path: str | PathLike[str], *, kind: str, version: int
) -> tuple[T, dict[str, Any], dict[str, Tensor]]:
    """An estimator as `save_tables` was given it, less what its own tensors and entries hold."""
    config, tensors = load(path, kind=kind, version=version)
    found: Any = cls(**config["settings"])
    found._seed, found.table_ = config["seed"], Table.from_json(config["columns"])
    found.n_features_in_ = len(found.table_.columns)
    if config["feature_names"]:
        found.feature_names_in_ = np.array(config["feature_names"], dtype=object)
    return found, config, tensors


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON knows them; a generator of random numbers is left out."""
    found = {
        key: value.item() if isinstance(value, np.generic) else value
        for key, value in settings.items()
    }
    if not isinstance(found.get("random_state"), int | None):
        found["random_state"] = None
    return found
