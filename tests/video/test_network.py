"""The networks: what frames know of each other, what is remembered, what images give to clips."""

from __future__ import annotations

import gc

import pytest
import torch

from suffuse import plugins, recipe, training
from suffuse.diffusion import Noise
from suffuse.errors import SuffuseError
from suffuse.model import Model
from suffuse.nn.unet import UNet
from suffuse_video.making import complete, following
from suffuse_video.network import Cache, SpaceTime
from suffuse_video.unet import SpaceTimeUNet

from .conftest import awake


def test_the_past_alone_is_seen_by_causal_frames():
    for network in (
        awake(SpaceTime((6, 3, 8, 8), width=16, depth=2, causal=1.0)),
        awake(SpaceTime((6, 3, 8, 8), patch=8, width=16, depth=2, causal=1.0, refine=8)),
        awake(SpaceTimeUNet((6, 3, 8, 8), width=16, multipliers=(1, 2), causal=True)),
    ):
        x, level = torch.randn(1, 6, 3, 8, 8), torch.randn(1, 6)
        later = x.clone()
        later[:, 4] += 1
        apart = (network(later, level) - network(x, level)).abs().amax((0, 2, 3, 4))
        assert apart[:4].max() == 0
        assert apart[4:].min() > 0


@pytest.mark.parametrize(("patch", "refine"), [(4, 0), (4, 8), (8, 8)])
def test_what_is_remembered_stands_for_the_frames_themselves(patch, refine):
    """Frame by frame with the cache is the same as all at once, for causal attention."""
    options = {"patch": patch, "width": 16, "depth": 2, "causal": 0.5, "refine": refine}
    network = awake(SpaceTime((6, 3, 8, 8), **options))
    x, level = torch.randn(2, 6, 3, 8, 8), torch.randn(2, 6)
    whole = network(x, level, causal=True)
    cache = Cache(longest=6)
    cache.writing = True
    parts = [network(x[:, :2], level[:, :2], causal=True, cache=cache)]
    for i in range(2, 6):
        parts.append(network(x[:, i : i + 1], level[:, i : i + 1], causal=True, cache=cache))
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-4)
    assert cache.frames == 6


@pytest.mark.parametrize("chunk", [2, 4, 7])
def test_known_frames_see_no_more_of_the_past_many_at_once_than_one_by_one(chunk):
    network = awake(SpaceTime((4, 3, 8, 8), patch=8, width=16, depth=2, causal=1.0, refine=8))
    x, level = torch.randn(1, 11, 3, 8, 8), torch.randn(1, 11)

    def written(size):
        cache = Cache(longest=3)
        cache.writing = True
        parts = zip(x.split(size, 1), level.split(size, 1), strict=True)
        return torch.cat([network(*part, cache=cache) for part in parts], 1), cache

    (many, a), (one, b) = written(chunk), written(1)
    torch.testing.assert_close(many, one, atol=1e-5, rtol=1e-4)
    for i in a.kept:
        torch.testing.assert_close(a.kept[i], b.kept[i], atol=1e-5, rtol=1e-4)


def test_the_cache_holds_no_more_than_it_is_told():
    network = awake(SpaceTime((4, 3, 8, 8), width=16, depth=2, causal=1.0))
    cache = Cache(longest=3)
    cache.writing = True
    for _ in range(9):
        network(torch.randn(1, 1, 3, 8, 8), torch.zeros(1, 1), cache=cache)
    assert {k.shape[-2] for pair in cache.kept.values() for k in pair} == {3}


def test_only_how_far_frames_are_apart_counts_in_time():
    """With the same clip later on the clock of the cache, the same answer."""
    network = awake(SpaceTime((4, 3, 8, 8), width=16, depth=2, causal=1.0))
    x = torch.randn(1, 4, 3, 8, 8)
    late = Cache(longest=3)
    late.frames = 1000  # nothing is remembered: only the clock is later
    torch.testing.assert_close(
        network(x, torch.zeros(1, 4), cache=late),
        network(x, torch.zeros(1, 4)),
        atol=1e-4,
        rtol=1e-3,
    )


def test_moments_reach_the_frames_that_they_are_of():
    for network in (
        awake(SpaceTime((4, 3, 8, 8), width=16, depth=1, causal=1.0)),
        awake(SpaceTimeUNet((4, 3, 8, 8), width=4, multipliers=(1,), causal=True)),
    ):
        x, asked = torch.randn(1, 4, 3, 8, 8), torch.randn(1, 4, 16)
        other = asked.clone()
        other[:, 3] += 1
        level = torch.zeros(1)
        apart = network(x, level, moments=asked) - network(x, level, moments=other)
        assert apart[:, :3].abs().max() == 0
        assert apart[:, 3].abs().max() > 0
        # spread over clips of another length
        assert network(torch.randn(1, 7, 3, 8, 8), level, moments=asked).shape[1] == 7


def test_a_fresh_unet_makes_of_each_frame_what_the_images_unet_makes():
    network = SpaceTimeUNet((3, 3, 8, 8), width=16, multipliers=(1, 2))
    awake(network.frames)
    x, level = torch.randn(2, 3, 3, 8, 8), torch.randn(2, 3)
    alone = network.frames(x.flatten(0, 1), level.flatten()).reshape(x.shape)
    torch.testing.assert_close(network(x, level), alone)
    awake(network.along)
    assert (network(x, level) - alone).abs().max() > 1e-3


def test_training_begins_with_a_model_of_images_that_is_not_needed_after(tmp_path, monkeypatch):
    import suffuse.model

    class Images:
        network = torch.nn.Module()

    theirs = awake(UNet((3, 8, 8), width=16, multipliers=(1, 2), blocks=1))
    Images.network.backbone = theirs
    changes = {
        "dataset.frames": 3,
        "dataset.size": 8,
        "dataset.clips": 8,
        "dataset.digits": 0.0,
        "encoder.frames": 3,
        "encoder.size": 8,
        "evaluators": [],
        "training.steps": 1,
        "training.batch": 2,
        "training.precision": "fp32",
        "training.decay": "constant",
        "training.learning_rate": 1e-6,
        "conditions": {},
        "training.sample_every": 0,
        "denoiser": {
            "name": "video/unet",
            "width": 16,
            "multipliers": [1, 2],
            "images": "some/images",
        },
    }
    with monkeypatch.context() as patch:
        patch.setattr(suffuse.model, "load", lambda name: Images)
        training.train(recipe.load("video/shapes", changes), tmp_path / "run", progress=False)
        other = SpaceTimeUNet((3, 3, 8, 8), width=16, multipliers=(1, 1), images="some/images")
        with pytest.raises(SuffuseError, match="made by another network"):
            other.begin()
    network = Model.load(tmp_path / "run").network.backbone
    for name, weight in theirs.state_dict().items():
        torch.testing.assert_close(network.frames.state_dict()[name], weight, atol=1e-4, rtol=0)
    more = recipe.load("video/shapes", {**changes, "training.steps": 2})
    training.train(more, tmp_path / "run", resume=True, progress=False)


@pytest.fixture(scope="module")
def model():
    changes = {
        "dataset.frames": 4,
        "dataset.clips": 32,
        "encoder.frames": 4,
        "denoiser.width": 16,
        "denoiser.depth": 1,
    }
    loaded = recipe.load("video/shapes", changes)
    made = Model.untrained(loaded, plugins.build("dataset", loaded.dataset, split="train"))
    awake(made.network)
    return made


def test_frames_follow_one_after_the_other_by_the_cache(model):
    states = torch.randn(2, 3, 3, 16, 16)
    calls: list[int] = []
    made = following(model, states, 6, steps=2, seed=0, counted=calls.append)
    assert made.shape == (2, 6, 3, 16, 16)
    assert calls == [3] * 6  # two calls, and one to remember the frame
    torch.testing.assert_close(following(model, states, 6, steps=2, seed=0), made)
    # Rounding differs by the batch, and grows from frame to frame.
    second = following(model, states[1:], 2, steps=2, seed=0, first=1)
    torch.testing.assert_close(second[0], made[1, :2], atol=1e-4, rtol=1e-3)
    whole = complete(
        model,
        torch.cat([states, torch.zeros(2, 6, 3, 16, 16)], 1),
        torch.arange(9).numpy() < 3,
        how="cached",
        steps=2,
    )
    torch.testing.assert_close(whole[:, 3:], made)
    with pytest.raises(SuffuseError, match="some are known further on"):
        complete(model, states, torch.tensor([True, False, True]).numpy(), how="cached")


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_with_the_cache_each_frame_is_told_its_part_of_the_prompt(model, guidance):
    """The fourth of four frames by the cache is that of one call for all four."""
    states = torch.randn(2, 3, 3, 16, 16)
    said = ["a red circle moves left, then up", "a blue seven bounces"]
    made = following(model, states, 1, steps=1, seed=5, prompt=said, guidance=guidance)
    noise = Noise(5 + 1_000_003, 2)
    x = torch.cat([states, model.process.prior(noise, (1, 3, 16, 16))], 1)
    t = torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64).expand(2, 4)

    def answer(prompts):
        slots = model.network.slots(model.prepare({"prompt": prompts}, 2))
        return model.network.backbone(*model.process.present(x, t), causal=True, **slots)

    with torch.inference_mode():
        to, away = answer(said), answer([None, None])
    expected = away + guidance * (to - away)
    torch.testing.assert_close(made[:, 0], expected[:, 3], atol=1e-4, rtol=1e-3)
    assert (made[:, 0] - away[:, 3]).abs().amax((1, 2, 3)).min() > 1e-2


def test_frames_follow_without_a_prompt_as_if_there_were_no_guidance(model):
    states = torch.randn(1, 2, 3, 16, 16)
    plain, guided = (following(model, states, 2, steps=1, guidance=g) for g in (1.0, 3.0))
    torch.testing.assert_close(plain, guided)


def test_memory_grows_by_the_frames_that_are_made_and_by_nothing_else(model):
    held = {}

    def bytes_held(i):
        if i in (8, 40):
            alive = [k for k in gc.get_objects() if type(k) is torch.Tensor]
            storages = {s.data_ptr(): s.nbytes() for s in (k.untyped_storage() for k in alive)}
            held[i] = sum(storages.values())

    said = ["a red circle bounces"]
    following(model, torch.randn(1, 2, 3, 16, 16), 41, steps=1, told=bytes_held, prompt=said)
    assert held[40] - held[8] == 32 * 3 * 16 * 16 * 4
