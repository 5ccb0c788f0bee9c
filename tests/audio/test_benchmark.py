"""Cases of enhancement compare methods on the same mixtures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from suffuse.bench import Context
from suffuse_audio import benchmark, mixtures
from suffuse_audio.benchmark import Enhancement
from suffuse_audio.sound import Sound


def test_the_lead_is_that_on_the_same_mixtures(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    wave = np.sin(np.arange(28000) / 5).astype(np.float32)
    noises = rng.standard_normal((8, 28000)).astype(np.float32)
    levels: list[float] = []

    def halves(sound: Sound) -> Sound:
        """Half the noise is taken out, and the tone left."""
        x = sound.samples[0]
        levels.append(float(np.sqrt(np.mean(x**2))))
        return Sound((x + wave * (x @ wave) / (wave @ wave)) / 2, sound.rate)

    halved = benchmark._METHODS | {"suffuse": lambda _: halves}
    monkeypatch.setattr(benchmark, "_METHODS", halved)
    monkeypatch.setattr(mixtures, "sources", lambda part, rate: None)
    seen: list[int] = []

    def mix(given: None, seed: int, seconds: float, snr: float) -> mixtures.Mixture:
        seen.append(seed)
        return mixtures.Mixture(0.005 * wave, 0.005 * noises[seed % 1000], ())

    monkeypatch.setattr(mixtures, "mix", mix)
    context = Context()
    noisy = Enhancement("enhance/5 dB", "noisy", 1, 5.0, n=8)
    found = {m.name: m for m in noisy.run(context).metrics}
    ahead = found["SI-SDR, suffuse less this"]
    assert ahead.value == pytest.approx(20 * np.log10(2), abs=0.3)  # half the noise is left
    assert seen[:8] == seen[8:]

    ours = dataclasses.replace(noisy, model="suffuse")
    own = {m.name: m for m in ours.run(context).metrics}
    assert len(seen) == 16  # measured already, as what the other was compared with
    assert own["SI-SDR"].value - found["SI-SDR"].value == pytest.approx(ahead.value, abs=1e-6)
    assert not any("less" in name for name in own)

    assert levels == pytest.approx([benchmark.LEVEL] * len(levels), rel=1e-4)

    other = dataclasses.replace(noisy, snr=0.0, task="enhance/0 dB")
    other.run(context)
    assert not set(seen[:8]) & set(seen[16:])
