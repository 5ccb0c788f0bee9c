"""The page of samples: what was made, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from suffuse.plugins.contracts import Renderer
from suffuse.report.blocks import Html
from suffuse.report.page import Page

__all__ = ["write_samples"]

_SHOWN, _PLAYED = 64, 16


def write_samples(
    objects: Sequence[Any],
    records: Sequence[Mapping[str, Any]],
    captions: Sequence[str] | None,
    renderer: Renderer,
    path: Path,
) -> None:
    """Write samples as one page: a sheet of them, what was asked for, and how they were made.

    Where the renderer has players, the first 16 can be played.

    Args:
        objects: raw objects.
        records: how each was made: "model", "seed", "index", "settings", "conditions".
        captions: of each, or None.
        renderer: of their domain.
        path: of the page.
    """
    first = records[0]
    title = f"{len(objects)} sample{'s' * (len(objects) != 1)}"
    page = Page(title, f"made by `{first['model']}`")
    shown = slice(_SHOWN)
    section = page.section("Samples")
    sheet = renderer.sheet(objects[shown], None if captions is None else captions[shown])
    left = len(objects) - _SHOWN
    section.figure(sheet, "the samples", f"the first {_SHOWN}, of {len(objects)}" * (left > 0))
    players = getattr(renderer, "players", None)
    if players is not None:
        said = captions or [f"sample {record['index']}" for record in records]
        section.add(Html(Markup(players(objects[:_PLAYED], said[:_PLAYED]))))
    names = [name for name in first["conditions"] if any(r["conditions"][name] for r in records)]
    section = page.section("How they were made")
    told = {"seed": first["seed"], **{k: v for k, v in first["settings"].items() if v}}
    section.table(["setting", "value"], [(name, _text(value)) for name, value in told.items()])
    if names:
        section = page.section("What was asked for")
        rows = [[r["index"], *(_text(r["conditions"][n]) for n in names)] for r in records]
        section.table(["sample", *names], rows)
    page.write(path)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return "" if value is None else str(value)
