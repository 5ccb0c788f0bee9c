"""Figures over time against what is known exactly."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Example
from suffuse_video.clip import Clip
from suffuse_video.features import encoder, reader
from suffuse_video.shapes import Shapes, parse
from suffuse_video.temporal import Frechet, Warping, ssim, warped, warping_errors


def test_a_warp_by_whole_pixels_is_a_shift_and_growth_is_around_the_middle():
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    moved = warped(x, np.array([[2.0, 0.0], [0.0, -1.0]]), np.ones(2))
    torch.testing.assert_close(moved[0, :, :, 2:], x[0, :, :, :-2])
    assert moved[0, :, :, :2].abs().max() == 0
    torch.testing.assert_close(moved[1, :, :-1], x[1, :, 1:])
    ramp = torch.arange(8.0, dtype=torch.float64).expand(1, 1, 8, 8) - 3.5
    grown = warped(ramp, np.zeros((1, 2)), np.array([2.0]))
    torch.testing.assert_close(grown, ramp / 2)


def test_real_clips_follow_the_flow_that_is_known_and_flickering_ones_do_not():
    data = Shapes("test", test_clips=60)
    true, flickering, still = [], [], []
    for i in range(60):
        scene, clip = data.scene(i), data[i].data
        motion, strength = scene.motion, scene.strength
        dark = clip.frames.copy()
        dark[1::2] //= 2
        true.append(warping_errors(clip, motion, strength).mean())
        flickering.append(warping_errors(Clip(dark, 8), motion, strength).mean())
        if motion.directions and not motion.slowly and strength is None:
            frozen = Clip(clip.frames[:1].repeat(16, 0), 8)
            still.append(warping_errors(frozen, motion).mean())
    assert np.mean(flickering) > 2 * np.mean(true)
    assert np.mean(still) > 1.5 * np.mean(true)
    assert (
        warping_errors(Clip(clip.frames[:1].repeat(4, 0), 8), parse("a red circle stays")).max()
        == 0
    )


def test_likeness_has_its_closed_form_for_even_frames():
    a, b = (np.full((2, 16, 16, 3), k, np.uint8) for k in (100, 150))
    c = (0.01 * 255) ** 2
    assert ssim(a, a) == pytest.approx(1)
    assert ssim(a, b) == pytest.approx((2 * 100 * 150 + c) / (100**2 + 150**2 + c))
    noise = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)
    assert ssim(noise, noise) == pytest.approx(1)
    assert ssim(noise, 255 - noise) < 0


def test_the_reader_reads_clips_that_it_never_saw():
    data = Shapes("test", test_clips=80, strengths=0.0)
    examples = [data[i] for i in range(80)]
    network = reader()
    x = torch.stack([torch.from_numpy(e.data.frames) for e in examples])
    with torch.inference_mode():
        answers = network(x.permute(0, 1, 4, 2, 3).float() / 255)
    from suffuse_video.shapes import COLOURS, THINGS

    scenes = [data.scene(i).motion for i in range(80)]
    colours = torch.tensor([list(COLOURS).index(m.colour) for m in scenes])
    things = torch.tensor([THINGS.index(m.thing) for m in scenes])
    assert (answers[0].argmax(1) == colours).float().mean() > 0.95
    assert (answers[1].argmax(1) == things).float().mean() > 0.15  # by chance it is 0.07
    assert encoder("reader")([e.data for e in examples[:3]]).shape == (3, 32)


def test_distances_are_those_of_real_clips_for_real_ones_and_larger_for_others():
    test, train = Shapes("test", test_clips=120), Shapes("train", clips=240)
    real = [train[i] for i in range(120, 240)]
    backwards = [
        dataclasses.replace(e, data=Clip(e.data.frames.transpose(0, 2, 1, 3).copy() // 2, 8))
        for e in real
    ]
    for who, far in ((real, False), (backwards, True)):
        metrics = Frechet().evaluate(who, test=test, train=train, seed=0)
        assert [m.name for m in metrics] == ["Fréchet distance", "KID x 1000 (features)"]
        for m in metrics:
            assert (m.low > m.floor_high) == far, m
    found = Warping().evaluate(real, test=test, train=train, seed=0)
    assert found[0].value < 1.3 * found[0].floor
    with pytest.raises(SuffuseError, match="no sample has one"):
        Warping().evaluate([Example(real[0].data)], test=test, train=train, seed=0)
    with pytest.raises(SuffuseError, match="32 clips or more"):
        Frechet().evaluate(real[:3], test=test, train=train, seed=0)
    with pytest.raises(SuffuseError, match="VideoMAE"):
        Frechet("no/such/folder").evaluate(real, test=test, train=train, seed=0)
