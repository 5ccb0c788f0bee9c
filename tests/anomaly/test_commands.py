"""`suffuse anomaly`: what it does, and what it says of mistakes."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from suffuse.cli import cli
from suffuse.errors import SuffuseError
from suffuse_anomaly import DiffusionDetector
from suffuse_anomaly.payments import PATTERNS, payments


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=80), "b": rng.choice(["u", "v"], 80)})
    table.to_csv(folder / "data.csv", index=False)
    table.iloc[:1].to_csv(folder / "one.csv", index=False)
    table.drop(columns="b").to_csv(folder / "narrow.csv", index=False)
    table.assign(a=table["a"] + 9).to_csv(folder / "odd.csv", index=False)
    table.mask(rng.random(table.shape) < 0.2).to_csv(folder / "holed.csv", index=False)
    (folder / "binary.csv").write_bytes(bytes(range(256)) * 4)
    DiffusionDetector(random_state=0).fit(table).save(folder / "model")
    (folder / "no-model").mkdir()
    (folder / "no-model" / "config.json").write_text("{}")
    return folder


def said(folder, line):
    result = CliRunner().invoke(cli, [word.format(f=folder) for word in line.split()])
    if isinstance(result.exception, SuffuseError):
        raise result.exception
    return result


def test_thresholds_refreshing_and_filling(folder, tmp_path):
    model = DiffusionDetector.load(folder / "model")
    model.save(tmp_path / "m")
    line = f"anomaly threshold {tmp_path}/m --budget 100"
    assert "alarms are rows with scores above" in said(folder, line).output
    assert DiffusionDetector.load(tmp_path / "m").offset_ != model.offset_
    line = f"anomaly threshold {tmp_path}/m --known {folder}/odd.csv --share 0.1"
    assert "saved in" in said(folder, line).output
    line = f"anomaly refresh {tmp_path}/m {folder}/odd.csv"
    assert "learned from 80 further rows" in said(folder, line).output
    odd = pd.read_csv(folder / "odd.csv")
    refreshed = DiffusionDetector.load(tmp_path / "m")
    assert refreshed.score_samples(odd).mean() > model.score_samples(odd).mean()
    assert (
        "gaps filled"
        in said(folder, f"anomaly impute {folder}/holed.csv -o {tmp_path}/f.csv").output
    )
    assert not pd.read_csv(tmp_path / "f.csv").isna().any(axis=None)
    said(folder, f"anomaly impute {folder}/holed.csv -o {tmp_path}/f.csv --draws 2")
    assert (tmp_path / "f-1.csv").is_file()


def test_gaps_leave_truth_values_and_labels_what_they_are(folder, tmp_path):
    table = pd.read_csv(folder / "data.csv").assign(paid=True, fraud=0.0)
    table.loc[::3, "paid"] = False
    table.astype({"paid": object}).to_csv(tmp_path / "whole.csv", index=False)
    holed = table.astype({"paid": object})
    holed.loc[5:9, ["paid", "fraud"]] = None
    holed.to_csv(tmp_path / "holed.csv", index=False)
    said(folder, f"anomaly impute {tmp_path}/holed.csv -o {tmp_path}/filled.csv")
    filled = pd.read_csv(tmp_path / "filled.csv")["paid"]
    assert filled.dtype == bool
    assert (filled.drop(range(5, 10)) == table["paid"].drop(range(5, 10))).all()
    line = f"anomaly fit {tmp_path}/holed.csv --out {tmp_path}/m --normal fraud=0"
    assert "learned from 75 rows" in said(folder, line).output


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("anomaly fit {f}/data.csv --out {f}/m --method knn-tim", "did you mean 'knn-time'"),
        ("anomaly fit {f}/data.csv --out {f}/m --method auto --method dte-c", "no method 'auto'"),
        ("anomaly fit {f}/data.csv --out {f}/m --contamination 0.9", "at most 0.5; given 0.9"),
        ("anomaly fit {f}/data.csv --out {f}/m --normal b", "--normal is COLUMN=VALUE"),
        ("anomaly fit {f}/data.csv --out {f}/m --drop a --drop b", "a column or more"),
        ("anomaly fit {f}/one.csv --out {f}/m", "2 rows or more"),
        ("anomaly fit {f}/binary.csv --out {f}/m", "cannot read a table from"),
        ("anomaly threshold {f}/model", "give one of them, and not none"),
        ("anomaly threshold {f}/model --budget 1 --known {f}/odd.csv", "and not both"),
        ("anomaly threshold {f}/model --budget 0", "above 0 and below the number of rows"),
        ("anomaly threshold {f}/model --budget 1 --per 100000", "allow more alarms or fit on more"),
        ("anomaly threshold {f}/model --known {f}/odd.csv --share 2", "share of anomalies"),
        (
            "anomaly threshold {f}/model --known {f}/narrow.csv",
            "lacks what the model was fitted on",
        ),
        ("anomaly refresh {f}/model {f}/narrow.csv", "lacks what the model was fitted on"),
        ("anomaly refresh {f}/no-model {f}/data.csv", "is no detector of tables"),
        ("anomaly impute {f}/data.csv -o {f}/o.csv --draws -1", "--draws is 0 or more"),
        ("anomaly impute {f}/one.csv -o {f}/o.csv", "has one row"),
        ("anomaly simulate {f}/p.csv --rows 5 --frauds 9", "fewer than payments"),
        ("score {f} --model {f}/model", "scores the rows of one table"),
    ],
)
def test_mistakes_are_told_in_a_sentence(line, words, folder):
    with pytest.raises(SuffuseError, match=words):
        said(folder, line)


def test_made_payments_have_their_patterns():
    table = payments(400, 40, seed=3)
    pd.testing.assert_frame_equal(table, payments(400, 40, seed=3))
    assert table["when"].is_monotonic_increasing
    fraud = table[table["fraud"] == 1]
    assert fraud["pattern"].value_counts().to_dict() == dict.fromkeys(PATTERNS, 10)
    by = fraud.groupby("pattern")
    assert (by["amount"].max()["testing"] <= 2) & (by["amount"].min()["takeover"] >= 2000)
    assert by["distance"].min()["abroad"] > 2999
    assert fraud.loc[fraud["pattern"] == "night", "when"].dt.hour.between(1, 4).all()


def test_who_has_few_normal_rows_is_told_what_follows(folder, tmp_path):
    line = f"anomaly fit {folder}/data.csv --out {tmp_path}/m"
    told = said(folder, line).output
    assert "With 80 normal rows to compare with no p-value is below 0.012" in told
    line = f"score {folder}/odd.csv --model {tmp_path}/m -o {tmp_path}/s.csv --report {tmp_path}/r"
    said(folder, line)
    page = (tmp_path / "r").read_text()
    assert "So of these 80 rows either none or at least 10 are to look at" in page
    assert "give 100 or more" in page
