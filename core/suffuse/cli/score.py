"""`suffuse score`."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import click

from suffuse.cli.files import found, read_each
from suffuse.errors import SuffuseError


@click.command()
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path, exists=True))
@click.option("--model", required=True, help="A run, a model directory or an installed model.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("scores.csv"),
    show_default=True,
    help="The file for the scores.",
)
@click.option("--explain", is_flag=True, help="Say what each part adds to a score.")
@click.option("--report", type=click.Path(path_type=Path), help="Write a page to this file too.")
@click.option(
    "--scorer",
    default="reconstruction",
    show_default=True,
    help="How models of the core judge; there are: see `suffuse plugins list`.",
)
@click.option("--seed", type=int, default=0, show_default=True)
def score(
    source: Path,
    model: str,
    out: Path,
    explain: bool,
    report: Path | None,
    scorer: str,
    seed: int,
) -> None:
    """Say how unusual each row or file of INPUT is to a model; higher is more unusual.

    INPUT is a file or a folder of what the model knows: a table for a detector of tables, pictures
    for a model of pictures.

    \b
    suffuse score transactions.csv --model runs/fraud -o scores.csv --explain --report report.html
    suffuse score photos/ --model image/digits -o scores.csv
    """
    from suffuse import plugins

    if out.resolve() == source.resolve():
        raise SuffuseError(f"the scores would take the place of {source}: name another --out")
    if Path(model).is_dir():
        own = plugins.hook.open_scorer(model=Path(model))
        if own is not None:
            click.echo(own(source, out, explain=explain, report=report))
            return
    import suffuse

    loaded = suffuse.load(model)
    if explain or report is not None:
        raise SuffuseError(
            f"--explain and --report are for models of plugins that explain, and {model!r} is a "
            "model of the core's: leave them out"
        )
    names, objects = read_each(found([source], loaded.renderer), loaded.renderer, source)
    scores = loaded.score(objects, scorer, seed=seed).tolist()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "score"])
    for name, value in zip(names, scores, strict=True):
        writer.writerow([name, f"{value:.6g}"])
    from suffuse import storage

    storage.write_text(out, text.getvalue())
    click.echo(f"{len(names)} scores in {out}")
