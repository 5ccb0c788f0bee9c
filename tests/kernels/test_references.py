"""The plain kernels: their meaning, their gradients, and that nothing waits for the device."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import layer_norm

from suffuse.diffusion import Noise
from suffuse.kernels import guided_step, plan_step
from suffuse.kernels.ada_norm import ada_norm
from suffuse.kernels.dispatch import fused
from suffuse.kernels.norm_silu import norm_silu

F = torch.float64


def leaf(*shape):
    return torch.randn(*shape, dtype=F, requires_grad=True)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("centre", [False, True])
def test_the_gradient_of_norm_silu(own, centre):
    w, b = (leaf(2, 4) if own else leaf(4) for _ in range(2))
    assert gradcheck(lambda *v: norm_silu(v[0], 2, *v[1:], centre=centre), (leaf(2, 4, 5), w, b))


@pytest.mark.parametrize("n", [1, 3])
def test_the_gradient_of_ada_norm(n):
    given = leaf(2, 3, 5), leaf(2, n, 5), leaf(2, n, 5), leaf(2, 3, 5), leaf(2, n, 5)
    assert gradcheck(ada_norm, given)
    assert gradcheck(ada_norm, given[:3])
    x, scale, shift, h, gate = given
    total, y = ada_norm(*given)
    torch.testing.assert_close(total, x + gate * h)
    torch.testing.assert_close(y, layer_norm(total, (5,), eps=1e-6) * (1 + scale) + shift)


def test_without_a_mean_it_is_rms_normalisation():
    x, w, b = leaf(3, 6, 7), leaf(6), leaf(6)
    groups = x.reshape(3, 2, -1)
    normed = (groups / (groups.square().mean(-1, keepdim=True) + 1e-5).sqrt()).reshape(x.shape)
    expected = normed * w[:, None] + b[:, None]
    torch.testing.assert_close(norm_silu(x, 2, w, b, centre=False, activate=False), expected)


def test_guided_step_is_the_guided_estimate_and_the_step():
    x, one, two = (torch.randn(3, 2, 5, dtype=F) for _ in range(3))
    found, guided = guided_step([x], [0.3], [one, two], [2.5, -1.5], 0.6)
    torch.testing.assert_close(guided, two + 2.5 * (one - two))
    torch.testing.assert_close(found, 0.3 * x + 0.6 * guided)
    _, rescaled = guided_step([x], [0.3], [one, two], [2.5, -1.5], 0.6, rescale=1.0)
    flat = rescaled.flatten(1)
    torch.testing.assert_close(flat.std(1, correction=0), one.flatten(1).std(1, correction=0))


def test_large_sums_are_the_same_tile_by_tile():
    from suffuse.kernels.plan_step import TILE

    x = [torch.randn(3, TILE - 7) for _ in range(4)]
    k = [0.5, 0.0, -1.5, 0.25]
    expected = torch.stack([plan_step([v[i] for v in x], k) for i in range(3)])
    assert torch.equal(plan_step(x, k), expected)


def test_a_clamp_and_what_is_known():
    x, known = torch.randn(2, 4, 8), torch.randn(2, 4, 8)
    kept = torch.rand(2, 4, 8) < 0.5
    found = plan_step([x], [3.0], clamp=(-1, 1), known=known, kept=kept)
    assert torch.equal(found, torch.where(kept, known, (3 * x).clamp(-1, 1)))


def test_on_a_cpu_the_references_run():
    assert not fused("plan_step", torch.ones(2))


@pytest.mark.parametrize(("batch", "n"), [(1, 5), (3, 4099), (700, 50), (2, 40000), (2, 0)])
@pytest.mark.parametrize("seeds", ["one", "many"])
def test_noise_by_tiles_is_that_of_torch_bit_by_bit(batch, n, seeds):
    """A step that is a tensor asks for torch's integers, as compiled loops do."""
    noise = Noise(7, batch, first=2) if seeds == "one" else Noise([2**40 + i for i in range(batch)])
    step = torch.tensor(3)
    for dtype in (torch.float32, torch.float64):
        found = noise.normal((n,), step=3, dtype=dtype)
        assert torch.equal(found, noise.normal((n,), step=step, dtype=dtype))
    assert torch.equal(
        noise.uniform((n,), step=3, stream=1), noise.uniform((n,), step=step, stream=1)
    )
