"""Checks of the plugin itself, and of everything that it registers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest import SkipTest

import click
from click.testing import CliRunner

from suffuse.plugins import Entry, PluginStatus
from suffuse.testing.workbench import Workbench, refused

HEAVY = ("torch", "numpy", "pandas", "scipy", "sklearn", "PIL", "matplotlib", "pydantic")

_TELL = """
import importlib, sys
from suffuse.cli.plugins import commands
from suffuse.plugins import Candidate, Manager
name, module, *heavy = sys.argv[1:]
commands(Manager([Candidate(name, lambda: importlib.import_module(module))]))
print(*(name for name in heavy if name in sys.modules))
"""


def is_light(bench: Workbench, status: PluginStatus) -> None:
    """Its entry module and its hooks import nothing heavy: every command calls them."""
    module = bench.manager.plugin(status)
    name = getattr(module, "__name__", None)
    if name not in sys.modules:
        raise SkipTest("the plugin is no module")
    paths = os.pathsep.join(path for path in sys.path if path)
    asked = [sys.executable, "-c", _TELL, status.name, str(name), *HEAVY]
    told = subprocess.run(
        asked, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}
    )
    assert told.returncode == 0, f"{name} cannot be imported: {told.stderr.strip()[-300:]}"
    found = told.stdout.split()
    assert not found, (
        f"importing {name} and calling its hooks imports {', '.join(found)}: give targets as "
        "'module:attribute', and import inside functions"
    )


def is_whole(bench: Workbench, status: PluginStatus) -> None:
    """It was loaded without a word: no name was refused, no hook is misspelt."""
    assert not status.message, status.message


def commands_have_help(bench: Workbench, status: PluginStatus) -> None:
    """Its commands, if any, answer to --help and say what they do."""
    brought = False
    for candidate, call in bench.manager.calls("register_commands"):
        if (candidate.name, candidate.distribution) != (status.name, status.distribution):
            continue
        group = click.Group()
        call(cli=group)
        for name, command in group.commands.items():
            brought = True
            _has_help(command, [name])
    if not brought:
        raise SkipTest("the plugin brings no commands")


def _has_help(command: click.Command, path: list[str]) -> None:
    told = CliRunner().invoke(command, ["--help"], prog_name=" ".join(path))
    shown = " ".join(["suffuse", *path, "--help"])
    assert told.exit_code == 0, f"`{shown}` ends with {told.exception!r}"
    assert command.help, f"`{shown}` does not say what the command does: give it a docstring"
    for name, inner in getattr(command, "commands", {}).items():
        _has_help(inner, [*path, name])


def loads(bench: Workbench, entry: Entry) -> None:
    """Its target can be imported, and is what its kind takes."""
    target = entry.load()
    if entry.kind in ("recipe", "model"):
        there = isinstance(target, Path) and target.exists()
        assert there or (entry.kind == "recipe" and isinstance(target, dict)), (
            f"a {entry.kind} is registered by its path, and {target!r} is none that exists"
        )
    else:
        assert callable(target), f"{target!r} cannot be called"


def has_options(bench: Workbench, entry: Entry) -> None:
    """Its options can be read, resolve to themselves, and a misspelt one is refused."""
    if entry.kind in ("recipe", "model"):
        raise SkipTest(f"a {entry.kind} has no options")
    options = bench.options(entry)
    registry = bench.manager.registry
    resolved = registry.resolve(entry.kind, options)
    again = registry.resolve(entry.kind, resolved)
    assert again == resolved, f"the options {resolved} resolve to others: {again}"
    refused(
        lambda: registry.resolve(entry.kind, {**options, "no_such_option": 1}),
        "an option that there is not",
    )


def says_what_it_is(bench: Workbench, entry: Entry) -> None:
    """Its summary is one line, for listings."""
    summary = entry.summary
    assert summary.strip(), "it has no summary: register(..., summary='...')"
    assert "\n" not in summary, f"its summary has several lines: {summary!r}"
    assert len(summary) <= 100, f"its summary has {len(summary)} characters; 100 are the most"
