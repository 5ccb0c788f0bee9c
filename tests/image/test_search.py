"""Finding pictures by words and by pictures, and the encoder that does it."""

from __future__ import annotations

import json
import os
import sqlite3

import numpy as np
import pytest
import torch
from PIL import Image

from suffuse.cli import main
from suffuse.errors import SuffuseError
from suffuse_image import dual
from suffuse_image.emoji import Emoji
from suffuse_image.search import INDEX, Index, describe, views


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """60 emoji at 64 pixels, in two folders, with two files that are no pictures."""
    root = tmp_path_factory.mktemp("pictures")
    dataset = Emoji("train", styles=["noto", "twemoji"])
    for i in range(0, 480, 8):
        style = dataset[i].conditions["style"]
        (root / style).mkdir(exist_ok=True)
        dataset[i].data.resize((64, 64)).save(root / style / f"{dataset.concept(i)}.png")
    (root / "notes.txt").write_text("no picture")
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return root


@pytest.fixture(scope="module")
def index(folder):
    return Index(folder)


def test_every_picture_finds_itself(folder, index):
    assert len(index.names) == 60
    for name in index.names[::6]:
        found = index.by_image(Image.open(folder / name), 1)[0]
        assert found.name == name
        assert found.score == pytest.approx(1, abs=2e-3)


def test_crops_noise_and_colours_are_seen_through(folder, index):
    rng = np.random.default_rng(0)
    found = {"crop": 0, "noise": 0, "darker": 0}
    for name in index.names:
        image = Image.open(folder / name).convert("RGB")
        left, top = rng.integers(0, 19, 2)
        noisy = np.asarray(image) + rng.normal(0, 20, (64, 64, 3))
        changed = {
            "crop": image.crop((left, top, left + 45, top + 45)),
            "noise": Image.fromarray(noisy.clip(0, 255).astype(np.uint8)),
            "darker": image.point(lambda v: int(0.8 * v)),
        }
        for kind, picture in changed.items():
            found[kind] += index.by_image(picture, 1)[0].name == name
    assert min(found.values()) >= 54, found


def test_words_find_their_pictures_far_above_chance(index):
    """Of pictures that it was trained on: the right one is among the first six of 60."""
    names = sorted({name.partition("/")[2][:-4] for name in index.names})
    hits = 0
    for name in names:
        found = index.by_text(name.replace("-", " "), 6)
        hits += any(hit.name.endswith(f"/{name}.png") for hit in found)
    assert hits / len(names) > 0.5


def test_the_index_follows_the_folder(folder, tmp_path):
    for name in ("a", "b"):
        Image.new("RGB", (40, 40), "red" if name == "a" else "blue").save(tmp_path / f"{name}.png")
    assert Index(tmp_path).names == ["a.png", "b.png"]
    before = (tmp_path / INDEX).stat().st_mtime_ns
    assert Index(tmp_path).names == ["a.png", "b.png"]
    assert (tmp_path / INDEX).stat().st_mtime_ns == before  # nothing was looked at again
    (tmp_path / "b.png").unlink()
    Image.new("RGB", (40, 40), "green").save(tmp_path / "a.png")
    os.utime(tmp_path / "a.png", ns=(1, 1))
    (tmp_path / "c").mkdir()
    Image.new("RGB", (9, 40), "blue").save(tmp_path / "c" / "d.png")
    found = Index(tmp_path)
    assert found.names == ["a.png", "c/d.png"]
    green = dual.pretrained().pictures([Image.new("RGB", (40, 40), "green")])
    torch.testing.assert_close(found.vectors[0, :1].float(), green, atol=1e-3, rtol=0)


def test_an_index_of_another_encoder_is_made_anew(tmp_path):
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    Index(tmp_path)
    with sqlite3.connect(tmp_path / INDEX) as database:
        database.execute("UPDATE about SET value = 'dual/0'")
        database.execute("UPDATE pictures SET vectors = zeroblob(4352)")
    assert Index(tmp_path).vectors.float().norm(dim=-1).mean() == pytest.approx(1, abs=1e-2)


def test_files_that_cannot_be_read_are_left_out_and_named(index):
    assert list(index.skipped) == ["broken.png"]


def test_copies_are_found_and_nothing_else(tmp_path):
    dataset = Emoji("train", styles=["noto"])
    for k in (0, 40, 80):
        dataset[k].data.resize((64, 64)).save(tmp_path / f"{k:02d}.png")
    dataset[40].data.resize((50, 50)).save(tmp_path / "copy.jpg", quality=90)
    found = Index(tmp_path)
    assert found.duplicates() == [["40.png", "copy.jpg"]]
    assert found.duplicates(1.0) == []
    with pytest.raises(SuffuseError, match="cosine"):
        found.duplicates(0.0)


def test_a_picture_is_described_by_the_caption_it_was_trained_with():
    dataset = Emoji("train", styles=["twemoji"])
    rows = range(0, len(dataset), 10)
    names = [dataset.concept(i) for i in range(len(dataset))]
    told = describe([dataset[i].data for i in rows], names, 3)
    right = sum(names[i] in dict(best) for i, best in zip(rows, told, strict=True))
    assert right > 0.4 * len(rows)  # chance is 1 %
    assert all(best == sorted(best, key=lambda pair: -pair[1]) for best in told)
    with pytest.raises(SuffuseError, match="no captions"):
        describe([dataset[0].data], ["", " - "])


def test_what_cannot_be_searched_is_refused(folder, index, tmp_path):
    with pytest.raises(SuffuseError, match="no folder"):
        Index(tmp_path / "none")
    with pytest.raises(SuffuseError, match="no pictures"):
        Index(tmp_path)
    (tmp_path / INDEX).write_text("no database, but long enough to be taken for one " * 40)
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    with pytest.raises(SuffuseError, match="--index"):
        Index(tmp_path)
    with pytest.raises(SuffuseError, match="needs words"):
        index.by_text("?!")
    with pytest.raises(SuffuseError, match="dual/1 knows no word like"):
        index.by_text("狐狸 лиса")
    with pytest.raises(SuffuseError, match="at least one"):
        index.by_text("fox", 0)


def test_views_cover_the_picture():
    seen = np.zeros((50, 70), dtype=int)
    places = np.arange(50 * 70, dtype=np.int32).reshape(50, 70)
    coded = np.stack([places % 256, places // 256, np.zeros_like(places)], -1).astype(np.uint8)
    parts = views(Image.fromarray(coded))
    assert len(parts) == 17
    for part in parts[1:]:
        values = np.asarray(part).astype(int)
        seen.flat[(values[..., 0] + 256 * values[..., 1]).ravel()] += 1
    assert seen.min() >= 1


def test_the_encoder_is_its_own_test():
    """Held-out pictures of concepts it knows, among 100 names: at least 20 times chance."""
    found = dual.accuracy(dual.pretrained())
    assert found["test"] > 0.2
    vectors = dual.pretrained().texts(["a fox", "fox, a", "Fox a!"])
    torch.testing.assert_close(vectors[1:], vectors[:1].expand(2, -1))
    assert vectors.norm(dim=1).sub(1).abs().max() < 1e-5


# The command


def run(capsys, *words):
    code = 0
    try:
        main([*map(str, words)])
    except SystemExit as end:
        code = end.code or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command(folder, index, capsys, tmp_path):
    name = index.names[3]
    sheet = tmp_path / "found.png"
    code, out, err = run(
        capsys, "search", folder, "--image", folder / name, "-n", 3, "--json", "-o", sheet
    )
    assert code == 0
    assert json.loads(out)[0]["name"] == name
    assert "broken.png" in err
    assert Image.open(sheet).width > 100
    code, out, _ = run(capsys, "search", folder, "--text", "rose", "-n", 2)
    assert (code, len(out.splitlines())) == (0, 2)


def test_the_commands_for_captions_and_copies(folder, capsys, tmp_path):
    picture = next((folder / "noto").glob("*.png"))
    code, out, _ = run(capsys, "describe", picture, "-n", 2, "--json")
    assert code == 0
    assert len(json.loads(out)[0]["captions"]) == 2
    (tmp_path / "some").mkdir()
    Image.open(picture).save(tmp_path / "some" / "good.gif")
    (tmp_path / "some" / "bad.png").write_text("no picture")
    code, out, err = run(capsys, "describe", tmp_path / "some")
    assert (code, out.count("good.gif")) == (0, 1)
    assert "left out: cannot read" in err
    assert "bad.png" in err
    (tmp_path / "names.txt").write_text("a cat\na dog\n")
    code, out, _ = run(capsys, "describe", picture, "--captions", tmp_path / "names.txt")
    assert "a cat (" in out
    code, _, err = run(capsys, "describe", picture, "--captions", tmp_path / "none.txt")
    assert code == 1
    assert "cannot read the captions" in err
    for name in ("a", "b"):
        Image.new("RGB", (20, 20), "red").save(tmp_path / f"{name}.png")
    assert run(capsys, "search", tmp_path, "--duplicates")[:2] == (0, "a.png  b.png\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "--text WORDS or --image FILE"),
        (("--text", "a", "--image", "b"), "one of them"),
        (("--image", "none.png"), "no such file"),
        (("--text", "fox", "-o", "sheet.txt"), ".png"),
    ],
)
def test_what_the_user_gets_wrong(folder, capsys, words, says):
    code, _, err = run(capsys, "search", folder, *words)
    assert code == 1
    assert says in err
