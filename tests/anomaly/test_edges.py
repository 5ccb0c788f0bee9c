"""Columns at the edge: empty ones, the largest numbers, offsets of summer and winter."""

import numpy as np
import pandas as pd
import pytest

from suffuse_anomaly import DiffusionDetector
from suffuse_anomaly.files import read_table


@pytest.mark.parametrize("value", ["a word", 3.0, pd.Timestamp("2026-01-01")])
def test_a_value_where_there_never_was_one_is_unusual(value, rng):
    table = pd.DataFrame({"a": rng.normal(size=100), "b": np.full(100, None, object)})
    detector = DiffusionDetector(random_state=0).fit(table)
    new = table.iloc[:4].copy()
    new.loc[2, "b"] = value
    scores = -detector.score_samples(new)
    assert scores.argmax() == 2
    assert detector.explain(new).iloc[2].idxmax() == "b"
    assert detector.predict(new)[2] == -1


def test_the_largest_numbers_are_numbers(rng):
    X = rng.normal(size=(60, 2))
    X[:, 1] = np.where(np.arange(60) % 2, 1.7e308, -1.7e308)
    X[:40, 1] = 1.7e308
    detector = DiffusionDetector(random_state=0).fit(X)
    assert np.isfinite(detector.score_samples(X)).all()
    assert np.isfinite(detector.explain([[0.0, -1.7e308], [0.0, 0.0]])).all(axis=None)


def test_offsets_of_summer_and_winter_are_one_column_of_dates(tmp_path):
    text = "when,v\n2026-03-28T12:00:00+01:00,1\n2026-03-30T12:00:00+02:00,2\n"
    (tmp_path / "t.csv").write_text(text)
    when = read_table(tmp_path / "t.csv")["when"]
    assert list(when) == [pd.Timestamp("2026-03-28 11:00"), pd.Timestamp("2026-03-30 10:00")]
