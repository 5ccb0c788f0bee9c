"""Commands run on this machine, as processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

__all__ = ["Processes"]


class Processes:
    """All commands at once, each in a process of its own with its share of the cores."""

    def launch(
        self, commands: Sequence[Sequence[str]], tell: Callable[[str], None]
    ) -> Sequence[int]:
        """See `suffuse.plugins.contracts.Launcher`; Ctrl-C in a terminal reaches the commands."""
        threads = str(max(1, (os.cpu_count() or 1) // len(commands)))
        environment = {"OMP_NUM_THREADS": threads, **os.environ}

        def ended(words: Sequence[str]) -> int:
            with subprocess.Popen(
                [sys.executable, "-m", "suffuse", *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=environment,
            ) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    tell(line.rstrip("\n"))
            return process.returncode

        with ThreadPoolExecutor(len(commands)) as pool:
            return list(pool.map(ended, commands))
