"""Torsions: the symmetries of the score, what it learns, and conformers with new torsions."""

import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from rdkit import Chem
from rdkit.Chem import AllChem, rdMolTransforms
from scipy import special

from suffuse.cli import cli
from suffuse.diffusion import Noise, sample, solvers
from suffuse.errors import SuffuseError
from suffuse_molecules.conformers import conformers, embedded
from suffuse_molecules.so3 import rotation_of
from suffuse_molecules.torsion_batch import Batch, batch_of, turn
from suffuse_molecules.torsion_data import Ligand, scaffold, taken
from suffuse_molecules.torsion_fit import _loss, compared, nearest
from suffuse_molecules.torsion_network import TorsionNetwork
from suffuse_molecules.torsional import (
    CLOCK,
    SHIPPED,
    Turns,
    directions,
    knows,
    load,
    redraw,
    save,
)

SMILES = ["CCOC(=O)c1ccccc1", "CCCCN", "OCC(O)CNc1ccncc1"]


def _shaped(smiles: str) -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    return Chem.RemoveHs(mol)


def _drawn(**settings: int) -> TorsionNetwork:
    """A network whose every part speaks."""
    torch.manual_seed(0)
    made = TorsionNetwork(width=16, depth=2, **settings)
    layers = [made.amplitudes, made.table, *(layer.mix for layer in made.across)]
    for layer in layers:
        torch.nn.init.normal_(layer.weight, std=0.3)
    return made.eval()


@pytest.fixture(scope="module")
def network() -> TorsionNetwork:
    return _drawn()


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("torsions")
    save(network, path)
    return path


@torch.no_grad()
def test_the_potential_ignores_moves_and_company_and_a_mirror_turns_it_around(network) -> None:
    each = [batch_of(_shaped(smiles)) for smiles in SMILES]
    batch = Batch.together(each)
    sigma = torch.tensor([0.2, 0.9, 2.5])
    turns = 6 * torch.rand(len(batch.bonds), 7) - 3
    found = network(batch, batch.x, sigma, turns)
    assert float(found.std(1).min()) > 0.01
    moved = batch.x @ rotation_of(torch.tensor([0.4, -1.0, 2.0])).T + 3.0
    torch.testing.assert_close(network(batch, moved, sigma, turns), found, atol=1e-3, rtol=1e-3)
    mirrored = batch.x * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(network(batch, mirrored, sigma, -turns), found, atol=1e-4, rtol=1e-4)
    for k, one in enumerate(each):
        own = batch.of == k
        alone = network(one, one.x, sigma[k : k + 1], turns[own])
        torch.testing.assert_close(alone, found[own], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_what_is_said_of_a_turn_is_what_turning_gives() -> None:
    # without messages in space f depends on the torsion's own angle by the turn alone
    network = _drawn(rounds=0)
    batch = Batch.together([batch_of(_shaped(smiles)) for smiles in SMILES])
    sigma, turns = torch.tensor([0.2, 0.9, 2.5]), 6 * torch.rand(len(batch.bonds), 7) - 3
    found = network(batch, batch.x, sigma, turns)
    for k in range(len(batch.bonds)):
        angles = torch.zeros(len(batch.bonds))
        angles[k] = 1.3
        x = turn(batch, batch.x, angles)
        again = network(batch, x, sigma, turns - angles[:, None])
        torch.testing.assert_close(again[k], found[k], atol=2e-3, rtol=1e-3)


def test_an_imine_keeps_its_hydrogens_side(network) -> None:
    shaped = embedded(Chem.MolFromSmiles("[H]/N=C(/C)CCO"), 2)
    before = shaped.GetConformer(1).GetPositions()
    redraw(shaped, [1], network=network, steps=2)
    after = shaped.GetConformer(1).GetPositions()
    assert not np.allclose(before, after, atol=0.1)
    Chem.AssignStereochemistryFrom3D(shaped, confId=1, replaceExistingTags=True)
    assert Chem.MolToSmiles(Chem.RemoveHs(shaped)) == Chem.CanonSmiles("[H]/N=C(/C)CCO")


def test_turning_a_batch_turns_each_dihedral_by_its_angle() -> None:
    mols = [_shaped(smiles) for smiles in SMILES]
    batch = Batch.together([batch_of(mol) for mol in mols])
    angles = torch.linspace(-2, 2, len(batch.bonds))
    x = turn(batch, batch.x, angles)
    first = np.cumsum([0, *(mol.GetNumAtoms() for mol in mols)])
    for row, mol in enumerate(mols):
        after = Chem.Conformer(mol.GetConformer())
        after.SetPositions(x[first[row] : first[row + 1]].double().numpy())
        for k in (batch.of == row).nonzero()[:, 0].tolist():
            a, b = (batch.bonds[k] - int(first[row])).tolist()
            i = next(n.GetIdx() for n in mol.GetAtomWithIdx(a).GetNeighbors() if n.GetIdx() != b)
            j = next(n.GetIdx() for n in mol.GetAtomWithIdx(b).GetNeighbors() if n.GetIdx() != a)
            change = rdMolTransforms.GetDihedralRad(after, i, a, b, j)
            change -= rdMolTransforms.GetDihedralRad(mol.GetConformer(), i, a, b, j)
            assert math.cos(change - float(angles[k])) == pytest.approx(1, abs=1e-5)


def test_an_untrained_network_gains_nothing_and_training_gains() -> None:
    torch.manual_seed(0)
    batch = Batch.together([batch_of(_shaped(smiles)) for smiles in ("CCCCN", "CCOC(=O)c1ccccc1")])
    network = TorsionNetwork(width=16, depth=1)

    def loss(first: int, many: int = 40) -> float:
        with torch.no_grad():
            found = [_loss(network, batch, Noise(7, 2, first=first + 2 * k)) for k in range(many)]
        return float(np.mean([float(value) for value in found]))

    assert loss(0) == pytest.approx(0, abs=1e-6)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(60):
        value = _loss(network, batch, Noise(1, 2, first=2 * step))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert loss(0) < -0.5


def test_angles_are_drawn_from_the_density_that_the_network_says(seed) -> None:
    # two torsions of which one has two minima and the other leans to one side
    def denoiser(theta, t):
        clean = theta[..., None] + directions()
        said = torch.stack([2 * torch.cos(2 * clean[:, 0]), torch.cos(clean[:, 1] - 1)], 1)
        return process.estimate(said, theta, t)

    process, n = Turns(CLOCK), 8000
    noise = Noise(seed, n)
    plan = solvers.plan("renoise", CLOCK, steps=8)
    found = sample(denoiser, plan, x=process.prior(noise, (2,)), process=process, noise=noise)
    # of exp(k cos θ) the mean of cos θ is I_1(k) / I_0(k)
    for wave, k in ((torch.cos(2 * found[:, 0]), 2.0), (torch.cos(found[:, 1] - 1), 1.0)):
        wanted = special.i1(k) / special.i0(k)
        assert float(wave.mean()) == pytest.approx(wanted, abs=4.5 / math.sqrt(n))
    assert abs(float(torch.cos(found[:, 0]).mean())) < 4.5 / math.sqrt(n)  # both minima alike


def test_new_torsions_leave_bonds_angles_and_rings(network) -> None:
    whole = embedded(Chem.MolFromSmiles(SMILES[2]), 3)
    before = [c.GetPositions().copy() for c in whole.GetConformers()]
    redraw(whole, [0, 1], seed=4, network=network, steps=4)
    steps = Chem.GetDistanceMatrix(whole)
    near = (steps > 0) & (steps < 3)
    for k, (conformer, old) in enumerate(zip(whole.GetConformers(), before, strict=True)):
        x = conformer.GetPositions()
        apart, was = (np.linalg.norm(p[:, None] - p, axis=-1) for p in (x, old))
        np.testing.assert_allclose(apart[near], was[near], atol=1e-3)
        moved = np.abs(apart - was).max()
        assert moved > 0.3 if k < 2 else moved == 0


def test_the_same_seed_gives_the_same_shapes_alone_or_among_others(network) -> None:
    mol = Chem.MolFromSmiles(SMILES[1])
    one, two = embedded(mol, 2), embedded(mol, 2)
    redraw(one, [0, 1], seed=4, network=network, steps=4)
    redraw(two, [0], seed=4, network=network, steps=4)
    np.testing.assert_allclose(
        one.GetConformer(0).GetPositions(), two.GetConformer(0).GetPositions(), atol=1e-3
    )


def test_distances_to_a_crystal_are_symmetric_and_aligned() -> None:
    mol = embedded(Chem.MolFromSmiles("CC(C)c1ccccc1"), 1)
    crystal = Chem.RemoveHs(mol)
    x = crystal.GetConformer().GetPositions()
    spun = rotation_of(torch.tensor([0.1, 2.0, 0.3]).double()).numpy()
    crystal.GetConformer().SetPositions(x @ spun.T + 5)
    order = [2, 1, 0, *range(3, crystal.GetNumAtoms())]  # the two methyls exchanged
    assert nearest(Chem.RenumberAtoms(crystal, order), mol) == pytest.approx([0], abs=1e-4)


def test_ligands_without_a_shape_are_left_out(network, folder) -> None:
    good = Chem.RemoveHs(embedded(Chem.MolFromSmiles("CCCCc1ccccc1"), 1))
    impossible = Chem.MolFromSmiles("CC[C@]12C[C@](NC(C)=O)(C1)C2")
    ligands = [Ligand("none", impossible, True), Ligand("good", good, True)]
    found = compared(ligands, 4, network=network)
    assert {name: len(values) for name, values in found.items()} == {
        "etkdg": 1,
        "torsional": 1,
        "union": 1,
    }
    assert found["etkdg"][0].min() < 1.5
    plain = Chem.Mol(good)
    plain.RemoveAllConformers()
    both = conformers(plain, 4, method="both", relax=False, distinct=0.0, torsions=folder).mol
    np.testing.assert_allclose(found["union"][0], nearest(good, both), atol=1e-3)


def test_what_is_taken_to_learn_of() -> None:
    assert taken(Chem.MolFromSmiles("CCCCc1ccccc1"))
    assert not taken(Chem.MolFromSmiles("c1ccc2ccccc2c1"))  # nothing turns
    assert not taken(Chem.MolFromSmiles("CCCC"))
    assert not taken(Chem.MolFromSmiles("CCCCCCCC[Pt]CCCC"))
    assert scaffold(Chem.MolFromSmiles("CCc1ccccc1")) == scaffold(Chem.MolFromSmiles("Oc1ccccc1"))
    assert not knows(Chem.MolFromSmiles("CC[Se]CCC"))


def test_the_command_draws_torsions_by_a_folder(folder, tmp_path) -> None:
    (tmp_path / "in.smi").write_text("CCCCN\nc1ccccc1\n")
    out = tmp_path / "o.sdf"
    words = ["molecules", "conformers", tmp_path / "in.smi", "-k", 4, "--method", "torsional"]
    words += ["--torsions", folder, "-o", out]
    said = CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False).output
    assert "of 2 molecules" in said
    made = [*Chem.SDMolSupplier(str(out), removeHs=False)]
    assert made[0].GetProp("force_field") == "MMFF94s"
    other = ["etkdg" if word == "torsional" else str(word) for word in words]
    with pytest.raises(SuffuseError, match="the method is etkdg"):
        CliRunner().invoke(cli, other, catch_exceptions=False)
    words[words.index(folder)] = tmp_path
    with pytest.raises(SuffuseError, match="no model of torsions"):
        CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)


def test_both_methods_share_the_shapes(folder) -> None:
    found = conformers(Chem.MolFromSmiles("CCCCN"), 4, method="both", torsions=folder, relax=False)
    plain = conformers(Chem.MolFromSmiles("CCCCN"), 4, relax=False)
    same = np.abs(
        found.mol.GetConformer(0).GetPositions() - plain.mol.GetConformer(0).GetPositions()
    )
    assert same.max() < 1e-6
    assert load(folder) is load(folder)


def test_the_model_that_ships_knows_esters_and_chains(seed) -> None:
    card = (SHIPPED / "README.md").read_text(encoding="utf-8")
    assert "suffuse molecules fit-torsions" in card
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 6e6
    mol = Chem.MolFromSmiles("CCOC(=O)c1ccccc1CCCC")
    whole = embedded(mol, 40, 1)
    redraw(whole, [c.GetId() for c in whole.GetConformers()], seed=seed)

    def angles(*atoms: int) -> np.ndarray:
        turns = [rdMolTransforms.GetDihedralDeg(c, *atoms) for c in whole.GetConformers()]
        return np.abs(turns)

    # two ninths if at random
    assert (angles(1, 2, 3, 5) > 140).mean() > 0.45  # the ester is trans
    assert (angles(10, 11, 12, 13) > 140).mean() > 0.4  # and the chain stretched
