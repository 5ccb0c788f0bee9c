"""The checks of a plugin: found, run, told."""

from __future__ import annotations

import importlib
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from unittest import SkipTest

import suffuse
from suffuse import plugins
from suffuse.errors import MissingExtra, SuffuseError, unknown
from suffuse.plugins import Entry, Manager, PluginStatus
from suffuse.plugins.candidates import canonical

if TYPE_CHECKING:
    import pytest

    from suffuse.testing.workbench import Workbench

__all__ = [
    "MARKER",
    "Check",
    "Conformance",
    "Result",
    "checks",
    "markdown",
    "parametrize_with_checks",
    "slowest",
]

MARKER = "suffuse_check"
"""The pytest marker of every check."""

ATTRIBUTE = "suffuse_conformance"
"""The attribute of a plugin's entry module that names its `Conformance`."""

Settings = Mapping[str, Any] | Callable[[Path], Mapping[str, Any]]


@dataclass(frozen=True)
class Conformance:
    """What the kit cannot find out of a plugin by itself.

    Attributes:
        settings: for a thing, named "kind name" ("denoiser image/dit"), changes to the recipe in
            which it is checked, as dotted keys (``{"denoiser.width": 16}``); or a function of an
            empty folder that answers with them, where files must be made first; it may raise
            unittest.SkipTest with the reason why there is nothing to check. Those of "recipe
            NAME" hold for all that is checked in that recipe. The key "recipe" names a recipe:
            without it, that is the first of the plugin's that uses the thing, else its first. Of
            a thing that is no part of a recipe with such a key, "KIND.OPTION" is an option
            (``{"edit.mask": "a.png"}``, ``{"guidance.rescale": 0.7}``).
        expected_failures: for a check, named as `Check.id` is, the reason why it must fail. One
            that passes nevertheless, or that there is not, is a failure.
        examples: how many examples of each split evaluators are shown; networks see 16.
    """

    settings: Mapping[str, Settings] = field(default_factory=dict)
    expected_failures: Mapping[str, str] = field(default_factory=dict)
    examples: int = 200


@dataclass(frozen=True)
class Result:
    """How a check ended.

    Attributes:
        id, claim: of the check.
        outcome: "passed"; "failed"; "expected", where it failed as the plugin says it must; or
            "skipped", where there is nothing to check.
        reason: why it is not "passed".
        seconds: what it took.
        trace: of a failure.
    """

    id: str
    claim: str
    outcome: Literal["passed", "failed", "expected", "skipped"]
    reason: str
    seconds: float
    trace: str = ""


@dataclass(frozen=True)
class Check:
    """One check of one thing.

    Attributes:
        id: "kind name check", for instance "encoder image/pixels comes_back".
        claim: what it holds the thing to, a sentence.
        expected_failure: why it must fail; empty where it must not.
    """

    id: str
    claim: str
    expected_failure: str
    _function: Callable[[Any, Any], None] = field(repr=False)
    _subject: Entry | PluginStatus = field(repr=False)
    _workbench: Callable[[], Workbench] = field(repr=False)

    def __call__(self) -> None:
        """Run it, whatever is expected.

        Raises:
            AssertionError: the thing breaks a promise.
            unittest.SkipTest: there is nothing to check; pytest skips the test.
            Exception: what the thing itself raises where it should not.
        """
        workbench = self._workbench()
        try:
            with plugins.using(workbench.manager):
                self._function(workbench, self._subject)
        except MissingExtra as error:
            raise SkipTest(str(error)) from error

    def run(self) -> Result:
        """Run it, and tell."""
        begun, trace = time.perf_counter(), ""
        outcome: Literal["passed", "failed", "expected", "skipped"] = "passed"
        reason = ""
        try:
            self()
        except SkipTest as skipped:
            outcome, reason = "skipped", str(skipped)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit, too, is a failure of the thing alone
            outcome = "failed"
            plain = isinstance(error, (AssertionError, SuffuseError))
            reason = str(error) if plain else f"{type(error).__name__}: {error}"
            trace = traceback.format_exc()
        if self.expected_failure and outcome == "failed":
            outcome, reason = "expected", self.expected_failure
        elif self.expected_failure and outcome == "passed":
            outcome = "failed"
            reason = "it passes, and the plugin says that it must not: drop the expected failure"
        return Result(self.id, self.claim, outcome, reason, time.perf_counter() - begun, trace)


def checks(plugin: str, manager: Manager | None = None) -> list[Check]:
    """The checks of a plugin that is loaded.

    Args:
        plugin: its name, or its distribution's.
        manager: which has loaded it; the current one where None.

    Raises:
        SuffuseError: there is no such plugin, it is not usable, or what it says of itself
            (`Conformance`) is wrong.
    """
    from suffuse.testing.catalogue import CATALOGUE, claim

    manager = manager or plugins.current()
    status = _status(plugin, manager)
    conformance = _conformance(status, manager)
    expected = dict(conformance.expected_failures)
    made: list[Workbench] = []

    def workbench() -> Workbench:
        from suffuse.testing.workbench import Workbench

        if not made:
            made.append(Workbench(status, conformance, manager))
        return made[0]

    found = []
    subjects: list[tuple[str, str, Entry | PluginStatus]] = [("plugin", status.name, status)]
    for kind in plugins.KINDS:
        for entry in manager.registry.entries(kind):
            if (entry.plugin, entry.distribution) == (status.name, status.distribution):
                subjects.append((kind, entry.name, entry))
    for kind, name, subject in subjects:
        common = () if kind == "plugin" else CATALOGUE["any"]
        for function in (*common, *CATALOGUE.get(kind, ())):
            key = f"{kind} {name} {function.__name__}"
            reason = expected.pop(key, "")
            found.append(Check(key, claim(function), reason, function, subject, workbench))
    there = {f"{kind} {name}" for kind, name, _ in subjects}
    there |= {f"recipe {entry.name}" for entry in manager.registry.entries("recipe")}
    for key in conformance.settings:
        if key not in there:
            raise unknown("thing (of a Conformance's settings)", key, there)
    if expected:
        raise unknown("check (of an expected failure)", min(expected), [c.id for c in found])
    return found


def parametrize_with_checks(plugin: str, manager: Manager | None = None) -> pytest.MarkDecorator:
    """A decorator that runs a test with each check of a plugin, as its argument ``check``.

    Args:
        plugin, manager: see `checks`.
    """
    import pytest

    parameters = []
    for check in checks(plugin, manager):
        marks = [getattr(pytest.mark, MARKER)]
        if check.expected_failure:
            marks.append(pytest.mark.xfail(reason=check.expected_failure, strict=True))
        parameters.append(pytest.param(check, id=check.id, marks=marks))
    return pytest.mark.parametrize("check", parameters)


def markdown(title: str, results: Iterable[Result]) -> str:
    """Results as a page of Markdown: what passed, and why the others did not."""
    rows = list(results)
    count = {o: sum(r.outcome == o for r in rows) for o in ("passed", "failed", "expected")}
    lines = [
        f"# Conformance of {title}",
        "",
        f"suffuse {suffuse.__version__}: {count['passed']} checks passed, "
        f"{count['failed']} failed, {count['expected']} fail as expected, "
        f"{len(rows) - sum(count.values())} skipped; {sum(r.seconds for r in rows):.1f} s. "
        f"The slowest: {slowest(rows)}.",
        "",
        "| thing | check | outcome | why |",
        "|---|---|---|---|",
    ]
    for row in rows:
        *thing, name = row.id.split(" ")
        why = row.reason or row.claim
        cells = (" ".join(thing), name, row.outcome, " ".join(why.split()).replace("|", "\\|"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def slowest(results: Iterable[Result], n: int = 3) -> str:
    """The n checks that took longest, with their seconds, on one line."""
    found = sorted(results, key=lambda result: -result.seconds)[:n]
    return ", ".join(f"{result.id} {result.seconds:.1f} s" for result in found) or "none"


def _status(plugin: str, manager: Manager) -> PluginStatus:
    named = {canonical(status.distribution): status for status in manager.statuses}
    named |= {canonical(status.name): status for status in manager.statuses}
    if canonical(plugin) not in named:
        raise unknown("plugin", plugin, [status.name for status in manager.statuses])
    status = named[canonical(plugin)]
    if status.status != "ok":
        raise SuffuseError(f"{status.message}; `suffuse plugins doctor` says more")
    return status


def _conformance(status: PluginStatus, manager: Manager) -> Conformance:
    module = manager.plugin(status)
    named = getattr(module, ATTRIBUTE, None)
    if named is None:
        return Conformance()
    if isinstance(named, str):
        where, _, attribute = named.partition(":")
        try:
            named = getattr(importlib.import_module(where), attribute)
        except (Exception, SystemExit) as error:
            raise SuffuseError(
                f"plugin {status.name!r} names its conformance {named!r}, which cannot be "
                f"imported: {type(error).__name__}: {error}"
            ) from error
    if not isinstance(named, Conformance):
        raise SuffuseError(
            f"{ATTRIBUTE} of plugin {status.name!r} is a suffuse.testing.Conformance or "
            f"'module:attribute' of one, not {named!r}"
        )
    for key, reason in named.expected_failures.items():
        if not reason.strip():
            raise SuffuseError(f"the expected failure {key!r} has no reason; say why it must fail")
    return named
