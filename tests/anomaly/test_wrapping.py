"""Scores by a model of another domain: handwritten digits."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image

import suffuse
from suffuse import plugins, recipe
from suffuse.errors import SuffuseError
from suffuse_anomaly import AnomalyDetector

pytest.importorskip("suffuse_image")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small model of digits, trained for some seconds."""
    torch.manual_seed(0)
    dataset = plugins.build("dataset", {"name": "image/digits"}, split="train")
    loaded = recipe.load("image/digits", {"denoiser.width": 16})
    model = suffuse.Model.untrained(loaded, dataset)
    x_0 = model.encode([dataset[i].data for i in range(len(dataset))])
    nothing = model.prepare({}, 32)
    optimizer = torch.optim.Adam(model.network.parameters(), 2e-3)
    for _ in range(60):
        chosen = torch.randint(len(x_0), (32,))
        t, noise = torch.rand(32, dtype=torch.float64), torch.randn(32, *x_0.shape[1:])
        optimizer.zero_grad()
        loss = model.process.loss(model.network, x_0[chosen], t, noise, **nothing)
        loss.mean().backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("runs") / "digits"
    model.save(path)
    return suffuse.load(path)


@pytest.fixture(scope="module")
def digits(model):
    test = model.dataset("test")
    return [test[i].data for i in range(100)]


def turned(pictures):
    return [Image.fromarray(np.rot90(np.asarray(p)).copy()) for p in pictures]


@pytest.fixture(scope="module")
def detector(model, digits):
    return AnomalyDetector(model).fit(digits[:60])


def test_digits_on_their_side_are_more_unusual(detector, digits):
    assert detector.methods == ("knn-time", "score-norm")
    usual, odd = detector.score(digits[60:]), detector.score(turned(digits[60:]))
    assert (odd > np.median(usual)).mean() > 0.9


def test_a_score_does_not_depend_on_the_batch(detector, digits):
    whole = detector.score(digits[60:70])
    for i in range(3):
        assert_array_equal(detector.score([digits[60 + i]]), whole[i : i + 1])


def test_an_ink_blot_is_where_the_heat_map_is_hot(detector, digits):
    arrays = np.stack([np.asarray(p) for p in digits[60:90]])
    arrays[:, :2, :2] = 255
    blotted = [Image.fromarray(a) for a in arrays]
    heat = detector.heat_map(blotted) - detector.heat_map(digits[60:90])
    assert heat.shape == (30, 8, 8)
    inside = heat[:, :2, :2].mean()
    assert inside > 4 * np.abs(heat[:, 4:, 4:]).mean()


def test_the_loss_needs_no_tensors_and_neighbours_no_network(model, digits):
    for method in ("loss", "knn-time"):
        found = AnomalyDetector(model, method, batch=16).fit(digits[:40])
        assert found.score(digits[40:44]).shape == (4,)
        assert (found.p_values(turned(digits[40:60])) < 0.2).mean() > 0.3
        assert found.select(digits[40:44], 0.1).dtype == bool


def test_p_values_are_ranks_among_the_normal(detector, digits):
    p = detector.p_values(digits[60:])
    assert ((p > 0) & (p <= 1)).all()
    assert (p < 0.1).mean() < 0.35


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, d: AnomalyDetector(m, "los"), "did you mean 'loss'"),
        (lambda m, d: AnomalyDetector(m).fit(d[:5]), "20 normal objects or more; given 5"),
        (lambda m, d: AnomalyDetector(m, "loss").heat_map(d), "heat maps come from one of"),
    ],
)
def test_mistakes_are_told_in_a_sentence(call, words, model, digits):
    with pytest.raises(SuffuseError, match=words):
        call(model, digits)


def test_the_command_scores_a_folder_by_any_model(model, digits, tmp_path):
    from click.testing import CliRunner

    from suffuse.cli import cli

    folder = tmp_path / "new"
    folder.mkdir()
    for i, picture in enumerate([*digits[:3], *turned(digits[3:4])]):
        picture.save(folder / f"{i}.png")
    out = tmp_path / "scores.csv"
    words = ["score", str(folder), "--model", str(model.path), "-o", str(out)]
    done = CliRunner().invoke(cli, words)
    assert f"4 scores in {out}" in done.output
    lines = out.read_text().splitlines()
    assert lines[0] == "file,score"
    assert [line.split(",")[0] for line in lines[1:]] == [f"{i}.png" for i in range(4)]
    with pytest.raises(SuffuseError, match="leave them out"):
        raise CliRunner().invoke(cli, [*words, "--explain"]).exception


def test_a_name_is_no_model():
    with pytest.raises(SuffuseError, match="a detector wraps a model"):
        AnomalyDetector("image/digits")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": ["knn-time"]}, "no method"),
        ({"batch": "x"}, "batch is a whole number, 1 or more; given 'x'"),
        ({"seed": -1}, "seed is a whole number, 0 or more; given -1"),
        ({"n_neighbors": 0}, "n_neighbors is a whole number"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, words, model):
    with pytest.raises(SuffuseError, match=words):
        AnomalyDetector(model, **settings)


def test_what_is_no_list_of_objects_is_refused(detector, digits):
    for given in (digits[0], "a.png", None):
        for ask in (detector.fit, detector.score, detector.explain, detector.heat_map):
            if given is not None or ask != detector.fit:
                with pytest.raises(SuffuseError, match="as a list, one alone too; given"):
                    ask(given)
