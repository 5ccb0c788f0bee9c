"""Guidance of a model by name: in Python, in recipes and from the command line."""

import numpy as np
import pytest
import torch

from suffuse import SuffuseError, plugins, recipe
from suffuse.diffusion import grids, guidance, sample
from suffuse.diffusion.noise import Noise
from suffuse.model import Model

SMALL = {"denoiser.width": 16, "denoiser.depth": 1, "dataset.n": 60}


def made(**changes):
    torch.manual_seed(3)
    from suffuse_toy.data import Spiral

    model = Model.untrained(recipe.load("toy/spiral", {**SMALL, **changes}), Spiral("train", n=60))
    for p in model.network.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model


@pytest.fixture
def model(toy):
    return made()


# The registered guidance with options, the weight, and the same in terms of `diffusion.guidance`
METHODS = {
    "classifier-free,interval=[0.3, 0.8]": (
        3.0,
        lambda f, null, s, plan: guidance.classifier_free(f, 3.0, null, interval=(0.3, 0.8)),
    ),
    "apg,largest=0.5,parallel=0.1": (
        3.0,
        lambda f, null, s, plan: guidance.apg(f, 3.0, null, largest=0.5, parallel=0.1),
    ),
    "cfg-zero-star,still_above=0.9": (
        3.0,
        lambda f, null, s, plan: guidance.cfg_zero_star(f, 3.0, null, s, still_above=0.9),
    ),
    "cfg-plus-plus": (0.6, lambda f, null, s, plan: guidance.cfg_plus_plus(f, 0.6, null, plan)),
    "rescale,amount=0.4": (
        3.0,
        lambda f, null, s, plan: guidance.rescale(
            guidance.classifier_free(f, 3.0, null), f, amount=0.4
        ),
    ),
    "clip,low=-0.2,high=0.3": (1.0, lambda f, null, s, plan: guidance.clip(f, -0.2, 0.3)),
    "dynamic-threshold,bound=0.2": (
        3.0,
        lambda f, null, s, plan: guidance.dynamic_threshold(
            guidance.classifier_free(f, 3.0, null), 0.2
        ),
    ),
}


@pytest.mark.parametrize("text", METHODS)
def test_a_named_guidance_is_the_transform_of_that_name(model, text):
    weight, transform = METHODS[text]
    by = recipe.part(text)
    found = model.sample(3, seed=2, steps=5, guidance=weight, guidance_by=by, arm="left")
    plan = model.plan(steps=5)
    plain = model.denoiser()
    null = model.prepare({}, 1)
    with torch.inference_mode():
        guided = transform(plain, null, model.schedule, plan)
        noise = Noise(2, 3)
        x = sample(
            guided, plan, noise=noise, shape=model.shape, **model.prepare({"arm": ["left"] * 3}, 3)
        )
    np.testing.assert_allclose(np.stack(found), np.stack(model.decode(x)), atol=1e-5)
    without = model.sample(3, seed=2, steps=5, guidance=weight if weight > 1 else 1.0, arm="left")
    assert not np.allclose(np.stack(found), np.stack(without), atol=1e-4)


def test_every_registered_guidance_is_tried():
    named = {text.partition(",")[0] for text in METHODS}
    assert named | {"autoguidance"} == {entry.name for entry in plugins.entries("guidance")}


def test_autoguidance_leads_away_from_the_model_that_is_named(model, tmp_path):
    model.save(tmp_path / "worse")
    other = made()
    settings = {"seed": 2, "steps": 4, "arm": "left"}
    by = {"name": "autoguidance", "model": str(tmp_path / "worse")}
    same = other.sample(2, guidance=2.0, guidance_by=by, **settings)
    np.testing.assert_allclose(np.stack(same), np.stack(other.sample(2, **settings)), atol=1e-5)
    with torch.no_grad():
        for p in other.network.parameters():
            p.mul_(1.1)
    led = np.stack(other.sample(2, guidance=2.0, guidance_by=by, **settings))
    assert not np.allclose(led, np.stack(other.sample(2, **settings)), atol=1e-3)


def test_the_recipe_says_what_guides(toy):
    changes = {"sampling.guidance": 3.0, "sampling.guidance_by": [{"name": "apg", "largest": 0.2}]}
    kept = made(**changes)
    assert kept.recipe.sampling.guidance_by == [{"name": "apg", "parallel": 0.0, "largest": 0.2}]
    plain = made(**{"sampling.guidance": 3.0})
    by_recipe = kept.sample(2, steps=4, arm="left")
    by_call = plain.sample(2, steps=4, arm="left", guidance_by={"name": "apg", "largest": 0.2})
    np.testing.assert_array_equal(np.stack(by_recipe), np.stack(by_call))
    default = kept.sample(2, steps=4, arm="left", guidance_by="classifier-free")
    np.testing.assert_array_equal(np.stack(default), np.stack(plain.sample(2, steps=4, arm="left")))


def test_the_recipe_says_how_steps_are_spread(toy):
    kept = made(**{"sampling.grid.name": "balanced", "sampling.grid.shift": 4})
    assert kept.recipe.sampling.grid == {"name": "balanced", "shift": 4.0}
    asked = grids.balanced(kept.schedule, 6, shift=4.0)[:-1]
    np.testing.assert_array_equal(kept.plan(steps=6).t, asked)
    np.testing.assert_allclose(kept.plan(steps=6, grid="uniform").t, 1 - np.arange(6) / 6)
    own = made().plan("dpmpp-2m", 6).t  # of another solver
    np.testing.assert_array_equal(kept.plan("dpmpp-2m", 6).t, own)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guidance_by": "agp"}, "did you mean 'apg'"),
        ({"guidance_by": {"name": "apg", "larges": 1}}, "did you mean 'guidance_by.largest'"),
        ({"guidance_by": ["apg", "classifier-free"]}, "one guidance takes the weight"),
        ({"guidance_by": "cfg-plus-plus", "guidance": 3.0}, "between 0 and 1"),
        ({"guidance_by": {"name": "clip", "low": 1, "high": 0}}, "a range rises"),
    ],
)
def test_wrong_guidance_is_told(model, settings, message):
    with pytest.raises(SuffuseError, match=message):
        model.sample(1, steps=2, arm="left", **settings)


def test_a_part_is_read_from_a_command():
    assert recipe.part("heun") == {"name": "heun"}
    assert recipe.part("heun,churn=5,churn_noise=1.0") == {
        "name": "heun",
        "churn": 5,
        "churn_noise": 1.0,
    }
