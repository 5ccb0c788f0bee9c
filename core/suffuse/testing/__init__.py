"""The conformance kit: what every plugin is held to, ours and others'.

In a plugin's tests::

    from suffuse.testing import parametrize_with_checks

    @parametrize_with_checks("toy")
    def test_conformance(check):
        check()

On the command line: ``suffuse plugins check toy --markdown toy.md``. Both build each thing that the
plugin registers, on a few examples, and check what the contracts promise (`suffuse.plugins.
contracts`). A plugin's recipes tell how its parts go together; what else a check needs to know, and
which failures are expected, a `Conformance` says, which the plugin's entry module names::

    # suffuse_toy/plugin.py
    suffuse_conformance = "suffuse_toy.conformance:CONFORMANCE"

    # suffuse_toy/conformance.py
    from suffuse.testing import Conformance

    CONFORMANCE = Conformance(
        settings={"recipe toy/spiral": {"dataset.n": 200}},
        expected_failures={"encoder toy/points comes_back": "coordinates are rounded to pixels"},
    )

Nothing is imported until it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from suffuse.testing.kit import (
        Check,
        Conformance,
        Result,
        checks,
        markdown,
        parametrize_with_checks,
        slowest,
    )

__all__ = [
    "Check",
    "Conformance",
    "Result",
    "checks",
    "markdown",
    "parametrize_with_checks",
    "slowest",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'suffuse.testing' has no attribute {name!r}")
    return getattr(import_module("suffuse.testing.kit"), name)
