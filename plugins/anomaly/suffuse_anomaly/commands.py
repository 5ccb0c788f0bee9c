"""`suffuse anomaly fit`."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def anomaly() -> None:
    """Find what is unusual in tables."""


@anomaly.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The model directory.")
@click.option(
    "--method", default="auto", show_default=True, help="auto, knn-time, denoiser or ensemble."
)
@click.option("--contamination", type=float, help="The part of the rows that is unusual.  [auto]")
@click.option(
    "--drop", multiple=True, metavar="COLUMN", help="A column to leave out, such as an id."
)
@click.option(
    "--normal",
    metavar="COLUMN=VALUE",
    help="Learn from rows of this value alone, and leave the column out.",
)
@click.option("--seed", type=int, default=0, show_default=True)
def fit(
    data: Path,
    out: Path,
    method: str,
    contamination: float | None,
    drop: tuple[str, ...],
    normal: str | None,
    seed: int,
) -> None:
    """Learn from the table DATA (CSV, or Parquet) what is usual; then use `suffuse score`.

    \b
    suffuse anomaly fit transactions.csv --out runs/fraud --drop id --normal fraud=0
    """
    from suffuse_anomaly.files import fit_file

    click.echo(
        fit_file(
            data,
            out,
            method=method,
            contamination=contamination,
            drop=drop,
            normal=normal,
            seed=seed,
        )
    )
