"""Series and folders on the command line: detectors fitted on them, and the scores of others.

A series is a table of numbers with a moment in each row, and perhaps one column of their times. A
folder holds pictures, sounds or clips, read by whichever plugin knows their files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from suffuse import plugins, storage
from suffuse.cli.files import found, read
from suffuse.report import figures
from suffuse.report.blocks import Chart
from suffuse.report.page import Page
from suffuse_anomaly.clip_patches import ClipPatchDetector
from suffuse_anomaly.files import read_table
from suffuse_anomaly.patches import PatchDetector
from suffuse_anomaly.series import SeriesDetector
from suffuse_anomaly.series_imputer import SeriesImputer
from suffuse_anomaly.sound_patches import SoundPatchDetector
from suffuse_anomaly.table import TableError

__all__ = [
    "fill_series",
    "fit_folder",
    "fit_series",
    "folder_scorer",
    "read_series",
    "series_scorer",
]

KINDS: dict[str, type[PatchDetector]] = {
    "pictures": PatchDetector,
    "sounds": SoundPatchDetector,
    "clips": ClipPatchDetector,
}
ALARM = -float(np.log(0.01))
"""Nats above which one normal thing in a hundred is."""
MOST = 25
"""Things that a report names."""


def read_series(path: Path, drop: Sequence[str] = ()) -> pd.DataFrame:
    """The series in a CSV or Parquet file; a column of dates becomes its times.

    Raises:
        TableError: where there are several such columns, or columns that are no numbers.
    """
    frame = read_table(path)
    for name in drop:
        if name not in frame:
            names = ", ".join(frame.columns)
            raise TableError(f"{path} has no column {name!r}; there are: {names}")
    frame = frame.drop(columns=list(drop))
    dates = [c for c in frame if pd.api.types.is_datetime64_any_dtype(frame[c])]
    if len(dates) > 1:
        raise TableError(
            f"{path} has several columns of dates, and a series one: leave out all but one with "
            f"--drop; there are: {', '.join(dates)}"
        )
    if dates:
        frame = frame.set_index(dates[0])
        if frame.index.isna().any():
            raise TableError(f"a row of {path} has no time in {dates[0]!r}")
    other = [c for c in frame if not pd.api.types.is_numeric_dtype(frame[c])]
    if other or not len(frame.columns):
        raise TableError(
            f"the columns of a series are numbers, and perhaps one of dates; {path} has "
            f"{', '.join(map(repr, other)) or 'no numbers'}: leave out what is none with --drop"
        )
    return frame.astype(np.float64)


def fit_series(data: Path, out: Path, *, window: int | None = None, drop: Sequence[str]) -> str:
    """Fit a detector on the series in a file and save it; what was done, in a sentence."""
    series = read_series(data, drop)
    detector = SeriesDetector(window).fit(series)
    detector.save(out)
    return (
        f"learned from {len(series)} moments of {series.shape[1]} channels, in windows of "
        f"{detector.window_}; saved in {out}"
    )


def fill_series(data: Path, out: Path, *, draws: int = 0, seed: int = 0) -> str:
    """Fill the gaps of the series in a file by the series itself; what was done, in a sentence."""
    if draws < 0:
        raise TableError(f"--draws is 0 or more; given {draws}")
    series = read_series(data)
    gaps = int(series.isna().sum().sum())
    imputer = SeriesImputer(n_imputations=max(1, draws), random_state=seed).fit(series)
    found = imputer.impute(series) if draws else [imputer.transform(series)]
    for i, values in enumerate(found):
        path = out.with_name(f"{out.stem}-{i}{out.suffix}") if draws else out
        filled = pd.DataFrame(values, index=series.index, columns=series.columns)
        timed = isinstance(series.index, pd.DatetimeIndex)
        storage.write_text(path, filled.to_csv(index=timed))
    return f"{gaps} gaps filled in {out}" + (f", {draws} times, numbered" if draws else "")


def series_scorer(model: Path) -> Callable[..., str]:
    """What `suffuse score` calls for a detector of series (see the hook `open_scorer`)."""
    detector = SeriesDetector.load(model)

    def score(source: Path, out: Path, *, explain: bool = False, report: Path | None = None) -> str:
        if source.is_dir():
            raise TableError(f"{source} is a folder; this model scores the moments of one series")
        whole = read_table(source)
        missing = [name for name in detector.names_ if name not in whole]
        if missing:
            raise TableError(
                f"{source} lacks channels that the model was fitted on: {', '.join(missing)}; it "
                f"has: {', '.join(whole.columns)}"
            )
        dates = [c for c in whole if pd.api.types.is_datetime64_any_dtype(whole[c])]
        others = [c for c in whole if c not in detector.names_ and c not in dates]
        series = read_series(source, others)[detector.names_]
        table = pd.DataFrame({"moment": np.arange(len(series))})
        if isinstance(series.index, pd.DatetimeIndex):
            table["time"] = series.index
        table["score"] = detector.score(series)
        table["p_value"] = detector.p_values(series)
        table["alarm"] = (table["score"] > ALARM).astype(int)
        if explain:
            table = table.join(detector.explain(series).add_prefix("from "))
        return _written(table, out, report, source, "moments")

    return score


def _renderer(folder: Path) -> Any:
    """What reads most of a folder's files."""
    suffixes = [p.suffix.lower() for p in folder.rglob("*") if p.is_file()]
    best: tuple[int, Any] = (0, None)
    for entry in plugins.entries("renderer"):
        renderer = plugins.build("renderer", {"name": entry.name})
        count = sum(suffix in renderer.suffixes for suffix in suffixes)
        best = max(best, (count, renderer), key=lambda pair: pair[0])
    if not best[0]:
        kinds = ", ".join(sorted(set(suffixes))[:8]) or "no files at all"
        raise TableError(
            f"no installed plugin reads what is in {str(folder)!r} ({kinds}); pictures need "
            "suffuse-image, sounds suffuse-audio, clips suffuse-video"
        )
    return best[1]


def _things(folder: Path) -> tuple[list[Path], list[Any], str]:
    """Files, what is in them, and which of `KINDS` that is."""
    renderer = _renderer(folder)
    files, things = read(found([folder], renderer), renderer)
    one = things[0]
    if hasattr(one, "samples"):
        return files, things, "sounds"
    if hasattr(one, "frames"):
        return files, things, "clips"
    if np.asarray(one).dtype.kind in "uif" and np.ndim(np.asarray(one)) in (2, 3):
        return files, things, "pictures"
    raise TableError(
        f"{files[0]} is no picture, sound or clip; things of other kinds are judged by a model of "
        "theirs, in Python: AnomalyDetector(suffuse.load(NAME))"
    )


def fit_folder(data: Path, out: Path, *, method: str = "knn-time", seed: int = 0) -> str:
    """Fit a detector on the normal things in a folder; what was done, in a sentence."""
    _, things, kind = _things(data)
    KINDS[kind](method, seed=seed).fit(things).save(out)
    return f"learned from {len(things)} {kind} in {data}; saved in {out}"


def folder_scorer(model: Path, kind: str) -> Callable[..., str]:
    """What `suffuse score` calls for a detector of pictures, sounds or clips."""
    detector = KINDS[kind].load(model)

    def score(source: Path, out: Path, *, explain: bool = False, report: Path | None = None) -> str:
        folder = source if source.is_dir() else source.parent
        renderer = _renderer(folder)
        files, things = read(found([source], renderer), renderer)
        names = [str(f.relative_to(source)) if source.is_dir() else f.name for f in files]
        table = pd.DataFrame({"file": names, "score": detector.score(things)})
        table["p_value"] = detector.p_values(things)
        table["alarm"] = (table["score"] > ALARM).astype(int)
        if explain:
            table = table.join(pd.DataFrame(_places(detector, things)))
        return _written(table, out, report, source, kind)

    return score


def _places(detector: PatchDetector, things: Sequence[Any]) -> list[dict[str, float]]:
    """Where each thing is most unusual."""
    if isinstance(detector, SoundPatchDetector):
        return [
            {key: place[key] for key in ("seconds", "hertz")} for place in detector.where(things)
        ]
    answer = []
    for heat in detector.heat_map(things):
        place = np.unravel_index(int(heat.argmax()), heat.shape)
        names = ("frame", "row", "column")[-len(place) :]
        answer.append({name: int(at) for name, at in zip(names, place, strict=True)})
    return answer


def _written(table: pd.DataFrame, out: Path, report: Path | None, source: Path, what: str) -> str:
    """Write the scores, and a page; what was done, in a sentence."""
    storage.write_text(out, table.to_csv(index=False, float_format="%.6g"))
    alarms = int(table["alarm"].sum())
    said = f"{len(table)} scores in {out}, {alarms} alarms"
    if report is None:
        return said
    page = Page(f"What is unusual in {source.name}", f"{len(table):,} {what}")
    page.fact(f"{alarms:,}", "alarms", f"scores above {ALARM:.3g}: one normal one in a hundred")
    page.fact(f"{len(table):,}", what, "")
    section = page.section(
        f"The most unusual {what}",
        number=1,
        lead="A score is −log of the part of normal ones that are as unusual: 2.3 is one in ten, "
        "4.6 one in a hundred.",
    )
    first = table.sort_values("score", ascending=False, kind="stable").head(MOST)
    rows = [
        [float(v) if isinstance(v, int | float | np.number) else str(v) for v in row]
        for row in first.itertuples(index=False)
    ]
    section.table([str(name) for name in table.columns], rows)
    section = page.section("All scores", number=2)
    if "moment" in table:
        chart = figures.line(table["moment"], table["score"], "moment", "score (nats)")
    else:
        chart = figures.histogram(table["score"].to_numpy(), "score (nats)")
    section.add(Chart(chart, "The scores.", "Higher is more unusual."))
    page.write(report)
    return f"{said}; report in {report}"
