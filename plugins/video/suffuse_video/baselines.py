"""What is done without a model: copies, blends, and warps along the optical flow."""

from __future__ import annotations

from typing import Any

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

    Behind the last known frame that frame goes on as it came from the known one before it, frame by
    frame, each of its points with the flow that it had; a copy where there is none before it. The
    flow is Farnebäck's (2003), by OpenCV, on frames enlarged to 64 pixels or more.

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
    grid = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in size)), axis=-1)

    def large(frame: Frames) -> Frames:
        return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC))

    def small(frame: NDArray[Any]) -> Frames:
        mean = cv2.resize(frame, (w, h), interpolation=cv2.INTER_AREA)
        return np.asarray(np.rint(mean).clip(0, 255).astype(np.uint8))

    def flow(a: Frames, b: Frames) -> NDArray[np.float32]:
        """Where each pixel of a is in b, less where it is in a: [h, w, x and y]."""
        grey = [frame.max(-1) for frame in (a, b)]
        found = cv2.calcOpticalFlowFarneback(*grey, None, 0.5, 3, 15, 3, 5, 1.2, 0)
        return np.asarray(found)

    def asked(of: NDArray[Any], where: NDArray[np.float32], **edge: Any) -> NDArray[Any]:
        return np.asarray(cv2.remap(of, where[..., 0], where[..., 1], cv2.INTER_LINEAR, **edge))

    def warped(a: Frames, b: Frames, share: float) -> NDArray[np.float64]:
        """Frame a moved by a share of its flow to b, by asking backwards along that flow."""
        return asked(a, grid - share * flow(a, b)).astype(np.float64)

    for i, first, second, share in _between(known):
        a, b = large(frames[first]), large(frames[second])
        mixed = (1 - share) * warped(a, b, share) + share * warped(b, a, 1 - share)
        out[i] = small(mixed)
    *_, before, last = (0, 0, *np.flatnonzero(known).tolist())
    if before < last:
        frame = large(frames[last])
        onward = -flow(frame, large(frames[before])) / (last - before)
        origin = grid  # where in the last known frame each pixel was
        for i in range(last + 1, len(frames)):
            back = grid - asked(onward, origin)
            origin = asked(origin, back, borderMode=cv2.BORDER_REPLICATE)
            out[i] = small(asked(frame, origin))
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
