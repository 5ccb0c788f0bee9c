"""`suffuse anomaly`: fit, refresh, threshold, evaluate, impute, simulate."""

from __future__ import annotations

from pathlib import Path

import click

SEED = click.IntRange(0, 2**32 - 1)


@click.group()
def anomaly() -> None:
    """Find what is unusual in tables, series, and folders of pictures, sounds or clips."""


@anomaly.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True), required=False)
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
@click.option(
    "--model",
    metavar="NAME",
    help="Judge by this model of the domain; without DATA by its own data.",
)
@click.option("--seed", type=SEED, default=0, show_default=True)
def fit(
    data: Path | None,
    out: Path,
    method: tuple[str, ...],
    contamination: float | None,
    drop: tuple[str, ...],
    normal: str | None,
    series: bool,
    window: int | None,
    model: str | None,
    seed: int,
) -> None:
    """Learn from DATA what is usual; then use `suffuse score`.

    DATA is a table (CSV, or Parquet); with --series its rows are moments; or a folder of normal
    pictures, sounds or clips, and with --model of whatever the model knows.

    \b
    suffuse anomaly fit transactions.csv --out runs/fraud --drop id --normal fraud=0
    suffuse anomaly fit pulse.csv --series --out runs/heart
    suffuse anomaly fit plates/ --out runs/plates
    suffuse anomaly fit tunes/ --model audio/notes --out runs/tunes
    """
    from suffuse.errors import SuffuseError
    from suffuse_anomaly.keeping import check_place

    check_place(out)
    if model is not None:
        from suffuse_anomaly.folders import fit_model

        given = {
            "--contamination": contamination is not None,
            "--normal": normal is not None,
            "--drop": bool(drop),
            "--series": series,
            "--window": window is not None,
        }
        _refuse(given, "a model of a domain", method)
        click.echo(fit_model(data, out, model=model, method=(*method, "auto")[0], seed=seed))
        return
    if data is None:
        raise SuffuseError("give DATA to learn from, or --model NAME, which has data of its own")
    if series or data.is_dir():
        from suffuse_anomaly.folders import fit_folder
        from suffuse_anomaly.series_files import fit_series

        given = {
            "--contamination": contamination is not None,
            "--normal": normal is not None,
            "--method": series and bool(method),
            "--drop": not series and bool(drop),
            "--window": not series and window is not None,
        }
        _refuse(given, "series" if series else "a folder", method)
        if series and data.is_dir():
            raise SuffuseError(f"{data} is a folder, and --series is for one file: leave one out")
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


def _refuse(given: dict[str, bool], what: str, method: tuple[str, ...]) -> None:
    """Refuse options that are not for what is learned from, and several methods."""
    from suffuse.errors import SuffuseError

    for name, there in given.items():
        if there:
            raise SuffuseError(f"{name} is not for {what}: leave it out")
    if len(method) > 1:
        raise SuffuseError(f"for {what} one --method judges; given {', '.join(method)}")


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
@click.argument("scores", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--truth", required=True, metavar="COLUMN", help="Says what is anomalous: 1, or 0.")
@click.option(
    "--labels",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The table with --truth.  [SCORES]",
)
@click.option("--normal", metavar="VALUE", help="Of --truth; all others are anomalies.")
@click.option("--score", "column", metavar="COLUMN", default="score", show_default=True)
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Scores of another detector, to compare with in pairs.",
)
@click.option("--series", is_flag=True, help="Rows are moments of one series: VUS-PR.")
@click.option("--resamples", type=click.IntRange(20), default=500, show_default=True)
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write JSON to this file too.")
def evaluate(
    scores: Path,
    truth: str,
    labels: Path | None,
    normal: str | None,
    column: str,
    against: Path | None,
    series: bool,
    resamples: int,
    seed: int,
    out: Path | None,
) -> None:
    """Measure how well SCORES, a file of `suffuse score`, tell what is anomalous.

    Of tables and folders: AUROC, average precision, F1 at k, recall at 1 % of false alarms, and how
    uniform p-values of normal rows are, each with a 95 % interval by bootstrap. Of series: VUS-PR.

    \b
    suffuse anomaly evaluate scores.csv --truth fraud --labels transactions.csv
    suffuse anomaly evaluate scores.csv --truth label --normal ok --against others.csv
    """
    from rich.console import Console
    from rich.table import Table

    from suffuse import storage
    from suffuse_anomaly.judging import judge_file

    found = judge_file(
        scores,
        truth=truth,
        labels=labels,
        normal=normal,
        column=column,
        against=against,
        series=series,
        resamples=resamples,
        seed=seed,
    )
    if out is not None:
        storage.write_json(out, [figure.plain() for figure in found])
    table = Table(box=None, pad_edge=False)
    for heading in ("figure", "value", "95 % interval", "better", "n"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for m in found:
        interval = f"{m.low:.4g} to {m.high:.4g}" if m.low < m.high else ""
        table.add_row(m.name, f"{m.value:.4g}", interval, m.better, f"{m.n:,}")
    Console(width=None if Console().is_terminal else 140).print(table)


@anomaly.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="A CSV file.")
@click.option("--draws", type=int, default=0, help="Write so many drawn tables, numbered.  [none]")
@click.option("--series", is_flag=True, help="The rows are moments; one column may be their times.")
@click.option("--seed", type=SEED, default=0, show_default=True)
def impute(data: Path, out: Path, draws: int, series: bool, seed: int) -> None:
    """Fill the gaps of the table or series DATA by what the rest of it lets one expect.

    \b
    suffuse anomaly impute patients.csv -o filled.csv
    suffuse anomaly impute pulse.csv --series -o filled.csv
    """
    if series:
        from suffuse_anomaly.series_files import fill_series

        click.echo(fill_series(data, out, draws=draws, seed=seed))
        return
    from suffuse_anomaly.files import impute_file

    click.echo(impute_file(data, out, draws=draws, seed=seed))


@anomaly.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--rows", type=int, default=5000, show_default=True, help="How many payments.")
@click.option("--frauds", type=int, default=50, show_default=True, help="How many are fraud.")
@click.option("--seed", type=SEED, default=0, show_default=True)
def simulate(out: Path, rows: int, frauds: int, seed: int) -> None:
    """Write a CSV file of made-up payments with known frauds, to try things with.

    \b
    suffuse anomaly simulate payments.csv
    """
    from suffuse import storage
    from suffuse_anomaly.payments import payments

    storage.write_text(out, payments(rows, frauds, seed=seed).to_csv(index=False))
    click.echo(f"{rows} payments, {frauds} of them fraud, in {out}")
