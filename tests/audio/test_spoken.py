"""Words said by eSpeak NG: the data set, by an engine that is made up, and by the real one."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import suffuse
from suffuse.cli import cli
from suffuse.errors import SuffuseError
from suffuse_audio import espeak, files, spoken
from suffuse_audio.composing import composed
from suffuse_audio.espeak import Utterance
from suffuse_audio.sound import Floats

RATE = 22050


def tones(utterances: Sequence[Utterance]) -> tuple[list[Floats], int]:
    """A tone for each utterance, as high as its pitch, and silent where its text says so."""
    t = np.arange(RATE // 2) / RATE
    return [
        np.sin(2 * np.pi * 10 * u.pitch * t).astype(np.float32) * (u.text != "hush")
        for u in utterances
    ], RATE


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    spoken._said.cache_clear()
    monkeypatch.setattr(spoken, "spoken", tones)


@pytest.mark.usefixtures("engine")
def test_the_splits_say_every_word_by_every_voice_in_manners_of_their_own() -> None:
    words, voices = ("tea", "cake"), ("f2", "m1")
    train = spoken.Spoken(words=words, voices=voices, takes=5, rate=16000)
    test = spoken.Spoken("test", words=words, voices=voices, takes=5, rate=16000)
    assert (len(train), len(test)) == (20, 8)
    for split, takes in ((train, 5), (test, 2)):
        said = [tuple(split[i].conditions.values()) for i in range(len(split))]
        assert sorted(said) == sorted((w, v) for w in words for v in voices for _ in range(takes))
    manners = {k: spoken._manner(0, 0, k) for k in range(7)}
    assert len(set(manners.values())) == 7
    sound = train[-1].data
    assert (sound.rate, sound.channels) == (16000, 1)
    assert np.sqrt(np.mean(sound.mono**2)) == pytest.approx(0.1, rel=1e-3)


@pytest.mark.usefixtures("engine")
def test_a_take_does_not_change_with_how_many_there_are() -> None:
    few, many = (spoken.Spoken(words=["tea"], voices=["f2"], takes=n) for n in (2, 4))
    assert [np.array_equal(few[i].data.samples, many[i].data.samples) for i in (0, 1)] == [True] * 2


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"words": ["tea time"]}, "given 'tea time'"),
        ({"words": ["hush"]}, "says 'hush' without a sound"),
        ({"takes": 0}, "takes is at least 1"),
        ({"voices": []}, "0 voices"),
    ],
)
def test_what_cannot_be_said_is_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(SuffuseError, match=told):
        spoken.Spoken(**options)


class Words:
    """A model of words that remembers what it was asked for."""

    def __init__(self, data: spoken.Spoken) -> None:
        self.data, self.conditions, self.asked = data, data.conditions, []
        self.recipe = self.renderer = self.path = None

    def sample(self, n: int, *, word: Sequence[str], voice: str, **_: Any) -> list[Any]:
        self.asked.append((list(word), voice))
        return [self.data[0].data] * n


@pytest.mark.usefixtures("engine")
def test_a_model_of_words_says_sentences() -> None:
    model: Any = Words(spoken.Spoken(words=["the", "tea", "is", "hot", "one"], voices=["f2"]))
    whole = composed(model, ["text", "voice"])
    made = whole.sample(1, text="The tea is 1!", voice="f2")
    assert model.asked == [(["the", "tea", "is", "one"], "f2")]
    assert made[0].seconds == pytest.approx(4 * (0.5 + 0.06), abs=0.1)
    with pytest.raises(SuffuseError, match="no word of this model 'cold'"):
        whole.sample(1, text="the tea is cold", voice="f2")


@pytest.mark.skipif(find_spec("espeakng_loader") is not None, reason="eSpeak NG is there")
def test_without_the_engine_the_extra_is_named() -> None:
    with pytest.raises(SuffuseError, match=r"suffuse-audio\[espeak\]"):
        espeak.spoken([Utterance("tea", "en-us+f2", 150, 50)])


def test_the_engine_says_the_same_each_time_and_tells_of_an_unknown_voice() -> None:
    pytest.importorskip("espeakng_loader")
    asked = [Utterance(text, "en-us+f2", 150, 50) for text in ("tea", "yesterday", "tea")]
    first, rate = espeak.spoken(asked)
    again, _ = espeak.spoken(asked)
    assert rate == RATE
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(first[1]) > 1.5 * len(first[0]) > 0
    for voice in ("en-us+nobody", "qq"):
        with pytest.raises(SuffuseError, match="no voice"):
            espeak.spoken([Utterance("tea", voice, 150, 50)])


def test_the_shipped_model_speaks_by_the_voice_that_is_asked_for() -> None:
    model = suffuse.load("audio/spoken")

    def low(voice: str) -> list[float]:
        """The share of the power below 150 Hz, where a deep voice has its fundamental."""
        shares = []
        for sound in model.sample(6, seed=0, steps=8, word=["door", "blue"], voice=voice):
            power = np.abs(np.fft.rfft(sound.mono)) ** 2
            shares.append(power[: round(150 * len(sound) / sound.rate)].sum() / power.sum())
        return shares

    assert max(low("f4")) < min(low("m3"))


def test_the_command_says_a_sentence(tmp_path: Path) -> None:
    out = tmp_path / "said.wav"
    words = ["sample", "audio/spoken", "--steps", "2", "--voice", "f2", "-o", str(out), "--text"]
    done = CliRunner().invoke(cli, [*words, "hello, the door is open"], catch_exceptions=False)
    assert done.exit_code == 0
    assert 1.0 < files.read(out).seconds < 5 * 0.9
