"""Sliders: exact where what is made depends on the network's inside linearly."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from suffuse.errors import SuffuseError
from suffuse.model.inner import Direction
from suffuse.model.sliders import Sliders, flips


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, x, level):
        return self.layer(x)


class Toy:
    """What is made is the layer's four features, of noise; estimated twice, as guidance does."""

    device = torch.device("cpu")
    conditions = ("scale",)

    def __init__(self, curve=0.0):
        self.curve = curve
        self.network = nn.Module()
        self.network.backbone = Backbone()

    def sample(self, n, *, seed=0, first=0, batch=64, scale=1.0, size=None):
        assert size in (None, [1, 4])  # no condition: given as it is
        x = torch.stack(
            [
                torch.randn(4, generator=torch.Generator().manual_seed(1000 * seed + first + i))
                for i in range(n)
            ]
        )
        scale = scale if isinstance(scale, list) else [scale]
        scales = torch.tensor([scale[i % len(scale)] for i in range(n)])[:, None]
        twice = torch.cat([x * scales, torch.zeros_like(x)])
        h = self.network.backbone(twice, torch.zeros(2 * n))[:n]
        return list(h + self.curve * h**2)


def direction(*shift):
    return Direction("backbone.layer", torch.zeros(1), torch.tensor([shift]), (1.0, 1.0, 1.0))


def sliders(model, **settings):
    along = [direction(1.0, 0.5, 0.0, 0.2), direction(-0.3, 1.0, 0.4, 0.0)]
    return Sliders.fit(model, along, [lambda x: float(x[0]), lambda x: float(x[1])], **settings)


def test_one_attribute_is_met_and_the_other_stays():
    model = Toy()
    slid = sliders(model, n=8)
    spread = torch.stack(model.sample(8))[:, :2].double().std(0)
    expected = torch.tensor([[1.0, -0.3], [0.5, 1.0]]).double() / spread[:, None]
    torch.testing.assert_close(slid.response, expected, rtol=1e-5, atol=1e-6)
    before = torch.stack(model.sample(70, seed=3, first=5, scale=[1.0, 0.5, 2.0]))
    settings = {"seed": 3, "first": 5, "scale": (1.0, 0.5, 2.0), "size": [1, 4]}
    made = torch.stack(slid({0: 0.25}, 70, rounds=1, most=100.0, **settings))
    torch.testing.assert_close(made[:, 0], torch.full((70,), 0.25), rtol=0, atol=1e-5)
    torch.testing.assert_close(made[:, 1], before[:, 1], rtol=0, atol=1e-5)
    assert (made[:, 3] - before[:, 3]).abs().max() > 0.1


def test_rounds_mend_what_is_not_linear():
    slid = sliders(Toy(curve=0.05), n=32)
    errors = []
    for rounds in (0, 1, 2, 6):
        made = torch.stack(slid({1: 0.5}, 16, seed=1, rounds=rounds))
        errors.append(float((made[:, 1] - 0.5).abs().mean()))
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[3] < 1e-3


def test_no_move_is_longer_than_the_most():
    model = Toy()
    before = torch.stack(model.sample(6, seed=2))
    made = torch.stack(sliders(model)({0: 1e6}, 6, seed=2, most=0.5))
    most = 0.5 * torch.tensor([1.3, 1.5, 0.4, 0.2])
    assert ((made - before).abs() <= most + 1e-5).all()


def test_what_is_refused():
    model = Toy()
    one = direction(1.0, 0.0, 0.0, 0.0)
    with pytest.raises(SuffuseError, match="a direction for each attribute"):
        Sliders.fit(model, [one], [])
    same = [lambda x: float(x[0]), lambda x: float(x[1])]
    with pytest.raises(SuffuseError, match="apart"):
        Sliders.fit(model, [one, one], same)
    with pytest.raises(SuffuseError, match="numbers 0 to 1; given \\[2\\]"):
        sliders(model)({2: 1.0}, 3)


def test_flips_count_only_samples_that_lacked_the_attribute():
    attributes = {"large": lambda x: x[0], "warm": lambda x: x[1]}
    before = [(0, 0), (0, 5), (9, 0), (0, 0)]
    after = [(9, 0), (9, 0), (0, 5), (0, 0)]
    large, warm = flips(attributes, {"large": 5, "warm": 2}, "large", before, after)
    assert (large.name, large.n, large.better) == ("large flipped", 3, "higher")
    assert large.value == pytest.approx(200 / 3)
    assert (warm.name, warm.better) == ("warm changed", "lower")
    assert warm.value == pytest.approx(100 / 3)
    with pytest.raises(SuffuseError, match="all 1 samples"):
        flips(attributes, {"large": 5, "warm": 2}, "large", [(9, 0)], [(9, 0)])
