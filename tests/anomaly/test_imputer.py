"""Completing tables: against closed forms, and against scikit-learn's checks."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer

from suffuse_anomaly import DiffusionImputer, SeriesImputer
from suffuse_anomaly.completion import Completion


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
    inner = table[table["size"].abs() < 2].reset_index(
        drop=True
    )  # at the rim, gaps are told from one side
    new = inner.iloc[:60].copy()
    new.loc[new.index[::2], ["weight", "kind", "when"]] = [np.nan, None, pd.NaT]
    filled = pd.DataFrame(done.transform(new), columns=done.get_feature_names_out())
    assert not filled.isna().any().any()
    assert_allclose(filled["weight"].astype(float), inner["weight"][:60], atol=1.5)
    assert (filled["kind"] == inner["kind"][:60].to_numpy()).mean() > 0.85
    assert (pd.to_datetime(filled["when"]) - inner["when"][:60]).abs().max() < pd.Timedelta("12D")


def test_a_saved_imputer_fills_the_same(rng, tmp_path):
    table = pd.DataFrame({"a": rng.normal(size=60), "b": rng.choice(["u", "v"], 60)})
    table["c"], table["d"] = rng.integers(0, 3, 60), pd.Timestamp("2026-01-01")
    holed = table.mask(rng.random(table.shape) < 0.3)
    imputer = DiffusionImputer(np.int64(2), random_state=0).fit(holed)
    imputer.save(tmp_path / "m")
    loaded = DiffusionImputer.load(tmp_path / "m")
    for one, other in zip(imputer.impute(holed), loaded.impute(holed), strict=True):
        assert_array_equal(one, other)
    assert list(loaded.get_feature_names_out()) == list(table.columns)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="is no imputer"):
        DiffusionImputer.load(tmp_path)


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


def test_draws_are_as_wide_as_predictions_of_linear_regression(rng):
    examples, n = rng.normal(size=(30, 5)) @ rng.normal(size=(5, 5)), 30
    covariance = np.cov(examples.T, bias=True)
    gaps, away = np.zeros((n, 5), bool), np.arange(5) > 2
    whole = Completion(examples.mean(0), covariance, examples, gaps, 0.0)
    row = rng.normal(size=(1, 5))
    asked = whole._asked(row, away)
    wider = asked.posterior(1.0)[3]
    design = np.column_stack([np.ones(n), examples[:, :3]])
    residuals = examples[:, 3:] - design @ np.linalg.lstsq(design, examples[:, 3:])[0]
    at = np.append(1, row[0, :3])
    leverage = at @ np.linalg.inv(design.T @ design) @ at
    expected = (residuals**2).sum(0) / (n - 4) * (1 + leverage)
    assert_allclose(wider[0, 0] * np.diag(asked.covariance), expected)
    assert_allclose(wider, wider[0, 0])


def test_known_dates_stay_and_values_that_repeat_are_drawn_as_they_are(rng):
    n = 60
    when = pd.Timestamp("2026-01-01 00:00:00.123457") + pd.to_timedelta(np.arange(n) ** 2, "h")
    table = pd.DataFrame({"when": when, "until": pd.Timestamp("9999-12-31").as_unit("s")})
    table["grade"], table["paid"] = rng.integers(1, 6, n), rng.random(n) < 0.3
    holed = table.astype(object).mask(rng.random(table.shape) < 0.2)
    holed = holed.astype({"when": table["when"].dtype, "until": table["until"].dtype})
    imputer = DiffusionImputer(8, random_state=0).fit(holed)
    for filled in (imputer.transform(holed), *imputer.impute(holed)):
        filled = pd.DataFrame(filled, columns=table.columns)
        there = holed.notna()
        assert (filled[there] == table[there]).sum().sum() == there.sum().sum()
    assert set(filled["grade"]) <= {1, 2, 3, 4, 5}
    assert set(filled["paid"]) <= {0, 1}


def test_a_bad_setting_is_told(rng):
    with pytest.raises(ValueError, match="n_imputations is a whole number"):
        DiffusionImputer(0).fit(rng.normal(size=(20, 2)))


def test_hidden_entries_lie_within_twenty_draws_as_often_as_they_should(rng):
    # few rows and many columns: 19 of 21 are asked for
    shares = []
    for _ in range(3):
        root = rng.normal(size=(12, 12)) / 3 + np.eye(12)
        X = rng.normal(size=(220, 12)) @ root.T
        imputer = DiffusionImputer(20, random_state=0).fit(X[:70])
        hidden = rng.random((150, 12)) < 0.3
        draws = np.stack(imputer.impute(np.where(hidden, np.nan, X[70:])))
        inside = (draws.min(0) <= X[70:]) & (X[70:] <= draws.max(0))
        shares.append(inside[hidden].mean())
    assert 0.8 < np.mean(shares) < 0.985  # 0.861 in the mean of twelve seeds, which spread by 0.023


def test_gaps_of_the_table_that_was_learned_from_are_told_by_other_rows(rng):
    angle = rng.uniform(0, 2 * np.pi, 400)
    X = np.column_stack([np.cos(angle), np.sin(angle), np.cos(2 * angle), angle / 3])
    X += 0.1 * rng.normal(size=X.shape)
    gaps = rng.random(X.shape) < 0.2
    holed = np.where(gaps, np.nan, X)
    imputer = DiffusionImputer(20, random_state=0).fit(holed)
    missed = np.sqrt(np.mean((imputer.transform(holed) - X)[gaps] ** 2))
    linear = IterativeImputer(random_state=0).fit_transform(holed)
    # about 0.64 of it; of 320 hidden entries 19 in 21 should lie within, and 0.78 are 7 deviations
    assert missed < 0.9 * np.sqrt(np.mean((linear - X)[gaps] ** 2))
    draws = np.stack(imputer.impute(holed))
    assert ((draws.min(0) <= X) & (draws.max(0) >= X))[gaps].mean() > 0.78


def cycle(rng, n=500):
    t = np.arange(n)
    x = np.stack([np.sin(2 * np.pi * t / 24), np.cos(2 * np.pi * t / 24)], 1)
    return x + 0.05 * rng.normal(size=x.shape)


def test_a_series_is_completed_within_its_cycle(rng):
    x = cycle(rng)
    holed = x.copy()
    holed[200:212] = np.nan  # both channels, half of a cycle
    holed[300:330, 1] = np.nan  # one channel, longer than a window
    imputer = SeriesImputer(random_state=0)
    filled = imputer.fit(x[:180]).transform(holed)
    assert imputer.window_ in (23, 24, 25)
    gaps = np.isnan(holed)
    assert_array_equal(filled[~gaps], holed[~gaps])
    assert np.sqrt(np.mean((filled - x)[gaps] ** 2)) < 0.25
    draws = np.stack(imputer.impute(holed))
    assert draws.shape == (5, 500, 2)
    assert (draws[:, gaps].std(0) > 0).all()
    assert_array_equal(imputer.impute(holed)[0], draws[0])


def test_moments_that_are_not_there_are_laid_on_the_grid(rng):
    x = cycle(rng, 300)
    times = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(300) * 60, "s")
    frame = pd.DataFrame(x, index=times).drop(times[100:106])
    frame.iloc[50, 0] = np.nan
    filled = SeriesImputer(random_state=0).fit(frame).transform(frame)
    assert filled.shape == frame.shape
    # the rest of the cycle leaves the noise alone: a deviation of 0.05, so this is 6 of them
    assert abs(filled[50, 0] - x[50, 0]) < 0.3


def test_gaps_of_the_series_that_was_learned_from_miss_by_its_noise_alone(rng):
    x = cycle(rng, 400)
    holed = x.copy()
    holed[5:400:10, 0] = np.nan
    gaps = np.isnan(holed)
    imputer = SeriesImputer(12, n_imputations=20, random_state=0).fit(holed)
    missed = (imputer.transform(holed) - x)[gaps]
    # 40 errors of the deviation 0.05, that of the noise: the chance to pass by is 1e-6
    assert np.sqrt(np.mean(missed**2)) < 1.1 * 0.05 * np.sqrt(stats.chi2.isf(1e-6, 40) / 40)
    draws = np.stack(imputer.impute(holed))[:, gaps]
    inside = (draws.min(0) <= x[gaps]) & (x[gaps] <= draws.max(0))
    # the truth is one of 21 alike: it lies between the others with the chance 19/21
    assert inside.sum() >= stats.binom.ppf(1e-6, 40, 19 / 21)


def test_a_level_that_was_never_seen_is_taken_from_what_is_known(rng):
    x = 0.1 * rng.normal(size=(400, 1))
    x[200:] += 5  # fifty deviations of what is learned from
    holed = x.copy()
    holed[250:400:5] = np.nan
    filled = SeriesImputer(16, random_state=0).fit(x[:200]).transform(holed)
    # noise of 0.1, 12 known moments in a window: an error of the deviation 0.104 and 0.04 of shift
    assert np.abs(filled - x).max() < 0.75


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"window": 1}, "window is a whole number, 2 or more; given 1"),
        ({"window": 400}, "at most half of the series"),
        ({"n_imputations": 0}, "n_imputations is a whole number"),
    ],
)
def test_bad_settings_of_series_are_told(given, words, rng):
    with pytest.raises(ValueError, match=words):
        SeriesImputer(**given).fit(cycle(rng, 300))


def test_series_that_do_not_fit_are_refused(rng):
    imputer = SeriesImputer(24).fit(cycle(rng, 200))
    with pytest.raises(ValueError, match="fitted on 2 channels; given 1"):
        imputer.transform(np.zeros(100))
    with pytest.raises(ValueError, match="has 10 moments, and a window 24"):
        imputer.transform(np.zeros((10, 2)))
