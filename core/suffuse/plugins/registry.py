"""What the core and its plugins offer, by kind and name.

A component is written ``{"name": "image/unet", "width": 64}``: the name of an entry and options.
`Registry.resolve` checks the options and fills in the defaults; `Registry.build` makes the thing.
Beside its options a target takes what the core alone can give, its kind's `context`.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from suffuse.errors import MissingExtra, SuffuseError, unknown

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["KINDS", "Entry", "Kind", "Registry"]


@dataclass(frozen=True)
class Kind:
    """A kind of thing that can be registered.

    Attributes:
        hook: the hook that registers it.
        context: the parameters of a target that the core gives; all others are options.
        offered: those that the core gives to targets that have them.
    """

    hook: str
    context: tuple[str, ...] = ()
    offered: tuple[str, ...] = ()


KINDS: Mapping[str, Kind] = {
    "dataset": Kind("register_datasets", ("split",)),
    "encoder": Kind("register_encoders"),
    "denoiser": Kind("register_denoisers", ("shape",), ("encoder",)),
    "process": Kind("register_processes", ("schedule",), ("encoder",)),
    "schedule": Kind("register_schedules"),
    "solver": Kind("register_solvers", ("schedule", "grid")),
    "objective": Kind("register_objectives", ("process", "teacher")),
    "guidance": Kind(
        "register_guidance",
        ("denoiser",),
        ("weight", "null", "plain", "schedule", "plan", "encoder", "conditioners"),
    ),
    "conditioner": Kind("register_conditioners", ("condition", "width"), ("encoder",)),
    "evaluator": Kind("register_evaluators"),
    "scorer": Kind("register_scorers", ("denoiser", "schedule")),
    "renderer": Kind("register_renderers"),
    "edit": Kind("register_edits", ("model",)),
    "recipe": Kind("register_recipes"),
    "model": Kind("register_models"),
    "benchmark": Kind("register_benchmarks"),
    "tracker": Kind("register_trackers", ("run", "recipe")),
    "launcher": Kind("register_launchers"),
}
"""The kinds of things that plugins register."""

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@dataclass(frozen=True, eq=False)
class Entry:
    """One registered thing.

    Attributes:
        kind: a key of `KINDS`.
        name: ``namespace/name``, or a bare name of the core's.
        target: what makes it: an object or "module:attribute"; for recipes and models a path.
        config: a pydantic model of its options, as an object or "module:attribute", or None.
        extra: the extra of the distribution that the target needs, or None.
        summary: one line for listings.
        plugin, distribution, version: where it comes from.
    """

    kind: str
    name: str
    target: object
    config: object
    extra: str | None
    summary: str
    plugin: str
    distribution: str
    version: str

    def __post_init__(self) -> None:
        for reference in (self.target, self.config):
            if isinstance(reference, str) and not _REFERENCE.fullmatch(reference):
                raise ValueError(
                    f"{self.kind} {self.name!r}: expected 'module:attribute', given {reference!r}"
                )

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} of {self.distribution} {self.version}"

    def load(self) -> Any:
        """The target itself, imported at first use.

        Raises:
            MissingExtra: a module that is not the target's own is not there, and the entry names
                the extra to install.
            SuffuseError: it cannot be imported.
        """
        return self._imported(self.target)

    def _imported(self, reference: object) -> Any:
        if not isinstance(reference, str):
            return reference
        module, _, attributes = reference.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for attribute in attributes.split("."):
                found = getattr(found, attribute)
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            if self.extra and _lacks_another(error, module):
                need = f"{self.distribution}[{self.extra}]"
                raise MissingExtra(f"{self} needs more: pip install '{need}' ({what})") from error
            raise SuffuseError(f"{self} cannot be loaded: {what}") from error
        return found

    @cached_property
    def options(self) -> type[BaseModel]:
        """The pydantic model of its options: `config`, or else made from the target's parameters.

        Raises:
            SuffuseError: the target takes parameters that cannot be options, or `config` would
                let a misspelt key pass.
        """
        from suffuse.plugins.options import from_signature

        if self.config is not None:
            config: type[BaseModel] = self._imported(self.config)
            if config.model_config.get("extra") != "forbid":
                raise SuffuseError(f"{self}: its config {config.__name__} needs extra='forbid'")
            return config
        try:
            kind = KINDS[self.kind]
            return from_signature(self.load(), kind.context + kind.offered)
        except (TypeError, ValueError, NameError) as error:
            raise SuffuseError(f"{self} has no options to be read: {error}") from error


def _lacks_another(error: Exception, module: str) -> bool:
    """Whether a module is not there that is none of this module's own package."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return False
    return error.name.partition(".")[0] != module.partition(".")[0]


class Registry:
    """The entries of every kind.

    Attributes:
        absent: for namespaces whose plugin is not there, why: said to a reader who asks for
            something of theirs.
    """

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, Entry]] = {kind: {} for kind in KINDS}
        self.absent: dict[str, str] = {}

    def add(self, entries: Iterable[Entry]) -> None:
        """Take entries in. Their names are new: see `find`."""
        for entry in entries:
            self._entries[entry.kind][entry.name] = entry

    def find(self, kind: str, name: str) -> Entry | None:
        """The entry of this kind and name, or None."""
        return self._of(kind).get(name)

    def get(self, kind: str, name: str) -> Entry:
        """The entry of this kind and name.

        Raises:
            SuffuseError: there is none; says what comes near, or why its plugin is not there.
        """
        table = self._of(kind)
        if name in table:
            return table[name]
        why = self.absent.get(name.partition("/")[0])
        if why:
            raise SuffuseError(f"no {kind} {name!r}: {why}")
        ends = [repr(known) for known in sorted(table) if known.endswith(f"/{name}")]
        if ends:
            raise SuffuseError(f"no {kind} {name!r}; did you mean {' or '.join(ends)}?")
        raise unknown(kind, name, table)

    def entries(self, kind: str) -> list[Entry]:
        """All entries of this kind, by name."""
        return [entry for _, entry in sorted(self._of(kind).items())]

    def _of(self, kind: str) -> dict[str, Entry]:
        if kind not in self._entries:
            raise unknown("kind of component", kind, KINDS)
        return self._entries[kind]

    def resolve(self, kind: str, config: Mapping[str, Any], where: str = "") -> dict[str, Any]:
        """A component's name and options, every option checked and every default filled in.

        Args:
            kind: a key of `KINDS`.
            config: ``{"name": ..., **options}``.
            where: the dotted path of `config` in what the reader wrote, for messages.

        Returns:
            The same as plain JSON values; resolving it again changes nothing.

        Raises:
            SuffuseError: an unknown name or option, or a value of the wrong type.
        """
        entry, options = self._checked(kind, config, where)
        try:
            plain = options.model_dump(mode="json")
        except ValueError as error:
            raise SuffuseError(f"{entry} has an option that JSON cannot hold: {error}") from error
        return {"name": entry.name, **plain}

    def build(self, kind: str, config: Mapping[str, Any], /, **context: Any) -> Any:
        """The thing that `config` describes: its target, called with `context` and the options.

        Raises:
            SuffuseError: an unknown name or option, a value of the wrong type, or one that the
                target does not take.
        """
        entry, options = self._checked(kind, config, kind)
        target = entry.load()
        for name in KINDS[kind].offered:
            if name in context and name not in inspect.signature(target).parameters:
                del context[name]
        try:
            return target(**context, **dict(options))
        except (ValueError, ArithmeticError, MemoryError, RuntimeError) as error:
            given = ", ".join(f"{name} = {value!r}" for name, value in options) or "no options"
            raise SuffuseError(f"{entry} cannot be made with {given}: {error}") from error

    def _checked(self, kind: str, config: Mapping[str, Any], where: str) -> tuple[Entry, BaseModel]:
        from suffuse.plugins.options import check

        options = dict(config)
        name = options.pop("name", None)
        if not isinstance(name, str):
            key = f"{where}.name".lstrip(".")
            problem = " is missing" if name is None else f": expected text, given {name!r}"
            names = ", ".join(sorted(self._of(kind))) or "none"
            raise SuffuseError(f"{key}{problem}; there are: {names}")
        entry = self.get(kind, name)
        return entry, check(entry.options, options, where)
