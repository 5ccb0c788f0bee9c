"""`suffuse anomaly`: what it does, and what it says of mistakes."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from suffuse.cli import cli
from suffuse.errors import SuffuseError
from suffuse_anomaly import DiffusionDetector
from suffuse_anomaly.files import read_table
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
    table.to_csv(folder / "wide.csv", encoding="utf-16")
    days = pd.date_range("2026-01-01", periods=80).strftime("%d/%m/%Y")
    table.assign(day=days).to_csv(folder / "days.csv", index=False)
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
        ("anomaly fit {f}/wide.csv --out {f}/m", "it is no text in UTF-8, as CSV is to be"),
        ("anomaly fit {f}/days.csv --out {f}/m", "--drop day, or write dates as 2026-01-31"),
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
        ("score {f}/data.csv --model {f}/model -o {f}/data.csv", "would take the place of"),
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


@pytest.mark.parametrize("sign", [";", "\t"])
def test_tables_with_other_signs_and_decimal_commas_are_read(sign, folder, tmp_path):
    table = pd.read_csv(folder / "data.csv").round(3)
    table.to_csv(tmp_path / "plain.csv", index=False, sep=sign)
    table.to_csv(tmp_path / "comma.csv", index=False, sep=sign, decimal=",")
    for name in ("plain", "comma"):
        pd.testing.assert_frame_equal(read_table(tmp_path / f"{name}.csv"), table)


def test_nothing_but_a_model_makes_place_for_a_model(folder, tmp_path):
    (tmp_path / "plates").mkdir()
    (tmp_path / "plates" / "a.png").write_bytes(b"a picture")
    for out in (f"{tmp_path}/plates", f"{folder}/data.csv", f"{folder}/no-model"):
        with pytest.raises(SuffuseError, match="name a new"):
            said(folder, f"anomaly fit {folder}/data.csv --out {out}")
        with pytest.raises(SuffuseError, match="name a new"):
            DiffusionDetector.load(folder / "model").save(out)
    assert (tmp_path / "plates" / "a.png").read_bytes() == b"a picture"
    (tmp_path / "m").mkdir()
    for _ in range(2):
        assert (
            "saved in" in said(folder, f"anomaly fit {folder}/data.csv --out {tmp_path}/m").output
        )


def without(path, name):
    tensors = load_file(path / "model.safetensors")
    del tensors[name]
    save_file(tensors, path / "model.safetensors")


def entry(path, **entries):
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | entries))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda p: (p / "model.safetensors").write_bytes(b"none"), "model.safetensors"),
        (lambda p: (p / "model.safetensors").unlink(), "there is no file .*model.safetensors"),
        (lambda p: without(p, "held"), "is damaged: .*held"),
        (lambda p: without(p, "knn-time/rows"), "is damaged: .*rows"),
        (lambda p: entry(p, columns=None), "is damaged"),
        (lambda p: entry(p, settings={"methodd": "auto"}), "is damaged: .*methodd"),
        (lambda p: entry(p, format=9), "has the format 9"),
    ],
)
def test_a_damaged_model_is_told_of_in_a_sentence(damage, words, folder, tmp_path):
    shutil.copytree(folder / "model", tmp_path / "m")
    damage(tmp_path / "m")
    with pytest.raises(SuffuseError, match=words):
        said(folder, f"score {folder}/data.csv --model {tmp_path}/m -o {tmp_path}/s.csv")


def test_what_says_nothing_is_told_of(folder, tmp_path):
    table = pd.read_csv(folder / "data.csv").assign(note=np.nan, unit="kg")
    table.loc[3, "a"] = np.nan
    table.to_csv(tmp_path / "t.csv", index=False)
    told = said(folder, f"anomaly fit {tmp_path}/t.csv --out {tmp_path}/m").output
    assert "The column 'note' had no value in training" in told
    assert "The column 'unit' had one value in all rows of training" in told
    told = said(folder, f"anomaly impute {tmp_path}/t.csv -o {tmp_path}/f.csv").output
    assert "1 gaps filled" in told
    assert "The column 'note' had no value in training: gaps there stay." in told
