"""The options of commands that make samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from suffuse.errors import SuffuseError

__all__ = ["LIMIT", "SETTINGS", "parts", "sampling_options"]

F = TypeVar("F", bound=Callable[..., Any])

LIMIT = 1000
"""How far a weight of guidance may be from 0."""

SETTINGS = ("solver", "steps", "guidance", "guidance_by")
"""Their names, which are those of `Model.sample`."""


class _Part(click.ParamType[dict[str, Any]]):
    """NAME or NAME,KEY=VALUE,...: a registered thing with its options."""

    name = "part"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        from suffuse.recipe import part

        return part(value) if isinstance(value, str) else value


def _weight(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not abs(value) <= LIMIT:
        raise SuffuseError(f"--guidance is a number within {LIMIT} of 0, and {value} is not")
    return value


def parts(flag: str, about: str) -> Callable[[F], F]:
    """A repeatable option whose values are registered things; None where it is not given."""
    return click.option(
        flag,
        type=_Part(),
        multiple=True,
        callback=lambda ctx, param, value: list(value) or None,
        metavar="NAME[,KEY=VALUE]",
        help=about,
    )


def sampling_options(command: F) -> F:
    """The options --solver, --steps, --guidance and --guidance-by."""
    for option in reversed(
        (
            click.option(
                "--solver",
                type=_Part(),
                metavar="NAME[,KEY=VALUE]",
                help="A registered solver, with options: ddim,eta=1.  [the model's]",
            ),
            click.option("--steps", type=int, help="The most network calls.  [the model's]"),
            click.option(
                "--guidance",
                type=float,
                callback=_weight,
                help="The weight of guidance; 1 is none.  [the model's]",
            ),
            parts(
                "--guidance-by",
                "What guides, and what follows: apg,largest=10; repeatable.  [the model's]",
            ),
        )
    ):
        command = option(command)
    return command
