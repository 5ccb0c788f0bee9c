"""What the conformance kit needs to know of this plugin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suffuse.testing import Conformance

__all__ = ["CONFORMANCE"]


def _pictures(folder: Path) -> Mapping[str, Any]:
    """Sixty-four coloured pictures of noise in two classes, of several sizes."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for i in range(64):
        size = (int(random.integers(16, 40)), int(random.integers(16, 40)), 3)
        path = folder / ("bright" if i % 2 else "dark") / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        low = 128 * (i % 2)
        Image.fromarray(random.integers(low, low + 128, size, dtype=np.uint8)).save(path)
    data = {"dataset.path": str(folder), "dataset.test_fraction": 0.4, "encoder.size": 8}
    return {**data, "denoiser.width": 16, "denoiser.multipliers": [1, 2]}


_SMALL = {"denoiser.width": 32, "denoiser.depth": 1, "denoiser.heads": 2}


def _captioned(folder: Path) -> Mapping[str, Any]:
    """The same pictures, with a caption each."""
    data = dict(_pictures(folder))
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    rows = [f"{name},a {name.partition('/')[0]} picture" for name in names]
    (folder / "metadata.csv").write_text("\n".join(["file_name,text", *rows]), encoding="utf-8")
    del data["denoiser.multipliers"], data["denoiser.width"]
    return {**data, **_SMALL}


def _mask(folder: Path) -> Mapping[str, Any]:
    """A corner of a digit."""
    from PIL import Image

    mask = Image.new("L", (8, 8), 0)
    mask.paste(255, (0, 0, 4, 4))
    mask.save(folder / "mask.png")
    return {"edit.mask": str(folder / "mask.png")}


CONFORMANCE = Conformance(
    settings={
        "edit image/colorize": {"recipe": "image/folder"},
        "edit image/inpaint": _mask,
        "edit image/rephrase": {"recipe": "image/text", "edit.source": "a dark picture"},
        "recipe image/folder": _pictures,
        "recipe image/text": _captioned,
        "recipe image/emoji": {**_SMALL, "dataset.views": 1},
        "recipe image/upsampler": _SMALL,
        "recipe image/scenes": {**_SMALL, "dataset.each": 4},
        "denoiser image/dit": {"denoiser.width": 64, "denoiser.depth": 2, "denoiser.heads": 2},
        "denoiser image/magnitude-unet": {"denoiser.width": 16, "denoiser.blocks": 1},
        "evaluator image/style-accuracy": {
            "recipe": "image/digits",
            "evaluators": [{"name": "image/style-accuracy", "condition": "label"}],
        },
    }
)
