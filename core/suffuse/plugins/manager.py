"""Loading plugins, each guarded, so that none can harm the program or its neighbours.

A `Manager` takes candidates one by one, by the names of their distributions: import, check of the
API version and of the hooks' signatures, then the ``register_`` hooks into a list of the plugin's
own, which joins the registry only when all of them have succeeded. What goes wrong ends in the
plugin's `PluginStatus` and in one line of the log ``suffuse.plugins.manager``; the plugin is then
gone wholly. A name that is not a plugin's to give is refused alone. What plugins print meanwhile
goes to standard error.
"""

from __future__ import annotations

import difflib
import inspect
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import pluggy

from suffuse.plugins import builtin
from suffuse.plugins.candidates import (
    SELECTION,
    Candidate,
    canonical,
    chosen,
    in_order,
    owners,
)
from suffuse.plugins.hookspecs import API_VERSION, Hooks
from suffuse.plugins.registry import KINDS, Entry, Registry

__all__ = ["TRACE", "HookRelay", "Manager", "PluginStatus", "summary"]

TRACE = "SUFFUSE_PLUGINS_TRACE"
"""The environment variable that has every hook call printed on standard error: 1, or 0 for not."""

_log = logging.getLogger(__name__)

_HOOKS: Mapping[str, tuple[str, ...]] = {
    name: tuple(inspect.signature(hook).parameters)[1:]
    for name, hook in vars(Hooks).items()
    if hasattr(hook, "suffuse_spec")
}
"""The arguments that each hook offers."""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

_NAME = re.compile(r"(?:(?P<namespace>[a-z0-9]+(-[a-z0-9]+)*)/)?[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class PluginStatus:
    """What became of one plugin.

    Attributes:
        name, distribution, version: which it is.
        status: "ok"; "incompatible" where it was written for another plugin API; "error"; or
            "disabled" where `SUFFUSE_PLUGINS` leaves it out.
        message: what is wrong, a sentence a line; with "ok", what was refused.
        traceback: of the exception behind an error.
        adds: the names that it registered, by kind.
    """

    name: str
    distribution: str
    version: str
    status: Literal["ok", "incompatible", "error", "disabled"]
    message: str = ""
    traceback: str = ""
    adds: Mapping[str, list[str]] = field(default_factory=dict)


class HookRelay:
    """``hook.run_started(run=..., ...)``: see `Manager.call_guarded`."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in _HOOKS:
            raise AttributeError(f"there is no hook {name!r}")
        return partial(self._call, name)


class _RefusedError(Exception):
    """A plugin breaks a rule. The text follows on the plugin's name."""


class Manager:
    """Plugins, loaded, and what they registered.

    >>> from suffuse.plugins import hookimpl
    >>> class Toy:
    ...     suffuse_api = 1
    ...     @hookimpl
    ...     def register_schedules(self, register):
    ...         register("toy/steep", "suffuse_toy.schedules:steep")
    >>> manager = Manager([Candidate("toy", Toy, version="1.0")])
    >>> manager.statuses[0].adds
    {'schedule': ['toy/steep']}
    >>> print(manager.registry.get("schedule", "toy/steep"))
    schedule 'toy/steep' of suffuse-toy 1.0

    Args:
        candidates: the plugins to load, in any order.
        only: the names of those to load, of plugins or of distributions; None for all.

    Attributes:
        registry: what the core and these plugins offer.
        hook: the hooks to call, as methods; see `call_guarded`.
    """

    def __init__(
        self, candidates: Iterable[Candidate] = (), *, only: Collection[str] | None = None
    ) -> None:
        self.registry = Registry()
        self.hook = HookRelay(self.call_guarded)
        self._pluggy = pluggy.PluginManager("suffuse")
        self._pluggy.add_hookspecs(Hooks)
        if os.environ.get(TRACE, "0") not in ("", "0"):
            self._pluggy.trace.root.setwriter(sys.stderr.write)
            self._pluggy.enable_tracing()
        self._loaded: dict[object, Candidate] = {}
        self._statuses: dict[Candidate, PluginStatus] = {}
        ordered = in_order(candidates)
        self._owners = owners(ordered)
        self._core = Candidate("core", lambda: builtin, "suffuse", _core_version())
        core = self._load(self._core)
        if core.status != "ok":
            raise RuntimeError(core.message)
        wanted = ordered if only is None else chosen(ordered, only)
        for candidate in ordered:
            self._statuses[candidate] = status = (
                self._load(candidate)
                if candidate in wanted
                else _status(candidate, "disabled", f"is left out by {SELECTION}")
            )
            if status.status != "ok":
                hint = "; see `suffuse plugins doctor`" if status.traceback else ""
                for namespace, owner in self._owners.items():
                    if owner is candidate:
                        self.registry.absent[namespace] = status.message + hint
            if status.status != "disabled":
                for sentence in status.message.splitlines():
                    _log.warning("%s", sentence)

    @property
    def statuses(self) -> list[PluginStatus]:
        """What became of each plugin, by distribution."""
        return list(self._statuses.values())

    def plugin(self, status: PluginStatus) -> object:
        """The loaded plugin, a module or an object; None where it is not loaded."""
        for plugin, candidate in self._loaded.items():
            if self._statuses.get(candidate) == status:
                return plugin
        return None

    def call_guarded(self, hook: str, /, **arguments: Any) -> Any:
        """Call a hook of every plugin that implements it.

        A plugin that raises is reported, and the others are called all the same.

        Returns:
            A list of the answers other than None; or, of a hook whose first answer decides, that
            answer.

        Raises:
            TypeError: these are not the hook's arguments.
        """
        if set(arguments) != set(_HOOKS[hook]):
            raise TypeError(f"hook {hook!r} takes {_HOOKS[hook]}, given {tuple(arguments)}")
        first_decides = vars(Hooks)[hook].suffuse_spec["firstresult"]
        answers: list[Any] = []
        for candidate, call in self.calls(hook):
            try:
                answer = call(**arguments)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self.report(candidate, f"failed in its hook {hook!r}: {summary(error)}")
                continue
            if not first_decides:
                answers.extend(answer)
            elif answer is not None:
                return answer
        return None if first_decides else answers

    def calls(self, hook: str) -> Iterator[tuple[Candidate, Callable[..., Any]]]:
        """A hook's implementations plugin by plugin, for a caller who guards the calls.

        In the order of loading, but for those marked `tryfirst` or `trylast`.
        """
        implementations = getattr(self._pluggy.hook, hook).get_hookimpls()
        implementations.sort(key=lambda each: each.trylast - each.tryfirst)
        for plugin in dict.fromkeys(each.plugin for each in implementations):
            others = [other for other in self._loaded if other is not plugin]
            yield self._loaded[plugin], self._pluggy.subset_hook_caller(hook, others)

    def environment(self) -> dict[str, str]:
        """What the plugins say of this machine (`Hooks.environment_info`), by name."""
        rows: dict[str, str] = {}
        for candidate, call in self.calls("environment_info"):
            try:
                for answer in call():
                    rows |= {str(name): str(value) for name, value in answer.items()}
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self.report(candidate, f"failed in its hook 'environment_info': {summary(error)}")
        return rows

    def report(self, candidate: Candidate, problem: str) -> None:
        """Say in the log and in its status what went wrong with a loaded plugin."""
        sentence = f"{candidate} {problem}"
        _log.warning("%s", sentence)
        status = self._statuses.get(candidate)
        if status and sentence not in status.message:
            message = f"{status.message}\n{sentence}".strip()
            self._statuses[candidate] = replace(status, message=message)

    # Loading one plugin

    def _load(self, candidate: Candidate) -> PluginStatus:
        try:
            with redirect_stdout(sys.stderr):
                plugin = candidate.load()
                api = getattr(plugin, "suffuse_api", None)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return _error(candidate, f"could not be imported: {summary(error)}", error)
        if type(api) is not int or api != API_VERSION:
            written = (
                "does not state the plugin API it was written for, by `suffuse_api = ...`"
                if api is None
                else f"was written for plugin API {api!r}"
            )
            offer = f"suffuse {self._core.version} offers {API_VERSION}"
            return _status(candidate, "incompatible", f"{written}; {offer}")
        key = str(id(candidate))
        try:
            if plugin in self._loaded:
                raise _RefusedError(f"is the same as {self._loaded[plugin]}")
            doubts = self._check_hooks(plugin)
            self._pluggy.register(plugin, key)
            self._loaded[plugin] = candidate
            entries, refusals = self._registered(candidate)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._pluggy.unregister(name=key)
            self._loaded = {known: c for known, c in self._loaded.items() if c is not candidate}
            if isinstance(error, _RefusedError):
                return _error(candidate, str(error), error.__cause__)
            return _error(candidate, f"could not be registered: {summary(error)}", error)
        self.registry.add(entries)
        adds: dict[str, list[str]] = {}
        for entry in entries:
            adds.setdefault(entry.kind, []).append(entry.name)
        return replace(_status(candidate, "ok", *doubts, *refusals), adds=adds)

    def _registered(self, candidate: Candidate) -> tuple[list[Entry], list[str]]:
        """What the ``register_`` hooks of one plugin offer, and which names it was refused."""
        entries: dict[tuple[str, str], Entry] = {}
        refusals: list[str] = []

        def register(
            kind: str,
            name: str,
            target: object,
            *,
            config: object = None,
            extra: str | None = None,
            summary: str = "",
        ) -> None:
            refusal = self._refusal(candidate, name)
            if refusal:
                refusals.append(f"may not register {kind} {name!r}: {refusal}")
                return
            source = (candidate.name, candidate.distribution, candidate.version)
            entry = Entry(kind, name, target, config, extra, summary, *source)
            other = entries.get((kind, name)) or self.registry.find(kind, name)
            if other:
                whose = f"plugin {other.plugin!r} ({other.distribution} {other.version})"
                raise _RefusedError(f"registers {kind} {name!r}, which {whose} registered before")
            entries[kind, name] = entry

        for kind, description in KINDS.items():
            for owner, call in self.calls(description.hook):
                if owner is candidate:
                    try:
                        with redirect_stdout(sys.stderr):
                            call(register=partial(register, kind))
                    except (KeyboardInterrupt, _RefusedError):
                        raise
                    except BaseException as error:
                        problem = f"failed in its hook {description.hook!r}: {summary(error)}"
                        raise _RefusedError(problem) from error
        return list(entries.values()), refusals

    def _refusal(self, candidate: Candidate, name: str) -> str:
        """Why this name is not the plugin's to give; empty where it is."""
        match = _NAME.fullmatch(name)
        if not match:
            return "a name is namespace/name, in lower-case letters, digits and . _ -"
        namespace = match["namespace"]
        if candidate is self._core:
            return "the core's names are bare" if namespace else ""
        if not namespace:
            return "names without a namespace are the core's"
        owner = self._owners.get(namespace)
        if owner is None:
            return f"its distribution does not declare the namespace {namespace!r}"
        if canonical(owner.distribution) != canonical(candidate.distribution):
            return f"the namespace {namespace!r} belongs to {owner.distribution} {owner.version}"
        return ""

    def _check_hooks(self, plugin: object) -> list[str]:
        """Refuse implementations that could not be called, or not as their author expects.

        pluggy's own checks say less to a reader, and let arguments with defaults pass, which it
        never gives.

        Returns:
            What looks like a mistake and does no harm.
        """
        doubts = []
        for attribute in dir(plugin):
            marked = self._pluggy.parse_hookimpl_opts(plugin, attribute)
            if marked is None:
                if attribute in _HOOKS and callable(inspect.getattr_static(plugin, attribute)):
                    doubts.append(f"defines {attribute!r} without @hookimpl: it is never called")
                continue
            hook = marked["specname"] or attribute
            if hook not in _HOOKS:
                if marked["optionalhook"]:
                    continue
                near = difflib.get_close_matches(hook, _HOOKS, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise _RefusedError(f"implements a hook {hook!r} that there is not{hint}")
            if marked["wrapper"] or marked["hookwrapper"]:
                raise _RefusedError(f"wraps the hook {hook!r}, which no plugin may")
            for parameter in inspect.signature(getattr(plugin, attribute)).parameters.values():
                if parameter.name not in _HOOKS[hook] or parameter.kind not in _POSITIONAL:
                    offer = ", ".join(_HOOKS[hook]) or "nothing"
                    raise _RefusedError(
                        f"takes '{parameter}' in its hook {hook!r}, which is given: {offer}"
                    )
                if parameter.default is not parameter.empty:
                    raise _RefusedError(
                        f"has a default for {parameter.name!r} in its hook {hook!r}, "
                        "which would then never be given it"
                    )
        return doubts

    def pending(self) -> list[tuple[Candidate, str]]:
        """Hooks that plugins implement as optional, and that this core does not have."""
        return [
            (self._loaded[implementation.plugin], hook)
            for hook, caller in vars(self._pluggy.hook).items()
            if hook not in _HOOKS
            for implementation in caller.get_hookimpls()
        ]


def _core_version() -> str:
    from importlib import metadata

    try:
        return metadata.version("suffuse")
    except metadata.PackageNotFoundError:  # run from its sources
        return "unknown"


def _status(
    candidate: Candidate,
    status: Literal["ok", "incompatible", "error", "disabled"],
    *problems: str,
) -> PluginStatus:
    message = "\n".join(f"{candidate} {problem}" for problem in problems)
    return PluginStatus(candidate.name, candidate.distribution, candidate.version, status, message)


def _error(candidate: Candidate, problem: str, error: BaseException | None) -> PluginStatus:
    lines = traceback.format_exception(error) if error else []
    return replace(_status(candidate, "error", problem), traceback="".join(lines))


def summary(error: BaseException) -> str:
    """The exception on one line, even where its own text cannot be had."""
    return " ".join("".join(traceback.format_exception_only(error)).split())
