"""Conditions as they are typed: `--name value` and `--set name=value`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from suffuse.errors import SuffuseError, unknown

if TYPE_CHECKING:
    from suffuse.model import Model
    from suffuse.plugins.contracts import Condition

__all__ = ["condition_objects", "condition_values", "typed_conditions"]


def typed_conditions(extra: Iterable[str], pairs: Iterable[str]) -> dict[str, str]:
    """`--name value` and `--name=value`, and the pairs of `--set name=value`, as a mapping.

    Raises:
        SuffuseError: for words of another form, and a name that is given twice.
    """
    out: dict[str, str] = {}
    words = list(extra)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise SuffuseError(f"unexpected argument {word!r}; conditions are --name value")
        name, equals, value = word[2:].partition("=")
        if not equals:
            if not words:
                raise SuffuseError(f"the condition --{name} needs a value: --{name} VALUE")
            value = words.pop(0)
        _once(out, name, value)
    for text in pairs:
        name, equals, value = text.partition("=")
        if not equals:
            raise SuffuseError(f"--set takes condition=value, not {text!r}")
        _once(out, name, value)
    return out


def _once(out: dict[str, str], name: str, value: str) -> None:
    if name in out:
        raise SuffuseError(
            f"the condition {name!r} is given twice; several values go round with commas: "
            f"--{name} {out[name]},{value}"
        )
    out[name] = value


def condition_values(name: str, text: str, model: Model, ctx: click.Context) -> list[Any]:
    """The values of a condition that the user typed.

    Raises:
        SuffuseError: for a condition that the model does not have, and words for a number.
    """
    if name not in model.conditions:
        options = [
            p.opts[-1].lstrip("-") for p in ctx.command.params if p.param_type_name == "option"
        ]
        if name in options:
            raise SuffuseError(f"{name!r} is an option and no condition: --{name} {text}")
        raise unknown("condition or option", name, [*model.conditions, *options])
    condition: Condition = model.conditions[name]
    if condition.kind in ("text", "state"):
        return [text]
    if condition.kind == "category" and text == "all" and "all" not in condition.names:
        return list(condition.names)
    if condition.kind == "category" and text in condition.names:
        return [text]
    parts = [part.strip() for part in text.split(",")]
    if condition.kind == "category":
        return parts
    try:
        # a range stays as it is typed, until it is known for which samples numbers are drawn
        return [part if ".." in part else float(part) for part in parts]
    except ValueError:
        raise SuffuseError(
            f"the condition {name!r} takes numbers or ranges like 1..2, and {text!r} is neither"
        ) from None


def condition_objects(model: Model, name: str, values: Sequence[Any]) -> list[Any]:
    """The values of a condition; where they are raw objects, those in the files that are named.

    Raises:
        SuffuseError: for a file that cannot be read.
    """
    if model.conditions[name].kind != "state":
        return list(values)
    return [None if value is None else model.renderer.read(Path(value)) for value in values]
