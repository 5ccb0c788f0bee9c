"""Clips by patches of their frames: which are unusual, when, and where.

A frame is a picture of its own channels and of what they changed since the frame before, so that a
patch shows how it looks and how it moves; then it is judged as a patch of any picture
(`suffuse_anomaly.patches`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from suffuse_anomaly.member import Floats
from suffuse_anomaly.patches import PatchDetector, as_array
from suffuse_anomaly.table import TableError

__all__ = ["ClipPatchDetector"]


class ClipPatchDetector(PatchDetector):
    """Which clips are unusual, when, and where.

    A clip has `frames`, or is an array of them: [T, H, W] or [T, H, W, C], two frames or more.
    Arguments are those of `PatchDetector`, whose `features` here are "filters".

    >>> rng = np.random.default_rng(0)
    >>> clips = 0.1 * rng.normal(size=(20, 6, 24, 24))
    >>> detector = ClipPatchDetector().fit(clips)
    >>> flash = 0.1 * rng.normal(size=(6, 24, 24))
    >>> flash[3, 8:16, 8:16] += 2
    >>> int(detector.heat_map([flash])[0].max((1, 2)).argmax()) in (3, 4)
    True
    """

    things = "clips"

    def __init__(
        self,
        method: str = "knn-time",
        *,
        stride: int = 4,
        n_neighbors: int = 5,
        steps: int = 1500,
        seed: int = 0,
    ) -> None:
        super().__init__(method, stride=stride, n_neighbors=n_neighbors, steps=steps, seed=seed)

    def _pictures(self, thing: Any) -> list[Floats]:
        shape = np.shape(getattr(thing, "frames", thing))
        if len(shape) not in (3, 4) or shape[0] < 2:
            raise TableError(
                "a clip has frames, or is an array of two of them or more, [T, H, W] or [T, H, W, "
                f"C]; given {type(thing).__name__} of the shape {list(shape)}"
            )
        frames = [as_array(frame) for frame in np.asarray(getattr(thing, "frames", thing))]
        frames = [frame.reshape(*frame.shape[:2], -1) for frame in frames]
        before = [frames[1], *frames[:-1]]  # the first frame has none: the change to the next
        return [
            np.concatenate([frame, frame - last], 2)
            for frame, last in zip(frames, before, strict=True)
        ]

    def _map(self, pictures: list[Floats], heats: list[Floats]) -> Floats:
        """[T, H, W]."""
        return np.stack(self._maps(pictures, heats))
