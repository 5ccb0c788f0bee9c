"""Times of short things on a machine that does other things too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from suffuse.plugins.contracts import Metric

__all__ = ["interleaved", "median"]


def interleaved(
    subjects: Mapping[str, Callable[[], object]],
    *,
    per: Mapping[str, int] | None = None,
    prepare: Mapping[str, Callable[[], object]] | None = None,
    repeats: int = 400,
    seconds: float = 2.0,
    scale: float = 1e6,
    unit: str = "µs",
    clock: Callable[[], int] = time.perf_counter_ns,
) -> tuple[list[Metric], dict[str, list[float]]]:
    """The median time of each subject, taken in turns so that all meet the same disturbances.

    Each round calls every subject once, in an order that rotates; the first two rounds are thrown
    away. The median over rounds has the interval of its order statistics, which assumes nothing
    but rounds that do not depend on each other. Subjects of one round can be compared in pairs.

    Args:
        subjects: by name; what they return is dropped.
        per: how many units of work a call does, by which its time is divided; 1 where not given.
        prepare: what is called before a subject, by its name; its time does not count.
        repeats: rounds at most.
        seconds: about how long it may take in all; at least 7 rounds are taken.
        scale, unit: of the times.
        clock: nanoseconds; `time.process_time_ns` counts those of this process's cores, which what
            else the machine does moves less.

    Returns:
        A metric for each subject, and the times of its rounds.
    """
    names, per, prepare = list(subjects), per or {}, prepare or {}
    times: dict[str, list[float]] = {name: [] for name in names}
    started, rounds = time.perf_counter(), 0
    while rounds < repeats + 2:
        turn = rounds % len(names)
        for name in names[turn:] + names[:turn]:
            subject = subjects[name]
            if name in prepare:
                prepare[name]()
            begin = clock()
            subject()
            elapsed = clock() - begin
            if rounds >= 2:
                times[name].append(elapsed * 1e-9 * scale / per.get(name, 1))
        rounds += 1
        if rounds >= 9 and time.perf_counter() - started > seconds:
            break
    return [median(name, times[name], unit=unit) for name in names], times


def median(
    name: str,
    values: Sequence[float] | NDArray[np.float64],
    better: Literal["lower", "higher"] = "lower",
    unit: str = "",
) -> Metric:
    """The median of values that do not depend on each other, with the interval of order statistics.

    For ratios, of the times of two subjects in one round, for instance.
    """
    low, high = _median_interval(np.sort(values))
    return Metric(name, float(np.median(values)), low, high, better, n=len(values), unit=unit)


def _median_interval(ordered: np.ndarray) -> tuple[float, float]:
    """Order statistics that hold the median with 95 %: ranks n/2 ∓ 1.96 √n / 2."""
    n = len(ordered)
    half = 0.98 * n**0.5
    low, high = int(np.floor(n / 2 - half)), int(np.ceil(n / 2 + half))
    return float(ordered[max(low, 0)]), float(ordered[min(high, n - 1)])
