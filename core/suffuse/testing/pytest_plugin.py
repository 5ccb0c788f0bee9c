"""The pytest side of the kit: the marker of its checks, and their summary as Markdown.

    pytest --suffuse-markdown conformance.md

Imports nothing until a session asks for the summary.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

__all__ = ["pytest_addoption", "pytest_configure"]

MARKER = "suffuse_check"
OPTION = "--suffuse-markdown"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer --suffuse-markdown."""
    group = parser.getgroup("suffuse")
    group.addoption(OPTION, metavar="FILE", help="write what conformance checks found as Markdown")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known; collect results where they are asked for."""
    config.addinivalue_line("markers", f"{MARKER}: a conformance check of a Suffuse plugin")
    path = config.getoption(OPTION)
    if path and not hasattr(config, "workerinput"):  # under xdist the controller hears all
        config.pluginmanager.register(_Summary(Path(path)))


class _Summary:
    """Collects the reports of checks and writes them at the end of the session."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reports: dict[str, pytest.TestReport] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the report of a check's call, or of its failed set-up."""
        if MARKER in report.keywords and (report.when == "call" or not report.passed):
            self.reports[report.nodeid] = report

    def pytest_sessionfinish(self) -> None:
        """Write the summary."""
        from suffuse import storage
        from suffuse.testing import Result, markdown

        results = []
        for node, report in self.reports.items():
            name = node.partition("[")[2].removesuffix("]")
            expected = getattr(report, "wasxfail", "")
            outcome = "expected" if report.skipped and expected else report.outcome
            results.append(Result(name, "", outcome, _why(report), report.duration))
        storage.write_text(self.path, markdown("this test session", results))


def _why(report: pytest.TestReport) -> str:
    expected: str = getattr(report, "wasxfail", "")
    if report.passed or expected:
        return expected
    if isinstance(report.longrepr, tuple):  # of a skip: file, line, reason
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(getattr(crash, "message", report.longrepr)).removeprefix("AssertionError: ")
