"""Figures, against what is known by construction."""

import numpy as np
import pytest
import torch
from rdkit import Chem

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Example
from suffuse_molecules import evaluators
from suffuse_molecules.chemistry import known
from suffuse_molecules.datasets import NCI
from suffuse_molecules.evaluators import (
    FCD,
    Conditions,
    Distinct,
    Distributions,
    Validity,
    wasserstein,
)
from suffuse_molecules.graph import RAW, STABLE, Graph
from suffuse_molecules.properties import property_of

from .conftest import Molecules


def by_name(metrics):
    return {metric.name: metric for metric in metrics}


def look(evaluator, samples, train=("CCO",), test=("CCN",)):
    return by_name(
        evaluator.evaluate(samples, test=Molecules(test), train=Molecules(train), seed=0)
    )


def raw(smiles, reason):
    mol = known(smiles)
    mol.SetProp(RAW, reason)
    return Example(mol)


def test_validity_tells_raw_apart_from_decoded():
    samples = [raw("CCO", "valid")] * 6 + [raw("CC", "valence")] * 3 + [raw("C", "fragments")]
    found = look(Validity(target=95), samples)
    assert found["Raw sanitised"].value == 70
    assert found["Raw valid"].value == 60
    assert found["Valid as decoded"].value == 100
    assert "3 valence, 1 fragments" in found["Raw valid"].note
    assert found["Raw valid"].target == 95
    assert found["Raw valid"].low < 60 < found["Raw valid"].high


def test_a_molecule_that_is_left_raw_is_not_valid_as_decoded():
    broken = Chem.MolFromSmiles("CF(C)C", sanitize=False)
    broken.SetProp(RAW, "valence")
    found = look(Validity(), [Example(broken), raw("CCO", "valid")])
    assert found["Valid as decoded"].value == 50


def test_stable_atoms_are_counted_in_graphs_as_they_were_sampled():
    encoder = Graph().raw()
    encoder.fit([Example(known(s)) for s in ("CCO", "CF", "CC")])
    tokens = {encoder.element(k): k for k in range(3)}
    c, f = tokens[6, 0], tokens[9, 0]
    bonds = torch.zeros(2, 3, 3, dtype=torch.int64)
    bonds[:, 0, 1] = bonds[:, 1, 0] = bonds[:, 1, 2] = bonds[:, 2, 1] = 1
    atoms = torch.tensor([[c, f, c], [c, c, f]])
    made = encoder.decode({"atoms": atoms, "bonds": bonds}, torch.tensor([3, 3]))
    assert [mol.GetProp(STABLE) for mol in made] == ["2/3", "3/3"]
    figure = look(Validity(), [Example(mol) for mol in made])["Stable atoms"]
    assert figure.value == pytest.approx(100 * 5 / 6)
    assert figure.low < 60 < figure.value < figure.high <= 100
    alike = look(Validity(), [raw("CCO", "valid")] * 20)["Stable atoms"]
    assert alike.value == alike.high == 100
    assert 80 < alike.low < 90


def test_fcd_is_of_600_molecules_with_the_package(monkeypatch):
    def net(smiles):
        return np.random.default_rng(len(smiles)).normal(size=(len(smiles), 4))

    monkeypatch.setattr(evaluators, "chemnet", lambda: net)
    made, real = ([f"{k}" * n for n in range(1, 651)] for k in "CN")
    monkeypatch.setattr(evaluators, "find_spec", lambda name: None)
    assert evaluators.fcd(made, real) is None
    monkeypatch.setattr(evaluators, "find_spec", lambda name: True)
    assert evaluators.fcd(made[:599], real) is None
    found = evaluators.fcd(made, real)
    assert found is not None
    assert found.low <= found.value <= found.high


def test_uniqueness_and_novelty_are_of_molecules_and_not_of_their_text():
    samples = [Example(known(s)) for s in ("CCO", "OCC", "CCN", "NCC", "CCF")]
    found = look(Distinct(), samples, train=("OCC", "CCCl"), test=("CCN", "CCO"))
    assert found["Unique"].value == pytest.approx(60)
    assert found["Novel"].value == pytest.approx(200 / 3)
    assert found["Novel"].floor == 50


def test_figures_need_a_valid_molecule():
    broken = Chem.MolFromSmiles("CF(C)C", sanitize=False)
    with pytest.raises(SuffuseError, match="none of the 1 samples"):
        look(Distinct(), [Example(broken)])


def test_the_addcarbon_trick_is_valid_unique_and_novel():
    """Renz et al. (2019), doi 10.1016/j.ddtec.2020.09.003: so these figures alone say little."""
    train = NCI("train", largest=8)
    smiles = train.smiles()[:60]
    samples = []
    for text in smiles:
        mol = Chem.RWMol(known(text))
        open_ = next((a.GetIdx() for a in mol.GetAtoms() if a.GetNumImplicitHs()), None)
        if open_ is None:
            continue
        mol.AddBond(open_, mol.AddAtom(Chem.Atom(6)), Chem.BondType.SINGLE)
        Chem.SanitizeMol(mol)
        samples.append(Example(mol.GetMol()))
    found = by_name(Distinct().evaluate(samples, test=NCI("test", largest=8), train=train, seed=0))
    assert found["Unique"].value > 80
    assert found["Novel"].value > 60


def test_wasserstein_is_the_area_between_distribution_functions(rng):
    a = rng.normal(size=40)
    b = rng.normal(size=40) + 0.5
    assert wasserstein(a, b) == pytest.approx(np.abs(np.sort(a) - np.sort(b)).mean())
    assert wasserstein(a, a) == 0
    assert wasserstein(a, np.repeat(a, 3)) == pytest.approx(0, abs=1e-12)


def test_distributions_of_the_same_molecules_are_within_the_floor():
    test, train = NCI("test", largest=12), NCI("train", largest=12)
    same = [train[i] for i in range(150)]
    found = by_name(Distributions().evaluate(same, test=test, train=train, seed=0))
    assert set(found) == {f"Distance of {name}" for name in ("logp", "sa", "qed", "weight")}
    other = [Example(known("C" * (3 + i % 5))) for i in range(150)]
    worse = by_name(Distributions().evaluate(other, test=test, train=train, seed=0))
    for name, metric in found.items():
        assert metric.value < 2 * metric.floor_high
        assert worse[name].value > 2 * metric.value


def test_conditions_are_measured_against_what_was_asked_for():
    mols = [known("C" * (k % 8 + 1) + "O") for k in range(40)]
    samples = [
        Example(mol, {"logp": property_of(mol, "logp") + 0.25, "tpsa": None}) for mol in mols
    ]
    found = look(Conditions(), samples)
    assert set(found) == {"Error of logp"}
    assert found["Error of logp"].value == pytest.approx(0.25)
    chance = float(found["Error of logp"].note.split()[-1].rstrip("."))
    assert chance > 0.7


def test_fcd_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fcd", None)
    with pytest.raises(SuffuseError, match=r"pip install 'suffuse-molecules\[fcd\]'"):
        look(FCD(), [Example(known("CCO"))])
