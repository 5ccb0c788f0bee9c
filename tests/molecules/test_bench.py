"""The suite's cases, each at its smallest."""

import pytest
import torch

from suffuse.bench import Context, key
from suffuse_molecules import bench
from suffuse_molecules.bench_step import PlainTransformer, Step
from suffuse_molecules.datasets import NCI
from suffuse_molecules.editing import known_of
from suffuse_molecules.graph import Graph
from suffuse_molecules.network import GraphTransformer


def found(case):
    return {metric.name: metric for metric in case.run(Context()).metrics}


def test_a_round_trip_counts_what_is_refused():
    result = bench.RoundTrip("t", "nci", 0, "nci", every=25).run(Context())
    metrics = {metric.name: metric for metric in result.metrics}
    assert metrics["come back"].value == 100
    assert set(result.detail["reasons"]) >= {"unreadable", "radical", "metal"}


def test_without_data_there_is_a_note_and_no_figure(monkeypatch):
    monkeypatch.delenv("SUFFUSE_DATA", raising=False)
    for case in (
        bench.RoundTrip("t", "qm9", 0, "qm9"),
        bench.Shapes("t", "m", 0),
        bench.Trained("t", "m", 0),
        bench.Edits("t", "m", 0, "linker"),
    ):
        result = case.run(Context())
        assert not result.metrics
        assert "SUFFUSE_DATA" in result.note


def test_shapes_are_near_those_that_are_given(data_folder):
    case = bench.Shapes("t", "ETKDG", 0, k=10, n=8)
    metrics = found(case)
    assert metrics["median deviation"].value < 0.5
    assert metrics["under 0.5 Å"].value > 50


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_is_timed_beside_the_plain_network(precision):
    metrics = found(Step("t", precision, 0, 8, precision, atoms=4, batch=2, seconds=0.1))
    step, plain = metrics["step"], metrics["plain step"]
    assert step.n == plain.n >= 7
    assert 0 < step.value < plain.value * 10


def test_pairs_give_what_the_plain_network_gives():
    encoder = Graph(["C", "N", "O"], [4, 3, 2], [1] * 6, [3, 1, 1], [8, 2, 1, 1])
    ours = GraphTransformer(encoder.shape, encoder, width=16, edge=8, depth=2, ordered=True).eval()
    with torch.no_grad():
        for number in ours.parameters():
            number.normal_(std=0.3)
    plain = PlainTransformer(encoder.shape, encoder, width=16, edge=8, depth=2, ordered=True).eval()
    plain.load_state_dict(ours.state_dict())
    x = {"atoms": torch.randint(3, (3, 6)), "bonds": torch.randint(4, (3, 6, 6)).triu(1)}
    x["bonds"] = x["bonds"] + x["bonds"].mT
    level = {name: torch.rand(3) for name in x}
    there = torch.arange(6) < torch.tensor([[6], [4], [1]])
    one, two = (network(x, level, mask={"atoms": there}) for network in (ours, plain))
    torch.testing.assert_close(one["atoms"][there], two["atoms"][there])
    real = there[:, :, None] & there[:, None] & ~torch.eye(6, dtype=torch.bool)
    torch.testing.assert_close(one["bonds"][real], two["bonds"][real])


@pytest.mark.parametrize(("kind", "points"), [("scaffold", 1), ("R-groups", 2), ("linker", 2)])
def test_parts_have_their_attachment_points(kind, points):
    parts = bench.asked(kind, NCI("test", largest=12).smiles(), 12)
    assert len(set(parts)) == 12
    for part in parts:
        assert part.count("*") == points
        pieces = part.split("|")
        assert len(pieces) == (2 if kind == "linker" else 1)
        assert all(known_of(piece).open for piece in pieces)


def test_a_linker_is_asked_for_between_what_a_molecule_ends_in():
    assert bench.asked("linker", ["CC", "c1ccccc1CNCC=O"], 5) == ["*NCC=O|*c1ccccc1"]
    assert bench.asked("R-groups", ["Cc1ccccc1"], 5) == ["*c1ccccc1*"]


@pytest.mark.parametrize("suite", [bench.molecules, bench.short, bench.training])
def test_every_case_has_a_key_of_its_own(suite):
    cases = [*suite()]
    assert len({key(case) for case in cases}) == len(cases)


def test_a_model_is_trained_and_judged_by_all_samplers(monkeypatch):
    monkeypatch.setattr(bench, "MODEL", "molecules/nci")
    monkeypatch.setattr(bench, "QM9", lambda split: NCI(split, largest=8))
    load = bench.recipe.load
    small = {"dataset.largest": 8, "denoiser.width": 16, "denoiser.edge": 8, "denoiser.depth": 1}
    monkeypatch.setattr(bench.recipe, "load", lambda name, asked: load(name, {**asked, **small}))
    metrics = found(bench.Trained("t", "m", 0, steps=2, sampled=2, n=6, many=12))
    assert 0 < metrics["steps by the clock"].value < metrics["training by the clock"].value
    assert metrics["renoise, Raw valid"].n == 6
    assert metrics["ancestral, Raw valid"].n == 6
    assert metrics["as the recipe, Raw valid"].n == 12
