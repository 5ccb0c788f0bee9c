"""Statistics that evaluators share: figures of made against real features, with their chance.

    intervals          Interval; bootstrap, jackknife, mean, difference, proportion
    mmd                mmd2 and kid: maximum mean discrepancy, unbiased
    frechet            frechet_distance, frechet_interval, frechet_infinity
    manifold           prdc, prdc_intervals: precision, recall, density, coverage
    neighbours         nearest, memorisation
    ranks              auroc
    real_against_real  floor, floors: what a figure says of real against real
    spacing            evenly: places spread over a sequence
    classifier         trained_classifier: what judges whether made things are what was asked

Every figure takes the made features first and the real ones second.
"""

from suffuse.stats.classifier import trained_classifier
from suffuse.stats.frechet import (
    frechet_distance,
    frechet_gaussians,
    frechet_infinity,
    frechet_interval,
)
from suffuse.stats.intervals import (
    Interval,
    bootstrap,
    difference,
    jackknife,
    mean,
    proportion,
)
from suffuse.stats.manifold import PRDC, prdc, prdc_intervals
from suffuse.stats.mmd import RBF, Kernel, Polynomial, kid, median_distance, mmd2, mmd2_variance
from suffuse.stats.neighbours import Memorisation, Nearest, memorisation, nearest
from suffuse.stats.ranks import auroc
from suffuse.stats.real_against_real import Floor, floor, floors
from suffuse.stats.spacing import evenly

__all__ = [
    "PRDC",
    "RBF",
    "Floor",
    "Interval",
    "Kernel",
    "Memorisation",
    "Nearest",
    "Polynomial",
    "auroc",
    "bootstrap",
    "difference",
    "evenly",
    "floor",
    "floors",
    "frechet_distance",
    "frechet_gaussians",
    "frechet_infinity",
    "frechet_interval",
    "jackknife",
    "kid",
    "mean",
    "median_distance",
    "memorisation",
    "mmd2",
    "mmd2_variance",
    "nearest",
    "prdc",
    "prdc_intervals",
    "proportion",
    "trained_classifier",
]
