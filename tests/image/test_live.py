"""Sampling as it goes: a table of prompts, previews, and stopping in the middle."""

from __future__ import annotations

import pytest
from PIL import Image

import suffuse
from suffuse.cli import main


def run(capsys, *words):
    code = 0
    try:
        main([*map(str, words)])
    except SystemExit as end:
        code = end.code or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_table_has_a_row_for_each_sample(tmp_path, capsys):
    table = tmp_path / "prompts.csv"
    table.write_text("prompt,style\na fox,noto\n\nheart,\n", encoding="utf-8")
    out = tmp_path / "out"
    words = ("sample", "image/emoji", "--csv", table, "--steps", 2, "--seed", 3, "-o", out)
    assert run(capsys, *words)[0] == 0
    assert sorted(p.name for p in out.iterdir()) == ["00000.png", "00001.png", "grid.png"]
    model = suffuse.load("image/emoji")
    expected = model.sample(2, seed=3, steps=2, prompt=["a fox", "heart"], style=["noto", None])
    for i, picture in enumerate(expected):
        assert Image.open(out / f"{i:05d}.png").tobytes() == picture.tobytes()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prompt\n", "has no samples"),
        ("promt\na fox\n", "did you mean 'prompt'"),
        ("prompt,prompt\na,b\n", "stands once"),
        ("prompt,style\na fox\n", "has 1 cells"),
        ("prompt,style\na fox,notto\n", "did you mean 'noto'"),
    ],
)
def test_tables_that_are_wrong(tmp_path, capsys, text, says):
    table = tmp_path / "prompts.csv"
    table.write_text(text, encoding="utf-8")
    code, _, err = run(capsys, "sample", "image/emoji", "--csv", table, "-o", tmp_path / "out")
    assert code == 1
    assert says in err


def test_a_condition_is_given_once(tmp_path, capsys):
    table = tmp_path / "prompts.csv"
    table.write_text("prompt\na fox\n", encoding="utf-8")
    words = ("sample", "image/emoji", "--csv", table, "--prompt", "a cat", "-o", tmp_path / "out")
    assert "given twice" in run(capsys, *words)[2]
    words = ("sample", "image/emoji", "--csv", tmp_path / "none.csv", "-o", tmp_path / "out")
    assert "cannot read the table" in run(capsys, *words)[2]


def test_the_last_preview_is_the_sample(tmp_path, capsys):
    """At the last step the clean estimate is what comes out."""
    preview, out = tmp_path / "now.png", tmp_path / "sheet.png"
    words = ("sample", "image/digits", "-n", 2, "--steps", 3, "--preview", preview, "-o", out)
    assert run(capsys, *words)[0] == 0
    assert Image.open(preview).tobytes() == Image.open(out).tobytes()
    code, _, err = run(capsys, "sample", "image/digits", "--preview", "now.jpg", "-o", out)
    assert code == 1
    assert "--preview is a .png" in err


def test_sampling_stops_within_a_step():
    steps = []

    def stop(step):
        steps.append(step.index)
        if len(steps) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        suffuse.load("image/digits").sample(2, steps=6, on_step=stop)
    assert steps == [0, 1]


def test_pictures_of_any_size_and_such_that_repeat(tmp_path, capsys):
    out = tmp_path / "wide.png"
    words = ("sample", "image/digits", "--size", "8x20", "--circular", "-n", 1, "--steps", 3)
    assert run(capsys, *words, "--seed", 1, "-o", out)[0] == 0
    assert Image.open(out).size == (20, 8)
    again = tmp_path / "again.png"
    assert run(capsys, "sample", "--from", out, "-o", again)[0] == 0
    assert Image.open(again).tobytes() == Image.open(out).tobytes()
    for size, says in (("4x8", "at least the model's"), ("x", "whole numbers"), ("8", "8 x 8")):
        code, _, err = run(capsys, "sample", "image/digits", "--size", size, "-o", out)
        assert code == 1
        assert says in err
