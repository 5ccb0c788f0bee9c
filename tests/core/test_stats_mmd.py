"""MMD: naive sums, exact enumeration of its mean and variance, and simulated coverage."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch

from suffuse.errors import SuffuseError
from suffuse.stats import RBF, Polynomial, features, kid, median_distance, mmd2, mmd2_variance


def polynomial(a, b):
    return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3


def gaussian(a, b):
    return math.exp(-sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) / (2 * 1.3**2))


KERNELS = {"polynomial": (Polynomial(), polynomial), "rbf": (RBF(1.3), gaussian)}
kernels = pytest.mark.parametrize(("kernel", "naive"), KERNELS.values(), ids=KERNELS.keys())


def naive_mmd2(x, y, k):
    m, n = len(x), len(y)
    within = [
        sum(k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j)
        / (len(z) * (len(z) - 1))
        for z in (x, y)
    ]
    return sum(within) - 2 * sum(k(a, b) for a in x for b in y) / (m * n)


@kernels
def test_the_estimate_is_the_sum_over_pairs(rng, kernel, naive):
    x, y = rng.normal(size=(6, 3)), rng.normal(1, 2, size=(9, 3))
    x[3] = x[4] = y[1]  # repeated points are points like others
    assert mmd2(x, y, kernel).value == pytest.approx(naive_mmd2(x, y, naive), rel=1e-10)
    assert kid(x, y) == mmd2(x, y, Polynomial())


@kernels
def test_mean_and_variance_are_unbiased_by_enumeration(kernel, naive):
    """All samples of m = 5 and n = 4 from two distributions on three points of the plane."""
    points = np.array([[0.0, 0.3], [1.0, -0.7], [-1.2, 2.0]])
    P, Q = (0.5, 0.3, 0.2), (0.1, 0.3, 0.6)

    def samples(probabilities, size):
        for counts in itertools.product(range(size + 1), repeat=3):
            if sum(counts) == size:
                weight = scipy.stats.multinomial.pmf(counts, size, probabilities)
                yield weight, np.repeat(points, counts, axis=0)

    first = second = variance = 0.0
    for (p, x), (q, y) in itertools.product(list(samples(P, 5)), list(samples(Q, 4))):
        value = mmd2(x, y, kernel).value
        first += p * q * value
        second += p * q * value**2
        variance += p * q * mmd2_variance(x, y, kernel)
    truth = sum(
        (P[i] - Q[i]) * (P[j] - Q[j]) * naive(points[i], points[j])
        for i in range(3)
        for j in range(3)
    )
    assert first == pytest.approx(truth, rel=1e-9)
    assert variance == pytest.approx(second - first**2, rel=1e-9)


@kernels
def test_equal_distributions_give_zero_in_the_mean(rng, chance, kernel, naive):
    values = [
        mmd2(rng.normal(size=(20, 3)), rng.normal(size=(30, 3)), kernel).value for _ in range(400)
    ]
    assert chance.mean(values, 0)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_95_percent_of_the_intervals_hold_the_truth(rng, chance, shift):
    """Normals about 0 and about a point at a distance, where MMD² has a closed form."""
    d, h2, n = 3, 2.0, 200
    scale = (h2 / (h2 + 2)) ** (d / 2)
    truth = 2 * scale * (1 - math.exp(-d * shift**2 / (2 * (h2 + 2))))
    intervals = [
        mmd2(rng.normal(size=(n, d)), rng.normal(shift, 1, size=(n, d)), RBF(math.sqrt(h2)))
        for _ in range(300)
    ]
    values = np.array([i.value for i in intervals])
    assert chance.mean(values, truth)
    assert chance.share(sum(truth in i for i in intervals), 300, least=0.92)
    # Nor are they too wide: by the cut at 0 alone where the distributions are equal.
    deviation = np.mean([(i.high - i.low) / 2 for i in intervals]) / 1.96
    most = 1.45 if shift == 0 else 1.2
    assert chance.deviation(values, least=deviation / most, most=deviation / 0.8)


@kernels
def test_rotation_and_order_change_nothing(rng, kernel, naive):
    x, y = rng.normal(size=(30, 4)), rng.normal(0.3, 1, size=(40, 4))
    turn = scipy.stats.ortho_group.rvs(4, random_state=rng)
    expected = mmd2(x, y, kernel)
    for other in (
        mmd2(x @ turn, y @ turn, kernel),
        mmd2(rng.permutation(x), rng.permutation(y), kernel),
        mmd2(y, x, kernel),
    ):
        for name in ("value", "low", "high"):
            assert getattr(other, name) == pytest.approx(getattr(expected, name), rel=1e-9)


def test_far_from_the_origin_rbf_keeps_its_digits(rng):
    x, y = rng.normal(size=(30, 4)), rng.normal(0.3, 1, size=(40, 4))
    near, far = mmd2(x, y, RBF(2.0)), mmd2(x + 1e6, y + 1e6, RBF(2.0))
    assert far.value == pytest.approx(near.value, abs=1e-9)


def test_a_constant_in_the_kernel_cancels(rng):
    x, y = rng.normal(size=(30, 4)), rng.normal(0.3, 1, size=(40, 4))
    raised = mmd2(x, y, lambda a, b: RBF(2.0)(a, b) + 1e6)
    plain = mmd2(x, y, RBF(2.0))
    assert (raised.value, raised.low) == pytest.approx((plain.value, plain.low), abs=1e-8)


@kernels
def test_blocks_of_any_size_give_the_same(rng, monkeypatch, kernel, naive):
    x, y = rng.normal(size=(23, 3)), rng.normal(0.5, 1, size=(31, 3))
    whole = mmd2(x, y, kernel)
    monkeypatch.setattr(features, "BLOCK", 40)
    pieces = mmd2(x, y, kernel)
    assert (pieces.value, pieces.low) == pytest.approx((whole.value, whole.low), rel=1e-9)


def test_tensors_arrays_and_precisions(rng):
    x, y = rng.normal(size=(20, 3)).astype(np.float32), rng.integers(0, 3, (20, 3))
    expected = kid(x, y)
    assert kid(torch.from_numpy(x), torch.from_numpy(y)) == expected
    assert kid(x.astype(np.float64), y.astype(np.float64)) == expected
    learned = torch.from_numpy(x).requires_grad_()
    assert kid(learned, y) == expected


def test_the_bandwidth_is_the_median_distance(rng):
    x = rng.normal(size=(40, 3))
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(x, 2)]
    assert median_distance(x) == pytest.approx(np.sort(distances)[(len(distances) - 1) // 2])
    many = rng.normal(size=(5000, 1))
    # The median of |x - y| of normals: sqrt(2) times their upper quartile.
    assert median_distance(many) == pytest.approx(math.sqrt(2) * 0.6745, rel=0.15)
    assert median_distance(many) == median_distance(many)


GOOD = np.ones((5, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kid(np.ones((0, 2)), GOOD), "x must hold at least 4 examples; got 0"),
        (lambda: kid(GOOD, np.ones((3, 2))), "y must hold at least 4 examples; got 3"),
        (lambda: kid(GOOD, np.ones((5, 3))), "same number of dimensions; got 2 and 3"),
        (lambda: kid(np.ones((5, 0)), GOOD), "at least one dimension"),
        (lambda: kid(np.ones(5), GOOD), r"shape \[N, D\], one row an example; got \[5\]"),
        (lambda: kid(GOOD * [[1.0, math.nan]], GOOD), "5 of 5 rows hold NaN or infinity"),
        (lambda: kid(GOOD, torch.full((4, 2), math.inf)), "y must be finite"),
        (lambda: kid(torch.ones(5, 2, dtype=torch.complex64), GOOD), "must be real numbers"),
        (lambda: kid(np.full((5, 2), "a"), GOOD), "must be real numbers"),
        (lambda: kid(GOOD * np.arange(5)[:, None] * 1e80, GOOD), "overflows on these features"),
        (lambda: kid(GOOD, GOOD, level=1.0), "level must lie between"),
        (lambda: RBF(0.0), "bandwidth of RBF must be positive"),
        (lambda: median_distance(np.ones((1, 2))), "at least 2 examples"),
    ],
)
def test_bad_input_is_told_in_a_sentence(make, message):
    with pytest.raises(SuffuseError, match=message):
        make()


def test_the_first_bad_row_is_named():
    x = np.ones((5, 2))
    x[3, 1] = math.nan
    with pytest.raises(SuffuseError, match="1 of 5 rows hold NaN or infinity, the first is row 3"):
        kid(x, GOOD)


def test_sets_without_spread_are_no_error():
    interval = kid(GOOD, GOOD)
    assert (interval.value, interval.low, interval.high) == (0, 0, 0)
