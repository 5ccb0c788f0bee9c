"""Files in and out, and what is refused."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from suffuse.errors import SuffuseError
from suffuse.report.samples import write_samples
from suffuse_audio import files
from suffuse_audio.files import Files, Form
from suffuse_audio.folder import Folder
from suffuse_audio.pictures import spectrogram
from suffuse_audio.sound import Sound, resample


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff"])
def test_sixteen_bits_come_back(noise: Sound, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Files().write(noise, path, {})
    again = Files().read(path)
    assert again.rate == noise.rate
    assert np.abs(again.samples - noise.samples).max() <= 1 / 32768


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT", "DOUBLE"])
def test_the_kind_of_samples_is_known_and_kept(noise: Sound, tmp_path: Path, subtype: str) -> None:
    first, second = tmp_path / "a.wav", tmp_path / "b.wav"
    files.write(first, noise, Form("WAV", subtype))
    sound, form = files.read_with_form(first)
    files.write(second, sound, files.form_for(second, form))
    assert soundfile.info(second).subtype == subtype
    assert (files.read(second).samples == sound.samples).all()


@pytest.mark.parametrize("suffix", [".ogg", ".mp3", ".opus"])
def test_lossy_formats_are_written_and_read(tmp_path: Path, suffix: str) -> None:
    t = np.arange(24000) / 24000
    tone = Sound(0.5 * np.sin(2 * np.pi * 440 * t), 24000)
    Files().write(tone, tmp_path / f"a{suffix}", {})
    again = Files().read(tmp_path / f"a{suffix}")
    spectrum = np.abs(np.fft.rfft(again.samples[0][:24000]))
    assert abs(int(spectrum.argmax()) - 440) <= 1


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_metadata_of_any_length_come_back(noise: Sound, tmp_path: Path, suffix: str) -> None:
    text = {"suffuse": '{"seed": 3, "umlaut": "ä"}', "long": "x" * 5001}
    path = tmp_path / f"a{suffix}"
    Files().write(noise, path, text)
    assert Files().metadata(path) == text
    assert Files().read(path).samples.shape == noise.samples.shape


def test_six_channels_and_a_high_rate(tmp_path: Path) -> None:
    sound = Sound(np.eye(6, 960, dtype=np.float32), 96000)
    files.write(tmp_path / "a.wav", sound, Form("WAV", "FLOAT"))
    assert (files.read(tmp_path / "a.wav").samples == sound.samples).all()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("text.wav", b"this is no sound at all", "no sound that can be read"),
        ("empty.wav", b"", "empty"),
        ("broken.mp3", b"\xff\xfb\x90" + b"\0" * 20, "text"),
    ],
)
def test_what_is_no_sound_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SuffuseError) as caught:
        files.read(path)
    assert name in str(caught.value)
    assert says in str(caught.value) or says == "text"


def test_no_samples_nan_and_a_missing_file(tmp_path: Path) -> None:
    files.write(tmp_path / "none.wav", Sound(np.zeros((1, 0)), 8000))
    files.write(tmp_path / "nan.wav", Sound(np.array([0, np.nan]), 8000), Form("WAV", "FLOAT"))
    for name, says in (("none.wav", "length is zero"), ("nan.wav", "NaN"), ("x.wav", "no file")):
        with pytest.raises(SuffuseError, match=says):
            files.read(tmp_path / name)


def test_opus_says_which_rates_it_has(noise: Sound, tmp_path: Path) -> None:
    with pytest.raises(SuffuseError, match=r"8000, 12000.* 44100|Opus"):
        Files().write(Sound(noise.samples, 44100), tmp_path / "a.opus", {})


def test_resampling_keeps_a_tone() -> None:
    t = np.arange(44100) / 44100
    out = resample(np.sin(2 * np.pi * 1000 * t), 44100, 16000)
    assert len(out) == 16000
    wanted = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    assert np.abs(out - wanted)[200:-200].max() < 2e-3


@pytest.mark.parametrize(("rate", "to"), [(4000, 4001), (44099, 8000)])
def test_rates_without_a_common_divisor(rate: int, to: int) -> None:
    x = np.sin(2 * np.pi * 500 * np.arange(rate + 7) / rate)
    out = resample(np.stack([x, 0 * x]), rate, to)
    assert out.shape == (2, -(-len(x) * to // rate))
    wanted = np.sin(2 * np.pi * 500 * np.arange(out.shape[1]) / to)
    assert np.abs(out[0] - wanted)[400:-400].max() < 5e-3
    assert not out[1].any()


def test_an_error_while_a_file_is_written_is_its_own(noise: Sound, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"

    def written(form: Form, samples: Any) -> None:
        with files.writing(path, 8000, 1, form) as write:
            write(samples)
            raise RuntimeError("nothing to do with the file")

    with pytest.raises(RuntimeError, match="nothing to do with the file"):
        written(Form(), noise.samples[:1])
    for form in (Form(), Form("FLAC", "FLOAT")):  # two channels; no such form
        with pytest.raises(SuffuseError, match=r"cannot write .*a\.wav"):
            written(form, noise.samples)
    assert not path.exists()


def test_a_long_file_is_several_examples(tmp_path: Path) -> None:
    for name, seconds in (("long", 5.0), ("just", 2.1), ("short", 0.5)):
        files.write(tmp_path / f"{name}.wav", Sound(np.arange(seconds * 100) / 500, 100))
    found = Folder("train", str(tmp_path), 0.0)
    told = [(name, start, found[i].data.seconds) for i, (name, start) in enumerate(found.parts)]
    assert told == [
        ("just.wav", 0, 2.1),
        ("long.wav", 0, 5.0),
        ("long.wav", 1.5, 3.5),
        ("long.wav", 3.0, 2.0),
        ("short.wav", 0, 0.5),
    ]
    assert found[3].data.samples[0, 0] == pytest.approx(300 / 500, abs=1e-4)


def test_a_sheet_is_one_picture(noise: Sound) -> None:
    png = Files().sheet([noise, noise, noise], ["a", "b", "c"], columns=2)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"


def test_an_mp3_that_is_cut_off_is_read_as_far_as_it_goes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    t = np.arange(80000) / 8000
    files.write(tmp_path / "a.mp3", Sound(0.3 * np.sin(2 * np.pi * 440 * t), 8000))
    data = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "b.mp3").write_bytes(data[: len(data) // 2])
    sound = files.read(tmp_path / "b.mp3")
    assert 2 < sound.seconds < 8
    assert "b.mp3 ends too early" in caplog.text
    assert "of 10.00 s" in caplog.text
    (tmp_path / "c.mp3").write_bytes(data[:50])
    with pytest.raises(SuffuseError, match=r"c\.mp3 is no sound that can be read \(no sound"):
        files.read(tmp_path / "c.mp3")


def test_sounds_on_a_page_of_samples_can_be_heard(noise: Sound, tmp_path: Path) -> None:
    record = {"model": "a", "seed": 0, "index": 0, "settings": {}, "conditions": {}}
    page = tmp_path / "page.html"
    write_samples([noise], [record], ["<rain>"], Files(), page)
    found = re.search(r'<audio controls[^>]*src="data:audio/wav;base64,([^"]*)"', page.read_text())
    assert found
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(found[1])), dtype="float32")
    assert rate == noise.rate
    assert np.abs(heard.T - noise.samples).max() <= 1 / 32768
    assert "<figcaption>&lt;rain&gt;" in page.read_text()


def test_a_folder_to_train_on_is_rid_of_what_cannot_be_read(
    noise: Sound, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.wav", "low/b.flac", "low/c.flac"):
        files.write(tmp_path / name, noise)
    cut = tmp_path / "low" / "c.flac"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    nan = noise.samples.copy()
    nan[0, 9000] = np.nan
    files.write(tmp_path / "nan.wav", Sound(nan, noise.rate), Form("WAV", "FLOAT"))
    (tmp_path / "text.wav").write_text("no sound")
    files.write(tmp_path / "none.wav", Sound(noise.samples[:, :0], noise.rate))
    kept = Folder("train", str(tmp_path), 0.0)
    assert [kept[i].conditions["label"] for i in range(len(kept))] == [None, "low"]
    for said in ("c.flac is damaged", "nan.wav holds samples that", "text.wav is no", "none.wav"):
        assert said in caplog.text
    cut.unlink()
    files.write(cut, noise)
    assert len(Folder("train", str(tmp_path), 0.0)) == 3


def test_silence_is_drawn_black_and_the_loudest_bright(noise: Sound) -> None:
    assert np.asarray(spectrogram(Sound(np.zeros(9000), 8000))).max() < 40
    assert np.asarray(spectrogram(Sound(np.zeros(9000), 8000), top=-100.0)).max() < 40
    assert np.asarray(spectrogram(noise)).max() > 200
