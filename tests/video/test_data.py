"""The generators: what they show is what they say."""

from __future__ import annotations

import numpy as np
import pytest

from suffuse.errors import SuffuseError
from suffuse_video.digits import Digits
from suffuse_video.shapes import (
    COLOURS,
    DIRECTIONS,
    MOTIONS,
    PACE,
    THINGS,
    ZOOM,
    Motion,
    Shapes,
    captions,
    parse,
    path,
    reflected,
)
from suffuse_video.tracking import (
    digits_seen,
    does,
    motion_of,
    pace_seen,
    thing_seen,
    track,
    trajectory_error,
)


def test_no_caption_is_in_both_splits_and_all_are_sentences_of_the_grammar():
    train, test = set(captions("train")), set(captions("test"))
    assert not train & test
    assert len(MOTIONS) == 1 + 2 * (4 + 12) + 6 + 1
    assert len(train | test) == len(COLOURS) * len(THINGS) * len(MOTIONS)
    assert 0.15 < len(test) / len(train | test) < 0.25
    for caption in train | test:
        found = parse(caption)
        assert found is not None
        assert found.caption() == caption
    for strange in ("a red circle", "red circle moves left", "a red circle moves left then", ""):
        assert parse(strange) is None


@pytest.mark.parametrize("split", ["train", "test"])
def test_things_move_as_they_are_told(split):
    data = Shapes(split)
    for i in range(60):
        scene, example = data.scene(i), data[i]
        motion, seen = scene.motion, track(example.data)
        assert example.conditions == {"prompt": motion.caption(), "strength": scene.strength}
        assert seen.colour == motion.colour
        assert thing_seen(seen)[0] == motion.thing
        if motion.thing in ("circle", "square", "cross"):  # their centre is that of the drawing
            assert np.abs(seen.places - scene.at).max() < 0.25  # pixels
        assert does(seen, motion, scene.strength)
        if motion.directions and scene.strength is None:
            assert motion_of(seen) == (motion.directions, 0.5 if motion.slowly else 1.0, "")
        if motion.directions:
            told = scene.strength or (0.5 if motion.slowly else 1.0)
            assert pace_seen(seen.places, motion, 16) == pytest.approx(told, abs=0.05)
        assert trajectory_error(seen.places, motion, 16, scene.strength) < 0.25


def test_what_does_something_else_is_noticed():
    data = Shapes("train")
    scenes = [data.scene(i) for i in range(16)]
    tracks = [track(data[i].data) for i in range(16)]
    for i, scene in enumerate(scenes):
        for j, other in enumerate(scenes):
            a, b = scene.motion, other.motion
            alike = a.directions == b.directions and a.slowly == b.slowly and a.camera == b.camera
            paced = scene.strength is not None or other.strength is not None
            if not (alike or a.bounces or b.bounces or a.camera or b.camera or paced):
                assert not does(tracks[i], b), (a, b, i, j)


def test_a_camera_moves_the_picture_the_other_way_or_lets_it_grow():
    frames = 5
    pans = path(Motion("red", "circle", camera="pans left"), frames, 16)
    np.testing.assert_allclose(pans, path(Motion("red", "circle", ("right",)), frames, 16))
    data = Shapes("train", bounces=0.0)
    zooms = [i for i in range(400) if "zooms in" in data.scene(i).motion.caption()]
    scene = data.scene(zooms[0])
    assert scene.scale[-1] / scene.scale[0] == pytest.approx(ZOOM)
    middle = scene.at - 7.5
    np.testing.assert_allclose(middle[-1], ZOOM * middle[0])


def test_what_bounces_is_folded_back_at_the_walls():
    low, high = np.zeros(2), np.array([4.0, 10.0])
    at = reflected(np.array([1.0, 1.0]), np.array([1.5, -1.0]), 5, low, high)
    np.testing.assert_allclose(at[:, 0], [1, 2.5, 4, 2.5, 1])
    np.testing.assert_allclose(at[:, 1], [1, 0, 1, 2, 3])


def test_long_clips_are_of_what_never_leaves_the_frame():
    data = Shapes("test", frames=64)
    for i in range(20):
        motion = data.scene(i).motion
        assert not motion.directions
        assert not motion.camera.startswith("pans")
        assert thing_seen(track(data[i].data))[0] == motion.thing


def test_a_path_is_its_directions_at_the_stated_pace():
    for name, (x, y) in DIRECTIONS.items():
        at = path(Motion("red", "circle", (name,)), 5, 20)
        np.testing.assert_allclose(at, np.outer(np.arange(5), [x, y]) * PACE * 20)
    there_and_back = path(Motion("red", "circle", ("left", "right"), slowly=True), 9, 20)
    np.testing.assert_allclose(there_and_back[-1], 0, atol=1e-12)
    assert there_and_back[4, 0] == pytest.approx(-4 * PACE * 20 / 2)


def test_digits_go_straight_and_come_back_by_the_law_of_reflection():
    data = Digits("test", frames=40, size=24)
    low = np.array([2.5, 3.5]) * data.cell
    for i in range(10):
        number, at = data.scene(i)
        speed = np.abs(np.diff(at, axis=0))
        assert (at >= low - 1e-9).all()
        assert (at <= 23 - low + 1e-9).all()
        # Away from walls each axis keeps its speed: what differs is a step with a bounce in it.
        for axis in range(2):
            usual = np.median(speed[:, axis])
            assert (speed[:, axis] <= usual + 1e-9).all()
            assert (np.abs(speed[:, axis] - usual) < 1e-9).mean() > 0.6
        assert (digits_seen(track(data[i].data)) == number).all()


def test_a_clip_is_the_same_whenever_it_is_asked_for_and_others_differ():
    for kind in (Shapes, Digits):
        a, b, other = kind("train")[5], kind("train")[5], kind("train", seed=1)[5]
        np.testing.assert_array_equal(a.data.frames, b.data.frames)
        assert (a.data.frames != other.data.frames).any()
        assert (kind("test")[5].data.frames != a.data.frames).any()
        with pytest.raises(IndexError):
            kind("train", clips=3)[3]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Shapes(bounces=2.0), "shares of clips"),
        (lambda: Shapes(frames=0), "1 frame or more"),
        (lambda: Digits(size=8), "12 pixels or more"),
        (lambda: Shapes(fps=0), "above"),
    ],
)
def test_impossible_clips_are_refused(make, words):
    with pytest.raises(SuffuseError, match=words):
        make()
