"""Figures of made sounds, on judges that are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import t

from suffuse.plugins.contracts import Example
from suffuse_audio.evaluators import Spread
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
