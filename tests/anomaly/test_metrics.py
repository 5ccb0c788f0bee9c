"""Figures: against independent sums and known answers."""

import numpy as np
import pytest

from suffuse.errors import SuffuseError
from suffuse_anomaly import metrics


def test_f1_at_k_is_the_precision_of_the_k_highest(rng):
    labels, scores = rng.random(200) < 0.1, rng.normal(size=200)
    k = labels.sum()
    assert metrics.f1_at_k(labels, scores) == pytest.approx(labels[np.argsort(-scores)[:k]].mean())
    assert metrics.f1_at_k(labels, np.zeros(200)) == pytest.approx(labels.mean())


def test_recall_at_false_alarms_by_counting(rng):
    labels, scores = rng.random(1000) < 0.2, rng.normal(size=1000)
    scores[labels] += 2
    cut = next(c for c in np.sort(scores[~labels]) if (scores[~labels] > c).mean() <= 0.05)
    expected = (scores[labels] > cut).mean()
    assert metrics.recall_at(labels, scores, 0.05) == pytest.approx(expected)


def test_uniform_p_values_and_others():
    p = (np.arange(1000) + 0.5) / 1000
    assert metrics.uniformity(p) == pytest.approx(0.0005)
    assert metrics.uniformity(p**2) == pytest.approx(0.25, abs=0.01)


def test_vus_pr_of_perfect_random_and_near_scores(rng):
    labels = np.zeros(2000, bool)
    labels[500:540] = labels[1400:1430] = True
    random = np.mean([metrics.vus_pr(labels, rng.random(2000), 50) for _ in range(5)])
    late = metrics.vus_pr(labels, np.roll(labels, 10).astype(float) + 1e-3 * rng.random(2000), 50)
    perfect = metrics.vus_pr(labels, labels + 1e-3 * rng.random(2000), 50)
    assert random < 0.15 < late < perfect <= 1
    without = metrics.vus_pr(labels, labels.astype(float), 0)
    assert without == pytest.approx(1)


def test_pro_counts_small_defects_as_much_as_large_ones():
    mask = np.zeros((1, 40, 40), bool)
    mask[0, 2:22, 2:22] = mask[0, 30:33, 30:33] = True
    whole, large = mask.astype(float), np.zeros((1, 40, 40))
    large[0, 2:22, 2:22] = 1
    assert metrics.pro(mask, whole) == pytest.approx(1)
    assert metrics.pro(mask, large) == pytest.approx(0.5, abs=0.01)


def test_point_adjusted_f1_is_refused_with_the_reason():
    with pytest.raises(SuffuseError, match="random scores come out near the best"):
        metrics.point_adjusted_f1([0, 1], [0, 1])
