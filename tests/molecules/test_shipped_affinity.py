"""The model of kinase affinities that ships."""

from suffuse_molecules.affinity import Affinity


def test_it_knows_a_strong_binder_from_a_weak_one() -> None:
    model = Affinity.load()
    kinase = model.features.sequences[0]
    found = [model(smiles, kinase) for smiles in model.features.smiles]
    assert all(answer.low < answer.value < answer.high for answer in found)
    assert all(answer.molecule > 0.999 for answer in found)
    assert 4.5 < min(answer.value for answer in found) < 5.5
    assert max(answer.value for answer in found) > 6.5
    assert model("CCO", "W" * 40).warning
