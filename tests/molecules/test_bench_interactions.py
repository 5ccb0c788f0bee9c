"""The suite of interactions: its splits, its baselines and its intervals; cases without data."""

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from suffuse.bench import Context, key
from suffuse.errors import SuffuseError
from suffuse_molecules import bench_interactions as bench
from suffuse_molecules.affinity import concordance
from suffuse_molecules.affinity_fit import Pairs
from suffuse_molecules.docking import Pose

CASES = [
    bench.Torsions("t", "m", 0, path="nowhere"),
    bench.Poses("t", "m", 0),
    bench.Affinities("t", "m", 0),
]


def pairs(molecule, protein, value):
    return Pairs(
        ("CCO", "CCN", "c1ccccc1"),
        ("A" * 20, "C" * 20),
        np.array(molecule),
        np.array(protein),
        np.array(value, float),
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: type(case).__name__)
def test_without_data_there_is_a_note_and_no_figure(case, monkeypatch):
    monkeypatch.delenv("SUFFUSE_DATA", raising=False)
    result = case.run(Context())
    assert not result.metrics
    assert "SUFFUSE_DATA" in result.note or "holds no model of torsions" in result.note


def test_every_case_has_a_key_of_its_own():
    cases = [*bench.interactions(seeds=2)]
    assert len({key(case) for case in cases}) == len(cases)


def test_means_are_of_what_is_known_and_of_all_where_nothing_is():
    seen = pairs([0, 1, 0], [0, 0, 1], [5, 7, 9])
    asked = pairs([2, 2, 1], [0, 1, 1], [0, 0, 0])
    assert bench._means(seen, asked, "protein").tolist() == [6, 9, 9]
    assert bench._means(seen, asked, "molecule").tolist() == [7, 7, 7]


def test_the_kernel_weighs_molecules_by_their_similarity():
    seen = pairs([0, 1], [0, 0], [5, 7])
    asked = pairs([2, 0, 2], [0, 0, 1], [0, 0, 0])
    far, near, unknown = bench._kernel(seen, asked)
    assert 5 < near < 5.5  # itself counts most
    assert far == pytest.approx(6)  # nothing is shared with benzene: the mean of what is seen
    assert unknown == pytest.approx(6)  # nothing is known of that protein


def test_docking_is_compared_on_the_same_complexes():
    def answer(first, seconds, failed=()):
        return {"distances": [first, 1.0], "failed": list(failed), "seconds": seconds}

    rows = [
        {"suffuse": answer(1.0, 2.0), "Vina": answer(3.0, 8.0, ["clash"])},
        {"suffuse": answer(1.5, 2.0, ["clash"]), "Vina": answer(1.0, 8.0)},
        {"suffuse": answer(5.0, 4.0), "Vina": answer(6.0, 12.0)},
    ]
    found = {metric.name: metric for metric in bench.judged_poses(rows)}
    shares = {name: round(3 * metric.value / 100) for name, metric in found.items()}
    assert shares["suffuse, first under 2 Å"] == 2
    assert shares["Vina, first under 2 Å"] == 1
    assert shares["suffuse, any of nine under 2 Å"] == 3
    assert shares["Vina, first passes all checks"] == 2
    more = found["more first poses under 2 Å"]
    assert (more.value, more.low, more.high) == pytest.approx((100 / 3, 0, 100))
    assert found["time of Vina over ours"].value == pytest.approx(4)
    alone = bench.judged_poses([{"suffuse": row["suffuse"]} for row in rows])
    assert len(alone) == 4


def test_a_complex_without_a_pose_is_a_miss_and_the_others_go_on(monkeypatch):
    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    AllChem.EmbedMolecule(mol, randomSeed=1)

    def search(plain, receptor, box, seed):
        if receptor == "narrow":
            raise SuffuseError("no pose without clashes was found")
        return [Pose(mol, -3.0, -3.0)]

    case = bench.Poses("t", "m", 0)
    heavy = Chem.RemoveHs(mol)
    complexes = [("a 1", heavy, "narrow"), ("a 2", heavy, "wide")]
    monkeypatch.setattr(bench.Poses, "complexes", lambda self: iter(complexes))
    monkeypatch.setattr(bench, "_file", lambda name: name)
    monkeypatch.setattr(bench, "find_spec", lambda name: None)
    monkeypatch.setattr(bench, "dock", search)
    monkeypatch.setattr(bench, "failed", lambda *_: ())
    result = case.run(Context())
    found = {metric.name: metric.value for metric in result.metrics}
    assert found["suffuse, first under 2 Å"] == 50
    assert found["suffuse, first passes all checks"] == 50
    assert "a 1: suffuse found no pose (no pose without clashes" in result.note


def test_intervals_draw_what_was_held_out_together():
    order = np.random.default_rng(0)
    unit = np.repeat(np.arange(8), 25)
    wanted = order.normal(size=200)
    one = bench._judged("e", bench._squared, "lower", wanted, wanted + 2.0, unit)
    assert (one.value, one.low, one.high) == pytest.approx((4, 4, 4))
    apart = wanted + np.repeat(order.normal(size=8), 25)
    grouped = bench._judged("e", bench._squared, "lower", wanted, apart, unit)
    single = bench._judged("e", bench._squared, "lower", wanted, apart, np.arange(200))
    assert grouped.high - grouped.low > 1.5 * (single.high - single.low)
    same = bench._judged("c", concordance, "higher", wanted, wanted, unit)
    assert same.value == same.low == 1


def test_forms_of_one_protein_are_a_family():
    order = np.random.default_rng(0)
    one, other = ("".join(order.choice([*"ACDEFGHIKLMNPQRSTVWY"], 300)) for _ in range(2))
    mutant = one[:100] + ("A" if one[100] != "A" else "C") + one[101:]
    first, second, third, fourth = bench._families((one, other, mutant, one))
    assert first == third == fourth != second


@pytest.mark.parametrize("held_out", ["molecules", "proteins"])
def test_cold_splits_share_no_molecule_or_protein(data_folder, held_out):
    table, train, test = bench._davis(held_out, 0)
    own = bench._units(table, held_out)
    if held_out == "proteins":
        names = np.array(table.sequences)[table.protein]
        assert not {*names[train]} & {*names[test]}
    assert not {*own[train]} & {*own[test]}
    assert len(train) + len(test) == len(table.value) == 30056
    folds = bench._grouped(table.of(train), held_out, 0)
    for item in np.unique(own[train]):
        assert len({*folds.fold[own[train] == item]}) == 1


def test_complexes_of_the_archive_lie_in_their_pockets(data_folder):
    name, mol, receptor = next(bench.Poses("t", "m", 0, each=1).complexes())
    assert name.startswith("cdk8")
    x = mol.GetConformer().GetPositions()
    nearest = np.linalg.norm(receptor.x.numpy()[:, None] - x, axis=-1).min()
    assert 2 < nearest < 5
    assert bench._distance(Chem.AddHs(mol, addCoords=True), mol) < 1e-3
