"""What the tests of sounds share."""

from __future__ import annotations

import numpy as np
import pytest

from suffuse_audio.sound import Sound


@pytest.fixture
def noise(seed: int) -> Sound:
    """Two seconds of stereo noise at 8 kHz."""
    random = np.random.default_rng(seed)
    return Sound(0.1 * random.standard_normal((2, 16003)).astype(np.float32), 8000)
