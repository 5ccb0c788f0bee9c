"""`suffuse anomaly evaluate`: figures of a file of scores, beside scikit-learn, and bad input."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.metrics import average_precision_score, roc_auc_score

from suffuse.cli import cli
from suffuse.errors import SuffuseError
from suffuse_anomaly.metrics import vus_pr


def said(line):
    result = CliRunner().invoke(cli, line.split())
    if result.exception is not None:
        raise result.exception
    return result.output


def figures(line, path):
    said(f"anomaly evaluate {line} -o {path}/figures.json")
    return {one["name"]: one for one in json.loads((path / "figures.json").read_text())}


@pytest.fixture
def files(rng, tmp_path):
    """Scores of 300 rows of which 30 are anomalous; a better detector's, shuffled; the truth."""
    y = np.arange(300) < 30
    noise = rng.normal(size=300)
    scores = pd.DataFrame({"row": np.arange(300), "score": noise + 2 * y})
    scores["p_value"] = np.where(y, 0.001, (np.argsort(np.argsort(noise)) + 0.5) / 300)
    scores.to_csv(tmp_path / "scores.csv", index=False)
    better = scores.assign(score=noise + 4 * y).sample(frac=1, random_state=0)
    better.to_csv(tmp_path / "better.csv", index=False)
    truth = pd.DataFrame({"row": np.arange(300), "odd": y.astype(int)})
    truth["word"] = np.where(y, "bad", "fine")
    truth.to_csv(tmp_path / "truth.csv", index=False)
    scores.assign(odd=y).to_csv(tmp_path / "whole.csv", index=False)
    truth.iloc[:9].to_csv(tmp_path / "short.csv", index=False)
    truth.drop(columns="row").iloc[:9].to_csv(tmp_path / "few.csv", index=False)
    truth.assign(odd=0).to_csv(tmp_path / "none.csv", index=False)
    truth.assign(odd=truth["odd"].where(truth["row"] > 3)).to_csv(tmp_path / "holes.csv")
    scores.assign(score=scores["score"].where(scores["row"] != 7)).to_csv(tmp_path / "nan.csv")
    pd.concat([truth, truth]).to_csv(tmp_path / "twice.csv", index=False)
    return tmp_path


def test_figures_are_those_of_scikit_learn(files):
    table = pd.read_csv(files / "whole.csv")
    found = figures(f"{files}/whole.csv --truth odd --resamples 40", files)
    y, score = table["odd"], table["score"]
    assert found["AUROC"]["value"] == pytest.approx(roc_auc_score(y, score))
    ap = average_precision_score(y, score)
    assert found["average precision"]["value"] == pytest.approx(ap)
    top = np.argsort(-score.to_numpy())[:30]
    assert found["F1 at k"]["value"] == pytest.approx(y[top].mean())
    cut = np.sort(score[~y])[-3]  # 2 of 270 are above it: at most 1 %
    assert found["recall at 1 % false alarms"]["value"] == pytest.approx((score[y] > cut).mean())
    p = np.sort(table["p_value"][~y])
    apart = max((np.arange(1, 271) / 270 - p).max(), (p - np.arange(270) / 270).max())
    assert found["distance from uniform"]["value"] == pytest.approx(apart)
    assert found["p-values up to 0.05"]["value"] == pytest.approx((p <= 0.05).mean())
    for name in ("AUROC", "average precision", "F1 at k"):
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]


def test_another_detector_is_compared_in_pairs_whatever_its_order(files):
    line = f"{files}/scores.csv --truth word --normal fine --labels {files}/truth.csv"
    found = figures(f"{line} --against {files}/better.csv --resamples 60", files)
    gap = found["AUROC less that of better"]
    table, better = pd.read_csv(files / "scores.csv"), pd.read_csv(files / "better.csv")
    y = table["row"] < 30
    other = roc_auc_score(better["row"] < 30, better["score"])
    assert gap["value"] == pytest.approx(roc_auc_score(y, table["score"]) - other)
    assert gap["value"] < 0
    same = figures(f"{line} --against {files}/scores.csv --resamples 20", files)
    twin = same[f"AUROC less that of {files}/scores.csv"]
    assert twin["low"] == twin["value"] == twin["high"] == 0


def test_series_are_judged_by_their_volume(files, rng):
    y = np.zeros(400, bool)
    y[100:130] = True
    score = y + rng.normal(size=400)
    pd.DataFrame({"moment": np.arange(400), "score": score, "odd": y}).to_csv(files / "s.csv")
    found = figures(f"{files}/s.csv --truth odd --series --against {files}/s.csv", files)
    assert found["VUS-PR"]["value"] == pytest.approx(vus_pr(y, score))
    assert list(found)[1].startswith("VUS-PR less")
    assert "95 % interval" in said(f"anomaly evaluate {files}/s.csv --truth odd --series")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{f}/scores.csv --truth odd", "A column of another file is given with --labels"),
        ("{f}/whole.csv --truth odd --score z", "has no column 'z'; there are: row, score"),
        ("{f}/whole.csv --truth score", "is to hold 0 and 1"),
        ("{f}/scores.csv --truth word --labels {f}/truth.csv", "--normal VALUE"),
        ("{f}/scores.csv --truth word --normal ok --labels {f}/truth.csv", "there are: bad, fine"),
        ("{f}/scores.csv --truth odd --labels {f}/short.csv", "no row for 291 of the 300"),
        ("{f}/scores.csv --truth odd --labels {f}/few.csv", "has 300 rows and .* 9"),
        ("{f}/scores.csv --truth odd --labels {f}/none.csv", "of 300 rows 0 are anomalous"),
        ("{f}/scores.csv --truth odd --labels {f}/holes.csv", "is empty in 4 rows"),
        ("{f}/scores.csv --truth odd --labels {f}/twice.csv", "in several rows"),
        ("{f}/nan.csv --truth odd --labels {f}/truth.csv", "finite numbers; row 7 has 'nan'"),
    ],
)
def test_mistakes_are_told_in_a_sentence(line, words, files):
    with pytest.raises(SuffuseError, match=words):
        said("anomaly evaluate " + line.format(f=files))
