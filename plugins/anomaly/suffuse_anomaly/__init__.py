"""Anomalies: the unusual in tables, series, pictures, sounds, clips, and by any plugin's model.

The classes follow scikit-learn. Nothing heavy is imported until one of them is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from suffuse_anomaly.clip_patches import ClipPatchDetector
    from suffuse_anomaly.detector import DiffusionDetector
    from suffuse_anomaly.imputer import DiffusionImputer
    from suffuse_anomaly.patches import PatchDetector
    from suffuse_anomaly.series import SeriesDetector
    from suffuse_anomaly.series_imputer import SeriesImputer
    from suffuse_anomaly.sound_patches import SoundPatchDetector
    from suffuse_anomaly.wrapping import AnomalyDetector

__all__ = [
    "AnomalyDetector",
    "ClipPatchDetector",
    "DiffusionDetector",
    "DiffusionImputer",
    "PatchDetector",
    "SeriesDetector",
    "SeriesImputer",
    "SoundPatchDetector",
]

_HOME = {
    "ClipPatchDetector": "clip_patches",
    "SoundPatchDetector": "sound_patches",
    "DiffusionImputer": "imputer",
    "PatchDetector": "patches",
    "SeriesDetector": "series",
    "SeriesImputer": "series_imputer",
    "AnomalyDetector": "wrapping",
    "DiffusionDetector": "detector",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'suffuse_anomaly' has no attribute {name!r}")
    return getattr(import_module(f"suffuse_anomaly.{_HOME[name]}"), name)
