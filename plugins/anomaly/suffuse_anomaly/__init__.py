"""Anomalies: scoring the unusual in tables, and on any other plugin's model.

The classes follow scikit-learn. Nothing heavy is imported until one of them is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from suffuse_anomaly.detector import DiffusionDetector
    from suffuse_anomaly.imputer import DiffusionImputer
    from suffuse_anomaly.series import SeriesDetector
    from suffuse_anomaly.wrapping import AnomalyDetector

__all__ = ["AnomalyDetector", "DiffusionDetector", "DiffusionImputer", "SeriesDetector"]

_HOME = {
    "DiffusionImputer": "imputer",
    "SeriesDetector": "series",
    "AnomalyDetector": "wrapping",
    "DiffusionDetector": "detector",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'suffuse_anomaly' has no attribute {name!r}")
    return getattr(import_module(f"suffuse_anomaly.{_HOME[name]}"), name)
