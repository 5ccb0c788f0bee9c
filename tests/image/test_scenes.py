"""Drawn scenes: exact captions, exact reading, withheld pairs."""

from __future__ import annotations

import pytest
from PIL import Image

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Example
from suffuse_image.scenes import (
    COLOURS,
    COUNTS,
    SCENES,
    SHAPES,
    Composition,
    Scene,
    Scenes,
    draw,
    read,
    withheld,
)


def test_captions_name_scenes_both_ways():
    assert len({scene.caption for scene in SCENES}) == 72
    for scene in SCENES:
        assert Scene.parse(scene.caption) == scene
    assert Scene(3, "blue", "triangle").caption == "three blue triangles"
    for wrong in ("", "three blue", "five blue circles", "one pink circle", "a b c d"):
        with pytest.raises(SuffuseError, match="no caption"):
            Scene.parse(wrong)


@pytest.mark.parametrize("scene", SCENES[::5], ids=lambda scene: scene.caption)
def test_what_is_drawn_is_read(scene):
    assert [read(draw(scene, variant)) for variant in range(6)] == [scene] * 6


def test_pictures_that_are_no_scenes_are_none():
    assert read(Image.new("RGB", (32, 32), "white")) is None
    two = Image.blend(draw(Scene(1, "red", "circle")), draw(Scene(1, "blue", "square"), 3), 0.5)
    assert read(two) != Scene(1, "red", "circle")


def test_withheld_pairs_are_not_trained_on_and_their_parts_are():
    train, test = Scenes("train", each=1), Scenes("test", each=1)
    seen = [Scene.parse(train[i].conditions["prompt"]) for i in range(len(train))]
    held = [Scene.parse(test[i].conditions["prompt"]) for i in range(len(test))]
    assert len(seen) + len(held) == 72
    assert not set(seen) & set(held)
    pairs = {(s.colour, s.shape) for s in seen} | {(COUNTS[s.count - 1], s.shape) for s in seen}
    for word in (*COLOURS, *COUNTS):
        for shape in SHAPES:
            assert ((word, shape) in pairs) == (not withheld(word, shape))
    for part in ("count", "colour", "shape"):
        assert {getattr(s, part) for s in held} <= {getattr(s, part) for s in seen}
    assert 0.2 < len(held) / 72 < 0.7


def test_pictures_are_the_same_everywhere():
    assert Scenes("train")[7].data.tobytes() == Scenes("train")[7].data.tobytes()
    one, other = Scenes("train", each=2)[0], Scenes("train", each=2)[len(Scenes(each=1))]
    assert one.conditions == other.conditions
    assert one.data.tobytes() != other.data.tobytes()


def test_composition_counts_what_is_right():
    blue = draw(Scene(2, "blue", "square"))
    asked = ["two blue squares", "two red squares", "three blue squares", "one red circle"]
    samples = [Example(blue, {"prompt": prompt}) for prompt in asked]
    found = Composition().evaluate(samples, test=[], train=[], seed=0)
    assert [metric.value for metric in found] == [25, 50, 50, 75]
    with pytest.raises(SuffuseError, match="no sample"):
        Composition().evaluate([Example(blue, {})], test=[], train=[], seed=0)
