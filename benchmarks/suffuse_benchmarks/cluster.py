"""Commands run on a Ray cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import ray

__all__ = ["Ray"]


def _run(words: Sequence[str], folder: str) -> tuple[int, str]:
    """A command in a folder: its exit status, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "suffuse", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


class Ray:
    """A task of the cluster for each command.

    Args:
        address: of the cluster; "auto" is the running one, empty begins one on this machine.
        cores: of each task.
        gpus: of each task.
    """

    def __init__(self, *, address: str = "", cores: int = 1, gpus: float = 0.0) -> None:
        self.address, self.cores, self.gpus = address, cores, gpus

    def launch(
        self, commands: Sequence[Sequence[str]], tell: Callable[[str], None]
    ) -> Sequence[int]:
        """See `suffuse.plugins.contracts.Launcher`; the folder is one that all machines see."""
        ray.init(
            address=self.address or None,
            include_dashboard=False,
            log_to_driver=False,
            ignore_reinit_error=True,
        )
        task: Any = ray.remote(_run).options(num_cpus=self.cores, num_gpus=self.gpus)
        running = {task.remote(list(words), os.getcwd()): i for i, words in enumerate(commands)}
        statuses = [0] * len(commands)
        try:
            while running:
                (done, *_), _ = ray.wait(list(running))
                statuses[running.pop(done)], printed = ray.get(done)
                for line in printed.splitlines():
                    tell(line)
        finally:
            ray.shutdown()
        return statuses
