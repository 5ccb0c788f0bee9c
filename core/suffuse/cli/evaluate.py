"""`suffuse evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from suffuse.cli.sampling import parts, sampling_options
from suffuse.errors import SuffuseError


@click.command()
@click.argument("model")
@click.option("-n", "n", type=int, help="How many samples.  [as many as held-out examples]")
@click.option("--seed", type=int, default=0, show_default=True)
@parts("--by", "A registered evaluator: video/drift; repeatable.  [the recipe's]")
@sampling_options
@click.option("--batch", type=int, default=64, show_default=True, help="Samples made at once.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write JSON to this file too.")
def evaluate(
    model: str,
    n: int | None,
    seed: int,
    by: list[dict[str, Any]] | None,
    solver: dict[str, Any] | None,
    steps: int | None,
    guidance: float | None,
    guidance_by: list[dict[str, Any]] | None,
    batch: int,
    as_json: bool,
    out: Path | None,
) -> None:
    """Measure MODEL on data that it was not trained on.

    Every figure has its 95 % interval, and beside it the same figure for real against real data.
    """
    import suffuse
    from suffuse import storage

    if out is not None:
        storage.ensure_writable(out)
    loaded = suffuse.load(model)
    if not (by or loaded.recipe.evaluators):
        raise SuffuseError(
            f"the recipe of {model!r} names no evaluators, so there is no figure: name one by --by"
        )
    metrics = loaded.evaluate(
        n,
        by,
        seed=seed,
        batch=batch,
        solver=solver,
        steps=steps,
        guidance=guidance,
        guidance_by=guidance_by,
    )
    rows = [metric.plain() for metric in metrics]
    if out is not None:
        storage.write_json(out, rows)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("figure", "value", "95 % interval", "real against real", "better", "n"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for m in metrics:
        floor = "" if m.floor is None else f"{m.floor:.4g}"
        if m.floor_low is not None and m.floor_high is not None:
            floor += f" ({m.floor_low:.4g} to {m.floor_high:.4g})"
        table.add_row(
            m.name,
            f"{m.value:.4g}{m.unit and ' ' + m.unit}",
            f"{m.low:.4g} to {m.high:.4g}",
            floor,
            m.better,
            str(m.n),
        )
    console = Console(width=None if Console().is_terminal else 140)
    console.print(table)
    for m in metrics:
        if m.note:
            console.print(f"{m.name}: {m.note}")
