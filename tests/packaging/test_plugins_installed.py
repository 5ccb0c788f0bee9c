"""A third party's plugin: built as a wheel, installed beside the host, trained and sampled."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "fixtures" / "suffuse-toy"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("pip") is None, reason="this Python has no pip to install with"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of the toy plugin, built by its own build backend."""
    root = tmp_path_factory.mktemp("build")
    source = shutil.copytree(SOURCE, root / "source", ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(root / "dist")]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    return next((root / "dist").glob("suffuse_toy-1.0-*.whl"))


@pytest.fixture(scope="module")
def host(tmp_path_factory, wheel, new_environment):
    environment = new_environment(tmp_path_factory.mktemp("host"))
    done = environment.install(wheel)
    assert done.returncode == 0, done.stderr
    return environment


def statuses(environment):
    done = environment.suffuse("plugins", "list", "--json")
    return {row["name"]: row for row in json.loads(done.stdout)}


def test_it_is_listed_as_ok_with_what_it_adds(host):
    row = statuses(host)["toy"]
    assert (row["distribution"], row["version"]) == ("suffuse-toy", "1.0")
    assert (row["status"], row["message"]) == ("ok", "")
    assert row["adds"] == {
        "dataset": ["toy/spiral"],
        "encoder": ["toy/points"],
        "denoiser": ["toy/mlp"],
        "evaluator": ["toy/distance"],
        "renderer": ["toy/plot"],
        "recipe": ["toy/spiral"],
    }


def test_it_brings_its_commands(host):
    assert "Points in the plane." in host.suffuse("--help").stdout
    assert len(host.suffuse("toy", "points", "-n", 2).stdout.splitlines()) == 2


def test_it_tells_of_its_environment(host):
    assert "toy dimensions" in host.suffuse("plugins", "doctor").stdout


def test_it_trains_and_samples(host, tmp_path):
    small = ["--set", "training.steps=30", "--set", "dataset.n=100"]
    done = host.suffuse("train", "toy/spiral", "--out", "run", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())
    assert recorded["plugins"]["suffuse-toy"] == "1.0"
    done = host.suffuse("sample", "run", "-n", 4, "--seed", 0, "-o", "out/", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    points = [json.loads(path.read_text())["point"] for path in tmp_path.glob("out/*.json")]
    assert [len(point) for point in points] == [2] * 4
    assert len({tuple(point) for point in points}) == 4


def test_install_says_what_has_come_and_uninstall_removes_it(tmp_path, wheel, new_environment):
    environment = new_environment(tmp_path / "host")
    assert "toy" not in statuses(environment)
    done = environment.install(wheel)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "toy  suffuse-toy 1.0  ok"
    assert environment.suffuse("plugins", "uninstall", "-y", "suffuse-toy").returncode == 0
    assert "toy" not in statuses(environment)
