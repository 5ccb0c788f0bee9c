"""Molecules to graphs and back, and what is refused."""

import csv
import gzip
from collections import Counter

import pytest
import torch
from rdkit import Chem

from suffuse.diffusion import Noise
from suffuse.errors import SuffuseError
from suffuse_molecules.chemistry import REASONS, canonical, known, parse, problem, refusal
from suffuse_molecules.datasets import NCI
from suffuse_molecules.graph import RAW, Graph

from .conftest import SMILES, Molecules


def test_every_molecule_comes_back(graph, molecules):
    x, sizes = graph.encode(molecules), graph.sizes(molecules)
    assert x["atoms"].shape == (len(molecules), graph.largest)
    assert torch.equal(x["bonds"], x["bonds"].mT)
    back = graph.decode(x, sizes)
    assert [canonical(mol) for mol in back] == [canonical(mol) for mol in molecules]
    assert {mol.GetProp(RAW) for mol in back} == {"valid"}


def test_the_fit_counts_what_is_there(graph, molecules):
    atoms = Counter(
        (a.GetSymbol(), a.GetFormalCharge()) for mol in molecules for a in mol.GetAtoms()
    )
    assert sum(graph.atoms) == sum(atoms.values())
    assert graph.atoms[graph.types.index("N+")] == atoms["N", 1]
    pairs = sum(mol.GetNumAtoms() * (mol.GetNumAtoms() - 1) // 2 for mol in molecules)
    assert sum(graph.bonds) == pairs
    bonded = sum(mol.GetNumBonds() for mol in molecules)
    assert sum(graph.bonds[1:]) == bonded
    assert graph.capacity[graph.types.index("C")] == 4
    assert graph.capacity[graph.types.index("O-")] == 1


def test_an_encoder_made_of_what_was_fitted_is_the_same(molecules):
    one = Graph()
    other = Graph(**one.fit(Molecules(SMILES)))
    for name, part in one.encode(molecules).items():
        assert torch.equal(part, other.encode(molecules)[name])
    assert one.shape == other.shape


def test_numbering_of_atoms_does_not_matter(graph):
    for smiles in SMILES:
        for seed in range(3):
            written = Chem.MolToRandomSmilesVect(known(smiles), 1, randomSeed=seed + 1)[0]
            mol = known(written)
            assert canonical(graph.decode(graph.encode([mol]), graph.sizes([mol]))[0]) == canonical(
                known(smiles)
            )


def test_stereo_and_explicit_hydrogens_are_dropped():
    encoder = Graph()
    encoder.fit(Molecules(["C/C=C/[C@H](O)F"]))
    mol = Chem.AddHs(known("C/C=C/[C@H](O)F"))
    back = encoder.decode(encoder.encode([mol]), encoder.sizes([mol]))[0]
    assert Chem.MolToSmiles(back) == "CC=CC(O)F"


def test_a_hydrogen_that_tells_a_double_bonds_side_is_no_atom():
    mol = known("[H]/N=C(/C)CCO")
    assert mol.GetNumAtoms() == 7
    encoder = Graph()
    assert encoder.fit(Molecules(["[H]/N=C(/C)CCO"]))["types"] == ["C", "N", "O"]
    back = encoder.decode(encoder.encode([mol]), encoder.sizes([mol]))[0]
    assert Chem.MolToSmiles(back) == canonical(mol) == "CC(=N)CCO"


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("C(", "unreadable"),
        ("", "empty"),
        ("CC(=O)[O-].[Na+]", "fragments"),
        ("CC(=O)[O-].[NH4+]", "fragments"),
        ("[2H]C", "isotope"),
        ("[13CH4]", "isotope"),
        ("[CH3]", "radical"),
        ("*C", "wildcard"),
        ("[H][H]", "hydrogen"),
        ("[H+]", "hydrogen"),
        ("C[PH4]", "hydrogen"),
        ("C[SH3]", "hydrogen"),
        ("O=[SH2]", "hydrogen"),
        ("C[SeH3]", "hydrogen"),
        ("CP([H])([H])([H])[H]", "hydrogen"),
        ("C[Hg]C", "metal"),
        ("N->B", "bond"),
        ("CCl", "element"),
        ("C" * 40, "size"),
    ],
)
def test_what_has_no_graph_is_refused_with_its_reason(graph, smiles, reason):
    assert reason in REASONS
    mol = parse(smiles)
    assert graph.refusal(mol) == reason
    if mol is not None:
        with pytest.raises(SuffuseError, match=rf"\({reason}\)"):
            graph.encode([mol])


def test_sizes_are_drawn_as_often_as_they_occur():
    encoder = Graph(["C", "O"], [4, 2], [0, 1, 3], [1, 1], [4, 2, 1, 1])
    drawn = encoder.draw_sizes(Noise(0, 4000))
    assert set(drawn.tolist()) == {2, 3}
    assert abs((drawn == 3).float().mean() - 0.75) < 0.03
    assert torch.equal(encoder.draw_sizes(Noise(0, 10)), drawn[:10])


def test_the_mask_is_over_atoms_and_their_pairs(graph):
    mask = graph.mask(torch.tensor([2, graph.largest]))
    assert mask["atoms"].sum(1).tolist() == [2, graph.largest]
    assert mask["bonds"].flatten(1).sum(1).tolist() == [4, graph.largest**2]


def test_safe_decoding_makes_any_graph_valid_and_raw_says_why_not(graph):
    n, b = graph.largest, 300
    x = {
        "atoms": torch.randint(len(graph.types), (b, n)),
        "bonds": torch.randint(4, (b, n, n)).triu(1),
        "bond_logits": torch.randn(b, n, n, 4),
    }
    x["bonds"] = x["bonds"] + x["bonds"].mT
    x["bond_logits"] = x["bond_logits"] + x["bond_logits"].transpose(1, 2)
    sizes = torch.randint(1, n + 1, (b,))
    made = graph.decode(x, sizes)
    assert all(problem(mol) is None for mol in made)
    reasons = Counter(mol.GetProp(RAW) for mol in made)
    assert reasons["valence"] > b // 2
    raw = Graph(graph.types, graph.capacity, graph._sizes, graph.atoms, graph.bonds, "raw")
    for mol in raw.decode(x, sizes):
        assert (problem(mol) or "valid") == mol.GetProp(RAW)


def test_what_is_embedded_does_not_depend_on_the_numbering(graph):
    one, other, third = graph.embed([known("OCC"), known("CCO"), known("CCN")])
    assert torch.equal(one, other)
    assert torch.cdist(one[None], third[None]) > 1
    assert one.sum() == 6  # three atoms, and three neighbourhoods of radius 1


def test_states_on_the_way_are_left_as_they_are(graph):
    masked = {
        "atoms": torch.full((1, graph.largest), len(graph.types)),
        "bonds": torch.full((1, graph.largest, graph.largest), 4),
    }
    (mol,) = graph.decode(masked, torch.tensor([3]))
    assert Chem.MolToSmiles(mol) == "*.*.*"
    dense = {"atoms": torch.zeros(1, graph.largest, dtype=torch.int64)}
    dense["bonds"] = 3 - 3 * torch.eye(graph.largest, dtype=torch.int64)[None]
    (mol,) = graph.decode(dense, torch.tensor([4]))
    assert mol.GetProp(RAW) == "valence"
    assert mol.GetNumBonds() == 6


def test_atom_types_that_are_none_are_refused():
    with pytest.raises(SuffuseError, match="'Q' is no type of atom"):
        Graph(["C", "Q"])


@pytest.mark.parametrize("aromatic", [False, True])
def test_the_nci_set_comes_back(aromatic):
    data = NCI("test", largest=40)
    mols = [data[i].data for i in range(len(data))]
    encoder = Graph(aromatic=aromatic)
    encoder.fit(data)
    back = encoder.decode(encoder.encode(mols), encoder.sizes(mols))
    assert [canonical(mol) for mol in back] == [canonical(mol) for mol in mols]
    assert len(mols) == 300


@pytest.mark.parametrize("aromatic", [False, True])
def test_qm9_comes_back(data_folder, aromatic):
    with gzip.open(data_folder / "qm9_smiles.csv.gz", "rt") as file:
        smiles = [row["smiles"] for row in csv.DictReader(file)][::50]
    mols = [known(s) for s in smiles]
    assert [refusal(mol) for mol in mols] == [None] * len(mols)
    encoder = Graph(aromatic=aromatic)
    encoder.fit(Molecules(smiles))
    back = encoder.decode(encoder.encode(mols), encoder.sizes(mols))
    assert [canonical(mol) for mol in back] == [canonical(mol) for mol in mols]
