"""Figures of made sounds, on judges that are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import t

from suffuse.plugins.contracts import Example
from suffuse_audio.evaluators import Nearest, Spread
from suffuse_audio.judge import Judge
from suffuse_audio.sound import Sound


def test_the_interval_of_the_spread_is_students(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three categories, whose variances are 1, 2 and 6 times those of real sounds."""
    real = torch.randn(3, 10, 5).double()
    factors = torch.tensor([1.0, 2.0, 6.0]).double()
    judge = SimpleNamespace(
        names=("a", "b", "c"),
        wanted=lambda sample: sample.conditions["label"],
        mel=lambda sounds: (real * factors.sqrt()[:, None, None]).flatten(0, 1),
        test_mel=real.flatten(0, 1),
        test_labels=torch.arange(3).repeat_interleave(10),
    )
    monkeypatch.setattr(Judge, "of", lambda *given: judge)
    samples = [Example(Sound(np.zeros(10), 8000), {"label": i // 10}) for i in range(30)]
    unused: Any = None
    (found,) = Spread().evaluate(samples, test=unused, train=unused, seed=0)
    half = t.ppf(0.975, 2) * np.std([1, 2, 6], ddof=1) / 3**0.5
    assert (found.value, found.high - found.value) == pytest.approx((3, half))


class _Tones:
    """Sounds whose feature is one number, and whose names say it."""

    def __init__(self, features: list[float]) -> None:
        self.features = features

    def __len__(self) -> int:
        return len(self.features)

    def name(self, index: int) -> str:
        return f"{self.features[index]:g}.wav"


def test_the_training_sounds_that_made_ones_are_nearest_to_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The judge saw every second training sound: numbers are those of the split."""
    train, test = _Tones([float(i) for i in range(40)]), _Tones([0.5 + i for i in range(30)])
    seen = torch.arange(0, 40, 2)
    features = [6.01, 30.2, *(k + 1.0 for k in range(0, 38, 2))]
    judge = SimpleNamespace(
        train_index=seen,
        train_features=seen[:, None].float(),
        test_features=torch.tensor(test.features)[:, None],
        features=lambda sounds: torch.tensor(features)[:, None],
    )
    monkeypatch.setattr(Judge, "of", lambda *given: judge)
    samples = [Example(Sound(np.zeros(10), 8000), {}) for _ in features]
    given: Any = {"test": test, "train": train}
    share, distance = Nearest().evaluate(samples, **given, seed=0)
    assert "1 of 21 are nearer" in share.note  # 0.01 of a usual 0.5
    assert "sample 0 0.01 from training example 6 (6.wav); sample 1 0.20 from" in distance.note
    assert "training example 30 (30.wav)" in distance.note
    assert (distance.value, distance.floor, distance.better) == (1.0, 0.5, "higher")
    assert "as near as 0.50" in distance.note
