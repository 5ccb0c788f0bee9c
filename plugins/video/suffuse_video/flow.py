"""Optical flow of clips, and arrows that show it.

Where brightness I moves with (u, v) and keeps its value, I_x u + I_y v + I_t = 0. One equation for
two unknowns: those of the pixels around are joined, in the sense of least squares, weighted by a
bell. Where nothing has an edge there is no flow. Good for motions of a pixel or so a frame.

Source: Lucas, Kanade, "An iterative image registration technique with an application to stereo
vision" (1981).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

__all__ = ["arrows", "flow"]

_BELL = np.array([1, 4, 6, 4, 1]) / 16
_LEAST = 1e-4
"""Of the smaller eigenvalue, for brightness in [0, 1]: flatter places have no flow."""


def flow(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Where each pixel goes from each frame to the next: [F - 1, h, w, 2], x and y in pixels.

    Args:
        frames: [F, h, w, 3].
    """
    grey = frames.astype(np.float64).max(-1) / 255
    grey = _smooth(grey)
    before, after = grey[:-1], grey[1:]
    mean = (before + after) / 2
    dy, dx = np.gradient(mean, axis=(1, 2)) if min(mean.shape[1:]) > 1 else (0 * mean, 0 * mean)
    dt = after - before
    xx, xy, yy = (_smooth(a * b) for a, b in ((dx, dx), (dx, dy), (dy, dy)))
    xt, yt = _smooth(dx * dt), _smooth(dy * dt)
    determinant = xx * yy - xy**2
    half = (xx + yy) / 2
    smaller = half - np.sqrt(np.maximum(half**2 - determinant, 0))
    seen = smaller > _LEAST
    safe = np.where(seen, determinant, 1.0)
    u, v = (xy * yt - yy * xt) / safe, (xy * xt - xx * yt) / safe
    return np.where(seen[..., None], np.stack([u, v], -1), 0.0)


def arrows(frames: NDArray[np.uint8], factor: int = 6, every: int = 2) -> NDArray[np.uint8]:
    """Frames [F, h, w, 3] enlarged, with an arrow at every so many pixels that move.

    An arrow is three times as long as the motion from the frame to the next.
    """
    moves = flow(frames) if len(frames) > 1 else np.zeros((0, *frames.shape[1:3], 2))
    out = []
    for i, frame in enumerate(frames):
        picture = Image.fromarray(frame.repeat(factor, 0).repeat(factor, 1))
        draw = ImageDraw.Draw(picture)
        motion = moves[min(i, len(moves) - 1)] if len(moves) else np.zeros((*frame.shape[:2], 2))
        for y in range(every // 2, frame.shape[0], every):
            for x in range(every // 2, frame.shape[1], every):
                u, v = motion[y, x]
                if np.hypot(u, v) > 0.1:
                    a = np.array([x + 0.5, y + 0.5]) * factor
                    b = a + 3 * factor * np.array([u, v])
                    draw.line([*a, *b], fill=(255, 255, 255), width=1)
                    draw.ellipse([*(b - 1.5), *(b + 1.5)], fill=(255, 120, 0))
        out.append(np.asarray(picture))
    return np.stack(out)


def _smooth(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each frame of [F, h, w] weighted by a bell of 5 by 5 pixels."""
    for axis in (1, 2):
        padded = np.pad(x, [(2, 2) if a == axis else (0, 0) for a in range(3)], mode="edge")
        n = x.shape[axis]
        x = sum(w * padded.take(range(i, i + n), axis) for i, w in enumerate(_BELL))  # type: ignore[assignment]
    return x
