"""Every hook, command and public name is documented, and the reference shows it."""

from __future__ import annotations

import importlib.util
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import click
import griffe
import pytest

import suffuse
from suffuse.cli import _COMMANDS, cli
from suffuse.plugins.hookspecs import Hooks

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {page: page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md")}
SHOWN = [name for text in PAGES.values() for name in re.findall(r"^::: (\S+)", text, re.MULTILINE)]

INTERNAL = {
    "suffuse.__main__": "the command line",
    "suffuse.cli": "the command line, which has a page of its own",
    "suffuse.demo": "the command demo",
    "suffuse.report": "the commands report and watch",
    "suffuse.training": "its parts; train and Interrupted are shown",
    "suffuse.model": "its parts; Model is shown",
}
"""Modules that the reference leaves out, and what shows them instead."""


def within(module: str, packages: object) -> bool:
    return any(module == p or module.startswith(f"{p}.") for p in packages)  # type: ignore[attr-defined]


MODULES = [
    module.name
    for module in pkgutil.walk_packages(suffuse.__path__, "suffuse.")
    if not within(module.name, INTERNAL)
]


@pytest.fixture(scope="module")
def package() -> griffe.Module:
    loaded = griffe.load("suffuse")
    assert isinstance(loaded, griffe.Module)
    return loaded


def test_every_module_is_shown() -> None:
    missing = [module for module in MODULES if not within(module, SHOWN)]
    assert not missing, "docs/reference shows them nowhere"


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_shown_is_there(name: str, package: griffe.Module) -> None:
    if name != "suffuse":
        assert package[name.removeprefix("suffuse.")].has_docstring


def exported_of(module: griffe.Object) -> list[str]:
    """What ``__all__`` names; of a module without it, its own functions and classes."""
    if module.exports is not None:
        return [str(name) for name in module.exports]
    return [
        name
        for name, found in module.members.items()
        if not name.startswith("_") and not found.is_alias and (found.is_function or found.is_class)
    ]


@pytest.mark.parametrize("name", ["suffuse.model", "suffuse.training", *MODULES])
def test_every_public_name_is_documented(name: str, package: griffe.Module) -> None:
    module = package[name.removeprefix("suffuse.")]
    assert module.has_docstring
    for exported in exported_of(module):
        found = module[exported] if exported in module.members else None
        if found is None:  # made when it is asked for
            continue
        found = found.final_target if found.is_alias else found
        documented = found.has_docstring or found.is_module or found.is_type_alias
        assert documented, f"{name}.{exported} has no docstring"
        if found.is_class and not found.is_attribute:
            for inner in found.members.values():
                public = inner.is_function and not inner.name.startswith("_")
                overrides = any(inner.name in base.members for base in _bases(found))
                if public and not inner.has_docstring and not overrides:
                    raise AssertionError(f"{name}.{exported}.{inner.name} has no docstring")


def _bases(found: griffe.Class) -> Iterator[griffe.Class]:
    try:
        yield from found.mro()
    except (ValueError, griffe.AliasResolutionError):
        return


HOOKS = [name for name, hook in vars(Hooks).items() if hasattr(hook, "suffuse_spec")]


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_has_an_example(name: str) -> None:
    """That the examples run, tests/core/test_plugins_hooks.py shows."""
    text = getattr(Hooks, name).__doc__ or ""
    assert ">>> @hookimpl" in text, "its docstring shows it at work"


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        own = _COMMANDS if command is cli else command.list_commands(context)
        for name in own:  # of the root the core's own, and none of plugins
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, (*path, name))


COMMANDS = dict(commands(cli, ("suffuse",)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            obvious = {"--seed", "--out", "--solver", "--steps"} & set(parameter.opts)
            assert parameter.help or obvious, f"{name} {parameter.opts[-1]} says nothing"


def test_the_page_of_commands_has_them_all() -> None:
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    (page,) = (text for text in PAGES.values() if "{{ commands }}" in text)
    shown = hooks.on_page_markdown(page)
    assert [name for name in COMMANDS if f"# {name}\n" not in shown] == []
