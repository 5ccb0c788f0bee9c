"""A page of a run under way, which a browser reads again and again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suffuse import storage
from suffuse.errors import SuffuseError
from suffuse.report import record
from suffuse.report.blocks import Chart, number
from suffuse.report.curves import curves
from suffuse.report.page import Page

__all__ = ["watch", "write"]


def write(run: Path, path: Path, refresh: int = 5) -> bool:
    """Draw a run as it stands now.

    Args:
        run: its directory.
        path: of the page.
        refresh: seconds after which a browser reads it again.

    Returns:
        Whether the run is finished; the page of one that is asks for no more reading.

    Raises:
        SuffuseError: where there is no run.
    """
    started: Mapping[str, Any] = storage.read_json(run / "run.json")
    training = started.get("recipe", {}).get("training", {})
    log, steps = record.log(run), int(training.get("steps", 0))
    done = int(log.step[-1]) if len(log) else 0
    finished = 0 < steps <= int(started.get("finished", 0))
    page = Page(run.resolve().name, _state(run, done, steps, finished), 0 if finished else refresh)
    rate, loss = log.last("examples_per_second"), log.last("loss")
    page.fact(f"{done:,}", "steps done", f"of {steps:,}")
    if loss is not None:
        page.fact(number(loss), "loss")
    if rate:
        page.fact(number(round(rate)), "examples a second")
        left = (steps - done) * int(training.get("batch", 1)) / rate
        page.fact("0:00" if finished else _clock(left), "left")
    memory = log.last("memory")
    if memory:
        page.fact(f"{memory / 1e6:,.0f} MB", "memory at most")
    section = page.section("Training")
    if len(log):
        section.side(*curves(log, str(training.get("decay", ""))))
    else:
        section.prose("Nothing is logged yet.")
    shown = record.sheets(run)
    if shown:
        samples = page.section("Samples", lead="The same seeds, from the averaged weights")
        samples.side(
            *(Chart(png, f"Samples after {n} steps.", f"After {n:,} steps") for n, png in shown)
        )
    figures = record.evaluation(run)
    if figures:
        page.section("Figures").metrics(figures)
    page.write(path)
    return finished


def watch(run: Path, path: Path, every: float) -> None:
    """Write the page again and again until the run is finished."""
    while not write(run, path, max(round(every), 1)):
        time.sleep(every)


def _state(run: Path, done: int, steps: int, finished: bool) -> str:
    if finished:
        return f"finished after {done:,} steps"
    newest = max((p.stat().st_mtime for p in run.glob("*.json*")), default=0.0)
    quiet = time.time() - newest
    if quiet > 600:
        return f"at step {done:,} of {steps:,}; nothing was written for {_clock(quiet)}"
    return f"at step {done:,} of {steps:,}"


def _clock(seconds: float) -> str:
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


def missing(run: Path) -> SuffuseError:
    """The sentence for a directory that is no run."""
    return SuffuseError(f"{str(run)!r} is no run: it has no run.json; give the --out of a training")
