"""Readers of files that anyone may have written: they answer, or say in a sentence why not.

SUFFUSE_FUZZ=5000 looks longer than the suite has time for.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import suffuse
from suffuse import plugins, recipe, storage
from suffuse.errors import SuffuseError
from suffuse.training import checkpoint, train
from suffuse.training.directory import Record

SETTINGS = settings(
    max_examples=int(os.environ.get("SUFFUSE_FUZZ", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# Numbers that break things, and none that fill the memory before they do.
NUMBERS = st.sampled_from([-(10**18), -1, 0, 1, 2, 3, 64, 10**18, 10**400]) | st.floats()
LEAVES = st.none() | st.booleans() | NUMBERS | st.text(max_size=8)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything inside of a JSON value."""
    if isinstance(value, dict):
        inner: Any = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    else:
        return [at]
    return [at, *(place for key, part in inner for place in places(part, (*at, key)))]


def changed(draw: Any, value: Any) -> Any:
    """The value with one of its parts replaced, removed or added to."""
    value = copy.deepcopy(value)
    *parents, last = draw(st.sampled_from([place for place in places(value) if place]))
    around = value
    for key in parents:
        around = around[key]
    how = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
    if how == "remove":
        del around[last]
    elif how == "add" and isinstance(around, dict):
        around[draw(st.text(max_size=8))] = draw(VALUES)
    else:
        around[last] = draw(VALUES)
    return value


def spoilt(draw: Any, data: bytes) -> bytes:
    """Bytes cut short, or with some of them replaced."""
    cut = draw(st.integers(0, len(data)))
    if draw(st.booleans()):
        return data[:cut]
    return data[:cut] + draw(st.binary(min_size=1, max_size=8)) + data[cut + 1 :]


def only_sentences(read: Any) -> None:
    try:
        read()
    except SuffuseError as error:
        said = str(error)
    else:
        said = "it answers"
    assert len(said) >= 10


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "run"


@pytest.fixture
def run(finished: Path, toy: ModuleType, tmp_path: Path) -> Path:
    """A copy of a finished run of two steps."""
    if not (finished / "README.md").exists():
        small = {"training.steps": 2, "dataset.n": 40, "denoiser.width": 8, "denoiser.depth": 1}
        asked = recipe.load("toy/spiral", {**small, "training.precision": "fp32"})
        train(asked, finished, progress=False)
    return Path(shutil.copytree(finished, tmp_path / "run"))


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


@SETTINGS
@given(data=st.data())
def test_recipes_of_changed_values(toy: ModuleType, data: st.DataObject) -> None:
    source = Path(str(toy.__file__)).parent / "recipes" / "spiral.toml"
    wrong = changed(data.draw, tomllib.loads(source.read_text()))
    manager = plugins.current()
    manager.registry._entries["recipe"]["toy/spiral"] = plugins.Entry(
        "recipe", "toy/spiral", wrong, None, None, "", "toy", "suffuse-toy", "1.0"
    )
    only_sentences(lambda: recipe.load("toy/spiral"))


@SETTINGS
@given(data=st.data())
def test_recipes_of_spoilt_text(toy: ModuleType, tmp_path: Path, data: st.DataObject) -> None:
    source = Path(str(toy.__file__)).parent / "recipes" / "spiral.toml"
    path = tmp_path / "recipe.toml"
    path.write_bytes(spoilt(data.draw, source.read_bytes()))
    only_sentences(lambda: recipe.load(path))


@SETTINGS
@given(key=st.text(max_size=12), value=st.text(max_size=12))
def test_assignments(toy: ModuleType, key: str, value: str) -> None:
    only_sentences(lambda: recipe.load("toy/spiral", recipe.overrides([f"{key}={value}"])))
    only_sentences(lambda: recipe.load("toy/spiral", recipe.overrides([f"training.{key}={value}"])))


@SETTINGS
@given(data=st.data())
def test_models_of_changed_configs(run: Path, data: st.DataObject) -> None:
    config = json.loads((run / "config.json").read_text())
    broken = run.with_name("broken")
    shutil.copytree(run, broken, dirs_exist_ok=True)
    (broken / "config.json").write_bytes(as_json(changed(data.draw, config)))
    only_sentences(lambda: suffuse.load(broken))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@SETTINGS
@given(data=st.data())
def test_models_of_spoilt_files(run: Path, name: str, data: st.DataObject) -> None:
    broken = run.with_name("broken")
    shutil.copytree(run, broken, dirs_exist_ok=True)
    (broken / name).write_bytes(spoilt(data.draw, (run / name).read_bytes()))
    only_sentences(lambda: suffuse.load(broken))


@SETTINGS
@given(data=st.data())
def test_records_of_runs(run: Path, data: st.DataObject) -> None:
    whole = (run / "run.json").read_bytes()
    broken = run.with_name("broken")
    broken.mkdir(exist_ok=True)
    for wrong in (as_json(changed(data.draw, json.loads(whole))), spoilt(data.draw, whole)):
        (broken / "run.json").write_bytes(wrong)
        only_sentences(lambda: Record.read(broken))


def same_json(one: bytes, other: bytes) -> bool:
    """Whether both say the same, in other white space."""
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


@SETTINGS
@given(data=st.data())
def test_checkpoints(run: Path, data: st.DataObject) -> None:
    folder = run / "checkpoints" / "00000002"
    name = data.draw(st.sampled_from(sorted(path.name for path in folder.iterdir())))
    whole = (folder / name).read_bytes()
    wrong = spoilt(data.draw, whole)
    (folder / name).write_bytes(wrong)
    try:
        if wrong != whole and not same_json(wrong, whole):
            with pytest.raises(SuffuseError):
                checkpoint.load(folder)
    finally:
        (folder / name).write_bytes(whole)


@SETTINGS
@given(data=st.binary(max_size=200))
def test_tensors_of_any_bytes(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any.safetensors"
    path.write_bytes(data)
    only_sentences(lambda: storage.load_tensors(path))
