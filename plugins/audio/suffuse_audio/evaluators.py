"""Figures of made sounds, each with its interval and beside what real sounds get.

The floor of the distances is real against real: from both splits together, disjoint sets of the
sizes at hand are drawn at random, again and again. With too few sounds for a figure there is none,
and a warning of the logger "suffuse_audio".
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from suffuse import stats
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset, Example, Metric, named
from suffuse_audio import pitch as pitches
from suffuse_audio.judge import Judge
from suffuse_audio.sound import Sound
from suffuse_audio.synthesis import frequency, midi

__all__ = ["Distance", "LabelAccuracy", "Nearest", "PitchError", "Spread"]

logger = logging.getLogger("suffuse_audio")

_NAMED = 5  # so many training sounds are named


class LabelAccuracy:
    """How often a classifier, trained on the training split, hears what a sound was made for.

    The floor is what the same classifier reaches on real held-out sounds.

    Args:
        condition: for instance "digit", "speaker" or "instrument".
        target: what a good model reaches, in percent.
    """

    def __init__(self, condition: str = "label", target: float | None = None) -> None:
        self.condition, self.target = condition, target

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """One figure in percent, over the samples that were made for a category."""
        judge = Judge.of(self.condition, samples, train, test)
        wanted = torch.tensor([judge.wanted(s) for s in samples])
        asked = [s.data for s, label in zip(samples, wanted, strict=True) if label >= 0]
        if not asked:
            raise SuffuseError(
                f"no sample was made for a {self.condition}, so none can be recognised as one: "
                f"make them with the condition {self.condition!r}"
            )
        right = judge.recognise(asked).eq(wanted[wanted >= 0])
        return [
            Metric.share(
                f"Recognised {self.condition} (judge/1)",
                right,
                judge.held_out,
                target=self.target,
                note=f"Recognised by {judge.origin}: that is the floor.",
            )
        ]


class Distance:
    """Fréchet and kernel distance between made and held-out sounds, on a classifier's features.

    Comparable only where the features, the data and the number of sounds are the same.

    Args:
        condition: whose classifier gives the features.
        target: what a good model reaches, as a multiple of the floor's 95 % bound.
    """

    def __init__(self, condition: str = "label", target: float | None = None) -> None:
        self.condition, self.target = condition, target

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """Two figures; lower is better."""
        if len(samples) < 8 or len(test) < 8:
            logger.warning(
                "audio/distance is left out: it needs at least 8 samples and 8 held-out sounds, "
                "and there are %d and %d",
                *(len(samples), len(test)),
            )
            return []
        judge = Judge.of(self.condition, samples, train, test)
        made = judge.features([s.data for s in samples])
        pooled = torch.cat([judge.train_features, judge.test_features])
        m, n = len(made), len(judge.test_features)
        if m + n > len(pooled):
            share = len(pooled) / (m + n)
            m, n = int(m * share), int(n * share)
        figures = {"KID": stats.kid(made, judge.test_features)}
        if min(m, n) > 1.2 * made.shape[1]:
            interval = stats.frechet_interval(made, judge.test_features, seed=seed)
            figures = {"Fréchet distance": interval, **figures}
        floors = stats.floors(
            lambda a, b: {title: _DISTANCES[title](a, b) for title in figures},
            pooled,
            n=(m, n),
            repeats=40,
            seed=seed,
        )
        return [
            Metric.of(
                f"{title} ({self.condition} features/1)",
                figure,
                "lower",
                len(made),
                floor=floors[title],
                target=None if self.target is None else self.target * floors[title].upper,
                note=f"Measured on the activations of {judge.origin}; the floor is {m} real "
                f"sounds against {n} other real ones.",
            )
            for title, figure in figures.items()
        ]


_DISTANCES: Mapping[str, Callable[[Tensor, Tensor], float]] = {
    "Fréchet distance": lambda a, b: float(stats.frechet_distance(a, b)),
    "KID": lambda a, b: float(stats.kid(a, b).value),
}


class PitchError:
    """How far the pitch lies from the one asked for, in cents; and energy off the harmonics.

    Args:
        target: of the median error, in cents.
    """

    def __init__(self, target: float | None = None) -> None:
        self.target = target

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """The median error; the share within half a semitone; inharmonic energy in dB."""
        asked = [s for s in samples if s.conditions.get("pitch") is not None]
        if not asked:
            raise SuffuseError(
                "no sample was made for a pitch: make them with the condition 'pitch'"
            )
        real = [test[i] for i in stats.evenly(len(test), 216)]
        found, floors = _pitched(asked), _pitched(real)
        errors, floor = (np.array([e for e, _ in k]) for k in (found, floors))
        rng = np.random.default_rng(seed)
        out = [
            _median("Pitch error, median", errors, floor, rng, target=self.target, unit="cents"),
            _median(
                "Energy off the harmonics, median",
                np.array([e for _, e in found]),
                np.array([e for _, e in floors]),
                rng,
                unit="dB",
            ),
        ]
        out.append(
            Metric.share(
                "Pitch within half a semitone",
                errors < 50,
                floor < 50,
                note="A note in which no pitch is found counts as wrong.",
            )
        )
        return out


def _pitched(examples: Sequence[Example]) -> list[tuple[float, float]]:
    """The error in cents, 2,400 where no pitch is found, and the inharmonic energy in dB."""
    out = []
    for example in examples:
        sound: Sound = example.data
        wanted = frequency(midi(str(example.conditions["pitch"])))
        f0 = pitches.fundamental(sound)
        error = 2400.0 if math.isnan(f0) else min(abs(pitches.cents(f0, wanted)), 2400.0)
        out.append((error, pitches.inharmonic(sound, wanted)))
    return out


def _median(
    title: str,
    values: np.ndarray,
    real: np.ndarray,
    rng: np.random.Generator,
    *,
    better: Literal["lower", "higher"] = "lower",
    target: float | None = None,
    unit: str = "",
    note: str = "",
) -> Metric:
    """The median of made sounds, and as its floor that of real ones."""

    def interval(x: np.ndarray) -> stats.Interval:
        draws = np.median(rng.choice(x, (1000, len(x))), axis=1)
        low, high = np.quantile(draws, (0.025, 0.975))
        return stats.Interval(float(np.median(x)), float(low), float(high))

    return Metric.of(
        title,
        interval(values),
        better,
        len(values),
        floor=interval(real),
        target=target,
        unit=unit,
        note=" ".join(
            [f"The floor is {len(real)} held-out sounds; intervals by the bootstrap.", note]
        ).strip(),
    )


class Spread:
    """The variance of made sounds within each category, over that of real ones.

    1 is expected; below it sounds are more alike than real ones are.

    Args:
        condition: whose categories, and whose classifier's features.
    """

    def __init__(self, condition: str = "label") -> None:
        self.condition = condition

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """The ratio of log-mel variances, averaged over categories."""
        judge = Judge.of(self.condition, samples, train, test)
        labels = torch.tensor([judge.wanted(s) for s in samples])
        made = judge.mel(s.data for s in samples)
        ratios = []
        for k in range(len(judge.names)):
            a, b = made[labels == k], judge.test_mel[judge.test_labels == k]
            if len(a) > 2 and len(b) > 2:
                ratios.append(float(a.var(0).mean() / b.var(0).mean().clamp(min=1e-9)))
        if len(ratios) < 2:
            logger.warning("audio/spread is left out: it needs three samples of two categories")
            return []
        k, mean = len(ratios), float(np.mean(ratios))
        half = float(stdtrit(k - 1, 0.975) * np.std(ratios, ddof=1)) / k**0.5
        return [
            Metric(
                name=f"Variance within each {self.condition}, over real",
                value=mean,
                low=mean - half,
                high=mean + half,
                better="higher",
                n=len(samples),
                floor=1.0,
                note="Of log-mel spectra; 1 is expected, and more is not better. The interval is "
                f"Student's, over {k} categories.",
            )
        ]


class Nearest:
    """Whether made sounds lie nearer to training sounds than held-out real ones do.

    Meehan et al. (2020), arXiv 2004.05675, on a classifier's features. The report of a run
    (`suffuse report`) has made sounds to listen to, each beside the training sound nearest to it.

    Args:
        condition: whose classifier gives the features.
    """

    def __init__(self, condition: str = "label") -> None:
        self.condition = condition

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """The chance that a held-out sound lies further from training, and the median distance.

        The note of the distance names the training sounds that made ones come nearest to.
        """
        if len(samples) < 2 or len(test) < 19:
            logger.warning("audio/nearest is left out: too few sounds")
            return []
        judge = Judge.of(self.condition, samples, train, test)
        made = judge.features([s.data for s in samples])
        found = stats.memorisation(made, judge.train_features, judge.test_features, seed=seed)
        distance = found.made.distance
        least = [
            f"sample {i} {distance[i]:.2f} from "
            f"{named(train, int(judge.train_index[found.made.index[i]]))}"
            for i in np.argsort(distance)[:_NAMED]
        ]
        return [
            Metric(
                name=f"Memorisation AUROC ({self.condition} features/1)",
                value=found.auroc.value,
                low=found.auroc.low,
                high=found.auroc.high,
                better="lower",
                n=len(made),
                floor=0.5,
                note=f"0.5 is expected, 1 means copies; {found.copies} of {len(made)} are nearer "
                "to a training sound than a twentieth of the usual distance.",
            ),
            _median(
                f"Distance to the nearest training sound, median ({self.condition} features/1)",
                distance,
                found.held_out.distance,
                np.random.default_rng(seed),
                better="higher",
                note=f"Nearest: {'; '.join(least)}. Held-out sounds come as near as "
                f"{found.held_out.distance.min():.2f}.",
            ),
        ]
