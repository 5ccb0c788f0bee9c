"""Nearest training examples, and what memorisation looks like."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from suffuse.errors import SuffuseError
from suffuse.stats import auroc, features, memorisation, nearest


def test_the_nearest_is_the_nearest_of_all(rng):
    queries, reference = rng.normal(size=(30, 4)), rng.normal(size=(50, 4))
    found = nearest(queries, torch.from_numpy(reference))
    for q, distance, index in zip(queries, found.distance, found.index, strict=True):
        every = [math.dist(q, x) for x in reference]
        assert distance == pytest.approx(min(every), rel=1e-12)
        assert every[index] == min(every)


def test_a_copy_is_at_distance_zero_however_far_out(rng):
    reference = 1e6 + rng.normal(size=(50, 4))
    found = nearest(reference[::-1], reference)
    assert found.distance.tolist() == [0] * 50
    assert found.index.tolist() == list(range(49, -1, -1))


def test_blocks_of_any_size_give_the_same(rng, monkeypatch):
    queries, reference = rng.normal(size=(30, 4)), rng.normal(size=(50, 4))
    whole = nearest(queries, reference)
    monkeypatch.setattr(features, "BLOCK", 120)
    assert nearest(queries, reference).distance == pytest.approx(whole.distance)
    assert nearest(queries, reference).index.tolist() == whole.index.tolist()


def test_by_hand():
    """Distances to the training points 0 and 100; the held-out ones are 1 to 39."""
    train = np.array([[0.0], [100.0]])
    held_out = np.arange(1.0, 40.0)[:, None]
    made = np.array([[0.0], [0.5], [99.5], [101.5], [1.99], [-2.0], [30.0], [130.0]])
    result = memorisation(made, train, held_out)
    assert result.made.distance == pytest.approx([0, 0.5, 0.5, 1.5, 1.99, 2, 30, 30])
    assert result.made.index.tolist() == [0, 0, 1, 1, 0, 0, 0, 1]
    assert result.threshold == pytest.approx(2)  # the value of rank 5 % of 39 + 1
    assert result.expected == 0.05
    assert result.closer.value == 5 / 8  # nearer than 2, which -2 is not
    assert result.copy_distance == pytest.approx(0.05 * 20)
    assert result.copies == 3
    assert result.held_out_copies == 0
    # Of the 39: 39 + 39 + 39 + 38 + 38 lie further than the first five, 37 + ½, 9 + ½, 9 + ½.
    assert result.auroc.value == pytest.approx((193 + 37.5 + 2 * 9.5) / (8 * 39))


def test_a_model_that_draws_new_examples(rng, chance):
    """Every figure has its expectation, and 95 % of the intervals hold it."""
    runs, train = 200, rng.normal(size=(300, 3))
    results = [
        memorisation(rng.normal(size=(150, 3)), train, rng.normal(size=(120, 3)), seed=i)
        for i in range(runs)
    ]
    for name, expected in (("closer", 0.05), ("auroc", 0.5)):
        intervals = [getattr(r, name) for r in results]
        values = np.array([i.value for i in intervals])
        assert chance.mean(values, expected), name
        assert chance.share(sum(expected in i for i in intervals), runs, least=0.92), name
        deviation = np.mean([(i.high - i.low) / 2 for i in intervals]) / 1.96
        assert chance.deviation(values, least=deviation / 1.5, most=deviation / 0.8), name
    assert sum(r.copies for r in results) <= 0.01 * runs * 150


def test_the_interval_of_the_share_holds_the_chance_in_the_percentile(rng, chance):
    """Made distances three times nearer: the share moves strongly with the threshold."""
    scale, runs = 1 / 3, 200
    train = np.zeros((1, 1))
    results = [
        memorisation(
            scale * rng.exponential(size=(400, 1)), train, rng.exponential(size=(80, 1)), seed=i
        ).closer
        for i in range(runs)
    ]
    # Exponential distances: 5 % below −ln 0.95, and below it 1 − 0.95³ of the nearer ones.
    truth = 1 - 0.95**3
    assert chance.share(sum(truth in i for i in results), runs, least=0.9, most=0.99)
    deviation = np.mean([(i.high - i.low) / 2 for i in results]) / 1.96
    values = [i.value for i in results]
    assert chance.deviation(values, least=deviation / 1.3, most=deviation / 0.8)


def test_copies_are_found(rng):
    train, held_out = rng.normal(size=(300, 8)), rng.normal(size=(200, 8))
    copied = train[rng.integers(0, 300, 80)] + 1e-3 * rng.normal(size=(80, 8))
    made = np.concatenate([copied, rng.normal(size=(120, 8))])
    result = memorisation(made, train, held_out)
    assert result.copies == 80
    assert result.held_out_copies == 0
    assert result.closer.low > 0.25
    assert result.auroc.low > 0.53
    whole = memorisation(copied, train, held_out)
    assert (whole.closer.value, whole.auroc.value) == (1, 1)
    assert whole.closer.low < 1
    # Repeats in the data are told from those of the model.
    assert memorisation(made, train, train[:100]).held_out_copies == 100


def test_invariances(rng):
    train, held_out, made = (rng.normal(size=(n, 3)) for n in (80, 60, 50))
    turn = scipy.stats.ortho_group.rvs(3, random_state=rng)
    expected = memorisation(made, train, held_out)
    for move in (lambda x: x @ turn, lambda x: 5 * x - 1e3, rng.permutation):
        moved = memorisation(move(made), move(train), move(held_out))
        assert moved.closer == expected.closer
        assert moved.auroc.value == pytest.approx(expected.auroc.value)
    twice = memorisation(made, np.concatenate([train, train]), held_out)
    assert twice.made.distance == pytest.approx(expected.made.distance)
    assert expected.auroc == auroc(expected.held_out.distance, expected.made.distance)


GOOD = np.arange(40.0)[:, None]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nearest(GOOD, np.ones((0, 1))), "reference must hold at least 1 example; got 0"),
        (lambda: nearest(GOOD, np.ones((3, 2))), "got 1 and 2"),
        (lambda: memorisation(GOOD[:1], GOOD, GOOD), "at least 2 made examples; got 1"),
        (lambda: memorisation(GOOD, GOOD, GOOD[:10]), "at least 19 held-out examples; got 10"),
        (lambda: memorisation(GOOD, GOOD, GOOD, percentile=0), "between 0 and 100; got 0"),
        (lambda: memorisation(GOOD, GOOD, GOOD, copy_fraction=2), "copy_fraction must lie"),
        (lambda: memorisation(GOOD, GOOD * math.nan, GOOD), "training features must be finite"),
        (lambda: memorisation(GOOD, GOOD, np.ones((40, 2))), "held-out features and training"),
    ],
)
def test_bad_input_is_told_in_a_sentence(make, message):
    with pytest.raises(SuffuseError, match=message):
        make()
