"""Networks that attend to the tokens of conditions."""

from __future__ import annotations

import math

import pytest
import torch

from suffuse.errors import SuffuseError
from suffuse.nn import DiT, UNet
from suffuse.nn.attention import CrossAttention

MAKERS = {
    "dit": lambda: DiT((2, 8, 8), patch=2, width=16, depth=2, heads=2, tokens=6),
    "unet": lambda: UNet((2, 8, 8), width=8, multipliers=(1, 2), blocks=1, tokens=6),
}


def awake(module, seed=0):
    """The module with weights of which none is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.2)
    return module.double().eval()


@pytest.fixture(params=MAKERS)
def network(request):
    return awake(MAKERS[request.param]())


def inputs(n=3, length=4, seed=1):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, 8, 8, generator=g, dtype=torch.float64)
    tokens = torch.randn(n, length, 6, generator=g, dtype=torch.float64)
    return x, torch.linspace(-1, 1, n, dtype=torch.float64), tokens


def test_cross_attention_is_its_formula():
    layer = awake(CrossAttention(8, 6, heads=2))
    g = torch.Generator().manual_seed(2)
    x = torch.randn(2, 3, 8, generator=g, dtype=torch.float64)
    tokens = torch.randn(2, 4, 6, generator=g, dtype=torch.float64)
    mask = torch.tensor([[True, False, True, False], [False] * 4])
    found = layer(x, tokens, mask)

    def unit(v):
        return v / (v.square().mean() + 1e-6).sqrt()

    for b in range(2):
        told = [layer.nothing] + [tokens[b, i] for i in range(4) if mask[b, i]]
        kv = [layer.kv(token) for token in told]
        for i in range(3):
            q, parts = layer.q(x[b, i]), []
            for head in (slice(0, 4), slice(4, 8)):
                logits = torch.stack(
                    [unit(q[head]) * layer.gain @ unit(pair[:8][head]) for pair in kv]
                )
                weights = (logits / math.sqrt(4)).softmax(0)
                parts.append(sum(w * pair[8:][head] for w, pair in zip(weights, kv, strict=True)))
            torch.testing.assert_close(found[b, i], layer.out(torch.cat(parts)))


def test_a_fresh_layer_adds_nothing():
    assert not CrossAttention(8, 6, heads=2)(torch.randn(2, 3, 8), torch.randn(2, 4, 6)).any()


def test_tokens_steer_and_padding_does_not(network):
    x, level, tokens = inputs()
    mask = torch.tensor([[True, True, False, False]] * 3)
    found = network(x, level, tokens=tokens, token_mask=mask)
    other = tokens.clone()
    other[:, 2:] += 100
    torch.testing.assert_close(network(x, level, tokens=other, token_mask=mask), found)
    torch.testing.assert_close(network(x, level, tokens=tokens[:, :2]), found)
    other[:, 1] += 1
    assert not torch.allclose(network(x, level, tokens=other, token_mask=mask), found)


def test_the_order_of_tokens_does_not_matter(network):
    x, level, tokens = inputs()
    turned = network(x, level, tokens=tokens.flip(1))
    torch.testing.assert_close(network(x, level, tokens=tokens), turned)


def test_no_tokens_are_tokens_that_are_all_padding(network):
    x, level, tokens = inputs()
    none = torch.zeros(3, 4, dtype=torch.bool)
    hidden = network(x, level, tokens=tokens, token_mask=none)
    torch.testing.assert_close(network(x, level), hidden)
    assert hidden.isfinite().all()


def test_the_gradient_reaches_every_parameter(network):
    x, level, tokens = inputs()
    network(x, level, tokens=tokens).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_tokens_of_another_width_are_refused(network):
    x, level, _ = inputs()
    with pytest.raises(SuffuseError, match="option tokens"):
        network(x, level, tokens=torch.zeros(3, 4, 5, dtype=torch.float64))
    with pytest.raises(SuffuseError, match="option tokens"):
        awake(DiT((2, 8, 8), width=16, depth=1))(x, level, tokens=torch.zeros(3, 4, 6))


def test_what_tokens_cost_is_counted():
    """Two for each multiply-add: keys and values, and the products with queries and weights."""
    network = DiT((2, 8, 8), patch=2, width=32, depth=3, tokens=12)
    places, length = 16, 7
    more = network.flops(2, length=length) - network.flops(2)
    assert more == 2 * 3 * (2 * length * 12 * 64 + 2 * 2 * places * length * 32)
