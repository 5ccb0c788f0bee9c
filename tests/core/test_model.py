"""Models on the toy domain: the same sample everywhere, kept and loaded, and mistakes told."""

import json

import numpy as np
import pytest
import torch

import suffuse
from suffuse import SuffuseError, recipe
from suffuse.model import Model

SMALL = {"denoiser.width": 16, "denoiser.depth": 1, "dataset.n": 60}


@pytest.fixture
def model(toy):
    """Untrained, but with weights that answer to everything."""
    torch.manual_seed(3)
    resolved = recipe.load("toy/spiral", SMALL)
    from suffuse_toy.data import Spiral

    made = Model.untrained(resolved, Spiral("train", n=60))
    for p in made.network.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return made


@pytest.fixture
def folder(model, tmp_path):
    model.save(tmp_path / "model")
    return tmp_path / "model"


def points(objects):
    return np.stack(objects)


SOLVERS = ["multistep", "ddpm", {"name": "heun", "churn": 5.0}]


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_a_sample_is_the_same_in_any_batch_order_and_alone(model, solver):
    arms = ["left", "right", None, "left", "right", "left"]
    settings = {"seed": 9, "solver": solver, "steps": 7, "guidance": 2.0}
    whole = points(model.sample(6, arm=arms, **settings))
    for batch in (1, 4):
        np.testing.assert_allclose(
            points(model.sample(6, arm=arms, batch=batch, **settings)), whole, atol=1e-5
        )
    for i in (4, 0, 2):
        alone = model.sample(1, first=i, arm=[arms[i]], **settings)
        np.testing.assert_allclose(alone[0], whole[i], atol=1e-5)


def test_seeds_in_a_list_are_samples_of_their_own(model):
    found = points(model.sample(3, seed=[7, 3, 7], steps=4))
    np.testing.assert_allclose(found[0], found[2], atol=1e-6)
    np.testing.assert_allclose(found[1], model.sample(1, seed=3, steps=4)[0], atol=1e-6)
    assert not np.allclose(found[0], found[1])


def test_conditions_and_guidance_change_the_sample(model):
    left, right, free = (
        points(model.sample(2, steps=4, **given))
        for given in ({"arm": "left"}, {"arm": "right"}, {})
    )
    assert not np.allclose(left, right)
    assert not np.allclose(left, free)
    none = points(model.sample(2, steps=4, arm="left", guidance=0.0))
    np.testing.assert_allclose(none, free, atol=1e-5)
    assert not np.allclose(points(model.sample(2, steps=4, arm="left", guidance=3.0)), left)


def test_conditions_are_embedded_once_a_batch_and_anew_with_other_weights(model, monkeypatch):
    asked, slots = [], model.network.slots
    monkeypatch.setattr(model.network, "slots", lambda given: asked.append(0) or slots(given))
    ask = {"arm": ["left", "right", "left"], "steps": 4, "guidance": 2.0, "batch": 2}
    before = points(model.sample(3, **ask))
    assert len(asked) == 2
    with torch.no_grad():
        for weight in model.network.conditioners.parameters():
            weight.add_(1.0)
    assert not np.allclose(points(model.sample(3, **ask)), before)
    asked.clear()
    model.network(torch.zeros(1, 2), torch.ones(1), **model.prepare({"arm": ["left"]}, 1))
    model.network(torch.zeros(1, 2), torch.ones(1), **model.prepare({"arm": ["left"]}, 1))
    assert len(asked) == 2


def test_a_short_list_of_conditions_goes_round(model):
    found = points(model.sample(4, steps=3, arm=["left", "right"]))
    full = points(model.sample(4, steps=3, arm=["left", "right", "left", "right"]))
    np.testing.assert_array_equal(found, full)


def test_steps_can_be_watched_and_the_start_given(model):
    seen = []
    x = torch.randn(5, 2)
    model.sample(5, x=x, steps=3, batch=4, on_step=seen.append)
    assert [(s.index, s.calls, len(s.x)) for s in seen] == [
        (i, 3, b) for b in (4, 1) for i in range(3)
    ]
    assert seen[2].s == 0.0
    again = model.sample(5, x=x, steps=3, seed=99)
    np.testing.assert_allclose(points(again), points(model.sample(5, x=x, steps=3)), atol=1e-6)


def test_a_saved_model_samples_the_same(model, folder):
    loaded = suffuse.load(folder)
    assert loaded.recipe == model.recipe
    assert loaded.conditions == model.conditions
    np.testing.assert_array_equal(
        points(loaded.sample(3, steps=4, arm="left")), points(model.sample(3, steps=4, arm="left"))
    )


def test_encoding_and_decoding_are_inverse(model):
    raw = [np.array([0.2, -0.4]), np.array([0.9, 0.1])]
    np.testing.assert_allclose(points(model.decode(model.encode(raw))), points(raw), atol=1e-6)


def test_evaluation_uses_the_recipes_evaluators(model):
    metrics = model.evaluate(40, steps=3)
    assert [m.name for m in metrics] == ["distance"]
    assert metrics[0].n == 40
    assert metrics[0].low <= metrics[0].value <= metrics[0].high
    assert metrics == model.evaluate(40, steps=3)
    assert metrics != model.evaluate(40, steps=3, seed=1)
    (other,) = model.evaluate(40, [{"name": "toy/distance", "resamples": 3}], steps=3)
    assert other.value == metrics[0].value
    assert other.low != metrics[0].low


def test_an_evaluator_may_have_the_model_make_what_it_judges(model, monkeypatch):
    from suffuse_toy.evaluator import Distance

    def make(self, maker, examples, *, seed, **settings):
        assert (maker, seed, settings) == (model, 5, {"batch": 64, "steps": 3})
        return examples

    monkeypatch.setattr(Distance, "make", make, raising=False)
    (metric,) = model.evaluate(40, seed=5, steps=3)
    assert (metric.value, metric.n) == (0, 40)  # the held-out examples themselves


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.sample(2, arm="lefd"), "did you mean 'left'"),
        (lambda m: m.sample(2, armm="left"), "no condition 'armm'; did you mean 'arm'"),
        (lambda m: m.sample(0), "1 or more"),
        (lambda m: m.sample(2, batch=0), "1 or more"),
        (lambda m: m.sample(2, steps=0), "1 step or more"),
        (lambda m: m.sample(2, solver="ddimm"), "did you mean 'ddim'"),
        (lambda m: m.sample(2, solver={"name": "ddim", "etta": 1}), "did you mean 'solver.eta'"),
        (lambda m: m.sample(2, grid="karas"), "did you mean 'karras'"),
        (lambda m: m.sample(2, seed=[1, 2, 3]), "3 seeds were given for 2 samples"),
        (lambda m: m.sample(2, arm=[]), "empty list"),
        (lambda m: m.evaluate(0), "needs samples"),
    ],
)
def test_mistakes_are_told(model, call, message):
    with pytest.raises(SuffuseError, match=message):
        call(model)


def test_a_model_that_predicts_noise_refuses_to_start_in_pure_noise(toy):
    resolved = recipe.load("toy/spiral", {**SMALL, "process.prediction": "eps"})
    from suffuse_toy.data import Spiral

    model = Model.untrained(resolved, Spiral("train", n=60))
    with pytest.raises(SuffuseError, match="predicts 'eps' says nothing of the data at t = 1"):
        model.sample(1)
    model.sample(1, grid=[0.99, 0.5, 0.0])


def test_a_condition_that_the_data_do_not_have(toy):
    resolved = recipe.load("toy/spiral", {**SMALL, "conditions.colour.name": "label"})
    from suffuse_toy.data import Spiral

    with pytest.raises(SuffuseError, match="no condition of this data set 'colour'"):
        Model.untrained(resolved, Spiral("train", n=60))


# Loading


def test_names_that_are_neither_paths_nor_models(toy):
    with pytest.raises(SuffuseError, match="no model or run directory 'runs/none'"):
        suffuse.load("runs/none")


def damage(folder, kind):
    config, weights = folder / "config.json", folder / "model.safetensors"
    text = json.loads(config.read_text())
    if kind == "no config":
        config.unlink()
    elif kind == "cut config":
        config.write_text(config.read_text()[:100])
    elif kind == "other json":
        config.write_text("[1, 2]")
    elif kind == "other format":
        config.write_text(json.dumps({**text, "format": 99}))
    elif kind == "unknown plugin":
        text["recipe"]["denoiser"]["name"] = "acme/net"
        config.write_text(json.dumps(text))
    elif kind == "other network":
        text["recipe"]["denoiser"]["width"] = 32
        config.write_text(json.dumps(text))
    elif kind == "no weights":
        weights.unlink()
    elif kind == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-7])
    elif kind == "pickle":
        torch.save({"a": torch.zeros(1)}, weights)


DAMAGES = {
    "no config": "is no model",
    "cut config": "damaged",
    "other json": "not the config of a Suffuse model",
    "other format": "has the format 99",
    "unknown plugin": "acme/net",
    "other network": "do not fit",
    "no weights": "model.safetensors",
    "cut weights": "model.safetensors",
    "pickle": "model.safetensors",
}


@pytest.mark.parametrize(("kind", "message"), DAMAGES.items(), ids=DAMAGES)
def test_damaged_models_are_told(folder, kind, message):
    damage(folder, kind)
    with pytest.raises(SuffuseError, match=message):
        suffuse.load(folder)
