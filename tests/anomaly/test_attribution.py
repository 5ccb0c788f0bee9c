"""What atoms and pixels add to a score: it sums to it, and is where the unusual is."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import suffuse
from suffuse.errors import SuffuseError
from suffuse_anomaly import AnomalyDetector
from suffuse_anomaly.attribution import by_part, part_losses


def test_losses_of_parts_sum_to_the_loss_over_nodes_and_pairs(rng):
    sizes = torch.tensor([3, 5, 1])
    nodes = torch.arange(5) < sizes[:, None]
    mask = {"nodes": nodes, "pairs": nodes[:, :, None] & nodes[:, None]}
    of = {name: torch.from_numpy(rng.random(m.shape)) for name, m in mask.items()}

    def error(seen):
        means = [(of[k] * seen[k]).flatten(1).sum(1) / seen[k].flatten(1).sum(1) for k in of]
        return torch.stack(means).nan_to_num().sum(0)

    found = part_losses(error, mask)
    assert_allclose(found.sum(1), error(mask))
    assert_allclose(found[0, 1], (of["nodes"][0, 1] + of["pairs"][0, 1, :3].mean()) / 3)
    assert (found[0, 3:] == 0).all()


def test_elements_of_pairs_count_half_for_each_end():
    pairs = np.zeros((1, 1, 3, 3))
    pairs[0, 0, 0, 2] = 1.0
    nodes = np.zeros((1, 1, 3))
    nodes[0, 0, 1] = 2.0
    masks = {"nodes": torch.ones(1, 3, dtype=bool), "pairs": torch.ones(1, 3, 3, dtype=bool)}
    found = by_part({"nodes": nodes, "pairs": pairs}, masks)
    assert_allclose(found[0, 0], [0.5, 2.0, 0.5])


def test_atoms_of_molecules_sum_to_the_score():
    chemistry = pytest.importorskip("suffuse_molecules.chemistry")
    chains = ["C" * i + middle + "C" * j for middle in "CON" for i in range(1, 4) for j in range(3)]
    usual = [chemistry.parse(smiles) for smiles in chains]
    detector = AnomalyDetector(suffuse.load("molecules/qm9"), batch=16).fit(usual)
    odd = [chemistry.parse(smiles) for smiles in ("CCCC(F)(F)F", "CCO")]
    parts = detector.explain(odd)
    assert [len(part) for part in parts] == [7, 3]
    assert_allclose([part.sum() for part in parts], detector.score(odd), rtol=1e-6)
    assert parts[0][4:].mean() > parts[0][:3].mean()


def test_pixels_of_pictures_sum_to_the_score():
    pytest.importorskip("suffuse_image")
    model = suffuse.load("image/digits")
    test = model.dataset("test")
    digits = [test[i].data for i in range(40)]
    detector = AnomalyDetector(model).fit(digits[:30])
    parts = detector.explain(digits[30:])
    assert parts[0].shape == tuple(model.shape[1:])
    assert_allclose([part.sum() for part in parts], detector.score(digits[30:]), rtol=1e-6)
    with pytest.raises(SuffuseError, match="does not say what each place"):
        AnomalyDetector(model, "likelihood").explain(digits[:1])
