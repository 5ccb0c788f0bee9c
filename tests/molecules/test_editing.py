"""Edits around a known part, with a network that knows nothing: the constraints hold anyway."""

import pytest
import torch
from rdkit import Chem

import suffuse
from suffuse import recipe
from suffuse.errors import SuffuseError
from suffuse.model import Model
from suffuse_molecules import editing
from suffuse_molecules.chemistry import canonical, known
from suffuse_molecules.graph import RAW

from .conftest import SMILES, Molecules

RECIPE = {
    "denoiser.width": 16,
    "denoiser.edge": 8,
    "denoiser.depth": 1,
    "denoiser.heads": 2,
    "sampling.steps": 6,
}


class Long(Molecules):
    """With molecules of nine atoms, so that there is room for new ones."""

    def __init__(self):
        super().__init__([*SMILES, "CCCCCCCCC", "CCCCC(C)CCC", "CCCCCCCCO"])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model.untrained(recipe.load("molecules/nci", RECIPE), Long())


def holds(mol, smarts):
    return mol.HasSubstructMatch(Chem.MolFromSmarts(smarts))


def test_decorations_are_at_the_attachment_points_alone(model):
    made = editing.decorate(model, "[*:1]C1CC1O", 6, seed=1)
    assert made.molecules
    for mol in made.molecules:
        # the closed atoms of the ring and the oxygen keep their hydrogens
        assert holds(mol, "[CX4;H1;D3]1[CH2][CH]1[OH]"), Chem.MolToSmiles(mol)
        assert mol.GetNumAtoms() > 4


@pytest.mark.parametrize("scaffold", ["[*:1]=C1CCCC1", "*#CC", "*1ccccc1"])
def test_attachment_points_have_single_bonds(model, scaffold):
    with pytest.raises(SuffuseError, match="single bond to new atoms begins"):
        editing.decorate(model, scaffold)


def test_the_raw_graph_holds_the_known_part_always(model):
    found = editing.known_of("[*:1]c1ccccc1")
    tokens, bonds, orders = model.encoder.tokens(found.mol)
    free = editing._free(model.encoder, tokens, orders)
    project = editing._projection(model.encoder, tokens, bonds, free, found.open, 2)
    size = len(tokens)
    for mol in model.sample(20, seed=3, project=project, sizes=[size + 2] * 20):
        if mol.GetProp(RAW) == "valid":
            assert holds(mol, "c1ccccc1")
            degrees = [mol.GetAtomWithIdx(i).GetDegree() for i in range(size)]
            assert degrees == [3, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("part", ["[*:1]C1CC[NH2+]1", "[*:1]C1CC1=O", "C1CC1"])
def test_repair_leaves_the_known_part_as_it_is(model, part):
    made = editing.decorate(model, part, 24, seed=5, rounds=1)
    assert made.raw < made.safe  # the network knows nothing, so that most need repair
    assert made.retained == made.safe == made.tried == 24
    assert model.encoder._held is None


def test_two_points_share_the_one_new_atom_there_is(model):
    made = editing.link(model, "[*:1]C#N|[*:1]C(C)=O", 3, atoms=(1, 1), seed=2)
    assert all(holds(mol, "N#C*C(=O)[CH3]") for mol in made.molecules)
    assert made.retained >= made.raw > 0


def test_new_atoms_are_as_many_as_asked_for(model):
    made = editing.decorate(model, "[*:1]CO", 5, atoms=(2, 2), seed=0)
    assert {mol.GetNumAtoms() for mol in made.molecules} == {4}
    with pytest.raises(SuffuseError, match="adds 1 to 7; asked for 2 to 8"):
        editing.decorate(model, "[*:1]CO", 5, atoms=(2, 8))


def test_linkers_join_both_parts_and_nothing_else_does(model):
    made = editing.link(model, "[*:1]C#N|[*:1]C(C)=O", 4, atoms=(2, 3), seed=2)
    assert made.molecules
    for mol in made.molecules:
        assert len(Chem.GetMolFrags(mol)) == 1
        assert holds(mol, "N#C*"), Chem.MolToSmiles(mol)
        assert holds(mol, "[CH3]C=O")
        assert not holds(mol, "N#CC(=O)[CH3]")
    with pytest.raises(SuffuseError, match="two parts or more"):
        editing.link(model, "[*:1]C#N")


def test_hopping_keeps_what_matches_and_the_number_of_atoms(model):
    made = editing.hop(model, "OC(=O)c1ccco1", "C(=O)[OH]", 5, seed=0)
    assert made.molecules
    for mol in made.molecules:
        assert holds(mol, "*C(=O)[OH]"), Chem.MolToSmiles(mol)
        assert mol.GetNumAtoms() == 8
    for keep, words in (("Cl", "matches nothing"), ("*", "matches all"), ("C(", "a SMARTS")):
        with pytest.raises(SuffuseError, match=words):
            editing.hop(model, "OC(=O)c1ccco1", keep)
    with pytest.raises(SuffuseError, match="fragments"):
        editing.hop(model, "OC(=O)c1ccco1.CN", "C=O")


def test_hopping_never_makes_the_molecule_itself(model):
    made = editing.hop(model, "CCO", "CC", 20, seed=0, rounds=2)
    assert made.molecules
    assert "CCO" not in map(canonical, made.molecules)


def test_a_variation_of_little_strength_is_near_and_is_never_the_same(model):
    smiles = "CCOC(C)=O"
    made = editing.vary(model, smiles, 0.3, 4, seed=0)
    assert made.molecules
    assert all(canonical(mol) != canonical(known(smiles)) for mol in made.molecules)
    assert {mol.GetNumAtoms() for mol in made.molecules} == {6}
    again = editing.vary(model, smiles, 0.3, 4, seed=0)
    assert [*map(canonical, again.molecules)] == [*map(canonical, made.molecules)]


@pytest.mark.parametrize(
    ("scaffold", "words"),
    [
        ("c1cccc1(", "is no SMILES"),
        ("[*:1]", "empty"),
        ("[*:1][Pt]", "metal"),
        ("[*:1]Cl", "element"),
        ("[*:1]CCCCCCCCCCCC", "size"),
        ("[*:1]CCCCCCCCC", "adds 1 to 0"),
        ("FC(F)(F)F", "no atom of 'FC\\(F\\)\\(F\\)F' has room"),
    ],
)
def test_parts_that_cannot_be_taken_are_refused(model, scaffold, words):
    with pytest.raises(SuffuseError, match=words):
        editing.decorate(model, scaffold)


def test_a_part_in_aromatic_form_has_its_point_free_again():
    assert editing.known_of("*c1ccccc1").open == (0,)
    assert editing.known_of("[*:1]n1cccc1").open == (0,)
    assert editing.known_of("c1ccccc1").open == ()
    assert editing.known_of("[1*]CC[2*]").open == (0, 1)


def test_models_of_other_domains_are_refused():
    class Other:
        encoder = object()
        recipe = suffuse.recipe.Recipe.model_construct(encoder={"name": "image/pixels"})

    with pytest.raises(SuffuseError, match="image/pixels"):
        editing.decorate(Other(), "C")
