"""A section of a run's report: looping clips and slices through time."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .clip import Clip
from .files import animation

__all__ = ["section"]

SHOWN = 6


def section(run: Path) -> tuple[str, str] | None:
    """Held-out clips and made ones under the same conditions, playing; None for other models.

    Beside each stands its slice: its brightest row, frame under frame. What moves
    sideways is a slant in it, and what flickers a dashed line.
    """
    import suffuse

    from .pixels import Pixels

    model = suffuse.load(run)
    if not isinstance(model.encoder, Pixels):
        return None
    test = model.dataset("test")
    held_out = [test[i] for i in range(min(SHOWN, len(test)))]
    wanted: dict[str, Any] = {
        name: [e.conditions.get(name) for e in held_out] for name in model.conditions
    }
    made = model.sample(max(1, len(held_out)), seed=0, **wanted)
    rows = []
    for i, clip in enumerate(made):
        said = ", ".join(str(v[i]) for v in wanted.values() if v and v[i] is not None)
        real = held_out[i].data if held_out else None
        cells = [_player(c, what) for what, c in (("held-out", real), ("made", clip)) if c]
        rows.append(f"<tr><td>{html.escape(said)}</td>{''.join(cells)}</tr>")
    head = "".join(f"<th>{name}</th><th>slice</th>" for name in ("held-out", "made"))
    if not held_out:
        head = "<th>made</th><th>slice</th>"
    return (
        "Clips",
        "<p>Each clip plays in a loop. The slice beside it is its brightest row, frame under "
        "frame: what moves sideways is a slant, what flickers a dashed line.</p>"
        f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>",
    )


def _player(clip: Clip, what: str) -> str:
    moving = _image(animation(clip, least=96), "webp", f"{what} clip, playing")
    row = int(clip.frames.astype(float).sum((0, 2, 3)).argmax())
    factor = max(1, 96 // max(clip.frames.shape[2], len(clip)))
    cut = clip.frames[:, row].repeat(factor, 0).repeat(factor, 1)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(cut)).save(file, "PNG")
    still = _image(file.getvalue(), "png", f"slice through time of the {what} clip")
    return f"<td>{moving}</td><td>{still}</td>"


def _image(data: bytes, kind: str, alt: str) -> str:
    text = base64.b64encode(data).decode("ascii")
    style = "image-rendering:pixelated;height:96px"
    return f'<img src="data:image/{kind};base64,{text}" alt="{alt}" style="{style}">'
