"""Captioned scenes are what their captions say."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

import numpy as np
import pytest

import suffuse
from suffuse.errors import SuffuseError
from suffuse_audio import music, pitch
from suffuse_audio.arranging import KEYS, TEMPOS
from suffuse_audio.scenes import WORDS, Scenes
from suffuse_audio.sound import Sound

SCENES = Scenes("train", count=400)
HELD_OUT = Scenes("test", count=2000)
scene = lru_cache(maxsize=None)(SCENES.__getitem__)


def test_scenes_repeat_and_splits_differ() -> None:
    assert (SCENES[5].data.samples == SCENES[5].data.samples).all()
    assert np.abs(SCENES[5].data.samples - Scenes("test", count=400)[5].data.samples).max() > 1e-3
    assert len(Scenes("test", count=400)) == 40


def test_captions_of_the_test_split_say_all_that_there_is() -> None:
    for example in (HELD_OUT[i] for i in range(100)):
        prompt = example.conditions["prompt"]
        for name in ("kind", "tempo", "key", "instrument"):
            value = example.conditions.get(name)
            assert value is None or value in prompt
        assert np.sqrt(np.mean(example.data.samples**2)) < 0.11


def test_captions_of_the_training_split_leave_out_and_say_otherwise() -> None:
    known = set(SCENES.conditions["prompt"].names) | {"a", "in", "with"}
    shorter = others = 0
    for example in map(scene, range(200)):
        said = example.conditions
        assert set(said["prompt"].casefold().split()) <= known
        other = any(word in said["prompt"] for word in WORDS.values())
        others += other
        if said["kind"] == "melody" and not other:
            named = [said[name] in said["prompt"] for name in ("tempo", "key", "instrument")]
            shorter += not all(named)
    assert shorter
    assert others


def test_melodies_begin_on_a_note_of_their_key() -> None:
    seen = 0
    for example in map(scene, range(len(SCENES))):
        said = example.conditions
        if said["kind"] != "melody" or said["instrument"] == "flute" or seen == 12:
            continue
        seen += 1
        length = round(0.9 * 60 / (TEMPOS[said["tempo"]] * 1.06) * 16000)
        f = pitch.fundamental(Sound(example.data.samples[:, :length], 16000))
        tonic, scale = KEYS[said["key"]]
        number = 69 + 12 * np.log2(f / 440)
        away = [abs((number - tonic - step + 6) % 12 - 6) for step in scale]
        assert min(away) < 0.3, said
    assert seen == 12


def test_beats_stand_where_the_tempo_puts_them() -> None:
    for example in map(scene, range(60)):
        if example.conditions["kind"] != "beat":
            continue
        power = np.square(example.data.samples[0]).reshape(-1, 160).sum(1)  # 10 ms
        spectrum = np.abs(np.fft.rfft(power - power.mean(), 8192))
        f = np.fft.rfftfreq(8192, 0.01)
        beat = TEMPOS[example.conditions["tempo"]] / 60
        near = [spectrum[np.abs(f - k * beat) < 0.12 * k * beat].max() for k in (0.5, 1, 2, 4)]
        assert max(near) > 0.9 * spectrum[f < 4.5 * beat].max()


@pytest.mark.parametrize("options", [{"count": 3}, {"seconds": 0.0}, {"rate": 100}])
def test_options_out_of_range_are_told(options: dict[str, float]) -> None:
    with pytest.raises(SuffuseError, match="count is at least 20"):
        Scenes("train", **options)  # type: ignore[arg-type]


@pytest.mark.skipif(find_spec("suffuse_text") is None, reason="prompts need suffuse-text")
def test_the_shipped_model_plays_in_the_key_it_is_asked_for(seed: int) -> None:
    model = suffuse.load("audio/scenes")
    prompt = "slow organ chords in C major"
    made = model.sample(4, seed=seed, prompt=prompt)
    assert all(len(sound) == 48000 and sound.rate == 16000 for sound in made)
    assert np.mean([music.fits(sound, "C major") for sound in made]) > 0.75
    again = model.sample(4, seed=seed, prompt=prompt)
    assert all((a.samples == b.samples).all() for a, b in zip(again, made, strict=True))
    with pytest.raises(SuffuseError, match="knows no word"):
        model.sample(1, prompt="theremin")
