"""Tempo and key are read from waveforms of which both are known."""

from __future__ import annotations

import numpy as np
import pytest

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Example
from suffuse_audio import music
from suffuse_audio.scenes import Scenes
from suffuse_audio.sound import Sound
from suffuse_audio.synthesis import frequency

RATE = 16000
HELD_OUT = Scenes("test", count=400)


def _tones(numbers: list[int], seconds: float) -> Sound:
    """Decaying sines, one after the other."""
    t = np.arange(round(seconds * RATE)) / RATE
    notes = [np.sin(2 * np.pi * frequency(k) * t) * np.exp(-t / 0.1) for k in numbers]
    return Sound(0.5 * np.concatenate(notes).astype(np.float32), RATE)


@pytest.mark.parametrize("seconds", [0.25, 0.4, 0.8])
def test_onsets_are_where_notes_begin(seconds: float) -> None:
    found = music.onsets(_tones([60, 64, 67, 65, 62], seconds))
    assert found == pytest.approx(seconds * np.arange(5), abs=0.03)
    assert music.interval(_tones([60, 64, 67], seconds)) == pytest.approx(seconds, abs=0.02)


def test_silence_has_no_onset_and_no_pitch() -> None:
    silence = Sound(np.zeros(RATE, np.float32), RATE)
    assert len(music.onsets(silence)) == 0
    assert np.isnan(music.interval(silence))
    assert music.pitch_classes(silence).sum() == 0


def test_pitch_classes_are_those_that_sound() -> None:
    classes = music.pitch_classes(_tones([57, 60, 76], 0.6))  # A, C, E
    assert set(np.argsort(classes)[-3:]) == {9, 0, 4}
    assert classes.sum() == pytest.approx(1)
    assert sum(classes[[9, 0, 4]]) > 0.95


def test_a_scale_fits_its_own_key_alone() -> None:
    d_minor = _tones([62, 64, 65, 67, 69, 70, 72], 0.4)
    assert music.fits(d_minor, "D minor") > 0.98
    assert music.keyed(d_minor, "a melody in D minor") is True
    assert music.keyed(d_minor, "a melody in G major") is False
    assert music.keyed(d_minor, "a loop in D minor") is None
    assert music.keyed(d_minor, "a melody") is None


@pytest.mark.parametrize(
    ("prompt", "right"),
    [
        ("a slow melody", True),
        ("a fast melody", False),
        ("fast chords", True),
        ("slow chords", False),
        ("a slow drum beat", None),
        ("a melody", None),
    ],
)
def test_a_tempo_is_what_captions_mean_by_it(prompt: str, right: bool | None) -> None:
    assert music.timely(_tones([60, 64, 67, 60], 0.8), prompt) is right  # 75 beats a minute


def test_real_music_is_as_its_captions_say_and_shuffled_captions_are_not() -> None:
    real = [HELD_OUT[i] for i in range(40)]
    prompts = [str(e.conditions["prompt"]) for e in real]
    swap = {"slow": "fast", "fast": "slow"}
    wrong = [" ".join(swap.get(word, word) for word in prompt.split()) for prompt in prompts]
    shares = []
    for texts in (prompts, wrong):
        samples = [Example(e.data, {"prompt": p}) for e, p in zip(real, texts, strict=True)]
        found = music.Music().evaluate(samples, test=HELD_OUT, train=HELD_OUT, seed=0)
        shares.append([metric.value for metric in found])
        assert found[0].floor is not None
        assert found[0].floor > 95
    assert shares[0][0] > 95
    assert shares[0][1] > 75
    assert shares[1][0] < 5


def test_the_note_says_what_chance_would_have() -> None:
    """Two of three sounds are in the scale of A minor and C major, which are one."""
    a_minor, d_minor = _tones([57, 59, 60, 62, 64, 65, 67], 0.4), _tones([62, 64, 65, 69, 70], 0.4)
    samples = [
        Example(sound, {"prompt": f"a melody in {key}"})
        for sound, key in ((a_minor, "A minor"), (a_minor, "C major"), (d_minor, "D minor"))
    ]
    assert music._chance(samples, music.keyed, music.KEYS) == pytest.approx((2 + 2 + 1) / 9)
    (found,) = music.Music().evaluate(samples, test=samples, train=samples, seed=0)  # type: ignore[arg-type]
    assert found.value == 100
    assert "By chance 56 %, of real ones 56 %" in found.note


def test_samples_without_tempo_and_key_are_refused() -> None:
    rain = [Example(_tones([60], 0.4), {"prompt": "rain"})]
    with pytest.raises(SuffuseError, match="tempo or a key"):
        music.Music().evaluate(rain, test=HELD_OUT, train=HELD_OUT, seed=0)
