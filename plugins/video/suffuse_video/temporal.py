"""Figures of what time does to clips: warping error, drift from frame to frame, likeness to truth.

The warping error takes each frame along the flow that is known to be true and compares it with the
next: what moves as it is said to, and stays what it is, has next to none. For clips of video/shapes
the true flow is that of the asked motion; for what bounces, that of the thing's measured places.

Sources: the warping error: Lai et al., "Learning blind video temporal consistency" (2018),
arXiv 1808.00449, equation 9, with the true flow; structural similarity: Wang et al., "Image quality
assessment" (2004), with a bell of deviation 1.5 over 11 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample

from suffuse import stats
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset, Example, Metric

from .clip import Clip
from .evaluators import mean, some
from .features import encoder
from .shapes import PACE, Motion, parse, path, zoom
from .tracking import track

__all__ = ["Frechet", "Warping", "ssim", "warped", "warping_errors"]


def warped(frames: Tensor, moved: NDArray[np.float64], grown: NDArray[np.float64]) -> Tensor:
    """Each frame as it is after its motion, bilinearly; black comes in from outside.

    Args:
        frames: [F, C, h, w].
        moved: [F, 2], x and y in pixels, y downwards.
        grown: [F], by how much the picture grows around its middle, before it moves.
    """
    n, _, h, w = frames.shape
    theta = torch.zeros(n, 2, 3, dtype=frames.dtype)
    grown_, moved_ = (torch.from_numpy(np.asarray(k)).to(frames) for k in (grown, moved))
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / grown_
    theta[:, 0, 2] = -2 * moved_[:, 0] / w / grown_
    theta[:, 1, 2] = -2 * moved_[:, 1] / h / grown_
    grid = affine_grid(theta, list(frames.shape), align_corners=False)
    return grid_sample(frames, grid, padding_mode="zeros", align_corners=False)


def warping_errors(
    clip: Clip, motion: Motion | None = None, strength: float | None = None
) -> NDArray[np.float64]:
    """What warping leaves from each frame to the next, root mean square in grey levels: [F - 1].

    It is over the pixels that either frame lights. Without a motion, and for what bounces, the
    flow is that of the thing's measured places.
    """
    frames, size = len(clip), clip.frames.shape[1]
    x = torch.from_numpy(clip.frames).permute(0, 3, 1, 2).double()
    grown = np.ones(frames - 1)
    if motion is None or motion.bounces:
        places = track(clip).places
        moved = np.nan_to_num(np.diff(places, axis=0))
    else:
        pace = None if strength is None else strength * PACE * size
        moved = np.diff(path(motion, frames, size, pace), axis=0)
        large = zoom(motion, frames)
        grown = large[1:] / large[:-1]
    left = (warped(x[:-1], moved, grown) - x[1:]).square().mean(1)
    lit = (torch.maximum(x[:-1].amax(1), x[1:].amax(1)) > 38).double()
    total = lit.sum((1, 2)).clamp(min=1)
    found: NDArray[np.float64] = ((left * lit).sum((1, 2)) / total).sqrt().numpy()
    return found


def ssim(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """The mean structural similarity of frames [F, h, w, 3], channel by channel, at most 1."""
    x, y = (torch.from_numpy(k).permute(0, 3, 1, 2).double().flatten(0, 1)[:, None] for k in (a, b))
    side = min(11, *a.shape[1:3])
    bell = torch.exp(-((torch.arange(side, dtype=torch.float64) - (side - 1) / 2) ** 2) / 4.5)
    window = bell[:, None] * bell
    window = (window / window.sum())[None, None]

    def mean(k: Tensor) -> Tensor:
        return conv2d(k, window)

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    value = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(value.mean())


class Warping:
    """How far each frame is from the next, taken along the true flow; and how that changes in time.

    Needs prompts of video/shapes.
    """

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """The error in grey levels, and that of the last quarter as a multiple of the first's.

        Raises:
            SuffuseError: where no sample has such a prompt.
        """
        made, real = _warping(samples), _warping(some(test))
        if not made or not real:
            raise SuffuseError(
                "video/warping reads prompts such as 'a red circle moves left, then up' (those of "
                "video/shapes), and no sample has one"
            )

        def first_and_last(errors: Sequence[NDArray[np.float64]]) -> list[float]:
            found = []
            for each in errors:
                quarter = max(1, len(each) // 4)
                found.append(float(each[-quarter:].mean() / max(each[:quarter].mean(), 1.0)))
            return found

        return [
            mean("Warping error along the true flow", *_means(made, real), "lower", "levels", seed),
            mean(
                "Warping error, last quarter to first",
                *(first_and_last(who) for who in (made, real)),
                "lower",
                "",
                seed,
            ),
        ]


class Frechet:
    """Fréchet and kernel distance of made and held-out clips on named features.

    Args:
        encoder: "reader", the project's own (see `features`), a safetensors file with the weights
            of I3D, or a folder with a VideoMAE model.
        target: of the Fréchet distance.
    """

    def __init__(self, encoder: str = "reader", target: float | None = None) -> None:
        self.encoder, self.target = encoder, target

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """The Fréchet distance, where there are more clips than features, and KID times 1000.

        Raises:
            SuffuseError: for fewer than 32 samples or held-out clips.
        """
        held_out = some(test)
        if min(len(samples), len(held_out)) < 32:
            raise SuffuseError(
                f"video/frechet needs 32 clips or more of both kinds; given {len(samples)} samples "
                f"and {len(held_out)} held-out clips"
            )
        look = encoder(self.encoder)
        made, real, known = (
            look([e.data for e in who]) for who in (samples, held_out, some(train))
        )
        scale = known.std(0).clamp(min=1e-6)
        made, real, known = (x / scale for x in (made, real, known))
        pooled = torch.cat([real, known])
        n = min(len(made), len(pooled) // 2)
        sizes = (n, min(len(real), len(pooled) - n))
        note = f"Features of {self.encoder!r}, each in units of its deviation over training clips."
        found = []
        if min(*sizes, len(made), len(real)) > 20 + made.shape[1]:
            value = stats.frechet_interval(made, real, seed=seed)
            floor = stats.floor(stats.frechet_distance, pooled, n=sizes, seed=seed)
            found.append(
                Metric.of(
                    "Fréchet distance",
                    value,
                    "lower",
                    len(made),
                    floor=floor,
                    target=self.target,
                    note=note,
                )
            )
        value = stats.kid(made, real)
        floor = stats.floor(lambda a, b: stats.kid(a, b).value, pooled, n=sizes, seed=seed)
        name, n = "KID x 1000 (features)", len(made)
        found.append(Metric.of(name, value, "lower", n, floor=floor, scale=1000, note=note))
        return found


def _warping(examples: Sequence[Example]) -> list[NDArray[np.float64]]:
    found = []
    for example in examples:
        motion = parse(str(example.conditions.get("prompt") or ""))
        if motion is not None and len(example.data) > 1:
            strength = example.conditions.get("strength")
            found.append(warping_errors(example.data, motion, strength))
    return found


def _means(*groups: Sequence[NDArray[np.float64]]) -> list[list[float]]:
    """The mean of each clip's errors, for each group of clips."""
    return [[float(each.mean()) for each in group] for group in groups]
