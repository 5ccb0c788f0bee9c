"""The network, the words, the evaluators, and edits of clips by a model end to end."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from suffuse import plugins, recipe, training
from suffuse.errors import SuffuseError
from suffuse.model import Model
from suffuse.plugins.contracts import Condition, Example
from suffuse_video.clip import Clip
from suffuse_video.digits import Digits
from suffuse_video.edits import Continue, Fill, Interpolate
from suffuse_video.evaluators import KID, Flicker, Identity, Obeyed, judge
from suffuse_video.network import SpaceTime
from suffuse_video.pixels import Pixels
from suffuse_video.shapes import VOCABULARY, Shapes, parse
from suffuse_video.words import Words

from .conftest import awake

SMALL = {
    "dataset.frames": 6,
    "dataset.clips": 64,
    "dataset.test_clips": 40,
    "encoder.frames": 6,
    "denoiser.width": 16,
    "denoiser.depth": 1,
}


@pytest.fixture(scope="module")
def model():
    loaded = recipe.load("video/shapes", SMALL)
    data = plugins.build("dataset", loaded.dataset, split="train")
    made = Model.untrained(loaded, data)
    awake(made.network)
    return made


def test_it_is_loaded_and_brings_what_it_says():
    status = {status.name: status for status in plugins.statuses()}["video"]
    assert (status.status, status.distribution, status.message) == ("ok", "suffuse-video", "")


# The network


def test_one_level_is_the_same_level_for_every_frame():
    network = awake(SpaceTime((4, 3, 8, 8), width=16, depth=2))
    x, level = torch.randn(2, 4, 3, 8, 8), torch.randn(2)
    each = level[:, None].expand(2, 4)
    torch.testing.assert_close(network(x, level), network(x, each))
    other = each.clone()
    other[0, 3] += 1
    apart = (network(x, other) - network(x, each)).abs().amax((2, 3, 4))
    assert apart[0].min() > 0  # every frame sees how noisy another is
    assert apart[1].max() == 0  # clips are apart


def test_a_fresh_network_answers_zero_and_takes_clips_of_any_size():
    network = SpaceTime((4, 3, 8, 8), width=16, depth=1)
    x = torch.randn(2, 7, 3, 10, 9)
    assert network(x, torch.zeros(2)).abs().max() == 0
    assert awake(network)(x, torch.zeros(2, 7), torch.randn(2, 16)).shape == x.shape
    for level in (torch.zeros(3), torch.zeros(2, 4)):
        with pytest.raises(SuffuseError, match="level is one number"):
            network(x, level)
    with pytest.raises(SuffuseError, match="takes clips"):
        network(x[:, :, :2], torch.zeros(2))


def test_words_are_heard_in_their_order_and_unknown_ones_are_refused():
    words = awake(Words(Condition("text", VOCABULARY), 16))
    one, two, none = words.prepare(
        ["a red circle moves left, then up", "A red circle moves up then left.", None]
    )
    asked = words(torch.stack([one, two, none]))["moments"]
    assert asked.shape == (3, 16, 16)
    assert (asked[0] - asked[1]).abs().amax(1).min() > 1e-3
    assert (asked[0, 0] - asked[0, 15]).abs().max() > 1e-3  # the end is asked something else
    assert (asked[2] - asked[2, :1]).abs().max() == 0  # without a prompt all moments are alike
    torch.testing.assert_close(words.null(1)[0], none)
    with pytest.raises(SuffuseError, match="no word of this model 'circl'; did you mean 'circle'"):
        words.prepare(["a red circl moves left"])
    with pytest.raises(SuffuseError, match="has 20"):
        words.prepare(["a " * 20])
    with pytest.raises(SuffuseError, match="has 0"):
        words.prepare([" , "])


# The encoder


def test_pixels_come_back_exactly_and_other_clips_are_fitted():
    data = Shapes("train", frames=6)
    encoder = Pixels(frames=6, size=16)
    encoder.fit(data)
    clips = [data[i].data for i in range(8)]
    x = encoder.encode(clips)
    assert x.shape == (8, *encoder.shape)
    assert abs(encoder.encode([data[i].data for i in range(64)]).std() - 1) < 0.2
    for clip, back in zip(clips, encoder.decode(x), strict=True):
        np.testing.assert_array_equal(clip.frames, back.frames)
        assert back.fps == clip.fps
    wide = Clip(clips[0].frames.repeat(3, 1).repeat(6, 2).repeat(2, 0), 16)
    assert encoder.encode([wide]).shape == (1, *encoder.shape)
    with pytest.raises(SuffuseError, match="has 3 frames at 8 a second"):
        encoder.encode([Clip(clips[0].frames[:3], 8)])
    with pytest.raises(SuffuseError, match="fit this encoder first"):
        Pixels().encode([Shapes("train")[0].data])


# The evaluators


def by_name(metrics):
    return {metric.name: metric for metric in metrics}


def test_real_clips_obey_their_prompts_and_false_prompts_are_noticed():
    test, train = Shapes("test", test_clips=60), Shapes("train", clips=60)
    real = [test[i] for i in range(60)]
    found = by_name(Obeyed().evaluate(real, test=test, train=train, seed=0))
    assert found["All words obeyed"].value == 100
    assert found["Motion words obeyed"].floor == 100
    assert found["Trajectory error"].value < 0.1
    apart = [m for name, m in found.items() if name.startswith("Motion words obeyed, ")]
    assert sum(m.n for m in apart) == 60
    assert {m.value for m in apart} == {100}
    assert "60 of 60 prompts" in found["All words obeyed"].note
    turned = [
        dataclasses.replace(e, data=Clip(e.data.frames[:, :, ::-1].copy(), 8))
        for e in real
        if "left" in e.conditions["prompt"] and "stays" not in e.conditions["prompt"]
    ]
    found = by_name(Obeyed().evaluate(turned, test=test, train=train, seed=0))
    assert found["Motion words obeyed"].value < 10
    assert found["Colour words obeyed"].value == 100
    frozen = [
        dataclasses.replace(e, data=Clip(e.data.frames[:1].repeat(16, 0), 8))
        for e in real
        if "moves" in e.conditions["prompt"]
    ]
    found = by_name(Obeyed().evaluate(frozen, test=test, train=train, seed=0))
    assert found["Motion words obeyed"].value == 0
    assert found["Shape and digit words obeyed"].value == 100
    with pytest.raises(SuffuseError, match="no sample has one"):
        Obeyed().evaluate([Example(real[0].data)], test=test, train=train, seed=0)


def test_a_dark_clip_is_judged_and_obeys_nothing():
    dark = Clip(np.zeros((16, 16, 16, 3), np.uint8), 8)
    for caption in ("a red circle moves left", "a red six bounces", "a red circle stays"):
        judged = judge(dark, parse(caption))
        assert judged["error"] > 1
        assert judged["all"] == judged["motion"] == 0
        assert all(np.isfinite(value) for name, value in judged.items() if name != "pace")


def test_digits_keep_their_identity_until_they_do_not():
    test = Digits("test", test_clips=30)
    real = [test[i] for i in range(30)]
    names = ("Digit is the label (most frames)", "Identity kept over all frames")
    found = by_name(Identity().evaluate(real, test=test, train=test, seed=0))
    assert [found[n].value for n in names] == [100, 100]
    mixed = []
    for a, b in pairwise(real):
        if a.conditions != b.conditions:
            frames = np.concatenate([a.data.frames[:12], b.data.frames[12:]])
            mixed.append(dataclasses.replace(a, data=Clip(frames, 8)))
    found = by_name(Identity().evaluate(mixed, test=test, train=test, seed=0))
    assert [found[n].value for n in names] == [100, 0]


def test_flicker_is_a_second_difference():
    values = np.array([0, 100, 0, 100, 0], np.uint8)  # second differences of 200
    clip = Clip(np.broadcast_to(values[:, None, None, None], (5, 4, 4, 3)).copy(), 8)
    test = Shapes("test", test_clips=20)
    (metric,) = Flicker().evaluate([Example(clip)] * 3, test=test, train=test, seed=0)
    assert metric.value == 200
    assert 0 < metric.floor < 10


def test_kernel_distance_is_small_for_real_clips_and_large_for_reversed_brightness():
    test, train = Shapes("test", test_clips=80), Shapes("train", clips=200)
    real = [train[i] for i in range(100, 180)]
    wrong = [dataclasses.replace(e, data=Clip(255 - e.data.frames, 8)) for e in real]
    values = [KID().evaluate(who, test=test, train=train, seed=0)[0] for who in (real, wrong)]
    assert values[0].low < values[0].floor_high
    assert values[1].value > 10 * max(values[0].high, values[1].floor_high)


# Edits


def clip_of(n):
    return Clip(Shapes("test", frames=n).__getitem__(3).data.frames, 8)


@pytest.mark.parametrize("how", ["full", "sequential", "rolling"])
def test_going_on_keeps_the_clip_and_adds_frames(model, how):
    clip = clip_of(8)
    made = Continue(model, frames=7, how=how)([clip], 2, seed=0, steps=2, prompt=None)
    assert [len(each) for each in made] == [15, 15]
    for each in made:
        np.testing.assert_array_equal(each.frames[:8], clip.frames)
        assert each.fps == 8
    assert (made[0].frames != made[1].frames).any()
    again = Continue(model, frames=7, how=how)([clip], 2, seed=0, steps=2, prompt=None)
    np.testing.assert_array_equal(again[1].frames, made[1].frames)


def test_it_is_said_once_that_a_prompt_makes_frames_better(model, caplog):
    edit = Continue(model, frames=1)
    edit([clip_of(4)], seed=0, steps=1, prompt="a red circle moves left")
    assert not caplog.messages
    edit([clip_of(4), clip_of(5)], seed=0, steps=1, prompt=None)
    assert len(caplog.messages) == 1
    assert "--prompt" in caplog.messages[0]


def test_one_frame_comes_to_life(model):
    still = Clip(clip_of(8).frames[:1], 8)
    (made,) = Continue(model, frames=5)([still], seed=1, steps=2)
    assert len(made) == 6
    np.testing.assert_array_equal(made.frames[0], still.frames[0])


def test_interpolation_keeps_every_frame_at_a_higher_rate(model):
    for fps in (8, 25):  # that of the model, and another: frames are taken as they come
        clip = Clip(clip_of(7).frames, fps)
        (made,) = Interpolate(model, times=3)([clip], seed=0, steps=2)
        assert (len(made), made.fps) == (19, 3 * fps)
        np.testing.assert_array_equal(made.frames[::3], clip.frames)


def test_missing_frames_are_filled_and_the_others_kept(model):
    clip = Clip(clip_of(10).frames, 30)  # frames are counted in the file, and not by the model
    (made,) = Fill(model, missing="2-3, 7")([clip], seed=0, steps=2)
    kept = [0, 1, 4, 5, 6, 8, 9]
    np.testing.assert_array_equal(made.frames[kept], clip.frames[kept])
    assert (len(made), made.fps) == (10, 30)


def test_a_region_is_filled_in_every_frame(model, tmp_path):
    mask = np.zeros((16, 16), np.uint8)
    mask[:, 8:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    clip = clip_of(6)
    edit = Fill(model, mask=str(tmp_path / "mask.png"), method="replacement")
    (made,) = edit([clip], seed=0, steps=4, prompt=None)
    assert made.frames.shape == clip.frames.shape
    assert np.abs(made.frames[:, :, :8].astype(int) - clip.frames[:, :, :8]).mean() < 3


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda m: Continue(m, frames=0), "frames is 1 or more"),
        (lambda m: Continue(m, frames=3, context=6)([clip_of(6)], steps=1), "context is 1 to 5"),
        (lambda m: Continue(m, how="slow")([clip_of(6)], steps=1), "'slow' is not"),
        (lambda m: Interpolate(m, times=1), "times is 2 to 5"),
        (lambda m: Interpolate(m)([Clip(clip_of(6).frames[:1], 8)]), "one frame"),
        (lambda m: Fill(m), "either --missing"),
        (lambda m: Fill(m, missing="x"), "and 'x' is not so"),
        (lambda m: Fill(m, missing="9-2"), "no range"),
        (lambda m: Fill(m, missing="40")([clip_of(6)]), "and frame 40 is to be filled"),
        (lambda m: Fill(m, missing="0-5")([clip_of(6)]), "every frame of the clip is missing"),
        (lambda m: Fill(m, mask="no.png"), "cannot read the mask"),
    ],
)
def test_impossible_edits_are_refused(model, make, words):
    with pytest.raises(SuffuseError, match=words):
        make(model)


def test_training_lowers_the_loss_with_levels_for_each_frame(tmp_path):
    changes = {**SMALL, "training.steps": 90, "training.batch": 16, "training.sample_every": 0}
    changes |= {
        "training.log_every": 10,
        "training.warmup": 10,
        "evaluators": [],
        "training.precision": "fp32",
    }
    training.train(recipe.load("video/shapes", changes), tmp_path / "run", progress=False)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.85 * losses[0]
