"""Stopping a run without losing work."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interrupted", "Stop"]


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C or SIGTERM after it had saved a checkpoint.

    The command line exits with status 130.

    Attributes:
        run: the run directory.
        step: the training steps done, all of them saved.
    """

    def __init__(self, run: Path, step: int, steps: int) -> None:
        where = f"at step {step} of {steps}, which is saved in {run}" if step else "while starting"
        super().__init__(f"stopped {where}; the same command with --resume goes on from there")
        self.run, self.step = run, step


class Stop:
    """Inside its block, SIGINT and SIGTERM only set `asked`, and the step under way is finished.

    A second Ctrl-C stops at once, by KeyboardInterrupt, and so does every signal within
    `at_once`. With several processes neither does: a launcher hands one Ctrl-C on to processes that
    had it from the terminal already. Outside of the main thread, where signals cannot be handled,
    nothing changes.

    Args:
        alone: whether this run is one process.
    """

    def __init__(self, *, alone: bool = True) -> None:
        self.asked = False
        self._alone, self._at_once = alone, False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """For work that is done anew after a stop: it ends by KeyboardInterrupt."""
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _ask(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked and number == signal.SIGINT, True
        if self._alone and (self._at_once or again):
            raise KeyboardInterrupt
