"""What the anomaly plugin brings. Nothing is imported here until it is used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from suffuse.plugins import Register, hookimpl

suffuse_api = 1
suffuse_conformance = "suffuse_anomaly.conformance:CONFORMANCE"

SCORERS = ("detector", "series", "pictures", "sounds", "clips", "model")
"""The kinds of models that score, each after "anomaly/"."""


@hookimpl
def register_benchmarks(register: Register) -> None:
    register(
        "anomaly/anomaly",
        "suffuse_anomaly.benchmark:anomaly",
        summary="detectors of anomalies in tables, beside scikit-learn's and published ones",
    )
    register(
        "anomaly/decisions",
        "suffuse_anomaly.decisions_benchmark:decisions",
        summary="false alarms, false discoveries, and columns named first, on the same tables",
    )
    register(
        "anomaly/imputation",
        "suffuse_anomaly.imputation_benchmark:imputation",
        summary="gaps of tables and series, told again: RMSE, CRPS and coverage",
    )
    register(
        "anomaly/tiles",
        "suffuse_anomaly.tiles_benchmark:tiles",
        summary="defects of magnetic tiles: which pictures, and where, by patches",
    )
    register(
        "anomaly/models",
        "suffuse_anomaly.models_benchmark:models",
        summary="what is unusual to models of pictures, sounds and molecules",
    )
    register(
        "anomaly/speed",
        "suffuse_anomaly.speed_benchmark:speed",
        summary="the time to fit and to score, beside scikit-learn's search for neighbours",
    )
    register(
        "anomaly/series",
        "suffuse_anomaly.series_benchmark:series",
        summary="detectors of anomalies in series, by VUS-PR on labelled series (NAB)",
    )


@hookimpl
def register_evaluators(register: Register) -> None:
    register(
        "anomaly/detection",
        "suffuse_anomaly.evaluators:Detection",
        summary="of scored things: AUROC, average precision, F1 at k, recall, beside baselines",
    )
    register(
        "anomaly/moments",
        "suffuse_anomaly.evaluators:Moments",
        summary="of scored series with labels: VUS-PR",
    )
    register(
        "anomaly/localisation",
        "suffuse_anomaly.evaluators:Localisation",
        summary="of heat maps with masks of defects: PRO",
    )
    register(
        "anomaly/uniformity",
        "suffuse_anomaly.evaluators:Uniformity",
        summary="of p-values of normal things: how far from uniform",
    )


@hookimpl
def register_commands(cli: click.Group) -> None:
    from suffuse_anomaly.commands import anomaly

    cli.add_command(anomaly)


@hookimpl
def open_scorer(model: Path) -> Callable[..., str] | None:
    try:
        config = json.loads((model / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    kind = config.get("kind") if isinstance(config, dict) else None
    if str(kind).removeprefix("anomaly/") not in SCORERS:
        return None

    def score(source: Path, out: Path, **asked: Any) -> str:
        # opened here, since an error in a hook is the plugin's, and one of this folder the user's
        return _opened(model, kind.removeprefix("anomaly/"))(source, out, **asked)

    return score


def _opened(model: Path, kind: str) -> Callable[..., str]:
    if kind == "detector":
        from suffuse_anomaly.files import scorer

        return scorer(model)
    if kind == "series":
        from suffuse_anomaly.series_files import series_scorer

        return series_scorer(model)
    from suffuse_anomaly.folders import folder_scorer, model_scorer

    return model_scorer(model) if kind == "model" else folder_scorer(model, kind)
