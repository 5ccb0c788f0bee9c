"""Sounds for Suffuse: made, cleaned and completed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from suffuse_audio.sound import Sound

__all__ = ["Sound"]


def __getattr__(name: str) -> Any:
    if name != "Sound":  # resolved at first use, so that the plugin's module imports no numpy
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from suffuse_audio.sound import Sound

    return Sound
