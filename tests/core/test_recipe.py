"""Recipes: every key checked, every default written out."""

import tomllib

import pytest

from suffuse import SuffuseError, recipe


def test_a_resolved_recipe_survives_toml(toy, tmp_path):
    resolved = recipe.load("toy/spiral", {"training.steps": 7})
    assert resolved.training.steps == 7
    assert resolved.denoiser["depth"] == 3, "defaults of the parts are written out"
    (tmp_path / "mine.toml").write_text(resolved.to_toml())
    assert recipe.load(tmp_path / "mine.toml") == resolved


def test_values_are_toml_or_text():
    given = ["a.b=3", "c=0.5", "d=true", "e=[1, 2]", "f=some words", 'g="7"', "h={name='x'}", "i="]
    assert recipe.overrides(given) == {
        "a.b": 3,
        "c": 0.5,
        "d": True,
        "e": [1, 2],
        "f": "some words",
        "g": "7",
        "h": {"name": "x"},
        "i": "",
    }


def test_another_part_by_name_brings_its_own_options(toy):
    resolved = recipe.load("toy/spiral", {"schedule.shift": 2.0, "schedule.name": "edm"})
    assert resolved.schedule == {"name": "edm", "sigma_max": 80.0, "rho": 7.0}
    solver = recipe.load("toy/spiral", {"sampling.solver.name": "heun"}).sampling.solver
    assert solver["name"] == "heun"


def test_a_name_alone_is_a_part_without_options(toy):
    asked = {"schedule": "edm", "sampling.solver": "heun", "evaluators": []}
    whole = {"schedule": {"name": "edm"}, "sampling.solver": {"name": "heun"}, "evaluators": []}
    assert recipe.load("toy/spiral", asked) == recipe.load("toy/spiral", whole)
    shifted = {"schedule": "edm", "schedule.sigma_max": 20.0}
    assert recipe.load("toy/spiral", shifted).schedule["sigma_max"] == 20.0
    with pytest.raises(SuffuseError, match="did you mean 'cosine'"):
        recipe.load("toy/spiral", {"schedule": "cosin"})


def test_an_element_of_a_list_is_set_by_its_index(toy):
    resolved = recipe.load("toy/spiral", {"evaluators.0.resamples": 50})
    assert resolved.evaluators[0]["resamples"] == 50


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.stepz": 3}, "did you mean 'training.steps'"),
        ({"trainning.steps": 3}, "did you mean 'training'"),
        ({"training.steps": "many"}, "training.steps"),
        ({"training.steps": 0}, "training.steps"),
        ({"training.learning_rate": float("nan")}, "training.learning_rate"),
        ({"training.decay": "linear"}, "training.decay"),
        ({"denoiser.widht": 3}, "did you mean 'denoiser.width'"),
        ({"denoiser.name": "toy/mpl"}, "did you mean 'toy/mlp'"),
        ({"schedule.name": "cosinus"}, "did you mean 'cosine'"),
        ({"schedule.shift": "far"}, "schedule.shift"),
        ({"conditions.arm.name": "lable"}, "did you mean 'label'"),
        ({"sampling.solver.name": "dimm"}, "did you mean 'ddim'"),
        ({"sampling.grid": "balance"}, "did you mean 'balanced'"),
        ({"sampling.grid.name": "balanced", "sampling.grid.shfit": 3}, "did you mean"),
        ({"sampling.restoring": "drm"}, "did you mean 'ddrm'"),
        ({"evaluators.0.samples": 4}, "evaluators.0"),
        ({"evaluators.resamples": 4}, "is a list"),
        ({"summary.text": 4}, "is a value"),
        ({"dataset": 4}, "dataset"),
    ],
    ids=str,
)
def test_mistakes_are_told(toy, changes, message):
    with pytest.raises(SuffuseError, match=message):
        recipe.load("toy/spiral", changes)


def test_an_assignment_without_a_value():
    with pytest.raises(SuffuseError, match="key=value"):
        recipe.overrides(["training.steps"])


def test_unreadable_files(toy, tmp_path):
    with pytest.raises(SuffuseError, match="no recipe file"):
        recipe.load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = = 3")
    with pytest.raises(SuffuseError, match="not a TOML file"):
        recipe.load(tmp_path / "bad.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SuffuseError, match="not a TOML file"):
        recipe.load(tmp_path / "binary.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(SuffuseError, match="cannot read the recipe"):
        recipe.load(tmp_path / "folder.toml")
    with pytest.raises(SuffuseError, match="did you mean 'toy/spiral'"):
        recipe.load("toy/spirals")


def test_the_printed_recipe_is_toml(toy):
    assert tomllib.loads(recipe.load("toy/spiral").to_toml())["denoiser"]["name"] == "toy/mlp"
