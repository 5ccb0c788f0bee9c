"""What a run tells its reader: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

__all__ = ["Report", "duration"]

EVERY = 5.0
"""Seconds between plain lines."""

REFRESH = 0.1
"""Seconds between movements of the bar."""


def duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> duration(3725)
    '1:02:05'
    """
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}"


class Report:
    """The progress of one run, on standard error.

    Args:
        show: a bar (True), nothing at all (False), or (None) a bar on a terminal and plain lines
            elsewhere.
        console: where to; standard error by default.
    """

    def __init__(self, show: bool | None = None, console: Console | None = None) -> None:
        self._console = Console(stderr=True) if console is None else console
        self._quiet = show is False
        self._live = self._console.is_terminal if show is None else show
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._begun = self._shown = self._said = 0.0
        self._start = self._total = 0
        self._text = ""

    def __enter__(self) -> Report:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def say(self, text: str) -> None:
        """One line, above the bar where there is one."""
        if not self._quiet:
            console = self._console if self._bar is None else self._bar.console
            console.print(text, markup=False, highlight=False, soft_wrap=True)

    def begin(self, step: int, total: int) -> None:
        """Training goes on from `step` to `total`."""
        self._start, self._total = step, total
        self._begun = self._said = time.monotonic()
        if self._live and not self._quiet:
            self._bar = Progress(
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.description}"),
                console=self._console,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=total, completed=step)

    def step(self, done: int) -> None:
        """So many steps are done. Cheap enough to be called at each."""
        if self._bar is None:
            return
        now = time.monotonic()
        if now - self._shown >= REFRESH or done == self._total:
            self._shown = now
            left = duration(self._left(done, now))
            self._bar.update(self._task, completed=done, description=f"{self._text}{left} left")

    def measured(self, done: int, loss: float, rate: float, memory: int | None = None) -> None:
        """The loss, the examples a second and the most bytes so far, at this step."""
        most = "" if memory is None else f"{memory / 1e6:,.0f} MB  "
        self._text = f"loss {loss:.4g}  {rate:,.0f} examples/s  {most}"
        now = time.monotonic()
        if self._bar is None and (now - self._said >= EVERY or done == self._total):
            self._said = now
            left = duration(self._left(done, now))
            self.say(f"step {done}/{self._total}  {self._text}{left} left")

    def _left(self, done: int, now: float) -> float:
        made = done - self._start
        return (now - self._begun) / made * (self._total - done) if made else 0.0

    def stop(self) -> None:
        """Take the bar away, leaving its last state."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar of its own for work beside the training, told by "so many are done"."""
        if self._quiet or not self._live or self._bar is not None:
            begun = time.monotonic()
            yield lambda done: None
            if time.monotonic() - begun >= EVERY:
                self.say(f"{what}: {total} in {duration(time.monotonic() - begun)}")
            return
        with Progress(
            TextColumn(what), BarColumn(), MofNCompleteColumn(), console=self._console
        ) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)
