"""MOSES's and GuacaMol's figures, against their definitions written out and what MOSES shipped."""

import gzip
import itertools
import json
import math
import pickle
import zipfile
from collections import Counter
from typing import Any, ClassVar

import numpy as np
import pytest
from click.testing import CliRunner
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from suffuse.cli import cli
from suffuse.errors import SuffuseError
from suffuse_molecules import moses
from suffuse_molecules.chemistry import canonical, known
from suffuse_molecules.graph import Graph
from suffuse_molecules.properties import property_of

from .conftest import Molecules

REAL = ["CCO", "c1ccccc1", "CC(=O)Nc1ccccc1", "c1ccc(-c2ccccc2)cc1", "CCN", "OCCN", "CC#N", "CCCl"]
MOLS = [known(smiles) for smiles in REAL]


def _similar(a: Chem.Mol, b: Chem.Mol) -> float:
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    return DataStructs.TanimotoSimilarity(*(generator.GetFingerprint(mol) for mol in (a, b)))


@pytest.mark.parametrize("p", [1, 2])
def test_internal_diversity_is_one_less_the_mean_similarity(p: int) -> None:
    rows = [np.mean([_similar(a, b) ** p for b in MOLS]) ** (1 / p) for a in MOLS]
    assert moses.diversity(MOLS, p) == pytest.approx(1 - np.mean(rows), abs=1e-6)


def test_the_similarity_to_the_nearest() -> None:
    made = [known("CCOC"), known("Cc1ccccc1")]
    wanted = np.mean([max(_similar(a, b) for b in MOLS) for a in made])
    assert moses.nearest_similarity(made, MOLS) == pytest.approx(wanted, abs=1e-6)
    place, similar = moses.nearest(MOLS[:3], [*MOLS[3:] * 400, *MOLS[:3]])
    assert place.tolist() == [400 * len(MOLS[3:]) + k for k in range(3)]
    assert similar.tolist() == [1.0] * 3


def test_fragments_and_scaffolds_are_those_of_moses() -> None:
    assert moses.fragments([known("CCCCOc1ccccc1")]) == Counter(
        {"[3*]O[3*]": 1, "[4*]CCCC": 1, "[16*]c1ccccc1": 1}
    )
    assert moses.scaffolds([known("Cc1ccc(-c2ccccc2)cc1"), known("Cc1ccccc1")]) == Counter(
        {"c1ccc(-c2ccccc2)cc1": 1}
    )
    assert math.isnan(moses.cosine({}, {"a": 1}))


def test_filters_refuse_charges_elements_large_rings_and_alerts() -> None:
    for smiles in ("CCO", "c1ccccc1C(=O)NC"):
        assert moses.passes(known(smiles)), smiles
    for smiles in ("C[N+](C)(C)C", "CCI", "C1CCCCCCC1", "O=C1C=CC(=O)C=C1"):
        assert not moses.passes(known(smiles)), smiles


def test_a_set_against_itself_has_nothing_between() -> None:
    found = moses.figures(REAL, MOLS, [canonical(mol) for mol in MOLS])
    assert found["valid"] == found["unique"] == 1
    assert found["SNN"] == pytest.approx(1)
    assert found["Frag"] == pytest.approx(1)
    assert found["Scaf"] == pytest.approx(1)
    assert found["KL"] == pytest.approx(1)
    assert found["novel"] == 0
    assert found["logp"] == found["weight"] == 0


def test_shares_are_counted() -> None:
    found = moses.figures(["CCO", "OCC", "C(", "CCCC", "CC.CC"], MOLS, ["CCO"], at=2)
    assert found["valid"] == pytest.approx(3 / 5)
    assert found["unique@2"] == pytest.approx(1 / 2)
    assert found["unique"] == pytest.approx(2 / 3)
    assert found["novel"] == pytest.approx(1 / 2)
    with pytest.raises(SuffuseError, match="nothing to compare"):
        moses.figures(["C("], MOLS)


def test_kl_is_that_of_other_distributions() -> None:
    far = [known("C" * k + "O") for k in range(12, 24)]
    assert 0 <= moses.guacamol_kl(far, MOLS) < 0.6 < moses.guacamol_kl(MOLS, MOLS)


def test_kl_is_of_different_molecules_as_many_on_both_sides() -> None:
    assert moses.guacamol_kl(MOLS * 3, MOLS) == pytest.approx(1)
    far = [known("C" * k + "O") for k in range(12, 24)]
    made, real = moses.described([*far, far[0]], MOLS)
    assert len(made.bits) == len(real.bits) == len(MOLS)
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=4096)
    prints = [generator.GetFingerprint(mol) for mol in MOLS]
    for i, found in enumerate(moses._inner(real.bits)):
        others = prints[:i] + prints[i + 1 :]
        assert found == pytest.approx(max(DataStructs.BulkTanimotoSimilarity(prints[i], others)))


def test_sets_that_stand_beside_each_other_are_of_one_size() -> None:
    made = ["C" * k for k in range(1, 13)] + ["C("] * 12
    found = moses.beside(made, MOLS, ["CCO", "CCN", "CCCC", "CCOC"])
    for name in found:
        count = 4 * found[name]["valid"]
        assert count == pytest.approx(round(count))


class _Plain(pickle.Unpickler):
    """Reads numbers, arrays and counters, and refuses all else that a pickle may name."""

    admitted: ClassVar = {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("collections", "Counter"),
        ("_codecs", "encode"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.admitted:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


@pytest.fixture(scope="module")
def statistics() -> tuple[dict[str, Any], list[Chem.Mol]]:
    """What MOSES ships about its test set, and the first 200 molecules of that."""
    path, table = moses.shipped("test_stats.npz"), moses.shipped("test.csv.gz")
    if path is None or table is None:
        pytest.skip("needs the package molsets: pip install --no-deps molsets")
    with zipfile.ZipFile(path) as archive, archive.open("stats.npy") as file:
        assert np.lib.format.read_magic(file) == (1, 0)
        np.lib.format.read_array_header_1_0(file)
        found = _Plain(file).load().item()
    with gzip.open(table, "rt") as lines:
        smiles = [line.split(",")[0].strip() for line in itertools.islice(lines, 1, 201)]
    return found, [known(text) for text in smiles]


def test_figures_are_those_that_moses_ships(statistics) -> None:
    """SMILES in `test.csv.gz` are in the order of the rows of the statistics."""
    shipped, mols = statistics
    bits = moses._bits(mols)
    np.testing.assert_array_equal(shipped["SNN"]["fps"][: len(mols)], bits)
    for name, ours in (("logP", "logp"), ("SA", "sa"), ("QED", "qed"), ("weight", "weight")):
        theirs = np.asarray(shipped[name]["values"])[: len(mols)]
        np.testing.assert_allclose([property_of(mol, ours) for mol in mols], theirs, rtol=1e-6)
    for name, counted in (("Frag", moses.fragments), ("Scaf", moses.scaffolds)):
        theirs = shipped[name][name.lower()]
        for key, count in counted(mols).items():
            assert theirs[key] >= count, (name, key)
    assert all(map(moses.passes, mols))


def test_added_carbons_are_valid_and_new() -> None:
    names = [canonical(mol) for mol in MOLS]
    made = moses.add_carbon(names, 5, seed=1)
    assert len(made) == 5
    assert not set(made) & set(names)
    for smiles in made:
        atoms = {known(name).GetNumAtoms() + 1 for name in names}
        assert known(smiles).GetNumAtoms() in atoms
    assert made == moses.add_carbon(names, 5, seed=1)


def test_the_command_puts_the_baselines_beside(tmp_path) -> None:
    (tmp_path / "made.smi").write_text("CCCO\nCCCN\nC(\nCCF\n")
    (tmp_path / "test.smi").write_text("\n".join(REAL))
    (tmp_path / "train.smi").write_text("CCO\nCCCC\nCCOC\nc1ccccc1C\nCCCCO\n")
    words = ["molecules", "evaluate", tmp_path / "made.smi", "--training", tmp_path / "train.smi"]

    def run(*more: object) -> str:
        args = [str(word) for word in (*words, *more)]
        return CliRunner().invoke(cli, args, catch_exceptions=False).output

    said = run("--reference", tmp_path / "test.smi")
    assert "added carbon" in said
    found = json.loads(run("--reference", tmp_path / "test.smi", "--json"))
    assert found["made"]["valid"] == pytest.approx(3 / 4)
    assert found["training"]["novel"] == 0
    assert found["added carbon"]["novel"] == 1
    with pytest.raises(SuffuseError, match="--reference FILE"):
        run()


@pytest.mark.parametrize("aromatic", [False, True])
def test_molecules_of_moses_come_back_from_their_graphs(statistics, aromatic) -> None:
    _, mols = statistics
    graph = Graph(aromatic=aromatic)
    graph.fit(Molecules([canonical(mol) for mol in mols]))
    back = graph.decode(graph.encode(mols), graph.sizes(mols))
    assert [canonical(mol) for mol in back] == [canonical(mol) for mol in mols]
