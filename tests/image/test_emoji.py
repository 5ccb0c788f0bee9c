"""The captioned emoji: what is there, and that the splits keep their promise."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from suffuse.errors import SuffuseError
from suffuse_image.emoji import HELD_OUT, STYLES, Emoji, index, variants


def pairs(dataset):
    return {(dataset.concept(i), dataset[i].conditions["style"]) for i in range(len(dataset))}


def test_the_set_is_what_its_index_says():
    about = index()
    assert len(about["concepts"]) == 1052
    assert len(about["pictures"]) == 6775
    count = Counter(style for _, style in about["pictures"])
    assert set(count) == set(STYLES) == set(about["sources"])
    # A concept stands in six styles at least, but for one that could not be drawn in one of them.
    held = Counter(concept for concept, _ in about["pictures"])
    assert sum(n < 6 for n in held.values()) <= 1


@pytest.mark.parametrize("concepts", ["common", "all"])
def test_pairs_are_held_out_whose_concept_and_style_are_seen(concepts):
    train, test = (Emoji(split, concepts=concepts) for split in ("train", "test"))
    seen, held = pairs(train), pairs(test)
    assert not seen & held
    assert {c for c, _ in held} <= {c for c, _ in seen}
    assert {s for _, s in held} <= {s for _, s in seen}
    share = len(held) / len(seen | held)
    assert abs(share - HELD_OUT) < 3 * (HELD_OUT * (1 - HELD_OUT) / len(seen | held)) ** 0.5


def test_concepts_are_held_out_whole():
    train, test = (Emoji(split, held_out="concept") for split in ("train", "test"))
    assert not {c for c, _ in pairs(train)} & {c for c, _ in pairs(test)}
    assert len(train) + len(test) == len(Emoji("train")) + len(Emoji("test")) == 1715


def test_each_view_has_another_caption_and_the_same_picture():
    dataset = Emoji("train", views=3)
    size = len(dataset) // 3
    row = next(i for i in range(size) if dataset.concept(i) == "fox")
    captions = [dataset[row + k * size].conditions["prompt"] for k in range(3)]
    assert captions[:2] == ["fox", "a fox"]
    assert captions[2].startswith("fox ")
    pictures = [np.asarray(dataset[row + k * size].data) for k in range(3)]
    assert (pictures[0] == pictures[1]).all()
    assert (pictures[0] == pictures[2]).all()


def test_later_views_are_other_pictures_and_say_so():
    dataset = Emoji("train", views=7, styles=["twemoji", "fluent-high-contrast"])
    size = len(dataset) // 7
    names = set(dataset.conditions["prompt"].names)
    assert {variants.MIRRORED, *variants.COLOURS} <= names
    for row in range(0, size, 9):
        plain = dataset[row].data
        for view in range(3, 7):
            example = dataset[row + view * size]
            words = example.conditions["prompt"].split()
            if variants.MIRRORED in words:
                assert example.data.tobytes() == variants.mirrored(plain).tobytes()
            elif words[0] == "a" and words[1] in variants.COLOURS:
                assert variants.named(variants.hue(example.data)) == words[1]
            else:
                assert example.data.tobytes() == plain.tobytes()


def test_a_hue_is_found_and_turned():
    for colour, degrees in variants.COLOURS.items():
        patch = Image.new("HSV", (8, 8), (round(degrees * 255 / 360), 200, 220)).convert("RGB")
        found = variants.hue(patch)
        assert abs((found - degrees + 180) % 360 - 180) < 4
        assert variants.named(found) == colour
    assert variants.hue(Image.new("RGB", (8, 8), "grey")) is None
    with pytest.raises(ValueError, match="without colour"):
        variants.recoloured(Image.new("RGB", (8, 8), "white"), "red")


def test_the_vocabulary_has_the_words_of_all_captions():
    dataset = Emoji("test", views=3)
    names = set(dataset.conditions["prompt"].names)
    words = {w for i in range(len(dataset)) for w in dataset[i].conditions["prompt"].split()}
    assert words - {"a", "an", "of", "in", "on", "with"} <= names
    assert dataset.conditions["prompt"].names == Emoji("train", views=3).conditions["prompt"].names


def test_pictures_are_of_what_they_say():
    """Means of colour that anyone would name: no shift between the sheet and the index."""
    dataset = Emoji("train", styles=["twemoji", "fluent-flat", "noto"])
    means = {
        dataset.concept(i): np.asarray(dataset[i].data).reshape(-1, 3).mean(0)
        for i in range(len(dataset))
    }
    for concept, brightest in {"red-heart": 0, "blue-heart": 2, "frog": 1, "tomato": 0}.items():
        assert means[concept].argmax() == brightest


def test_styles_can_be_chosen_and_others_are_refused():
    assert {s for _, s in pairs(Emoji("train", styles=["noto"]))} == {"noto"}
    with pytest.raises(SuffuseError, match="openmoji"):
        Emoji("train", styles=["openmoji"])
    with pytest.raises(SuffuseError):
        Emoji("train", views=0)
    with pytest.raises(IndexError):
        Emoji("test")[1000]
