"""Figures of made pictures, each with its interval and beside what real pictures get.

The floor of KID and PRDC is real against real: from both splits together, disjoint sets of the
sizes at hand are drawn at random, again and again. So it has the spread of independent draws, which
the figure of a model has too. (Training pictures against the one fixed test split would not: where
that split is stratified, it is nearer to everything than a random draw is.) If the data set does
not hold enough for that, the sets are smaller, and the note says so.

With too few pictures for a figure there is none, and a warning of the logger "suffuse_image".

The mathematics is in `suffuse.stats`; here pictures become features and figures become sentences.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from suffuse import stats
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset, Example, Metric

from .classifier import Classifier, label_indices, label_names, threads_for
from .features import Features, features
from .look import Look

__all__ = ["KID", "PRDC", "ClassifierAccuracy", "Memorisation"]

logger = logging.getLogger("suffuse_image")


class KID:
    """Kernel distance between made and held-out pictures (unbiased, cubic kernel).

    Bińkowski et al. (2018), arXiv:1801.01401, on features of ours: comparable only where the name
    of the features, the data set and the size of the pictures are the same. Samples that were made
    for the held-out pictures' own labels, as `Model.evaluate` makes them, agree with those in how
    often each label occurs, which two random draws do not: that lowers the figure a little.

    Args:
        features: "classifier" (needs labels), "pixels", "dual", or a folder with a vision model.
        target: what a good model reaches, as a multiple of the one-sided 95 % bound of the floor.
    """

    def __init__(self, features: str = "classifier", target: float | None = None) -> None:
        self.features = features
        self.target = target

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """One figure; lower is better, and 0 is expected of a perfect model."""
        if not _enough("image/kid", samples, test, least=4):
            return []
        look = features(self.features, samples, test=test, train=train)
        made = look(_pictures(samples))
        with threads_for(made):
            figure = stats.kid(made, look.test)
            floor = _floors(look, made, lambda a, b: {"kid": stats.kid(a, b)}, 100, seed)["kid"]
        note = f"Measured on {look.origin}; {_against(floor)}."
        target = None if self.target is None else self.target * floor.upper
        name = f"KID ({look.name} features)"
        n = len(made)
        return [Metric.of(name, figure, "lower", n, floor=floor, target=target, note=note)]


class PRDC:
    """Precision, recall, density and coverage of made pictures against held-out ones.

    Kynkäänniemi et al. (2019), arXiv:1904.06991; Naeem et al. (2020), arXiv:2002.09797.

    Args:
        features: "classifier" (needs labels), "pixels", "dual", or a folder with a vision model.
        k: the neighbour that sets the radius of a picture's ball, at least 1.
    """

    def __init__(self, features: str = "classifier", k: int = 5) -> None:
        if k < 1:
            raise SuffuseError(f"k is at least 1, not {k}")
        self.features = features
        self.k = k

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """Four figures, all of them the higher the better."""
        if not _enough("image/prdc", samples, test, least=2 * (self.k + 1)):
            return []
        look = features(self.features, samples, test=test, train=train)
        made = look(_pictures(samples))
        with threads_for(made):
            figures = stats.prdc_intervals(made, look.test, self.k, seed=seed)
            floors = _floors(look, made, lambda a, b: asdict(stats.prdc(a, b, self.k)), 60, seed)
        says = {
            "precision": "The share of made pictures that lie among real ones",
            "recall": "The share of real pictures that lie among made ones",
            "density": "How densely real pictures surround made ones, 1 being expected",
            "coverage": "The share of real pictures with a made one close by",
        }
        return [
            Metric.of(
                f"{name.capitalize()} ({look.name} features)",
                getattr(figures, name),
                "higher",
                len(made),
                floor=floors[name],
                note=f"{text}; {_against(floors[name])}.",
            )
            for name, text in says.items()
        ]


class ClassifierAccuracy:
    """How often a classifier, trained on the training split, recognises a made picture's label.

    The floor is what the same classifier reaches on real held-out pictures.

    Args:
        target: what a good model reaches, in percent.
    """

    def __init__(self, target: float | None = None) -> None:
        self.target = target

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """One figure in percent, over the samples that were made for a label.

        Raises:
            SuffuseError: if the data set has no labels, or no sample was made for one.
        """
        names = label_names(train)
        wanted = label_indices((s.conditions.get("label") for s in samples), names)
        asked = [sample for sample, label in zip(samples, wanted, strict=True) if label >= 0]
        wanted = wanted[wanted >= 0]
        if not asked:
            raise SuffuseError(
                "no sample was made for a label, so none can be recognised as its label: make them "
                "with the condition 'label'"
            )
        look = Look.of(samples, train)
        judge = Classifier.trained(look, train)
        right = judge.recognise(look(_pictures(asked))).eq(wanted)
        real = judge.right(look, test)
        return [
            Metric.share(
                "Recognised as its label (classifier/1)",
                right,
                real,
                target=self.target,
                note=f"Recognised by {judge.describe(real)}: that is the floor.",
            )
        ]


class Memorisation:
    """Whether made pictures lie nearer to training pictures than held-out real ones do.

    Meehan et al. (2020), arXiv:2004.05675. The floors are what pictures get that are neither nearer
    nor further than held-out ones; they follow from the ranks of the distances alone.

    Args:
        features: what distances are measured in, "pixels" or "classifier".
    """

    def __init__(self, features: str = "pixels") -> None:
        self.features = features

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """Three figures: near copies, the share that is very near, and how near on the whole."""
        if not _enough("image/memorisation", samples, test, least=2, least_test=19):
            return []
        look = features(self.features, samples, test=test, train=train)
        made = look(_pictures(samples))
        with threads_for(made):
            found = stats.memorisation(made, look.train, look.test, seed=seed)
        m, h = len(made), len(look.test)
        # A real picture lies below the p-th percentile of h others with a beta-distributed chance.
        rng = np.random.default_rng(seed)
        rank = found.expected * (h + 1)
        below = rng.binomial(m, rng.beta(rank, h + 1 - rank, 20_000)) / m
        spread = 1.96 * ((m + h + 1) / (12 * m * h)) ** 0.5  # of Mann and Whitney's statistic
        where = f"({look.name} features)"
        return [
            Metric.of(
                f"Near copies of training pictures {where}",
                stats.proportion(found.copies, m),
                "lower",
                m,
                floor=stats.proportion(found.held_out_copies, h),
                scale=100,
                unit="%",
                note=f"{found.copies} of {m} made pictures, and {found.held_out_copies} of {h} "
                "held-out ones, are nearer to a training picture than a twentieth of the usual "
                "distance.",
            ),
            Metric.of(
                f"Very near to training pictures {where}",
                found.closer,
                "lower",
                m,
                floor=stats.Interval(found.expected, *np.quantile(below, (0.025, 0.975)).tolist()),
                scale=100,
                unit="%",
                note="The share of made pictures that are nearer to a training picture than "
                f"{100 - 100 * found.expected:g} % of held-out pictures are.",
            ),
            Metric.of(
                f"Memorisation AUROC {where}",
                found.auroc,
                "lower",
                m,
                floor=stats.Interval(0.5, max(0.0, 0.5 - spread), min(1.0, 0.5 + spread)),
                note="The chance that a held-out picture lies further from the training pictures "
                "than a made one: 0.5 is expected, 1 means copies, and far below 0.5 made pictures "
                "are unlike any real one.",
            ),
        ]


def _pictures(samples: Sequence[Example]) -> list[Image.Image]:
    return [sample.data for sample in samples]


def _enough(
    name: str, samples: Sequence[Example], test: Dataset, *, least: int, least_test: int = 0
) -> bool:
    """Whether there are pictures enough for a figure; says so where there are not.

    That is no error: what was trained on a small folder for hours is not to fail at its end.
    """
    wanted = max(least, least_test)
    if len(samples) >= least and len(test) >= wanted:
        return True
    logger.warning(
        "%s is left out: it needs at least %d samples and %d held-out pictures, and there are %d "
        "and %d",
        *(name, least, wanted, len(samples), len(test)),
    )
    return False


def _floors(
    look: Features,
    made: Tensor,
    statistics: Callable[[Tensor, Tensor], Mapping[str, float | stats.Interval]],
    repeats: int,
    seed: int,
) -> dict[str, stats.Floor]:
    """Real against real, at the sizes at hand or as near to them as the data allow."""
    pooled = torch.cat([look.train, look.test])
    m, n = len(made), len(look.test)
    if m + n > len(pooled):
        share = len(pooled) / (m + n)
        m, n = int(m * share), int(n * share)
    return stats.floors(statistics, pooled, n=(m, n), repeats=repeats, seed=seed)


def _against(floor: stats.Floor) -> str:
    m, n = floor.sizes
    return f"the floor is {m} real pictures against {n} other real ones"
