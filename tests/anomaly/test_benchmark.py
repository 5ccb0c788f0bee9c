"""The suite: its splits, its baselines, its summary."""

import numpy as np
import pytest

from suffuse import bench
from suffuse.errors import SuffuseError
from suffuse_anomaly import baselines, benchmark, decisions_benchmark


@pytest.fixture
def data(rng, tmp_path, monkeypatch):
    folder = tmp_path / "anomaly" / "adbench_dev"
    folder.mkdir(parents=True)
    for name in ("a", "b", "c"):
        X = rng.normal(size=(120, 3)).round(2)
        X[:10] += 4
        np.savez(folder / f"{name}.npz", X=np.concatenate([X, X[:50]]), y=np.arange(170) % 120 < 10)
    monkeypatch.setenv("SUFFUSE_DATA", str(tmp_path))
    return folder


def test_no_row_is_on_both_sides_nor_twice(rng):
    X = rng.integers(0, 3, size=(400, 4))
    y = X.sum(1) == 8
    train, judged, labels = benchmark.split(X, y, "semi-supervised", 0, 60)
    rows = [tuple(row) for row in np.concatenate([train, judged])]
    assert len(set(rows)) == len(rows) == 60
    assert all(sum(row) < 8 for row in train)
    assert [sum(row) == 8 for row in judged] == labels.astype(bool).tolist()
    train, judged, _ = benchmark.split(X, y, "unsupervised", 0, 60)
    assert train is judged


def test_training_rows_are_contaminated_by_so_much_as_asked(rng):
    X, y = rng.normal(size=(400, 4)), np.arange(400) < 100
    train, judged, labels = benchmark.split(X, y, "contaminated-10%", 0, 400)
    assert (len(train), len(judged), labels.sum()) == (150 + 17, 150 + 83, 83)
    assert sum((row == X[:100]).all(1).any() for row in train) == 17
    train, _, labels = benchmark.split(X, y, "contaminated-0%", 0, 400)
    assert (len(train), labels.sum()) == (150, 100)


@pytest.mark.parametrize(
    ("name", "apart"),
    [
        (name, apart)
        for name in baselines.BASELINES
        for apart in (True, False)
        if apart or name not in baselines.NETWORKS
    ],
)
def test_baselines_find_what_is_far_away(name, apart, rng):
    train = rng.normal(size=(100 if name in baselines.NETWORKS else 200, 3))
    train[:5] += 8
    rows = np.concatenate([train[:5], rng.normal(size=(50, 3))]) if apart else train
    scores = baselines.BASELINES[name](train[5:] if apart else train, rows, 0)
    if name == "DTE-NP as published":  # far rows tie in its last bin
        assert scores[:5].min() >= np.quantile(scores, 0.9)
    elif name == "LOF" and not apart:  # neighbours of their own kind
        assert np.isfinite(scores).all()
    else:
        assert scores[:5].min() > np.median(scores[5:])


def test_the_suite_runs_and_compares(data, tmp_path):
    cases = list(benchmark.anomaly(seeds=1, learned=False))
    named = ("suffuse auto", "kNN", "PCA")
    some = [case for case in cases if case.model in named]
    assert len(some) == 6
    outcomes = bench.run(some, tmp_path / "out", "anomaly/anomaly")
    assert [outcome.record.error for outcome in outcomes] == [None] * 6
    tables = benchmark.summary([outcome.record for outcome in outcomes])
    assert len(tables) == 4
    best = {row[0]: row[1] for row in tables[0].rows}
    assert best.keys() == set(named)
    assert best["kNN"] > 90
    assert {row[0] for row in tables[1].rows} == {"kNN", "PCA"}


def test_promises_are_measured(data, tmp_path):
    (case,) = decisions_benchmark.decisions(seeds=1)
    (outcome,) = bench.run([case], tmp_path / "out", "anomaly/decisions")
    assert outcome.record.error is None
    found = {m.name: m.value for m in outcome.record.metrics}
    assert tuple(found) == decisions_benchmark.NAMES
    assert found["moved column named first"] > 60
    assert found["false alarms at 0.05"] < 25
    assert found["anomalies taken at 0.2"] >= found["anomalies taken at 0.1"]
    with pytest.raises(SuffuseError, match="did you mean 'auto'"):
        list(decisions_benchmark.decisions(method="autos"))


def test_without_data_the_suite_says_what_is_missing(monkeypatch):
    monkeypatch.delenv("SUFFUSE_DATA", raising=False)
    with pytest.raises(SuffuseError, match="set SUFFUSE_DATA"):
        benchmark.folder()
