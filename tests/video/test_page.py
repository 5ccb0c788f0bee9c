"""What is shown of clips: the flow against known motion, and the page."""

from __future__ import annotations

import io
import re
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

from suffuse_video.clip import Clip
from suffuse_video.files import ClipFiles
from suffuse_video.flow import arrows, flow
from suffuse_video.page import page
from suffuse_video.shapes import Shapes


@pytest.mark.parametrize("motion", [(0.5, 0.0), (0.0, -0.7), (0.4, 0.3), (0.0, 0.0)])
def test_the_flow_is_that_of_a_bell_that_moves(motion):
    y, x = np.mgrid[:24, :24]
    frames = [
        np.exp(-((x - 12 - motion[0] * i) ** 2 + (y - 12 - motion[1] * i) ** 2) / 18)
        for i in range(3)
    ]
    clip = np.rint(255 * np.stack(frames)[..., None].repeat(3, -1)).astype(np.uint8)
    found = flow(clip)
    assert found.shape == (2, 24, 24, 2)
    np.testing.assert_allclose(found[0, 9:16, 9:16].mean((0, 1)), motion, atol=0.06)
    assert abs(found[:, :2, :2]).max() < 0.1  # nothing is seen to move where nothing is


def test_the_flow_of_a_moving_shape_is_its_pace():
    data = Shapes("train", digits=0.0, strengths=0.0, bounces=0.0)
    scenes = ((i, data.scene(i)) for i in range(100))
    i = next(i for i, s in scenes if s.motion.directions == ("left",) and not s.motion.slowly)
    frames = data[i].data.frames
    moves = flow(frames)
    edge = np.hypot(*np.moveaxis(moves, -1, 0)) > 0.05
    assert abs(np.median(moves[edge][:, 0]) + 0.48) < 0.15
    assert abs(np.median(moves[edge][:, 1])) < 0.1
    drawn = arrows(frames, factor=4)
    assert drawn.shape == (16, 64, 64, 3)
    assert (drawn != frames.repeat(4, 1).repeat(4, 2)).any()


def test_a_page_plays_every_clip_and_needs_nothing_beside_it(tmp_path):
    clips = [Shapes("test")[i].data for i in range(2)]
    text = page(clips, ["a <b> & c", "second"])
    assert "a &lt;b&gt; &amp; c" in text
    assert not re.search(r"https?://", text)
    pictures = [
        Image.open(io.BytesIO(b64decode(data)))
        for data in re.findall(r"data:image/\w+;base64,([^\"]+)", text)
    ]
    assert len(pictures) == 8
    assert [getattr(p, "n_frames", 1) for p in pictures[:4]] == [16, 1, 16, 1]
    record = {
        "suffuse": '{"conditions": {"prompt": "a red circle", "strength": null, "fps": 8.25671}}'
    }
    ClipFiles().write_all(clips, tmp_path / "clips.html", [record, {"other": "x"}])
    assert "a red circle, fps 8.26<br>" in (tmp_path / "clips.html").read_text()
    still = Clip(clips[0].frames[:1], 8)
    assert "flow</div>" not in page([still])
