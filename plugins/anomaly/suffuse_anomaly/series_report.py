"""The page of a scored series, for people who decide on it: when it is unusual, and in what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from suffuse.report import figures
from suffuse.report.blocks import Chart
from suffuse.report.page import Page
from suffuse_anomaly.series import SeriesDetector

__all__ = ["episodes", "write_series"]

MOST = 25
"""Episodes that are named."""
CHANNELS = 4
"""Channels that are drawn: those that add most."""


def write_series(
    path: Path,
    detector: SeriesDetector,
    series: pd.DataFrame,
    scores: pd.DataFrame,
    parts: pd.DataFrame,
    source: Path,
) -> None:
    """Write one HTML file: the series with its unusual parts marked, and a table of these.

    Args:
        path: of the file.
        detector: that scored.
        series: as it was read; its index may be times.
        scores: of each moment: score, alarm.
        parts: what each channel adds, in nats.
        source: where the series is from.
    """
    alarm, score = scores["alarm"].to_numpy(bool), scores["score"].to_numpy()
    found = episodes(alarm, detector.window_)
    timed = isinstance(series.index, pd.DatetimeIndex)
    page = Page(
        f"What is unusual in {source.name}",
        f"{len(series):,} moments of {_many(series.shape[1], 'channel')}"
        + (f", {series.index[0]} to {series.index[-1]}" if timed else ""),
    )
    page.fact(f"{len(found):,}", "episodes" if len(found) != 1 else "episode", "of alarms")
    page.fact(f"{int(alarm.sum()):,}", "moments", f"with scores above {detector.threshold_:.3g}")
    page.fact(f"{score.max():.3g}", "highest score", "")
    drawn = parts.mean().nlargest(CHANNELS).index
    rows = {str(name): series[name] for name in series if name in drawn}
    section = page.section(
        "The series",
        number=1,
        lead="Shaded is what is an alarm. A score is −log of the part of the moments of training "
        "that are as unusual: 2.3 is one in ten, 4.6 one in a hundred.",
    )
    ceiling = 4 * detector.threshold_  # beyond it the tail is extrapolated, and hides all else
    chart = figures.strips(
        series.index.to_numpy() if timed else np.arange(len(series)),
        rows | {f"score, cut off at {ceiling:.0f}": np.minimum(score, ceiling)},
        alarm,
        "" if timed else "moment",
    )
    hidden = series.shape[1] - len(rows)
    told = f"The {len(rows)} channels that add most to the scores; {hidden} more are not drawn."
    section.add(Chart(chart, "The series and its scores.", told if hidden else ""))
    section = page.section(
        "When it is unusual",
        number=2,
        lead="The most unusual first. Alarms closer than a window are one episode; a moment's "
        "score is the mean over the windows that it lies in, so that episodes are wider than what "
        "caused them.",
    )
    if not found:
        section.prose("No moment is an alarm.")
    else:
        found.sort(key=lambda ends: -score[slice(*ends)].max())
        table = []
        for begin, end in found[:MOST]:
            top = begin + int(score[begin:end].argmax())
            times = [str(series.index[i] if timed else i) for i in (begin, end - 1, top)]
            because = [_because(parts.iloc[begin:end])] if len(parts.columns) > 1 else []
            table.append([*times, float(score[top]), *because])
        head = ["from", "to", "highest at", "score", *["because"] * (len(parts.columns) > 1)]
        section.table(head, table)
        if len(found) > MOST:
            section.prose(f"{len(found) - MOST:,} more episodes are not shown.")
    section = page.section("How this was found", number=3)
    section.prose(
        f"Windows of {detector.window_} moments are compared with the most alike among "
        f"{len(detector._starts):,} windows of training. An alarm is a score above "
        f"{detector.threshold_:.3g}, which one moment of training in a hundred has."
    )
    page.write(path)


def episodes(alarm: np.ndarray, apart: int) -> list[tuple[int, int]]:
    """Where alarms [T] begin and end (the end is past the last); closer than `apart` are one.

    >>> episodes(np.array([0, 1, 1, 0, 1, 0, 0, 0, 1], bool), 3)
    [(1, 5), (8, 9)]
    """
    places = np.flatnonzero(alarm)
    if not len(places):
        return []
    groups = np.split(places, np.flatnonzero(np.diff(places) > apart) + 1)
    return [(int(group[0]), int(group[-1]) + 1) for group in groups]


def _because(parts: pd.DataFrame) -> str:
    """The channels that add most, with their shares."""
    means = parts.mean()
    shares = (means / max(float(means.sum()), 1e-12)).nlargest(3)
    return ", ".join(f"{name} ({share:.0%})" for name, share in shares.items() if share >= 0.1)


def _many(n: int, name: str) -> str:
    return f"{n:,} {name}" + ("s" if n != 1 else "")
