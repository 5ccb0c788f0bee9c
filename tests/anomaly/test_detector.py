"""The detector: scores, explanations, decisions, files."""

import io
import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score

from suffuse_anomaly import DiffusionDetector, blocks, decisions, neighbours
from suffuse_anomaly.columns import columns_of
from suffuse_anomaly.decisions import Drift
from suffuse_anomaly.detector import METHODS
from suffuse_anomaly.neighbours import KnnTime
from suffuse_anomaly.table import Table, TableError
from suffuse_anomaly.views import Views


def frame(rng, n=300):
    """A table of all kinds of columns, with gaps."""
    table = pd.DataFrame(
        {
            "amount": rng.lognormal(3, 1, n),
            "count": rng.poisson(4, n),
            "shop": rng.choice(["food", "fuel", "books"], n, p=[0.6, 0.3, 0.1]),
            "online": rng.random(n) < 0.3,
            "when": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 10**7, n), "s"),
        }
    )
    table.loc[rng.random(n) < 0.1, "amount"] = np.nan
    table.loc[rng.random(n) < 0.1, "shop"] = None
    return table


def detector(method="knn-time", **settings):
    return DiffusionDetector(method, steps=30, random_state=0, **settings)


@pytest.mark.parametrize("method", METHODS)
def test_what_holds_for_every_method(method, rng, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 32)  # what is asked of networks is less then
    table, new = frame(rng, 120), frame(rng, 40)
    fitted = DiffusionDetector(method, steps=4, random_state=0).fit(table)
    scores = fitted.score_samples(new)
    # contributions sum to the score
    parts = fitted.explain(new)
    assert list(parts.columns) == list(table.columns)
    assert_allclose(parts.sum(axis=1), -scores, rtol=1e-9, atol=1e-9)
    # to the last bit neither a score nor its parts depend on the batch: alone, in few, in any order
    for rows in np.split(rng.permutation(40), [1, 4]):
        assert_array_equal(fitted.score_samples(new.iloc[rows]), scores[rows])
    assert_array_equal(fitted.explain(new.iloc[rows[:1]]), parts.iloc[rows[:1]])
    # the same seed gives the same scores, and so do copies
    again = DiffusionDetector(method, steps=4, random_state=0).fit(table)
    assert_array_equal(again.score_samples(new), scores)
    copy = pickle.loads(pickle.dumps(fitted))
    fitted.save(tmp_path / "model")
    loaded = DiffusionDetector.load(tmp_path / "model")
    for other in (copy, loaded):
        assert_array_equal(other.score_samples(new), scores)
    assert_array_equal(loaded.predict(new), fitted.predict(new))
    assert_array_equal(loaded.p_values(new), fitted.p_values(new))
    assert_array_equal(loaded.explain(new), parts)
    assert {path.suffix for path in (tmp_path / "model").iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize("method", ["knn-time", "denoiser"])
def test_what_is_planted_is_found_and_its_column_named_first(method, rng):
    X = rng.normal(size=(600, 6))
    fitted = DiffusionDetector(method, steps=300, random_state=0).fit(X)
    planted = rng.normal(size=(60, 6))
    columns = rng.integers(0, 6, 60)
    planted[np.arange(60), columns] += rng.choice([-8.0, 8.0], 60)
    # a network of 300 steps does not know the tails as neighbours do: 0.65 to 1.00 over seeds
    least = 0.4 if method == "denoiser" else 0.9
    assert (fitted.predict(planted) == -1).mean() > least
    scores = fitted.score_samples(np.concatenate([rng.normal(size=(600, 6)), planted]))
    assert roc_auc_score(np.arange(660) < 600, scores) > 0.98  # 0.996 to 0.999 over seeds
    named = fitted.explain(planted).to_numpy().argmax(1)
    assert (named == columns).mean() > 0.9


def test_a_rare_value_an_unseen_one_and_a_gap_are_unusual_in_their_columns(rng):
    table = frame(rng)
    table["amount"] = table["amount"].fillna(20.0)
    table["shop"] = table["shop"].fillna("food")
    table["online"] = table["online"].astype(object)
    table.loc[[40, 90], "online"] = None  # fewer rows than are asked: else they tell each other
    fitted = detector().fit(table)
    row = table.iloc[[5]].assign(online=False, shop="food")
    before = fitted.explain(row)
    for change in ({"shop": "jewels"}, {"online": None}):
        (column,) = change
        risen = fitted.explain(row.assign(**change)) - before
        assert risen[column].item() > 0.5
        assert fitted.score_samples(row.assign(**change)) < fitted.score_samples(row)


def test_what_was_always_there_or_always_the_same_is_missed_when_it_is_not(rng):
    table = pd.DataFrame({"size": rng.normal(size=(300)), "amount": rng.lognormal(3, 1, 300)})
    table = table.assign(year=2026, when=pd.Timestamp("2026-01-01"), note=np.nan, unit="kg")
    with pytest.warns(UserWarning, match="had one value in all rows of training") as told:
        fitted = detector().fit(table)
    said = " ".join(str(one.message) for one in told)
    assert "the columns 'year', 'when', 'unit' had one value" in said
    assert "the column 'note' had no value in training" in said
    changes = {"amount": np.nan, "year": 2027, "when": pd.Timestamp("2026-03-01"), "note": 3.0}
    for name, value in (changes | {"unit": "g"}).items():
        odd = table.iloc[:3].assign(**{name: value})
        assert (fitted.predict(odd) == -1).all(), name
        assert (fitted.explain(odd).idxmax(axis=1) == name).all()
    assert (fitted.predict(table) == 1).mean() > 0.95


def test_columns_of_unusual_types():
    found = columns_of(
        pd.DataFrame(
            {
                "took": [pd.Timedelta(90, "s"), pd.NaT],
                "until": pd.to_datetime(["2026-01-01", "9999-12-31"], format="ISO8601"),
                "paid": pd.array([True, None], dtype="boolean"),
            }
        )
    )
    assert_array_equal(found["took"], [90, np.nan])
    assert_array_equal(found["paid"], [1, np.nan])
    assert found["until"].astype("datetime64[Y]").astype(int).tolist() == [56, 8029]
    with pytest.raises(TableError, match="holds complex numbers"):
        columns_of(pd.DataFrame({"z": [1 + 2j]}))
    table = Table.fit({"a": np.arange(9.0)})
    with pytest.raises(TableError, match="for instance 'many'"):
        table.encode(columns_of(pd.DataFrame({"a": ["12", "many"]})))


def test_settings_of_numpy_are_saved(rng, tmp_path):
    given = {"n_neighbors": np.int64(3), "alarms": np.float32(0.25), "random_state": np.int64(7)}
    DiffusionDetector(**given).fit(rng.normal(size=(30, 2))).save(tmp_path / "m")
    loaded = DiffusionDetector.load(tmp_path / "m").get_params()
    assert {name: loaded[name] for name in given} == given


def test_knn_time_is_the_mean_log_distance_to_the_nearest_rows_held_out(rng):
    rows = rng.normal(size=(80, 3)).astype(np.float32)
    score = KnnTime(rows, 4, Views.fit(rows))
    for view, raw in zip(score.views(rows), score.raw(rows).T, strict=True):
        distance = np.sqrt(((view[:, None] - view[None]) ** 2).sum(-1))
        np.fill_diagonal(distance, np.inf)
        assert_allclose(raw, np.log(np.sort(distance, 1)[:, :4]).mean(1), rtol=1e-10)


def test_among_many_rows_neighbours_are_sought_in_one_view(rng, monkeypatch):
    root = rng.normal(size=(18, 18))
    rows, x = ((rng.normal(size=(n, 18)) @ root).astype(np.float32) for n in (600, 90))
    views = Views.fit(rows)
    each = KnnTime(rows, 4, views)
    monkeypatch.setattr(neighbours, "MANY", 599)
    one = KnnTime(rows, 4, views, each.floor)
    found = one.raw(x)
    # in the view that is searched these are the nearest; in the others some nearer ones are missed
    assert_allclose(found[:, 3], each.raw(x)[:, 3], atol=1e-6)
    assert (found > each.raw(x) - 1e-6).all()
    # with as many candidates as rows they are the nearest in each
    monkeypatch.setattr(neighbours, "TIMES", 150)
    assert_allclose(one.raw(x), each.raw(x), atol=1e-6)
    assert_allclose(one.raw(rows, own=True), each.raw(rows, own=True), atol=1e-6)
    assert_allclose(one.shares(x), each.shares(x), atol=1e-6)
    assert_allclose(one.shares(x).sum(2), 1)
    assert one.raw(x[:0]).shape == (0, 5)
    # of many neighbours, or in few columns, they are the nearest in each at once
    for some, k in ((rows, 11), (rows[:, :8], 4)):
        monkeypatch.setattr(neighbours, "MANY", 599)
        one = KnnTime(some, k, Views.fit(some))
        monkeypatch.setattr(neighbours, "MANY", 600)
        assert_array_equal(one.raw(some), KnnTime(some, k, one.views).raw(some))


@pytest.mark.parametrize("columns", [2, 8])
def test_a_row_alone_is_scored_as_among_others(columns, rng):
    # columns that follow from each other, and tails so heavy that near rows are equally far from
    # the mean in single precision
    root = rng.normal(size=(columns, columns))
    normal = rng.normal(size=(315, columns)) @ root
    for X in (normal, rng.standard_cauchy(normal.shape) ** 3):
        one, new = detector().fit(X[:300]), X[300:]
        whole, parts = one.score_samples(new), one.explain(new)
        for size in (1, 4):
            rows = [new[i : i + size] for i in range(0, 15, size)]
            assert_array_equal(np.concatenate([one.score_samples(x) for x in rows]), whole)
            assert_array_equal(np.concatenate([one.explain(x) for x in rows]), parts)


def test_scores_by_candidates_do_not_depend_on_the_batch(rng, monkeypatch):
    # categories, so that many rows are equally far
    monkeypatch.setattr(neighbours, "MANY", 400)
    X = pd.DataFrame(rng.choice(list("uvw"), size=(600, 7))).add_prefix("x")
    one = detector().fit(X)
    whole = one.score_samples(X)
    parts = np.concatenate([one.score_samples(X[i : i + 7]) for i in range(0, 600, 7)])
    assert_array_equal(parts, whole)
    assert_array_equal(one.score_samples(X[::-1])[::-1], whole)


def test_a_row_left_out_is_scored_as_if_it_had_never_been_there(rng):
    rows = rng.integers(0, 2, size=(40, 3)).astype(np.float32)  # most rows have equals
    views = Views.fit(rows)
    score = KnnTime(rows, 4, views)
    found = score.raw(rows, own=True)
    for i in range(40):
        others = KnnTime(np.delete(rows, i, 0), 4, views, score.floor)
        assert_allclose(found[i], others.raw(rows[i : i + 1])[0])


def test_knn_time_does_not_tie(rng):
    X = rng.normal(size=(500, 4))
    assert len(np.unique(detector().fit(X[:400]).score_samples(X[400:] * 2))) == 100


def test_p_values_are_uniform_on_normal_rows(rng):
    # of one split of 300 new rows the deviation is 0.027, of 12 it is 0.008
    shares = []
    for _ in range(12):
        X = rng.normal(size=(500, 3))
        shares.append((detector().fit(X[:200]).p_values(X[200:]) <= 0.1).mean())
    assert 0.06 < np.mean(shares) < 0.14


def test_selection_keeps_the_false_discovery_rate(rng):
    false, found = [], []
    for _ in range(12):
        X = rng.normal(size=(400, 3))
        X[380:] += 6
        chosen = detector().fit(X[:300]).select(X[300:], fdr=0.2)
        false.append(chosen[:80].sum() / max(chosen.sum(), 1))
        found.append(chosen[80:].mean())
    # 0.8 of 0.2 is what the procedure keeps
    assert np.mean(false) < 0.16 + 6 * np.std(false) / np.sqrt(12)
    assert np.mean(found) > 0.9


def test_the_threshold_is_a_rank_or_with_few_rows_in_the_tail(rng):
    X = rng.normal(size=(50, 3))
    fitted = detector(alarms=0.1).fit(X)
    assert (fitted._held > -fitted.offset_).sum() == 4  # a new row is above with 5 / 51 at most
    assert detector(alarms=0.001).fit(X).offset_ == pytest.approx(np.log(0.001))


def test_contamination_is_the_part_of_training_rows_below_the_offset(rng):
    table = frame(rng)
    fitted = detector(contamination=0.1).fit(table)
    assert (fitted.predict(table) == -1).sum() == 30


def test_tables_are_encoded_with_a_variance_of_one_for_each_column(rng):
    columns = columns_of(frame(rng, 4000).dropna()[["amount", "count", "shop", "online"]])
    table = Table.fit(columns)
    rows = table.encode(columns)
    assert_allclose(table.by_column(rows.var(0, keepdims=True))[0], 1, rtol=0.01)
    assert Table.from_json(table.to_json()).columns == table.columns


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.assign(count="many"), "'count' held values of the kind number"),
        (lambda d: d.assign(amount=np.inf), "'amount' holds inf"),
        (lambda d: d.drop(columns="shop"), "feature names should match"),
        (lambda d: d.iloc[:0], "1 rows or more"),
    ],
)
def test_bad_tables_are_refused_in_a_sentence(change, words, rng):
    table = frame(rng, 60)
    with pytest.raises(ValueError, match=words):
        detector().fit(table).predict(change(table))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "knn-tim"}, "did you mean 'knn-time'"),
        ({"contamination": 0.7}, "at most 0.5; given 0.7"),
        ({"n_neighbors": 0}, "n_neighbors is a whole number"),
        ({"steps": 1.5}, "steps is a whole number"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(settings, words, rng):
    with pytest.raises(ValueError, match=words):
        DiffusionDetector(**settings).fit(rng.normal(size=(30, 2)))


def test_hard_tables_have_finite_scores(rng):
    X = rng.normal(size=(50, 4))
    X[:, 1] = 7.0  # constant
    X[:, 2] = np.nan  # never there
    X[:, 3] *= 1e12
    X = np.repeat(X, 3, axis=0)  # duplicates
    with pytest.warns(UserWarning, match="the column 'x"):
        fitted = detector().fit(X)
    new = X[:5].copy()
    new[0, 1] = 8.0
    new[1, 3] = 1e300
    new[2, 2] = 1.0
    assert np.isfinite(fitted.score_samples(new)).all()
    assert_array_equal(fitted.predict(new[:2]), [-1, -1])


def test_a_directory_that_is_no_detector_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"format": 1}')
    with pytest.raises(TableError, match="is no detector"):
        DiffusionDetector.load(tmp_path)


def test_a_scored_file_has_a_row_for_each_row_and_a_page(rng, tmp_path):
    from click.testing import CliRunner

    from suffuse.cli import cli

    table = frame(rng)
    table["fraud"] = 0
    table.loc[:4, ["amount", "fraud"]] = [9e5, 1]
    table.to_csv(tmp_path / "data.csv", index=False)
    data, model, out = (str(tmp_path / name) for name in ("data.csv", "model", "scores.csv"))
    run = CliRunner().invoke
    said = run(cli, ["anomaly", "fit", data, "--out", model, "--normal", "fraud=0"])
    assert "learned from 295 rows of 5 columns" in said.output
    page = str(tmp_path / "page.html")
    said = run(cli, ["score", data, "--model", model, "-o", out, "--explain", "--report", page])
    assert "300 scores in" in said.output
    scores = pd.read_csv(io.StringIO((tmp_path / "scores.csv").read_text()))
    assert set(scores.nlargest(5, "score")["row"]) == {0, 1, 2, 3, 4}
    assert set(scores["because"][:5]) == {"amount"}
    parts = scores.filter(like="from ")
    assert_allclose(parts.sum(axis=1), scores["score"], rtol=1e-4, atol=1e-4)
    assert "amount = 900,000" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["anomaly", "fit", "{data}", "--out", "m", "--normal", "y=3"], "no row of .* has y = '3'"),
        (["anomaly", "fit", "{data}", "--out", "m", "--drop", "z"], "has no column 'z'"),
        (["anomaly", "fit", "{ids}", "--out", "m"], "leave it out with --drop id"),
        (["score", "{other}", "--model", "{model}"], "lacks what the model was fitted on: a"),
        (["score", "{empty}", "--model", "{model}"], "cannot read a table from"),
    ],
)
def test_bad_files_are_refused_in_a_sentence(arguments, words, rng, tmp_path):
    from click.testing import CliRunner

    from suffuse.cli import cli

    names = {name: str(tmp_path / name) for name in ("data", "other", "empty", "model", "ids")}
    pd.DataFrame({"a": rng.normal(size=30), "y": 0}).to_csv(names["data"], index=False)
    pd.DataFrame({"b": [1.0, 2.0]}).to_csv(names["other"], index=False)
    (tmp_path / "empty").write_text("")
    pd.DataFrame({"id": [f"row {i}" for i in range(60)]}).to_csv(names["ids"], index=False)
    detector().fit(pd.DataFrame({"a": rng.normal(size=30)})).save(names["model"])
    result = CliRunner().invoke(cli, [word.format(**names) for word in arguments])
    with pytest.raises(ValueError, match=words):
        raise result.exception


def test_anomalies_in_training_do_not_shield_each_other(rng):
    X = rng.normal(size=(400, 4))
    X[:10] = 6 + 0.1 * rng.normal(size=(10, 4))  # a dense group
    told = detector(contamination=0.1).fit(X)
    assert set(np.argsort(told.score_samples(X))[:10]) == set(range(10))
    assert (told.predict(X) == -1).sum() == 40


def test_alarms_put_the_threshold(rng):
    X, new = rng.normal(size=(1000, 3)), rng.normal(size=(4000, 3))
    for part in (0.01, 0.1):
        fitted = detector(alarms=part).fit(X)
        deviation = np.sqrt(part * (1 - part) * (1 / 1000 + 1 / 4000))
        assert abs((fitted.predict(new) == -1).mean() - part) < 0.1 * part + 6 * deviation


def test_a_score_is_minus_the_log_of_the_part_that_is_as_unusual(rng):
    fitted = detector().fit(rng.normal(size=(1000, 3)))
    scores = -fitted.score_samples(rng.normal(size=(3000, 3)))
    for part in (0.5, 0.1, 0.02):
        deviation = np.sqrt(part * (1 - part) * (1 / 1000 + 1 / 3000))
        assert abs((scores >= -np.log(part)).mean() - part) < 0.1 * part + 5 * deviation


def test_a_counterfactual_changes_what_is_wrong_and_makes_the_row_usual(rng):
    size = rng.normal(size=500)
    table = pd.DataFrame(
        {
            "size": size,
            "weight": 50 + 10 * size + rng.normal(size=500),
            "shop": rng.choice(["a", "b"], 500),
            "noise": rng.normal(size=500),
        }
    )
    fitted = detector().fit(table)
    odd = table.iloc[:5].assign(weight=400.0)
    changes = fitted.counterfactual(odd, most=1)
    assert changes.columns[changes.notna().all()].tolist() == ["weight"]
    assert all(value is None for value in changes["shop"])
    assert np.abs(changes["weight"].astype(float) - (50 + 10 * size[:5])).max() < 15
    mended = odd.assign(weight=changes["weight"].astype(float).to_numpy())
    assert (fitted.score_samples(mended) > fitted.score_samples(odd) + 1).all()
    usual = table.iloc[np.argsort(-fitted.score_samples(table))[:5]]
    assert fitted.counterfactual(usual).isna().all(axis=None)


def test_a_stream_is_scored_batch_by_batch(rng):
    X = rng.normal(size=(300, 3))
    fitted = detector().fit(X)
    batches = (X[i : i + 50] for i in range(0, 300, 50))
    assert_array_equal(np.concatenate([*fitted.score_batches(batches)]), fitted.score_samples(X))


def test_drift_is_told_and_false_alarms_are_rare(rng):
    def stream(rows, held, power):
        p = decisions.p_values(-(rng.random(rows) ** power), -rng.random(held))
        return Drift(held, 0.05).update(p)

    assert np.mean([stream(600, 100, 1) for _ in range(60)]) < 0.05 + 6 * np.sqrt(0.05 * 0.95 / 60)
    assert np.mean([stream(200, 1000, 2) for _ in range(30)]) > 0.9
    with pytest.raises(ValueError, match="alarms is a part"):
        Drift(10, 2)
    with pytest.raises(ValueError, match="some of those given are not"):
        Drift(10).update([0.5, np.nan])


def test_the_bet_on_drift_is_fair_whatever_came_before(rng):
    # many small ones came: were p-values independent, the next bet would be worth more than 1
    past, n = np.append(rng.integers(1, 8, 4), [1] * 8) / 7, 6
    counts = np.array([1 + (np.rint(past * 7) == r + 1).sum() for r in range(7)])
    after = []
    for r in range(7):
        drift = Drift(n)
        drift.update(past)
        before = np.exp(drift._logs).mean()
        drift.update((r + 1) / 7)
        after.append(np.exp(drift._logs).mean())
    # over the urn's draws the value does not grow, and falls by no more than steps of p explain
    assert 0.5 * before < counts @ after / counts.sum() <= before


def test_where_all_training_rows_are_alike_another_is_far_and_its_score_finite():
    with pytest.warns(UserWarning, match="all rows of training are the same: any other row"):
        detector = DiffusionDetector().fit(np.ones((30, 2)))
    same, other = detector.score_samples([[1, 1], [2, 1]])
    assert np.isfinite(other)
    assert other < same
    assert np.isfinite(detector.explain([[2, 1]]).to_numpy()).all()


def test_columns_of_one_name_are_refused():
    with pytest.raises(ValueError, match="these stand twice: a"):
        DiffusionDetector().fit(pd.DataFrame(np.zeros((9, 2)), columns=["a", "a"]))


def test_false_alarms_are_as_rare_as_said_where_rows_are_few_and_columns_many(rng):
    # 3 of 61 ranks are at most 0.05. In one training set the part of new rows below is about
    # Beta(3, 58), of a deviation of 0.03; the mean of eight is beyond 0.12 by seven deviations.
    found = []
    for _ in range(8):
        detector = DiffusionDetector().fit(rng.normal(size=(60, 40)))
        found.append((detector.p_values(rng.normal(size=(300, 40))) <= 0.05).mean())
    assert 0.005 < np.mean(found) < 0.12
