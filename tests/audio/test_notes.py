"""Synthesised notes have the pitches that their labels say."""

from __future__ import annotations

import numpy as np
import pytest

from suffuse.errors import SuffuseError
from suffuse_audio import pitch, synthesis
from suffuse_audio.notes import Notes
from suffuse_audio.sound import Sound


@pytest.mark.parametrize("instrument", synthesis.INSTRUMENTS)
@pytest.mark.parametrize("number", [48, 61, 83])
def test_pitch_is_exact_to_a_cent(seed: int, instrument: str, number: int) -> None:
    f0 = synthesis.frequency(number)
    x = synthesis.note(instrument, f0, 1.0, 16000, np.random.default_rng(seed))
    sound = Sound(x, 16000)
    assert abs(pitch.cents(pitch.fundamental(sound), f0)) < 1
    assert pitch.inharmonic(sound, f0) < -15


@pytest.mark.parametrize("f0", [131.0, 333.3, 987.7])
def test_harmonics_leak_into_nothing(f0: float) -> None:
    """Energy between partials is told down to -80 dB, however strong these are."""
    t = np.arange(16000) / 16000
    x = sum(np.sin(2 * np.pi * k * f0 * t + k) / k for k in range(1, int(8000 / f0)))
    assert pitch.inharmonic(Sound(x, 16000), f0) < -85
    between = 1e-4 * np.sin(2 * np.pi * 2.5 * f0 * t)
    assert pitch.inharmonic(Sound(x + between, 16000), f0) == pytest.approx(-82, abs=1.5)


def test_names_and_numbers_of_notes() -> None:
    assert [synthesis.name(synthesis.midi(n)) for n in synthesis.PITCHES] == [*synthesis.PITCHES]
    assert synthesis.frequency(synthesis.midi("A4")) == 440
    with pytest.raises(SuffuseError, match="H9"):
        synthesis.midi("H9")


def test_splits_differ_and_examples_repeat() -> None:
    train, test = Notes("train"), Notes("test")
    assert (train[7].data.samples == train[7].data.samples).all()
    assert train[7].conditions == test[7].conditions
    assert np.abs(train[7].data.samples - test[7].data.samples).max() > 1e-3
    assert len({tuple(sorted(test[i].conditions.items())) for i in range(len(test))}) == 216


@pytest.mark.parametrize("samples", [np.zeros(8000), np.ones(10)])
def test_no_pitch_where_there_is_none(samples: np.ndarray) -> None:
    assert np.isnan(pitch.fundamental(Sound(samples, 8000)))
