"""Series: what is planted is found, at its time and in its channel."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from suffuse_anomaly import SeriesDetector
from suffuse_anomaly.series import period


def series(rng, n=2400):
    t = np.arange(n)
    x = np.stack([np.sin(2 * np.pi * t / 40), np.cos(2 * np.pi * t / 40)], 1)
    return x + 0.1 * rng.normal(size=x.shape)


def test_a_broken_cycle_is_found_in_its_channel(rng):
    x = series(rng)
    at = int(rng.integers(400, 2000))
    x[at : at + 20, 1] *= -1
    detector = SeriesDetector().fit(x)
    assert detector.window_ in range(38, 43)
    score = detector.score(x)
    assert at - 30 < score.argmax() < at + 50
    parts = detector.explain(x)
    assert_allclose(parts.sum(axis=1), score, rtol=1e-9)
    assert parts.iloc[score.argmax()].idxmax() == "1"


def test_new_series_irregular_times_and_gaps(rng):
    x = series(rng)
    times = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(len(x)) * 60, "s")
    frame = pd.DataFrame(x, index=times, columns=["a", "b"])
    detector = SeriesDetector(40).fit(frame)
    new = pd.DataFrame(series(rng, 800), index=times[:800], columns=["a", "b"])
    new.iloc[500:520] = 0.0
    holed = new.drop(new.index[rng.choice(400, 60, replace=False)])
    holed.iloc[5, 0] = np.nan
    score = pd.Series(detector.score(holed), holed.index)
    assert score.idxmax() in times[480:540]
    # Windows overlap, so that 300 moments are about 7 independent ones: five alarms at 0.01 among
    # these, even if gaps double them, have the chance 21 · 0.02^5 < 1e-6.
    assert (detector.p_values(holed)[:300] > 0.01).mean() > 0.35


@pytest.mark.parametrize("window", [2, 7, 11, 20])
def test_neighbours_of_the_own_series_do_not_overlap(window, rng):
    x = series(rng, 150)
    detector = SeriesDetector(window, n_neighbors=3).fit(x)
    windows = detector._windows(detector._fitted)
    starts = np.arange(0, len(windows), max(1, window // 4))
    distance = np.linalg.norm(windows[:, None] - windows[starts], axis=2)
    distance[np.abs(starts - np.arange(len(windows))[:, None]) < window] = np.inf
    expected = np.log(np.sort(distance, 1)[:, :3]).mean(1)
    assert_allclose(detector._raw(windows, len(windows))[0], expected)


def test_a_series_that_goes_on_from_training_is_scored_as_it_was(rng):
    x = series(rng, 1200)
    x[300:320, 1] *= -1
    detector = SeriesDetector(40).fit(x[:800])
    assert_allclose(detector.score(x)[:760], detector.score(x[:800])[:760])
    assert 280 < detector.score(x)[:760].argmax() < 340


def test_moments_beside_a_gap_are_judged_by_windows_without_it(rng):
    times = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(1000) * 60, "s")
    frame = pd.DataFrame(series(rng, 1000), index=times)
    detector = SeriesDetector(40).fit(series(rng))
    detector.step_ = 60.0
    whole = detector.score(frame[:500])
    assert_allclose(detector.score(frame.drop(times[500:620]))[:500], whole)
    holed = frame.copy()
    holed.iloc[500:620, 1] = np.nan
    assert_allclose(detector.score(holed)[:500], whole)


def test_what_fills_a_gap_of_training_is_not_learned(rng):
    x = series(rng, 1000)
    x[300:460] = np.nan
    new = series(rng, 400)
    new[200:300] = np.linspace(new[200], new[299], 100)
    detector = SeriesDetector(40).fit(x)
    assert detector.score(new)[220:280].min() > np.quantile(detector.held_, 0.99)


@pytest.mark.parametrize("lag", [12, 48, 300])
def test_the_period_is_found(lag, rng):
    x = np.sin(np.arange(2000) * 2 * np.pi / lag) + 0.2 * rng.normal(size=2000)
    found = period(x)
    assert abs(found - lag * round(found / lag)) <= max(1, 0.03 * lag)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((2, 1)), "3 moments or more"),
        (np.arange(12.0), "has 12 moments, and more than 20 are needed to say what is usual"),
        (
            pd.Series(range(4), pd.to_datetime([0, 1, 2, 10**9], unit="ms")),
            "take means over regular steps",
        ),
        (np.full(100, np.inf), "holds inf"),
        (np.full(100, np.nan), "holds no number"),
        (
            pd.Series([1.0, 2, 3], pd.to_datetime(["2026-01-02", "2026-01-01", "2026-01-03"])),
            "rise",
        ),
    ],
)
def test_bad_series_are_refused_in_a_sentence(given, words):
    with pytest.raises(ValueError, match=words):
        SeriesDetector().fit(given)


def test_other_channels_and_too_short_series_are_refused(rng):
    detector = SeriesDetector(40).fit(series(rng))
    with pytest.raises(ValueError, match="fitted on 2 channels; given 1"):
        detector.score(np.zeros(100))
    with pytest.raises(ValueError, match="has 10 moments, and a window 40"):
        detector.score(np.zeros((10, 2)))


@pytest.mark.parametrize(
    ("detector", "series", "words"),
    [
        (SeriesDetector("q"), np.zeros(99), "window is a whole number, 1 or more; given 'q'"),
        (SeriesDetector(n_neighbors=0), np.zeros(99), "n_neighbors is a whole number"),
        (SeriesDetector(), ["a", "b", "c"], "a series is numbers"),
    ],
)
def test_what_is_no_setting_or_no_series_is_told(detector, series, words):
    with pytest.raises(ValueError, match=words):
        detector.fit(series)


def test_a_detector_that_has_learned_nothing_says_so():
    with pytest.raises(ValueError, match="has learned nothing yet"):
        SeriesDetector().score(np.zeros(99))
