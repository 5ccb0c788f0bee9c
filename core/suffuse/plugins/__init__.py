"""Plugins: what others add to Suffuse, found by name.

    from suffuse import plugins

    plugins.entries("denoiser")                          # everything of a kind
    plugins.get("denoiser", "image/unet")                # one entry; a misspelt name gets a hint
    plugins.resolve("denoiser", {"name": "image/unet"})  # its options, checked, with defaults
    plugins.build("denoiser", {"name": "image/unet"}, shape=(1, 8, 8))

The installed plugins are loaded at the first question, see `suffuse.plugins.manager`. Writing one:
see `suffuse.plugins.hookspecs`. Nothing here imports torch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from suffuse.plugins.candidates import Candidate, discover, selection
from suffuse.plugins.hookspecs import API_VERSION, Register, hookimpl
from suffuse.plugins.manager import HookRelay, Manager, PluginStatus
from suffuse.plugins.registry import KINDS, Entry

__all__ = [
    "API_VERSION",
    "KINDS",
    "Candidate",
    "Entry",
    "Manager",
    "PluginStatus",
    "Register",
    "build",
    "call_guarded",
    "current",
    "entries",
    "get",
    "hook",
    "hookimpl",
    "resolve",
    "statuses",
    "using",
]

_lock = threading.RLock()
_managers: list[Manager] = []


def current() -> Manager:
    """The manager that all questions go to: at first that of the installed plugins."""
    with _lock:
        if not _managers:
            loading = Manager()  # what a plugin finds that asks while it is being loaded itself
            with using(loading):
                installed = Manager(discover(), only=selection())
            _managers.append(installed)
        return _managers[-1]


@contextmanager
def using(manager: Manager) -> Iterator[Manager]:
    """Put all questions to `manager` meanwhile, in this process; for tests and experiments.

    >>> with using(Manager()):
    ...     [entry.name for entry in entries("process")]
    ['bridge', 'categorical', 'gaussian']
    """
    with _lock:
        _managers.append(manager)
    try:
        yield manager
    finally:
        with _lock:
            _managers.remove(manager)


def get(kind: str, name: str) -> Entry:
    """The entry of this kind ("denoiser", "recipe", ...: see `KINDS`) and name.

    Raises:
        SuffuseError: there is none; says what comes near, or why its plugin is not there.
    """
    return current().registry.get(kind, name)


def entries(kind: str) -> list[Entry]:
    """All entries of a kind, by name."""
    return current().registry.entries(kind)


def resolve(kind: str, config: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """A component's name and options, checked, with every default filled in.

    Args:
        kind: the kind of component.
        config: ``{"name": ..., **options}``.
        where: the dotted path of `config` in what the reader wrote, for messages.

    Returns:
        The same as plain JSON values; resolving it again changes nothing.

    Raises:
        SuffuseError: an unknown name or option, or a value of the wrong type.

    >>> resolve("solver", {"name": "ddim", "eta": 1})
    {'name': 'ddim', 'eta': 1.0}
    >>> resolve("solver", {"name": "ddim", "eat": 1}, where="solver")
    Traceback (most recent call last):
    suffuse.errors.SuffuseError: unknown key 'solver.eat'; did you mean 'solver.eta'?
    """
    return current().registry.resolve(kind, config, where)


def build(kind: str, config: Mapping[str, Any], /, **context: Any) -> Any:
    """The thing that `config` describes: its target, called with `context` and the options.

    Args:
        kind: the kind of component.
        config: ``{"name": ..., **options}``.
        context: what the core gives to targets of this kind, see `KINDS`.

    Raises:
        SuffuseError: an unknown name or option, or a value of the wrong type.
    """
    return current().registry.build(kind, config, **context)


def statuses() -> list[PluginStatus]:
    """What became of each installed plugin, by distribution."""
    return current().statuses


def call_guarded(hook: str, /, **arguments: Any) -> Any:
    """Call a hook of every plugin that has it; one that raises is reported, and breaks nothing.

    See `Manager.call_guarded`. No such call belongs inside a loop over steps.
    """
    return current().call_guarded(hook, **arguments)


hook = HookRelay(call_guarded)
"""The same, written as a call: ``hook.run_started(run=path, recipe=recipe, step=0)``."""
