"""Plans that are tuned to a model and kept with it."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from suffuse import recipe as recipes
from suffuse.cli import cli
from suffuse.errors import SuffuseError
from suffuse.model import load
from suffuse.training import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tuning") / "run"


@pytest.fixture
def run(toy, folder):
    asked = recipes.load(
        "toy/spiral",
        {
            "training.steps": 300, "dataset.n": 200, "denoiser.width": 32, "evaluators": [],
            "training.sample_every": 0, "training.precision": "fp32",
        },
    )  # fmt: skip
    train(asked, folder, resume=True, progress=False)
    return folder


def test_a_tuned_plan_is_kept_and_is_nearer(run: Path, tmp_path: Path) -> None:
    model = load(run)
    plan = model.tune(5)
    assert len(plan) == 5
    usual = model.plan("multistep", 5)
    assert model.solver_error(plan) < model.solver_error(usual)
    kept = load(run).plan("tuned", 5)
    np.testing.assert_array_equal(kept.B, plan.B)
    assert len(load(run).sample(2, solver="tuned", steps=5)) == 2
    done = CliRunner().invoke(cli, ["export", str(run), str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(load(tmp_path / "out").plan("tuned", 5).A, plan.A)


def test_a_plan_that_was_not_tuned_is_told_with_those_that_were(run: Path) -> None:
    model = load(run)
    model.tune(4, n=8)
    with pytest.raises(SuffuseError, match=r"no plan of 7 .*there are plans of .*4"):
        model.sample(1, solver="tuned", steps=7)
    (run / "plans" / "4.json").write_text("{}")
    with pytest.raises(SuffuseError, match="damaged"):
        model.sample(1, solver="tuned", steps=4)


def test_tuning_from_the_command_line(run: Path) -> None:
    done = CliRunner().invoke(cli, ["tune", str(run), "--calls", "6", "-n", "16"])
    assert done.exit_code == 0, done.output
    assert "tuned plan" in done.output
    assert (run / "plans" / "6.json").is_file()
