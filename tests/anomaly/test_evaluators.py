"""The registered figures: values of the plain functions, intervals, paired differences."""

import numpy as np
import pytest

from suffuse import plugins
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Example
from suffuse_anomaly import metrics


def evaluated(name, samples, **options):
    judge = plugins.build("evaluator", {"name": f"anomaly/{name}", **options})
    return {f.name: f for f in judge.evaluate(samples, test=None, train=None, seed=0)}


def test_detection_beside_a_baseline_in_pairs(rng):
    labels = np.arange(200) < 20
    ours, noise = rng.normal(size=200) + 3 * labels, rng.normal(size=200)
    rows = [
        Example({"ours": a, "twin": a, "noise": b}, {"anomalous": y})
        for a, b, y in zip(ours, noise, labels, strict=True)
    ]
    found = evaluated("detection", rows, resamples=100)
    assert len(found) == 12
    for name, figure in metrics.FIGURES.items():
        assert found[name].value == figure(labels, ours)
        assert found[name].low <= found[name].value <= found[name].high
        twin = found[f"{name} less that of twin"]
        assert twin.low == twin.value == twin.high == 0
    assert found["AUROC less that of noise"].low > 0
    plain = [Example(a, {"anomalous": y}) for a, y in zip(ours, labels, strict=True)]
    assert evaluated("detection", plain, resamples=100)["AUROC"] == found["AUROC"]


def test_series_maps_and_p_values(rng):
    labels = np.zeros(300, bool)
    labels[100:120] = True
    scores = [labels + 0.1 * rng.random(300), rng.random(300)]
    series = [Example(x, {"anomalous": labels}) for x in scores]
    expected = np.mean([metrics.vus_pr(labels, x) for x in scores])
    assert evaluated("moments", series)["VUS-PR"].value == pytest.approx(expected)
    mask = np.zeros((20, 20), bool)
    mask[4:9, 4:9] = True
    maps = [Example(mask + 0.1 * rng.random((20, 20)), {"anomalous": mask}) for _ in range(3)]
    assert evaluated("localisation", maps, resamples=10)["PRO"].value == pytest.approx(1)
    p = [Example((i + 0.5) / 100, {"anomalous": False}) for i in range(100)]
    found = evaluated("uniformity", [*p, Example(0.0, {"anomalous": True})])
    assert found["distance from uniform"].value == pytest.approx(0.005)
    assert found["p-values up to 0.05"].value == 0.05


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ([Example(1.0)], "a sample's condition 'anomalous'"),
        ([Example(1.0, {"anomalous": True})] * 3, "of 3 samples 3 are anomalous"),
        ([Example("a", {"anomalous": True})], "its score, a number"),
        ([Example(float("nan"), {"anomalous": i > 0}) for i in range(3)], "must be finite"),
    ],
)
def test_what_is_not_scored_is_refused(samples, words):
    with pytest.raises(SuffuseError, match=words):
        evaluated("detection", samples)
    assert evaluated("detection", []) == {}
