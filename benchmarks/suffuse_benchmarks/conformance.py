"""What it costs to hold each installed plugin to the conformance kit: seconds and memory.

Each case is ``suffuse plugins check NAME`` in a process of its own, with one thread.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from suffuse import plugins
from suffuse.bench import Context, Result
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Metric

__all__ = ["Checked", "suite"]


@dataclass(frozen=True)
class Checked:
    """The checks of one plugin."""

    task: str
    model: str
    seed: int

    @property
    def measures(self) -> Sequence[str]:
        """The kit, and the plugin."""
        return ("suffuse.testing", f"suffuse_{self.model}")

    def run(self, context: Context) -> Result:
        """Check it; what fails is in the details."""
        words = [sys.executable, "-m", "suffuse", "plugins", "check", self.model]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with tempfile.TemporaryFile("w+") as told:
            program = subprocess.Popen(words, stdout=told, stderr=told, env=environment)
            _, status, used = os.wait4(program.pid, 0)
            program.returncode = os.waitstatus_to_exitcode(status)
            told.seek(0)
            lines = told.read().splitlines()
        failed = [line.split(maxsplit=1)[1] for line in lines if line.startswith("FAILED ")]
        if program.returncode and not failed:
            raise SuffuseError(f"the check of {self.model} ends early: {' '.join(lines[-1:])}")
        figures = {
            "processor time (s)": (used.ru_utime + used.ru_stime, 30.0),
            "peak memory (GB)": (used.ru_maxrss * _RSS / 1e9, 2.0),
            "checks that fail": (float(len(failed)), 0.0),
        }
        return Result(
            [
                Metric(name, value, value, value, "lower", n=1, target=target)
                for name, (value, target) in figures.items()
            ],
            detail={"failed": failed, "last lines": lines[-2:]},
        )


_RSS = 1 if sys.platform == "darwin" else 1024
"""Bytes in the unit of `ru_maxrss`."""


def suite() -> Iterator[Checked]:
    """The checks of each plugin that is installed and works."""
    for status in plugins.statuses():
        if status.status == "ok":
            yield Checked("plugins/conformance", status.name, 0)
