"""The Triton kernels against their references, on Triton's interpreter.

Run by test_interpreted.py in a process of its own, with TRITON_INTERPRET=1.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import group_norm, layer_norm, silu
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from suffuse.diffusion import Noise
from suffuse.kernels import guided_step, plan_step
from suffuse.kernels import norm_silu as norms
from suffuse.kernels.categorical_step import categorical_step
from suffuse.kernels.gpu import ada_norm as gpu_ada
from suffuse.kernels.gpu import categorical_step as gpu_categorical
from suffuse.kernels.gpu import guided_step as gpu_guided
from suffuse.kernels.gpu import norm_silu as gpu_norm
from suffuse.kernels.gpu import plan_step as gpu_plan
from suffuse.kernels.gpu.random import words
from suffuse.kernels.philox import draw
from suffuse.kernels.plan_step import Fresh

assert os.environ.get("TRITON_INTERPRET") == "1", "run it by test_interpreted.py"

F = torch.float64
few = settings(max_examples=12, deadline=None)
dtypes = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
seeds = st.integers(0, 2**31)
ULP = 2.0**-23


def fused(self: Any, x: Any, y: Any, z: Any) -> TensorHandle:
    """x y + z rounded once, as processors do it; the interpreter rounds the product, too."""
    if x.data.dtype != np.float32:
        return TensorHandle(x.data * y.data + z.data, z.dtype.scalar)
    wide = x.data.astype(np.float64) * y.data + z.data
    return TensorHandle(wide.astype(np.float32), z.dtype.scalar)


InterpreterBuilder.create_fma = fused
# rounding; the interpreter cuts bfloat16 off where a GPU rounds to the nearest
EPSILON = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-11}


def made(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@few
@given(seeds, st.integers(1, 8), st.integers(1, 3), st.integers(0, 70), dtypes, st.booleans())
def test_plan_step_is_the_sum(
    seed: int, terms: int, batch: int, n: int, dtype: torch.dtype, noisy: bool
) -> None:
    x = [made(seed + j, batch, n, dtype=dtype) for j in range(terms)]
    k = made(seed, terms + 1).tolist()
    k[seed % terms] = 0.0
    noise = Noise(seed * 2**20, batch, first=3)
    found, also = gpu_plan.plan_step(
        x,
        torch.tensor([k]),
        words=noise.words if noisy else None,
        step=torch.tensor(5),
        stream=noise.stream(1),
    )
    assert also is None
    assert found.dtype == dtype
    fresh = Fresh(noise, 5, 1, k[-1]) if noisy else None
    wide = [v.to(F) for v in x]
    exact = plan_step(wide, k[:-1]) + (k[-1] * noise.normal((n,), step=5, stream=1) if noisy else 0)
    size = sum((v * w).abs() for v, w in zip(wide, k, strict=False)) + (
        abs(k[-1]) * 6 if noisy else 0
    )
    # rounding of each of the terms, and of the answer
    bound = size * 2 * ULP + EPSILON[dtype] * exact.abs() + 1e-7 * (dtype == torch.float16)
    assert ((found.to(F) - exact).abs() <= bound).all()
    if dtype == torch.float32 and n:
        # one unit in the last place of the sum of absolute terms; normals differ by a few of theirs
        other = plan_step(x, k[:-1], fresh)
        unit = torch.from_numpy(np.spacing(size.numpy().astype(np.float32)))
        assert ((found - other).abs() <= (size * 2 * ULP if noisy else unit)).all()


def test_plan_step_leaves_unread_what_counts_for_nothing() -> None:
    infinite = torch.full((2, 9), float("inf"))
    found, _ = gpu_plan.plan_step([made(0, 2, 9), infinite], torch.tensor([[2.0, 0.0, 0.0]]))
    assert torch.equal(found, 2 * made(0, 2, 9))


@few
@given(seeds, st.integers(1, 5), st.integers(1, 6), st.integers(1, 6), dtypes)
def test_plan_step_takes_channels_last_as_they_lie(
    seed: int, channels: int, height: int, width: int, dtype: torch.dtype
) -> None:
    """The noise of an element is that of its logical place, wherever it lies in memory."""
    shape = 2, channels, height, width
    x = [made(seed + j, *shape, dtype=dtype) for j in range(2)]
    last = [v.to(memory_format=torch.channels_last) for v in x]
    words, step = Noise(seed, 2).words, torch.tensor(4)
    table = torch.tensor([[0.5, -1.5, 0.25]])
    found, _ = gpu_plan.plan_step(last, table, words=words, step=step, stream=1)
    plain, _ = gpu_plan.plan_step(x, table, words=words, step=step, stream=1)
    assert found.stride() == torch.empty_like(last[0]).stride()
    assert torch.equal(found, plain)


@pytest.mark.parametrize("terms", [9, 13])
def test_plan_step_reads_any_number_of_registers(terms: int) -> None:
    x = [made(j, 2, 5) for j in range(terms)]
    found, _ = gpu_plan.plan_step(x, torch.ones(1, terms + 1))
    torch.testing.assert_close(found, torch.stack(x).sum(0))


@few
@given(seeds, st.integers(1, 40))
def test_plan_step_clamps_and_keeps_what_is_known(seed: int, n: int) -> None:
    x, known = made(seed, 2, n), made(seed + 1, 2, n)
    kept = made(seed + 2, 2, n) > 0
    found, _ = gpu_plan.plan_step(
        [x], torch.tensor([[3.0, 0.0]]), clamp=(-1.0, 1.0), known=known, kept=kept
    )
    assert torch.equal(found, plan_step([x], [3.0], clamp=(-1.0, 1.0), known=known, kept=kept))
    assert torch.equal(found[kept], known[kept])


def test_a_clamp_lets_what_is_no_number_through() -> None:
    x = torch.tensor([[float("nan"), 3.0, -3.0, float("inf")]])
    found, _ = gpu_plan.plan_step([x], torch.tensor([[1.0, 0.0]]), clamp=(-1.0, 1.0))
    expected = plan_step([x], [1.0], clamp=(-1.0, 1.0))
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_sources_of_a_part_of_a_batch_are_read_as_they_are() -> None:
    """A slice of a batch's words lies in memory with the others' between."""
    noise = Noise([1, 2**40, 2**40 + 7, 2**63], 4)
    part, table = noise.words[:, 1:3], torch.tensor([[0.0, 1.0]])
    found, _ = gpu_plan.plan_step(
        [torch.zeros(2, 9)], table, words=part, step=torch.tensor(3), stream=1
    )
    whole = noise.normal((9,), step=3, stream=1)
    torch.testing.assert_close(found, whole[1:3], rtol=1e-5, atol=1e-6)
    assert noise[1:3].words.is_contiguous()


def test_one_axis_of_the_grid_has_all_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second axis of CUDA's grids ends at 65,535, and batches need not."""
    grids = []

    class Launched:
        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            grids.append(grid)
            return lambda *given, **options: None

    for module in (gpu_plan, gpu_guided, gpu_norm, gpu_ada):
        for name in vars(module):
            if name.endswith("_kernel"):
                monkeypatch.setattr(module, name, Launched())
    n = 70_000
    x, row = torch.zeros(n, 2), torch.ones(1, 2)
    gpu_plan.plan_step([x], row)
    gpu_guided.deviations([x, x], row)
    _, stats = gpu_norm.forward(x, row[0], row[0], 2, 1e-5, True, True)
    gpu_norm.backward(x, x, row[0], row[0], stats, True, True)
    tokens, steer = torch.zeros(n, 3, 2), torch.ones(n, 1, 2)
    _, _, stats = gpu_ada.forward(tokens, steer, steer, None, None, 1e-6)
    gpu_ada.backward(tokens, tokens, tokens, steer, None, None, stats)
    assert [size[0] for size in grids] == [n, n, 2 * n, 2 * n, 3 * n, n]
    assert all(size[1:] == () for size in grids)


@triton.jit
def raw_words(out, source, step, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    sample = tl.program_id(0)
    quad = tl.arange(0, BLOCK)
    place = out + (sample * BLOCK + quad) * 4
    stream = tl.full((), 2, tl.int32)
    w0, w1, w2, w3 = words(quad, sample, tl.num_programs(0), source, step, stream)
    tl.store(place, w0.to(tl.int64))
    tl.store(place + 1, w1.to(tl.int64))
    tl.store(place + 2, w2.to(tl.int64))
    tl.store(place + 3, w3.to(tl.int64))


def numpy_philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox 4x32-10 on Python's integers."""
    c, (k0, k1), word = list(counter), key, 2**32
    for _ in range(10):
        p0, p1 = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [p1 // word ^ c[1] ^ k0, p1 % word, p0 // word ^ c[3] ^ k1, p0 % word]
        k0, k1 = (k0 + 0x9E3779B9) % word, (k1 + 0xBB67AE85) % word
    return c


def test_words_are_those_of_philox_bit_by_bit() -> None:
    seed = 0xDEADBEEF12345678
    noise = Noise(seed, 3, first=5)
    out = torch.zeros(3, 8, 4, dtype=torch.int64)
    raw_words[(3,)](out, noise.words, torch.tensor(7), BLOCK=8)
    assert torch.equal(out, torch.stack(draw(noise.words, 32, 7, 2), -1))
    for sample in range(3):
        for quad in range(8):
            found = numpy_philox([quad, 5 + sample, 7, 2], [seed % 2**32, seed >> 32])
            assert out[sample, quad].tolist() == found


@few
@given(seeds, st.integers(2, 4), st.integers(0, 2), st.floats(0, 1))
def test_guided_step_is_guidance_and_then_the_step(
    seed: int, count: int, more: int, rescale: float
) -> None:
    states = [made(seed + j, 2, 3, 11) for j in range(1 + more)]
    estimates = [made(seed + 10 + j, 2, 3, 11) for j in range(count)]
    k, w = made(seed, 1 + more).tolist(), made(seed + 1, count).tolist()
    expected, guided = guided_step(states, k, estimates, w, 0.7, rescale=rescale)
    still = torch.ones(2, 3)
    _, flat_one = gpu_guided.guided_step(
        [still], torch.ones(1), [still] * 2, torch.tensor([2.0, -1.0]), 0.7, 0.5
    )
    assert torch.equal(flat_one, still)
    if rescale:
        one, mixed = gpu_guided.deviations(estimates, torch.tensor([w]))
        flat = sum(v * e for v, e in zip(w, estimates, strict=True)).flatten(1)
        torch.testing.assert_close(one, estimates[0].flatten(1).std(1, correction=0))
        torch.testing.assert_close(mixed, flat.std(1, correction=0), rtol=1e-5, atol=1e-6)
    found, also = gpu_guided.guided_step(
        states, torch.tensor(k), estimates, torch.tensor(w), 0.7, rescale
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(also, guided, rtol=1e-5, atol=1e-5)


@few
@given(
    seeds,
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 20),
    st.sampled_from([16384, 16]),
    st.tuples(*[st.booleans()] * 4),
)
def test_norm_silu_and_its_gradient(
    seed: int, batch: int, groups: int, each: int, n: int, whole: int, on: tuple[bool, ...]
) -> None:
    own, centre, act, last = on
    channels = groups * each
    shape = batch, channels, n, 2
    layout = torch.channels_last if last else torch.contiguous_format
    x = (made(seed, *shape) * 2 + 3).to(memory_format=layout)
    weight, bias = (made(seed + j, *((batch, channels) if own else (channels,))) for j in (1, 2))
    dy = made(seed + 3, *shape).to(memory_format=layout)
    leaves = [v.to(F).requires_grad_() for v in (x, weight, bias)]
    y = norms.norm_silu(leaves[0], groups, *leaves[1:], eps=1e-3, centre=centre, activate=act)
    y.backward(dy.to(F))
    with pytest.MonkeyPatch.context() as patch:  # groups are read once, or chunk by chunk
        patch.setattr(gpu_norm, "WHOLE", whole)
        patch.setattr(gpu_norm, "CHUNK", 16)
        found, stats = gpu_norm.forward(x, weight, bias, groups, 1e-3, centre, act)
        back = gpu_norm.backward(dy, x, weight, bias, stats, centre, act)
    assert found.stride() == x.stride()
    assert (found - y).abs().max() <= 2e-6 * max(1.0, float(y.detach().abs().max()))
    for one, leaf in zip(back, leaves, strict=True):
        assert leaf.grad is not None
        scale = max(1.0, float(leaf.grad.abs().max()))
        assert (one - leaf.grad).abs().max() <= 3e-5 * scale


@pytest.mark.parametrize("own", [False, True])
def test_the_reference_of_norm_silu_is_group_norm_and_silu(own: bool) -> None:
    x = made(0, 3, 8, 5, 4).to(F)
    w, b = (made(j, *((3, 8) if own else (8,))).to(F) for j in (1, 2))
    wide = (-1, 8, 1, 1)
    expected = silu(group_norm(x, 4) * w.reshape(wide) + b.reshape(wide))
    torch.testing.assert_close(norms.norm_silu(x, 4, w, b), expected)


@few
@given(
    seeds, st.integers(1, 3), st.integers(1, 20), st.integers(2, 50), st.booleans(), st.booleans()
)
def test_ada_norm_and_its_gradient(
    seed: int, batch: int, n: int, width: int, own: bool, gated: bool
) -> None:
    x, h = made(seed, batch, n, width) * 2 + 1, made(seed + 1, batch, n, width)
    scale, shift, gate = (made(seed + j, batch, n if own else 1, width) for j in (2, 3, 4))
    leaves = [v.to(F).requires_grad_() for v in (x, scale, shift, h, gate)]
    total = leaves[0] + leaves[4] * leaves[3] if gated else leaves[0]
    y = layer_norm(total, (width,), eps=1e-3) * (1 + leaves[1]) + leaves[2]
    one, two = made(seed + 5, batch, n, width), made(seed + 6, batch, n, width)
    ((total * one).sum() * gated + (y * two).sum()).backward()
    kept = (h, gate) if gated else (None, None)
    s, found, stats = gpu_ada.forward(x, scale, shift, *kept, 1e-3)
    assert (s - total).abs().max() <= 2e-6 * max(1.0, float(total.detach().abs().max()))
    assert (found - y).abs().max() <= 5e-6 * max(1.0, float(y.detach().abs().max()))
    back = gpu_ada.backward(one, two, s, scale, *kept, stats)
    for one_back, leaf in zip(back, leaves, strict=True):
        if one_back is not None:
            assert leaf.grad is not None
            bound = 3e-5 * max(1.0, float(leaf.grad.abs().max()))
            assert (one_back - leaf.grad).abs().max() <= bound


@few
@given(seeds, st.integers(2, 9), st.booleans(), st.booleans(), st.booleans())
def test_categorical_step_draws_the_same_tokens(
    seed: int, categories: int, absorbing: bool, own: bool, masked: bool
) -> None:
    rng = np.random.default_rng(seed)
    states = categories + absorbing
    logits = made(seed, 3, 7, categories)
    x_t = torch.from_numpy(rng.integers(states, size=(3, 7)))
    m = torch.eye(states, dtype=F)[-1] if absorbing else torch.full((states,), 1 / states, dtype=F)
    u = torch.from_numpy(rng.uniform(size=(3, 7)))
    rows = 3 if own else 1
    A = torch.from_numpy(rng.uniform(0.5, 1, size=(rows, 1)))
    B, C = (torch.from_numpy(rng.uniform(0, 0.5, size=(rows, 1))) for _ in range(2))
    a = torch.from_numpy(rng.uniform(size=(rows, 1)))
    mask = torch.from_numpy(rng.uniform(size=(3, 7)) < 0.7) if masked else None
    expected = categorical_step(logits, x_t, (A, B, C), (a, 1 - a), m, u, mask)
    table = torch.cat([A, B, C, a, 1 - a], 1)
    assert torch.equal(gpu_categorical.categorical_step(logits, x_t, table, m, u, mask), expected)
    apart = torch.stack([u, 1 - u], -1)[..., 0], torch.stack([x_t, 0 * x_t], -1)[..., 0]
    one = None if mask is None else mask[:1].expand(3, 7)
    expected = categorical_step(logits, x_t, (A, B, C), (a, 1 - a), m, u, one)
    found = gpu_categorical.categorical_step(logits, apart[1], table, m, apart[0], one)
    assert torch.equal(found, expected)  # however they lie in memory


def test_empty_tensors_pass() -> None:
    none = torch.empty(0, 4)
    assert gpu_plan.plan_step([none], torch.tensor([[1.0, 0.0]]))[0].shape == (0, 4)
    assert (
        gpu_norm.forward(none[..., None], *[torch.ones(4)] * 2, 2, 1e-5, True, True)[0].numel() == 0
    )
    assert (
        gpu_ada.forward(torch.empty(2, 0, 3), *[torch.ones(2, 1, 3)] * 2, None, None, 1e-6)[
            1
        ].numel()
        == 0
    )


def test_the_operators_have_gradients_and_shapes_for_the_compiler() -> None:
    """What torch.compile, autograd and fake tensors are told agrees with what the kernels do."""
    from importlib import import_module

    from suffuse.kernels import ada_norm as adas

    plans = import_module("suffuse.kernels.plan_step")  # the package has its function
    x, w, b = made(0, 2, 6, 9), made(1, 6), made(2, 6)
    one = [v.clone().requires_grad_() for v in (x, w, b)]
    torch.library.opcheck(norms._operator, (*one, 3, 1e-5, True, True))
    noise, row = Noise(0, 2), torch.tensor([[0.5, 2.0, 0.25]])
    drawn = (noise.words, torch.tensor(3), 1)
    torch.library.opcheck(plans._operator, ([x, x + 1], row, *drawn, [-1.0, 1.0], x, x > 0))
    torch.library.opcheck(plans._operator, ([x, x + 1], row, None, None, 0, None, None, None))
    two = torch.tensor([2.0, -1.0])
    torch.library.opcheck(plans._guided_operator, ([x], row[0, :1], [x, x + 1], two, 0.5, 0.7))
    (norms._operator(*one, 3, 1e-5, True, True)[0] ** 2).sum().backward()
    other = [v.clone().requires_grad_() for v in (x, w, b)]
    (norms.norm_silu(other[0], 3, *other[1:]) ** 2).sum().backward()
    for got, wanted in zip(one, other, strict=True):
        torch.testing.assert_close(got.grad, wanted.grad, rtol=1e-4, atol=1e-4)

    tokens = [
        made(3, 2, 5, 8),
        *(made(j, 2, 1, 8) for j in (4, 5)),
        made(6, 2, 5, 8),
        made(7, 2, 1, 8),
    ]
    for parts in (tokens, [*tokens[:3], None, None]):
        one = [None if v is None else v.clone().requires_grad_() for v in parts]
        torch.library.opcheck(adas._operator, (*one, 1e-6))
        total, out, _ = adas._operator(*one, 1e-6)
        (total.square().sum() + (out**3).sum()).backward()
        other = [None if v is None else v.clone().requires_grad_() for v in parts]
        total, out = adas.ada_norm(*other)
        ((total.square().sum() if parts[3] is not None else 0) + (out**3).sum()).backward()
        for got, wanted in zip(one, other, strict=True):
            if wanted is not None:
                torch.testing.assert_close(got.grad, wanted.grad, rtol=1e-4, atol=1e-3)
