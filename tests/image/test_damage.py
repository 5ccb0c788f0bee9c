"""Folders of anything: what can be trained on is, the rest is named; no traceback."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import suffuse
from suffuse.cli import main

SMALL = [
    *("--set", "training.steps=2", "--set", "training.sample_every=0", "--set", "evaluators=[]"),
    *("--set", "training.precision=fp32", "--set", "training.batch=4", "--set", "encoder.size=8"),
    *("--set", "denoiser.width=8", "--set", "denoiser.multipliers=[1]"),
]


def train(folder: Path, out: Path) -> tuple[int, str]:
    """The exit status of a training, and what it says on standard error."""
    code = 0
    with CliRunner().isolation() as (_, err, _):
        try:
            main(["train", "image/folder", "--data", str(folder), "--out", str(out), *SMALL])
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, err.getvalue().decode()


def picture(path: Path, width: int = 12, height: int = 12) -> None:
    shade = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(shade).save(path)


def corrupt(path: Path) -> None:
    picture(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    path.write_bytes(data)


def bomb(path: Path) -> None:
    """A PNG of some bytes that says it has 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 20))
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


BAD: dict[str, Callable[[Path], object]] = {
    "corrupt": corrupt,
    "text": lambda path: path.write_text("I am no picture"),
    "empty": lambda path: path.touch(),
    "bomb": bomb,
}
ODD: dict[str, Callable[[Path], object]] = {
    "one pixel": lambda path: picture(path, 1, 1),
    "20,000 wide": lambda path: picture(path, 20_000, 2),
    "20,000 high": lambda path: picture(path, 2, 20_000),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_among_good_ones_is_named_and_left_out(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(4):
        picture(folder / f"good-{i}.png")
    BAD[kind](folder / "bad.png")
    code, said = train(folder, tmp_path / "run")
    assert code == 0, said
    assert "bad.png" in caplog.text
    assert "Traceback" not in said
    assert len(suffuse.load(tmp_path / "run").sample(2, steps=2)) == 2


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_alone_are_refused(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    BAD[kind](folder / "bad.png")
    code, said = train(folder, tmp_path / "run")
    assert code == 1
    assert said.startswith("error: ")
    assert "bad.png" in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ODD)
def test_pictures_of_odd_sizes_are_pictures(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        ODD[kind](folder / f"{i}.png")
    code, said = train(folder, tmp_path / "run")
    assert code == 0, said


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_pictures(exists: bool, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    if exists:
        folder.mkdir()
    code, said = train(folder, tmp_path / "run")
    assert code == 1
    assert said.startswith("error: ")
    assert str(folder) in said
    assert not (tmp_path / "run").exists()
