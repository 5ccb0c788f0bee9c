"""The baselines against what is known exactly, and the suite's cases at their smallest."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from suffuse import plugins, recipe
from suffuse.bench import Context
from suffuse.model import Model
from suffuse_video import baselines, bench

KNOWN = np.array([True, False, False, False, True, False])


def test_copies_and_blends_are_what_they_say():
    values = np.array([0, 9, 9, 9, 100, 9], np.uint8)
    frames = np.broadcast_to(values[:, None, None, None], (6, 2, 2, 3))
    copies = baselines.copy_last(frames, KNOWN)[:, 0, 0, 0]
    assert copies.tolist() == [0, 0, 0, 0, 100, 100]
    assert baselines.blend(frames, KNOWN)[:, 0, 0, 0].tolist() == [0, 25, 50, 75, 100, 100]
    assert baselines.squared_error(frames[:1], frames[4:5]) == 100**2


def test_the_flow_follows_what_moves_where_a_blend_shows_it_twice():
    pytest.importorskip("cv2", reason="the extra suffuse-video[flow] is not installed")
    y, x = np.mgrid[:48, :48]
    frames = [
        np.exp(-((x - 16 - 4 * i) ** 2 + (y - 24) ** 2) / 40)[..., None].repeat(3, 2) * 255
        for i in range(3)
    ]
    clip = np.rint(frames).astype(np.uint8)
    known = np.array([True, False, True])
    flow, blend = (
        baselines.squared_error(f(clip, known)[1], clip[1])
        for f in (baselines.flow_warp, baselines.blend)
    )
    assert flow < blend / 4


def test_the_flow_goes_on_behind_the_last_known_frame_where_a_copy_stands():
    pytest.importorskip("cv2", reason="the extra suffuse-video[flow] is not installed")
    y, x = np.mgrid[:16, :16]
    frames = [
        np.exp(-((x - 4 - i) ** 2 + (y - 8) ** 2) / 5)[..., None].repeat(3, 2) * 255
        for i in range(8)
    ]
    clip = np.rint(frames).astype(np.uint8)
    for known in ([1, 1, 0, 0, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0, 0, 0]):
        given = np.array(known, dtype=bool)
        flow, copy = (f(clip, given) for f in (baselines.flow_warp, baselines.copy_last))
        for i in (3, 5, 7):
            errors = [baselines.squared_error(who[i], clip[i]) for who in (flow, copy)]
            assert errors[0] < errors[1] / 4
    alone = np.arange(8) < 1  # nothing says how it moves
    np.testing.assert_array_equal(
        baselines.flow_warp(clip, alone), baselines.copy_last(clip, alone)
    )


@pytest.fixture
def context():
    changes = {
        "dataset.frames": 8,
        "dataset.test_clips": 8,
        "dataset.clips": 8,
        "encoder.frames": 8,
        "denoiser.width": 16,
        "denoiser.depth": 1,
    }
    loaded = recipe.load("video/shapes", changes)
    data = plugins.build("dataset", loaded.dataset, split="train")
    context = Context()
    context.once("tiny", lambda: Model.untrained(loaded, data))
    return context


def test_every_kind_of_case_has_figures(context):
    cases = [bench.Words("t", "m", 0, steps=1, n=8, source="tiny")]
    for how in ("full", "rolling", "copy last", "linear blend"):
        cases.append(bench.Frames("t", how, 0, "interpolation", how, steps=1, n=4, source="tiny"))
    cases.append(bench.Frames("t", "c", 0, "prediction", "cached", True, 1, 4, source="tiny"))
    for how in ("full", "clean", "cached"):
        cases.append(bench.Long("t", how, 0, how, steps=1, times=2, n=4, source="tiny"))
    cases.append(bench.Pace("t", "cached", 0, steps=1, source="tiny"))
    for case in cases:
        metrics = {m.name: m for m in case.run(context).metrics}
        assert all(np.isfinite(m.value) for m in metrics.values())
        if case.model == "full" and "calls for a frame" in metrics:
            assert metrics["calls for a frame"].value == pytest.approx(1 / 4)
        if isinstance(case, bench.Pace):
            assert metrics["memory, frame 256"].value == metrics["memory, frame 16"].value
        if case.model == "copy last":
            assert metrics["calls for a frame"].value == 0
            assert metrics["PSNR"].value > 15


def test_an_evaluator_has_the_model_make_frames_of_held_out_clips(context):
    model = context.once("tiny", lambda: None)
    found = model.evaluate(8, [{"name": "video/frames", "clips": 4}], steps=1)
    figures = {m.name: m for m in found}
    case = bench.Frames("t", "full", 0, "prediction", "full", steps=1, n=4, source="tiny")
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0)).tolist()
    context.once(("tiny", "test"), lambda: [model.dataset("test")[i] for i in order])
    assert figures["PSNR, prediction"].value == case.run(context).metrics[0].value
    assert figures["SSIM, interpolation, linear blend"].n == 4


def test_real_clips_keep_everything_however_long_they_are(context):
    case = bench.Long("t", "real", 0, "real", n=8, source="tiny")
    found = {m.name: m for m in case.run(context).metrics}
    assert found["thing and colour kept"].value == found["digits kept in every frame"].value == 100
    assert found["form, quarter 4"].value == pytest.approx(found["form, quarter 1"].value, abs=0.02)
    assert found["warping error, quarter 4 to 1"].value == pytest.approx(1, abs=0.2)


def test_the_suites_list_cases_with_names_of_their_own():
    for suite in (bench.video(), bench.short()):
        names = [(case.task, case.model, case.seed) for case in suite]
        assert len(names) == len(set(names))
        assert {task.partition("/")[0] for task, _, _ in names} == {"video"}
