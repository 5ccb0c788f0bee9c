"""Fitted estimators of tables in a directory: model.safetensors and config.json."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

import suffuse
from suffuse import storage
from suffuse_anomaly.table import Table, TableError

__all__ = ["load", "save"]

T = TypeVar("T")


def save(
    path: str | PathLike[str],
    fitted: Any,
    *,
    kind: str,
    version: int,
    tensors: Mapping[str, Any],
    own: Mapping[str, Any],
) -> None:
    """Write the directory.

    Args:
        path: of the directory; one that is there is replaced as a whole.
        fitted: on a table, with `table_`, `_seed` and perhaps `feature_names_in_`.
        kind, version: of what is kept, and of its form.
        tensors: arrays or tensors by name.
        own: further entries of config.json.
    """
    config = {
        "format": version,
        "kind": kind,
        "suffuse": suffuse.__version__,
        "settings": _settings(fitted),
        "seed": fitted._seed,
        **own,
        "feature_names": getattr(fitted, "feature_names_in_", np.array([])).tolist(),
        "columns": fitted.table_.to_json(),
    }
    with storage.replacing_folder(path) as folder:
        storage.save_tensors(
            folder / "model.safetensors",
            {name: torch.as_tensor(value) for name, value in tensors.items()},
        )
        storage.write_json(folder / "config.json", config)


def load(
    cls: type[T], path: str | PathLike[str], *, kind: str, version: int
) -> tuple[T, dict[str, Any], dict[str, Tensor]]:
    """An estimator as `save` was given it, less what its own tensors and entries hold; and these.

    Raises:
        SuffuseError: where the directory holds none of this kind, or one of another format.
    """
    folder, what = Path(path), kind.partition("/")[2]
    config = storage.read_json(folder / "config.json")
    if not isinstance(config, dict) or config.get("kind") != kind:
        raise TableError(f"{str(folder)!r} is no {what} of tables: its config.json says so")
    if config["format"] != version:
        raise TableError(
            f"{str(folder)!r} has the format {config['format']}, and this version of "
            f"suffuse-anomaly reads {version}; fit the {what} again"
        )
    found: Any = cls(**config["settings"])
    found._seed, found.table_ = config["seed"], Table.from_json(config["columns"])
    found.n_features_in_ = len(found.table_.columns)
    if config["feature_names"]:
        found.feature_names_in_ = np.array(config["feature_names"], dtype=object)
    return found, config, storage.load_tensors(folder / "model.safetensors")


def _settings(estimator: BaseEstimator) -> dict[str, Any]:
    """The settings of an estimator as JSON knows them; without a generator of random numbers."""
    found = {
        key: value.item() if isinstance(value, np.generic) else value
        for key, value in estimator.get_params().items()
    }
    if not isinstance(found["random_state"], int | None):
        found["random_state"] = None
    return found
