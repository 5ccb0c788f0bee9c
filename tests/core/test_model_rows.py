"""Ranges of conditions: numbers that follow from a sample's seed and index alone."""

import numpy as np
import pytest

from suffuse.diffusion import Noise
from suffuse.errors import SuffuseError
from suffuse.model.rows import drawn
from suffuse.plugins.contracts import Condition

KINDS = {"a": Condition("number"), "b": Condition("number"), "words": Condition("text")}


def test_numbers_are_drawn_evenly_from_ranges_and_other_values_stay():
    values = {"a": ["-1..3"] * 2000, "b": ["2..2", None, 0.5, 7] * 500, "words": ["1..2"] * 2000}
    found = drawn(values, KINDS, Noise(0, 2000))
    assert found["b"] == [2.0, None, 0.5, 7] * 500
    assert found["words"] == values["words"]
    a = np.sort(found["a"])
    assert np.abs(a - np.linspace(-1, 3, 2000)).max() < 4 * 1.95 / np.sqrt(2000)


def test_a_sample_is_asked_for_the_same_in_every_batch():
    both = {"a": ["0..1"] * 6, "b": ["0..1"] * 6}
    whole = drawn(both, KINDS, Noise(3, 6))
    part = drawn({"a": ["0..1"] * 2}, KINDS, Noise(3, 2, first=4))
    assert part["a"] == whole["a"][4:]
    assert whole["a"] != whole["b"]


@pytest.mark.parametrize("text", ["2..1", "1", "..1", "1..", "a..b", "1..2..3", "0..inf", "nan..1"])
def test_other_texts_are_refused(text):
    with pytest.raises(SuffuseError, match=r"a range of two like 1\.\.2"):
        drawn({"a": [text]}, KINDS, Noise(0, 1))
