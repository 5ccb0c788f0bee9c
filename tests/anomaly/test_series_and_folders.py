"""Series and folders on the command line: fitted, scored, explained, reported."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

import suffuse
from suffuse.cli import cli
from suffuse.errors import SuffuseError


def said(line):
    result = CliRunner().invoke(cli, line.split())
    if result.exception is not None:
        raise result.exception
    return result.output


@pytest.fixture
def pulse(rng, tmp_path):
    x = np.sin(np.arange(400) / 4) + 0.1 * rng.normal(size=400)
    frame = pd.DataFrame({"when": pd.date_range("2026-01-01", periods=400, freq="min"), "v": x})
    frame.to_csv(tmp_path / "pulse.csv", index=False)
    frame.loc[300:320, "v"] = 4.0
    frame.assign(note="x").to_csv(tmp_path / "new.csv", index=False)
    frame.drop(columns="v").to_csv(tmp_path / "narrow.csv", index=False)
    return tmp_path


def test_a_series_is_learned_and_scored(pulse):
    assert "400 moments of 1 channel," in said(
        f"anomaly fit {pulse}/pulse.csv --series --out {pulse}/m"
    )
    line = f"score {pulse}/new.csv --model {pulse}/m -o {pulse}/s.csv --explain --report {pulse}/r"
    assert "400 scores" in said(line)
    scores = pd.read_csv(pulse / "s.csv")
    assert list(scores) == ["moment", "time", "score", "p_value", "alarm", "from v"]
    assert 280 < scores["score"].idxmax() < 340
    page = (pulse / "r").read_text()
    assert "When it is unusual" in page
    assert "2026-01-01 05:" in page  # where it stood still


def test_gaps_of_a_series_are_filled(pulse):
    frame = pd.read_csv(pulse / "pulse.csv").iloc[:200]
    holed = frame.copy()
    holed.loc[100:104, "v"] = np.nan
    holed.to_csv(pulse / "holed.csv", index=False)
    line = f"anomaly impute {pulse}/holed.csv --series -o {pulse}/filled.csv"
    assert "5 gaps filled" in said(line)
    filled = pd.read_csv(pulse / "filled.csv")
    assert list(filled["when"]) == list(frame["when"])
    assert np.abs(filled["v"] - frame["v"]).max() < 0.8
    said(f"{line} --draws 2")
    assert (pulse / "filled-1.csv").is_file()


def test_a_folder_of_pictures_is_learned_and_scored(rng, tmp_path):
    pytest.importorskip("suffuse_image")
    for name in ("plates", "new"):
        (tmp_path / name).mkdir()
        for i in range(12):
            plate = rng.integers(100, 140, size=(32, 32)).astype(np.uint8)
            if name == "new" and i == 7:
                plate[4:12, 20:28] = 255
            Image.fromarray(plate).save(tmp_path / name / f"{i:02}.png")
    (tmp_path / "plates" / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (32, 32)).save(tmp_path / "plates" / "colour.png")
    (tmp_path / "new" / "broken.png").write_bytes(b"no picture")
    told = said(f"anomaly fit {tmp_path}/plates --out {tmp_path}/m")
    assert "left out: cannot read" in told
    assert "colour.png has 3 channels, and most pictures have 1 channels" in told
    assert "12 pictures" in told
    Image.new("RGB", (32, 32)).save(tmp_path / "new" / "colour.png")
    line = f"score {tmp_path}/new --model {tmp_path}/m -o {tmp_path}/s.csv --explain"
    told = said(f"{line} --report {tmp_path}/r.html")
    assert "colour.png: the detector was fitted on pictures of 1 channels" in told
    assert "12 scores" in told
    page = (tmp_path / "r.html").read_text()
    assert page.count("data:image/png") == 12
    assert page.index("07.png") < page.index("00.png")
    scores = pd.read_csv(tmp_path / "s.csv")
    odd = scores.loc[scores["score"].idxmax()]
    assert odd["file"] == "07.png"
    assert odd["row"] < 18
    assert odd["column"] > 14


def test_a_folder_of_sounds_is_learned_and_scored(rng, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    pytest.importorskip("suffuse_audio")
    for name in ("hums", "new"):
        (tmp_path / name).mkdir()
        for i in range(12):
            hum = 0.1 * rng.normal(size=3000)
            if name == "new" and i == 5:
                hum[1000:2000] += np.sin(2 * np.pi * 1000 * np.arange(1000) / 8000)
            soundfile.write(tmp_path / name / f"{i:02}.wav", hum, 8000)
    (tmp_path / "hums" / "broken.wav").write_bytes(b"no sound")
    soundfile.write(tmp_path / "hums" / "other.wav", np.zeros(3000), 16000)
    told = said(f"anomaly fit {tmp_path}/hums --out {tmp_path}/m")
    assert "broken.wav" in told
    assert "other.wav has 16000 Hz, and most sounds have 8000 Hz" in told
    line = f"score {tmp_path}/new --model {tmp_path}/m -o {tmp_path}/s.csv --explain"
    said(f"{line} --report {tmp_path}/r.html")
    scores = pd.read_csv(tmp_path / "s.csv")
    odd = scores.loc[scores["score"].idxmax()]
    assert odd["file"] == "05.wav"
    assert 0.1 < odd["seconds"] < 0.3
    assert odd["alarm"] == 1
    assert "Hz" in (tmp_path / "r.html").read_text()


def test_a_model_of_the_domain_is_kept_and_judges(tmp_path):
    pytest.importorskip("suffuse_image")
    test = suffuse.load("image/digits").dataset("test")
    for name, places in (("usual", range(24)), ("new", range(24, 28))):
        (tmp_path / name).mkdir()
        for i in places:
            picture = test[i].data
            turned = picture.rotate(90) if i == 27 else picture
            turned.save(tmp_path / name / f"{i}.png")
    (tmp_path / "new" / "broken.png").write_bytes(b"no picture")
    line = f"anomaly fit {tmp_path}/usual --model image/digits --out {tmp_path}/m"
    assert "24 things in" in said(line)
    line = f"score {tmp_path}/new --model {tmp_path}/m -o {tmp_path}/s.csv"
    assert "left out" in said(f"{line} --explain --report {tmp_path}/r.html")
    scores = pd.read_csv(tmp_path / "s.csv")
    assert scores["file"][scores["score"].idxmax()] == "27.png"
    assert list(scores) == ["file", "score", "p_value", "alarm", "most unusual at", "adds"]
    assert "The most unusual things" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("anomaly fit --out {f}/m", "give DATA to learn from, or --model NAME"),
        ("anomaly fit {f} --model image/digits --series --out {f}/m", "--series is not for"),
        ("anomaly fit {f}/pulse.csv --out {f}/m --window 20", "--window is for --series"),
        ("anomaly fit {f} --series --out {f}/m", "is a folder, and --series is for one file"),
        ("anomaly fit {f}/pulse.csv --series --normal v=1 --out {f}/m", "--normal is not for"),
        ("anomaly fit {f}/new.csv --series --out {f}/m", "leave out what is none with --drop"),
        ("anomaly fit {f}/new.csv --series --drop z --out {f}/m", "has no column 'z'"),
        ("anomaly fit {f}/pulse.csv --series --window 1 --out {f}/m", "2 moments or more"),
        ("anomaly fit {f} --out {f}/m", "no installed plugin reads"),
    ],
)
def test_mistakes_are_told_in_a_sentence(line, words, pulse):
    if "no installed plugin" in words:
        for name in ("pulse", "new", "narrow"):
            (pulse / f"{name}.csv").rename(pulse / f"{name}.zzz")
    with pytest.raises(SuffuseError, match=words):
        said(line.format(f=pulse))


def test_a_series_without_its_channels_is_refused(pulse):
    said(f"anomaly fit {pulse}/pulse.csv --series --out {pulse}/m")
    with pytest.raises(SuffuseError, match="lacks channels that the model was fitted on: v"):
        said(f"score {pulse}/narrow.csv --model {pulse}/m -o {pulse}/s.csv")
