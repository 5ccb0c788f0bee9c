"""`suffuse ema`."""

from __future__ import annotations

from pathlib import Path

import click

from suffuse.cli.files import new_folder


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--std", type=float, required=True, help="The relative width, as training.ema_std.")
def ema(run: Path, out: Path, std: float) -> None:
    """Make a model of RUN whose weights are averaged over another width, in the folder OUT.

    The run keeps what that takes with --set training.ema_snapshots=16.

    \b
    suffuse ema runs/a wider/ --std 0.15
    """
    import suffuse
    from suffuse import storage
    from suffuse.training.ema import rebuilt

    new_folder(out)
    model = suffuse.load(run)
    weights = rebuilt(run, std)
    averaged = model.recipe.training.model_copy(update={"ema_std": std})
    model.recipe = model.recipe.model_copy(update={"training": averaged})
    with storage.replacing_folder(out) as folder:
        model.save(folder, weights)
    click.echo(f"{out}: weights averaged over {std:g} of the training")
