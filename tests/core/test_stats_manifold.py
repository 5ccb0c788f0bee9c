"""Precision, recall, density, coverage: by hand, naively, in expectation, and their intervals."""

import math
from dataclasses import asdict, astuple

import numpy as np
import pytest
import scipy.stats

from suffuse.errors import SuffuseError
from suffuse.stats import PRDC, features, manifold, prdc, prdc_intervals


def naive(made, real, k):
    """The definitions, point by point."""

    def radius(points, i):
        return sorted(math.dist(points[i], p) for j, p in enumerate(points) if j != i)[k - 1]

    r = [radius(real, i) for i in range(len(real))]
    s = [radius(made, j) for j in range(len(made))]
    d = [[math.dist(y, x) for x in real] for y in made]
    m, n = len(made), len(real)
    return PRDC(
        precision=sum(any(d[j][i] <= r[i] for i in range(n)) for j in range(m)) / m,
        recall=sum(any(d[j][i] <= s[j] for j in range(m)) for i in range(n)) / n,
        density=sum(d[j][i] <= r[i] for i in range(n) for j in range(m)) / (k * m),
        coverage=sum(any(d[j][i] <= r[i] for j in range(m)) for i in range(n)) / n,
    )


def test_by_hand():
    """Real points on a line with balls of radius 1, 1, 2 and 6; made points with 1, 1 and 7."""
    real = np.array([[0.0], [1.0], [3.0], [9.0]])
    made = np.array([[4.5], [5.5], [12.5]])
    # The balls: [-1, 1], [0, 2], [1, 5], [3, 15]; of the made: [3.5, 5.5], [4.5, 6.5], [5.5, 19.5].
    assert prdc(made, real, k=1) == PRDC(precision=1.0, recall=1 / 4, density=4 / 3, coverage=2 / 4)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("grid", [False, True], ids=["continuous", "ties and repeats"])
def test_by_the_definitions(rng, k, grid):
    """On a grid points repeat and lie on spheres; the balls are closed."""
    made, real = rng.normal(size=(25, 2)), rng.normal(0.7, 1.5, size=(35, 2))
    if grid:
        made, real = np.round(2 * made), np.round(2 * real)
    assert astuple(prdc(made, real, k)) == pytest.approx(astuple(naive(made, real, k)), rel=1e-12)


def test_a_set_against_itself(rng):
    """Each ball holds its centre and the k neighbours that set its radius."""
    x = rng.normal(size=(50, 3))
    assert prdc(x, x, k=4) == PRDC(1.0, 1.0, 5 / 4, 1.0)


def test_sets_far_apart_and_a_single_mode(rng):
    real = np.concatenate([rng.normal(size=(40, 2)), rng.normal(50, 1, size=(40, 2))])
    assert prdc(real + 500, real) == PRDC(0.0, 0.0, 0.0, 0.0)
    one_mode = prdc(rng.normal(size=(80, 2)), real)
    assert one_mode.precision > 0.8
    assert one_mode.recall <= 0.5
    assert one_mode.coverage <= 0.5


def test_the_expectations_of_equal_distributions(rng, chance):
    """Density 1 and coverage 1 − Π (N − i)/(M + N − i), whatever the distribution (Naeem 2020)."""
    m, n, k, runs = 30, 20, 3, 500
    figures = [prdc(rng.gamma(2, size=(m, 2)), rng.gamma(2, size=(n, 2)), k) for _ in range(runs)]
    density, coverage = (
        np.array([getattr(f, a) for f in figures]) for a in ("density", "coverage")
    )
    expected = 1 - math.prod((n - i) / (m + n - i) for i in range(1, k + 1))
    assert chance.mean(density, 1)
    assert chance.mean(coverage, expected)


def test_invariances(rng):
    made, real = rng.normal(size=(40, 3)), rng.normal(0.5, 1.2, size=(60, 3))
    turn = scipy.stats.ortho_group.rvs(3, random_state=rng)
    expected = prdc(made, real)
    for move in (lambda x: x @ turn, lambda x: 7 * x + 1e5, rng.permutation):
        assert prdc(move(made), move(real)) == expected
    swapped = prdc(real, made)
    assert (swapped.precision, swapped.recall) == (expected.recall, expected.precision)


def test_repeated_made_examples_collapse_their_balls(rng):
    """A model that repeats a few examples is precise and recalls next to nothing."""
    real = rng.normal(size=(60, 2))
    repeats = prdc(np.repeat(real[:5], 12, axis=0), real)
    assert repeats.precision == 1
    assert repeats.recall == 5 / 60


@pytest.mark.parametrize("part", [manifold._PART, 25], ids=["halves", "smaller parts"])
def test_intervals_have_the_spread_of_independent_repeats(rng, chance, monkeypatch, part):
    """About 95 % hold the expectation at these sizes, and none is much too wide."""
    monkeypatch.setattr(manifold, "_PART", part)
    m, n, runs = 60, 70, 40

    def draw():
        return rng.normal(0.5, 0.8, size=(m, 3)), rng.normal(size=(n, 3))

    intervals = [prdc_intervals(*draw(), seed=i) for i in range(runs)]
    figures = [prdc(*draw()) for _ in range(500)]
    held = []
    for name in asdict(figures[0]):
        values = np.array([getattr(f, name) for f in figures])
        ours = [getattr(i, name) for i in intervals]
        width = np.mean([(i.high - i.low) / 2 for i in ours])
        held.append(sum(values.mean() in i for i in ours))
        assert 0.5 < width / (1.96 * values.std()) < 2, name
    assert chance.share(min(held), runs, least=0.85), held


def test_intervals_at_the_ends_have_a_width(rng):
    x = rng.normal(size=(40, 2))
    figures = prdc_intervals(x, x)
    assert figures == prdc_intervals(x, x)
    assert (figures.precision.value, figures.precision.high) == (1, 1)
    assert 0.5 < figures.precision.low < 0.95
    apart = prdc_intervals(x + 100, x)
    assert (apart.density.value, apart.density.high) == (0, 0)
    assert apart.coverage.low == 0 < apart.coverage.high < 0.3


def test_blocks_of_any_size_give_the_same(rng, monkeypatch):
    made, real = rng.normal(size=(40, 3)), rng.normal(0.5, 1.2, size=(60, 3))
    whole = prdc(made, real)
    monkeypatch.setattr(features, "BLOCK", 130)
    assert prdc(made, real) == whole


GOOD = np.arange(24.0).reshape(12, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: prdc(GOOD, GOOD, k=0), "k must be at least 1; got 0"),
        (lambda: prdc(GOOD[:5], GOOD), "made features must hold at least 6 examples; got 5"),
        (lambda: prdc(GOOD, GOOD[:0]), "real features must hold at least 6 examples; got 0"),
        (lambda: prdc_intervals(GOOD[:11], GOOD), "at least 12 examples; got 11"),
        (lambda: prdc(GOOD, GOOD[:, :1]), "made features and real features must have the same"),
        (lambda: prdc(GOOD + math.inf, GOOD), "made features must be finite"),
        (lambda: prdc_intervals(GOOD, GOOD, level=0.0), "level must lie between"),
    ],
)
def test_bad_input_is_told_in_a_sentence(make, message):
    with pytest.raises(SuffuseError, match=message):
        make()
