"""What is done without a model: copies, blends, and warps along the optical flow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from suffuse.errors import SuffuseError

__all__ = ["blend", "copy_last", "flow_warp", "squared_error"]

Frames = NDArray[np.uint8]


def copy_last(frames: Frames, known: NDArray[np.bool_]) -> Frames:
    """Each unknown frame is the last known one before it; the first known one where none is.

    Args:
        frames: [F, h, w, 3]; known: [F], somewhere True.
    """
    places = np.flatnonzero(known)
    before = np.searchsorted(places, np.arange(len(frames)), side="right") - 1
    return frames[places[before.clip(min=0)]]


def blend(frames: Frames, known: NDArray[np.bool_]) -> Frames:
    """Each unknown frame is the mixture of its known neighbours by distance; a copy at the ends."""
    out = copy_last(frames, known)
    for i, a, b, share in _between(known):
        mixed = (1 - share) * frames[a] + share * frames[b]
        out[i] = np.rint(mixed).astype(np.uint8)
    return out


def flow_warp(frames: Frames, known: NDArray[np.bool_]) -> Frames:
    """Both neighbours, each warped along the optical flow to the moment, mixed by distance.

    The flow is Farnebäck's (2003), by OpenCV, on frames enlarged to 64 pixels or more.

    Raises:
        SuffuseError: where OpenCV is not installed.
    """
    try:
        import cv2  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise SuffuseError(
            "the flow baseline needs OpenCV: pip install 'suffuse-video[flow]'"
        ) from None
    out = copy_last(frames, known)
    h, w = frames.shape[1:3]
    factor = max(1, -(-64 // min(h, w)))
    size = (w * factor, h * factor)
    x, y = np.meshgrid(np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32))

    def large(frame: Frames) -> Frames:
        return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC))

    def warped(a: Frames, b: Frames, share: float) -> NDArray[np.float64]:
        """Frame a moved by a share of its flow to b, by asking backwards along that flow."""
        grey = [frame.max(-1) for frame in (a, b)]
        flow = cv2.calcOpticalFlowFarneback(*grey, None, 0.5, 3, 15, 3, 5, 1.2, 0)
        back = -share * flow
        moved = cv2.remap(a, x + back[..., 0], y + back[..., 1], cv2.INTER_LINEAR)
        return np.asarray(moved, dtype=np.float64)

    for i, first, second, share in _between(known):
        a, b = large(frames[first]), large(frames[second])
        mixed = (1 - share) * warped(a, b, share) + share * warped(b, a, 1 - share)
        small = cv2.resize(mixed, (w, h), interpolation=cv2.INTER_AREA)
        out[i] = np.rint(small).clip(0, 255).astype(np.uint8)
    return out


def squared_error(made: Frames, real: Frames) -> float:
    """The mean squared error, in squared levels of 255."""
    return float(((made.astype(np.float64) - real) ** 2).mean())


def _between(known: NDArray[np.bool_]) -> list[tuple[int, int, int, float]]:
    """Unknown frames with a known one on both sides: (frame, before, after, share of the way)."""
    places = np.flatnonzero(known)
    found = []
    for i in np.flatnonzero(~known):
        k = int(np.searchsorted(places, i))
        if 0 < k < len(places):
            a, b = int(places[k - 1]), int(places[k])
            found.append((int(i), a, b, (int(i) - a) / (b - a)))
    return found
