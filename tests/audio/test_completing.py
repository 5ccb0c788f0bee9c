"""Gaps, clipped peaks, missing bands; scores and words."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from suffuse.errors import SuffuseError
from suffuse_audio import completing, measures, playing
from suffuse_audio.sound import Sound

RATE = 8000


def _chord(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    x = sum(np.sin(2 * np.pi * 220 * k * t + k) / k for k in range(1, 8))
    return 0.3 * np.asarray(x)


def test_a_gap_in_tones_is_filled_exactly() -> None:
    x = _chord()
    holed = x.copy()
    holed[3000:3640] = 0
    made = completing.fill(Sound(holed, RATE), [(3000, 3640)]).samples[0]
    assert measures.si_sdr(made[3000:3640], x[3000:3640]) > 25
    outside = np.r_[0:3000, 3640:8000]
    assert (made[outside] == holed[outside].astype(np.float32)).all()


def test_unknown_samples_are_the_least_squares_answer(rng: np.random.Generator) -> None:
    x, z, a = rng.standard_normal(90), rng.standard_normal(96), np.r_[1, rng.uniform(-0.2, 0.2, 6)]
    at = np.flatnonzero(rng.random(90) < 0.6)
    made = x.copy()
    made[at] = completing._least(x, at, a, z)
    filters = np.stack([np.convolve(row, a) for row in np.eye(90)], 1)  # [96, 90]
    known = np.where(np.isin(np.arange(90), at), 0, x)
    wanted = np.linalg.lstsq(filters[:, at], z - filters @ known, rcond=None)[0]
    np.testing.assert_allclose(made[at], wanted, atol=1e-6)


def test_a_sound_that_is_nearly_all_clipped_is_done() -> None:
    """In a moment; dense systems took minutes."""
    x = 20 * _chord(0.3, 44100)
    sound = Sound(np.clip(x, -1, 1), 44100)
    assert completing.clipped(sound.samples[0])[0].mean() > 0.8
    assert np.isfinite(completing.declip(sound).samples).all()


def test_gaps_that_overlap_are_filled_as_one() -> None:
    sound = Sound(_chord(), RATE)
    one = completing.fill(sound, [(3000, 3300)], texture=0.5)
    two = completing.fill(sound, [(3100, 3300), (3000, 3200)], texture=0.5)
    assert (one.samples == two.samples).all()


def test_a_filled_gap_depends_on_its_seed_alone_and_texture_adds() -> None:
    x = np.random.default_rng(0).standard_normal(4000)
    sound, places = Sound(x, RATE), [(1000, 1500)]
    smooth, a, b = (
        completing.fill(sound, places, texture=t, seed=s) for t, s in ((0, 0), (1, 0), (1, 1))
    )
    again = completing.fill(sound, places, texture=1, seed=0)
    assert (a.samples == again.samples).all()
    assert np.abs(a.samples - b.samples).max() > 0.1
    spread = [k.samples[0, 1000:1500].std() for k in (smooth, a)]
    assert spread[0] < 0.5 < 0.8 < spread[1] < 1.3


@pytest.mark.parametrize(
    ("text", "says"),
    [("1.2", "START-STOP"), ("0.5-9", "inside"), ("0.6-0.5", "ends after"), ("0-1", "nothing")],
)
def test_gaps_that_are_none(text: str, says: str) -> None:
    with pytest.raises(SuffuseError, match=says):
        completing.gaps(text, Sound(np.zeros(RATE), RATE))


def test_two_gaps() -> None:
    assert completing.gaps("0.5-0.6, .1-.2", Sound(np.zeros(RATE), RATE)) == [
        (800, 1600),
        (4000, 4800),
    ]
    assert completing.gaps("0.1-0.8,0.2-0.9", Sound(np.zeros(RATE), RATE)) == [(800, 7200)]


def test_clipped_peaks_come_back() -> None:
    x = _chord()
    level = 0.75 * np.abs(x).max()
    sound = Sound(np.clip(x, -level, level), RATE)
    made = completing.declip(sound).samples[0]
    gain = measures.si_sdr(made, x) - measures.si_sdr(sound.samples[0], x)
    assert gain > 3
    known = np.abs(x) < 0.99 * level
    ratio = made[known] / sound.samples[0][known]
    assert np.ptp(ratio[np.abs(x[known]) > 0.01]) < 1e-3  # one factor for all


@pytest.mark.parametrize("x", [np.zeros(500), np.ones(1), np.ones(500)])
def test_declipping_what_is_nothing(x: np.ndarray) -> None:
    assert np.isfinite(completing.declip(Sound(x, RATE)).samples).all()


@pytest.mark.parametrize(("rate", "to"), [(4000, 8000), (4000, 11025), (8000, 8007)])
def test_a_wider_band_keeps_all_of_the_low_one(
    rate: int, to: int, rng: np.random.Generator
) -> None:
    """White noise has as much just below half the rate as anywhere."""
    sound = Sound(
        rng.standard_normal((2, 2 * rate)).astype(np.float32) * np.hanning(2 * rate), rate
    )
    made = completing.extend(sound, to)
    assert made.samples.shape == (2, 2 * to)
    known = np.fft.rfft(sound.samples)[:, :-1]
    spectra = np.fft.rfft(made.samples) * rate / to
    away = np.linalg.norm(spectra[:, :rate] - known) / np.linalg.norm(known)
    assert 20 * np.log10(away) < -60
    high = np.abs(spectra[:, rate + 1 :]).mean()
    assert high > 0.05 * np.abs(known).mean()
    with pytest.raises(SuffuseError, match="above"):
        completing.extend(sound, rate)


def _midi(notes: list[tuple[int, int, int]]) -> bytes:
    """A file with notes (ticks of rest before, MIDI number, ticks long), 96 a beat."""
    body = b"\x00\xff\x51\x03" + (250_000).to_bytes(3, "big")
    for wait, number, length in notes:
        body += bytes([wait, 0x90, number, 64, length, number, 0])  # running status, velocity 0
    body += b"\x00\xff\x2f\x00"
    head = b"MThd" + struct.pack(">IHHH", 6, 0, 1, 96)
    return head + b"MTrk" + struct.pack(">I", len(body)) + body


def test_a_midi_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mid"
    path.write_bytes(_midi([(0, 60, 96), (48, 64, 24)]))
    notes = playing.midi_file(path)
    assert [(n.start, n.seconds, n.number) for n in notes] == [
        (0.0, 0.25, 60),
        (0.375, 0.0625, 64),
    ]
    path.write_bytes(_midi([(0, 60, 96)])[:30])
    with pytest.raises(SuffuseError, match=r"a\.mid"):
        playing.midi_file(path)


@pytest.mark.parametrize("text", ["", "H2", "C4:0", "C4:x", "-:1"])
def test_scores_that_are_none(text: str) -> None:
    with pytest.raises(SuffuseError):
        playing.score(text)


def test_words_that_a_model_of_digits_does_not_know_are_named() -> None:
    with pytest.raises(SuffuseError, match="no word of this model 'eleven'"):
        playing.words("seven eleven")


def test_without_a_name_the_result_lies_beside_the_source(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from suffuse_audio import files
    from suffuse_audio.commands import audio

    files.write(tmp_path / "a.wav", Sound(_chord(), RATE))
    for words, made in (
        (["fill", "--gap", "0.3-0.35"], "a-filled.wav"),
        (["extend", "--rate", "16000"], "a-wide.wav"),
        (["declip"], "a-round.wav"),
    ):
        result = CliRunner().invoke(audio, [words[0], str(tmp_path / "a.wav"), *words[1:]])
        assert result.exit_code == 0, result.output
        assert (tmp_path / made).is_file()


def test_extending_by_a_model_has_the_rate_of_the_model(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from suffuse_audio import files
    from suffuse_audio.commands import audio

    path = str(tmp_path / "a.wav")
    files.write(tmp_path / "a.wav", Sound(_chord(), RATE))
    asked = ["extend", path, "--model", "audio/digits", "--rate", "9000"]
    result = CliRunner().invoke(audio, asked)
    assert isinstance(result.exception, SuffuseError)
    assert "makes sounds of 8000 Hz, and --rate asks for 9000" in str(result.exception)
    result = CliRunner().invoke(audio, ["extend", path])
    assert "needs --rate, or a --model" in str(result.exception)
