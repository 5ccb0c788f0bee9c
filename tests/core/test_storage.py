"""Files are whole or not there; nothing is unpickled."""

from __future__ import annotations

import errno
import json
import os
import pickle
import resource
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from suffuse import storage
from suffuse.errors import SuffuseError


def failing(number: int) -> Callable[..., None]:
    def fail(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


WRITES: dict[str, Callable[[Path], None]] = {
    "bytes": lambda path: storage.write_bytes(path, b"new"),
    "text": lambda path: storage.write_text(path, "new"),
    "json": lambda path: storage.write_json(path, {"new": 1}),
    "tensors": lambda path: storage.save_tensors(path, {"new": torch.ones(3)}),
}


@pytest.mark.parametrize("kind", WRITES)
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_crash_before_the_rename_leaves_the_old_file(
    kind: str, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    class Crash(BaseException):
        pass

    def crash(*arguments: object) -> None:
        raise Crash

    monkeypatch.setattr(os, moment, crash)
    with pytest.raises(Crash):
        WRITES[kind](path)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("kind", WRITES)
@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "no permission"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_a_failed_write_is_a_sentence_and_leaves_the_old_file(
    kind: str, number: int, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", failing(number))
    with pytest.raises(SuffuseError, match=f"cannot write .*file: {sentence}"):
        WRITES[kind](path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.fixture
def quota() -> Iterator[None]:
    """This process may write no file of more than 4 kB, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("quota")
@pytest.mark.parametrize(
    "write",
    [
        lambda path: storage.write_bytes(path, b"new" * 10_000),
        lambda path: storage.save_tensors(path, {"new": torch.ones(10_000)}),
    ],
)
def test_what_does_not_fit_on_the_disk_is_told(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(SuffuseError, match="file: File too large"):
        write(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_folders_are_made_and_files_have_usual_permissions(tmp_path: Path) -> None:
    usual = tmp_path / "usual"
    usual.touch()
    for kind, write in WRITES.items():
        path = tmp_path / "a" / "b" / kind
        write(path)
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)


def test_a_folder_appears_with_all_its_files(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for text in ("old", "new"):
        with storage.replacing_folder(path) as temporary:
            (temporary / "file").write_text(text)
        assert (path / "file").read_text() == text

    def fail() -> None:
        with storage.replacing_folder(path) as temporary:
            (temporary / "file").write_text("newer")
            raise SuffuseError(f"{temporary / 'file'} is wrong")

    with pytest.raises(SuffuseError, match="folder/file is wrong"):
        fail()
    assert (path / "file").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_json_is_read_back(tmp_path: Path) -> None:
    value = {"b": [1, None, 0.1], "a": {"ü": True}}
    storage.write_json(tmp_path / "file", value)
    assert storage.read_json(tmp_path / "file") == value
    assert list(storage.read_json(tmp_path / "file")) == ["b", "a"]
    with pytest.raises(ValueError, match="JSON"):
        storage.write_json(tmp_path / "file", float("nan"))
    assert storage.read_json(tmp_path / "file") == value


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000])
def test_damaged_json_is_named(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(text)
    with pytest.raises(SuffuseError, match="file is damaged"):
        storage.read_json(tmp_path / "file")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SuffuseError, match=r"there is no file .*missing"):
        storage.read_json(tmp_path / "missing")
    with pytest.raises(SuffuseError, match=r"there is no file .*missing"):
        storage.load_tensors(tmp_path / "missing")
    with pytest.raises(SuffuseError, match="cannot read"):
        storage.read_json(tmp_path)


def test_tensors_are_read_back(tmp_path: Path) -> None:
    base = torch.randn(4, 5)
    tensors = {
        "b": base,
        "a": base.T,
        "shared": base,
        "part": base[1:3],
        "half": base.bfloat16(),
        "count": torch.tensor(7),
        "empty": torch.zeros(0, 3),
    }
    storage.save_tensors(tmp_path / "file", tensors)
    found = storage.load_tensors(tmp_path / "file")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize("metadata", [None, {}, {"a": "b"}])
def test_no_tensors_are_read_back(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    storage.save_tensors(tmp_path / "file", {}, metadata)
    assert storage.load_tensors(tmp_path / "file") == {}


def test_the_same_tensors_give_the_same_bytes(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3), "b": torch.randn(2)}
    metadata = {key: key * 3 for key in "fedcba"}
    written = set()
    for i in range(4):
        backwards = dict(reversed(tensors.items())) if i % 2 else tensors
        storage.save_tensors(tmp_path / "file", backwards, metadata)
        written.add((tmp_path / "file").read_bytes())
    assert len(written) == 1
    header = written.pop()
    size = int.from_bytes(header[:8], "little")
    assert json.loads(header[8 : 8 + size])["__metadata__"].items() >= metadata.items()
    assert torch.equal(storage.load_tensors(tmp_path / "file")["a"], tensors["a"])


def test_damaged_tensors_are_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    storage.save_tensors(path, {"a": torch.randn(100)})
    whole = path.read_bytes()
    for damaged in (
        b"",
        whole[:4],
        whole[:50],
        whole[:-1],
        b"\xff" * 8 + whole[8:],
        b"hello" * 9,
        whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:],
    ):
        path.write_bytes(damaged)
        with pytest.raises(SuffuseError, match="file is damaged"):
            storage.load_tensors(path)


class Payload:
    """What an attacker pickles: a call."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch pickle-was-run",)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_refused_and_not_run(
    protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(pickle.dumps(Payload(), protocol))
    with pytest.raises(SuffuseError, match="is a pickle"):
        storage.load_tensors(tmp_path / "file")
    torch.save({"a": Payload()}, tmp_path / "file")
    with pytest.raises(SuffuseError, match="is a pickle"):
        storage.load_tensors(tmp_path / "file")
    assert not (tmp_path / "pickle-was-run").exists()


def test_digests(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    # The vector of FIPS 180-2, appendix B.1.
    assert storage.digest(tmp_path / "file") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    assert storage.fingerprint({"a": [1, 2]}) != storage.fingerprint({"a": [2, 1]})
