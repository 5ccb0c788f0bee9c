"""The language model of SMILES, and the suite of drug-like molecules."""

import math

import pytest
import torch

from suffuse.bench import Context, key
from suffuse.errors import SuffuseError
from suffuse_molecules import bench_druglike as bench
from suffuse_molecules import moses
from suffuse_molecules.chemistry import canonical, known
from suffuse_molecules.datasets import NCI
from suffuse_molecules.language import SmilesLSTM, train


def test_texts_are_told_from_end_to_end():
    model = SmilesLSTM("CNO", width=4)
    assert model.encode(["CO", "N"]).tolist() == [[0, 1, 3, 0], [0, 2, 0, 0]]


def test_the_loss_is_the_mean_of_a_characters_log_likelihood():
    model = SmilesLSTM("CNO", width=4)
    total = 0.0
    for text in ([1, 3, 0], [2, 0]):
        state, before = None, torch.zeros(1, 1, dtype=torch.int64)
        for token in text:
            logits, state = model(before, state)
            total -= logits[0, 0].log_softmax(-1)[token].item()
            before = torch.tensor([[token]])
    loss = model.loss(model.encode(["CO", "N"]).long()).item()
    assert loss == pytest.approx(total / 5, rel=1e-5)


def test_what_it_draws_follows_its_own_distribution(seed):
    model = SmilesLSTM("CN", width=4)
    n = 4000
    texts = model.sample(n, 2, seed)
    first, state = model(torch.zeros(1, 1, dtype=torch.int64))
    second, _ = model(torch.ones(1, 1, dtype=torch.int64), state)
    p = first.softmax(-1)[0, 0, 1].item() * second.softmax(-1)[0, 0, 2].item()
    drawn = sum(text == "CN" for text in texts) / n
    assert abs(drawn - p) < 5 * math.sqrt(p * (1 - p) / n) + 1e-9


def test_it_learns_what_it_is_shown(seed):
    model, steps = train(["CCO", "CCN"] * 8, 1.0, width=16, batch=16, rate=3e-2, seed=seed)
    drawn = model.sample(200, 8, seed)
    assert steps > 10
    assert sum(text in ("CCO", "CCN") for text in drawn) > 150


def test_nothing_to_learn_is_an_error():
    with pytest.raises(SuffuseError, match="given 0 SMILES"):
        train([], 1.0)
    with pytest.raises(SuffuseError, match="seconds above 0"):
        train(["C"], 0.0)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "some.smi"
    smiles = (canonical(known(s)) for s in NCI("train").smiles()[:300])
    path.write_text("\n".join(dict.fromkeys(smiles)))
    return str(path)


class Parrot:
    """A language model that says what it was shown, and broken texts at the end."""

    def __init__(self, smiles):
        self.smiles = smiles

    def sample(self, n, longest, seed):
        return [*self.smiles[: n - 10], *["C("] * 10]


def test_rows_have_the_same_figures(table, monkeypatch):
    monkeypatch.setattr(bench, "chemnet", lambda: lambda smiles: None)
    monkeypatch.setattr(bench, "train", lambda smiles, seconds, seed: (Parrot(smiles), 7))
    context, figures = Context(), {}
    cases = bench.druglike(table, table, weights="molecules/qm9", seconds=1, steps=2, n=100)
    for case in cases:
        figures[case.source] = {m.name: m for m in case.run(context).metrics}
    names = [set(found) - {"valid as decoded"} for found in figures.values()]
    assert names[1:] == names[:-1]
    for found in figures.values():
        for metric in found.values():
            assert metric.low <= metric.value <= metric.high, metric.name
    assert figures["language"]["raw valid"].value == 90
    assert figures["language"]["novel"].value == 0
    floor = figures["training"]
    assert floor["raw valid"].value == 100
    assert floor["novel"].value == 0
    assert floor["SNN"].value > 0.99 > figures["carbon"]["SNN"].value
    assert floor["scaffolds, cosine"].value > figures["graphs"]["scaffolds, cosine"].value
    assert figures["carbon"]["novel"].value == 100


def test_diversity_is_that_of_moses(molecules):
    metrics = {m.name: m for m in bench._figures(molecules, molecules, [], 0)}
    assert metrics["diversity"].value == pytest.approx(moses.diversity(molecules))


def test_cases_have_keys_and_nonsense_is_told(table):
    result = next(iter(bench.druglike())).run(Context())
    assert not result.metrics
    assert "--set data=FILE" in result.note
    cases = [*bench.druglike(table, seeds=2)]
    assert len({key(case) for case in cases}) == 7
    assert sum(case.source == "language" for case in cases) == 1
    with pytest.raises(SuffuseError, match="is no file"):
        [*bench.druglike("nowhere.csv")]
    with pytest.raises(SuffuseError, match="seconds above 0"):
        [*bench.druglike(table, seconds=0)]
