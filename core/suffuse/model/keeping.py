"""Models that are kept: directories, and models by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

import suffuse
from suffuse import plugins, storage
from suffuse.errors import SuffuseError, unknown
from suffuse.model.judging import Judging
from suffuse.plugins import options
from suffuse.plugins.contracts import (
    Condition,
)
from suffuse.recipe import Recipe

__all__ = ["FORMAT", "Model", "load"]

FORMAT = 1
"""The version of the model directory's layout."""


class Model(Judging):
    """A network with everything around it that makes it usable.

    See `Parts` for its arguments and attributes.
    """

    def config(self) -> dict[str, Any]:
        """What config.json holds: everything but the weights, as plain values."""
        return {
            "format": FORMAT,
            "suffuse": suffuse.__version__,
            "plugins": {s.distribution: s.version for s in plugins.statuses() if s.status == "ok"},
            "recipe": self.recipe.model_dump(),
            "conditions": {
                name: {"kind": c.kind, "names": list(c.names)}
                for name, c in self.conditions.items()
            },
        }

    def save(self, path: str | PathLike[str], tensors: Mapping[str, Tensor] | None = None) -> None:
        """Write a model directory: model.safetensors and config.json, each atomically.

        Args:
            path: the directory; made where missing.
            tensors: other weights for the network than its own, for instance averaged ones.
        """
        folder = Path(path)
        state = self.network.state_dict() if tensors is None else tensors
        storage.save_tensors(folder / "model.safetensors", state)
        storage.write_json(folder / "config.json", self.config())

    @classmethod
    def load(cls, path: str | PathLike[str], device: str | torch.device | None = None) -> Model:
        """The model in a directory.

        Raises:
            SuffuseError: where it is no model directory, damaged, of another format, or made with
                plugins that are not installed.
        """
        folder = Path(path)
        config = _read_config(folder)
        recipe = options.check(Recipe, config["recipe"], where="recipe").resolved()
        conditions = {
            name: Condition(c["kind"], tuple(c["names"]))
            for name, c in config["conditions"].items()
        }
        model = cls(recipe, conditions, path=folder)
        tensors = storage.load_tensors(folder / "model.safetensors")
        try:
            model.network.load_state_dict(tensors)
        except RuntimeError as e:
            raise SuffuseError(
                f"the weights in {str(folder)!r} do not fit the network of its config.json: {e}"
            ) from None
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        model.network.to(device)
        return model


def load(source: str | PathLike[str], device: str | torch.device | None = None) -> Model:
    """A model by the path of its directory, or by the registered name of one that is installed.

    Args:
        source: for instance "runs/a" or "image/digits"; a directory that exists goes first.
        device: where to put the network; a GPU where there is one.

    Raises:
        SuffuseError: see `Model.load`; and for an unknown name.
    """
    if Path(source).exists():
        return Model.load(source, device)
    found = plugins.hook.resolve_model(name=str(source))
    if found is None:
        known = {entry.name for entry in plugins.entries("model")}
        if str(source) not in known:
            raise unknown("model or run directory", source, known)
        found = plugins.get("model", str(source)).load()
    return Model.load(found, device)


class _Kind(BaseModel):
    """A condition, as config.json has it."""

    kind: Literal["category", "number", "text", "state"]
    names: list[str]


class _Config(BaseModel):
    """What loading needs of config.json."""

    recipe: dict[str, Any]
    conditions: dict[str, _Kind]


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise SuffuseError(
            f"{str(folder)!r} is no model: it has no readable config.json (a run has one from its "
            "first checkpoint on)"
        ) from None
    except (ValueError, RecursionError) as e:
        raise SuffuseError(f"{str(path)!r} is damaged: {e}") from None
    if not isinstance(config, dict) or "format" not in config:
        raise SuffuseError(f"{str(path)!r} is not the config of a Suffuse model")
    if config["format"] != FORMAT:
        raise SuffuseError(
            f"{str(folder)!r} has the format {config['format']}, and this version of Suffuse reads "
            f"{FORMAT}; install the Suffuse that made it ({config.get('suffuse', 'unknown')})"
        )
    try:
        return _Config.model_validate(config).model_dump()
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SuffuseError(f"{str(path)!r} is damaged: {where}: {first['msg']}") from None
