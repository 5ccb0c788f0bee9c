"""Classifiers that evaluators train: what they learn, and that they are the same each time."""

from __future__ import annotations

import torch
from torch import nn

from suffuse.stats import trained_classifier


def trained(x, y, shift=0.0):
    return trained_classifier(
        lambda: nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Dropout(0.1), nn.Linear(8, 3)),
        x,
        y,
        lambda x, generator: x + shift + 0.1 * torch.randn(x.shape, generator=generator),
        steps=150,
        batch=32,
        rate=0.02,
    )


def test_classes_far_apart_are_told_apart_and_the_network_is_the_same_again():
    places = torch.tensor([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
    y = torch.arange(60) % 3
    x = places[y] + 0.5 * torch.randn(60, 2)
    before = torch.random.get_rng_state()
    with torch.no_grad():  # evaluators are called so
        first, second = trained(x, y), trained(x, y)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not first.training
    assert torch.equal(first(x), second(x))
    assert (first(x).argmax(1) == y).all()
    fresh = places[y] + 0.5 * torch.randn(60, 2)
    assert (first(fresh).argmax(1) == y).all()


def test_it_is_shown_what_jittered_answers():
    x, y = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.arange(3)
    moved = trained(x, y, shift=100.0)
    assert not torch.allclose(moved(x), trained(x, y)(x))
