"""A plugin from the template: built, installed beside the host, held to the kit, used."""

import errno
import importlib.util
import itertools
import json
import os
import subprocess
import sys

import pytest

from suffuse.errors import SuffuseError
from suffuse.plugins import scaffold

NAME = "night-birds"


@pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="this Python has no pip")
def test_a_new_plugin_is_complete(tmp_path, new_environment):
    host = new_environment(tmp_path / "host")
    done = host.suffuse("plugins", "new", NAME, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    source = tmp_path / f"suffuse-{NAME}"
    texts = [path.read_text() for path in source.rglob("*") if path.is_file()]
    assert not any("myplugin" in text for text in texts)

    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    subprocess.run([*build, "-q", "-w", tmp_path / "dist", source], check=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    done = host.install(wheel)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"{NAME}  suffuse-{NAME} 0.1.0  ok"

    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}
    own = [
        host.python,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--suffuse-markdown",
        "c.md",
    ]
    done = subprocess.run(own, cwd=source, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = (source / "c.md").read_text()
    assert " 0 failed, 0 fail as expected" in summary
    assert f"| denoiser {NAME}/convolutions | learns | passed |" in summary

    small = ["--set", "training.steps=20", "--set", "dataset.n=100"]
    done = host.suffuse("train", f"{NAME}/waves", "--out", "run", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = host.suffuse("sample", "run", "-n", 2, "--speed", "fast", "-o", "out/", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "out" / "00001.csv").read_text().splitlines()) == 65
    done = host.suffuse("evaluate", "run", "-n", 8, "--json", cwd=tmp_path)
    assert [row["name"] for row in json.loads(done.stdout)] == ["frequency"]


@pytest.mark.parametrize(
    "name", ["", "Birds", "a/b", "../a", "birds-", "9a", "a_b", "core", "taken"]
)
def test_names_that_are_none(name, tmp_path):
    with pytest.raises(SuffuseError):
        scaffold.write(name, tmp_path / "new", frozenset({"taken"}))
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_midway_leaves_nothing(tmp_path, monkeypatch):
    genuine, calls = os.fsync, itertools.count()

    def fsync(descriptor):
        if next(calls) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        genuine(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(SuffuseError, match="disk is full"):
            scaffold.write("birds", tmp_path / "new")
    assert not list(tmp_path.iterdir())
    assert scaffold.write("birds", tmp_path / "new")


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(SuffuseError, match="not empty"):
        scaffold.write("birds", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
