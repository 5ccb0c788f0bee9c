"""What methods say, against closed forms and exact distributions."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from suffuse_anomaly import DiffusionDetector, decisions, time_network
from suffuse_anomaly.columns import columns_of
from suffuse_anomaly.learned import LEARNED, Learned
from suffuse_anomaly.search import Search
from suffuse_anomaly.surprisal import Surprisal
from suffuse_anomaly.table import Table
from suffuse_anomaly.training_rows import held_out
from suffuse_anomaly.views import Views


def table_of(frame):
    columns = columns_of(frame)
    table = Table.fit(columns)
    return table, table.encode(columns)


@pytest.mark.parametrize("size", [3, 40])
def test_the_nearest_rows_are_those_of_all_distances(size, rng):
    rows, x = 5 + rng.normal(size=(300, size)), 5 + rng.normal(size=(50, size))
    distance, index = Search(rows)(x, 7)
    every = np.sqrt(((x[:, None] - rows[None]) ** 2).sum(-1))
    assert_array_equal(index, np.argsort(every, axis=1, kind="stable")[:, :7])
    assert_allclose(distance, np.sort(every, axis=1)[:, :7], rtol=1e-12)
    assert Search(rows)(rows[:0], 3)[0].shape == (0, 3)


def test_candidates_of_whole_numbers_are_the_nearest_and_the_same_in_any_batch(rng):
    # few values in each column, so that hundreds of rows are equally far
    rows, x = (rng.integers(0, 3, size=(n, 9)).astype(float) for n in (2000, 300))
    search = Search(rows, whole=True)
    found = search.candidates(x, 20)
    for i in (0, 299):
        assert_array_equal(search.candidates(x[i : i + 1], 20)[0], found[i])
    assert_array_equal(search.candidates(x[::-1], 20)[::-1], found)
    every = ((x[:, None] - rows[None]) ** 2).sum(-1)
    assert all(len(set(row)) == 20 for row in found)
    far = np.take_along_axis(every, found, 1)
    assert_allclose(np.sort(far, 1), np.sort(every, 1)[:, :20], atol=0.1)
    lengths = np.linalg.norm(search._near(1e9 * x[x.any(1)]).double(), axis=1)
    assert (lengths**2 <= 2**24 / 3).all()
    assert (lengths > 0.9 * np.sqrt(2**24 / 3)).all()


def test_white_views_have_the_identity_for_covariance_and_keep_dimensions_apart(rng):
    root = rng.normal(size=(4, 4)) + 3 * np.eye(4)
    rows = (rng.normal(size=(20_000, 4)) @ root.T).astype(np.float32)
    views = Views.fit(rows)
    for white, plain in zip(views(rows)[3:], views(rows)[1:3], strict=True):
        assert_allclose(np.cov(white.T), np.eye(4), atol=0.03)
        alike = np.corrcoef(white.T, plain.T)[:4, 4:]
        assert_array_equal(np.abs(alike).argmax(1), np.arange(4))


def test_the_time_networks_tell_the_noise_of_one_point(rng):
    # data at one place: p(σ² | x) is an inverse gamma distribution of the scale ‖x‖²/2
    sigma = np.exp(rng.uniform(np.log(0.4), np.log(1.6), 300))
    z = sigma[:, None] * rng.normal(size=(300, 6))
    for name in time_network.NETWORKS:
        network = time_network._layers(name, 6, 0)
        steps = 1000 if name == "dte-ig" else 400
        time_network.train(name, network, torch.zeros(64, 6), seed=0, steps=steps)
        with torch.no_grad():
            found = time_network.told(name, network, torch.from_numpy(z).float()).numpy()
        assert stats.spearmanr(found, (z**2).sum(1))[0] > 0.9
        if name == "dte-ig":
            ratio = np.exp(found) / (z**2).mean(1)
            assert np.median(np.abs(np.log(ratio))) < 0.5


def test_surprisal_is_that_of_the_conditional_distribution(rng):
    n = 4000
    a = rng.choice(["x", "y"], n, p=[0.7, 0.3])
    same = rng.random(n) < 0.9
    b = np.where(same, a, np.where(a == "x", "y", "x"))
    table, rows = table_of(pd.DataFrame({"a": a, "b": b}))
    member = Surprisal.fit("surprisal", rows, table, seed=0, steps=300, k=5)
    joint = {("x", "x"): 0.63, ("x", "y"): 0.07, ("y", "y"): 0.27, ("y", "x"): 0.03}
    pairs = pd.DataFrame(list(joint), columns=["a", "b"])
    found = member.elements(table.encode(columns_of(pairs)))[:, -1]  # each hidden by itself
    for (first, second), (of_a, of_b) in zip(joint, found, strict=True):
        p = joint[first, second]
        assert_allclose(np.exp(-of_a), p / sum(joint[v, second] for v in "xy"), atol=0.06)
        assert_allclose(np.exp(-of_b), p / sum(joint[first, v] for v in "xy"), atol=0.06)


def test_surprisal_has_tokens_for_gaps_unseen_values_and_what_lies_beyond(rng):
    frame = pd.DataFrame({"n": rng.normal(size=200), "c": rng.choice(["a", "b"], 200)})
    frame.loc[:9, ["n", "c"]] = [np.nan, None]
    table, rows = table_of(frame)
    member = Surprisal.fit("surprisal", rows, table, seed=0, steps=2, k=5)
    new = pd.DataFrame({"n": [np.nan, -99, 99, 0], "c": [None, "z", "a", "b"]})
    tokens = member.tokens(table.encode(columns_of(new)))
    assert tokens[:3, 0].tolist() == [18, 0, 17]
    assert tokens[:2, 1].tolist() == [3, 2]
    assert set(tokens[2:, 1].tolist()) == {0, 1}


def test_noise_by_kurtosis_is_more_where_tails_are_heavy(rng):
    rows = np.stack([rng.normal(size=4000), rng.uniform(-1, 1, 4000)], 1).astype(np.float32)
    table, _ = table_of(rows)
    plain = Learned.fit("denoiser", rows, table, seed=0, steps=1, k=5).input
    scaled = Learned.fit("k-dsm", rows, table, seed=0, steps=1, k=5).input
    ratio = scaled.deviation / plain.deviation
    seen = plain(rows).numpy()
    assert_allclose(ratio, (stats.kurtosis(seen, fisher=False) / 3) ** 0.25, rtol=1e-5)
    assert ratio[0] > ratio[1]


def test_learned_scores_rise_with_the_distance_from_normal_data(rng):
    rows = rng.normal(size=(400, 3)).astype(np.float32)
    table, _ = table_of(rows)
    one, other = (
        Learned.fit(name, rows, table, seed=0, steps=150, k=5) for name in ("denoiser", "k-dsm")
    )
    trained = {name: torch.as_tensor(value) for name, value in one.tensors().items()}
    far = np.stack([np.full(3, r) for r in (0.3, 2.0, 4.0)]).astype(np.float32)
    for name in LEARNED:  # all but k-dsm are trained alike
        member = other if name == "k-dsm" else Learned.load(name, trained, table)
        assert (np.diff(member.raw(far).mean(1)) > 0).all(), name


def test_a_budget_is_kept(rng):
    # the share of new normal rows above the threshold has the mean b at most, whatever they are
    shares = []
    for _ in range(400):
        cut = decisions.by_budget(rng.exponential(size=99), 5, per=100)
        shares.append(np.exp(-cut))
    assert np.mean(shares) == pytest.approx(0.05, abs=4 * np.std(shares) / 20)
    with pytest.raises(ValueError, match="that needs 999; allow more alarms"):
        decisions.by_budget(np.arange(99), 1, per=1000)


def test_the_threshold_of_least_cost_by_trying_all(rng):
    held, odd = rng.normal(size=60), rng.normal(2, 1, size=20)
    cut, cost = decisions.by_cost(held, odd, false_alarm=2, miss=30, share=0.05)

    def expected(c):
        return 2 * 0.95 * (held > c).mean() + 30 * 0.05 * (odd <= c).mean()

    every = [expected(c) for c in np.concatenate([[-np.inf], held, odd])]
    assert cost == pytest.approx(min(every))
    assert expected(cut) == pytest.approx(cost)
    with pytest.raises(ValueError, match="given none"):
        decisions.by_cost(held, [], false_alarm=1, miss=1, share=0.1)
    with pytest.raises(ValueError, match="share of anomalies"):
        decisions.by_cost(held, odd, false_alarm=1, miss=1, share=1.5)


def test_thresholds_of_a_detector(rng):
    X, new = rng.normal(size=(400, 3)), rng.normal(size=(4000, 3))
    detector = DiffusionDetector(random_state=0).fit(X)
    before = detector.offset_
    found = (detector.threshold_by_budget(20, per=400).predict(new) == -1).mean()
    assert abs(found - 0.05) < 6 * np.sqrt(0.05 * 0.95 * (1 / 400 + 1 / 4000))
    assert detector.offset_ != before
    odd = rng.normal(size=(30, 3)) + 3
    costs = {"false_alarm": 1, "share": 0.1}
    dear = detector.threshold_by_cost(odd, miss=1000, **costs).predict(odd)
    cheap = detector.threshold_by_cost(odd, miss=1, **costs).predict(odd)
    assert (dear == -1).mean() >= (cheap == -1).mean()
    assert (dear == -1).mean() > 0.9


@pytest.mark.parametrize("method", ["knn-time", "denoiser", "surprisal", "dte-c"])
def test_a_detector_learns_from_further_rows(method, rng):
    X, shifted = rng.normal(size=(300, 2)), rng.normal((6, 0), size=(300, 2))
    detector = DiffusionDetector(method, steps=60, random_state=0).fit(X)
    strange = -detector.score_samples(shifted).mean()
    assert detector.partial_fit(shifted) is detector
    assert -detector.score_samples(shifted).mean() < strange
    assert len(detector.p_values(X)) == 300
    again = DiffusionDetector(method, steps=60, random_state=0).fit(X).partial_fit(shifted)
    assert_array_equal(again.score_samples(X), detector.score_samples(X))


def test_refreshing_keeps_how_often_rows_occur(rng):
    X = np.repeat([[0.0, 0.0], [1.0, 2.0]], [200, 2], axis=0)
    detector = DiffusionDetector(random_state=0).fit(X).partial_fit(X[:50])
    often, seldom = detector.score_samples(X[[0, -1]])
    assert often > seldom + 1
    assert len(detector._ensemble.members["knn-time"].rows) == 252


def test_what_is_held_out_stays_so_when_rows_join(rng):
    rows = rng.normal(size=(1000, 3)).astype(np.float32)
    rows[500:] = rows[:500]
    held = held_out(rows, 7)
    assert 120 < len(held) < 280  # six deviations
    more = np.concatenate([rows, rng.normal(size=(400, 3)).astype(np.float32)])
    assert_array_equal(np.intersect1d(held_out(more, 7), np.arange(1000)), held)
    assert 2 < len(np.intersect1d(held[held < 500], held - 500)) < 60  # of equal rows by chance
    assert len(np.intersect1d(held, held_out(rows, 8))) < len(held) / 2
    assert len(held_out(np.zeros((10, 1), np.float32), 0)) >= 2


def test_partial_fit_begins_with_fit(rng):
    X = rng.normal(size=(100, 2))
    a = DiffusionDetector(random_state=0).partial_fit(X).score_samples(X)
    assert_array_equal(a, DiffusionDetector(random_state=0).fit(X).score_samples(X))


def test_several_methods_are_averaged_and_torch_is_left_alone(rng):
    X = rng.normal(size=(150, 3))
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    detector = DiffusionDetector(["knn-time", "dte-ig"], steps=5, random_state=0).fit(X)
    assert torch.rand(1) == expected
    assert detector.method_ == "knn-time + dte-ig"
    assert_allclose(detector.explain(X).sum(axis=1), -detector.score_samples(X), rtol=1e-9)
