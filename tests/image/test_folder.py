"""Folders of pictures: the layouts, the split, and everything that may lie in a folder."""

from __future__ import annotations

import json
import logging
import os
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Dataset
from suffuse_image import folder as folder_module
from suffuse_image.folder import Folder


def picture(path, size=(6, 5), colour=None, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    if colour is None:
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    else:
        Image.new("RGB", size, colour).save(path)
    return path


def both(path, **options):
    return Folder("train", str(path), **options), Folder("test", str(path), **options)


def examples(*sets):
    return {
        name: dict(example.conditions)
        for one in sets
        for name, example in zip(one.names, one, strict=True)
    }


# Layouts


def test_subfolders_are_classes(tmp_path):
    for name in ("dog/b.png", "cat/a.jpg", "cat/deeper/c.webp", "dog/.hidden.png"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture, and not named like one")
    train, test = both(tmp_path)
    assert isinstance(train, Dataset)
    assert train.conditions == test.conditions == {"label": Condition("category", ("cat", "dog"))}
    assert examples(train, test) == {
        "cat/a.jpg": {"label": "cat"},
        "cat/deeper/c.webp": {"label": "cat"},
        "dog/b.png": {"label": "dog"},
    }
    assert train.skipped == {}


@pytest.mark.parametrize(("inside", "label"), [("", "picture"), ("cat/", "cat")])
def test_pictures_without_classes_are_one_class(tmp_path, inside, label):
    for i in range(4):
        picture(tmp_path / f"{inside}{i}.png")
    train, test = both(tmp_path)
    assert train.conditions == {"label": Condition("category", (label,))}
    assert all(value == {"label": label} for value in examples(train, test).values())


def test_a_picture_beside_the_classes_has_no_label(tmp_path):
    for name in ("a.png", "cat/b.png", "dog/c.png"):
        picture(tmp_path / name)
    train, test = both(tmp_path)
    assert train.conditions["label"].names == ("cat", "dog")
    assert examples(train, test)["a.png"] == {"label": None}


def test_names_are_sorted(tmp_path):
    for i in np.random.default_rng(0).permutation(30):
        picture(tmp_path / f"{i:02}.png", colour=(int(i), 0, 0))
    train, test = both(tmp_path)
    assert train.names == sorted(train.names)
    for one in (train, test):
        assert [f"{e.data.getpixel((0, 0))[0]:02}.png" for e in one] == one.names


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_metadata_file_gives_labels_and_captions(tmp_path, suffix):
    rows = [
        {"file_name": "x/a.png", "label": "fox", "text": "a red fox, asleep"},
        {"file_name": "b.png", "label": "owl", "text": 'an "owl" 🦉'},
        {"file_name": "c.png", "label": "", "text": ""},
    ]
    for row in rows:
        picture(tmp_path / row["file_name"])
    picture(tmp_path / "unlisted.png")
    if suffix == "csv":
        lines = [
            "\ufefffile_name,label,text",
            'x/a.png,fox,"a red fox, asleep"',
            'b.png,owl,"an ""owl"" 🦉"',
            "c.png,,",
        ]
    else:
        lines = [json.dumps(row) for row in rows]
    (tmp_path / f"metadata.{suffix}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    train, test = both(tmp_path)
    assert train.conditions == {
        "label": Condition("category", ("fox", "owl")),
        "text": Condition("text"),
    }
    assert examples(train, test) == {
        "x/a.png": {"label": "fox", "text": "a red fox, asleep"},
        "b.png": {"label": "owl", "text": 'an "owl" 🦉'},
        "c.png": {"label": None, "text": None},
    }


def test_a_column_named_caption_is_text_and_numbers_are_labels(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "a.png", "label": 3, "caption": "one"}\n\n{"file_name": "b.png", "label": 0}'
    )
    train, test = both(tmp_path)
    assert train.conditions["label"].names == ("0", "3")
    assert examples(train, test)["a.png"] == {"label": "3", "text": "one"}


@pytest.mark.parametrize("test_folder", ["test", "validation", "val"])
def test_an_official_split_is_kept(tmp_path, test_folder):
    for i in range(5):
        picture(tmp_path / f"train/cat/{i}.png")
        picture(tmp_path / f"train/dog/{i}.png")
    picture(tmp_path / f"{test_folder}/cat/x.png")
    picture(tmp_path / f"{test_folder}/emu/y.png")
    train, test = both(tmp_path)
    assert len(train) == 10
    assert examples(test) == {
        f"{test_folder}/cat/x.png": {"label": "cat"},
        f"{test_folder}/emu/y.png": {"label": "emu"},
    }
    assert train.conditions["label"].names == test.conditions["label"].names
    assert train.conditions["label"].names == ("cat", "dog", "emu")


@pytest.mark.parametrize("where", ["inside", "above"])
def test_an_official_split_with_captions(tmp_path, where):
    for split in ("train", "test"):
        picture(tmp_path / split / "a.png")
        if where == "inside":
            (tmp_path / split / "metadata.csv").write_text(f"file_name,text\na.png,{split}ed\n")
    if where == "above":
        (tmp_path / "metadata.csv").write_text(
            "file_name,text\ntrain/a.png,trained\ntest/a.png,tested\n"
        )
    train, test = both(tmp_path)
    assert examples(train) == {"train/a.png": {"label": "picture", "text": "trained"}}
    assert examples(test) == {"test/a.png": {"label": "picture", "text": "tested"}}


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "test", "plane"):
        picture(tmp_path / name / "a.png")
    train, _ = both(tmp_path)
    assert train.conditions["label"].names == ("plane", "test", "train")


# The split


def test_the_split_is_by_name_alone_and_stable(tmp_path):
    for i in range(200):
        picture(tmp_path / f"{i}.png", size=(1, 1))
    train, test = both(tmp_path, test_fraction=0.25)
    assert set(train.names).isdisjoint(test.names)
    assert len(train) + len(test) == 200
    assert 30 < len(test) < 70
    before = set(test.names)
    for i in range(200, 300):
        picture(tmp_path / f"{i}.png", size=(1, 1))
    (tmp_path / "0.png").unlink()
    train, test = both(tmp_path, test_fraction=0.25)
    assert {name for name in test.names if int(name[:-4]) < 200} == before - {"0.png"}
    train_less, test_less = both(tmp_path, test_fraction=0.1)
    assert set(test_less.names) < set(test.names)
    assert set(train_less.names) > set(train.names)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_small_folders_have_both_splits(tmp_path, n):
    for i in range(n):
        picture(tmp_path / f"{i}.png")
    for fraction in (0.01, 0.99):
        assert all(len(one) >= 1 for one in both(tmp_path, test_fraction=fraction))
    assert [len(one) for one in both(tmp_path, test_fraction=0.0)] == [n, 0]


def test_a_single_picture_is_trained_on(tmp_path):
    picture(tmp_path / "a.png")
    assert [len(one) for one in both(tmp_path, test_fraction=0.9)] == [1, 0]


# Nothing is decoded before it is asked for


def test_nothing_is_decoded_before_it_is_asked_for(tmp_path, monkeypatch):
    for i in range(20):
        picture(tmp_path / f"{i}.png")
    decoded = []
    read = folder_module.read
    monkeypatch.setattr(
        folder_module, "read", lambda *given: decoded.append(given[0].name) or read(*given)
    )
    train, _ = both(tmp_path)
    assert decoded == []
    _ = train[3]
    assert decoded == [train.names[3]]


def test_it_goes_to_worker_processes(tmp_path):
    picture(tmp_path / "a/a.png")
    picture(tmp_path / "b/b.png")
    train, _ = both(tmp_path)
    again = pickle.loads(pickle.dumps(train))
    assert again.names == train.names
    assert again[0].data.tobytes() == train[0].data.tobytes()


def test_large_pictures_are_shrunk_upon_reading(tmp_path):
    for name in ("a.jpg", "b.png"):
        picture(tmp_path / name, size=(1000, 600), colour="red")
    train = Folder("train", str(tmp_path), 0.0, 100)
    assert [e.data.size for e in train] == [(167, 100)] * 2 or [e.data.size for e in train] == [
        (250, 150),
        (167, 100),
    ]
    assert all(min(e.data.size) >= 100 for e in train)
    assert [e.data.size for e in Folder("train", str(tmp_path), 0.0, 0)] == [(1000, 600)] * 2
    assert [e.data.size for e in Folder("train", str(tmp_path), 0.0, 301)] == [(1000, 600)] * 2


# What may lie in a folder


def bomb(path):
    """A PNG of 2 kB that claims 400 million pixels."""

    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 2_000_000))
        + chunk(b"IEND", b"")
    )


def damage(tmp_path):
    """Six files named like pictures that are none."""
    whole = picture(tmp_path / "whole.png", size=(60, 60)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    (tmp_path / "flipped.png").write_bytes(flipped)
    jpeg = picture(tmp_path / "whole.jpg", size=(60, 60)).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (tmp_path / "text.png").write_text("This is a text file.")
    (tmp_path / "zero.png").touch()
    bomb(tmp_path / "bomb.png")
    return {"cut.png", "flipped.png", "cut.jpg", "text.png", "zero.png", "bomb.png"}


def test_damaged_files_are_counted_named_once_and_left_out(tmp_path, caplog):
    bad = damage(tmp_path)
    with caplog.at_level(logging.WARNING, "suffuse_image"):
        train, test = both(tmp_path)
        both(tmp_path)
    assert set(train.skipped) == set(test.skipped) == bad
    assert sorted(train.names + test.names) == ["whole.jpg", "whole.png"]
    assert all(e.data.size == (60, 60) for one in (train, test) for e in one)
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "left out 6 of 8 files" in message
    assert all(message.count(f"{name}:") == 1 for name in bad)
    assert "zero.png: it is empty" in message
    assert "text.png: it is no picture" in message
    assert "bomb.png: it has more pixels" in message
    assert caplog.records[0].exc_info is None


def test_very_small_and_very_wide_pictures_are_pictures(tmp_path):
    sizes = [(1, 1), (20_000, 1), (1, 20_000), (20_000, 40)]
    for i, size in enumerate(sizes):
        picture(tmp_path / f"{i}.png", size=size, colour="blue")
    train = Folder("train", str(tmp_path), 0.0)
    assert [e.data.size for e in train] == sizes
    assert train.skipped == {}


def test_a_picture_damaged_later_is_replaced_by_the_next(tmp_path, caplog):
    for i in range(4):
        picture(tmp_path / f"{i}.png", colour=(i, 0, 0))
    train = Folder("train", str(tmp_path), 0.0)
    (tmp_path / "3.png").write_bytes(b"gone bad")
    with caplog.at_level(logging.WARNING, "suffuse_image"):
        assert [e.data.getpixel((0, 0))[0] for e in train] == [0, 1, 2, 0]
        assert train[3].data.getpixel((0, 0))[0] == 0
    assert len(caplog.records) == 1
    assert "3.png" in caplog.text
    assert "3.png" in train.skipped


def test_a_folder_that_goes_away_is_said_so(tmp_path):
    train = Folder("train", str(picture(tmp_path / "p/a.png").parent), 0.0)
    (tmp_path / "p/a.png").unlink()
    with pytest.raises(SuffuseError, match="can be read any more"):
        _ = train[0]
    (tmp_path / "p").rmdir()
    train.skipped.clear()
    with pytest.raises(SuffuseError, match="is gone"):
        _ = train[0]


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_are_followed_and_loops_end(tmp_path):
    picture(tmp_path / "there/a.png")
    (tmp_path / "here/cat").mkdir(parents=True)
    picture(tmp_path / "here/dog/b.png")
    (tmp_path / "here/cat/linked").symlink_to(tmp_path / "there")
    (tmp_path / "here/cat/loop").symlink_to(tmp_path / "here")
    (tmp_path / "here/cat/dangling.png").symlink_to(tmp_path / "nothing")
    train = Folder("train", str(tmp_path / "here"), 0.0)
    assert train.names == ["cat/linked/a.png", "dog/b.png"]
    assert train.skipped == {"cat/dangling.png": "there is no such file"}


def test_a_folder_that_changed_is_read_again(tmp_path):
    picture(tmp_path / "a.png")
    assert len(Folder("train", str(tmp_path), 0.0)) == 1
    picture(tmp_path / "b.png")
    assert len(Folder("train", str(tmp_path), 0.0)) == 2


# What a user may get wrong


@pytest.mark.parametrize("path", [None, ""])
def test_without_a_path_it_says_how_to_give_one(path):
    with pytest.raises(SuffuseError, match=r"--data DIR.*dataset\.path"):
        Folder("train", path)


def test_wrong_folders_are_named(tmp_path):
    with pytest.raises(SuffuseError, match=r"no folder .*missing"):
        Folder("train", str(tmp_path / "missing"))
    with pytest.raises(SuffuseError, match="is a file"):
        Folder("train", str(picture(tmp_path / "a.png")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SuffuseError, match=r"no pictures in .*empty"):
        Folder("train", str(tmp_path / "empty"))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.png").write_text("hello")
    with pytest.raises(SuffuseError, match=r"none of the 1 files.*a\.png: it is no picture"):
        Folder("train", str(tmp_path / "bad"))


@pytest.mark.parametrize("options", [{"test_fraction": 1.0}, {"test_fraction": -0.1}])
def test_wrong_fractions_are_named(tmp_path, options):
    picture(tmp_path / "a.png")
    with pytest.raises(SuffuseError, match="test_fraction"):
        Folder("train", str(tmp_path), **options)
    with pytest.raises(SuffuseError, match="reduce_to"):
        Folder("train", str(tmp_path), reduce_to=-1)
    with pytest.raises(ValueError, match="split"):
        Folder("dev", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("metadata.csv", "file,text\na.png,x\n", r"line 2: no file_name.*file, text"),
        ("metadata.csv", "file_name,text\n../a.png,x\n", "line 2.*outside"),
        ("metadata.csv", "file_name,text\n/etc/a.png,x\n", "outside"),
        ("metadata.csv", "file_name,text\n", "lists no pictures"),
        ("metadata.csv", b"file_name\n\xff\xfe\x00", "cannot read"),
        ("metadata.jsonl", '{"file_name": "a.png"}\n{"file_name": ', "line 2: this is no JSON"),
        ("metadata.jsonl", '["a.png"]', "line 1: expected a JSON object"),
        ("metadata.jsonl", '{"file_name": 3}', "line 1: no file_name"),
        ("metadata.jsonl", '{"file_name": "missing.png"}', r"missing\.png: there is no such file"),
    ],
)
def test_damaged_metadata_is_named(tmp_path, name, text, words):
    picture(tmp_path / "a.png")
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SuffuseError, match=words):
        Folder("train", str(tmp_path))


def test_prompts_need_captions(tmp_path):
    picture(tmp_path / "a.png")
    with pytest.raises(SuffuseError, match=r"no captions: put a metadata\.csv"):
        Folder(path=str(tmp_path), captions=True)
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,a fox\n", encoding="utf-8")
    assert Folder(path=str(tmp_path), captions=True)[0].conditions["text"] == "a fox"
