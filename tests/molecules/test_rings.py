"""Rings larger than those of the training data are opened in safe decoding."""

from itertools import pairwise

import networkx
import numpy as np
import pytest
import torch
from rdkit import Chem

from suffuse_molecules.chemistry import canonical, known, problem
from suffuse_molecules.datasets import QM9
from suffuse_molecules.graph import RAW, Graph
from suffuse_molecules.space import Space
from suffuse_molecules.valence import admit, join, open_rings, pieces, rings

from .conftest import SMILES, Molecules


def cycle(n, size=None):
    """A ring of the first n of `size` atoms."""
    orders = np.zeros((size or n, size or n), dtype=np.int64)
    for k in range(n):
        orders[k, (k + 1) % n] = orders[(k + 1) % n, k] = 1
    return orders


def symmetric(rng, n):
    sure = rng.random((n, n))
    return sure + sure.T


def sizes(orders):
    """Of the rings of a minimum cycle basis, by networkx."""
    graph = networkx.from_numpy_array(orders > 0)
    return sorted(len(ring) for ring in networkx.minimum_cycle_basis(graph))


def test_a_ring_of_nine_loses_its_least_sure_bond_alone(rng):
    ring, sure = cycle(9), symmetric(rng, 9)
    a, b = min(zip(*np.nonzero(np.triu(ring)), strict=True), key=lambda bond: sure[bond])
    expected = ring.copy()
    expected[a, b] = expected[b, a] = 0
    for largest in (0, 7, 8):
        assert (open_rings(ring, sure, largest) == expected).all()
    for largest in (9, 20):
        assert (open_rings(ring, sure, largest) == ring).all()


def test_a_ring_of_six_beside_one_of_nine_stays_whole(rng):
    # atoms 0 and 1 are in both: 0 to 5 is a ring of six, and 0, 1, 6 to 12 one of nine
    orders = cycle(6, 13)
    around = [1, 6, 7, 8, 9, 10, 11, 12, 0]
    large = list(pairwise(around))
    for a, b in large:
        orders[a, b] = orders[b, a] = 1
    sure = symmetric(rng, 13)
    sure[0, 1] = sure[1, 0] = -1  # the shared bond is the least sure
    a, b = min(large, key=lambda bond: sure[bond])
    expected = orders.copy()
    expected[a, b] = expected[b, a] = 0
    assert sizes(orders) == [6, 9]
    assert (open_rings(orders, sure, 7) == expected).all()


def test_rings_are_those_of_a_minimum_cycle_basis_and_none_is_too_large(rng):
    opened = 0
    for _ in range(100):
        n = int(rng.integers(4, 20))
        wanted, sure = np.triu(rng.random((n, n)) < 3 / n, 1).astype(np.int64), symmetric(rng, n)
        orders = admit(wanted + wanted.T, [4] * n, sure)
        largest = int(rng.integers(3, 9))
        assert max(map(len, rings(orders)), default=0) == max(sizes(orders), default=0)
        out = open_rings(orders, sure, largest)
        assert max(sizes(out), default=0) <= largest
        assert (pieces(out) == pieces(orders)).all()
        assert (out <= orders).all()
        if max(sizes(orders), default=0) <= largest:
            assert (out == orders).all()
        else:
            opened += 1
        assert max(sizes(join(out, [4] * n, sure, largest)), default=0) <= largest
    assert opened


def test_opening_a_full_cage_to_join_makes_no_larger_ring():
    # two rings of six that share a bond, of atoms that can take no more, and a lone atom
    orders = cycle(10, 11)
    orders[0, 5] = orders[5, 0] = 1
    capacity = [*orders.sum(1)[:10], 4]
    sure = np.ones((11, 11))
    sure[0, 5] = sure[5, 0] = 0.5  # to open it alone would make a ring of ten
    joined = join(orders, capacity, sure, 6)
    assert pieces(joined).max() == 0
    assert max(sizes(joined), default=0) <= 6
    assert max(sizes(join(orders, capacity, sure))) == 10


def state(encoder, smiles, sure):
    """A graph of a molecule with logits: bonds are as sure as `sure` says, none is 0.9 sure."""
    mol = known(smiles)
    x = encoder.encode([mol])
    p = torch.full((1, encoder.largest, encoder.largest, 4), 0.1 / 3)
    p[..., 0] = 0.9
    for (a, b), value in sure.items():
        for i, j in ((a, b), (b, a)):
            p[0, i, j] = (1 - value) / 3
            p[0, i, j, int(x["bonds"][0, i, j])] = value
    return {**x, "bond_logits": p.log()}, encoder.sizes([mol])


def fitted(smiles, **options):
    encoder = Graph(**options)
    encoder.fit(Molecules(smiles))
    return encoder


def test_the_largest_ring_is_measured_and_an_option_overrules_it():
    assert fitted(SMILES).largest_ring == 6
    assert fitted(["CCO"]).largest_ring == 0
    assert fitted(["C1CCCCCCCC1"]).largest_ring == 9
    assert fitted(["c1ccc2ccccc2c1"]).largest_ring == 6
    assert fitted(SMILES, largest_ring=4).largest_ring == 4
    found = Graph().fit(Molecules(SMILES))
    assert found["largest_ring"] == Graph(**found).largest_ring == 6
    del found["largest_ring"]
    assert Graph(**found).largest_ring is Space(**found).largest_ring is None


def test_a_valid_graph_with_a_larger_ring_is_opened_unless_raw_or_without_a_limit():
    options = fitted([*SMILES, "CC1CCCCCCCC1"])
    smiles = "CC1CCCCCCCC1"
    sure = {(0, 1): 0.3, (1, 9): 0.99} | {(k, k + 1): 0.95 for k in range(1, 9)}
    sure[4, 5] = 0.6
    names = ("types", "capacity", "_sizes", "atoms", "bonds")
    given = {name.strip("_"): getattr(options, name) for name in names}
    x, size = state(options, smiles, sure)
    (made,) = Graph(**given, largest_ring=7).decode(x, size)
    assert canonical(made) == canonical(known("CCCC(C)CCCCC"))
    assert made.GetProp(RAW) == "valid"
    for encoder in (
        Graph(**given),
        Graph(**given, largest_ring=9),
        Graph(**given, largest_ring=7, decoding="raw"),
    ):
        assert canonical(encoder.decode(x, size)[0]) == canonical(known(smiles))
    # states on the way tell no logits, and are left as they are
    bare = {name: part for name, part in x.items() if name != "bond_logits"}
    assert canonical(Graph(**given, largest_ring=7).decode(bare, size)[0]) == canonical(
        known(smiles)
    )


def test_molecules_without_a_larger_ring_come_back_unchanged(graph):
    assert graph.largest_ring == 6
    for smiles in SMILES:
        mol = known(smiles)
        bonds = {(b.GetBeginAtomIdx(), b.GetEndAtomIdx()): 0.4 for b in mol.GetBonds()}
        x, size = state(graph, smiles, bonds)
        assert canonical(graph.decode(x, size)[0]) == canonical(mol)


def test_what_is_decoded_of_any_graph_is_valid_and_has_no_larger_ring(graph):
    n, b = graph.largest, 100
    x = {
        "atoms": torch.randint(len(graph.types), (b, n)),
        "bonds": torch.multinomial(torch.tensor([0.7, 0.28, 0.02]), b * n * n, True)
        .view(b, n, n)
        .triu(1),
        "bond_logits": torch.randn(b, n, n, 4),
    }
    x["bonds"] = x["bonds"] + x["bonds"].mT
    x["bond_logits"] = x["bond_logits"] + x["bond_logits"].transpose(1, 2)
    names = ("types", "capacity", "_sizes", "atoms", "bonds")
    given = {name.strip("_"): getattr(graph, name) for name in names}
    sizes = torch.full((b,), n)
    large = 0
    for mol, free in zip(
        Graph(**given, largest_ring=4).decode(x, sizes),
        Graph(**given).decode(x, sizes),
        strict=True,
    ):
        assert problem(mol) is None
        assert max(map(len, Chem.GetSymmSSSR(mol)), default=0) <= 4
        assert mol.GetProp(RAW) == free.GetProp(RAW)
        if max(map(len, Chem.GetSymmSSSR(free)), default=0) <= 4:
            assert canonical(mol) == canonical(free)
        else:
            large += 1
    assert large


@pytest.mark.usefixtures("data_folder")
def test_qm9_comes_back_with_its_own_largest_ring():
    mols = [known(smiles) for smiles in QM9("test").smiles()[:300]]
    encoder = Graph()
    encoder.fit(Molecules([canonical(mol) for mol in mols]))
    assert encoder.largest_ring == max(len(r) for m in mols for r in Chem.GetSymmSSSR(m))
    x, size = encoder.encode(mols), encoder.sizes(mols)
    x["bond_logits"] = torch.zeros(*x["bonds"].shape, 4)
    assert [canonical(m) for m in encoder.decode(x, size)] == [canonical(m) for m in mols]
