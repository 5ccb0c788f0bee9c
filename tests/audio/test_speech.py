"""Figures of enhanced speech and of words, on sounds whose answers are known."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np
import pytest

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Example
from suffuse_audio import measures, speech, words
from suffuse_audio.enhance import classical
from suffuse_audio.sound import Sound


class _Mixtures:
    """Eight tones of a second in noise, 12 dB below them."""

    conditions: Mapping[str, Condition] = {"noisy": Condition("state")}

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        t = np.arange(8000) / 8000
        self.clean = [Sound(0.2 * np.sin(2 * np.pi * (200 + 50 * i) * t), 8000) for i in range(8)]
        self.noisy = [
            Sound(c.samples + 0.035 * random.standard_normal((1, 8000)).astype(np.float32), 8000)
            for c in self.clean
        ]

    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> Example:
        return Example(self.clean[i], {"noisy": self.noisy[i]})


@pytest.fixture
def test(seed: int) -> _Mixtures:
    return _Mixtures(seed)


def _found(made: list[Sound], test: _Mixtures, order: list[int]) -> dict[str, speech.Metric]:
    samples = [Example(made[i], {"noisy": test.noisy[i]}) for i in order]
    metrics = speech.SpeechQuality().evaluate(samples, test=test, train=test, seed=0)
    return {m.name: m for m in metrics}


def test_each_sample_meets_its_own_original(test: _Mixtures) -> None:
    found = _found(test.noisy, test, [7, 2, 5, 0, 1, 4])
    wanted = []
    for group in ([0, 1, 2], [4, 5, 7]):
        noisy, clean = (
            np.concatenate([k[i].samples[0] for i in group]) for k in (test.noisy, test.clean)
        )
        wanted.append(measures.si_sdr(noisy, clean))
    assert found["SI-SDR"].n == 2
    assert found["SI-SDR"].value == pytest.approx(np.mean(wanted), abs=1e-6)
    assert _found(test.noisy, test, [0, 1, 2, 4, 5, 7]) == found


def test_the_classical_gain_is_nothing_ahead_of_itself(test: _Mixtures) -> None:
    made = [classical(Sound(np.concatenate([n.samples[0] for n in test.noisy[:3]]), 8000))]
    parts = [Sound(part, 8000) for part in np.split(made[0].samples[0], 3)]
    found = _found(parts, test, [0, 1, 2])
    assert found["SI-SDR, less that of log-MMSE"].value == pytest.approx(0, abs=1e-3)


def test_what_cannot_be_measured_is_counted(
    test: _Mixtures, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = [Sound(0 * s.samples, 8000) if i < 3 else s for i, s in enumerate(test.noisy)]
    found = _found(silent, test, [0, 1, 2, 3, 4, 5])["SI-SDR"]
    assert found.n == 1
    assert found.note == "1 of 2 could not be measured."
    nothing = speech.mean("x", [float("nan")], "higher")
    assert nothing.n == 0
    assert np.isnan(nothing.value)


def test_without_the_extra_the_other_figures_stand(
    test: _Mixtures, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pesq", None)
    monkeypatch.setitem(sys.modules, "pystoi", None)
    found = _found(test.clean, test, [0, 1, 2])
    assert "PESQ" not in found
    assert found["log-spectral distance"].value == pytest.approx(0, abs=1e-3)
    assert "suffuse-audio[evaluation]" in caplog.text


def test_stoi_of_a_sound_that_is_nearly_all_silence_is_no_figure(rng: np.random.Generator) -> None:
    pytest.importorskip("pystoi")
    x = np.zeros(24000, np.float32)
    x[9000:10600] = 0.1 * rng.standard_normal(1600)
    assert np.isnan(measures.stoi(x, x, 8000))
    assert np.isnan(measures.estoi(x, x, 8000))
    x[4000:20000] += 0.1 * rng.standard_normal(16000).astype(np.float32)
    assert measures.stoi(x, x, 8000) == pytest.approx(1, abs=1e-3)


def test_sounds_without_an_original_are_refused(test: _Mixtures) -> None:
    with pytest.raises(SuffuseError, match="not made from a mixture of the test split"):
        speech.SpeechQuality().evaluate(
            [Example(test.clean[0], {"noisy": test.clean[0]})], test=test, train=test, seed=0
        )


def test_dnsmos_is_for_16_khz_alone() -> None:
    with pytest.raises(SuffuseError, match="16000 Hz alone, and the sound has 8000"):
        measures.dnsmos(np.zeros(8000, np.float32), 8000)
    assert np.isnan(measures.dnsmos(np.zeros(100, np.float32), 16000))


@pytest.mark.parametrize(
    ("said", "wanted", "n"),
    [("", "", 0), ("", "a b", 2), ("a b c", "a c", 1), ("a b", "b a", 2), ("x b", "a b c", 2)],
)
def test_edits(said: str, wanted: str, n: int) -> None:
    assert words.edits(said.split(), wanted.split()) == n
    assert words.edits(wanted.split(), said.split()) == n


def test_words_by_a_recogniser_that_is_known(
    test: _Mixtures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "heard", lambda sound, known, count: ["one"])
    samples = [Example(test.clean[0], {"digit": k}) for k in ("1", "one", "two", "1 2")]
    found = words.WordError().evaluate(samples, test=test, train=test, seed=0)[0]
    assert found.value == pytest.approx(100 * 2 / 5)
    assert found.floor is None
    with pytest.raises(SuffuseError, match="no sample was made for words"):
        words.WordError().evaluate([test[0]], test=test, train=test, seed=0)


def test_a_missing_recogniser_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    words._decoder.cache_clear()
    with pytest.raises(SuffuseError, match=r"suffuse-audio\[recogniser\]"):
        words.heard(Sound(np.zeros(8000), 8000), ["one"], 1)


def test_a_recogniser_is_asked_for_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pocketsphinx")
    words._decoder.cache_clear()
    with pytest.raises(SuffuseError, match="does not know the word 'qqzzx'"):
        words.heard(Sound(np.zeros(8000), 8000), ["qqzzx"], 1)
    assert words.heard(Sound(np.zeros(8000), 8000), ["one", "two"], 2) == []
