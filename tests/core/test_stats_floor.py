"""The real-against-real floor: disjoint sets, bounds that hold, and sizes that do not fit."""

import math
from dataclasses import asdict

import numpy as np
import pytest

from suffuse.errors import SuffuseError
from suffuse.stats import Interval, floor, floors, kid, prdc


def test_sets_are_disjoint_and_drawn_anew_each_time():
    real, drawn = np.arange(30.0)[:, None], []

    def statistic(a, b):
        first, second = set(a.flatten().tolist()), set(b.flatten().tolist())
        assert (len(first), len(second)) == (10, 15)
        assert not first & second
        drawn.append((tuple(sorted(first)), tuple(sorted(second))))
        return 0.0

    result = floor(statistic, real, n=(10, 15), repeats=50)
    assert result.sizes == (10, 15)
    assert len(set(drawn)) == 50
    assert {x for first, _ in drawn for x in first} == set(range(30))


def test_two_sets_each_give_their_own(rng):
    train, test = np.arange(40.0)[:, None], -1 - np.arange(12.0)[:, None]

    def statistic(a, b):
        assert (a >= 0).all()
        assert sorted(b.flatten().tolist()) == sorted(test.flatten().tolist())  # all, each time
        return Interval(float(a.mean()), 0.0, 0.0)

    result = floor(statistic, train, test, repeats=40)
    assert result.sizes == (12, 12)
    assert len(set(result.values)) > 30


def test_the_bounds_are_order_statistics():
    """Of 99 values in 100 gaps the 95th is below a further one with probability 5 %."""
    values = iter(np.random.default_rng(0).permutation(99) + 1.0)
    result = floor(lambda a, b: next(values), np.ones((4, 1)), repeats=99)
    assert (result.lower, result.upper) == (5, 95)
    assert (result.low, result.high) == (2, 98)
    assert result.value == pytest.approx(50)
    assert sorted(result.values) == list(range(1, 100))
    assert str(result) == "50 [2, 98] at n = 2 against 2"
    least = iter(np.arange(39.0))
    extremes = floor(lambda a, b: next(least), np.ones((4, 1)), repeats=39)
    assert (extremes.low, extremes.high) == (0, 38)


def test_a_seed_draws_the_same_sets(rng):
    real = rng.normal(size=(60, 3))
    assert floor(kid, real, repeats=40, seed=1) == floor(kid, real, repeats=40, seed=1)
    assert floor(kid, real, repeats=40, seed=1) != floor(kid, real, repeats=40, seed=2)


def test_five_percent_of_perfect_models_lie_above_the_bound(rng, chance):
    """One set of 2n split in all ways is a permutation test: exact at every n."""

    def statistic(a, b):
        return float((a.mean() - b.mean()).abs())

    above, runs = 0, 400
    for _ in range(runs):
        made, real = rng.exponential(size=(8, 1)), rng.exponential(size=(8, 1))
        bar = floor(statistic, np.concatenate([made, real]), n=8, repeats=39).upper
        above += abs(made.mean() - real.mean()) > bar
    assert chance.share(above, runs, least=0.05, most=0.05)


def test_the_floor_of_kid_lies_about_zero_and_a_bad_model_above_it(rng):
    real = rng.normal(size=(400, 4))
    result = floor(kid, real, n=200)
    assert result.low < 0 < result.upper < result.high
    assert kid(rng.normal(0.7, 1, size=(200, 4)), real[:200]).low > result.upper


def test_figures_that_are_computed_together_have_a_floor_each(rng):
    real = rng.normal(size=(60, 2))
    together = floors(lambda a, b: asdict(prdc(a, b)), real, repeats=40, seed=3)
    assert list(together) == ["precision", "recall", "density", "coverage"]
    alone = floor(lambda a, b: prdc(a, b).recall, real, repeats=40, seed=3)
    assert together["recall"] == alone


GOOD = np.random.default_rng(0).normal(size=(20, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: floor(kid, GOOD, n=11), "do not hold disjoint sets of 11 and 11; ask for n <= 10"),
        (lambda: floor(kid, GOOD, n=(15, 6)), "20 real examples do not hold disjoint sets"),
        (lambda: floor(kid, GOOD, GOOD, n=21), "real_a holds 20 examples, fewer than the 21"),
        (lambda: floor(kid, GOOD, GOOD[:5], n=(5, 6)), "real_b holds 5 examples, fewer than the 6"),
        (lambda: floor(kid, GOOD, n=0), "need at least 1 example"),
        (lambda: floor(kid, GOOD, repeats=38), "at least 39 repeats; got 38"),
        (lambda: floor(kid, GOOD, repeats=100, level=0.99), "at least 199 repeats; got 100"),
        (lambda: floor(kid, GOOD, GOOD[:, :1]), "same number of dimensions"),
        (lambda: floor(kid, GOOD * math.nan), "real examples must be finite"),
        (lambda: floor(lambda a, b: math.nan, GOOD), "must be finite; it gave nan"),
    ],
)
def test_bad_input_is_told_in_a_sentence(make, message):
    with pytest.raises(SuffuseError, match=message):
        make()
