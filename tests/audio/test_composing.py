"""Sentences and melodies out of single samples, and edits of sounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition
from suffuse_audio import edits, playing
from suffuse_audio.composing import Composed, composed
from suffuse_audio.corpora import NAMES
from suffuse_audio.sound import Sound
from suffuse_audio.spectra import Spectra


class Digits:
    """A model of digits whose sample is a tone: 100 Hz times the digit and one, by the speaker."""

    recipe, renderer, path = "recipe", "renderer", "path"
    conditions: Mapping[str, Condition] = {
        "digit": Condition("category", NAMES),
        "speaker": Condition("category", ("ann", "bob")),
    }

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def sample(self, n: int, **given: Any) -> list[Sound]:
        self.calls.append({"n": n, **given})
        t = np.arange(2000) / 8000
        return [
            Sound(np.sin(2 * np.pi * 100 * (NAMES.index(digit) + 1) * t), 8000)
            for digit in given["digit"]
        ]


def test_a_sentence_is_its_digits_in_order() -> None:
    model = Digits()
    (sound,) = composed(model, ["text"]).sample(1, seed=3, text="two 1", speaker="bob")
    found = []
    for part in (sound.samples[0][:2000], sound.samples[0][-2500:-500]):
        found.append(int(np.abs(np.fft.rfft(part, 8000)).argmax()))
    assert [round(f / 100) for f in found] == [3, 2]
    assert model.calls[0] | {"batch": 0} == {
        "n": 2, "seed": 3, "first": 0, "batch": 0, "digit": ["two", "one"], "speaker": "bob"
    }  # fmt: skip


def test_whole_i_is_the_same_alone_and_among_others() -> None:
    model = Digits()
    whole = Composed(model, "text")
    whole.sample(3, seed=5, text=["one", "two", "three"])
    whole.sample(1, seed=5, first=2, text=["three"])
    assert model.calls[2] == model.calls[3]
    assert len({call["first"] for call in model.calls}) == 3
    assert {call["speaker"] for call in model.calls} <= {"ann", "bob"}


def test_the_model_itself_answers_where_no_whole_is_asked_for() -> None:
    model = Digits()
    assert composed(model, ["digit", "speaker"]) is model
    assert composed(model, ["melody"]) is model  # no condition "pitch"
    with pytest.raises(SuffuseError, match="--text is empty"):
        Composed(model, "text").sample(1, speaker="ann")
    with pytest.raises(SuffuseError, match="did you mean 'seven'"):
        Composed(model, "text").sample(1, text="sevn")


class Echo:
    """A model of frames that restores by copying what it is shown, and noise elsewhere."""

    def __init__(self) -> None:
        self.encoder = Spectra(rate=8000, seconds=0.5, window=256, hop=64, components=40)
        t = np.arange(4000) / 8000
        tones = [Sound(np.sin(2 * np.pi * f * t), 8000) for f in (200, 500, 900, 1500)]
        self.encoder.fit(_Few(tones))
        self.device = torch.device("cpu")
        self.conditions: Mapping[str, Condition] = {}
        self.seen: list[Any] = []

    def restore(self, seen: Any, n: int, **settings: Any) -> list[Sound]:
        self.seen.append(seen)
        filled = torch.where(seen.y == 0, seen.y[..., :1], seen.y)
        return self.encoder.decode(filled)


class _Few:
    def __init__(self, sounds: Sequence[Sound]) -> None:
        self.sounds = sounds
        self.conditions: Mapping[str, Condition] = {}

    def __len__(self) -> int:
        return len(self.sounds)

    def __getitem__(self, i: int) -> Any:
        from suffuse.plugins.contracts import Example

        return Example(self.sounds[i], {})


def test_continuing_keeps_the_sound_and_adds_the_length() -> None:
    model = Echo()
    t = np.arange(3000) / 8000
    sound = Sound(0.5 * np.sin(2 * np.pi * 500 * t), 8000)
    (made,) = edits.Continue(model, seconds=0.7)([sound])
    assert len(made) == 3000 + 5600
    assert (made.samples[0][:2800] == sound.samples[0][:2800]).all()
    assert 0.1 < made.samples[0][4000:].std() < 1
    assert len(model.seen) > 1
    assert bool((model.seen[0].y[..., -20:] == 0).all())  # nothing is known of what comes


def test_edits_say_what_they_need() -> None:
    model = Echo()
    sound = Sound(np.zeros(9000), 8000)
    with pytest.raises(SuffuseError, match=r"last 0\.5 s, and this one 1\.12 s"):
        edits.Vary(model)([sound])
    with pytest.raises(SuffuseError, match="two sounds, and 1 are given"):
        edits.Interpolate(model)([sound])
    with pytest.raises(SuffuseError, match="needs a condition"):
        edits.Transfer(model)([sound])
    with pytest.raises(SuffuseError, match="share from"):
        edits.Continue(model, share=1.0)


@pytest.mark.parametrize("text", ["", " ", None])
def test_an_empty_text_is_told_with_an_example(text: Any) -> None:
    with pytest.raises(SuffuseError, match="--text is empty: give for instance 'seven three one'"):
        Composed(Digits(), "text").sample(1, text=text)


def test_notes_that_the_model_cannot_hold_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    model = SimpleNamespace(
        conditions={"pitch": Condition("category", ("C4", "E4"))},
        sample=lambda n, **given: [Sound(np.ones(8000), 8000)] * n,
    )
    sound = playing.play(model, playing.score("C4 E4:4", 120))
    assert sound.seconds == pytest.approx(1.55, abs=0.01)
    assert "1 of 2 notes are to last longer than the 1 s" in caplog.text
    caplog.clear()
    playing.play(model, playing.score("C4 E4:2", 120))
    assert not caplog.text


def test_a_melody_is_a_file_or_a_text() -> None:
    assert [note.number for note in playing.melody("A4 C5", 60)] == [69, 72]
    with pytest.raises(SuffuseError, match=r"cannot read no\.mid"):
        playing.melody("no.mid")
