"""The quality of frame k against k: whether frames go bad as a clip goes on.

A frame is 16 numbers: its colours on 4x4 pixels, on the first 12 principal axes of training frames;
and its brightness, contrast, sharpness and saturation, all in units of their deviation there. How
far frames k of made clips are from frames k of held-out ones is the Fréchet distance of these
numbers. It is above 0 for real clips, too, of which there are only so many: what counts is the
floor, and how the distance goes with k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from suffuse import stats
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset, Example, Metric

from .clip import Clip
from .evaluators import sized, some

__all__ = ["Drift", "Gauge", "curve", "drifted", "far"]

AXES, LEAST, SHOWN = 12, 32, 8
_NAME = "Frame {} from real ones (Fréchet)"


class Gauge:
    """What a frame is told by; its axes and units are those of the frames that it is made with.

    Args:
        clips: training clips.
        size: height and width that frames are brought to.
    """

    def __init__(self, clips: Sequence[Clip], size: Sequence[int]) -> None:
        self.size = size
        seen = torch.cat([self._seen(clip) for clip in clips])
        self.mean, self.scale = seen.mean(0), seen.std(0).clamp(min=1e-6)
        colours = seen[:, :48] - self.mean[:48]
        _, scales, axes = torch.linalg.svd(colours, full_matrices=False)
        self.axes = axes[:AXES].T * (len(seen) ** 0.5 / scales[:AXES].clamp(min=1e-6))

    def __call__(self, clips: Sequence[Clip], frames: int) -> Tensor:
        """The first frames of clips that have so many, float64 [n, frames, 16]."""
        found = []
        for clip in clips:
            seen = self._seen(clip)[:frames] - self.mean
            colours = seen[:, :48] @ self.axes
            found.append(torch.cat([colours, seen[:, 48:] / self.scale[48:]], dim=1))
        return torch.stack(found)

    def _seen(self, clip: Clip) -> Tensor:
        """[F, 52], in [0, 1]."""
        x = torch.from_numpy(sized(clip, self.size).frames.copy()).permute(0, 3, 1, 2).double()
        x = x / 255
        grey = x.mean(1)
        edges = [grey.diff(dim=d).abs().mean((1, 2)) for d in (1, 2)]
        told = [
            grey.mean((1, 2)),
            grey.flatten(1).std(1),
            edges[0] + edges[1],
            (x.amax(1) - x.amin(1)).mean((1, 2)),
        ]
        return torch.cat([adaptive_avg_pool2d(x, 4).flatten(1), torch.stack(told, 1)], dim=1)


def far(made: Tensor, real: Tensor, quarter: int) -> float:
    """How far the frames of a quarter are from real ones, frame by frame, on average.

    Args:
        made, real: [n, F, D], of which F // 4 frames are a quarter.
        quarter: from 0; 3 ends with the last frame.
    """
    frames = made.shape[1]
    n = frames // 4
    begin = frames - n if quarter == 3 else quarter * n
    return (
        math.fsum(stats.frechet_distance(made[:, k], real[:, k]) for k in range(begin, begin + n))
        / n
    )


def drifted(made: Tensor, real: Tensor, since: int = 0) -> float:
    """How far the last quarter is from real frames, as a multiple of an earlier one."""
    return far(made, real, 3) / max(far(made, real, since), 1e-9)


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
        """The multiple, and up to 8 points of the curve over the clip, each beside its floor.

        Raises:
            SuffuseError: for fewer than 32 samples, or held-out clips, of 4 frames or more.
        """
        held_out, known = ([e.data for e in some(split)] for split in (test, train))
        made = [s.data for s in samples]
        frames = min((_common(who) for who in (made, held_out, known)), default=0)
        if frames < 4:
            raise SuffuseError(
                f"video/drift needs {LEAST} clips of 4 frames or more of each kind; given "
                f"{len(made)} samples, {len(held_out)} held-out and {len(known)} training clips"
            )
        gauge = Gauge(known, made[0].frames.shape[1:3])
        x, real, trained = (
            gauge([c for c in who if len(c) >= frames], frames) for who in (made, held_out, known)
        )
        pooled = torch.cat([real, trained])
        n = min(len(x), len(pooled) // 2)
        sizes = (n, min(len(real), len(pooled) - n))
        note = (
            "Fréchet distance of frames k to held-out frames k, by colours, brightness, contrast, "
            "sharpness and saturation."
        )

        def ratio(a: Tensor, b: Tensor) -> float:
            return drifted(*(k.unflatten(1, (frames, -1)) for k in (a, b)))

        found = [
            Metric.of(
                "Drift of frames, last quarter to first",
                stats.jackknife(ratio, x.flatten(1), real.flatten(1), seed=seed, bounds=(0, 1e9)),
                "lower",
                len(x),
                floor=stats.floor(ratio, pooled.flatten(1), n=sizes, repeats=40, seed=seed),
                target=self.target,
                note=note,
            )
        ]
        for k in stats.evenly(frames, SHOWN):
            found.append(
                Metric.of(
                    _NAME.format(k + 1),
                    stats.frechet_interval(x[:, k], real[:, k], seed=seed),
                    "lower",
                    len(x),
                    floor=stats.floor(
                        stats.frechet_distance, pooled[:, k], n=sizes, repeats=40, seed=seed
                    ),
                    note=note,
                )
            )
        return found


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
