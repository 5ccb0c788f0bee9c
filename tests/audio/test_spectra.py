"""Spectra, their encoders, and sounds in parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from suffuse import recipe as recipes
from suffuse.training import train
from suffuse_audio import files, spectrum, streaming
from suffuse_audio.frames import Frames
from suffuse_audio.notes import Notes
from suffuse_audio.sound import Sound
from suffuse_audio.spectra import Spectra


def test_white_noise_has_unit_power_in_every_bin(seed: int) -> None:
    x = torch.randn(200_000, generator=torch.Generator().manual_seed(seed))
    power = spectrum.stft(x, 256, 80).abs().square().mean(1)
    assert bool(((power[1:-1] - 1).abs() < 0.15).all())


def test_frames_come_back_to_rounding(noise: Sound) -> None:
    encoder = Frames(rate=8000, seconds=2.0, std=0.8)
    (again,) = encoder.decode(encoder.encode([noise]))
    assert np.abs(again.samples[0] - noise.mono[:16000]).max() < 1e-5


def test_compression_is_undone() -> None:
    s = torch.randn(4, 9, dtype=torch.complex64) * 10
    assert torch.allclose(spectrum.expand(spectrum.compress(s)), s, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("window", "hop"), [(256, 80), (1412, 441), (64, 20)])
@pytest.mark.parametrize("n", [1, 79, 80, 5000])
def test_parts_make_the_whole(
    seed: int, monkeypatch: pytest.MonkeyPatch, window: int, hop: int, n: int
) -> None:
    x = np.random.default_rng(seed).standard_normal((2, n)).astype(np.float32)
    monkeypatch.setattr(streaming, "BLOCK", 1000)
    chunks = list(streaming.frames_of(streaming.blocks_of(Sound(x, 8000)), window, hop))
    frames = np.concatenate(chunks, axis=2)
    whole = spectrum.stft(torch.from_numpy(x), window, hop).numpy()
    assert frames.shape == whole.shape
    assert np.abs(frames - whole).max() < 1e-4
    again = np.concatenate(list(streaming.joined(chunks, window, hop)), axis=1)
    assert np.abs(again[:, :n] - x).max() < 1e-4


def test_principal_spectra_keep_the_pitch_of_notes() -> None:
    from suffuse_audio.pitch import cents, fundamental

    notes = Notes("train", takes=1)
    encoder = Spectra(components=64)
    options = encoder.fit(notes)
    picked = [notes[i].data for i in range(5, len(notes), 31)]
    x = Spectra(components=64, **options).encode(picked)
    assert 0.7 < float(x.square().mean()) < 1.4
    errors = [
        abs(cents(fundamental(made), fundamental(real)))
        for made, real in zip(encoder.decode(x), picked, strict=True)
    ]
    assert np.median(errors) < 8


def test_training_on_from_weights_keeps_their_axes(tmp_path: Path) -> None:
    """On other sounds as well: the weights know no other states."""
    small = {"encoder.seconds": 0.1, "encoder.components": 4, "denoiser.width": 16}
    small |= {"denoiser.depth": 1, "denoiser.heads": 1, "training.steps": 1, "training.batch": 2}
    small |= {"training.precision": "fp32", "training.sample_every": 0, "evaluators": []}
    found = []
    for number, given in enumerate(({}, {"training.start": str(tmp_path / "run0")}, {})):
        data = tmp_path / f"sounds{number}"
        for i in range(3):
            noise = np.random.default_rng([number, i]).standard_normal((1, 1600))
            files.write(data / f"{i}.wav", Sound(0.1 * noise, 16000))
        recipe = recipes.load("audio/folder", {**small, **given, "dataset.path": str(data)})
        found.append(train(recipe, tmp_path / f"run{number}", progress=False).recipe.encoder)
    assert found[0] == found[1] != found[2]
