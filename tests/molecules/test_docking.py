"""Docking: terms and forces against differences, poses, receptors and what is wrong with them."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from rdkit import Chem
from rdkit.Chem import AllChem, rdMolTransforms

from suffuse.cli import cli
from suffuse.errors import SuffuseError
from suffuse_molecules.checks import CHECKS, failed
from suffuse_molecules.docking import Search, dock
from suffuse_molecules.flexible import Motion, flexible, rotatable
from suffuse_molecules.maps import Exact, Mapped
from suffuse_molecules.minimising import minimise
from suffuse_molecules.receptor import Box, points, read_receptor
from suffuse_molecules.scoring import Pairing, affinity, contact

LIGAND = "CC(=O)Nc1ccc(OCCN)cc1"
SHORT = Search(starts=16, conformers=2, langevin=8, rounds=2, descent=6, kept=4)


def _shaped(smiles: str, seed: int = 7) -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(mol, randomSeed=seed)
    return mol


@pytest.fixture(scope="module")
def pdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A peptide as a receptor, with hydrogens."""
    peptide = Chem.AddHs(Chem.MolFromSequence("GSLDKFH"), addResidueInfo=True)
    assert AllChem.EmbedMolecule(peptide, randomSeed=3, useRandomCoords=True) == 0
    path = tmp_path_factory.mktemp("receptor") / "peptide.pdb"
    path.write_text(Chem.MolToPDBBlock(peptide))
    return path


@pytest.fixture(scope="module")
def receptor(pdb):
    return read_receptor(pdb)


@pytest.fixture(scope="module")
def box(receptor) -> Box:
    return Box.about(receptor.x, 2.0)


def test_the_terms_are_those_of_the_paper() -> None:
    pair = Pairing(torch.tensor(3.6), torch.tensor(1.0), torch.tensor(1.0))
    for d in (-1.0, -0.35, 0.0, 0.5, 1.0, 3.0):
        wanted = -0.035579 * math.exp(-((d / 0.5) ** 2))
        wanted += -0.005156 * math.exp(-(((d - 3) / 2) ** 2))
        wanted += 0.840245 * min(d, 0) ** 2
        wanted += -0.035069 * (1 if d <= 0.5 else max(0.0, 1.5 - d))
        wanted += -0.587439 * (1 if d <= -0.7 else max(0.0, -d / 0.7))
        assert float(contact(torch.tensor(3.6 + d), pair)[0]) == pytest.approx(wanted, abs=1e-6)
    assert contact(torch.tensor(8.01), pair) == (0, 0)


def test_the_slope_of_a_contact_is_a_finite_difference() -> None:
    r = torch.linspace(1.0, 7.9, 400, dtype=torch.float64)
    for bonus in (0.0, 1.0):
        pair = Pairing(*torch.tensor([3.5, bonus, bonus]).double())
        up, down = (contact(r + h, pair)[0] for h in (1e-6, -1e-6))
        found, wanted = contact(r, pair)[1], (up - down) / 2e-6
        smooth = ((r[:, None] - 3.5 - torch.tensor([-0.7, 0.0, 0.5, 1.5])).abs() > 1e-4).all(1)
        torch.testing.assert_close(found[smooth], wanted[smooth], atol=1e-6, rtol=1e-6)


def test_torsions_turn_by_their_angles_and_leave_all_else() -> None:
    mol = _shaped(LIGAND)
    ligand = flexible(mol)
    x = torch.tensor(mol.GetConformer().GetPositions())[None]
    assert ligand.rotors == len(rotatable(mol)) == 4  # the amide stays flat
    angles = torch.tensor([[0.3, -1.1, 2.0, 0.7]], dtype=torch.float64)
    still = torch.zeros(1, 3, dtype=torch.float64)
    moved = ligand.move(x, Motion(still, still, angles))[0].numpy()
    for (a, b), angle in zip(ligand.bonds.tolist(), angles[0].tolist(), strict=True):
        i = next(n.GetIdx() for n in mol.GetAtomWithIdx(a).GetNeighbors() if n.GetIdx() != b)
        j = next(n.GetIdx() for n in mol.GetAtomWithIdx(b).GetNeighbors() if n.GetIdx() != a)
        after = Chem.Conformer(mol.GetConformer())
        after.SetPositions(moved)
        turn = rdMolTransforms.GetDihedralRad(after, i, a, b, j)
        turn -= rdMolTransforms.GetDihedralRad(mol.GetConformer(), i, a, b, j)
        assert math.cos(turn - angle) == pytest.approx(1, abs=1e-9)
    steps = Chem.GetDistanceMatrix(mol)
    near = (steps > 0) & (steps < 3)  # bonds and angles
    before = np.linalg.norm(x[0][:, None] - x[0][None], axis=-1)
    now = np.linalg.norm(moved[:, None] - moved[None], axis=-1)
    np.testing.assert_allclose(now[near], before[near], atol=1e-9)


@pytest.mark.parametrize("smiles", [LIGAND, "c1ccccc1", "OCC(O)CO"])
def test_pulls_are_the_slopes_of_the_energy_along_the_motions(receptor, box, smiles) -> None:
    mol = _shaped(smiles)
    ligand = flexible(mol)
    exact = Exact.of(ligand, receptor, box)
    x = torch.tensor(mol.GetConformer().GetPositions(), dtype=torch.float64)[None]
    x = x + (box.centre + torch.tensor([3.0, 2.0, -1.0]) - x.mean(1))
    pull = ligand.pull(x, exact(x).force).flat()
    slopes, h = [], 1e-5
    for k in range(6 + ligand.rotors):
        step = torch.zeros(1, 6 + ligand.rotors, dtype=torch.float64)
        step[0, k] = h
        up, down = (exact(ligand.move(x, Motion.of(s * step))).total for s in (1, -1))
        slopes.append(float((down - up) / (2 * h)))
    np.testing.assert_allclose(pull[0].numpy(), slopes, rtol=2e-4, atol=2e-4)


def test_maps_agree_with_all_pairs_where_nothing_clashes(receptor, box) -> None:
    mol = _shaped("CC(=O)NCCO")
    ligand = flexible(mol)
    x = torch.tensor(mol.GetConformer().GetPositions(), dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    where = box.centre + (torch.rand(12, 3, generator=generator) - 0.5) * (box.size - 6)
    exact, mapped = Exact.of(ligand, receptor, box), Mapped(ligand, receptor, box)
    x, found = minimise(ligand, mapped, (x - x.mean(0))[None] + where[:, None], 25)
    wanted = exact(x)
    torch.testing.assert_close(found.within, wanted.within)
    calm = wanted.between < 1
    assert int(calm.sum()) >= 5
    assert float((found.between - wanted.between)[calm].abs().max()) < 1.0


def test_an_atom_out_of_the_box_is_pulled_back(receptor, box) -> None:
    ligand = flexible(_shaped("C"))
    mapped = Mapped(ligand, receptor, box)
    x = torch.zeros(1, 5, 3) + box.centre + torch.tensor([box.size[0] / 2 + 2.0, 0.0, 0.0])
    found = mapped(x)
    assert float(found.between) > 9
    torch.testing.assert_close(found.force[0, 0, 0], torch.tensor(-5.0))


def test_minimising_never_rises_and_ends_where_nothing_pulls(receptor, box) -> None:
    mol = _shaped(LIGAND)
    ligand = flexible(mol)
    exact = Exact.of(ligand, receptor, box)
    x = torch.tensor(mol.GetConformer().GetPositions(), dtype=torch.float64)
    shifts = torch.randn(6, 1, 3, generator=torch.Generator().manual_seed(1)).double() * 4
    x = x - x.mean(0) + box.centre + shifts
    before = exact(x)
    y, after = minimise(ligand, exact, x, 80)
    assert bool((after.total <= before.total).all())
    pulls = ligand.pull(y, after.force).flat() * ligand.inertia(y).rsqrt()
    first = ligand.pull(x, before.force).flat() * ligand.inertia(x).rsqrt()
    assert float(pulls.norm(dim=1).median()) < 0.05 * float(first.norm(dim=1).median())


def test_docking_is_ordered_sound_and_the_same_for_a_seed(receptor, box) -> None:
    mol = Chem.MolFromSmiles("CC(N)C(=O)O")
    poses = dock(mol, receptor, box, 4, seed=1, search=SHORT)
    again = dock(mol, receptor, box, 4, seed=1, search=SHORT)
    assert [p.energy for p in poses] == sorted(p.energy for p in poses)
    assert [p.affinity for p in poses] == [p.affinity for p in again]
    assert poses[0].affinity < -1
    for pose in poses:
        assert Chem.MolToSmiles(Chem.RemoveHs(pose.mol)) == Chem.MolToSmiles(mol)
        assert "clash" not in failed(pose.mol, receptor)


def test_an_imine_with_a_written_side_is_docked(receptor, box) -> None:
    mol = Chem.MolFromSmiles(r"[H]/N=C(\N)C")
    assert dock(mol, receptor, box, 2, search=SHORT)[0].mol.GetNumAtoms() == 10


def test_the_kinds_of_a_receptor_follow_from_its_residues(receptor) -> None:
    kinds = {name: k for k, name in enumerate(receptor.names)}
    flags = receptor.kinds

    def of(name: str) -> tuple[bool, bool, bool]:
        k = kinds[name]
        return bool(flags.hydrophobic[k]), bool(flags.donor[k]), bool(flags.acceptor[k])

    assert of("LEU3:CD1") == (True, False, False)
    assert of("LEU3:N") == (False, True, False)
    assert of("LEU3:O") == (False, False, True)
    assert of("SER2:OG") == (False, True, True)
    assert of("ASP4:OD1")[2]
    assert of("LYS5:NZ")[1]
    assert of("LEU3:CA") == (False, False, False)  # beside a nitrogen
    assert not receptor.missing
    assert not receptor.unknown


def test_what_is_wrong_with_a_receptor_is_told(tmp_path: Path, pdb: Path, box: Box) -> None:
    lines = [line for line in pdb.read_text().splitlines() if line[17:20] + line[13:16] != "LYSNZ "]
    extra = "HETATM 9001  C1  LIG A 500      30.000  30.000  30.000  1.00  0.00           C"
    water = "HETATM 9002  O   HOH A 501      31.000  30.000  30.000  1.00  0.00           O"
    other = "ATOM   9003  CA BGLY A   1      99.000  99.000  99.000  0.20  0.00           C"
    path = tmp_path / "holes.pdb"
    path.write_text("\n".join([*lines[:-1], extra, water, other, "END"]))
    found = read_receptor(path)
    assert [*found.missing.values()] == [("NZ",)]
    assert found.unknown == {"LIG": 1}
    assert float(found.x.max()) < 40  # the rarer of two places is not taken
    said = " ".join(found.check(box))
    assert "LYS5 (NZ)" in said
    assert "LIG (1 atom)" in said
    alone = read_receptor(path, ligand=np.array([[30.0, 30.0, 30.5]]))
    assert not alone.unknown
    assert "LIG500: left out" in " ".join(alone.check(box))
    far = Box(torch.tensor([200.0, 0, 0]), torch.tensor([10.0, 10, 10]))
    with pytest.raises(SuffuseError, match="same frame"):
        found.check(far)
    with pytest.raises(SuffuseError, match="sides"):
        found.check(Box(box.centre, torch.tensor([0.0, 5, 5])))
    with pytest.raises(SuffuseError, match="centre is finite"):
        found.check(Box(box.centre * float("nan"), box.size))


def test_an_mmcif_says_what_its_pdb_says(tmp_path: Path, pdb: Path, receptor) -> None:
    columns = (
        "group_PDB type_symbol auth_atom_id auth_comp_id auth_asym_id auth_seq_id Cartn_x Cartn_y"
    )
    lines = ["data_x", "loop_", *(f"_atom_site.{k}" for k in [*columns.split(), "Cartn_z"])]
    for line in pdb.read_text().splitlines():
        if line.startswith("ATOM"):
            words = [line[76:78].strip(), f'"{line[12:16].strip()}"', line[17:20], line[21]]
            words += [line[a:b].strip() for a, b in ((22, 26), (30, 38), (38, 46), (46, 54))]
            lines.append(" ".join(["ATOM", *words]))
    path = tmp_path / "p.cif"
    path.write_text("\n".join([*lines, "#"]))
    found = read_receptor(path)
    assert torch.equal(found.x, receptor.x)
    assert found.names == receptor.names
    assert all(torch.equal(a, b) for a, b in zip(found.kinds, receptor.kinds, strict=True))
    path.write_text("\n".join([*lines[:-1], "ATOM C CA GLY A 1 0.0 0.0 nan"]))
    with pytest.raises(SuffuseError, match="no atom of an mmCIF file"):
        read_receptor(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds 0 heavy atoms"),
        ("ATOM      1  N   GLY A   1      xx.000   0.000   0.000", "columns 31 to 54"),
        ("ATOM      1  N   GLY A   1         nan   0.000   0.000", "columns 31 to 54"),
        ("ATOM      1  N   GLY A   1       0.000   0.000   0.", "columns 31 to 54"),
        (
            "\n".join(
                f"ATOM    {k:3d}  CA  GLY A {k:3d}       0.000   0.000 {k:7.3f}" for k in range(30)
            ),
            "a trace or a backbone",
        ),
    ],
)
def test_files_that_are_no_receptors_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "p.pdb"
    path.write_text(text)
    with pytest.raises(SuffuseError, match=said):
        read_receptor(path)
    with pytest.raises(SuffuseError, match="cannot read"):
        read_receptor(tmp_path / "none.pdb")


def test_sound_poses_pass_and_broken_ones_say_why(receptor) -> None:
    mol = _shaped("C[C@H](N)C(=O)Nc1ccccc1")
    assert failed(mol, asked=Chem.MolFromSmiles("C[C@H](N)C(=O)Nc1ccccc1")) == ()
    assert failed(mol, asked=Chem.MolFromSmiles("C[C@@H](N)C(=O)Nc1ccccc1")) == ("stereo",)
    assert failed(_shaped("C")) == ()  # whose relaxed energy is 0
    x = mol.GetConformer().GetPositions()
    on_receptor = Chem.Mol(mol)
    on_receptor.GetConformer().SetPositions(x - x.mean(0) + receptor.x[20].double().numpy())
    assert {"clash", "overlap"} <= set(failed(on_receptor, receptor))
    away = Chem.Mol(mol)
    away.GetConformer().SetPositions(x + 500)
    assert failed(away, receptor) == ("near",)
    stretched = Chem.Mol(mol)
    moved = x.copy()
    moved[0] += 2 * (x[0] - x[1])
    stretched.GetConformer().SetPositions(moved)
    assert {"bonds", "angles"} <= set(failed(stretched))
    bent = Chem.Mol(mol)
    moved = x.copy()
    ring = mol.GetSubstructMatch(Chem.MolFromSmarts("c1ccccc1"))
    normal = np.cross(x[ring[1]] - x[ring[0]], x[ring[2]] - x[ring[0]])
    moved[ring[3]] += 0.9 * normal / np.linalg.norm(normal)
    bent.GetConformer().SetPositions(moved)
    assert "flat-rings" in failed(bent)
    assert set(failed(bent)) <= CHECKS.keys()


def test_metals_are_judged_by_covalent_radii(receptor) -> None:
    mol = _shaped("CC(=O)[O-]")
    x = mol.GetConformer().GetPositions()
    oxygen, carbon = x[3], x[1]
    along = (oxygen - carbon) / np.linalg.norm(oxygen - carbon)

    def judged(element: str, far: float) -> tuple[str, ...]:
        place = torch.tensor((oxygen + far * along)[None], dtype=torch.float32)
        more = replace(
            receptor,
            x=torch.cat([receptor.x + 100, place]),
            elements=(*receptor.elements, element),
            residues=(*receptor.residues, "A:X900"),
        )
        return failed(mol, more, ground=float("nan"))

    assert judged("Zn", 2.0) == ()
    assert judged("O", 2.0) == ("clash",)
    assert "clash" in judged("Zn", 1.0)


def test_poses_that_are_not_minimised_have_figures_of_their_own(receptor, box) -> None:
    mol = Chem.MolFromSmiles("CC(N)C(=O)O")
    poses = dock(mol, receptor, box, 4, seed=1, search=SHORT, minimised=False)
    assert [p.energy for p in poses] == sorted(p.energy for p in poses)
    for pose in poses:
        ligand = flexible(pose.mol)
        x = torch.tensor(pose.mol.GetConformer().GetPositions(), dtype=torch.float32)[None]
        found = Exact.of(ligand, receptor, box)(x)
        between = float(found.between)
        assert pose.energy == pytest.approx(between + max(0.0, float(found.within)), abs=1e-3)
        assert pose.affinity == pytest.approx(
            float(affinity(found.between, ligand.rotors)), abs=1e-3
        )
    best = dock(mol, receptor, box, 4, seed=1, search=SHORT)
    assert best[0].energy < poses[0].energy


def _run(*args: object) -> str:
    words = ["molecules", "dock", *map(str, args)]
    return CliRunner().invoke(cli, words, catch_exceptions=False).output


def test_the_command_writes_poses_with_their_checks(tmp_path, pdb, box, monkeypatch) -> None:
    monkeypatch.setattr("suffuse_molecules.docking.Search", lambda **_: SHORT)
    sides = ",".join(f"{k:.2f}" for k in [*box.centre.tolist(), *box.size.tolist()])
    out = tmp_path / "poses.sdf"
    said = _run("--receptor", pdb, "--smiles", "CCO", "--box", sides, "-k", 2, "-o", out)
    assert "poses of 1 ligands" in said
    made = list(Chem.SDMolSupplier(str(out), removeHs=False))
    assert 1 <= len(made) <= 2
    assert made[0].HasProp("affinity_kcal_mol")
    assert made[0].GetProp("checks").startswith(("passed", "failed: "))
    assert np.ptp(points(out), axis=0).min() > 0.1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--smiles", "CCO"], "--box-from FILE"),
        (["--smiles", "CCO", "--box", "1,2"], "six numbers"),
        (["--smiles", "C(", "--box", "0,0,0,9,9,9"], "unreadable"),
        (["--smiles", "C" * 101, "--box", "0,0,0,9,9,9"], "size"),
        (["--box", "0,0,0,9,9,9"], "--ligand FILE or by --smiles"),
        (["--smiles", "CCO", "--box", "900,0,0,9,9,9"], "same frame"),
        (["--smiles", "CCO", "--box-from", "flat.sdf"], "three dimensions"),
        (["--smiles", "CCO", "--box-from", "none.sdf"], "cannot read"),
        (["--smiles", "CCO", "--box", "0,0,0,9,9,9", "--starts", "1"], "16 or more"),
        (["--smiles", "CCO", "--method", "vina", "--no-minimize"], "minimises its poses itself"),
    ],
)
def test_bad_input_is_answered_with_a_sentence(tmp_path, pdb, more, said, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("flat.sdf").write_text(Chem.MolToMolBlock(Chem.MolFromSmiles("CCO")) + "$$$$\n")
    with pytest.raises(SuffuseError, match=said):
        _run("--receptor", pdb, *more, "-o", "o.sdf")
