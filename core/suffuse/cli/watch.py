"""`suffuse watch`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="The page.  [RUN/watch.html]")
@click.option("--every", type=click.FloatRange(min=0.2), default=5.0, show_default=True,
              help="Seconds between drawings.")  # fmt: skip
@click.option("--once", is_flag=True, help="Draw it once.")
def watch(run: Path, out: Path | None, every: float, once: bool) -> None:
    """Draw RUN while it is being trained: a page that a browser reads again by itself.

    Loss by noise level, throughput, time left, samples and figures. It ends with the run; Ctrl-C
    ends it before, and does nothing to the training.
    """
    from suffuse.report import watch as pages

    path = out or run / "watch.html"
    if not (run / "run.json").is_file():
        raise pages.missing(run)
    finished = pages.write(run, path, max(round(every), 1))
    click.echo(f"{path}: open it in a browser")
    if not once and not finished:
        with suppress(KeyboardInterrupt):
            pages.watch(run, path, every)
