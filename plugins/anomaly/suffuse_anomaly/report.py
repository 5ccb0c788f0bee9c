"""The page of scored rows, for people who decide on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from suffuse.report import figures
from suffuse.report.blocks import Chart, Table, number
from suffuse.report.page import Page
from suffuse_anomaly import decisions
from suffuse_anomaly.detector import DiffusionDetector

__all__ = ["write_report"]

MOST = 25
"""Rows that are shown."""
FDR = 0.1
"""The part of the rows to look at that may be normal."""


def write_report(
    path: Path,
    detector: DiffusionDetector,
    frame: pd.DataFrame,
    scores: pd.DataFrame,
    contributions: pd.DataFrame,
    source: Path,
) -> None:
    """Write one HTML file: how many alarms, the most unusual rows, and why they are.

    Args:
        path: of the file.
        detector: that scored.
        frame: the rows as they were read.
        scores: of each row: score, p_value, alarm.
        contributions: what each column adds, in nats.
        source: where the rows are from.
    """
    page = Page(f"What is unusual in {source.name}", f"{len(frame):,} rows, {detector.method_}")
    chosen = decisions.select(scores["p_value"], FDR)
    alarms = int(scores["alarm"].sum())
    page.fact(f"{alarms:,}", "alarms", f"scores above {-detector.offset_:.3g}")
    page.fact(f"{int(chosen.sum()):,}", "to look at", f"at most {FDR:.0%} normal, on average")
    page.fact(f"{len(frame):,}", "rows", "")
    order = np.argsort(-scores["score"].to_numpy(), kind="stable")[:MOST]
    section = page.section(
        "The most unusual rows",
        number=1,
        lead="A score is −log of the part of normal rows that are as unusual: 2.3 is one in ten, "
        "4.6 one in a hundred, 6.9 one in a thousand. With + stands what a column adds to it; "
        "usual is what nine of ten normal rows have, or the commonest values. Rows are counted "
        "from 0.",
    )
    loud = [i for i in order if scores["alarm"].iloc[i]]
    changes = pd.DataFrame(columns=contributions.columns)
    if loud:
        changes = detector.counterfactual(frame[detector.table_.names].iloc[loud])
        changes.index = pd.Index(loud)
    rows = []
    for i in order:
        parts = contributions.iloc[i].sort_values(ascending=False)
        because = [
            f"{name} = {_shown(frame[name].iloc[i])} (+{value:.2g}{_usual(detector, name)})"
            for name, value in parts.head(3).items()
            if value > 0.05 * scores["score"].iloc[i]
        ]
        rows.append(
            [
                str(int(scores["row"].iloc[i])),
                float(scores["score"].iloc[i]),
                float(scores["p_value"].iloc[i]),
                "yes" if scores["alarm"].iloc[i] else "no",
                "; ".join(because),
                "; ".join(
                    f"{name} = {_shown(value)}"
                    for name, value in (changes.loc[i].items() if i in changes.index else [])
                    if not pd.isna(value)
                ),
            ]
        )
    section.add(Table(["row", "score", "p-value", "alarm", "because", "usual with"], rows))
    section = page.section("All scores", number=2)
    chart = figures.histogram(scores["score"].to_numpy(), "score (nats)")
    section.side(Chart(chart, "How often each score occurs.", "Higher is more unusual."))
    section = page.section(
        "Which columns",
        number=3,
        lead="What each column adds to a score, on average over the alarms and over all rows. "
        "The numbers of a row add up to its score.",
    )
    mask = scores["alarm"].to_numpy(bool)
    means = contributions.mean()
    loud = contributions[mask].mean() if mask.any() else means
    names = loud.sort_values(ascending=False).index[:MOST]
    section.add(
        Table(
            ["column", "alarms", "all rows"],
            [[str(name), float(loud[name]), float(means[name])] for name in names],
        )
    )
    section = page.section("How this was found", number=4)
    section.prose(f"Method: `{detector.method_}` ({detector.why_}).")
    n = len(detector._held)
    least = int(np.ceil(len(frame) / (FDR * (n + 1))))
    section.prose(
        f"p-values are ranks among {n:,} normal rows that were held out."
        f"{decisions.if_few(n) or f' None can be below {1 / (n + 1):.2g}.'} So of these "
        f"{len(frame):,} rows either none or at least {least:,} are to look at."
    )
    page.write(path)


def _shown(value: object) -> str:
    if pd.isna(value):
        return "missing"
    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return _told(value) if isinstance(value, float | np.floating) else str(value)


def _told(value: float) -> str:
    """A number that was encoded: by five digits, since encoded rows are in single precision."""
    return number(
        round(value) if abs(value - round(value)) <= 1e-5 * abs(value) else float(f"{value:.5g}")
    )


def _usual(detector: DiffusionDetector, name: str) -> str:
    """What is usual in the column, for the reader to compare with."""
    place = detector.table_.names.index(name)
    column = detector.table_.columns[place]
    if column.kind == "number" and column.scale:
        held = detector._kept_rows[:, detector.table_.first[place]]
        low, high = np.quantile(held, (0.05, 0.95)) * column.scale + column.centre
        first, last = (_told(value) for value in (low, high))
        return f"; usual: {first}" + (f" to {last}" if last != first else "")
    if column.kind == "category":
        return f"; usual: {', '.join(column.values[:2])}"
    return ""
