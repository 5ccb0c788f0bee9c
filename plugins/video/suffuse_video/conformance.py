"""What the conformance kit needs to know of this plugin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import SkipTest

from suffuse.testing import Conformance

__all__ = ["CONFORMANCE"]


def _clips(folder: Path) -> Mapping[str, Any]:
    """Thirty-two short clips of moving shapes in two classes, of two to four frames."""
    from .clip import Clip
    from .files import ClipFiles
    from .shapes import Shapes

    shapes, files = Shapes("train", frames=4), ClipFiles()
    for i in range(32):
        clip = Clip(shapes[i].data.frames[: 2 + i % 3], 8)
        files.write(clip, folder / ("a" if i % 2 else "b") / f"{i:02d}.gif", {})
    data = {"dataset.path": str(folder), "dataset.test_fraction": 0.4, "dataset.frames": 4}
    return {**data, "dataset.least": 2, "encoder.frames": 4, "encoder.size": 8, **_SMALL}


def _sprites(folder: Path) -> Mapping[str, Any]:
    """Sheets of three bodies, three trousers, three shirts and three heads, as blocks of colour."""
    import numpy as np
    from PIL import Image

    from .sprites import ACTIONS, CELL, LAYERS

    random = np.random.default_rng(0)
    for i, layer in enumerate(LAYERS):
        (folder / layer).mkdir(parents=True)
        for name in range(3):
            sheet = np.zeros((CELL * len(ACTIONS), CELL * 13, 4), np.uint8)
            cells = sheet.reshape(len(ACTIONS), CELL, 13, CELL, 4)
            for k in range(13):  # blocks, one above the other, that go to the right
                cells[:, 12 * i : 12 * i + 12, k, 2 * k : 2 * k + 20] = 255
            sheet[..., :3] = random.integers(0, 255, 3)
            Image.fromarray(sheet).save(folder / layer / f"{name}.png")
    data = {"dataset.path": str(folder), "dataset.frames": 4, "encoder.frames": 4}
    return {**data, "encoder.size": 8, **_SMALL}


def _emoji(folder: Path) -> Mapping[str, Any]:
    """Forty-eight short animations of moving shapes, named by code points."""
    from .files import ClipFiles
    from .shapes import Shapes

    shapes, files = Shapes("train", frames=4), ClipFiles()
    for i in range(48):
        files.write(shapes[i].data, folder / f"{0x1F400 + i:x}.webp", {})
    data = {"dataset.path": str(folder), "dataset.frames": 4, "encoder.frames": 4}
    return {**data, "encoder.size": 8, **_SMALL}


def _frames(folder: Path) -> Mapping[str, Any]:
    raise SkipTest("it judges frames that it has a model make from other frames of true clips")


_SMALL = {"denoiser.width": 32, "denoiser.depth": 2}
_FEW = {"dataset.clips": 64, "dataset.test_clips": 64, "dataset.frames": 4, "encoder.frames": 4}

CONFORMANCE = Conformance(
    settings={
        "edit video/fill": {"edit.missing": "2"},
        "edit video/upscale": {"edit.size": 8},
        "denoiser video/unet": {
            "recipe": "video/folder",
            "denoiser.width": 16,
            "denoiser.multipliers": [1, 2],
        },
        "evaluator video/frames": _frames,
        "evaluator video/warping": {"recipe": "video/shapes"},
        "evaluator video/label-accuracy": {"recipe": "video/digits"},
        "recipe video/shapes": {**_FEW, **_SMALL},
        "recipe video/digits": {**_FEW, **_SMALL},
        "recipe video/folder": _clips,
        "recipe video/sprites": _sprites,
        "recipe video/emoji": _emoji,
    }
)
