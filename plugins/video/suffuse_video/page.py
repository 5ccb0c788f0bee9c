"""Clips on a page: looping players, strips, slices through time, and where everything goes."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .clip import Clip
from .drift import curve
from .files import animation, strip
from .flow import arrows

__all__ = ["page", "section"]

SHOWN = 6
HEIGHT = 96
"""Of a player, in pixels."""

ROOM = 2**20
"""Pixels of a clip's frames up to which its flow is drawn."""

_TOLD = (
    "Each clip plays in a loop. The slice beside it is its brightest row, frame under frame: what "
    "moves sideways is a slant, what flickers a dashed line. Arrows are three times as long as the "
    "motion from one frame to the next (Lucas and Kanade's flow)."
)

_QUALITY = (
    "The quality of each frame: how far frames of made clips are from the nearest training frame "
    "at the same place, with 95 % intervals; the band is that of held-out clips."
)

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem;
color-scheme: light dark; }}
figure {{ margin: 0 0 2rem; }}
figcaption {{ font-weight: 600; }}
.row {{ display: flex; flex-wrap: wrap; gap: .75rem; align-items: flex-start; }}
.row div {{ font-size: 12px; }}
img {{ display: block; image-rendering: pixelated; max-width: 100%; }}
</style></head><body><h1>{title}</h1><p>{told}</p>
{figures}
</body></html>
"""


def page(clips: Sequence[Clip], captions: Sequence[str] | None = None, title: str = "Clips") -> str:
    """A page of its own, that needs nothing beside it.

    Args:
        clips: what it shows.
        captions: a line for each.
    """
    figures = []
    for i, clip in enumerate(clips):
        said = str(captions[i]) if captions is not None else ""
        cells = [("plays", _moving(clip)), ("slice through time", _slice(clip))]
        overlay = _flow(clip)
        if overlay is not None:
            cells.append(("flow", overlay))
        cells.append(("frames", _image(_png(strip(clip)), "png", f"frames of clip {i}", 40)))
        inner = "".join(f"<div>{picture}{name}</div>" for name, picture in cells)
        about = f"{len(clip)} frames, {clip.fps:g} a second"
        caption = f"{html.escape(said)}<br>" if said else ""
        figures.append(
            f"<figure><figcaption>{caption}</figcaption>"
            f'<div class="row">{inner}</div>{about}</figure>'
        )
    return _PAGE.format(title=html.escape(title), told=_TOLD, figures="\n".join(figures))


def section(run: Path) -> tuple[str, str] | None:
    """Held-out clips and made ones under the same conditions, playing; None for other models."""
    import suffuse
    from suffuse.report.blocks import number

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
        told = [v[i] for v in wanted.values() if v and v[i] is not None]
        said = ", ".join(number(k) if isinstance(k, float) else str(k) for k in told)
        shown = [held_out[i].data, clip] if held_out else [clip]
        cells = "".join(
            f"<td>{_moving(c)}</td><td>{_slice(c)}</td><td>{_flow(c) or ''}</td>" for c in shown
        )
        rows.append(f"<tr><td>{html.escape(said)}</td>{cells}</tr>")
    names = ("held-out", "made") if held_out else ("made",)
    head = "".join(f"<th>{name}</th><th>slice</th><th>flow</th>" for name in names)
    table = f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"
    return "Clips", f"<p>{_TOLD}</p>{table}{_quality(run)}"


def _quality(run: Path) -> str:
    """The curve of video/drift over the frames, where it was measured."""
    from suffuse.report import figures, record

    points = curve(record.evaluation(run))
    if not points:
        return ""
    frames, found = [k for k, _ in points], [m for _, m in points]
    chart = figures.curve(
        frames,
        [m.value for m in found],
        [(m.low, m.high) for m in found],
        [(m.floor_low, m.floor_high) for m in found],
        "frame",
        "distance from the nearest real frame",
    )
    return f"<p>{html.escape(_QUALITY)}</p>{chart}"


def _moving(clip: Clip) -> str:
    return _image(animation(clip, least=HEIGHT), "webp", "clip, playing", HEIGHT)


def _slice(clip: Clip) -> str:
    row = int(clip.frames.astype(float).sum((0, 2, 3)).argmax())
    factor = max(1, HEIGHT // max(clip.frames.shape[2], len(clip)))
    cut = clip.frames[:, row].repeat(factor, 0).repeat(factor, 1)
    return _image(_png(cut), "png", "slice through time", HEIGHT)


def _flow(clip: Clip) -> str | None:
    """The clip with arrows; None where it is too large to draw them."""
    if clip.frames[..., 0].size > ROOM or len(clip) < 2:
        return None
    height, width = clip.frames.shape[1:3]
    factor = max(1, HEIGHT // height)
    shown = Clip(arrows(clip.frames, factor, max(2, max(height, width) // 12)), clip.fps)
    return _image(animation(shown), "webp", "clip with its flow", HEIGHT)


def _png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return file.getvalue()


def _image(data: bytes, kind: str, alt: str, height: int) -> str:
    text = base64.b64encode(data).decode("ascii")
    style = f"image-rendering:pixelated;height:{height}px"
    return f'<img src="data:image/{kind};base64,{text}" alt="{alt}" style="{style}">'
