"""`suffuse export`."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from suffuse.cli.files import new_folder
from suffuse.errors import SuffuseError


@click.command()
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="bfloat16",
    show_default=True,
    help="How the weights are stored; they are computed with in float32.",
)
def export(model: str, out: Path, dtype: str) -> None:
    """Write MODEL, without what only its training needs, as the model directory OUT.

    \b
    suffuse export runs/a mine/ ; suffuse sample mine/ -n 4
    """
    import torch

    import suffuse
    from suffuse import storage

    new_folder(out)
    loaded = suffuse.load(model)
    assert loaded.path is not None
    kind = getattr(torch, dtype)
    weights = {
        name: tensor.to(kind) if tensor.is_floating_point() else tensor
        for name, tensor in loaded.network.state_dict().items()
    }
    broken = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise SuffuseError(f"{dtype} cannot hold the numbers of {broken[0]}; take another --dtype")
    with storage.replacing_folder(out) as folder:
        loaded.save(folder, weights)
        if (loaded.path / "plans").is_dir():
            shutil.copytree(loaded.path / "plans", folder / "plans")
        card = loaded.path / "README.md"
        if card.is_file():
            shutil.copyfile(card, folder / card.name)
    size = sum(file.stat().st_size for file in out.rglob("*"))
    click.echo(f"{out}: {size / 1e6:.1f} MB")
