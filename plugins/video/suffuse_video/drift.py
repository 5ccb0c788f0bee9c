"""The quality of frame k against k: whether frames go bad as a clip goes on.

A frame is 10 numbers: its colours on 4x4 pixels, on the first 6 principal axes of training frames;
and its brightness, contrast, sharpness and saturation, on their own axes, all in units of their
deviation there. How good frame k of a clip is, is told by how near frame k of the nearest training
clip comes to it. Held-out clips are not at 0 either: they are the floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from suffuse import stats
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset, Example, Metric

from .clip import Clip
from .evaluators import mean, sized, some

__all__ = ["Drift", "Gauge", "curve", "multiple", "quarters"]

AXES, LEAST, SHOWN = 6, 32, 8
_NAME = "Frame {} from the nearest real one"


class Gauge:
    """How far each frame of a clip is from the nearest one at its place in known clips.

    Args:
        clips: known, of so many frames or more.
        frames: of a clip that are looked at.
        size: height and width that frames are brought to.
    """

    def __init__(self, clips: Sequence[Clip], frames: int, size: Sequence[int]) -> None:
        self.frames, self.size = frames, size
        seen = torch.stack([self._seen(clip) for clip in clips])
        flat = seen.flatten(0, 1)
        self.mean = flat.mean(0)
        parts = (flat - self.mean).split([48, 4], dim=1)
        self.axes = torch.block_diag(*(_white(x, AXES) for x in parts))
        self.known = (seen - self.mean) @ self.axes

    def __call__(self, clips: Sequence[Clip]) -> NDArray[np.float64]:
        """Distances [n, frames], of clips that have so many frames."""
        x = (torch.stack([self._seen(clip) for clip in clips]) - self.mean) @ self.axes
        apart = torch.cdist(x.transpose(0, 1), self.known.transpose(0, 1))
        found: NDArray[np.float64] = apart.amin(2).T.numpy()
        return found

    def _seen(self, clip: Clip) -> Tensor:
        """[frames, 52], in [0, 1]."""
        shown = sized(clip, self.size).frames[: self.frames]
        x = torch.from_numpy(shown.copy()).permute(0, 3, 1, 2).double() / 255
        grey = x.mean(1)
        edges = [grey.diff(dim=d).abs().mean((1, 2)) for d in (1, 2)]
        told = [
            grey.mean((1, 2)),
            grey.flatten(1).std(1),
            edges[0] + edges[1],
            (x.amax(1) - x.amin(1)).mean((1, 2)),
        ]
        return torch.cat([adaptive_avg_pool2d(x, 4).flatten(1), torch.stack(told, 1)], dim=1)


def _white(x: Tensor, most: int) -> Tensor:
    """What takes rows [N, D] of mean 0 to their first principal axes, of deviation 1 each."""
    _, scales, axes = torch.linalg.svd(x, full_matrices=False)
    return axes[:most].T * (len(x) ** 0.5 / scales[:most].clamp(min=1e-6))


def quarters(far: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The mean of each quarter of the frames, for each clip: four [n] of distances [n, F]."""
    n = far.shape[1] // 4
    return [far[:, begin : begin + n].mean(1) for begin in (0, n, 2 * n, far.shape[1] - n)]


def multiple(above: Any, below: Any, seed: int = 0) -> stats.Interval:
    """The ratio of two means over the same clips, [n] each."""
    a, b = (np.asarray(k, dtype=float) for k in (above, below))
    return stats.bootstrap(
        lambda x, y: x.mean() / max(y.mean(), 1e-9), a, b, paired=True, seed=seed
    )


class Drift:
    """The quality of frame k against k, and that of the last quarter against the first.

    Of clips of differing lengths those count that are as long as the longest length that 32 clips
    of each kind have.

    Args:
        target: of the last quarter as a multiple of the first.
    """

    def __init__(self, target: float | None = 1.2) -> None:
        self.target = target

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """The multiple, and up to 8 points of the curve over the clip, beside held-out clips.

        Raises:
            SuffuseError: for fewer than 32 samples, or held-out clips, of 4 frames or more.
        """
        held_out, known = ([e.data for e in some(split)] for split in (test, train))
        made = [s.data for s in samples]
        frames = min(_common(who) for who in (made, held_out, known))
        if frames < 4:
            raise SuffuseError(
                f"video/drift needs {LEAST} clips of 4 frames or more of each kind; given "
                f"{len(made)} samples, {len(held_out)} held-out and {len(known)} training clips"
            )
        made, held_out, known = (
            [c for c in who if len(c) >= frames] for who in (made, held_out, known)
        )
        gauge = Gauge(known, frames, made[0].frames.shape[1:3])
        far, floor = gauge(made), gauge(held_out)

        def last_to_first(x: NDArray[np.float64]) -> stats.Interval:
            first, _, _, last = quarters(x)
            return multiple(last, first, seed)

        ratio = Metric.of(
            "Drift of frames, last quarter to first",
            last_to_first(far),
            "lower",
            len(far),
            floor=last_to_first(floor),
            target=self.target,
            note="A frame's quality is its distance from the nearest training frame at its place, "
            "by colours, brightness, contrast, sharpness and saturation.",
        )
        points = [
            mean(_NAME.format(k + 1), far[:, k].tolist(), floor[:, k].tolist(), seed=seed)
            for k in stats.evenly(frames, SHOWN)
        ]
        return [ratio, *points]


def curve(metrics: Sequence[Metric]) -> list[tuple[int, Metric]]:
    """The points of the curve among figures: the frame, from 1, and its figure."""
    begin, end = _NAME.split("{}")
    return [
        (int(m.name.removeprefix(begin).removesuffix(end)), m)
        for m in metrics
        if m.name.startswith(begin) and m.name.endswith(end)
    ]


def _common(clips: Sequence[Clip]) -> int:
    """The longest length that enough clips have; 0 where there are too few."""
    lengths = sorted((len(clip) for clip in clips), reverse=True)
    return lengths[LEAST - 1] if len(lengths) >= LEAST else 0
