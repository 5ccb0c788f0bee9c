"""The quality of frame after frame, and of frames made from others, against exact cases."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Example
from suffuse_video import baselines
from suffuse_video.clip import Clip
from suffuse_video.drift import Drift, Gauge, curve, quarters
from suffuse_video.frames import Frames, given, likeness
from suffuse_video.page import _quality
from suffuse_video.shapes import Shapes


def test_known_frames_are_at_no_distance_and_blurred_ones_apart():
    clips = [Shapes("train")[i].data for i in range(200)]
    gauge = Gauge(clips[:160], 16, (16, 16))
    np.testing.assert_allclose(gauge.known.flatten(0, 1).std(0), 1, atol=0.01)
    far = gauge(clips)
    assert far.shape == (200, 16)
    assert far[:160].max() < 1e-5
    blurred = [Clip(c.frames // 2 + np.roll(c.frames, (1, 1), (1, 2)) // 2, 8) for c in clips[160:]]
    assert gauge(blurred).mean() > 1.1 * far[160:].mean()


def test_quarters_are_means_over_frames_of_each_clip():
    far = np.arange(9.0)[None].repeat(2, 0)
    assert [each.tolist() for each in quarters(far)] == [[k] * 2 for k in (0.5, 2.5, 4.5, 7.5)]


@pytest.fixture(scope="module")
def splits():
    return Shapes("test", test_clips=128, digits=0.3), Shapes("train", clips=256, digits=0.3)


def _fading(example: Example, least: float) -> Example:
    light = np.linspace(1, least, len(example.data))[:, None, None, None]
    frames = np.rint(example.data.frames * light).astype(np.uint8)
    return dataclasses.replace(example, data=Clip(frames, example.data.fps))


def test_real_clips_do_not_drift_and_clips_that_fade_do_frame_after_frame(splits):
    test, train = splits
    real = [train[i] for i in range(1, 256, 2)]
    ratio, *points = Drift().evaluate(real, test=test, train=train, seed=0)
    assert ratio.low < 1 < ratio.high
    assert ratio.floor_low < 1 < ratio.floor_high
    for m in points:
        assert m.low <= m.floor_high
    fading = [_fading(e, 0.5) for e in real]
    ratio, *points = Drift().evaluate(fading, test=test, train=train, seed=0)
    assert ratio.low > 1.2
    assert [k for k, _ in curve(points)] == [1, 3, 5, 7, 10, 12, 14, 16]
    assert points[-1].low > points[-1].floor_high
    values = [m.value for m in points]
    assert values[0] < values[4] < values[6] < values[7]
    evenly = [_fading(e, 1.0) for e in fading]
    assert Drift().evaluate(evenly, test=test, train=train, seed=0)[0] == ratio


def test_clips_of_differing_lengths_count_up_to_a_length_that_enough_have(splits):
    test, train = splits
    real = [train[i] for i in range(80)]
    cut = [
        dataclasses.replace(e, data=Clip(e.data.frames[: 16 if i < 40 else 5], 8))
        for i, e in enumerate(real)
    ]
    assert Drift().evaluate(cut, test=test, train=train, seed=0)[0].n == 40
    with pytest.raises(SuffuseError, match="needs 32 clips of 4 frames or more"):
        Drift().evaluate(real[:31], test=test, train=train, seed=0)


def test_the_page_of_a_run_draws_the_curve(splits, tmp_path):
    test, train = splits
    assert _quality(tmp_path) == ""
    from suffuse import storage

    found = Drift().evaluate([train[i] for i in range(40)], test=test, train=train, seed=0)
    storage.write_json(tmp_path / "evaluation.json", [{"step": 1, **m.plain()} for m in found])
    text = _quality(tmp_path)
    assert "<svg" in text
    assert ">made<" in text
    assert ">real<" in text


def test_half_of_a_clip_is_given():
    assert np.flatnonzero(given("prediction", 8)).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(given("interpolation", 7)).tolist() == [0, 2, 4, 6]
    assert np.flatnonzero(given("filling", 8)).tolist() == [0, 1, 6, 7]


def test_likeness_is_that_of_the_frames_that_were_made():
    true = np.full((4, 8, 8, 3), 100, np.uint8)
    clips = [true.copy(), true.copy()]
    clips[0][:2] = 7  # given frames are not looked at
    clips[0][2:] = 110
    clips[1][2:] = 80
    psnr, ssim = likeness(clips, [true, true], "prediction", ", so")
    assert (psnr.name, ssim.name) == ("PSNR, so", "SSIM, so")
    assert psnr.value == pytest.approx(10 * math.log10(255**2 / 250))
    assert psnr.low < psnr.value < psnr.high


def test_frames_are_judged_beside_copies_blends_and_warps(splits):
    test, train = splits
    clips = [test[i].data for i in range(6)]
    samples = [
        Example(Clip(c.frames.clip(max=254) + 1, c.fps), {"task": task, "true": c})
        for task in ("prediction", "interpolation")
        for c in clips
    ]
    found = {m.name: m for m in Frames().evaluate(samples, test=test, train=train, seed=0)}
    assert found["PSNR, prediction"].value == pytest.approx(20 * math.log10(255), abs=0.1)
    blends = [
        baselines.squared_error(
            *(k[1::2] for k in (baselines.blend(c.frames, given("interpolation", 16)), c.frames))
        )
        for c in clips
    ]
    known = found["PSNR, interpolation, linear blend"].value
    assert known == pytest.approx(10 * math.log10(255**2 / np.mean(blends)))
    assert "PSNR, prediction, copy last" in found
    assert "PSNR, prediction, linear blend" not in found  # it is a copy
    with pytest.raises(SuffuseError, match="needs 2 of them"):
        Frames().evaluate([test[0]], test=test, train=train, seed=0)
    with pytest.raises(SuffuseError, match="no how 'cached'"):
        Frames(how="cached")
