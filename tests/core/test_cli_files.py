"""What commands make of the files that they are given."""

from pathlib import Path

import pytest

from suffuse.cli.files import ensure_folder, found, read, read_each, readable
from suffuse.errors import SuffuseError


class Texts:
    suffixes = (".txt",)

    def read(self, path: Path) -> str:
        text = path.read_text()
        if text == "bad":
            raise SuffuseError(f"{path} is damaged")
        return text


def files(folder: Path, **contents: str) -> None:
    for name, text in contents.items():
        (folder / f"{name}.txt").write_text(text)


def test_a_damaged_file_of_several_is_named_and_left_out(tmp_path, capsys):
    (tmp_path / "sub").mkdir()
    files(tmp_path, a="one", b="bad")
    files(tmp_path / "sub", c="three")
    (tmp_path / "notes.md").write_text("not ours")
    paths = found([tmp_path], Texts())
    assert [p.name for p in paths] == ["a.txt", "b.txt", "c.txt"]
    kept, objects = read(paths, Texts())
    assert [p.name for p in kept] == ["a.txt", "c.txt"]
    assert objects == ["one", "three"]
    assert "left out" in (said := capsys.readouterr().err)
    assert "b.txt is damaged" in said


def test_files_that_are_only_read_count_too(tmp_path):
    files(tmp_path, a="one")
    (tmp_path / "b.md").write_text("two")
    renderer = Texts()
    renderer.reads = {".txt", ".md"}
    assert [p.name for p in found([tmp_path], renderer)] == ["a.txt", "b.md"]


def test_a_folder_may_be_one_object_and_what_is_readable_is_told(tmp_path):
    files(tmp_path, a="one")
    renderer = Texts()
    renderer.reads = (".md",)
    (tmp_path / "empty").mkdir()
    (tmp_path / "b.txt").mkdir()
    for path, ok in (("a.txt", 1), ("x.md", 1), ("x.png", 0), ("", 1), ("empty", 0), ("b.txt", 0)):
        assert readable(tmp_path / path, renderer) == bool(ok)
    assert found([tmp_path], renderer) == [tmp_path / "a.txt"]
    renderer.whole = lambda path: path.name == "empty"
    assert readable(tmp_path / "empty", renderer)
    assert found([tmp_path / "empty", tmp_path], renderer) == [
        tmp_path / "empty",
        tmp_path / "a.txt",
    ]


def test_where_nothing_can_be_read_it_is_an_error(tmp_path):
    files(tmp_path, a="bad", b="bad")
    with pytest.raises(SuffuseError, match="none of the 2"):
        read(found([tmp_path], Texts()), Texts())
    with pytest.raises(SuffuseError, match=r"a\.txt is damaged"):
        read([tmp_path / "a.txt"], Texts())


def test_places_without_files_are_told(tmp_path):
    for paths, said in (
        ([tmp_path], "holds no file of .txt"),
        ([tmp_path / "gone"], "there is no file"),
        ([], "at least one file"),
    ):
        with pytest.raises(SuffuseError, match=said):
            found(paths, Texts())


class Lines(Texts):
    def read_all(self, path: Path) -> list[tuple[str, str]]:
        return [(f"line {i}", line) for i, line in enumerate(self.read(path).splitlines(), 1)]


def test_of_a_file_that_holds_many_objects_all_are_read(tmp_path, capsys):
    files(tmp_path, a="one\ntwo", b="bad", c="three")
    paths = found([tmp_path], Lines())
    names, objects = read_each(paths, Lines(), tmp_path)
    assert objects == ["one", "two", "three"]
    assert names == ["a.txt: line 1", "a.txt: line 2", "c.txt"]
    assert "b.txt is damaged" in capsys.readouterr().err
    assert read_each(paths, Texts(), tmp_path) == (["a.txt", "c.txt"], ["one\ntwo", "three"])
    assert read_each(paths[:1], Lines(), paths[0])[0] == ["a.txt: line 1", "a.txt: line 2"]
    with pytest.raises(SuffuseError, match="is damaged"):
        read_each([tmp_path / "b.txt"], Lines(), tmp_path)


def test_a_new_folder_is_not_named_like_a_file(tmp_path):
    for name in ("out", "at-1.5", "runs/a.b", "v1.2"):
        ensure_folder(tmp_path / name, [".sdf"])
    with pytest.raises(SuffuseError, match=r"ends in \.sdf, \.png; .*made\.pdb.*make it first"):
        ensure_folder(tmp_path / "made.pdb", [".sdf", ".png", ".sdf"])
    (tmp_path / "made.pdb").mkdir()
    ensure_folder(tmp_path / "made.pdb", [".sdf"])
    files(tmp_path, a="one")
    with pytest.raises(SuffuseError, match=r"another kind$"):
        ensure_folder(tmp_path / "a.txt", [".sdf"])
