"""The model that ships: small, whole, and good at what its card says."""

import json
from pathlib import Path

import numpy as np
import pytest

import suffuse
from suffuse import plugins
from suffuse_molecules.checks import failed
from suffuse_molecules.chemistry import canonical, problem
from suffuse_molecules.editing import decorate
from suffuse_molecules.graph import RAW
from suffuse_molecules.properties import property_of
from suffuse_molecules.space import in_space


@pytest.fixture(scope="module")
def model():
    return suffuse.load("molecules/qm9")


@pytest.mark.parametrize("name", ["qm9", "moses", "qm9-3d"])
def test_it_is_small_and_says_what_it_is(name):
    folder = Path(plugins.get("model", f"molecules/{name}").load())
    assert sum(file.stat().st_size for file in folder.iterdir()) < 6e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    for word in ("Licence", f"suffuse train molecules/{name}", "Raw valid"):
        assert word in card
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert "/" not in (config["recipe"]["dataset"]["path"] or "")
    assert not config["recipe"]["training"]["start"]


def test_drug_like_molecules_are_made():
    made = suffuse.load("molecules/moses").sample(16, seed=3, steps=20, batch=16)
    assert all(problem(mol) is None for mol in made)
    assert sum(mol.GetProp(RAW) == "valid" for mol in made) >= 6
    assert np.mean([mol.GetNumHeavyAtoms() for mol in made]) > 16


def test_molecules_in_space_are_made():
    made = suffuse.load("molecules/qm9-3d").sample(16, seed=1, steps=25, batch=16)
    assert all(problem(mol) is None and in_space(mol) for mol in made)
    assert sum(mol.GetProp(RAW) == "valid" for mol in made) >= 8
    assert sum(not failed(mol, ground=float("nan")) for mol in made) >= 8


def test_most_graphs_are_valid_and_all_molecules_are(model):
    made = model.sample(100, seed=1, batch=100)
    assert sum(mol.GetProp(RAW) == "valid" for mol in made) >= 83
    assert all(problem(mol) is None for mol in made)
    assert len({canonical(mol) for mol in made}) >= 97


def test_what_is_asked_for_comes_near(model):
    for name, wanted, error in (("logp", 1.5, 0.6), ("tpsa", 40.0, 9.0)):
        made = model.sample(40, seed=2, batch=40, steps=25, **{name: wanted})
        found = np.array([property_of(mol, name) for mol in made])
        assert np.abs(found - wanted).mean() < error


def test_a_scaffold_is_decorated(model):
    made = decorate(model, "[*:1]c1ccccc1", 3, steps=25)
    assert len(made.molecules) == 3
    assert made.retained == made.tried
