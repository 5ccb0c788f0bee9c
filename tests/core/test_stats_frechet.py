"""The Fréchet distance: closed forms between Gaussians, the naive root, bias and coverage."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from suffuse.errors import SuffuseError
from suffuse.stats import (
    features,
    frechet_distance,
    frechet_gaussians,
    frechet_infinity,
    frechet_interval,
)


def covariance(rng, d):
    root = rng.normal(size=(d, d))
    return root @ root.T


def naive(x, y):
    root = scipy.linalg.sqrtm(np.cov(x.T) @ np.cov(y.T)).real
    means = ((x.mean(0) - y.mean(0)) ** 2).sum()
    return means + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * root)


def test_commuting_gaussians_have_the_distance_of_their_deviations(rng):
    s, t = rng.uniform(0.1, 3, 5), rng.uniform(0.1, 3, 5)
    shift = rng.normal(size=5)
    turn = scipy.stats.ortho_group.rvs(5, random_state=rng)
    d2 = frechet_gaussians(
        np.zeros(5), turn @ np.diag(s**2) @ turn.T, shift, turn @ np.diag(t**2) @ turn.T
    )
    assert d2 == pytest.approx((shift**2).sum() + ((s - t) ** 2).sum(), rel=1e-10)


def test_any_gaussians_have_the_distance_of_the_naive_root(rng):
    for d in (2, 7):
        a, b = covariance(rng, d), covariance(rng, d)
        expected = np.trace(a + b - 2 * scipy.linalg.sqrtm(a @ b).real)
        assert frechet_gaussians(np.ones(d), a, np.ones(d), b) == pytest.approx(expected, rel=1e-7)


def test_singular_covariances_are_exact(rng):
    """Rank one: tr (Σ_1 Σ_2)^½ = |a·b|, where the naive root is unstable."""
    a, b = rng.normal(size=(2, 6))
    d2 = frechet_gaussians(np.zeros(6), np.outer(a, a), np.zeros(6), np.outer(b, b))
    assert d2 == pytest.approx(a @ a + b @ b - 2 * abs(a @ b), rel=1e-6)
    assert frechet_gaussians(np.zeros(2), np.zeros((2, 2)), np.ones(2), np.eye(2)) == 4


def test_samples_have_the_distance_of_their_moments(rng):
    x, y = rng.normal(size=(50, 6)), 3 + rng.normal(size=(70, 6)) @ covariance(rng, 6)
    assert frechet_distance(x, y) == pytest.approx(naive(x, y), rel=1e-7)


def test_invariances(rng):
    x, y = rng.normal(size=(50, 4)), rng.normal(0.5, 2, size=(70, 4))
    turn = scipy.stats.ortho_group.rvs(4, random_state=rng)
    expected = frechet_distance(x, y)
    for a, b in (
        (y, x),
        (x @ turn, y @ turn),
        (x + 1e4, y + 1e4),
        (rng.permutation(x), rng.permutation(y)),
    ):
        assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(3 * x, 3 * y) == pytest.approx(9 * expected)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-10)
    # A set given twice has the same mean; its covariance is (2n − 2)/(2n − 1) of what it was.
    twice = np.concatenate([x, x])
    mean, cov = x.mean(0), np.cov(x.T)
    assert frechet_distance(twice, y) == pytest.approx(
        frechet_gaussians(mean, cov * 98 / 99, y.mean(0), np.cov(y.T))
    )


def test_the_jackknife_leaves_each_pair_of_groups_out_once(rng):
    x, y = rng.normal(size=(61, 3)), rng.normal(0.5, 2, size=(47, 3))
    groups, draw = 10, np.random.default_rng(5)
    pairs = zip(*(np.array_split(draw.permutation(len(z)), groups) for z in (x, y)), strict=True)
    left_out = np.array([naive(np.delete(x, i, 0), np.delete(y, j, 0)) for i, j in pairs])
    half = scipy.stats.t.ppf(0.975, groups - 1) * math.sqrt(
        (groups - 1) / groups * ((left_out - left_out.mean()) ** 2).sum()
    )
    interval = frechet_interval(x, y, groups, seed=5)
    assert interval.value == pytest.approx(naive(x, y))
    assert interval.high - interval.value == pytest.approx(half, rel=1e-3)
    limit = frechet_infinity(x, y, groups, seed=5)
    assert limit.value == pytest.approx(groups * naive(x, y) - (groups - 1) * left_out.mean())
    assert limit.high - limit.low == pytest.approx(2 * half, rel=1e-3)
    assert frechet_interval(x, y, seed=5) == frechet_interval(x, y, seed=5)


def test_the_bias_goes_with_the_extrapolation_and_95_percent_of_the_intervals_hold(rng, chance):
    d, n, shift, scale, runs = 4, 120, 0.4, 1.3, 80
    truth = d * (shift**2 + (scale - 1) ** 2)
    plain, limit = [], []
    for _ in range(runs):
        x, y = rng.normal(size=(n, d)), rng.normal(shift, scale, size=(n, d))
        plain.append(frechet_interval(x, y))
        limit.append(frechet_infinity(x, y))
    values, limits = (np.array([i.value for i in each]) for each in (plain, limit))
    bias = values - limits
    assert bias.mean() > 25 * bias.std() / math.sqrt(runs)  # it is there, and goes
    assert chance.mean(limits, truth)
    assert chance.share(sum(truth in i for i in limit), runs, least=0.9)
    assert chance.share(sum(values.mean() in i for i in plain), runs, least=0.9)
    deviation = np.mean([(i.high - i.low) / 2 for i in limit]) / 2.09
    assert chance.deviation(limits, least=deviation / 1.25, most=deviation / 0.8)


def test_equal_distributions_scatter_about_zero(rng, chance):
    runs = [frechet_infinity(rng.normal(size=(90, 3)), rng.normal(size=(90, 3))) for _ in range(60)]
    values = np.array([i.value for i in runs])
    assert chance.mean(values, 0)
    assert chance.share(sum(0 in i for i in runs), 60, least=0.9)


def test_blocks_of_any_size_give_the_same(rng, monkeypatch):
    x, y = rng.normal(size=(50, 4)), rng.normal(0.5, 2, size=(70, 4))
    whole = frechet_interval(x, y)
    monkeypatch.setattr(features, "BLOCK", 12)
    assert frechet_interval(x, y).low == pytest.approx(whole.low)


GOOD = np.random.default_rng(0).normal(size=(40, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: frechet_distance(GOOD[:3], GOOD), "more than 3 examples a set; got 3"),
        (lambda: frechet_distance(GOOD[:1], GOOD), "at least 2 examples"),
        (lambda: frechet_distance(GOOD, GOOD[:, :2]), "got 3 and 2"),
        (lambda: frechet_distance(GOOD * math.nan, GOOD), "x must be finite"),
        (
            lambda: frechet_interval(GOOD[:20], np.ones((20, 3)), groups=4),
            "at least 10 groups; got 4",
        ),
        (
            lambda: frechet_interval(np.ones((20, 19)), np.ones((30, 19))),
            "one of 20 groups is left",
        ),
        (lambda: frechet_infinity(GOOD[:10], GOOD), "at least 20 examples; got 10"),
        (
            lambda: frechet_gaussians(np.ones(2), np.eye(2), np.ones(3), np.eye(3)),
            r"Gaussians of 2 dimensions need means \[2\]",
        ),
        (
            lambda: frechet_gaussians(np.ones(2), np.eye(3), np.ones(2), np.eye(2)),
            r"got \[2\] and \[3, 3\]",
        ),
    ],
)
def test_bad_input_is_told_in_a_sentence(make, message):
    with pytest.raises(SuffuseError, match=message):
        make()
