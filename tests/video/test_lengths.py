"""Clips of differing lengths: what stands behind a clip's own frames changes nothing in them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.nn.functional import interpolate, pad

from suffuse import recipe
from suffuse.cli import cli
from suffuse.diffusion import Noise, operators, schedules
from suffuse.diffusion.posterior import Observation
from suffuse.errors import SuffuseError
from suffuse.model import Model
from suffuse_video.clip import Clip
from suffuse_video.edits import Continue, Fill, Interpolate
from suffuse_video.evaluators import KID
from suffuse_video.files import ClipFiles
from suffuse_video.folder import Folder
from suffuse_video.forcing import Forcing
from suffuse_video.lengths import Lengths
from suffuse_video.making import complete
from suffuse_video.network import SpaceTime, spread
from suffuse_video.restoring import Denoise
from suffuse_video.sampling import Sized
from suffuse_video.shapes import Shapes
from suffuse_video.unet import SpaceTimeUNet

from .conftest import awake

OWN, F = 4, 6
"""Frames of a short clip, and of a state."""


NETWORKS = {
    "patches": lambda: SpaceTime((F, 3, 8, 8), width=16, depth=2),
    "drawn by convolutions": lambda: SpaceTime(
        (F, 3, 8, 8), patch=8, width=16, depth=2, refine=8, refine_depth=2
    ),
    "the past alone": lambda: SpaceTime(
        (F, 3, 8, 8), patch=8, width=16, depth=2, refine=8, causal=1.0
    ),
    "U-Net": lambda: SpaceTimeUNet((F, 3, 8, 8), width=16, multipliers=(1, 2)),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return awake(NETWORKS[request.param]())


def lengthened(x, by=7.0):
    """Clips [B, OWN, ...] with frames behind them that are nothing of theirs."""
    return torch.cat([x, by * torch.randn_like(x[:, : F - OWN])], dim=1)


MASK = torch.arange(F).expand(2, F) < torch.tensor([[OWN], [F]])


def test_padding_changes_nothing_in_the_frames_of_a_clip(network):
    x, level = torch.randn(1, OWN, 3, 8, 8), torch.randn(1, OWN)
    moments = torch.randn(1, 5, network.width)
    alone = network(x, level, moments=moments)
    long = torch.randn(1, F, 3, 8, 8)
    both = torch.cat([lengthened(x), long])
    found = network(
        both, pad(level, (0, F - OWN)).expand(2, F), moments=moments.expand(2, -1, -1), mask=MASK
    )
    torch.testing.assert_close(found[:1, :OWN], alone, atol=1e-5, rtol=1e-4)
    assert found[0, OWN:].abs().max() == 0
    whole = network(long, pad(level, (0, F - OWN)), moments=moments)
    torch.testing.assert_close(found[1:], whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("t", [[0.3] * OWN, [0.0, 0.2, 0.9, 0.5], [0.0, 0.9, 0.0, 0.4]])
def test_the_loss_of_a_clip_is_that_of_its_own_frames(network, t):
    process = Forcing(schedules.cosine(), "x0", details=4.0)
    x, noise = torch.randn(1, OWN, 3, 8, 8), torch.randn(1, OWN, 3, 8, 8)
    t = torch.tensor([t], dtype=torch.float64)
    alone = process.loss(network, x, t, noise)
    t = torch.cat([t, torch.tensor([[0.01, 0.02]], dtype=torch.float64)], dim=1)
    found = process.loss(network, lengthened(x), t, lengthened(noise), mask=MASK[:1])
    torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-4)


def test_where_all_own_frames_were_to_be_known_none_is():
    process, seen = Forcing(schedules.cosine(), "x0"), []

    def network(x, level, mask):
        seen.append(level)
        return x

    x = torch.randn(2, F, 3, 2, 2)
    t = torch.tensor([[0.0] * OWN + [0.6, 0.6]] * 2, dtype=torch.float64)
    loss = process.loss(network, x, t, torch.randn_like(x), mask=MASK)
    assert (loss > 0).all()
    assert (seen[0][0] == seen[0][0, 0]).all()  # one level for all
    assert seen[0][1, 0] != seen[0][1, -1]  # of the longer clip the last two are asked for


def test_what_is_asked_of_parts_is_spread_over_a_clips_own_frames():
    moments = torch.randn(2, 5, 3)
    for frames in (1, 2, 5, 7, 16):
        evenly = interpolate(moments.transpose(1, 2), frames, mode="linear").transpose(1, 2)
        torch.testing.assert_close(spread(moments, frames), evenly)
    found = spread(moments, F, MASK)
    torch.testing.assert_close(found[0, :OWN], spread(moments, OWN)[0])
    torch.testing.assert_close(found[1], spread(moments, F)[1])


# The encoder and the data


class Ragged:
    """Clips of moving shapes of two, four and six frames."""

    conditions = Shapes("train").conditions

    def __init__(self, n=60):
        self.data, self.n = Shapes("train", frames=F, strengths=0.0), n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        example = self.data[index]
        clip = Clip(example.data.frames[: (2, 4, 4, 6)[index % 4]], 8)
        return SimpleNamespace(data=clip, conditions=example.conditions)


def test_the_encoder_knows_how_long_clips_are():
    encoder, data = Lengths(frames=F, size=16), Ragged()
    assert encoder.fit(data)["lengths"] == [0, 15, 0, 30, 0, 15]
    clips = [data[i].data for i in range(4)]
    x, sizes = encoder.encode(clips), encoder.sizes(clips)
    assert sizes.tolist() == [2, 4, 4, 6]
    assert (x[~encoder.mask(sizes)] == 0).all()
    for clip, back in zip(clips, encoder.decode(x, sizes), strict=True):
        np.testing.assert_array_equal(clip.frames, back.frames)
    drawn = encoder.draw_sizes(Noise(0, 2000)).bincount(minlength=7) / 2000
    torch.testing.assert_close(
        drawn, torch.tensor([0, 0, 0.25, 0, 0.5, 0, 0.25]), atol=0.04, rtol=0
    )
    slow = Clip(clips[3].frames, 4.0)  # shown for twice as long
    assert encoder.sizes([slow]).tolist() == [F]


def test_the_last_clip_of_a_file_may_be_shorter(tmp_path):
    frames = Shapes("test", frames=16)[0].data.frames
    for name, n in (("long", 15), ("short", 4), ("too_short", 2)):
        ClipFiles().write(Clip(frames[:n], 8), tmp_path / f"{name}.webp", {})
    data = Folder("train", str(tmp_path), frames=6, least=3, test_fraction=0)
    assert [len(data[i].data) for i in range(len(data))] == [6, 6, 3, 4]
    np.testing.assert_array_equal(data[2].data.frames, frames[12:15])
    np.testing.assert_array_equal(data[3].data.frames, frames[:4])
    whole = Folder("train", str(tmp_path), frames=6, test_fraction=0)
    assert [len(whole[i].data) for i in range(len(whole))] == [6, 6]


def test_clips_of_differing_lengths_are_compared():
    samples = [Ragged()[i] for i in range(40)]
    (metric,) = KID().evaluate(samples, test=Ragged(), train=Ragged(), seed=0)
    assert metric.low < 1


# Models


def made(encoder, frames):
    changes = {
        "encoder.name": encoder,
        "encoder.frames": frames,
        "denoiser.width": 16,
        "denoiser.depth": 1,
        "sampling.steps": 3,
    }
    model = Model.untrained(recipe.load("video/shapes", changes), Ragged())
    awake(model.network)
    return model


@pytest.fixture(scope="module")
def model():
    return made("video/lengths", F)


@pytest.fixture(scope="module")
def short(model):
    """The same weights as a model of clips that are all short."""
    other = made("video/pixels", OWN)
    other.network.load_state_dict(model.network.state_dict())
    other.encoder.mean, other.encoder.std = model.encoder.mean, model.encoder.std
    return other


ASKED = {"prompt": ["a red circle moves left, then up", "a blue seven bounces"], "seed": 3}


@pytest.mark.parametrize("how", ["full", "sequential", "rolling", "cached"])
def test_a_short_clip_is_completed_as_by_a_model_of_clips_of_that_length(model, short, how):
    states, known = torch.randn(2, OWN, 3, 16, 16), np.arange(OWN) < 2
    calls = {}
    ours, theirs = (
        complete(m, states, known, how=how, counted=calls.setdefault(m, []).append, **ASKED)
        for m in (model, short)
    )
    assert calls[model] == calls[short]  # padding costs no calls
    assert (ours[:, 2:] - states[:, 2:]).abs().max() > 0.1
    torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0)  # pixels are rounded


def test_a_short_clip_is_restored_as_by_a_model_of_clips_of_that_length(model, short):
    clip = Clip(Shapes("test", frames=OWN)[2].data.frames, 8)
    ours, theirs = (Denoise(m, noise=60)([clip], seed=0) for m in (model, short))
    for a, b in zip(ours, theirs, strict=True):
        assert len(a) == OWN
        assert np.abs(a.frames.astype(int) - b.frames).max() <= 1
    kept = torch.rand(F, 1, 16, 16) > 0.3
    operator = operators.mask(kept)
    y = operator(model.encode([clip]))
    for method in (None, "mmps"):
        (back,) = model.restore(Observation(operator, y), method=method, sizes=[OWN], steps=3)
        assert len(back) == OWN
        seen = kept[:OWN, 0].numpy()
        assert np.abs(back.frames.astype(int) - clip.frames)[seen].max() <= 1


def test_samples_are_as_long_as_the_training_clips_or_as_is_asked(model):
    assert {len(clip) for clip in model.sample(24, seed=0)} == {2, 4, 6}
    longer = Sized(model)
    found = longer.sample(5, frames=[3, 6, 5, None, 15], seed=0)
    assert [len(clip) for clip in found[:3]] == [3, 6, 5]
    assert len(found[3]) in (2, 4, 6)
    assert len(found[4]) == 15
    (alone,) = model.sample(1, seed=0, sizes=[3])  # truly of that length, and no beginning
    np.testing.assert_array_equal(found[0].frames, alone.frames)
    (cut,) = model.sample(1, seed=0, sizes=[F])
    assert (cut.frames[:3] != alone.frames).any()


def test_edits_take_clips_of_every_length(model):
    frames = Shapes("test", frames=16)[1].data.frames
    for n in (1, 3, F, 9):
        clip = Clip(frames[:n], 8)
        (longer,) = Continue(model, frames=2)([clip], seed=0)
        assert len(longer) == n + 2
        np.testing.assert_array_equal(longer.frames[:n], clip.frames)
    (between,) = Interpolate(model)([Clip(frames[:3], 8)], seed=0)
    assert len(between) == 5
    (filled,) = Fill(model, missing="1")([Clip(frames[:3], 8)], seed=0)
    np.testing.assert_array_equal(filled.frames[[0, 2]], frames[[0, 2]])
    first, second = (Clip(frames[:n], 8) for n in (3, 5))
    assert [len(c) for c in model.interpolate(first, second, 3)] == [3, 3, 3]
    assert [len(c) for c in model.vary([first, second], 0.3)] == [3, 5]


def test_a_folder_of_clips_of_differing_lengths_is_trained_on_by_the_command(tmp_path):
    data, run = tmp_path / "clips", tmp_path / "run"
    shapes = Shapes("train", frames=16)
    for i, n in enumerate((16, 5, 9, 7, 20, 6)):
        frames = np.concatenate([shapes[i].data.frames, shapes[i].data.frames[:4]])[:n]
        ClipFiles().write(Clip(frames, 8), data / f"{i}.mp4", {})

    def suffuse(*words):
        result = CliRunner().invoke(cli, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        return result.output

    small = ("denoiser.width=16", "denoiser.depth=1", "encoder.size=16", "training.steps=2")
    changes = [word for change in small for word in ("--set", change)]
    suffuse("train", "video/folder", "--data", data, "--out", run, *changes)
    fitted = json.loads((run / "config.json").read_text())["recipe"]["encoder"]
    assert len(fitted["lengths"]) == 16
    few = ("--steps", 2, "--preview", tmp_path / "now.png")
    suffuse("sample", run, "-n", 2, "--frames", 5, *few, "-o", tmp_path / "out")
    (tmp_path / "now.png").stat()
    files = [ClipFiles().read(tmp_path / "out" / f"0000{i}.mp4") for i in range(2)]
    assert [len(clip) for clip in files] == [5, 5]
    asked = ("--model", run, "--frames", 3, "--steps", 2, "-o", tmp_path / "on.mp4")
    suffuse("edit", "continue", tmp_path / "out" / "00000.mp4", *asked)
    assert len(ClipFiles().read(tmp_path / "on.mp4")) == 8


def test_time_is_not_reversed_where_it_ends_in_padding(tmp_path):
    from suffuse import training

    for i in range(3):
        ClipFiles().write(Shapes("train", frames=5)[i].data, tmp_path / f"{i}.webp", {})
    changes = {"training.mirror": [-4], "training.steps": 1, "dataset.path": str(tmp_path)}
    loaded = recipe.load("video/folder", changes)
    with pytest.raises(SuffuseError, match="ends in padding"):
        training.train(loaded, tmp_path / "run", progress=False)
