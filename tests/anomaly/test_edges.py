"""Columns at the edge: empty ones, the largest numbers, offsets of summer and winter."""

import numpy as np
import pandas as pd
import pytest

from suffuse_anomaly import DiffusionDetector, DiffusionImputer, SeriesDetector, SeriesImputer
from suffuse_anomaly.files import read_table
from suffuse_anomaly.table import TableError


@pytest.mark.parametrize("value", ["a word", 3.0, pd.Timestamp("2026-01-01")])
def test_a_value_where_there_never_was_one_is_unusual(value, rng):
    table = pd.DataFrame({"a": rng.normal(size=100), "b": np.full(100, None, object)})
    with pytest.warns(UserWarning, match="'b' had no value in training: any value there"):
        detector = DiffusionDetector(random_state=0).fit(table)
    new = table.iloc[:4].copy()
    new.loc[2, "b"] = value
    scores = -detector.score_samples(new)
    assert scores.argmax() == 2
    assert detector.explain(new).iloc[2].idxmax() == "b"
    assert detector.predict(new)[2] == -1


def test_a_path_in_place_of_a_table_is_refused():
    for kind in (DiffusionDetector, DiffusionImputer):
        with pytest.raises(TableError, match="read a file first, as by"):
            kind().fit("a.csv")


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


@pytest.mark.parametrize("n", [2, 3, 4, 11])
def test_so_few_rows_as_can_be_have_finite_scores(n, rng):
    detector = DiffusionDetector(random_state=0).fit(rng.normal(size=(n, 3)))
    assert np.isfinite(detector.score_samples([[0, 0, 0], [9, 9, 9]])).all()
    assert len(detector.p_values([[0, 0, 0]])) == 1


@pytest.mark.parametrize("kind", [DiffusionDetector, DiffusionImputer])
@pytest.mark.parametrize("empty", [np.full((30, 2), np.nan), pd.DataFrame({"a": [None] * 9})])
def test_a_table_without_a_value_is_refused(kind, empty):
    with pytest.raises(TableError, match="every value of the table is missing"):
        kind().fit(empty)


def test_gaps_stay_where_there_never_was_a_value(rng):
    table = pd.DataFrame({"a": rng.normal(size=60), "b": rng.normal(size=60), "c": np.nan})
    table.loc[3, "a"] = np.nan
    with pytest.warns(UserWarning, match="'c' had no value in training: gaps there stay"):
        imputer = DiffusionImputer(random_state=0).fit(table)
    for filled in (imputer.transform(table), *imputer.impute(table)):
        assert np.isfinite(filled[:, :2].astype(float)).all()
        assert pd.isna(filled[:, 2]).all()
    filled = imputer.transform(table.assign(c=pd.Series(["x", None] * 30, dtype=object)))
    assert filled[0, 2] == "x"
    assert pd.isna(filled[1, 2])


def test_series_that_never_change_are_told_of_and_empty_ones_refused(rng):
    series = pd.DataFrame({"a": rng.normal(size=200), "b": 2.0})
    with pytest.warns(UserWarning, match="never changes in the column 'b': any change"):
        detector = SeriesDetector(10).fit(series)
    series.loc[100:105, "b"] = 3.0
    assert 90 < detector.score(series).argmax() < 116
    with pytest.warns(UserWarning, match="the series never changes: any change"):
        SeriesDetector(10).fit(np.ones(100))
    for kind in (SeriesDetector, SeriesImputer):
        with pytest.raises(TableError, match="holds no number in the column 'c': leave out"):
            kind().fit(series.assign(c=np.nan))
