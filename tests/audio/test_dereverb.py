"""Reverberation: what a long room adds is taken away, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import fftconvolve

from suffuse.errors import SuffuseError
from suffuse_audio.dereverb import dereverberate, room
from suffuse_audio.sound import Sound


def _bursts(seed: int, seconds: float = 3.0) -> np.ndarray:
    """Short bursts of noise with silence between them."""
    random = np.random.default_rng(seed)
    x = random.standard_normal(round(8000 * seconds))
    return np.where(np.arange(len(x)) % 4000 < 800, x, 0) * 0.1


def test_the_tail_between_bursts_becomes_weaker(seed: int) -> None:
    dry = _bursts(seed, 2.0)
    wet = fftconvolve(dry, room(0.3, 8000, seed))[: len(dry)]
    made = dereverberate(Sound(wet, 8000))
    assert made.samples.shape == (1, len(dry))
    quiet = np.arange(len(dry)) % 4000 > 1600
    assert made.samples[0][quiet].std() < 0.85 * wet[quiet].std()
    loud = np.arange(len(dry)) % 4000 < 800
    assert np.corrcoef(made.samples[0][loud], wet[loud])[0, 1] > 0.9


def test_strength_zero_short_sounds_and_silence_stay(seed: int) -> None:
    x = _bursts(seed, 1.0)
    assert np.abs(dereverberate(Sound(x, 8000), strength=0).samples - x).max() < 1e-5
    for x in (np.zeros(8000), np.ones(1), np.ones(300)):
        assert (dereverberate(Sound(x, 8000)).samples[0] == x).all()
    with pytest.raises(SuffuseError, match="strength from 0 to 1"):
        dereverberate(Sound(np.ones(9), 8000), strength=2)


def test_a_room_falls_by_sixty_decibels() -> None:
    response = room(0.4, 8000, 0)
    first, last = (np.sqrt(np.mean(response[s] ** 2)) for s in (slice(40, 200), slice(-160, None)))
    assert response[0] == 1
    assert np.sum(response[1:] ** 2) == pytest.approx(2, rel=1e-4)
    assert -60 < 20 * np.log10(last / first) < -53
