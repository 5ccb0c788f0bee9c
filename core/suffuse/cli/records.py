"""What a file says of its making."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suffuse.errors import SuffuseError

if TYPE_CHECKING:
    from suffuse.model import Model

__all__ = ["read_record", "record_text", "weights"]

KEY = "suffuse"
"""The text entry of a file that holds what made it, as JSON."""


def weights(model: Model) -> str:
    """What tells a model's weights from others: the beginning of their file's SHA-256."""
    from suffuse import storage

    assert model.path is not None
    return storage.digest(model.path / "model.safetensors")[:16]


def record_text(record: Mapping[str, Any]) -> dict[str, str]:
    """A record as the text entries of a file."""
    import suffuse

    return {KEY: json.dumps({"version": suffuse.__version__, **record})}


def read_record(path: Path) -> dict[str, Any]:
    """What a file says of its making.

    Raises:
        SuffuseError: for a file that says nothing of it.
    """
    from suffuse import plugins

    for entry in plugins.entries("renderer"):
        renderer: Any = plugins.build("renderer", {"name": entry.name})
        if path.suffix.lower() in renderer.suffixes:
            record = _checked(renderer.metadata(path).get(KEY))
            if record is not None:
                return record
            break
    raise SuffuseError(
        f"{str(path)!r} does not say how it was made; only files written by `suffuse sample` do, "
        "as long as no other program has rewritten them"
    )


def _checked(text: str | None) -> dict[str, Any] | None:
    """The record that a file holds as JSON, or None where it is none of ours."""
    from pydantic import BaseModel, ConfigDict, Field, ValidationError

    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
        solver: dict[str, Any] | str
        steps: int = Field(ge=1)
        grid: str | dict[str, Any] | list[float] | None
        guidance: float
        guidance_by: list[dict[str, Any]] = []
        negative: dict[str, str] | None = None
        size: list[int] | None = None
        circular: bool = False
        raw: bool = False

    class Record(BaseModel):
        version: str
        model: str
        weights: str
        seed: int = Field(ge=0, lt=2**64)
        index: int = Field(ge=0, lt=2**32)
        settings: Settings
        conditions: dict[str, str | float | None]

    try:
        return Record.model_validate_json(text or "").model_dump()
    except ValidationError:
        return None
