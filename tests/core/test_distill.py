"""`suffuse distill`, on the toy domain."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from suffuse import recipe as recipes
from suffuse import storage
from suffuse.cli import cli
from suffuse.errors import SuffuseError
from suffuse.model import load
from suffuse.training import train

TINY = ["--set", "training.precision=fp32", "--set", "training.sample_every=0"]


@pytest.fixture(autouse=True)
def _toy(toy: ModuleType) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distill")


@pytest.fixture
def teacher(folder: Path) -> Path:
    asked = recipes.load(
        "toy/spiral",
        {
            "training.steps": 60, "dataset.n": 64, "denoiser.width": 16, "evaluators": [],
            "training.sample_every": 0, "training.precision": "fp32",
        },
    )  # fmt: skip
    train(asked, folder / "teacher", resume=True, progress=False)
    return folder / "teacher"


@pytest.mark.parametrize("method", ["consistency", "continuous", "progressive", "reflow"])
def test_each_method_trains_a_student(method: str, teacher: Path, tmp_path: Path) -> None:
    words = ["distill", str(teacher), "--method", method, "--calls", "2", "--steps", "5"]
    done = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "fast"), *TINY])
    assert done.exit_code == 0, (done.output, done.exception)
    model = load(tmp_path / "fast")
    assert model.recipe.sampling.steps == 2
    assert model.recipe.sampling.guidance == 1.0
    assert len(model.plan()) == 2
    assert model.recipe.training.start == str(teacher)
    assert len(model.sample(3)) == 3


def test_a_teacher_that_changes_under_way_is_told(teacher: Path, tmp_path: Path) -> None:
    own = tmp_path / "teacher"
    shutil.copytree(teacher, own)
    words = ["distill", str(own), "--out", str(tmp_path / "fast"), *TINY, "--resume"]
    done = CliRunner().invoke(cli, [*words, "--steps", "2"])
    assert done.exit_code == 0, (done.output, done.exception)
    again = CliRunner().invoke(cli, [*words, "--steps", "3"])
    assert again.exit_code == 0, (again.output, again.exception)
    changed = {k: v + 1 for k, v in storage.load_tensors(own / "model.safetensors").items()}
    storage.save_tensors(own / "model.safetensors", changed)
    refused = CliRunner().invoke(cli, [*words, "--steps", "4"])
    assert isinstance(refused.exception, SuffuseError)
    assert "have changed since the run" in str(refused.exception)


def test_a_student_learns_as_a_whole_and_is_told_by_bare_keys(
    teacher: Path, tmp_path: Path
) -> None:
    asked = recipes.load(teacher / "recipe.toml", {"training.start": str(teacher), "lora": 2})
    train(asked.model_copy(update={"training": asked.training.model_copy(update={"steps": 1})}),
          tmp_path / "lora", progress=False)  # fmt: skip
    words = ["distill", str(tmp_path / "lora"), "--out", str(tmp_path / "fast"), *TINY]
    done = CliRunner().invoke(cli, [*words, "--set", "batch=7", "--steps", "1"])
    assert done.exit_code == 0, (done.output, done.exception)
    made = load(tmp_path / "fast").recipe.training
    assert (made.lora, made.batch) == (0, 7)


def test_a_student_teaches_fewer_steps(teacher: Path, tmp_path: Path) -> None:
    """A first teacher takes many steps of second order, a student just its own."""

    def distilled(start: Path, calls: int) -> Any:
        out = tmp_path / str(calls)
        words = ["distill", str(start), "--method", "progressive", "--calls", str(calls)]
        done = CliRunner().invoke(cli, [*words, "--steps", "3", "--out", str(out), *TINY])
        if done.exception:
            raise done.exception
        return load(out).recipe

    four = distilled(teacher, 4)
    assert four.objective == {"name": "progressive", "steps": 4, "teacher_steps": 4, "order": 2}
    two = distilled(tmp_path / "4", 2)
    assert two.objective == {"name": "progressive", "steps": 2, "teacher_steps": 2, "order": 1}
    assert two.training.learning_rate == four.training.learning_rate
    with pytest.raises(SuffuseError, match="was distilled to 4 steps"):
        distilled(tmp_path / "4", 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "consistancy"], "did you mean 'consistency'"),
        (["--set", "objective.stps=3"], "did you mean 'objective.steps'"),
    ],
)
def test_mistakes_are_told(words: list[str], said: str, teacher: Path, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "fast")]
    done = CliRunner().invoke(cli, ["distill", str(teacher), *words, *out])
    assert isinstance(done.exception, SuffuseError)
    assert said in str(done.exception)


def test_an_objective_needs_a_teacher() -> None:
    changes: dict[str, Any] = {"objective.name": "consistency"}
    with pytest.raises(SuffuseError, match="needs a teacher"):
        recipes.load("toy/spiral", changes)
