"""Folders of pictures, sounds or clips, and of what a model knows: detectors fitted, and scores.

Files are read by whichever plugin knows them; those that cannot be read are named and left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

import suffuse
from suffuse import plugins
from suffuse.cli.files import found, read, read_each
from suffuse.errors import SuffuseError
from suffuse_anomaly import decisions
from suffuse_anomaly.clip_patches import ClipPatchDetector
from suffuse_anomaly.files import write_scores
from suffuse_anomaly.patches import PatchDetector
from suffuse_anomaly.sound_patches import SoundPatchDetector
from suffuse_anomaly.table import TableError
from suffuse_anomaly.wrapping import AnomalyDetector

__all__ = ["fit_folder", "fit_model", "folder_scorer", "model_scorer"]

KINDS: dict[str, type[PatchDetector]] = {
    "pictures": PatchDetector,
    "sounds": SoundPatchDetector,
    "clips": ClipPatchDetector,
}


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


def _things(folder: Path) -> tuple[list[Any], str]:
    """What is in the files that are like most of them, and which of `KINDS` that is."""
    renderer = _renderer(folder)
    files, things = read(found([folder], renderer), renderer)
    one = things[0]
    if hasattr(one, "samples"):
        kind, like = "sounds", [f"{thing.rate:g} Hz" for thing in things]
    elif hasattr(one, "frames"):
        kind, like = "clips", [_colours(thing.frames[0]) for thing in things]
    elif np.asarray(one).dtype.kind in "uif" and np.ndim(np.asarray(one)) in (2, 3):
        kind, like = "pictures", [_colours(thing) for thing in things]
    else:
        raise TableError(
            f"{files[0]} is no picture, sound or clip; things of other kinds are judged by a model "
            "of theirs, with --model NAME"
        )
    most = Counter(like).most_common(1)[0][0]
    for file, what in zip(files, like, strict=True):
        if what != most:
            click.echo(f"left out: {file} has {what}, and most {kind} have {most}", err=True)
    return [thing for thing, what in zip(things, like, strict=True) if what == most], kind


def _colours(picture: Any) -> str:
    shape = np.shape(np.asarray(picture))
    return f"{shape[2] if len(shape) == 3 else 1} channels"


def fit_folder(data: Path, out: Path, *, method: str = "knn-time", seed: int = 0) -> str:
    """Fit a detector on the normal things in a folder; what was done, in a sentence."""
    things, kind = _things(data)
    detector = KINDS[kind](method, seed=seed).fit(things)
    detector.save(out)
    few = decisions.if_few(len(detector.held_), kind)
    return f"learned from {len(things)} {kind} in {data}; saved in {out}.{few}"


def fit_model(
    data: Path | None, out: Path, *, model: str, method: str = "auto", seed: int = 0
) -> str:
    """Fit a detector by a model, on normal things or its own data; what was done, in a sentence."""
    loaded = suffuse.load(model)
    detector = AnomalyDetector(loaded, method, seed=seed)
    if data is None:
        detector.fit()
        what = f"the data of {model}"
    else:
        _, things = read_each(found([data], loaded.renderer), loaded.renderer, data)
        detector.fit(things)
        what = f"{len(things)} things in {data}"
    detector.save(out)
    few = decisions.if_few(len(detector.held_), "things")
    return f"learned from {what}; {' + '.join(detector.methods)}; saved in {out}.{few}"


def folder_scorer(model: Path, kind: str) -> Callable[..., str]:
    """What `suffuse score` calls for a detector of pictures, sounds or clips."""
    detector = KINDS[kind].load(model)

    def score(source: Path, out: Path, *, explain: bool = False, report: Path | None = None) -> str:
        renderer = _renderer(source if source.is_dir() else source.parent)
        names, things = read_each(found([source], renderer), renderer, source)
        heats: list[Any] = []

        def judge(thing: Any) -> float:
            if not explain and report is None:
                return float(detector.score([thing])[0])
            score, heat = detector.judge(thing)
            heats.append(heat)
            return score

        table, things = _scores(detector, judge, names, things, source)
        if heats:
            places = [_place(detector, *both) for both in zip(things, heats, strict=True)]
            shown = table.join(pd.DataFrame(places))
            table = shown if explain else table
        said = write_scores(table, out)
        if report is not None:
            from suffuse_anomaly.folder_report import write_folder

            write_folder(report, detector, things, heats, shown, source)
            said += f"; report in {report}"
        return said

    return score


def model_scorer(model: Path) -> Callable[..., str]:
    """What `suffuse score` calls for a detector by a model."""
    detector = AnomalyDetector.load(model)

    def score(source: Path, out: Path, *, explain: bool = False, report: Path | None = None) -> str:
        renderer = detector.model.renderer
        names, things = read_each(found([source], renderer), renderer, source)
        table, things = _scores(
            detector, lambda thing: float(detector.score([thing])[0]), names, things, source
        )
        if explain:
            parts = detector.explain(things)
            places = [np.unravel_index(int(part.argmax()), part.shape) for part in parts]
            table["most unusual at"] = [" ".join(map(str, place)) for place in places]
            table["adds"] = [float(part.max()) for part in parts]
        said = write_scores(table, out)
        if report is not None:
            from suffuse_anomaly.folder_report import write_sheet

            write_sheet(report, detector, things, table, source)
            said += f"; report in {report}"
        return said

    return score


def _scores(
    detector: PatchDetector | AnomalyDetector,
    judge: Callable[[Any], float],
    names: Sequence[str],
    things: Sequence[Any],
    source: Path,
) -> tuple[pd.DataFrame, list[Any]]:
    """Of each thing its score, its p-value, and whether it is an alarm; and what was scored.

    Those that the detector cannot judge are named on standard error and left out.
    """
    named, scores, kept = [], [], []
    for name, thing in zip(names, things, strict=True):
        try:
            scores.append(judge(thing))
        except SuffuseError as error:
            if len(names) == 1:
                raise
            click.echo(f"left out: {name}: {error}", err=True)
            continue
        named.append(name)
        kept.append(thing)
    if not kept:
        raise TableError(f"none of the {len(names)} things in {source} can be judged")
    score = np.array(scores)
    p_values = decisions.p_values(score, detector.held_)
    alarm = (score > detector.threshold_).astype(int)
    table = pd.DataFrame({"file": named, "score": score, "p_value": p_values, "alarm": alarm})
    return table, kept


def _place(detector: PatchDetector, thing: Any, heat: Any) -> dict[str, float]:
    """Where a thing is most unusual."""
    if isinstance(detector, SoundPatchDetector):
        place = detector.place(thing, heat)
        return {key: round(place[key], 3) for key in ("seconds", "hertz")}
    at = np.unravel_index(int(heat.argmax()), heat.shape)
    names = ("frame", "row", "column")[-len(at) :]
    return {name: int(n) for name, n in zip(names, at, strict=True)}
