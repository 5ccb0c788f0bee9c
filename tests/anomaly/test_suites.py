"""The suites run from data to figures, on small data of the same form."""

import io
import json
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from suffuse import bench
from suffuse_anomaly import speed_benchmark
from suffuse_anomaly.imputation_benchmark import imputation
from suffuse_anomaly.models_benchmark import models
from suffuse_anomaly.series_benchmark import series
from suffuse_anomaly.speed_benchmark import Speed
from suffuse_anomaly.tiles_benchmark import tiles


@pytest.fixture
def data(rng, tmp_path, monkeypatch):
    folder = tmp_path / "anomaly"
    (folder / "adbench_dev").mkdir(parents=True)
    for name in "ab":
        X, y = rng.normal(size=(60, 3)), np.arange(60) < 5
        np.savez(folder / "adbench_dev" / f"{name}.npz", X=X, y=y)
    times = pd.date_range("2026-01-01", periods=240, freq="min")
    wave = np.sin(np.arange(240) / 3) + 0.1 * rng.normal(size=240)
    wave[200:206] = 3
    with zipfile.ZipFile(folder / "nab.zip", "w") as file:
        spans = [[str(times[198]), str(times[208])]]
        windows = {"v.csv": spans, "w.csv": spans, "flat.csv": spans, "none.csv": []}
        file.writestr("labels/combined_windows.json", json.dumps(windows))
        frame = pd.DataFrame({"timestamp": times, "value": wave})
        file.writestr("data/v.csv", (-frame["value"]).to_frame().assign(timestamp=times).to_csv())
        file.writestr("data/w.csv", frame.to_csv(index=False))
        file.writestr("data/flat.csv", frame.assign(value=1.0).to_csv(index=False))
    monkeypatch.setenv("SUFFUSE_DATA", str(tmp_path))
    return folder


def figures(cases, tmp_path, suite):
    """The metrics of each model by name, of cases that must not fail."""
    outcomes = bench.run(list(cases), tmp_path / "out", suite)
    assert outcomes
    assert [outcome.record.error for outcome in outcomes] == [None] * len(outcomes)
    return {o.record.model: {m.name: m.value for m in o.record.metrics} for o in outcomes}


@pytest.mark.parametrize("task", ["tables/random-10%", "series/blocks-10%"])
def test_gaps_are_told_by_every_method(task, data, tmp_path):
    cases = (case for case in imputation(rows=240) if case.task == task)
    found = figures(cases, tmp_path, "anomaly/imputation")
    assert {"RMSE", "CRPS", "within 20 draws"} == found["suffuse"].keys()
    assert all("RMSE" in metrics for metrics in found.values())
    assert len(found) >= 3


def test_series_are_judged_by_every_detector(data, tmp_path):
    found = figures(series(), tmp_path, "anomaly/series")
    assert len(found) == 4
    assert all(0 < metrics["VUS-PR"] <= 1 for metrics in found.values())


def test_tiles_are_judged_by_patches_and_by_the_nearest_one(data, rng, tmp_path):
    pictures, ends = io.BytesIO(), [0]
    for i in range(18):
        plate = rng.integers(100, 140, size=(128, 128)).astype(np.uint8)
        plate[40:70, 40:70] += np.uint8(100 * (i >= 14))
        Image.fromarray(plate).save(pictures, "jpeg")
        ends.append(pictures.tell())
    masks = np.zeros((18, 128, 128), bool)
    masks[14:, 40:70, 40:70] = True
    np.savez(
        data / "magnetic_tile_128.npz",
        jpeg=np.frombuffer(pictures.getvalue(), np.uint8),
        offsets=np.array(ends),
        masks_packed=np.packbits(masks),
        labels=(np.arange(18) >= 14).astype(int),
        classes=np.array(["MT_Free", "MT_Crack"]),
    )
    cases = tiles(seeds=1, normal=10, judged=2, stride=16, deep=False)
    found = figures((c for c in cases if c.model != "denoiser"), tmp_path, "anomaly/tiles")
    assert len(found) == 2
    assert all(metrics["image AUROC"] == 1 for metrics in found.values())


def test_a_shipped_model_judges_damaged_pictures(tmp_path):
    pytest.importorskip("suffuse_image")
    cases = (
        case
        for case in models(objects=24)
        if case.task == "images/turned" and case.model != "auto" and case.model != "score-norm"
    )
    found = figures(cases, tmp_path, "anomaly/models")
    assert len(found) == 2


def test_speeds_are_told_beside_those_of_scikit_learn(monkeypatch, tmp_path):
    monkeypatch.setattr(speed_benchmark, "interleaved", once)
    small = {"rows": 300, "columns": 3, "steps": 5}
    cases = [Speed("speed", model, 0, **small) for model in ("auto", "denoiser")]
    found = figures(cases, tmp_path, "anomaly/speed")
    assert {"fit / neighbours of the training rows", "score / neighbours"} == found["auto"].keys()
    assert found["denoiser"].keys() == {"fit", "rows a second"}
    assert all(value > 0 for metrics in found.values() for value in metrics.values())


def once(subjects, **settings):
    """One round and not nine."""
    for subject in subjects.values():
        subject()
    return [], {name: [1.0] for name in subjects}
