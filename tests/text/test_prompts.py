"""Prompts as weighted words."""

from __future__ import annotations

import pytest

from suffuse_text.prompts import LONGEST, MOST, parse, words


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", []),
        ("   \n\t", []),
        ("a red fox", [("red", 1), ("fox", 1)]),
        ("the of a", []),
        ("(red:1.5) fox", [("red", 1.5), ("fox", 1)]),
        ("a (red fox:0.5)", [("red", 0.5), ("fox", 0.5)]),
        ("(red:-1) fox", [("red", -1), ("fox", 1)]),
        ("(red:0)fox", [("red", 0), ("fox", 1)]),
        ("(red: .5)", [("red", 0.5)]),
        ("(red:99)", [("red", MOST)]),
        ("red) fox", [("red", 1), ("fox", 1)]),
        ("((red fox", [("red", 1), ("fox", 1)]),
        ("((red:1.5", [("red", 1.5)]),
        ("(red:1.5, fox", [("red", 1.5), ("fox", 1)]),
        ("(red:1.5x fox", [("red", 1), ("1", 1), ("5x", 1), ("fox", 1)]),
        ("(red:x)", [("red", 1), ("x", 1)]),
        ("Ein Füchslein", [("ein", 1), ("füchslein", 1)]),
        ("ＦＯＸ", [("fox", 1)]),
        ("лиса 狐 ثعلب", [("лиса", 1), ("狐", 1), ("ثعلب", 1)]),
        ("🦊", [("fox", 1)]),
        ("(🍎:2) 🐍", [("red", 2), ("apple", 2), ("snake", 1)]),
        ("\ue000", []),
    ],
)
def test_prompts(prompt, expected):
    assert [tuple(word) for word in parse(prompt)] == expected


def test_a_prompt_of_any_length_is_read_in_time():
    assert len(parse("(" * 10_000)) == 0
    assert len(parse("fox " * 100_000)) == LONGEST // 4
    assert len(parse("(fox:" * 5_000)) == 5_000


def test_words_are_those_of_a_prompt_without_weights():
    text = "One-eyed Jack's 2nd HAT"
    assert words(text) == [word.text for word in parse(text)]
