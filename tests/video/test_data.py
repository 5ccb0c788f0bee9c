"""The generators: what they show is what they say."""

from __future__ import annotations

import numpy as np
import pytest

from suffuse.errors import SuffuseError
from suffuse_video.digits import Digits
from suffuse_video.shapes import DIRECTIONS, PACE, Motion, Shapes, captions, parse, path
from suffuse_video.tracking import digits_seen, motion_of, shape_seen, track


def test_no_caption_is_in_both_splits_and_all_are_sentences_of_the_grammar():
    train, test = set(captions("train")), set(captions("test"))
    assert not train & test
    assert len(train | test) == 6 * 4 * (1 + 2 * (4 + 12))
    assert 0.15 < len(test) / len(train | test) < 0.25
    for caption in train | test:
        found = parse(caption)
        assert found is not None
        assert found.caption() == caption
    for strange in ("a red circle", "red circle moves left", "a red circle moves left then", ""):
        assert parse(strange) is None


@pytest.mark.parametrize("split", ["train", "test"])
def test_shapes_move_as_they_are_told(split):
    data = Shapes(split)
    for i in range(40):
        motion, at, _ = data.scene(i)
        example = data[i]
        seen = track(example.data)
        assert example.conditions["prompt"] == motion.caption()
        assert np.abs(seen.places - at).max() < 0.25  # pixels
        assert seen.colour == motion.colour
        assert shape_seen(seen)[0] == motion.shape
        assert motion_of(seen.places, 16) == (motion.directions, motion.slowly)


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
        assert (digits_seen(track(data[i].data), data.cell) == number).all()


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
        (lambda: Shapes(frames=60), "16 frames at most|most; longer"),
        (lambda: Shapes(frames=0), "1 frame or more"),
        (lambda: Digits(size=8), "12 pixels or more"),
        (lambda: Shapes(fps=0), "above"),
    ],
)
def test_impossible_clips_are_refused(make, words):
    with pytest.raises(SuffuseError, match=words):
        make()
