"""Figures of how well scores tell anomalies from the rest; for all, higher scores are anomalies.

Point-adjusted F1, which counts a whole labelled window as found when one of its points is, is not
here: a random score is then among the best (Kim et al. (2022), arXiv 2109.05257). For series there
is VUS-PR, for pictures PRO.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage, stats
from sklearn.metrics import average_precision_score, roc_auc_score

from suffuse.errors import SuffuseError

__all__ = [
    "FIGURES",
    "auroc",
    "average_precision",
    "f1_at_k",
    "point_adjusted_f1",
    "pro",
    "recall_at",
    "uniformity",
    "vus_pr",
]


def auroc(labels: Any, scores: Any) -> float:
    """P(anomaly > normal) + ½ P(equal)."""
    return float(roc_auc_score(labels, scores))


def average_precision(labels: Any, scores: Any) -> float:
    """Precision averaged over recall, tied scores together."""
    return float(average_precision_score(labels, scores))


def f1_at_k(labels: Any, scores: Any) -> float:
    """F1, precision and recall alike, of the k highest scores, k the number of anomalies.

    Tied scores at the cut count with the share of them that fits.

    >>> f1_at_k([1, 0, 1, 0], [4, 3, 2, 1])
    0.5
    """
    labels, scores = np.asarray(labels, bool), np.asarray(scores, np.float64)
    k = int(labels.sum())
    cut = np.sort(scores)[-k]
    above, at = scores > cut, scores == cut
    share = (k - above.sum()) / at.sum()
    return float((labels[above].sum() + share * labels[at].sum()) / k)


def recall_at(labels: Any, scores: Any, alarms: float = 0.01) -> float:
    """The part of the anomalies above the threshold that this part of the normal rows exceeds.

    >>> recall_at([0, 0, 0, 1, 1], [1, 2, 3, 2.5, 9], 0.0)
    0.5
    """
    labels, scores = np.asarray(labels, bool), np.asarray(scores, np.float64)
    normal = np.sort(scores[~labels])
    cut = normal[len(normal) - 1 - int(alarms * len(normal) + 1e-9)]
    return float((scores[labels] > cut).mean())


def uniformity(p_values: Any) -> float:
    """The largest difference between the share of p-values up to a and a itself (Kolmogorov)."""
    return float(stats.kstest(np.asarray(p_values, np.float64), "uniform").statistic)


def vus_pr(labels: Any, scores: Any, window: int = 100, steps: int = 10) -> float:
    """The volume under the precision-recall surface of a series [T].

    Around each labelled range the label falls off as the root of a line over `width` / 2 points on
    both sides; precision and recall count these soft labels, recall is weighed by the part of the
    ranges that are touched at all, and the area under the curve is averaged over widths from 0 to
    `window`.

    Source: Paparrizos et al., "Volume under the surface" (2022), PVLDB 15(11), equations 4 to 10.
    """
    labels, scores = np.asarray(labels, bool), np.asarray(scores, np.float64)
    if not 0 < labels.sum() < len(labels):
        raise SuffuseError("VUS-PR needs labelled and unlabelled points")
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    number, count = ndimage.label(labels)
    areas = []
    away = ndimage.distance_transform_edt(~labels)
    for width in np.unique(np.linspace(0, window, steps + 1).astype(int)):
        soft = np.sqrt(np.clip(1 - away / max(width, 1), 0, 1)) * (away <= width / 2)
        soft = np.where(labels, 1.0, soft)
        near = np.zeros(len(labels), int)
        if width:
            inside = away <= width / 2
            nearest = ndimage.distance_transform_edt(
                ~labels, return_distances=False, return_indices=True
            )[0]
            near[inside] = number[nearest[inside]]
        else:
            near = number
        found = np.cumsum(soft[order])[ends]
        touched = np.zeros(len(labels))
        first: dict[int, int] = {}
        for place, i in enumerate(order):
            if near[i] and near[i] not in first:
                first[near[i]] = place
        touched[list(first.values())] += 1
        existence = np.cumsum(touched)[ends] / count
        total = (labels.sum() + soft.sum()) / 2
        recall = np.minimum(found / total, 1) * existence
        precision = found / (ends + 1)
        areas.append(float(np.sum(np.diff(recall, prepend=0.0) * precision)))
    return float(np.mean(areas))


def pro(masks: Any, maps: Any, alarms: float = 0.3) -> float:
    """Per-region overlap of heat maps [N, H, W] with defect masks, for false alarms up to a part.

    The part of each defect (a connected region) above a threshold, averaged over defects, as a
    function of the part of normal pixels above it, integrated up to `alarms` and divided by it.

    Source: Bergmann et al., "MVTec AD" (2019), CVPR, section 4.
    """
    masks, maps = np.asarray(masks, bool), np.asarray(maps, np.float64)
    normal = np.sort(maps[~masks])
    rates = np.linspace(0, alarms, 201)
    cuts = np.quantile(normal, 1 - rates, method="higher")
    overlaps = []
    for mask, one in zip(masks, maps, strict=True):
        number, count = ndimage.label(mask, np.ones((3, 3)))
        for i in range(1, count + 1):
            region = np.sort(one[number == i])
            overlaps.append(1 - np.searchsorted(region, cuts, "right") / len(region))
    if not overlaps:
        raise SuffuseError("PRO needs a mask with a defect")
    return float(np.trapezoid(np.mean(overlaps, 0), rates) / alarms)


def point_adjusted_f1(labels: Any, scores: Any) -> float:
    """Refused.

    Raises:
        SuffuseError: always, with the reason.
    """
    raise SuffuseError(
        "point-adjusted F1 is refused: it counts a whole window as found when one point is, so "
        "that random scores come out near the best; use vus_pr"
    )


FIGURES: dict[str, Callable[[Any, Any], float]] = {
    "AUROC": auroc,
    "average precision": average_precision,
    "F1 at k": f1_at_k,
    "recall at 1 % false alarms": recall_at,
}
