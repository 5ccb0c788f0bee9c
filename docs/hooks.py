"""What the documentation is told by the code: the commands and their options."""

from __future__ import annotations

from typing import Any

import click

from suffuse.cli import _COMMANDS, cli


def on_page_markdown(markdown: str, **rest: Any) -> str:
    """Put the reference of all commands in the place of {{ commands }}."""
    if "{{ commands }}" not in markdown:
        return markdown
    return markdown.replace("{{ commands }}", commands())


def commands() -> str:
    """A section for each command of the core, with its --help."""
    return _section(cli, ["suffuse"])


def _section(command: click.Command, path: list[str]) -> str:
    context = click.Context(command, info_name=" ".join(path), terminal_width=90)
    level = "#" * (len(path) + 1)
    text = f"{level} {' '.join(path)}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        # Of the root the core's own: what plugins add is theirs to document.
        own = _COMMANDS if command is cli else command.list_commands(context)
        for name in own:
            inner = command.get_command(context, name)
            if inner is not None:
                text += "\n" + _section(inner, [*path, name])
    return text
