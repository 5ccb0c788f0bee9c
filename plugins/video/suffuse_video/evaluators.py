"""Figures of made clips against held-out ones.

Motion and form are measured from pixels (`tracking`), with no network in between: on held-out clips
the same measurement gives the floor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from suffuse import stats
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset, Example, Metric

from .clip import Clip, fitted
from .shapes import DIGITS, Motion, captions, parse
from .tracking import digits_seen, does, pace_seen, thing_seen, track, trajectory_error

__all__ = ["KID", "Flicker", "Identity", "Obeyed", "judge", "mean", "sized", "some"]

Array = NDArray[np.float64]

KINDS = ("staying", "one direction", "two directions", "camera", "bouncing")
"""Of motions: their figures are also given apart."""

MOST = 512
"""At most so many held-out clips, evenly spaced, are looked at."""


def judge(clip: Clip, motion: Motion, strength: float | None = None) -> dict[str, float]:
    """Whether a clip shows what its caption says: 1 or 0 for each, errors in pixels.

    Returns:
        "colour", "thing", "motion" (see `tracking.does`), "all"; "error", the distance from the
        asked path; "fit", the mean correlation with the asked thing's drawing, and "drift", that of
        the first quarter of the frames less that of the last; "pace", the distance between the
        strength that was told and the one that is seen, NaN where none was told; "kind", the place
        in `KINDS` of what is asked.
    """
    seen = track(clip)
    thing, _ = thing_seen(seen)
    fits = thing_seen(seen, [motion.thing])[1]
    size = clip.frames.shape[1]
    lit = bool(np.isfinite(seen.places).all())
    found = {
        "colour": float(seen.colour == motion.colour),
        "thing": float(thing == motion.thing),
        "motion": float(lit and does(seen, motion, strength)),
        "error": trajectory_error(seen.places, motion, size, strength),
        "fit": float(fits.mean()),
    }
    quarter = max(1, len(fits) // 4)
    found["kind"] = float(KINDS.index(_kind(motion)))
    found["drift"] = float(fits[:quarter].mean() - fits[-quarter:].mean())
    found["all"] = found["colour"] * found["thing"] * found["motion"]
    told = strength is not None and motion.directions
    found["pace"] = abs(pace_seen(seen.places, motion, size) - strength) if told and lit else np.nan
    return found


class Obeyed:
    """Whether clips of moving shapes show what their prompts say.

    Args:
        target: the share of obeyed motion words that a good model reaches, in %.
    """

    def __init__(self, target: float | None = None) -> None:
        self.target = target

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """Words obeyed, distance from the asked path, and how well the form is kept.

        Raises:
            SuffuseError: where no sample has a prompt of video/shapes.
        """
        made = _judged(samples)
        if not made:
            raise SuffuseError(
                "video/motion reads prompts such as 'a red circle moves left, then up' (those of "
                "video/shapes), and no sample has one"
            )
        real = _judged(some(test))
        learned = set(captions("train"))
        new = sum(s.conditions.get("prompt") not in learned for s in samples)
        note = (
            "Measured from the pixels by the centre of brightness and the best-fitting drawing; "
            f"{new} of {len(samples)} prompts are sentences that are not in the training split."
        )

        def share(key: str, name: str, target: float | None = None, kind: str = "") -> Metric:
            asked, shown = (
                [j[key] for j in who if not kind or KINDS[int(j["kind"])] == kind]
                for who in (made, real)
            )
            return Metric.share(name, asked, shown, target=target, note=note)

        there = [{KINDS[int(j["kind"])] for j in who} for who in (made, real)]
        apart = [
            share("motion", f"Motion words obeyed, {kind}", kind=kind)
            for kind in KINDS
            if all(kind in each for each in there)
        ]
        paced = [[j for j in who if np.isfinite(j["pace"])] for who in (made, real)]
        strength = (
            [mean("Strength, told against seen", *_told(*paced, key="pace"), "lower", "", seed)]
            if min(map(len, paced)) > 1
            else []
        )
        return [
            share("motion", "Motion words obeyed", self.target),
            *apart,
            share("colour", "Colour words obeyed"),
            share("thing", "Shape and digit words obeyed"),
            share("all", "All words obeyed"),
            mean("Trajectory error", *_told(made, real, key="error"), "lower", "px", seed),
            mean(
                "Form kept (correlation with its drawing)",
                *_told(made, real, key="fit"),
                "higher",
                "",
                seed,
            ),
            mean(
                "Drift of the form, first to last quarter",
                *_told(made, real, key="drift"),
                "lower",
                "",
                seed,
            ),
            *strength,
        ]


class Identity:
    """Whether clips of a moving digit show their label, and the same digit in every frame."""

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """Shares of clips and of frames.

        Raises:
            SuffuseError: where no sample has a digit as its label.
        """
        made, real = _digits(samples), _digits(some(test))
        if not made:
            raise SuffuseError(
                "video/identity takes clips whose label is a digit, 0 to 9, or whose prompt names "
                "one"
            )

        def share(name: str, test_of: Callable[[NDArray[np.intp], int], bool]) -> Metric:
            ok, floor = ([test_of(*each) for each in who] for who in (made, real))
            note = "Each frame is read as the digit whose drawing fits it best."
            return Metric.share(name, ok, floor, note=note)

        return [
            share("Digit is the label (most frames)", lambda d, n: np.mean(d == n) > 0.5),
            share("Identity kept over all frames", lambda d, n: bool((d == d[0]).all())),
        ]


class Flicker:
    """How unsteady the brightness of pixels is: the mean size of second differences in time."""

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """One figure, in grey levels of 255.

        Raises:
            SuffuseError: for fewer than two clips of three frames, made or held out.
        """
        made = [_flicker(s.data) for s in samples if len(s.data) > 2]
        size = samples[0].data.frames.shape[1:3] if samples else (1, 1)
        real = [_flicker(sized(e.data, size)) for e in some(test) if len(e.data) > 2]
        if min(len(made), len(real)) < 2:
            raise SuffuseError(
                "video/flicker needs 2 clips of 3 frames or more of both kinds; given "
                f"{len(made)} samples and {len(real)} held-out clips"
            )
        return [mean("Flicker", made, real, "lower", "levels", seed)]


class KID:
    """Kernel distance of made and held-out clips, on pixels and their changes.

    The features of a clip are its frames and the differences of neighbouring frames, both shrunk to
    8x8 pixels, on the first 48 principal axes of the training clips, whitened. Where lengths
    differ, each clip is looked at at as many moments as the longest sample has frames.

    Args:
        target: what a good model reaches, in thousandths.
    """

    def __init__(self, target: float | None = None) -> None:
        self.target = target

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """One figure, times 1000, beside that of real clips against other real ones.

        Raises:
            SuffuseError: for fewer than 32 samples or held-out clips.
        """
        held_out = some(test)
        if min(len(samples), len(held_out)) < 32:
            raise SuffuseError(
                "video/kid needs 32 clips or more of both kinds; given "
                f"{len(samples)} samples and {len(held_out)} held-out clips"
            )
        frames, size = max(len(s.data) for s in samples), samples[0].data.frames.shape[1:3]

        def look(examples: Sequence[Example]) -> Tensor:
            return torch.stack([_look(sized(e.data, size), frames) for e in examples])

        known = look(some(train))
        mean = known.mean(0)
        _, scales, axes = torch.linalg.svd(known - mean, full_matrices=False)
        kept = min(48, len(known) - 1)
        white = axes[:kept].T * ((len(known) - 1) ** 0.5 / scales[:kept].clamp(min=1e-6))
        made, real, trained = ((x - mean) @ white for x in (look(samples), look(held_out), known))
        value = stats.kid(made, real)
        pooled = torch.cat([real, trained])
        share = min(1.0, len(pooled) / (len(made) + len(real)))
        sizes = (int(share * len(made)), int(share * len(real)))
        floor = stats.floor(lambda a, b: stats.kid(a, b).value, pooled, n=sizes, seed=seed)
        return [
            Metric.of(
                "KID x 1000 (pixels and their changes)",
                value,
                "lower",
                len(made),
                floor=floor,
                scale=1000,
                target=self.target,
            )
        ]


def _kind(motion: Motion) -> str:
    if motion.camera or motion.bounces:
        return "camera" if motion.camera else "bouncing"
    return KINDS[len(motion.directions)]


def some(dataset: Dataset) -> list[Example]:
    """Up to `MOST` of its clips, evenly spaced."""
    n = len(dataset)
    return [dataset[int(i)] for i in np.unique(np.linspace(0, n - 1, min(n, MOST)).astype(int))]


def _judged(examples: Sequence[Example]) -> list[dict[str, float]]:
    found = []
    for example in examples:
        motion = parse(str(example.conditions.get("prompt") or ""))
        if motion is not None:
            found.append(judge(example.data, motion, example.conditions.get("strength")))
    return found


def _digits(examples: Sequence[Example]) -> list[tuple[NDArray[np.intp], int]]:
    found = []
    for example in examples:
        label = str(example.conditions.get("label"))
        motion = parse(str(example.conditions.get("prompt") or ""))
        if motion is not None and motion.thing in DIGITS:
            number = DIGITS.index(motion.thing)
        elif label in "0123456789" and len(label) == 1:
            number = int(label)
        else:
            continue
        found.append((digits_seen(track(example.data)), number))
    return found


def _flicker(clip: Clip) -> float:
    return float(abs(np.diff(clip.frames.astype(np.float32), 2, axis=0)).mean())


def sized(clip: Clip, size: Sequence[int]) -> Clip:
    """The clip in frames of this height and width."""
    return Clip(fitted(clip.frames, size[0], size[1]), clip.fps)


def _look(clip: Clip, frames: int) -> Tensor:
    shown = clip.frames[:frames]
    shown = shown[np.linspace(0, len(shown) - 1, frames).round().astype(int)]
    x = torch.from_numpy(shown).permute(0, 3, 1, 2).float() / 255
    small = functional.adaptive_avg_pool2d(x, 8)
    return torch.cat([small.flatten(), small.diff(dim=0).flatten()])


def _told(*groups: Sequence[dict[str, float]], key: str) -> list[list[float]]:
    """What is said of each clip under a key, for each group of clips."""
    return [[each[key] for each in who] for who in groups]


def mean(
    name: str,
    made: Sequence[float],
    real: Sequence[float] = (),
    better: Literal["lower", "higher"] = "lower",
    unit: str = "",
    seed: int = 0,
) -> Metric:
    """The mean over made clips, with that over real ones, where there are any, as its floor."""
    value, floor = (
        stats.mean(torch.tensor(who, dtype=torch.float64), seed=seed) if len(who) else None
        for who in (made, real)
    )
    assert value is not None
    return Metric.of(name, value, better, len(made), floor=floor, unit=unit)
