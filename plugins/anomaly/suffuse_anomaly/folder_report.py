"""The page of scored pictures, sounds or clips: the most unusual, and where they are."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from suffuse.report import figures
from suffuse.report.blocks import Chart
from suffuse.report.page import Page, Section
from suffuse_anomaly import decisions
from suffuse_anomaly.patches import PatchDetector, as_array
from suffuse_anomaly.sound_patches import SoundPatchDetector, sound_of, spectrogram
from suffuse_anomaly.wrapping import AnomalyDetector

__all__ = ["write_folder", "write_sheet"]

SHOWN = 12
"""Things that are drawn."""
MOST = 200
"""Files in the table."""
FEW = 50
"""With fewer scores than this their distribution is not drawn."""
SIDE = 280
"""Pixels of the longer side of a small picture."""
HOT = np.array([255, 92, 0], np.float64)
FAINT = 2.3
"""Nats from which on a place is coloured: one normal place in ten has them."""


def write_folder(
    path: Path,
    detector: PatchDetector,
    things: Sequence[Any],
    heats: Sequence[npt.NDArray[Any]],
    scores: pd.DataFrame,
    source: Path,
) -> None:
    """Write one HTML file: the most unusual things beside their heat maps, and a table.

    Args:
        path: of the file.
        detector: that scored.
        things: what was scored.
        heats: its heat maps.
        scores: of each: file, score, p_value, alarm, and where it is most unusual.
        source: where they are from.
    """
    page = _page(detector, scores, source, detector.things)
    order = np.argsort(-scores["score"].to_numpy(), kind="stable")[:SHOWN]
    section = page.section(f"The most unusual {detector.things}", number=1, lead=_lead(detector))
    charts = []
    for i in order:
        row = scores.iloc[i]
        thing = things[i]
        picture, heat = _drawn(detector, thing, heats[i])
        told = (
            f"`{row['file']}`: score {row['score']:.3g}, {_said(row)}; most at {_where(row, thing)}"
        )
        charts.append(Chart(_beside(picture, heat), f"{row['file']} and its heat map", told))
    section.side(*charts)
    _rest(page, scores)
    _how(page, detector, detector.things, detector.method)
    page.write(path)


def write_sheet(
    path: Path,
    detector: AnomalyDetector,
    things: Sequence[Any],
    scores: pd.DataFrame,
    source: Path,
) -> None:
    """Write one HTML file of things judged by a model, as `write_folder`, drawn by its renderer."""
    page = _page(detector, scores, source, "things")
    order = np.argsort(-scores["score"].to_numpy(), kind="stable")[:SHOWN]
    section = page.section("The most unusual things", number=1, lead=_SCORE)
    captions = [f"{scores['score'].iloc[i]:.3g}" for i in order]
    sheet = detector.model.renderer.sheet([things[i] for i in order], captions)
    names = ", ".join(f"`{scores['file'].iloc[i]}`" for i in order)
    told = f"The highest scores, the highest first, and below each the score: {names}."
    section.figure(sheet, "the most unusual things", told)
    _rest(page, scores)
    _how(page, detector, "things", " and ".join(detector.methods))
    page.write(path)


_SCORE = (
    "A score is −log of the part of normal ones that are as unusual: 2.3 is one in ten, 4.6 one "
    "in a hundred."
)


_PLACE = (
    "Where a thing is most unusual is told by its place in what the model sees, counted from 0: of "
    "a picture the row and the column, of a molecule the atom; beside it what it adds to the score."
)


def _lead(detector: PatchDetector) -> str:
    what = {
        "pictures": "At the right",
        "sounds": "Time goes to the right and pitch up, what is loud is light; below",
        "clips": "The frame that is most unusual; at the right",
    }[detector.things]
    return f"{_SCORE} {what}, places that are unusual are coloured."


def _page(
    detector: PatchDetector | AnomalyDetector, scores: pd.DataFrame, source: Path, what: str
) -> Page:
    page = Page(f"What is unusual in {source.name}", f"{len(scores):,} {what}")
    alarms = int(scores["alarm"].sum())
    page.fact(f"{alarms:,}", "alarms", f"scores above {detector.threshold_:.3g}")
    page.fact(f"{len(scores):,}", what, "")
    return page


def _rest(page: Page, scores: pd.DataFrame) -> None:
    """The table, and how often each score occurs."""
    lead = _PLACE if "adds" in scores else ""
    section = page.section(
        "All of them" if len(scores) <= MOST else f"The first {MOST}", number=2, lead=lead
    )
    first = scores.sort_values("score", ascending=False, kind="stable").head(MOST)
    names = {"p_value": "p-value"}
    head = [names.get(str(name), str(name)) for name in scores.columns]
    rows = [
        [
            ("yes" if value else "no") if name == "alarm" else _cell(value)
            for name, value in zip(scores.columns, row, strict=True)
        ]
        for row in first.itertuples(index=False)
    ]
    section.table(head, rows)
    if len(scores) > MOST:
        section.prose(f"{len(scores) - MOST:,} more are in the file of scores.")
    if len(scores) >= FEW:
        chart = figures.histogram(scores["score"].to_numpy(), "score (nats)")
        section.side(Chart(chart, "How often each score occurs.", "Higher is more unusual."))


def _how(page: Page, detector: PatchDetector | AnomalyDetector, what: str, method: str) -> Section:
    section = page.section("How this was found", number=3)
    n = len(detector.held_)
    section.prose(
        f"Method: `{method}`. p-values are ranks among {n:,} normal {what} that were not learned "
        f"from.{decisions.if_few(n, what) or f' None can be below {1 / (n + 1):.2g}.'}"
    )
    few = detector.threshold_ == detector.held_[-1]
    one = what.removesuffix("s")
    section.prose(
        f"An alarm is a score above all of these: too few to tell one in a hundred, so that about "
        f"one normal {one} in {n + 1} is an alarm, too."
        if few
        else f"An alarm is a score that one normal {one} in a hundred has"
        + (", if the highest scores go on as they begin." if n < 99 else ".")
    )
    return section


def _said(row: pd.Series) -> str:
    return ("an alarm" if row["alarm"] else "no alarm") + f", p = {row['p_value']:.2g}"


def _cell(value: Any) -> str | float:
    return str(value) if isinstance(value, str) else float(value)


def _where(row: pd.Series, thing: Any) -> str:
    if "hertz" in row:
        samples, rate = sound_of(thing)
        whole = samples.shape[-1] / rate
        return f"{row['seconds']:.2f} s of {whole:.2f} s, {row['hertz']:.0f} Hz"
    return ", ".join(f"{name} {row[name]}" for name in row.index[4:])


def _drawn(
    detector: PatchDetector, thing: Any, heat: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """A thing as a picture [H, W, 3] of 0 to 255, and its heat map [H, W]."""
    if isinstance(detector, SoundPatchDetector):
        energy = spectrogram(*sound_of(thing))[0][::-1]
        low, high = np.quantile(energy, (0.02, 0.998))
        grey = np.clip((energy - low) / max(high - low, 1e-9), 0, 1)[:, :, None]
        return np.repeat(255 * grey, 3, 2), heat[::-1]
    if heat.ndim == 3:
        frame = int(heat.max((1, 2)).argmax())
        return _rgb(np.asarray(getattr(thing, "frames", thing))[frame]), heat[frame]
    return _rgb(thing), heat


def _rgb(picture: Any) -> npt.NDArray[Any]:
    array = as_array(picture)
    array = array.reshape(*array.shape[:2], -1)
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 1:  # numbers of no known range
        array = (array - low) / max(high - low, 1e-9)
    return 255 * (array[:, :, :3] if array.shape[2] >= 3 else np.repeat(array[:, :, :1], 3, 2))


def _beside(picture: npt.NDArray[Any], heat: npt.NDArray[Any]) -> bytes:
    """The picture and, coloured where it is unusual, the picture again, as a PNG."""
    grey = picture.mean(2, keepdims=True)
    share = np.clip((heat - FAINT) / (max(float(heat.max()), 2 * FAINT) - FAINT), 0, 1)[:, :, None]
    coloured = (1 - 0.85 * share) * (0.75 * grey + 40) + 0.85 * share * HOT
    height, width = picture.shape[:2]
    wide = width > 2 * height  # below each other
    factor = SIDE / max(height, width)
    size = (2 * SIDE, SIDE // 2) if wide else (round(factor * width), round(factor * height))
    how = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BILINEAR
    both = [
        np.asarray(Image.fromarray(one.clip(0, 255).astype(np.uint8)).resize(size, how))
        for one in (picture, coloured)
    ]
    gap = np.full((6, size[0], 3) if wide else (size[1], 6, 3), 255, np.uint8)
    joined = np.concatenate([both[0], gap, both[1]], 0 if wide else 1)
    file = io.BytesIO()
    Image.fromarray(joined).save(file, "PNG")
    return file.getvalue()
