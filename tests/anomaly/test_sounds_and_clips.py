"""Sounds and clips by patches: what is planted is found, when, and where."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from suffuse.errors import SuffuseError
from suffuse_anomaly import ClipPatchDetector, SoundPatchDetector
from suffuse_anomaly.sound_patches import spectrogram

RATE = 8000


def hums(rng, n, seconds=1.0):
    """A tone of 200 Hz in noise that falls off with the frequency."""
    t = np.arange(int(seconds * RATE)) / RATE
    noise = np.cumsum(rng.normal(size=(n, len(t))), 1)
    noise -= np.apply_along_axis(np.convolve, 1, noise, np.ones(400) / 400, "same")
    tone = np.sin(2 * np.pi * (200 * t + rng.random((n, 1))))
    return [(one, RATE) for one in 0.01 * noise + 0.3 * tone]


def test_energies_are_those_of_the_signal():
    # white noise of the variance v has v at each frequency: a level of 10 log10 v in every band
    noise = 0.1 * np.random.default_rng(0).normal(size=30 * RATE)
    energy, hertz, seconds = spectrogram(noise, RATE)
    assert_allclose(10 * np.log10((10 ** (energy / 10)).mean(1)), -20, atol=1.0)
    assert hertz[0] > 60
    assert hertz[-1] < RATE / 2
    assert_allclose(np.diff(np.log(hertz)), np.log(hertz[1] / hertz[0]))
    assert_allclose(np.diff(seconds), 0.016)


def test_a_whistle_is_found_in_time_and_frequency(rng):
    detector = SoundPatchDetector().fit(hums(rng, 16))
    usual, odd = hums(rng, 5), hums(rng, 5, seconds=1.5)
    starts, tones = rng.uniform(0.2, 1.2, 5), rng.uniform(800, 2500, 5)
    for (samples, _), start, tone in zip(odd, starts, tones, strict=True):
        at = slice(int(start * RATE), int((start + 0.15) * RATE))
        samples[at] += (
            0.3
            * np.sin(2 * np.pi * tone * np.arange(int(0.15 * RATE) + 9) / RATE)[
                : at.stop - at.start
            ]
        )
    assert detector.score(odd).min() > detector.score(usual).max()
    for place, start, tone in zip(detector.where(odd), starts, tones, strict=True):
        assert start - 0.1 < place["seconds"] < start + 0.25
        assert abs(np.log2(place["hertz"] / tone)) < 0.5
    maps = detector.heat_map(odd)
    assert maps.shape[1:] == spectrogram(*odd[0])[0].shape
    objects = [SimpleNamespace(samples=samples[None], rate=rate) for samples, rate in odd]
    assert_array_equal(detector.score(objects), detector.score(odd))
    assert len({one.shape for one in detector.heat_map([usual[0], odd[0]])}) == 2


def drifting(rng, n, step=1):
    """Stripes that move to the right, and noise; [n, 8, 24, 24]."""
    x, t = np.arange(24), np.arange(8)
    moved = np.sin((x[None, None, None] - step * t[:, None, None] + rng.random((n, 1, 1, 1))) / 2)
    return moved + 0.1 * rng.normal(size=(n, 8, 24, 24))


def test_clips_are_unusual_by_how_they_look_and_by_how_they_move(rng):
    detector = ClipPatchDetector().fit(drifting(rng, 16))
    usual, still, spot = drifting(rng, 3), drifting(rng, 3, step=0), drifting(rng, 3)
    spot[:, 4, 8:16, 8:16] += 2
    highest = detector.score(usual).max()
    assert detector.score(spot).min() > highest
    assert np.median(detector.score(still)) > highest  # each of its frames is a usual picture
    maps = detector.heat_map(spot)
    assert maps.shape == spot.shape
    for one in maps:
        frame, row, column = np.unravel_index(one.argmax(), one.shape)
        assert frame in (4, 5)
        assert 4 <= row < 20
        assert 4 <= column < 20
    wrapped = [SimpleNamespace(frames=clip) for clip in spot]
    assert_array_equal(detector.score(wrapped[:1]), detector.score(spot[:1]))


@pytest.mark.parametrize(
    ("detector", "things", "words"),
    [
        (SoundPatchDetector(), [np.zeros(9)] * 12, "a pair \\(samples, rate\\)"),
        (SoundPatchDetector(), [(np.zeros(9), RATE)] * 12, "of 0.064 s or more"),
        (SoundPatchDetector(), [(np.full(RATE, np.nan), RATE)] * 12, "must be finite"),
        (SoundPatchDetector(), [(np.zeros(RATE), 16000 - i) for i in range(12)], "resample it"),
        (SoundPatchDetector(), "a.wav", "as a list; given str"),
        (ClipPatchDetector(), [np.zeros((1, 8, 8))] * 12, "two of them or more"),
        (ClipPatchDetector(), [np.zeros((4, 8, 8))] * 3, "10 normal clips or more"),
    ],
)
def test_mistakes_are_told_in_a_sentence(detector, things, words):
    with pytest.raises(SuffuseError, match=words):
        detector.fit(things)
