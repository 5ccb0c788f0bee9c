"""Completing tables: against closed forms, and against scikit-learn's checks."""

import secrets

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from suffuse_anomaly import DiffusionImputer


@pytest.fixture
def rng():
    seed = secrets.randbits(32)
    print(f"numpy seed {seed}")
    return np.random.default_rng(seed)


def test_a_normal_table_is_completed_by_its_conditional_distribution(rng):
    # x_1 given x_0 is normal with the mean 0.8 x_0 and the deviation 0.6
    X = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 2000)
    imputer = DiffusionImputer(200, random_state=0).fit(X)
    rows = np.column_stack([np.linspace(-1.5, 1.5, 7), np.full(7, np.nan)])
    draws = np.stack(imputer.impute(rows))
    assert_array_equal(draws[:, :, 0], np.repeat(rows[None, :, 0], 200, 0))
    assert_allclose(draws[:, :, 1].mean(0), 0.8 * rows[:, 0], atol=0.25)
    assert_allclose(draws[:, :, 1].std(0), 0.6, atol=0.15)
    assert_allclose(imputer.transform(rows)[:, 1], 0.8 * rows[:, 0], atol=0.35)


def test_two_clusters_are_kept_apart_where_regression_would_mix_them(rng):
    side = rng.choice([-1.0, 1.0], 600)
    X = np.column_stack([np.abs(side) + 0.1 * rng.normal(size=600), side * 3])
    imputer = DiffusionImputer(50, random_state=0).fit(X)
    assert imputer.sigma_ < 1
    drawn = np.stack(imputer.impute(np.array([[1.0, np.nan]])))[:, 0, 1]
    assert (np.abs(np.abs(drawn) - 3) < 0.5).mean() > 0.8
    assert 0.2 < (drawn > 0).mean() < 0.8


def test_gaps_in_training_and_columns_of_all_kinds(rng):
    n = 400
    size = rng.normal(size=n)
    table = pd.DataFrame(
        {
            "size": size,
            "weight": 10 + 2 * size + 0.1 * rng.normal(size=n),
            "kind": np.where(size > 0, "big", "small"),
            "when": pd.Timestamp("2026-01-01") + pd.to_timedelta((size + 5) * 1e6, "s"),
        }
    )
    holed = table.mask(rng.random(table.shape) < 0.15)
    done = DiffusionImputer(random_state=0).fit(holed)
    new = table.iloc[:60].copy()
    new.loc[new.index[::2], ["weight", "kind", "when"]] = [np.nan, None, pd.NaT]
    filled = pd.DataFrame(done.transform(new), columns=done.get_feature_names_out())
    assert not filled.isna().any().any()
    assert_allclose(filled["weight"].astype(float), table["weight"][:60], atol=1.5)
    assert (filled["kind"] == table["kind"][:60].to_numpy()).mean() > 0.85
    assert (pd.to_datetime(filled["when"]) - table["when"][:60]).abs().max() < pd.Timedelta("12D")


def test_draws_do_not_depend_on_the_batch_and_do_on_the_seed(rng):
    X = rng.normal(size=(200, 3))
    holed = np.where(rng.random((30, 3)) < 0.4, np.nan, X[:30])
    imputer = DiffusionImputer(2, random_state=0).fit(X)
    whole = imputer.impute(holed)
    pieces = [imputer.impute(holed[i : i + 1]) for i in range(30)]
    assert_array_equal(np.concatenate([p[1] for p in pieces]), whole[1])
    assert not np.allclose(whole[0], whole[1])
    again = DiffusionImputer(2, random_state=0).fit(X).impute(holed)
    assert_array_equal(again[0], whole[0])
    assert_array_equal(whole[0][~np.isnan(holed)], holed[~np.isnan(holed)])


def test_a_bad_setting_is_told(rng):
    with pytest.raises(ValueError, match="n_imputations is a whole number"):
        DiffusionImputer(0).fit(rng.normal(size=(20, 2)))
