"""``suffuse plugins``: what is installed, what is wrong with it, and installing more."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from suffuse import plugins as system
from suffuse.errors import SuffuseError, unknown
from suffuse.plugins import Manager, PluginStatus
from suffuse.plugins.candidates import SELECTION, canonical, discover
from suffuse.plugins.manager import TRACE, summary

__all__ = ["commands", "plugins"]

_COLOURS = {"ok": "green", "incompatible": "yellow", "error": "red", "disabled": "dim"}

_TELL = """
from suffuse.cli.plugins import plugins
plugins(["list", "--json"])
"""


def commands(manager: Manager, taken: Collection[str] = ()) -> dict[str, click.Command]:
    """The commands that plugins bring, by name.

    Each plugin adds to a group of its own, which counts only when its hook has succeeded.

    Args:
        manager: the loaded plugins.
        taken: the names of the core's commands; a plugin's command of such a name is left out.
    """
    found: dict[str, click.Command] = {}
    for candidate, call in manager.calls("register_commands"):
        group = click.Group()
        try:
            call(cli=group)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            manager.report(candidate, f"failed in its hook 'register_commands': {summary(error)}")
            continue
        for name, command in group.commands.items():
            if name in taken or name in found:
                manager.report(candidate, f"may not bring a command {name!r}, which there is")
            else:
                found[name] = command
    return found


@click.group()
def plugins() -> None:
    """What is installed beside the core, and installing more."""


@plugins.command("list")
@click.option("as_json", "--json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """List the plugins: status, version and what each adds."""
    statuses = _statuses()
    if as_json:
        rows = [asdict(status) for status in statuses]
        for row in rows:
            del row["traceback"]
        click.echo(json.dumps(rows, indent=2))
    elif not statuses:
        click.echo("no plugin is installed; `suffuse plugins install` gets one")
    else:
        _show([asdict(status) for status in statuses])


@plugins.command()
@click.pass_context
def doctor(context: click.Context) -> None:
    """Say what is wrong with plugins, with tracebacks, and what this environment is.

    Exits with status 1 where a plugin is broken or incompatible.
    """
    statuses = _statuses()
    manager = system.current()
    _table("environment", _environment(manager))
    for status in statuses:
        click.echo(f"\n{status.name}: {status.status} ({status.distribution} {status.version})")
        for text in (status.message, status.traceback):
            for line in text.splitlines():
                click.echo(f"    {line}")
    for candidate, hook in manager.pending():
        click.echo(f"\n{candidate} offers a hook {hook!r} that this core does not have")
    broken = [status.name for status in statuses if status.status in ("error", "incompatible")]
    if broken:
        click.echo(f"\nnot usable: {', '.join(broken)}")
        context.exit(1)
    click.echo("\nevery plugin that is not disabled is usable")


_PASSED_ON = {"ignore_unknown_options": True}


@plugins.command(context_settings=_PASSED_ON)
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def install(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Install plugins with pip, into this Python. ARGUMENTS are pip's."""
    before = {(plugin.distribution, plugin.version) for plugin in discover()}
    _pip(context, "install", arguments)
    told = subprocess.run([sys.executable, "-P", "-c", _TELL], stdout=subprocess.PIPE, text=True)
    if told.returncode:
        raise SuffuseError("pip is done, but the plugins cannot be listed: see the error above")
    asked = [canonical(argument) for argument in arguments]
    rows = [
        row
        for row in json.loads(told.stdout)
        if (row["distribution"], row["version"]) not in before
        or any(canonical(row["distribution"]) in argument for argument in asked)
    ]
    if not rows:
        click.echo("pip is done, and no plugin is new: see `suffuse plugins list`")
        return
    _show(rows)
    if any(row["status"] in ("error", "incompatible") for row in rows):
        context.exit(1)


@plugins.command(context_settings=_PASSED_ON)
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def uninstall(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Remove plugins with pip, from this Python. ARGUMENTS are pip's (-y: do not ask)."""
    known = {canonical(plugin.distribution) for plugin in discover()}
    for argument in arguments:
        if argument.startswith(("-r", "--requirement")):
            raise SuffuseError("name the plugins to remove one by one, and no file of requirements")
        if not argument.startswith("-") and canonical(argument) not in known:
            raise unknown("distribution of a plugin", argument, known)
    _pip(context, "uninstall", arguments)


@plugins.command()
@click.argument("name")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Where.  [suffuse-NAME]")
def new(name: str, out: Path | None) -> None:
    """Write a plugin called NAME: complete, small, tested, to be changed into yours.

    \b
    suffuse plugins new birds
    pip install -e suffuse-birds && suffuse plugins check birds
    """
    from suffuse.plugins import scaffold

    name = name.removeprefix("suffuse-")  # that of its distribution is meant
    folder = Path(f"suffuse-{name}") if out is None else out
    taken = frozenset(canonical(candidate.name) for candidate in discover())
    for file in scaffold.write(name, folder, taken):
        click.echo(folder / file)
    click.echo(
        f"\npip install -e {folder}          # beside Suffuse\n"
        f"suffuse plugins check {name}    # what Suffuse asks of it\n"
        f"suffuse train {name}/waves"
    )


@plugins.command()
@click.argument("plugin")
@click.option("-k", "part", metavar="TEXT", default="", help="Only checks whose name has TEXT.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Write a summary to this file.")
@click.option("--trace", is_flag=True, help="Show where in the code a check failed.")
@click.pass_context
def check(
    context: click.Context, plugin: str, part: str, markdown: Path | None, trace: bool
) -> None:
    """Hold PLUGIN to what the contracts promise, each thing that it registers.

    Exits with status 1 where a check fails.

    \b
    suffuse plugins check image
    suffuse plugins check image -k encoder --markdown image.md
    """
    from suffuse import storage, testing

    chosen = [each for each in testing.checks(plugin) if part in each.id]
    if not chosen:
        raise SuffuseError(f"plugin {plugin!r} has no check whose name has {part!r}")
    results = []
    for each in chosen:
        result = each.run()
        results.append(result)
        mark = {"passed": "ok", "failed": "FAILED", "expected": "expected", "skipped": "-"}
        line = f"{mark[result.outcome]:<8} {result.id}  {result.seconds:.1f} s"
        click.echo(f"{line}\n         {result.reason}" if result.reason else line)
        if trace and result.trace:
            click.echo(result.trace)
    failed, skipped = (
        sum(result.outcome == outcome for result in results) for outcome in ("failed", "skipped")
    )
    seconds = sum(result.seconds for result in results)
    click.echo(
        f"{len(results)} checks of {plugin}, {failed} failed, {skipped} skipped, in {seconds:.1f} s"
        f"\nthe slowest: {testing.slowest(results)}"
    )
    if markdown is not None:
        storage.write_text(markdown, testing.markdown(f"plugin {plugin}", results))
    if failed:
        context.exit(1)


def _pip(context: click.Context, verb: str, arguments: Iterable[str]) -> None:
    if importlib.util.find_spec("pip") is None:
        raise SuffuseError(
            f"this Python has no pip: run `uv pip {verb} --python {sys.executable} ...`"
        )
    code = subprocess.call([sys.executable, "-m", "pip", verb, *arguments])
    if code:
        context.exit(code)


def _statuses() -> list[PluginStatus]:
    """The statuses, without the log saying beforehand what they say."""
    with _quiet("suffuse.plugins.manager"):
        return system.statuses()


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


def _environment(manager: Manager) -> dict[str, str]:
    rows = {
        "python": f"{platform.python_version()} at {sys.executable}",
        "system": platform.platform(),
    }
    for distribution in ("suffuse", "torch", "pluggy", "pydantic", "click"):
        try:
            rows[distribution] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            rows[distribution] = "not installed"
    rows |= {name: os.environ[name] for name in (SELECTION, TRACE) if name in os.environ}
    return rows | manager.environment()


def _show(rows: Iterable[Mapping[str, Any]]) -> None:
    """Statuses, as the dictionaries of `PluginStatus`: a table on a terminal, else plain lines."""
    if not sys.stdout.isatty():
        for row in rows:
            click.echo(f"{row['name']}  {row['distribution']} {row['version']}  {row['status']}")
            for line in _details(row):
                click.echo(f"    {line}")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("plugin", "distribution", "status", "adds")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['distribution']} {row['version']}",
            Text(row["status"], style=_COLOURS[row["status"]]),
            Text("\n".join(_details(row))),
        )
    Console().print(table)


def _details(row: Mapping[str, Any]) -> list[str]:
    adds = [f"{kind}: {', '.join(names)}" for kind, names in row["adds"].items()]
    return [*adds, *row["message"].splitlines()]


def _table(title: str, rows: Mapping[str, str]) -> None:
    click.echo(title)
    width = max(map(len, rows))
    for name, value in rows.items():
        click.echo(f"    {name:<{width}}  {value}")
