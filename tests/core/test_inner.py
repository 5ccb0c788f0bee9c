"""Readings of a network's inside, and what moving them does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image

import suffuse
from suffuse.errors import SuffuseError
from suffuse.model import inner

pytest.importorskip("suffuse_image")


@pytest.fixture(scope="module")
def model():
    return suffuse.load("image/digits")


@pytest.fixture(scope="module")
def digits(model):
    data = model.dataset("train")
    return [data[i] for i in range(0, len(data), 4)][:240]


def test_a_probe_reads_what_the_states_tell_and_nothing_else(model, digits):
    pictures = [example.data for example in digits]
    ink = torch.tensor([float(np.asarray(p).mean()) for p in pictures])
    direction = inner.learn(model, pictures, (ink > ink.median()).tolist(), times=(0.3, 0.5))
    assert direction.accuracy[1] > 0.7
    chance = torch.rand(len(pictures), generator=torch.Generator().manual_seed(1)) > 0.5
    nothing = inner.learn(model, pictures, chance.tolist(), times=(0.5,))
    assert nothing.accuracy[1] < 0.6
    assert direction.shifts.shape[0] == len(direction.levels) == 2


def test_the_shift_is_the_difference_of_means(model, digits):
    pictures = [example.data for example in digits[:40]]
    wanted = [i % 2 == 0 for i in range(40)]
    direction = inner.learn(model, pictures, wanted, times=(0.5,), seed=3)
    h = inner.read(model, pictures, 0.5, seed=3)
    shift = direction.shifts[0].mean((1, 2))
    torch.testing.assert_close(shift, h[::2].mean(0) - h[1::2].mean(0), rtol=1e-4, atol=1e-5)


def test_what_should_stay_is_taken_out_of_the_shift(model, digits):
    pictures = [example.data for example in digits[:60]]
    ink = np.array([np.asarray(p).mean() for p in pictures])
    wanted = ink + 20 * np.random.default_rng(0).standard_normal(60) > ink.mean()
    direction = inner.learn(model, pictures, wanted, times=(0.5,), apart=[ink], seed=3)
    h = inner.read(model, pictures, 0.5, seed=3).double().numpy()
    table = np.stack([wanted, ink, np.ones(60)], 1)
    by_fit = np.linalg.lstsq(table, h, rcond=None)[0][0]
    assert_allclose(direction.shifts[0].mean((1, 2)), by_fit, rtol=1e-3, atol=1e-4)
    with pytest.raises(SuffuseError, match="a value an object, 60; given 3"):
        inner.learn(model, pictures, wanted, apart=[[1, 2, 3]])


def test_directions_are_each_kept_apart_from_the_others(model, digits):
    pictures = [example.data for example in digits[:60]]
    ink = [float(np.asarray(p).mean()) for p in pictures]
    upper = [float(np.asarray(p)[:4].mean()) for p in pictures]
    both = inner.learn_apart(model, pictures, [ink, upper], times=(0.5,), seed=3)
    for own, other, found in ((ink, upper, both[0]), (upper, ink, both[1])):
        wanted = np.array(own) > np.median(own)
        apart = (np.array(other) - np.mean(other)) / np.std(other)
        one = inner.learn(model, pictures, wanted, apart=[apart], times=(0.5,), seed=3)
        torch.testing.assert_close(found.shifts, one.shifts)
        assert found.accuracy == one.accuracy


def test_moved_by_nothing_samples_stay_and_by_something_they_change(model, digits):
    pictures = [example.data for example in digits]
    ink = [int(np.asarray(p).sum()) for p in pictures]
    middle = sorted(ink)[len(ink) // 2]
    direction = inner.learn(model, pictures, [value > middle for value in ink])
    plain = model.sample(4, seed=0, label=3, steps=8)
    with inner.moved(model, direction, 0.0):
        same = model.sample(4, seed=0, label=3, steps=8)
    assert [p.tobytes() for p in same] == [p.tobytes() for p in plain]
    amounts = []
    for amount in (-1.5, 1.5):
        with inner.moved(model, direction, amount):
            made = model.sample(16, seed=0, label=3, steps=8)
        amounts.append(sum(int(np.asarray(p).sum()) for p in made))
    assert amounts[0] < amounts[1]
    after = model.sample(4, seed=0, label=3, steps=8)
    assert [p.tobytes() for p in after] == [p.tobytes() for p in plain]


def test_principal_components_are_those_of_the_covariance():
    h = torch.randn(200, 3) @ torch.diag(torch.tensor([3.0, 1.0, 0.1])) + 5
    at, shares = inner.principal(h, 2)
    values = torch.linalg.eigvalsh(torch.cov(h.T)).flip(0)
    torch.testing.assert_close(at.var(0), values[:2], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(shares, values[:2] / values.sum(), rtol=1e-4, atol=1e-4)
    with pytest.raises(SuffuseError, match="at most"):
        inner.principal(h, 4)


def test_what_cannot_be_learned_is_refused(model):
    pictures = [Image.new("L", (8, 8), 100)] * 20
    with pytest.raises(SuffuseError, match="ten objects or more"):
        inner.learn(model, pictures, [True] * 20)
    with pytest.raises(SuffuseError, match="no layer"):
        inner.read(model, pictures, layer="backbone.none")
    with pytest.raises(SuffuseError, match=r"t in \(0, 1\)"):
        inner.read(model, pictures, 1.0)
