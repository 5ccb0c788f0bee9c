"""Molecules in space: the network's symmetries, round trips, the centre, files and figures."""

import math

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import AllChem

from suffuse import recipe
from suffuse.diffusion import Noise, sample, schedules, solvers
from suffuse.errors import SuffuseError
from suffuse.model import Model
from suffuse.plugins.contracts import Example
from suffuse_molecules import editing, page
from suffuse_molecules.chemistry import canonical, known, quiet
from suffuse_molecules.files import Files
from suffuse_molecules.graph import RAW
from suffuse_molecules.network import GraphTransformer
from suffuse_molecules.process import spatial
from suffuse_molecules.space import Space, centred, in_space
from suffuse_molecules.space_data import Shapes
from suffuse_molecules.space_evaluators import Geometry, moved
from suffuse_molecules.space_network import EquivariantTransformer

SHAPED = ["CCO", "C1CC1N", "c1ccoc1", "CC(F)(F)F", "C[C@H](O)C#N", "O=C1CCC1", "C", "C[NH3+]"]


def shaped(smiles, seed=1):
    mol = Chem.AddHs(known(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=seed) == 0
    with quiet():
        AllChem.MMFFOptimizeMolecule(mol)
    return Chem.RemoveHs(mol)


@pytest.fixture(scope="module")
def mols():
    return [shaped(s) for s in SHAPED]


@pytest.fixture(scope="module")
def space(mols):
    encoder = Space()
    encoder.fit([Example(mol) for mol in mols])
    return encoder


@pytest.fixture
def network(space):
    net = EquivariantTransformer(space.shape, space, width=32, edge=16, depth=3, heads=4, walks=4)
    for p in net.parameters():  # gates and outputs begin at zero
        torch.nn.init.normal_(p, std=0.2)
    return net.double()


def noisy(space, b=3):
    n = space.largest
    bonds = torch.randint(4, (b, n, n)).triu(1)
    x = {
        "atoms": torch.randint(len(space.types), (b, n)),
        "bonds": bonds + bonds.mT,
        "x": torch.randn(b, n, 3, dtype=torch.float64),
    }
    return x, {name: torch.randn(b, dtype=torch.float64) for name in x}


def orthogonal(mirrored):
    q, r = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    q = q * r.diagonal().sign()
    q[0] *= q.det().sign()
    if mirrored:
        q[0] *= -1
    assert math.isclose(float(q.det()), -1.0 if mirrored else 1.0, abs_tol=1e-9)
    return q


@pytest.mark.parametrize("mirrored", [False, True])
def test_turns_mirrors_and_shifts_go_through(space, network, mirrored):
    x, level = noisy(space)
    sizes = torch.tensor([space.largest, 3, 1])
    mask = space.mask(sizes)
    q, shift = orthogonal(mirrored), 5 * torch.randn(3, dtype=torch.float64)
    out = network(x, level, mask=mask)
    again = network({**x, "x": x["x"] @ q + shift}, level, mask=mask)
    assert out["x"].abs().max() > 1e-3
    torch.testing.assert_close(again["x"], out["x"] @ q, atol=1e-9, rtol=1e-9)
    for name in ("atoms", "bonds"):
        torch.testing.assert_close(again[name], out[name], atol=1e-9, rtol=1e-9)


def test_coordinates_steer_the_tokens_and_tokens_the_coordinates(space, network):
    x, level = noisy(space)
    out = network(x, level)
    other = network({**x, "x": 2 * x["x"]}, level)
    assert (other["bonds"] - out["bonds"]).abs().max() > 1e-3
    kinds = {**x, "atoms": (x["atoms"] + 1) % len(space.types)}
    assert (network(kinds, level)["x"] - out["x"]).abs().max() > 1e-3


def test_it_does_not_know_the_numbering_of_atoms(space, network):
    x, level = noisy(space)
    order = torch.randperm(space.largest)
    out = network(x, level)
    again = network(
        {
            "atoms": x["atoms"][:, order],
            "bonds": x["bonds"][:, order][:, :, order],
            "x": x["x"][:, order],
        },
        level,
    )
    close = {"atol": 1e-6, "rtol": 1e-6}  # the features of walks are float32
    torch.testing.assert_close(again["x"], out["x"][:, order], **close)
    torch.testing.assert_close(again["atoms"], out["atoms"][:, order], **close)


def test_what_is_padded_does_not_matter(space, network):
    x, level = noisy(space, 1)
    mask = space.mask(torch.tensor([4]))
    out = network(
        {
            n: torch.where(mask[n][..., None], k, 7) if n == "x" else torch.where(mask[n], k, 0)
            for n, k in x.items()
        },
        level,
        mask=mask,
    )
    alone = network(
        {"atoms": x["atoms"][:, :4], "bonds": x["bonds"][:, :4, :4], "x": x["x"][:, :4]}, level
    )
    torch.testing.assert_close(out["x"][:, :4], alone["x"], atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(out["atoms"][:, :4], alone["atoms"], atol=1e-9, rtol=1e-9)
    assert (out["x"][:, 4:] == 0).all()


def test_molecules_come_back_with_their_shape_and_their_hand(space, mols):
    state = space.encode(mols)
    back = space.decode(state, space.sizes(mols))
    for old, new in zip(mols, back, strict=True):
        a, b = old.GetConformer().GetPositions(), new.GetConformer().GetPositions()
        np.testing.assert_allclose(a - a.mean(0), b, atol=1e-5)
        assert in_space(new)
        assert Chem.MolToSmiles(new) == Chem.MolToSmiles(old)
    mirror = {**state, "x": -state["x"]}
    hands = [Chem.MolToSmiles(m) for m in space.decode(mirror, space.sizes(mols))]
    changed = [a != Chem.MolToSmiles(b) for a, b in zip(hands, mols, strict=True)]
    assert changed == ["@" in s for s in SHAPED]


def test_coordinates_are_standardised_about_the_centre(space, mols):
    state = space.encode(mols)
    there = space.mask(space.sizes(mols))["x"]
    assert state["x"].sum(1).abs().max() < 1e-5
    assert (state["x"][~there] == 0).all()
    assert math.isclose(float(state["x"][there].square().mean()), 1.0, rel_tol=1e-4)


def test_the_centre_is_that_of_the_atoms_that_are_there():
    x = torch.tensor([[[1.0, 0, 0], [3.0, 2, 0], [9.0, 9, 9]]])
    there = torch.tensor([[True, True, False]])
    expected = torch.tensor([[[-1.0, -1, 0], [1.0, 1, 0], [0.0, 0, 0]]])
    torch.testing.assert_close(centred(x, there), expected)
    torch.testing.assert_close(centred(x[:, :2], None), expected[:, :2])


def test_a_network_that_knows_the_molecule_has_no_loss_and_the_process_no_place(space, mols):
    process = spatial(schedules.flow(), space)
    x = space.encode(mols)
    mask = space.mask(space.sizes(mols))
    t = torch.full((len(mols),), 0.5, dtype=torch.float64)
    noise = process.noise(Noise(0, len(mols)), x, step=0, stream=2)
    gaussian = process.parts["x"][0]

    def sure(x_t, level, mask):
        # of x_t = (x + e) / 2 the preconditioned answer to x: F = (x − e) / (σ-data r 2), r² = 1/2
        shown = x_t["x"] / 2**0.5  # c_in = √2
        noise_in_it = 2 * shown - x["x"]
        target = (0.5 * x["x"] - 0.5 * noise_in_it) / 0.5**0.5
        kinds = len(space.types)
        return {
            "atoms": 60.0 * torch.nn.functional.one_hot(x["atoms"], kinds),
            "bonds": 60.0 * torch.nn.functional.one_hot(x["bonds"], 4),
            "x": target,
        }

    assert process.loss(sure, x, t, noise, mask=mask).max() < 1e-10
    shifted = {**noise, "x": noise["x"] + 3.0}
    torch.testing.assert_close(
        process.loss(sure, x, t, shifted, mask=mask), process.loss(sure, x, t, noise, mask=mask)
    )
    assert gaussian.prediction == "edm"


def test_the_estimate_has_its_centre_at_nothing_wherever_the_state_lies(space, network):
    process = spatial(schedules.flow(power=2.0), space)
    network = network.float()
    x, _ = noisy(space)
    x["x"] = x["x"].float()
    sizes = torch.tensor([4, 3, space.largest])
    mask = space.mask(sizes)
    t = torch.full((3,), 0.6, dtype=torch.float64)
    ask = process.denoiser(network)
    found = ask(x, t, mask=mask)
    assert found["x"].sum(1).abs().max() < 1e-4
    moved_away = ask({**x, "x": x["x"] + 2.0}, t, mask=mask)
    torch.testing.assert_close(moved_away["x"], found["x"], atol=1e-4, rtol=1e-4)


def test_sampling_makes_molecules_in_space(space, network):
    clock = schedules.flow(power=2.0)
    process = spatial(clock, space)
    tokens = solvers.plan("renoise", clock, steps=4)
    plans = {"atoms": tokens, "bonds": tokens, "x": solvers.plan("ddim", clock, steps=4)}
    noise = Noise(0, 5)
    sizes = space.draw_sizes(noise)
    x = sample(
        process.denoiser(network.float()),
        plans,
        noise=noise,
        shape=space.shape,
        process=process,
        mask=space.mask(sizes),
    )
    made = space.decode(x, sizes)
    assert len(made) == 5
    assert all(in_space(mol) and mol.HasProp(RAW) for mol in made)


def write(path, mols):
    path.write_text("".join(Chem.MolToMolBlock(mol) + "$$$$\n" for mol in mols))
    return str(path)


def test_a_file_of_shapes_is_split_by_molecule_and_says_what_it_skips(tmp_path, mols, caplog):
    flat = known("CCCO")
    AllChem.Compute2DCoords(flat)
    several = [shaped(s, seed) for s in SHAPED for seed in (1, 2)]
    salt, broken = shaped("CCN"), Chem.MolFromSmiles("C(C)(C)(C)(C)C", sanitize=False)
    salt.GetAtomWithIdx(0).SetIsotope(13)
    path = write(tmp_path / "shapes.sdf", [*several, flat, salt])
    with open(path, "a") as file:
        file.write(Chem.MolToMolBlock(broken, kekulize=False) + "$$$$\n")
    train, test = (Shapes(split, path, held_out=2) for split in ("train", "test"))
    assert "3 molecules are skipped (1 flat, 1 isotope, 1 unreadable)" in caplog.text
    assert len(train) + len(test) == len(several)
    assert not {canonical(e.data) for e in train} & {canonical(e.data) for e in test}
    assert all(in_space(train[i].data) for i in range(len(train)))
    assert train[0].conditions["weight"] > 10


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.smi", "CCO\n", "those end in .sdf or .sdf.gz"),
        ("a.sdf", "", "holds no molecule with coordinates that can be taken .it is empty"),
        ("a.sdf.gz", "no gzip", "cannot read"),
    ],
)
def test_files_that_hold_no_shapes_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(SuffuseError, match=message):
        Shapes("train", str(tmp_path / name))


def test_a_drawing_is_no_shape(tmp_path, space):
    flat = known("CCO")
    AllChem.Compute2DCoords(flat)
    with pytest.raises(SuffuseError, match=r"1 flat.*conformers in.smi"):
        Shapes("train", write(tmp_path / "flat.sdf", [flat]))
    with pytest.raises(SuffuseError, match=r"1 size.*dataset.largest=N"):
        Shapes("train", str(tmp_path / "flat.sdf"), largest=2)
    with pytest.raises(SuffuseError, match="'CCO' has no coordinates in space"):
        space.encode([flat])


def test_shapes_are_written_with_their_hydrogens(tmp_path, mols):
    Files().write_all(mols, tmp_path / "out.sdf", [{}] * len(mols))
    found = [*Chem.SDMolSupplier(str(tmp_path / "out.sdf"), removeHs=False)]
    assert [m.GetNumAtoms() for m in found] == [Chem.AddHs(m).GetNumAtoms() for m in mols]
    for old, new in zip(mols, found, strict=True):
        assert new.GetConformer().Is3D()
        assert Chem.MolToSmiles(Chem.RemoveHs(new)) == Chem.MolToSmiles(old)
        positions = new.GetConformer().GetPositions()[: old.GetNumAtoms()]
        np.testing.assert_allclose(positions, old.GetConformer().GetPositions(), atol=1e-3)


def test_sound_shapes_are_told_from_broken_ones(mols):
    def stretched(mol):
        out = Chem.Mol(mol)
        out.GetConformer().SetPositions(1.5 * mol.GetConformer().GetPositions())
        return out

    several = [mol for mol in mols if mol.GetNumAtoms() > 2]
    real = [Example(mol) for mol in several]
    sound, strain = Geometry().evaluate(2 * real, test=real, train=real, seed=0)
    assert sound.value == sound.floor == 100
    assert strain.value < 0.05
    (broken, *_) = Geometry().evaluate(
        [Example(stretched(mol)) for mol in several], test=real, train=real, seed=0
    )
    assert broken.value == 0
    assert "bonds" in broken.note
    assert moved(stretched(several[0])) > 0.2
    with pytest.raises(SuffuseError, match="none of the 1 samples"):
        Geometry().evaluate([Example(known("CC"))], test=real, train=real, seed=0)


def test_a_model_in_space_is_edited_and_shown(tmp_path, mols):
    small = {"denoiser.width": 16, "denoiser.edge": 8, "denoiser.depth": 1, "denoiser.heads": 2}
    shapes = write(tmp_path / "shapes.sdf", mols)
    small |= {"sampling.steps": 3, "dataset.path": shapes}
    torch.manual_seed(0)
    chosen = recipe.load("molecules/qm9-3d", small)
    model = Model.untrained(chosen, Shapes("train", shapes, held_out=0))
    made = editing.decorate(model, "[*:1]CC", 2, seed=1).molecules
    assert made
    assert all(mol.HasSubstructMatch(known("CC")) and in_space(mol) for mol in made)
    model.save(tmp_path / "model")
    write(tmp_path / "made.sdf", made)
    page.write(tmp_path / "made.sdf", tmp_path / "p.html", model=str(tmp_path / "model"))
    assert "From noise to a molecule" in (tmp_path / "p.html").read_text()


def test_parts_of_other_kinds_are_refused(graph, space):
    with pytest.raises(SuffuseError, match="needs the encoder 'molecules/space'"):
        EquivariantTransformer(graph.shape, graph)
    with pytest.raises(SuffuseError, match="needs the encoder 'molecules/space'"):
        spatial(schedules.flow(), graph)
    with pytest.raises(SuffuseError, match="place_weight is above 0"):
        spatial(schedules.flow(), space, place_weight=0.0)
    assert issubclass(EquivariantTransformer, GraphTransformer)
