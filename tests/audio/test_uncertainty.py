"""What is told of the error: where it is 0, and that it follows the error of unsure masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from suffuse_audio import spectrum
from suffuse_audio.sound import Sound
from suffuse_audio.uncertainty import compressed, expected_error

RATE, N = 8000, 16000


def _noise(rng: np.random.Generator) -> Sound:
    return Sound(0.1 * rng.standard_normal(N).astype(np.float32), RATE)


def test_all_kept_and_all_taken_are_sure(rng: np.random.Generator) -> None:
    noisy = _noise(rng)
    assert expected_error(noisy, noisy).max() == 0
    silent = Sound(np.zeros(N, np.float32), RATE)
    assert expected_error(noisy, silent).max() < 0.03 * compressed(noisy).mean()


def test_the_error_is_largest_where_half_was_taken(rng: np.random.Generator) -> None:
    noisy = _noise(rng)
    means = [
        expected_error(noisy, Sound(noisy.samples * np.float32(g**2), RATE)).mean()
        for g in (0.05, 0.25, 0.5, 0.75, 0.95)
    ]
    assert max(means) == means[2]
    assert means[1] == pytest.approx(means[3], rel=1e-3)  # y g (1 − g) is symmetric in g


def test_errors_of_the_log_odds_of_masks_are_told(rng: np.random.Generator) -> None:
    noisy = _noise(rng)
    s = spectrum.stft(torch.from_numpy(noisy.samples[0]), 256, 64)
    blocks = np.ones((16, 25))  # of bins and frames, so that the inverse keeps them
    odds = np.kron(np.tile(rng.normal(0, 3, (9, 1)), (1, 11)), blocks)
    errors = np.kron(rng.normal(0, 0.5, (9, 11)), blocks)
    f, t = s.shape
    odds, errors = odds[:f, :t], errors[:f, :t]
    sounds = []
    for each in (odds, odds + errors):
        mask = torch.from_numpy((1 / (1 + np.exp(-each))) ** 2).float()
        made = spectrum.inverse(s * mask, 256, 64, N).numpy()
        sounds.append(Sound(made.astype(np.float32), RATE))
    error = np.abs(compressed(sounds[1]) - compressed(sounds[0]))
    told = expected_error(noisy, sounds[1])
    ranks = [np.argsort(np.argsort(k.ravel())) for k in (told, error)]
    assert np.corrcoef(*ranks)[0, 1] > 0.15  # with unrelated errors: 0
