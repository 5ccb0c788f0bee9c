"""`suffuse recipes|models|datasets|edits|solvers|evaluators list`: what is registered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

if TYPE_CHECKING:
    from suffuse.diffusion import Plan, Schedule

__all__ = ["datasets", "edits", "evaluators", "models", "recipes", "solvers"]


def _group(kind: str, plural: str) -> click.Group:
    @click.group(plural, help=f"The {plural} that the core and the plugins bring.")
    def group() -> None:
        pass

    @group.command("list", help=f"List the {plural}, by name.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    def listing(as_json: bool) -> None:
        from suffuse import plugins

        entries = plugins.entries(kind)
        if as_json:
            rows = [
                {
                    "name": e.name,
                    "summary": e.summary,
                    "distribution": e.distribution,
                    "version": e.version,
                }
                for e in entries
            ]
            click.echo(json.dumps(rows, indent=2))
            return
        if not entries:
            click.echo(f"no {plural}; plugins bring them (suffuse plugins list)", err=True)
        width = max((len(e.name) for e in entries), default=0)
        for e in entries:
            click.echo(f"{e.name:<{width}}  {e.summary}".rstrip())

    return group


recipes = _group("recipe", "recipes")
models = _group("model", "models")
datasets = _group("dataset", "datasets")
edits = _group("edit", "edits")
solvers = _group("solver", "solvers")
evaluators = _group("evaluator", "evaluators")


@solvers.command("show")
@click.argument("name")
@click.option("--steps", type=int, default=10, show_default=True, help="The most network calls.")
@click.option("--schedule", default="cosine", show_default=True, help="A registered schedule.")
@click.option("--grid", help="How the steps are spread.  [the solver's own]")
@click.option("--set", "options", multiple=True, metavar="KEY=VALUE", help="A solver's option.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value="-",
    help="Draw it too, here, or into this SVG file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def show(
    name: str,
    steps: int,
    schedule: str,
    grid: str | None,
    options: tuple[str, ...],
    plot: Path | None,
    as_json: bool,
) -> None:
    """Print the table of the solver NAME, and what it does to normal data.

    \b
    suffuse solvers show dpmpp-3m --steps 10 --plot
    suffuse solvers show ddim --set eta=1 --schedule scaled-linear --plot ddim.svg
    """
    from suffuse import plugins, recipe, storage
    from suffuse.diffusion import analysis, solvers

    clock = cast("Schedule", plugins.build("schedule", {"name": schedule}))
    part: dict[str, Any] = {"name": name, **recipe.overrides(options)}
    chosen = plugins.resolve("solver", part, where="solver")
    function = plugins.get("solver", chosen.pop("name")).load()
    plan = solvers.plan(function, clock, steps=steps, grid=grid, **chosen)
    if plot is not None and str(plot) != "-":
        storage.write_text(plot, _figure(plan))
    if as_json:
        click.echo(plan.to_json())
        return
    click.echo(str(plan))
    if plan.law != "affine":
        return
    if str(plot) == "-":
        click.echo(_bars(plan))
    click.echo(
        "\nnormal data of deviation: error of the samples' deviation; on the way; what arrives of "
        "an error of 1 in every estimate"
    )
    for deviation in (0.1, 0.5, 1.0, 2.0):
        way = analysis.spread(plan, deviation**2)
        arrives = abs(analysis.amplification(plan, deviation**2)).sum()
        click.echo(
            f"  {deviation:4}:  {way[-1] - 1:+.5f}   {way.min() - 1:+.3f} to {way.max() - 1:+.3f}"
            f"   {arrives:.3f}"
        )


def _walk(plan: Plan) -> dict[str, Any]:
    """Of every row: how far it goes in λ, and what arrives of an error in its estimate."""
    import torch

    from suffuse.diffusion import analysis

    before, after = (plan.schedule.at(torch.from_numpy(t)).lam.numpy() for t in (plan.t, plan.s))
    return {"step in λ": after - before, "gain of an error": abs(analysis.amplification(plan, 1.0))}


def _bars(plan: Plan) -> str:
    """The rows as bars of characters: for a terminal."""
    import math

    columns = _walk(plan)
    most = {
        title: max(filter(math.isfinite, values), default=1) for title, values in columns.items()
    }
    lines = ["", f"{'t':>9} {'s':>9}   " + "".join(f"{title:<30}" for title in columns)]
    for i, (t, s) in enumerate(zip(plan.t, plan.s, strict=True)):
        line = f"{t:9.5f} {s:9.5f}   "
        for title, values in columns.items():
            share = values[i] / most[title]
            drawn = "#" * round(20 * share) if math.isfinite(share) else ""
            line += f"{values[i]:7.3f} {drawn:<22}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def _figure(plan: Plan) -> str:
    """The table as a picture, beside it the same bars; SVG."""
    import numpy as np

    from suffuse.report import figures

    columns = [f"x{j}" for j in range(plan.A.shape[1])]
    columns += [f"d{j}" for j in range(plan.B.shape[1])] + ["z"]
    cells = np.concatenate([plan.A, plan.B, plan.C[:, None]], axis=1)
    rows = [f"{t:.3f} → {s:.3f}" for t, s in zip(plan.t, plan.s, strict=True)]
    return figures.table(cells, columns, rows, "t", _walk(plan) if plan.law == "affine" else {})
