"""`suffuse train`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from suffuse.errors import SuffuseError

if TYPE_CHECKING:
    from suffuse.recipe import Recipe


@click.command()
@click.argument("recipe")
@click.argument("more", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--out", type=click.Path(path_type=Path), help="The run directory.  [runs/RECIPE]")
@click.option("--data", type=click.Path(), help="The data set's path (dataset.path).")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change the recipe.")
@click.option("--seed", type=int, help="The seed of everything random (training.seed).")
@click.option("--from", "start", help="Train on the weights of this model (training.start).")
@click.option("--resume", is_flag=True, help="Go on with the run, or start it.")
@click.option("--advise", is_flag=True, help="Find a learning rate and a batch, and stop.")
@click.option("--print-config", is_flag=True, help="Print the resolved recipe and stop.")
def train(
    recipe: str,
    more: tuple[str, ...],
    out: Path | None,
    data: str | None,
    changes: tuple[str, ...],
    seed: int | None,
    start: str | None,
    resume: bool,
    advise: bool,
    print_config: bool,
) -> None:
    """Train a model by RECIPE: a registered name, or a path that ends in .toml.

    KEY=VALUE changes the recipe, with --set before it or without.

    \b
    suffuse train image/digits --out runs/a --set training.steps=2000
    suffuse train image/digits --out runs/a --resume
    suffuse train image/digits --out runs/b --from runs/a
    suffuse train image/digits --out runs/b --from runs/a --set training.lora=8
    suffuse train image/digits --advise
    suffuse train image/digits --print-config > mine.toml
    """
    from suffuse import recipe as recipes

    assignments = recipes.overrides([*changes, *more])
    if data is not None:
        assignments["dataset.path"] = str(Path(data).resolve())
    if seed is not None:
        assignments["training.seed"] = seed
    if start is not None:
        assignments["training.start"] = (
            str(Path(start).resolve()) if Path(start).exists() else start
        )
    resolved = recipes.load(recipe, assignments)
    if print_config:
        click.echo(resolved.to_toml(), nl=False)
        return
    if advise:
        _advise(resolved)
        return
    from suffuse import training

    if out is None:
        out = Path("runs") / Path(recipe).with_suffix("").as_posix().strip("/").replace("/", "-")
    if out.is_file():
        raise SuffuseError(f"--out is a folder for the run, and {str(out)!r} is a file")
    command = shlex.join(["suffuse", *sys.argv[1:]])
    try:
        training.train(resolved, out, resume=resume, command=command)
    except training.Interrupted:
        raise SystemExit(130) from None


def _advise(recipe: Recipe) -> None:
    from suffuse.training.advice import advise

    training = recipe.training
    found = advise(recipe)
    click.echo(
        f"learning rate  {found.learning_rate:g} advised, {training.learning_rate:g} in the recipe "
        "(a tenth of the rate where a rising one had the least loss)"
    )
    if found.batch is None:
        told = f"more than {training.batch} advised: the gradient of one drowns in its noise"
    else:
        told = f"about {max(round(found.batch), 1)} advised, {training.batch} in the recipe"
    click.echo(f"batch          {told} (as much noise as signal early on; it grows later)")
    click.echo(f"take it with   --set training.learning_rate={found.learning_rate:g}")
