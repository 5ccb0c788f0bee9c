"""`suffuse bench ls|run|report|compare`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from suffuse.errors import SuffuseError

if TYPE_CHECKING:
    from suffuse.bench import Case, Outcome

__all__ = ["bench"]

OUT = Path("benchmarks-results")
_SET = click.option(
    "--set", "options", multiple=True, metavar="KEY=VALUE", help="A suite's option."
)
_ONLY = click.option(
    "--only",
    multiple=True,
    metavar="TEXT",
    help="Cases whose task or model has this in it; given twice, both.",
)


@click.group()
def bench() -> None:
    """Measure, keep what was measured, report and compare it.

    \b
    suffuse bench run quick
    suffuse bench report
    """


def _named(suite: str) -> str:
    """A suite's whole name: `core` stands for `benchmarks/core`, else for the only one so named."""
    from suffuse import plugins

    names = [entry.name for entry in plugins.entries("benchmark")]
    if f"benchmarks/{suite}" in names:
        return f"benchmarks/{suite}"
    ends = [name for name in names if name.endswith(f"/{suite}")]
    return ends[0] if suite not in names and len(ends) == 1 else suite


def _cases(suite: str, options: tuple[str, ...], only: tuple[str, ...]) -> list[Case]:
    from suffuse import plugins, recipe

    part: dict[str, Any] = {"name": suite, **recipe.overrides(options)}
    try:
        cases = list(plugins.build("benchmark", part))
    except SuffuseError:
        raise
    except Exception as error:
        raise SuffuseError(
            f"the suite {suite!r} failed while it made its cases: {type(error).__name__}: {error}"
        ) from error
    for text in only:
        cases = [case for case in cases if text in f"{case.task}\n{case.model}"]
    if not cases:
        raise SuffuseError(f"the suite {suite!r} has no such case")
    return cases


@bench.command("ls")
@click.argument("suite", required=False)
@_SET
@_ONLY
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(suite: str | None, options: tuple[str, ...], only: tuple[str, ...], as_json: bool) -> None:
    """List the suites, or the cases of SUITE."""
    from suffuse import plugins

    if suite is None:
        entries = plugins.entries("benchmark")
        if as_json:
            rows = [{"name": e.name, "summary": e.summary, "version": e.version} for e in entries]
            click.echo(json.dumps(rows, indent=2))
            return
        if not entries:
            click.echo("no suites; plugins bring them: pip install suffuse-benchmarks", err=True)
        width = max((len(e.name) for e in entries), default=0)
        for e in entries:
            click.echo(f"{e.name:<{width}}  {e.summary}".rstrip())
        return
    cases = _cases(_named(suite), options, only)
    if as_json:
        from suffuse.bench import key
        from suffuse.bench.case import parameters

        listed = [
            {
                "name": f"{case.task} {case.model} {case.seed}",
                "task": case.task,
                "model": case.model,
                "seed": case.seed,
                "parameters": parameters(case),
                "key": key(case),
            }
            for case in cases
        ]
        click.echo(json.dumps(listed, indent=2))
        return
    for case in cases:
        click.echo(f"{case.task}  {case.model}  seed {case.seed}")


@bench.command("run")
@click.argument("suite")
@click.option("--out", type=click.Path(path_type=Path), default=OUT, show_default=True)
@_SET
@_ONLY
@click.option("--force", is_flag=True, help="Run cases again that are done.")
@click.option(
    "--share",
    metavar="I/N",
    default="1/1",
    help="Every N-th case, from the I-th on: for N machines that share OUT.",
)
@click.option("--jobs", type=int, default=1, help="So many shares at once.  [default: 1]")
@click.option("--launcher", default="processes", show_default=True, help="Where jobs run.")
def run(
    suite: str,
    out: Path,
    options: tuple[str, ...],
    only: tuple[str, ...],
    force: bool,
    share: str,
    jobs: int,
    launcher: str,
) -> None:
    """Run the cases of SUITE that are not done, each into a JSON file in the folder OUT.

    A case that fails does not stop the others; the exit status is then 1. Ctrl-C keeps what is
    done. Times are only worth something where nothing else runs: leave --jobs at 1 for them.
    """
    from suffuse import bench as runner

    suite = _named(suite)
    first, of = _share(share)
    cases = _cases(suite, options, only)[first - 1 :: of]
    if jobs < 1:
        raise SuffuseError(f"--jobs is 1 or more, and {jobs} is not")
    if not cases:
        click.echo(f"the share {share} of {suite} has no case: it has fewer than {first}", err=True)
        return
    if jobs > 1:
        words = ["bench", "run", suite, "--out", str(out), *["--force"] * force]
        for name, values in (("--set", options), ("--only", only)):
            words += [word for value in values for word in (name, value)]
        shares = [f"{first + of * job}/{of * jobs}" for job in range(min(jobs, len(cases)))]
        _launch(launcher, [[*words, "--share", each] for each in shares])
        return
    counts = {"done": 0, "kept": 0, "failed": 0}
    interrupted = False
    with _progress(len(cases)) as show:

        def on_outcome(outcome: Outcome) -> None:
            counts[outcome.state] += 1
            show(outcome)

        try:
            runner.run(cases, out, suite, force=force, on_outcome=on_outcome)
        except KeyboardInterrupt:
            interrupted = True
    told = ", ".join(f"{n} {state}" for state, n in counts.items() if n or state == "done")
    click.echo(f"{told}; results in {out}", err=True)
    if interrupted:
        click.echo("interrupted; the same command goes on from here", err=True)
        raise SystemExit(130)
    if counts["failed"]:
        raise SystemExit(1)


def _share(text: str) -> tuple[int, int]:
    """The two numbers of "2/4"."""
    first, _, of = text.partition("/")
    if not (first.isdecimal() and of.isdecimal() and 1 <= int(first) <= int(of)):
        raise SuffuseError(f"--share is I/N with I from 1 to N, for instance 2/4, not {text!r}")
    return int(first), int(of)


def _launch(launcher: str, commands: list[list[str]]) -> None:
    """Run the commands at once; the worst of their exit statuses is this one's."""
    from suffuse import plugins

    where = plugins.build("launcher", {"name": launcher})
    statuses = where.launch(commands, lambda line: click.echo(line, err=True))
    if any(statuses):
        raise SystemExit(max(abs(status) for status in statuses))


@contextmanager
def _progress(total: int) -> Iterator[Callable[[Outcome], None]]:
    """On a terminal a bar with the case that was last; elsewhere a line for each case."""

    def line(outcome: Outcome) -> str:
        case, record = outcome.case, outcome.record
        text = f"{outcome.state}  {case.task}  {case.model}  seed {case.seed}"
        if outcome.state == "done":
            text += f"  {record.seconds:.1f} s"
        if record.error is not None and outcome.state == "failed":
            text += f"  {record.error['type']}: {record.error['message']}"
        if outcome.stays is not None:
            text += f"  (the result of {outcome.stays.started} stays)"
        return text

    if not sys.stderr.isatty():
        yield lambda outcome: click.echo(line(outcome), err=True)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)

        def show(outcome: Outcome) -> None:
            bar.update(task, advance=1, description=f"{outcome.case.task} {outcome.case.model}")
            if outcome.state == "failed":
                console.print(line(outcome), style="red", highlight=False, markup=False)

        yield show


@bench.command("report")
@click.argument("results", type=click.Path(path_type=Path), default=OUT)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="The page.  [RESULTS/report.html]"
)
@click.option("--title", default="Benchmarks", show_default=True, help="The page's heading.")
def report(results: Path, out: Path | None, title: str) -> None:
    """Write the RESULTS as one HTML page, and as Markdown beside it."""
    from suffuse import storage
    from suffuse.bench.report import markdown, page
    from suffuse.bench.runner import newest, read_all

    path = out or results / "report.html"
    if path.suffix.lower() != ".html":
        raise SuffuseError(f"the page is a file that ends in .html, and {path} does not")
    every = read_all(results)
    records = newest(every)
    older = len(every) - len(records)
    page(records, title, older).write(path)
    storage.write_text(path.with_suffix(".md"), markdown(records, title, older))
    click.echo(f"wrote {path} and {path.with_suffix('.md')}")


@bench.command("compare")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare(a: Path, b: Path, as_json: bool) -> None:
    """Ratios of the results B to the results A, with intervals, case by case.

    What cannot be compared is named after them, with the reason.
    """
    from suffuse.bench import load
    from suffuse.bench.report import compare as compared
    from suffuse.bench.report import left_out

    before, after = load(a), load(b)
    ratios, others = compared(before, after), left_out(before, after)
    if as_json:
        rows = [{"name": f"{r.task} {r.model} {r.metric}", **asdict(r)} for r in ratios]
        told = {"compared": rows, "left_out": [asdict(each) for each in others]}
        click.echo(json.dumps(told, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("task", "model", "figure", "A", "B", "B / A", "95 % interval", ""):
        table.add_column(heading, justify="right" if heading in ("A", "B", "B / A") else "left")
    for r in ratios:
        table.add_row(
            *(r.task, r.model, r.metric, f"{r.a:.4g}", f"{r.b:.4g}", f"{r.value:.3f}"),
            *(f"{r.low:.3f} to {r.high:.3f}", r.verdict),
        )
    Console(width=None if Console().is_terminal else 160).print(table)
    if others:
        click.echo(f"\nnot compared: {len(others)}")
    for each in others:
        what = f"{each.task}  {each.model}  seed {each.seed}"
        click.echo(f"{what}{'  ' if each.metric else ''}{each.metric}: {each.reason}")
