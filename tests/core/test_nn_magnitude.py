"""Layers that keep the magnitude of what they are given."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from suffuse.errors import SuffuseError
from suffuse.nn import DiT, MagnitudeUNet
from suffuse.nn.magnitude import Layer, cat, mix, mp_silu


def test_each_operation_keeps_the_mean_square() -> None:
    a, b = torch.randn(4, 64, 64, 64), torch.randn(4, 32, 64, 64)
    layers = Layer(2, 64, 64, 3).eval()(a), mix(a[:, :32], b, 0.3), mp_silu(a), cat(a, b)
    for made in layers:
        assert float(made.square().mean()) == pytest.approx(1, abs=0.05)
    both = cat(3 * a, b)
    assert float(both[:, 64:].square().mean()) == pytest.approx(96 / 32 / 2, rel=0.03)


def test_the_length_of_stored_weights_does_not_matter() -> None:
    """Training brings them back to length √inputs; evaluation only reads them."""
    layer, x = Layer(1, 6, 5, 3), torch.randn(2, 6, 9)
    layer.eval()
    before = layer(x)
    with torch.no_grad():
        layer.weight *= torch.rand(5, 1, 1) + 0.5
    longer = layer.weight.detach().clone()
    torch.testing.assert_close(layer(x), before, rtol=1e-3, atol=1e-4)
    assert torch.equal(layer.weight, longer)
    layer.train()
    torch.testing.assert_close(layer(x), before, rtol=1e-3, atol=1e-4)
    lengths = torch.linalg.vector_norm(layer.weight.flatten(1), dim=1)
    torch.testing.assert_close(lengths, torch.full((5,), math.sqrt(18)), rtol=1e-3, atol=0)


def test_gradients_are_orthogonal_to_the_weights() -> None:
    layer = Layer(0, 7, 3)
    layer(torch.randn(5, 7)).square().sum().backward()
    grad = layer.weight.grad
    assert grad is not None
    along = (grad * layer.weight).sum(1)
    assert float(along.abs().max()) < 1e-3 * float(grad.norm() * layer.weight.norm())


@pytest.mark.parametrize("shape", [(2, 9), (1, 6, 5), (2, 3, 4, 5)])
def test_activations_keep_their_magnitude_through_the_network(shape: tuple[int, ...]) -> None:
    network = MagnitudeUNet(shape, width=16, multipliers=(1, 2), blocks=1).eval()
    found: list[float] = []

    def seen(module: nn.Module, given: object, made: torch.Tensor) -> None:
        found.append(float(made.square().mean()))

    hooks = []
    for block in (*network.down, *network.middle, *network.up):
        hooks.append(block.register_forward_hook(seen))
    x, level = torch.randn(6, *shape), torch.randn(6)
    assert not network(x, level).any()
    for hook in hooks:
        hook.remove()
    assert all(0.2 < k < 4 for k in found), found
    with torch.no_grad():
        network.gain.fill_(1)
    size = [n + 1 for n in shape[1:]]
    assert network(torch.randn(2, shape[0], *size), level[:2]).shape[2:] == torch.Size(size)
    assert network.flops() > 0
    assert network.params() == sum(p.numel() for p in network.parameters())
    vector = torch.randn(6, network.width)
    with torch.no_grad():
        for block in network.down:
            block.gain.fill_(1)
    assert not torch.allclose(network(x, level, vector), network(x, level, -vector))


def test_options_that_make_no_network_are_told() -> None:
    with pytest.raises(SuffuseError, match="at least 1"):
        MagnitudeUNet((1, 8, 8), width=0)
    with pytest.raises(SuffuseError, match="attention names levels"):
        MagnitudeUNet((1, 8, 8), attention=(5,))


def test_long_skips_reach_from_the_first_block_to_the_last() -> None:
    plain = DiT((1, 4, 4), width=16, depth=4, heads=2)
    skipping = DiT((1, 4, 4), width=16, depth=4, heads=2, skips=True)
    skipping.load_state_dict(plain.state_dict(), strict=False)
    with torch.no_grad():
        for network in (plain, skipping):
            network.leave.weight.copy_(torch.ones_like(network.leave.weight))
    x, level = torch.randn(2, 1, 4, 4), torch.zeros(2)
    assert torch.equal(plain(x, level), skipping(x, level))  # at first they change nothing
    seen: list[torch.Tensor] = []
    for skip in skipping.skips:
        skip.register_forward_hook(lambda module, given, made: seen.append(given[0]))
    entered: list[torch.Tensor] = []
    for block in skipping.blocks:
        block.register_forward_hook(lambda module, given, made: entered.append(given[0]))
    skipping(x, level)
    assert len(seen) == 2
    assert seen[0] is entered[1]
    assert seen[1] is entered[0]
