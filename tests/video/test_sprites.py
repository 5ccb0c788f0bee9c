"""Characters from sheets and emoji from packages: what they show, splits, and what is none."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from suffuse import plugins
from suffuse.errors import SuffuseError
from suffuse_video.conformance import _emoji, _sprites
from suffuse_video.emoji import Emoji, named
from suffuse_video.sprites import ACTIONS, LAYERS, Sprites


@pytest.fixture(scope="module")
def sheets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sheets")
    _sprites(folder)
    return folder


def test_layers_lie_on_each_other_and_the_action_goes_on(sheets):
    data = Sprites("train", str(sheets), frames=4)
    example = data[0]
    kind, view, *parts = example.conditions["prompt"].replace(",", "").split()
    assert (kind, view) == ("spellcast", "back")
    for i, (layer, part) in enumerate(zip(LAYERS, parts, strict=True)):
        name = part.removeprefix(f"{layer}-")
        sheet = np.asarray(Image.open(sheets / layer / f"{name}.png"))
        colour = sheet[..., :3].max((0, 1))
        assert (example.data.frames[0, 12 * i : 12 * i + 12, :20] == colour).all()
        assert (example.data.frames[0, 12 * i : 12 * i + 12, 40:] == 255).all()
    assert example.conditions["action"] == "spellcast back"
    assert [example.conditions[layer] for layer in LAYERS] == parts
    categories = {k: c for k, c in data.conditions.items() if c.kind == "category"}
    assert set(categories) == {"action", *LAYERS}
    assert all(example.conditions[k] in c.names for k, c in categories.items())
    starts = (example.data.frames[:, 0] != 255).any(-1).argmax(1) // 2
    assert starts.tolist() == [0, 2, 4, 6]  # of seven frames


def test_characters_are_in_one_split_alone_and_every_word_is_known(sheets):
    splits = [Sprites(split, str(sheets), frames=2, test_clips=9999) for split in ("train", "test")]
    assert sum(map(len, splits)) == 3**4 * len(ACTIONS)
    few = Sprites("test", str(sheets), frames=2, test_clips=30)
    assert len({few[i].conditions["prompt"] for i in range(30)}) == len(few) == 30
    assert {few[i].conditions["action"] for i in range(30)} == {" ".join(a) for a in ACTIONS}
    seen = []
    for data in splits:
        said = [data[i].conditions["prompt"] for i in range(0, len(data), 7)]
        assert all(set(s.replace(",", "").split()) <= set(data.vocabulary) for s in said)
        seen.append({s.partition(", ")[2] for s in said})
    assert not seen[0] & seen[1]


def test_sheets_that_are_none_are_refused(sheets, tmp_path):
    with pytest.raises(SuffuseError, match="needs the sheets"):
        Sprites()
    with pytest.raises(SuffuseError, match="there are no sheets"):
        Sprites(path=str(tmp_path / "no.zip"))
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with pytest.raises(SuffuseError, match="is no zip file of sheets"):
        Sprites(path=str(tmp_path / "bad.zip"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SuffuseError, match="holds no sheets body"):
        Sprites(path=str(tmp_path / "empty"))
    shutil.copytree(sheets, tmp_path / "small")
    for file in (tmp_path / "small" / "hair").iterdir():
        Image.new("RGBA", (64, 64)).save(file)
    with pytest.raises(SuffuseError, match="is 64x64, and 21 rows"):
        Sprites(path=str(tmp_path / "small"))[0]


@pytest.mark.skipif("SUFFUSE_DATA" not in os.environ, reason="needs SUFFUSE_DATA")
def test_the_real_sheets_are_read():
    path = Path(os.environ["SUFFUSE_DATA"]) / "video" / "lpc_sprites_parts.zip"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    splits = [Sprites(split, str(path), test_clips=99999) for split in ("train", "test")]
    assert sum(map(len, splits)) == 3430 * 21
    assert len(Sprites("test", str(path))) == 512
    for i in (0, 5000, 20000, -1):
        frames = splits[0][i].data.frames
        assert 0.05 < (frames != 255).any(-1).mean() < 0.5


# Animated emoji


def test_emoji_are_called_what_unicode_calls_them():
    assert named("1f9a1") == "badger"
    assert named("1f9d1-1f3fc-200d-2696-fe0f") == "adult, fitzpatrick type-3, scales"
    assert [named(stem) for stem in ("readme", "zz-fe0f", "ffffffffff", "")] == [""] * 4


def test_a_package_is_the_same_as_a_folder_and_as_a_tgz(tmp_path):
    (tmp_path / "package").mkdir()
    _emoji(tmp_path / "package")
    (tmp_path / "package" / "package.json").write_text("{}")
    with tarfile.open(tmp_path / "emoji.tgz", "w:gz") as archive:
        archive.add(tmp_path / "package", "package")
    for split in ("train", "test"):
        folder, packed = (
            Emoji(split, str(tmp_path / name), frames=4, size=16)
            for name in ("package", "emoji.tgz")
        )
        assert len(folder) == len(packed) > 0
        for i in range(3):
            assert folder[i].conditions == packed[i].conditions
            np.testing.assert_array_equal(folder[i].data.frames, packed[i].data.frames)
    assert Emoji("train", str(tmp_path / "package"))[0].data.frames.shape == (16, 32, 32, 3)


def test_packages_that_are_none_are_refused(tmp_path):
    with pytest.raises(SuffuseError, match="needs a package"):
        Emoji()
    with pytest.raises(SuffuseError, match="there is no package"):
        Emoji(path=str(tmp_path / "no.tgz"))
    (tmp_path / "bad.tgz").write_bytes(b"none")
    with pytest.raises(SuffuseError, match="no folder and no"):
        Emoji(path=str(tmp_path / "bad.tgz"))
    with pytest.raises(SuffuseError, match="holds no animation"):
        Emoji(path=str(tmp_path))
    (tmp_path / "1f9a1.webp").write_bytes(b"no picture")
    with pytest.raises(SuffuseError, match="cannot read 1f9a1"):
        Emoji("train", str(tmp_path))[0]


def test_pictures_in_their_styles_may_stand_beside_the_animations(tmp_path):
    _emoji(tmp_path)
    plain, bare, train, test = (
        Emoji(split, str(tmp_path), frames=4, size=16, stills=stills)
        for stills in (False, True)
        for split in ("train", "test")
    )
    pictures = plugins.build("dataset", {"name": "image/emoji"}, split="train")
    assert len(train) == len(plain) + len(pictures)
    told = [
        {(e.conditions["prompt"], e.conditions["style"]) for e in map(split.__getitem__, places)}
        for split, places in (
            (train, range(len(plain), len(train))),
            (test, range(len(bare), len(test))),
        )
    ]
    assert not told[0] & told[1]
    assert {style for _, style in told[1]} == {style for _, style in told[0]}
    assert train[0].conditions == {**plain[0].conditions, "style": "fluent"}
    assert set(train.conditions["style"].names) > {"fluent", "noto"}
    still, picture = train[len(plain)], pictures[0]
    assert still.conditions == picture.conditions
    assert (still.data.frames == still.data.frames[:1]).all()
    assert abs(still.data.frames[0].mean() - np.asarray(picture.data).mean()) < 3
    with pytest.raises(IndexError):
        train[len(train)]
