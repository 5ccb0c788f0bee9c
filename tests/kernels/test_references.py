"""The plain kernels: their meaning, their gradients, and that nothing waits for the device."""

import importlib.util
import logging
from importlib import import_module

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import gradcheck
from torch.nn.functional import layer_norm

from suffuse.diffusion import Noise
from suffuse.kernels import ada_norm as adas
from suffuse.kernels import categorical_step as categoricals
from suffuse.kernels import dispatch, guided_step, plan_step
from suffuse.kernels import norm_silu as norms
from suffuse.kernels.ada_norm import ada_norm
from suffuse.kernels.categorical_step import categorical_step
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
    still = torch.full_like(x, 0.25)
    _, found = guided_step([x], [0.3], [still, still], [2.0, -1.0], 0.6, rescale=0.7)
    torch.testing.assert_close(found, still)  # one value has no deviation to bring back


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


plans = import_module("suffuse.kernels.plan_step")  # the package has its function


@pytest.fixture
def warnings(caplog):
    """What the dispatch says, as if nothing had been said before; tensors of a GPU are fake."""
    caplog.set_level(logging.WARNING, logger=dispatch.__name__)
    said = dispatch._triton, dispatch._unsupported, plans._table
    for once in said:
        once.cache_clear()
    with FakeTensorMode(), torch.device("cuda"):
        yield lambda: [record.getMessage() for record in caplog.records]
    for once in said:
        once.cache_clear()


def wide_normalised(dtype=torch.float32, channels=2):
    x = torch.empty(2, channels, 4, dtype=dtype)
    weight, bias = torch.empty(2, channels, dtype=dtype)
    return norm_silu(x, 1, weight, bias)


def wide_tokens(width):
    x, steer = torch.empty(2, 3, width), torch.empty(2, 1, width)
    return ada_norm(x, steer, steer)[1]


def steered_unevenly():
    x = torch.empty(2, 3, 8)
    return ada_norm(x, torch.empty(1, 1, 8), torch.empty(2, 3, 8))[1]


def drawn(levels, states=3):
    level = torch.empty(2, *levels, dtype=F)
    logits, x_t = torch.empty(2, 4, states), torch.empty(2, 4, dtype=torch.int64)
    m, u = torch.empty(states, dtype=F), torch.empty(2, 4, dtype=F)
    return categorical_step(logits, x_t, (level,) * 3, (level,) * 2, m, u)


def huge():
    return plan_step([torch.empty(2, 2**31, dtype=torch.bfloat16)], [0.5])


def axes_of_their_own():
    x = torch.empty(2, 3, 4)
    return plan_step([x, x], [0.5, torch.empty(1, 3, 1)])


UNSUPPORTED = [
    ("plan_step", "a coefficient has axes of its own", axes_of_their_own),
    ("plan_step", "torch.float64", lambda: plan_step([torch.empty(2, 3, dtype=F)], [0.5])),
    ("plan_step", "2^31 elements", huge),
    ("norm_silu", "torch.float64", lambda: wide_normalised(F)),
    ("norm_silu", str(norms.WIDEST), lambda: wide_normalised(channels=norms.WIDEST + 1)),
    ("ada_norm", str(adas.WIDEST), lambda: wide_tokens(adas.WIDEST + 1)),
    ("ada_norm", "different shapes", steered_unevenly),
    ("categorical_step", "levels with axes", lambda: drawn((4,))),
    ("categorical_step", str(categoricals.WIDEST), lambda: drawn((1,), categoricals.WIDEST + 1)),
]


@pytest.mark.parametrize(("kernel", "why", "call"), UNSUPPORTED)
def test_what_a_kernel_does_not_take_is_said_once_and_computed(warnings, kernel, why, call):
    for _ in range(3):
        assert len(call()) == 2
    (said,) = warnings()
    assert said.startswith(f"{kernel}: the plain kernel is used, since ")
    assert why in said


def test_that_triton_is_missing_is_said_once(warnings, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for _ in range(2):
        assert len(plan_step([torch.empty(2, 3)], [0.5])) == 2
        assert len(wide_normalised()) == 2
        assert len(wide_tokens(8)) == 2
        assert len(drawn((1,))) == 2
    assert warnings() == ["Triton is not installed: on cuda the plain kernels are used"]


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
