"""What the conformance kit needs to know of this plugin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suffuse.testing import Conformance

__all__ = ["CONFORMANCE"]


def _clips(folder: Path) -> Mapping[str, Any]:
    """Thirty-two short clips of moving shapes in two classes."""
    from .files import ClipFiles
    from .shapes import Shapes

    shapes, files = Shapes("train", frames=4), ClipFiles()
    for i in range(32):
        files.write(shapes[i].data, folder / ("a" if i % 2 else "b") / f"{i:02d}.gif", {})
    data = {"dataset.path": str(folder), "dataset.test_fraction": 0.4, "dataset.frames": 4}
    return {**data, "encoder.frames": 4, "encoder.size": 8, **_SMALL}


_SMALL = {"denoiser.width": 32, "denoiser.depth": 2}
_FEW = {"dataset.clips": 64, "dataset.test_clips": 64, "dataset.frames": 4, "encoder.frames": 4}

CONFORMANCE = Conformance(
    settings={
        "edit video/fill": {"edit.missing": "2"},
        "recipe video/shapes": {**_FEW, **_SMALL},
        "recipe video/digits": {**_FEW, **_SMALL},
        "recipe video/folder": _clips,
    }
)
