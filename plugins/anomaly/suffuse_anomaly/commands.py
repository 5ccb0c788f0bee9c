"""`suffuse anomaly`: fit, refresh, threshold, impute, simulate."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def anomaly() -> None:
    """Find what is unusual in tables, series, and folders of pictures, sounds or clips."""


@anomaly.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The model directory.")
@click.option(
    "--method",
    multiple=True,
    metavar="NAME",
    help="How rows are judged; several are averaged (see docs/anomaly.md).  [auto]",
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
@click.option("--series", is_flag=True, help="The rows are moments; one column may be their times.")
@click.option("--window", type=int, help="Moments in a window of --series.  [the period]")
@click.option("--seed", type=int, default=0, show_default=True)
def fit(
    data: Path,
    out: Path,
    method: tuple[str, ...],
    contamination: float | None,
    drop: tuple[str, ...],
    normal: str | None,
    series: bool,
    window: int | None,
    seed: int,
) -> None:
    """Learn from DATA what is usual; then use `suffuse score`.

    DATA is a table (CSV, or Parquet); with --series its rows are moments; or a folder of normal
    pictures, sounds or clips.

    \b
    suffuse anomaly fit transactions.csv --out runs/fraud --drop id --normal fraud=0
    suffuse anomaly fit pulse.csv --series --out runs/heart
    suffuse anomaly fit plates/ --out runs/plates
    """
    from suffuse.errors import SuffuseError

    if series or data.is_dir():
        from suffuse_anomaly.scored import fit_folder, fit_series

        given = {
            "--contamination": contamination is not None,
            "--normal": normal is not None,
            "--method": series and bool(method),
            "--drop": not series and bool(drop),
            "--window": not series and window is not None,
        }
        what = "series" if series else "a folder"
        for name, there in given.items():
            if there:
                raise SuffuseError(f"{name} is not for {what}: leave it out")
        if series and data.is_dir():
            raise SuffuseError(f"{data} is a folder, and --series is for one file: leave one out")
        if len(method) > 1:
            raise SuffuseError(f"of a folder one --method judges; given {', '.join(method)}")
        if series:
            click.echo(fit_series(data, out, window=window, drop=drop))
        else:
            click.echo(fit_folder(data, out, method=(*method, "knn-time")[0], seed=seed))
        return
    if window is not None:
        raise SuffuseError("--window is for --series: leave it out, or add --series")
    from suffuse_anomaly.files import fit_file

    click.echo(
        fit_file(
            data,
            out,
            method="auto" if not method else method[0] if len(method) == 1 else method,
            contamination=contamination,
            drop=drop,
            normal=normal,
            seed=seed,
        )
    )


@anomaly.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("data", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def refresh(model: Path, data: Path) -> None:
    """Let the detector in MODEL learn from the further normal rows of DATA, in place.

    \b
    suffuse anomaly refresh runs/fraud july.csv
    """
    from suffuse_anomaly.files import refresh_file

    click.echo(refresh_file(model, data))


@anomaly.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--budget", type=float, help="How many false alarms are allowed among --per rows.")
@click.option("--per", type=float, default=1000, show_default=True, help="Normal rows of --budget.")
@click.option(
    "--known",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A table of known anomalies, for the threshold of least cost.",
)
@click.option("--false-alarm", type=float, default=1.0, show_default=True, help="What one costs.")
@click.option("--miss", type=float, default=100.0, show_default=True, help="What one costs.")
@click.option("--share", type=float, default=0.001, show_default=True, help="Of anomalous rows.")
def threshold(
    model: Path,
    budget: float | None,
    per: float,
    known: Path | None,
    false_alarm: float,
    miss: float,
    share: float,
) -> None:
    """Put the threshold of the detector in MODEL where a budget or costs want it, in place.

    \b
    suffuse anomaly threshold runs/fraud --budget 5 --per 1000
    suffuse anomaly threshold runs/fraud --known frauds.csv --false-alarm 2 --miss 300 --share 0.002
    """
    from suffuse_anomaly.files import threshold_file

    costs = {"false_alarm": false_alarm, "miss": miss, "share": share}
    click.echo(threshold_file(model, budget=budget, per=per, known=known, costs=costs))


@anomaly.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="A CSV file.")
@click.option("--draws", type=int, default=0, help="Write so many drawn tables, numbered.  [none]")
@click.option("--series", is_flag=True, help="The rows are moments; one column may be their times.")
@click.option("--seed", type=int, default=0, show_default=True)
def impute(data: Path, out: Path, draws: int, series: bool, seed: int) -> None:
    """Fill the gaps of the table or series DATA by what the rest of it lets one expect.

    \b
    suffuse anomaly impute patients.csv -o filled.csv
    suffuse anomaly impute pulse.csv --series -o filled.csv
    """
    if series:
        from suffuse_anomaly.scored import fill_series

        click.echo(fill_series(data, out, draws=draws, seed=seed))
        return
    from suffuse_anomaly.files import impute_file

    click.echo(impute_file(data, out, draws=draws, seed=seed))


@anomaly.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--rows", type=int, default=5000, show_default=True, help="How many payments.")
@click.option("--frauds", type=int, default=50, show_default=True, help="How many are fraud.")
@click.option("--seed", type=int, default=0, show_default=True)
def simulate(out: Path, rows: int, frauds: int, seed: int) -> None:
    """Write a CSV file of made-up payments with known frauds, to try things with.

    \b
    suffuse anomaly simulate payments.csv
    """
    from suffuse import storage
    from suffuse_anomaly.payments import payments

    storage.write_text(out, payments(rows, frauds, seed=seed).to_csv(index=False))
    click.echo(f"{rows} payments, {frauds} of them fraud, in {out}")
