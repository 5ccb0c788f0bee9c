"""Aromatic bonds as tokens: what comes back, what has no Kekulé form, and how that is repaired."""

from itertools import combinations

import numpy as np
import pytest
import torch
from rdkit import Chem

from suffuse import recipe
from suffuse.errors import SuffuseError
from suffuse.model import Model
from suffuse_molecules import editing
from suffuse_molecules.chemistry import canonical, known, problem
from suffuse_molecules.files import Files
from suffuse_molecules.graph import AROMATIC, RAW, Graph
from suffuse_molecules.network import GraphTransformer
from suffuse_molecules.valence import localized

from .conftest import SMILES, Molecules

RINGS = [
    "c1ccccc1", "c1ccncc1", "c1cc[nH]c1", "Cn1cccc1", "c1ccoc1", "c1ccsc1", "Cc1cnc[nH]1",
    "Cc1c[nH]cn1", "O=c1cc[nH]cc1", "Oc1ccncc1", "c1ccc2[nH]ccc2c1", "c1ccc2ccccc2c1",
    "c1ccc2cccc-2cc1", "[O-][n+]1ccccc1", "c1cc[nH+]cc1", "c1nnn[n-]1", "c1cc[cH-]c1",
    "c1cc[pH]c1", "c1ccpcc1", "c1ccc(-c2ccccc2)cc1", "Cn1cnc2c1c(=O)n(C)c(=O)n2C", "c1nc[nH]n1",
    "c1nnc[nH]1", "c1cc[o+]cc1", "C1=CC=CC=CC=C1", "C1=CC=C1", "O=C1C=CC(=O)C=C1",
    "FC(F)(F)c1ccco1", "CS(=O)(=O)c1cccs1", "Nc1nc2nc[nH]c2c(=O)[nH]1", "B1C=CC=C1",
    "c1cc2cccc3ccc(c1)c23",
]  # fmt: skip


def fitted(smiles, **options):
    encoder = Graph(aromatic=True, **options)
    encoder.fit(Molecules(smiles))
    return encoder


@pytest.fixture
def rings():
    return fitted([*SMILES, *RINGS])


@pytest.mark.parametrize("smiles", RINGS)
def test_rings_come_back_however_they_are_numbered(rings, smiles):
    for seed in range(3):
        mol = known(Chem.MolToRandomSmilesVect(known(smiles), 1, randomSeed=seed + 1)[0])
        (back,) = rings.decode(rings.encode([mol]), rings.sizes([mol]))
        assert canonical(back) == canonical(known(smiles))
        assert back.GetProp(RAW) == "valid"


def test_aromatic_bonds_are_one_token_and_atoms_that_give_electrons_a_type(rings):
    atoms, bonds, orders = rings.tokens(known("c1ccc(-c2c[nH]cn2)cc1"))
    assert set(bonds[bonds > 0].tolist()) == {1, AROMATIC}
    assert (bonds == 1).sum() == 2  # between the rings
    assert orders.max() == 2
    assert sorted(rings.types[token] for token in atoms if rings.types[token] != "C") == ["N", "N:"]
    assert rings.element(rings.types.index("N:")) == (7, 0)


def test_an_encoder_made_of_what_was_fitted_is_the_same_and_others_are_refused():
    found = Graph(aromatic=True).fit(Molecules(SMILES))
    other = Graph(**found)
    assert other.aromatic
    assert len(found["bonds"]) == other.orders == 5
    mols = [known(s) for s in SMILES]
    back = other.decode(other.encode(mols), other.sizes(mols))
    assert [canonical(mol) for mol in back] == [canonical(mol) for mol in mols]
    with pytest.raises(SuffuseError, match="without aromatic bonds has frequencies of 4"):
        Graph(**{**found, "aromatic": False})


def ring(n, gap=False):
    """Tokens of n atoms in a ring of aromatic bonds, or in a chain."""
    bonds = torch.zeros(n, n, dtype=torch.int64)
    for i in range(n - gap):
        bonds[i, (i + 1) % n] = bonds[(i + 1) % n, i] = AROMATIC
    return bonds


@pytest.mark.parametrize(
    ("names", "gap", "expected"),
    [
        ("C C C C C", False, "C1=CCC=C1"),
        ("C C N C N", False, "c1c[nH]cn1"),  # no nitrogen is told to give its electrons
        ("C C N: C N:", False, "C1=CNCN1"),
        ("C C C C", True, "C=CC=C"),
        ("O C C C C", True, "C=CC=CO"),
        ("C C O C C C", False, "C1=CCOC=C1"),
    ],
)
def test_aromatic_bonds_without_a_kekule_form_are_told_and_repaired(rings, names, gap, expected):
    tokens = [rings.types.index(name) for name in names.split()]
    n = len(tokens)
    x = {"atoms": torch.zeros(1, rings.largest, dtype=torch.int64)}
    x["bonds"] = torch.zeros(1, rings.largest, rings.largest, dtype=torch.int64)
    x["atoms"][0, :n], x["bonds"][0, :n, :n] = torch.tensor(tokens), ring(n, gap)
    (raw,) = rings.decode(x, torch.tensor([n]))
    assert raw.GetProp(RAW) == problem(raw) == "kekulize"
    x["bond_logits"] = torch.zeros(1, rings.largest, rings.largest, 5)
    (made,) = rings.decode(x, torch.tensor([n]))
    assert canonical(made) == canonical(known(expected))
    assert made.GetProp(RAW) == "kekulize"
    assert Files().sheet([raw, made])[:4] == b"\x89PNG"


def test_safe_decoding_makes_any_graph_valid_and_keeps_rings_that_are_sound(rings):
    n, b = 12, 200
    x = {
        "atoms": torch.randint(len(rings.types), (b, n)),
        "bonds": torch.multinomial(torch.tensor([0.75, 0.1, 0.03, 0.02, 0.1]), b * n * n, True)
        .view(b, n, n)
        .triu(1),
        "bond_logits": torch.randn(b, n, n, 5),
    }
    x["atoms"][: b // 2, :6] = rings.types.index("C")  # of half, the first six are a benzene
    x["bonds"][: b // 2, :6] = 0
    x["bonds"][: b // 2, :6, :6] = ring(6).triu(1)
    x["bonds"] = x["bonds"] + x["bonds"].mT
    x["bond_logits"] = x["bond_logits"] + x["bond_logits"].transpose(1, 2)
    made = rings.decode(x, torch.full((b,), n))
    assert all(problem(mol) is None for mol in made)
    assert sum(mol.GetProp(RAW) == "kekulize" for mol in made) > b // 20
    assert all(mol.HasSubstructMatch(known("c1ccccc1")) for mol in made[: b // 2])
    for mol in rings.raw().decode(x, torch.full((b,), n)):
        assert (problem(mol) or "valid") == mol.GetProp(RAW)


def test_as_many_bonds_are_double_as_can_be(rng):
    for _ in range(50):
        n = int(rng.integers(3, 8))
        tokens = AROMATIC * np.triu(rng.random((n, n)) < 0.4, 1).astype(np.int64)
        tokens += tokens.T
        capacity, gives = rng.integers(2, 6, n), rng.random(n) < 0.2
        sure = rng.random((n, n))
        out = localized(tokens, AROMATIC, capacity, sure + sure.T, gives, rng.random(n) < 0.5)
        assert ((out > 0) == (tokens > 0)).all()
        double = out == 2
        assert (double.sum(1) <= 1).all()
        able = (capacity > (tokens > 0).sum(1)) & ~gives
        assert not double[~able].any()
        pairs = [
            (i, j) for i, j in zip(*np.nonzero(np.triu(tokens)), strict=True) if able[i] and able[j]
        ]
        larger = double.sum() // 2 + 1
        assert all(
            len({k for pair in chosen for k in pair}) < 2 * larger
            for chosen in combinations(pairs, larger)
        )


def test_the_network_sees_valences_of_aromatic_bonds_as_one_and_a_half(rings):
    network = GraphTransformer(rings.shape, rings, width=16, edge=8, depth=1, heads=2)
    mols = [known("c1ccccc1"), known("CC=C")]
    x, there = rings.encode(mols), rings.mask(rings.sizes(mols))["atoms"]
    node, _, whole = network._features(x["atoms"], x["bonds"], there)
    assert (4 * node[0, :6, 0]).tolist() == [3.0] * 6
    assert (4 * node[1, :3, 0]).tolist() == [1.0, 3.0, 2.0]
    assert whole[:, 2].tolist() == [0.0, 0.0]
    out = network(x, {name: torch.zeros(2) for name in x}, mask={"atoms": there})
    assert out["bonds"].shape == (2, rings.largest, rings.largest, 5)


@pytest.fixture
def model():
    small = {"width": 16, "edge": 8, "depth": 1, "heads": 2}
    options = {f"denoiser.{name}": value for name, value in small.items()}
    torch.manual_seed(0)
    data = Molecules([*SMILES, "Cn1cccc1", "CCCCCCCCC", "CCCCC(C)CCC", "CCCCCCCCO"])
    options |= {"encoder.aromatic": True, "sampling.steps": 6}
    return Model.untrained(recipe.load("molecules/nci", options), data)


@pytest.mark.parametrize(
    ("part", "smarts"),
    [
        ("[*:1]c1ccccc1", "c1([!#1])[cH][cH][cH][cH][cH]1"),
        ("[*:1]n1cccc1", "[n;D3]1[cH][cH][cH][cH]1"),
    ],
)
def test_aromatic_parts_are_held_in_edits(model, part, smarts):
    made = editing.decorate(model, part, 6, atoms=(1, 2), seed=1)
    assert made.molecules
    for mol in made.molecules:
        assert mol.HasSubstructMatch(Chem.MolFromSmarts(smarts)), Chem.MolToSmiles(mol)
    assert made.raw
    assert made.retained >= made.raw


def test_molecules_are_varied_and_every_state_on_the_way_is_drawn(model):
    made = editing.vary(model, "Cc1ccccc1", 0.3, 3, seed=0)
    assert {mol.GetNumAtoms() for mol in made.molecules} == {7}
    states = []
    model.sample(2, seed=0, sizes=[6, 7], on_step=states.append)
    for step in states:
        drawn = model.encoder.decode(step.x, torch.tensor([6, 7]))
        assert Files().sheet(drawn)[:4] == b"\x89PNG"
