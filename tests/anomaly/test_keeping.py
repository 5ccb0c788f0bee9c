"""What is saved and loaded judges and fills as it did, to the last bit; nothing is pickled."""

import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import suffuse
from suffuse.errors import SuffuseError
from suffuse_anomaly import (
    AnomalyDetector,
    ClipPatchDetector,
    PatchDetector,
    SeriesDetector,
    SeriesImputer,
    SoundPatchDetector,
)


def waves(rng, n=300):
    return np.sin(np.arange(n) / 4)[:, None] + 0.1 * rng.normal(size=(n, 2))


def sounds(rng, n):
    return [(0.1 * rng.normal(size=4000), 8000) for _ in range(n)]


MADE = {
    "pictures": (PatchDetector, lambda rng, n: list(rng.normal(size=(n, 24, 24)))),
    "sounds": (SoundPatchDetector, sounds),
    "clips": (ClipPatchDetector, lambda rng, n: list(rng.normal(size=(n, 3, 16, 16)))),
}


@pytest.mark.parametrize("method", ["knn-time", "denoiser"])
@pytest.mark.parametrize("things", MADE)
def test_patches_are_judged_as_before(things, method, rng, tmp_path):
    kind, make = MADE[things]
    detector = kind(method, steps=20).fit(make(rng, 12 if method == "denoiser" else 24))
    detector.save(tmp_path / "m")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    loaded, new = kind.load(tmp_path / "m"), make(rng, 3)
    assert_array_equal(loaded.score(new), detector.score(new))
    assert_array_equal(loaded.heat_map(new), detector.heat_map(new))
    assert_array_equal(loaded.p_values(new), detector.p_values(new))


def test_series_are_judged_as_before(rng, tmp_path):
    series = waves(rng)
    detector = SeriesDetector().fit(series)
    detector.save(tmp_path / "m")
    loaded = SeriesDetector.load(tmp_path / "m")
    for x in (series, waves(rng)):
        assert_array_equal(loaded.score(x), detector.score(x))
        assert_array_equal(loaded.explain(x), detector.explain(x))
        assert_array_equal(loaded.p_values(x), detector.p_values(x))


@pytest.mark.parametrize("method", ["auto", "loss"])
def test_a_model_judges_as_before(method, tmp_path):
    pytest.importorskip("suffuse_image")
    test = suffuse.load("image/digits").dataset("test")
    digits = [test[i].data for i in range(20)]
    detector = AnomalyDetector(suffuse.load("image/digits"), method, seed=3, batch=20)
    detector.fit(digits).save(tmp_path / "m")
    assert (tmp_path / "m" / "model" / "model.safetensors").is_file()
    (tmp_path / "m").rename(tmp_path / "moved")
    loaded = AnomalyDetector.load(tmp_path / "moved")
    assert_array_equal(loaded.score(digits[:3]), detector.score(digits[:3]))
    assert_array_equal(loaded.held_, detector.held_)
    assert loaded.threshold_ == detector.threshold_
    if method == "auto":
        assert_array_equal(loaded.explain(digits[:3]), detector.explain(digits[:3]))
        assert_array_equal(loaded.heat_map(digits[:3]), detector.heat_map(digits[:3]))


def test_series_are_filled_as_before(rng, tmp_path):
    holed = waves(rng)
    holed[50:60] = np.nan
    imputer = SeriesImputer(n_imputations=2, random_state=np.random.RandomState(3)).fit(waves(rng))
    imputer.save(tmp_path / "m")
    loaded = SeriesImputer.load(tmp_path / "m")
    assert_array_equal(loaded.transform(holed), imputer.transform(holed))
    assert_array_equal(loaded.impute(holed), imputer.impute(holed))


def test_what_is_none_is_refused_in_a_sentence(rng, tmp_path):
    with pytest.raises(SuffuseError, match="has learned nothing yet"):
        SeriesDetector().save(tmp_path / "m")
    with pytest.raises(SuffuseError, match="has learned nothing yet"):
        PatchDetector().save(tmp_path / "m")
    SeriesDetector().fit(waves(rng)).save(tmp_path / "m")
    with pytest.raises(SuffuseError, match="no detector of pictures, but a detector of series"):
        PatchDetector.load(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | {"format": 9}))
    with pytest.raises(SuffuseError, match="has the format 9"):
        SeriesDetector.load(tmp_path / "m")
    with pytest.raises(SuffuseError):
        SeriesDetector.load(tmp_path / "nothing")
