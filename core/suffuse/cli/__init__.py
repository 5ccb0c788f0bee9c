"""The command line: a group whose commands are imported when they are called."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

import suffuse
from suffuse.errors import SuffuseError, out_of_memory

__all__ = ["cli", "main"]

# What the system says of a place that cannot be written.
_PLACES = (errno.EACCES, errno.EDQUOT, errno.EIO, errno.ENOSPC, errno.EPERM, errno.EROFS)

# name -> ("module:attribute", what --help says)
_COMMANDS = {
    "train": ("suffuse.cli.train:train", "Train a model by a recipe."),
    "sample": ("suffuse.cli.sample:sample", "Make samples with a model."),
    "edit": ("suffuse.cli.edit:edit", "Change existing objects by a model."),
    "evaluate": ("suffuse.cli.evaluate:evaluate", "Measure a model on data not trained on."),
    "score": ("suffuse.cli.score:score", "Say how unusual each row or file is to a model."),
    "report": ("suffuse.cli.report:report", "Draw a run as one HTML page."),
    "watch": ("suffuse.cli.watch:watch", "Draw a run while it is being trained."),
    "demo": ("suffuse.cli.report:demo", "Train, sample, evaluate and report, from nothing."),
    "distill": ("suffuse.cli.distill:distill", "Teach a student to need few network calls."),
    "tune": ("suffuse.cli.tune:tune", "Fit the sampler to a model and a budget."),
    "ema": ("suffuse.cli.ema:ema", "Average a run's weights over another width."),
    "export": ("suffuse.cli.export:export", "Write a model to be handed on."),
    "bench": ("suffuse.cli.bench:bench", "Run, report and compare benchmarks."),
    "plugins": ("suffuse.cli.plugins:plugins", "List, examine, install and remove plugins."),
    "recipes": ("suffuse.cli.lists:recipes", "List the recipes."),
    "models": ("suffuse.cli.lists:models", "List the models that are installed."),
    "datasets": ("suffuse.cli.lists:datasets", "List the data sets."),
    "edits": ("suffuse.cli.lists:edits", "List the edits."),
    "solvers": ("suffuse.cli.lists:solvers", "List the solvers."),
    "evaluators": ("suffuse.cli.lists:evaluators", "List the evaluators."),
    "completion": ("suffuse.cli.completion:completion", "Print the shell's completion script."),
}


class _Root(click.Group):
    """Commands by name, ours from the table and those that plugins register."""

    _asked_plugins = False

    def _ask_plugins(self) -> None:
        if not self._asked_plugins:
            self._asked_plugins = True
            from suffuse import plugins
            from suffuse.cli.plugins import commands

            self.commands.update(commands(plugins.current(), taken=_COMMANDS))

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._ask_plugins()
        return [*_COMMANDS, *sorted(set(self.commands) - set(_COMMANDS))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _COMMANDS:
            module, attribute = _COMMANDS[cmd_name][0].split(":")
            command: click.Command = getattr(import_module(module), attribute)
            return command
        self._ask_plugins()
        return self.commands.get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            from suffuse.errors import unknown

            raise unknown("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = []
        for name in self.list_commands(ctx):
            text = _COMMANDS[name][1] if name in _COMMANDS else self.commands[name].short_help
            rows.append((name, text or self.commands[name].get_short_help_str()))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=_Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(suffuse.__version__, prog_name="suffuse")
def cli() -> None:
    """Diffusion models for every kind of data."""


class _Unrepeated(logging.Filter):
    """Lets a warning through the first time it is said, not once for each of many samples."""

    def __init__(self) -> None:
        super().__init__()
        self.said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        known = message in self.said
        self.said.add(message)
        return not known


def main(args: Sequence[str] | None = None) -> Any:
    """Run the command line; mistakes of the user end as one sentence and exit status 1."""
    if logging.lastResort is not None:  # where no handler is set up, as here
        logging.lastResort.addFilter(_Unrepeated())
    try:
        cli.main(args=None if args is None else list(args), prog_name="suffuse")
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        click.echo(f"error: {sentence}", err=True)
        sys.exit(1)


def _sentence(error: Exception) -> str | None:
    """What to say of an error that the user can mend; None for those of the program."""
    if isinstance(error, SuffuseError):
        return str(error)
    if out_of_memory(error):
        return (
            "there is not enough memory; give a smaller --batch, or in training a smaller "
            "training.batch"
        )
    if isinstance(error, OSError) and error.errno in _PLACES:
        from pathlib import Path

        from suffuse.storage import unwritable

        if error.filename is not None:
            return str(unwritable(Path(str(error.filename)), error))
        return f"cannot write: {error.strerror}"
    return None
