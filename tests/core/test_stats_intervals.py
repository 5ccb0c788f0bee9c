"""Intervals: known values, exact bootstrap distributions, SciPy's BCa, and simulated coverage."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch

from suffuse.errors import SuffuseError
from suffuse.stats import Interval, auroc, bootstrap, difference, jackknife, mean, proportion
from suffuse.stats.intervals import t_quantile


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(successes, n, low, high):
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I."""
    interval = proportion(successes, n)
    assert interval.value == successes / n
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


def test_wilson_solves_the_score_equation():
    z = scipy.stats.norm.ppf(0.95)
    for successes, n in [(1, 7), (30, 40), (500, 9000)]:
        interval = proportion(successes, n, level=0.9)
        for bound in (interval.low, interval.high):
            score = abs(interval.value - bound) / math.sqrt(bound * (1 - bound) / n)
            assert score == pytest.approx(z)


def test_wilson_covers_95_percent_by_exact_enumeration():
    n = 50
    intervals = [proportion(k, n) for k in range(n + 1)]
    coverage = [
        sum(scipy.stats.binom.pmf(k, n, p) for k in range(n + 1) if p in intervals[k])
        for p in np.linspace(0.01, 0.99, 99)
    ]
    assert 0.945 < np.mean(coverage) < 0.965
    assert np.mean([0 in proportion(0, 5), 1 in proportion(5, 5)]) == 1


@pytest.mark.parametrize("df", [5, 9, 19, 25, 100])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_the_quantile_of_t(df, level):
    assert t_quantile(level, df) == pytest.approx(scipy.stats.t.ppf((1 + level) / 2, df), rel=3e-3)


@pytest.mark.parametrize("statistic", [np.mean, np.max, lambda x: float(np.sort(x)[1])])
def test_percentiles_are_those_of_all_resamples(statistic):
    """Three observations have 27 resamples: the bootstrap distribution in full."""
    data = np.array([0.0, 1.0, 10.0])
    every = np.sort([statistic(np.array(r)) for r in itertools.product(data, repeat=3)])
    interval = bootstrap(statistic, data, method="percentile", level=0.8, resamples=4000)
    # Levels 0.1 and 0.9 lie inside an atom of each of these distributions.
    assert interval.low == pytest.approx(np.quantile(every, 0.1, method="inverted_cdf"))
    assert interval.high == pytest.approx(np.quantile(every, 0.9, method="inverted_cdf"))
    assert interval.value == statistic(data)


@pytest.mark.parametrize(
    ("sizes", "paired"), [((40,), False), ((30, 50), False), ((40, 40), True), ((1500,), False)]
)
def test_bca_agrees_with_scipy(rng, sizes, paired):
    """With 1500 observations the acceleration comes from random groups instead of single ones."""
    samples = [rng.exponential(size=size) for size in sizes]

    def statistic(*x, axis=-1):
        return x[0].mean(axis) - (x[1].mean(axis) if len(x) == 2 else 0)

    count = 15_000
    ours = bootstrap(statistic, *samples, paired=paired, resamples=count)
    theirs = scipy.stats.bootstrap(
        samples,
        statistic,
        paired=paired,
        vectorized=True,
        n_resamples=count,
        method="BCa",
        rng=rng,
        batch=500,
    )
    # Both have an error of about 0.03 standard errors from the number of replicates.
    margin = 0.2 * float(theirs.standard_error)
    expected = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((expected.low, expected.high), abs=margin)


def test_bca_follows_skewness_where_percentiles_do_not():
    """In a skewed sample BCa lies higher: it takes a > 0 into account."""
    data = -np.log1p(-(np.arange(60) + 0.5) / 60)
    plain, bca = (bootstrap(np.mean, data, method=m) for m in ("percentile", "bca"))
    assert bca.low > plain.low
    assert bca.high > plain.high


def test_95_percent_of_the_intervals_hold_the_mean_of_skewed_data(rng, chance):
    runs = 150
    held = [1.0 in mean(rng.exponential(size=60), resamples=400, seed=i) for i in range(runs)]
    assert chance.share(sum(held), runs, least=0.9, most=0.99)


def test_an_interval_moves_and_scales_with_the_data(rng):
    data = rng.normal(size=30)
    interval, moved = mean(data), mean(3 + 2 * data)
    for name in ("value", "low", "high"):
        assert getattr(moved, name) == pytest.approx(3 + 2 * getattr(interval, name))


def test_intervals_respect_transformations(rng):
    data = rng.normal(size=50)
    plain = bootstrap(np.mean, data, method="percentile")
    exponential = bootstrap(lambda x: math.exp(x.mean()), data, method="percentile")
    assert exponential.low == pytest.approx(math.exp(plain.low), rel=1e-3)
    assert exponential.high == pytest.approx(math.exp(plain.high), rel=1e-3)


def test_strata_keep_their_sizes_and_leave_out_what_lies_between_them(rng):
    strata = np.repeat(["low", "high"], [40, 60])
    data = np.where(strata == "low", 0.0, 100.0) + rng.normal(size=100)
    seen = set()

    def statistic(x):
        seen.add(int((x < 50).sum()))
        return x.mean()

    interval = bootstrap(statistic, data, strata=strata, method="percentile")
    assert seen == {40}
    # The error of 0.4 mean_low + 0.6 mean_high, with variances 1.
    expected = 1.96 * math.sqrt(0.4**2 / 40 + 0.6**2 / 60)
    assert (interval.high - interval.low) / 2 == pytest.approx(expected, rel=0.35)
    assert (mean(data).high - mean(data).low) / 2 > 10 * expected
    # BCa too: its influences are those within the strata.
    bca = bootstrap(np.mean, data, strata=torch.tensor((strata == "low").astype(int)))
    assert (bca.high - bca.low) / 2 == pytest.approx(expected, rel=0.35)


def test_pairing_takes_out_what_the_cases_share(rng):
    case = rng.normal(0, 10, 50)
    a, b = case + 1 + rng.normal(0, 0.1, 50), case + rng.normal(0, 0.1, 50)
    paired, apart = difference(a, b), difference(a, b, paired=False)
    assert paired.value == pytest.approx(apart.value) == pytest.approx(a.mean() - b.mean())
    assert 0.9 < paired.low < paired.value < paired.high < 1.1
    assert apart.high - apart.low > 20 * (paired.high - paired.low)
    assert difference(a, b, np.median).value == pytest.approx(np.median(a) - np.median(b))


def test_a_seed_gives_the_same_interval_for_tensors_and_arrays(rng):
    data = rng.normal(size=25)
    assert mean(data, seed=3) == mean(data, seed=3) != mean(data, seed=4)
    ours, theirs = mean(data, seed=3), mean(torch.from_numpy(data), seed=3)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    rows = rng.normal(size=(25, 2))
    trace = bootstrap(lambda x: float(np.cov(x.T).trace()), rows)
    assert trace.low < trace.value < trace.high


def test_no_spread_no_width():
    assert mean([2.0, 2.0, 2.0]) == Interval(2.0, 2.0, 2.0)


def test_bca_falls_back_where_all_replicates_lie_on_one_side():
    """Every resample of 30 different values repeats some of them."""

    def distinct(x):
        return np.unique(x).size

    interval = bootstrap(distinct, np.arange(30.0))
    assert interval == bootstrap(distinct, np.arange(30.0), method="percentile")
    assert interval.low < interval.high < interval.value == 30


def test_auroc_is_the_share_of_pairs_in_order(rng):
    p, q = rng.integers(0, 6, 15).astype(float), rng.integers(0, 5, 20).astype(float)
    pairs = [(a > b) + (a == b) / 2 for a in p for b in q]
    interval = auroc(p, torch.from_numpy(q))
    assert interval.value == pytest.approx(np.mean(pairs))
    assert interval.value == pytest.approx(scipy.stats.mannwhitneyu(p, q).statistic / (15 * 20))
    mirrored = auroc(q, p)
    assert (mirrored.value, mirrored.low, mirrored.high) == pytest.approx(
        (1 - interval.value, 1 - interval.high, 1 - interval.low)
    )
    monotone = auroc(np.exp(p), np.exp(q))
    assert monotone.value == interval.value


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_95_percent_of_the_intervals_hold_the_auroc(rng, chance, shift):
    truth = scipy.stats.norm.cdf(shift / math.sqrt(2))
    held = [truth in auroc(rng.normal(shift, 1, 60), rng.normal(0, 1, 40)) for _ in range(600)]
    assert chance.share(sum(held), 600, least=0.93, most=0.985)


def test_auroc_has_a_width_where_all_pairs_are_in_order():
    interval = auroc(np.arange(10.0, 20.0), np.arange(10.0))
    assert (interval.value, interval.high) == (1, 1)
    assert interval.low == pytest.approx(proportion(10, 10).low)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bootstrap(np.mean), "at least one sample; got none"),
        (lambda: mean([1.0]), r"at least 2 observations a sample; got shape \[1\]"),
        (lambda: mean([1.0, math.nan]), "finite observations; got NaN"),
        (lambda: mean(torch.tensor([1.0, math.inf])), "finite observations"),
        (lambda: mean(["a", "b"]), "needs numbers"),
        (lambda: mean([1.0, 2.0], level=95), "level must lie between 0 and 1"),
        (lambda: mean([1.0, 2.0], resamples=10), "at least 100"),
        (lambda: mean([1.0, 2.0], method="bcaa"), "did you mean 'bca'"),
        (lambda: mean([1.0, 2.0], strata=[0, 1]), "stratum '0' has 1 observation"),
        (lambda: mean([1.0, 2.0], strata=[0, 0, 0]), "one label an observation: 2"),
        (lambda: difference([1.0, 2.0], [1.0, 2.0, 3.0]), r"equally long; got \[2, 3\]"),
        (
            lambda: difference([1.0, 2.0], [1.0, 2.0], paired=False, strata=[0, 0]),
            "strata go with one sample",
        ),
        (lambda: bootstrap(lambda x: math.nan, [1.0, 2.0]), "must be finite; it gave nan"),
        (lambda: proportion(3, 2), "0 <= successes <= n"),
        (lambda: proportion(0, 0), "0 <= successes <= n"),
        (lambda: auroc(np.ones((2, 2)), np.ones(2)), r"scores of shape \[N\]; got \[2, 2\]"),
        (lambda: auroc(np.ones(1), np.ones(2)), "positives must hold at least 2"),
    ],
)
def test_bad_input_is_told_in_a_sentence(make, message):
    with pytest.raises(SuffuseError, match=message):
        make()


def test_the_jackknife_of_a_mean_is_its_standard_error(seed):
    x = np.random.default_rng(seed).normal(size=60)
    found = jackknife(np.mean, x, groups=60)
    half = scipy.stats.t.ppf(0.975, 59) * x.std(ddof=1) / math.sqrt(60)
    assert (found.value, found.high - found.value) == pytest.approx((x.mean(), half), rel=1e-3)
    assert jackknife(np.mean, x, bounds=(x.mean(), math.inf)).low == x.mean()


def test_the_jackknife_holds_a_cosine_of_counts_where_resamples_miss_it(seed):
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, 1001) ** 0.8
    share /= share.sum()

    def cosine(rows):
        counts = np.bincount(rows.astype(int), minlength=1000)
        return counts @ share / np.linalg.norm(counts) / np.linalg.norm(share)

    drawn = [rng.choice(1000, 300, p=share) for _ in range(150)]
    wanted = np.mean([cosine(rows) for rows in drawn])
    held = sum(wanted in jackknife(cosine, rows, bounds=(0, 1)) for rows in drawn)
    missed = [bootstrap(cosine, rows, method="percentile", resamples=100) for rows in drawn[:20]]
    assert held >= 130
    assert sum(wanted in interval for interval in missed) <= 5


@pytest.mark.parametrize(
    ("groups", "n", "said"), [(5, 30, "at least 10 groups"), (20, 12, "as many observations")]
)
def test_a_jackknife_needs_groups_and_observations(groups, n, said):
    with pytest.raises(SuffuseError, match=said):
        jackknife(np.mean, np.arange(n), groups=groups)
