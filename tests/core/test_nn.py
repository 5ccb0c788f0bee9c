"""Networks: what they compute, at which sizes, and what steers them."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from suffuse.errors import SuffuseError
from suffuse.nn import MLP, DiT, Network, UNet
from suffuse.nn.attention import Attention, attend, unit
from suffuse.nn.blocks import ResidualBlock, convolution, count_groups, halve
from suffuse.nn.dit import TransformerBlock, patchify, unpatchify
from suffuse.nn.embedding import LevelEmbedding, fourier, sincos

F64 = torch.float64
SHAPES = {"1-D": (2, 9), "2-D": (1, 6, 5), "3-D": (2, 3, 4, 5)}


def unet(shape, **options):
    return UNet(shape, **{"width": 8, "multipliers": (1, 2), "blocks": 1, **options})


def dit(shape, **options):
    return DiT(shape, **{"patch": 2, "width": 24, "depth": 2, "heads": 2, **options})


networks = pytest.mark.parametrize("make", [unet, dit])
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())


def awake(module, dtype=F64):
    """The module, evaluating, with all its weights off their starting values (zero for many)."""
    module = module.to(dtype).eval()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return module


def inputs(network, batch=3, size=None, dtype=F64):
    x = torch.randn(batch, network.shape[0], *(size or network.shape[1:]), dtype=dtype)
    return x, torch.randn(batch), torch.randn(batch, network.width, dtype=dtype)


def close(a, b, tolerance=1e-10):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# ------------------------------------------------------------------------------ the whole network


@shapes
@networks
def test_a_fresh_network_answers_zero_and_an_awake_one_does_not(make, shape):
    network = make(shape)
    assert not network(*inputs(network, dtype=torch.float32)).any()
    awakened = awake(make(shape))
    x, level, vector = inputs(awakened)
    assert awakened(x, level, vector).abs().mean() > 1e-3


@shapes
@networks
def test_every_state_is_answered_for_itself(make, shape):
    """Alone, in any company and in any order: the answer is the same."""
    network = awake(make(shape))
    x, level, vector = inputs(network, batch=4)
    out = network(x, level, vector)
    order = torch.tensor([2, 0, 3, 1])
    close(network(x[order], level[order], vector[order]), out[order])
    close(network(x[1:2], level[1:2], vector[1:2]), out[1:2])
    x[0] = 1e3
    close(network(x, level, vector)[1:], out[1:])


@shapes
@networks
def test_the_gradient_reaches_every_parameter(make, shape):
    network = awake(make(shape))
    x, level, vector = inputs(network)
    vector.requires_grad_()
    network(x, level, vector).square().sum().backward()
    for name, p in [*network.named_parameters(), ("vector", vector)]:
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().max() > 1e-9, name


@networks
@pytest.mark.parametrize(
    "sizes",
    [[(1,), (2,), (7,), (16,), (33,)], [(1, 1), (5, 8), (7, 3), (12, 13)], [(1, 3, 2), (5, 4, 7)]],
    ids=SHAPES,
)
def test_any_size_comes_back_and_every_place_matters(make, sizes):
    network = awake(make((2, *[8] * len(sizes[0]))))
    for size in sizes:
        x, level, vector = inputs(network, batch=1, size=size)
        x.requires_grad_()
        out = network(x, level, vector)
        assert out.shape == x.shape
        (gradient,) = torch.autograd.grad(out.square().sum(), x)
        assert (gradient != 0).all()


@networks
def test_no_vector_is_a_vector_of_zeros_and_all_inputs_steer(make):
    network = awake(make((1, 6, 5)))
    x, level, vector = inputs(network)
    out = network(x, level)
    close(out, network(x, level, torch.zeros_like(vector)))
    assert (network(x, level, vector) - out).abs().mean() > 1e-3
    assert (network(x, level + 0.5, vector) - network(x, level, vector)).abs().mean() > 1e-3


@networks
def test_states_survive_safetensors(make, tmp_path):
    network, other = awake(make((1, 6, 5))), make((1, 6, 5)).to(F64).eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    other.load_state_dict(load_file(tmp_path / "w.safetensors"))
    arguments = inputs(network)
    assert torch.equal(network(*arguments), other(*arguments))


@networks
@pytest.mark.parametrize("autocast", [True, False], ids=["autocast", "bfloat16 weights"])
def test_bfloat16_stays_finite_and_near(make, autocast):
    network = awake(make((1, 8, 8)), torch.float32)
    x, level, vector = inputs(network, dtype=torch.float32)
    exact = network(x, level, vector)
    if autocast:
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(x, level, vector)
        assert rough.dtype == torch.float32
    else:
        rough = network.bfloat16()(x.bfloat16(), level, vector.bfloat16())
        assert rough.dtype == torch.bfloat16
    assert (rough - exact).norm() < 0.1 * exact.norm()
    rough.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@networks
def test_a_few_steps_of_training_lower_the_loss(make):
    network = make((1, 8, 8))
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    x, level, vector = inputs(network, batch=4, dtype=torch.float32)
    losses = []
    for _ in range(40):
        loss = (network(x, level, vector) - x).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_dropout_is_for_training_only():
    network = awake(unet((1, 8, 8), dropout=0.5))
    arguments = inputs(network)
    assert torch.equal(network(*arguments), network(*arguments))
    network.train()
    assert not torch.equal(network(*arguments), network(*arguments))


def test_params_and_flops_of_a_transformer_follow_the_formula():
    n, w, features, inner = 12, 24, 8, 96  # tokens, width, numbers of a patch, of a perceptron
    network = dit((2, 6, 8))
    block = 6 * w * w + n * (3 * w * w + w * w + 2 * w * inner) + 2 * n * n * w
    ends = 64 * w + w * w + 2 * n * features * w + 2 * w * w
    assert network.flops() == 2 * (2 * block + ends)
    assert network.flops(batch=5) == 5 * network.flops()
    assert network.params() == sum(k.numel() for k in network.state_dict().values())
    network.embedding.requires_grad_(False)
    assert network.params() == sum(p.numel() for p in network.parameters() if p.requires_grad)


def test_flops_of_a_unet_grow_with_the_place_and_leave_it_as_it_was():
    network = unet((1, 8, 8), attention=())
    linears = sum(2 * m.weight.numel() for m in network.modules() if isinstance(m, torch.nn.Linear))
    assert network.flops(size=(16, 8)) - linears == 2 * (network.flops() - linears)
    assert {p.device.type for p in network.parameters()} == {"cpu"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: unet((3,)), r"one to three sizes, and this one is \[3\]"),
        (lambda: dit((1, 2, 3, 4, 5)), r"one to three sizes"),
        (lambda: unet((1, 8), multipliers=()), "multiplier of a UNet are at least 1"),
        (lambda: unet((1, 8), blocks=0), "given 8, 0, 64 and"),
        (lambda: unet((1, 8), attention=(2,)), r"levels from -2 to 1.*given \[2\]"),
        (lambda: dit((1, 8), heads=5), "width 24 cannot be split into 5 heads"),
        (lambda: dit((1, 8, 8), patch=(2, 2, 2)), r"each of the 2 axes; given \(2, 2, 2\)"),
        (lambda: dit((1, 8), patch=0), "patch is a size of at least 1"),
        (lambda: dit((1, 2, 2, 2), width=4), "at least 6 wide; given 4"),
        (lambda: unet((1, 8))(torch.zeros(2, 3, 8), torch.zeros(2)), "1 channels and 1 further"),
        (lambda: dit((1, 8))(torch.zeros(2, 1, 8, 8), torch.zeros(2)), "1 channels and 1 further"),
        (lambda: dit((1, 8))(torch.zeros(2, 1, 8), torch.zeros(3)), r"2 states; given the shape"),
    ],
)
def test_mistakes_are_told(make, message):
    with pytest.raises(SuffuseError, match=message):
        make()


# ------------------------------------------------------------------------------------- the U-Net


def test_attention_is_at_the_levels_named():
    def attending(*levels):
        """Sizes at which a U-Net with three levels, of 16, 8 and 4 places, attends."""
        network = awake(unet((1, 16), multipliers=(1, 1, 2), attention=levels))
        seen = []
        for module in network.modules():
            if isinstance(module, Attention):
                module.register_forward_hook(lambda _, given, out: seen.append(given[0].shape[1]))
        network(*inputs(network))
        return seen

    assert attending() == []
    assert attending(0) == [16] + [16] * 2
    assert attending(-1) == attending(2) == [4] + [4] + [4] * 2
    assert attending(1, 2) == [8, 4] + [4] + [4] * 2 + [8] * 2


def test_without_attention_a_unet_commutes_with_transposing_the_axes():
    network = awake(unet((1, 7, 7), attention=()))
    other = unet((1, 7, 7), attention=()).to(F64).eval()
    weights = network.state_dict()
    other.load_state_dict({k: w.mT if w.ndim == 4 else w for k, w in weights.items()})
    x, level, vector = inputs(network)
    close(other(x.mT, level, vector), network(x, level, vector).mT)


def test_a_thin_image_is_a_signal():
    """A 2-D network at height 1 sees the middle rows of its kernels: the same as a 1-D one."""
    image, signal = awake(unet((2, 1, 9))), unet((2, 9)).to(F64).eval()
    weights = image.state_dict()
    middle = {k: w[:, :, w.shape[2] // 2] if w.ndim == 4 else w for k, w in weights.items()}
    signal.load_state_dict(middle)
    x, level, vector = inputs(signal)
    close(image(x[:, :, None], level, vector)[:, :, 0], signal(x, level, vector))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_halving_keeps_pairs_and_means(axes):
    for n in range(1, 8):
        coarse = torch.randn(2, 3, *[-(-n // 2)] * axes, dtype=F64)
        fine = functional.interpolate(coarse, size=[n] * axes, mode="nearest")
        for axis in range(axes):  # each place looks at its pair
            pairs = torch.arange(n) // 2
            assert torch.equal(
                fine.index_select(2 + axis, torch.arange(n)), fine.index_select(2 + axis, pairs * 2)
            )
        close(halve(fine), coarse)
    x = torch.randn(2, 3, *[6] * axes, dtype=F64)
    close(halve(x).mean(), x.mean())


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_residual_block_is_its_formula(axes):
    block = awake(ResidualBlock(axes, 8, 12, 5, heads=0))
    x, e = torch.randn(2, 8, *[4] * axes, dtype=F64), torch.randn(2, 5, dtype=F64)

    def normal(h, groups):
        h = h.reshape(2, groups, -1)
        return (h - h.mean(-1, keepdim=True)) / (
            h.var(-1, unbiased=False, keepdim=True) + 1e-5
        ) ** 0.5

    def channels(k):
        return k.reshape(*k.shape, *[1] * axes)

    def swish(h):
        return h / (1 + torch.exp(-h))

    h = normal(x, 2).reshape(x.shape)
    h = h * channels(block.norm_0.weight) + channels(block.norm_0.bias)
    h = block.conv_0(swish(h))
    scale, shift = (e @ block.modulation.weight.T + block.modulation.bias).split(12, dim=1)
    h = normal(h, 3).reshape(h.shape) * (1 + channels(scale)) + channels(shift)
    close(block(x, e), block.skip(x) + block.conv_1(swish(h)))


def test_a_fresh_residual_block_passes_its_input_through():
    x, e = torch.randn(2, 8, 6, 5), torch.randn(2, 5)
    assert torch.equal(ResidualBlock(2, 8, 8, 5, heads=2)(x, e), x)
    down = ResidualBlock(2, 8, 8, 5, resample="down")(x, e)
    assert torch.equal(down, halve(x))
    up = ResidualBlock(2, 8, 8, 5, resample="up")(down, e, (6, 5))
    assert torch.equal(up, functional.interpolate(down, (6, 5)))


@pytest.mark.parametrize(
    ("channels", "groups", "expected"),
    [
        (128, 32, 32),
        (64, 32, 16),
        (24, 32, 6),
        (48, 8, 8),
        (40, 32, 10),
        (28, 6, 4),
        (7, 32, 1),
        (2, 32, 1),
    ],
)
def test_groups_divide_the_channels_and_hold_four(channels, groups, expected):
    assert count_groups(channels, groups) == expected


def test_heads_are_as_narrow_as_asked_and_divide_the_width():
    network = unet((1, 8), width=40, multipliers=(1, 2), attention=(0, 1), head_width=12)
    heads = {m.qkv.in_features: m.heads for m in network.modules() if isinstance(m, Attention)}
    assert heads == {40: 2, 80: 5}


def test_convolutions_keep_the_size():
    for axes in (1, 2, 3):
        for kernel in (1, 3):
            x = torch.randn(1, 2, *(5, 4, 3)[:axes])
            assert convolution(axes, 2, 6, kernel)(x).shape == (1, 6, *x.shape[2:])


# ------------------------------------------------------------------------------- the transformer


def test_attention_is_its_formula():
    module = awake(Attention(12, heads=3))
    x = torch.randn(2, 5, 12, dtype=F64)
    qkv = (x @ module.qkv.weight.T + module.qkv.bias).reshape(2, 5, 3, 3, 4)
    out = torch.empty(2, 5, 12, dtype=F64)
    for b in range(2):
        for head in range(3):
            q, k, v = qkv[b, :, :, head].unbind(1)
            q = module.gain * q / (q.square().mean(-1, keepdim=True) + 1e-6).sqrt()
            k = k / (k.square().mean(-1, keepdim=True) + 1e-6).sqrt()
            weights = torch.exp(q @ k.T / math.sqrt(4))
            out[b, :, 4 * head : 4 * head + 4] = weights / weights.sum(1, keepdim=True) @ v
    close(module(x), out @ module.out.weight.T + module.out.bias)


@pytest.mark.parametrize("gained", [True, False])
def test_unit_has_the_derivatives_of_its_formula(gained):
    """Back, twice back, forward, and under vmap."""
    x = torch.randn(2, 3, 5, dtype=F64, requires_grad=True)
    gain = torch.randn(5, dtype=F64, requires_grad=True) if gained else None

    def formula(x, gain=None):
        y = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return y if gain is None else y * gain

    given = (x, gain) if gained else (x,)
    close(unit(*given), formula(*given))
    assert torch.autograd.gradcheck(unit, given, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(unit, given)
    for derivative in (torch.func.jacrev, torch.func.jacfwd):
        close(derivative(unit)(*given), derivative(formula)(*given))


def test_loud_queries_do_not_saturate_attention():
    """The weights of a head stay within e^{±√d} of each other, however large the tokens."""
    module = awake(Attention(8, heads=1))
    with torch.no_grad():
        module.gain.fill_(1)
        module.qkv.bias.zero_()
    x = torch.randn(2, 6, 8, dtype=F64)
    loud, louder = (module(k * x) - module.out.bias for k in (1e2, 1e5))
    close(louder / 1e3, loud, 1e-4)


@pytest.mark.parametrize("n", [1, 16, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attend_has_one_meaning_on_every_path(n, dtype):
    q, k, v = torch.randn(3, 2, 3, n, 8, dtype=F64).to(dtype).unbind(0)
    scores = torch.einsum("bhid,bhjd->bhij", q.double(), k.double()) / math.sqrt(8)
    some = (torch.rand(2, 1, n, n) > 0.5) | torch.eye(n, dtype=torch.bool)
    for mask in (None, some):
        weights = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
        exact = torch.einsum("bhij,bhjd->bhid", weights.softmax(-1), v.double())
        close(attend(q, k, v, mask).double(), exact, 1e-5 if dtype == torch.float32 else 3e-2)


def test_a_transformer_block_does_not_care_for_the_order_of_tokens():
    block = awake(TransformerBlock(12, heads=2))
    x, e = torch.randn(2, 7, 12, dtype=F64), torch.randn(2, 1, 12, dtype=F64)
    order = torch.randperm(7)
    close(block(x[:, order], e), block(x, e)[:, order])


def test_a_transformer_block_can_be_steered_token_by_token():
    block = awake(TransformerBlock(12, heads=2))
    x, e = torch.randn(2, 7, 12, dtype=F64), torch.randn(2, 1, 12, dtype=F64)
    each = e.repeat(1, 7, 1)
    close(block(x, each), block(x, e))
    order = torch.randperm(7)
    each = torch.randn(2, 7, 12, dtype=F64)
    close(block(x[:, order], each[:, order]), block(x, each)[:, order])


def test_a_fresh_transformer_block_passes_its_input_through():
    x = torch.randn(2, 7, 12)
    assert torch.equal(TransformerBlock(12, heads=2)(x, torch.randn(2, 1, 12)), x)
    assert not Attention(12, heads=2)(x).any()


def test_patches_are_what_stands_there_and_go_back():
    x = torch.randn(2, 3, 4, 6)
    tokens = patchify(x, (2, 3))
    assert tokens.shape == (2, 4, 18)
    for i in range(2):
        for j in range(2):
            place = x[:, :, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3]
            assert torch.equal(tokens[:, 2 * i + j], place.flatten(1))
    for size, patch in [((6,), (3,)), ((4, 6), (2, 3)), ((2, 4, 3), (1, 2, 3))]:
        x = torch.randn(2, 3, *size)
        grid = [n // p for n, p in zip(size, patch, strict=True)]
        assert torch.equal(unpatchify(patchify(x, patch), patch, grid), x)


def test_a_size_that_is_no_multiple_of_the_patch_is_padded_with_zeros():
    network = awake(dit((1, 8, 8), patch=(2, 3)))
    x, level, vector = inputs(network, size=(5, 7))
    padded = functional.pad(x, (0, 2, 0, 1))
    close(network(x, level, vector), network(padded, level, vector)[:, :, :5, :7])


# ------------------------------------------------------------------------------------ embeddings


def test_fourier_features_tell_levels_apart():
    """c_noise = λ / 4 for λ in ±20: steps of 0.1 in λ are far apart, and none comes round again."""
    features = fourier(torch.linspace(-20, 20, 401, dtype=F64) / 4, 64)
    close(features.square().sum(-1), torch.full((401,), 32.0, dtype=F64))
    distance = torch.cdist(features, features) + 10 * torch.eye(401, dtype=F64)
    assert distance.min() > 0.5
    level = torch.randn(2, 3)
    by_hand = [math.cos(2 * math.pi * float(level[1, 2]) * 4 ** (-2 + 3 * k)) for k in range(2)]
    close(fourier(level, 4)[1, 2, :2], torch.tensor(by_hand), 1e-5)


def test_a_place_has_the_same_features_on_every_grid():
    small, large = sincos((3, 4), 16), sincos((5, 7), 16)
    close(large.reshape(5, 7, 16)[:3, :4].reshape(12, 16), small)
    assert torch.cdist(large, large).add(torch.eye(35)).min() > 0.1
    assert sincos((2, 3, 4), 20).shape == (24, 20)


def test_likeness_of_places_depends_on_their_distance_alone():
    p = sincos((6, 5), 24).reshape(6, 5, 24)
    likeness = torch.einsum("ijw,klw->ijkl", p, p)
    close(likeness[1:, 2:, 1:, 2:], likeness[:-1, :-2, :-1, :-2], 1e-4)


def test_levels_with_further_axes_share_the_vector():
    """A level for each frame, [B, F]: each is embedded as if it were alone."""
    embedding = awake(LevelEmbedding(12))
    level, vector = torch.randn(2, 5), torch.randn(2, 12, dtype=F64)
    out = embedding(level, vector)
    assert out.shape == (2, 5, 12)
    for frame in range(5):
        close(out[:, frame], embedding(level[:, frame], vector))


# ------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize(
    ("block", "shape", "e"),
    [
        (lambda: ResidualBlock(1, 4, 8, 3, heads=2, groups=1), (1, 4, 3), (1, 3)),
        (lambda: ResidualBlock(2, 4, 4, 3, resample="down"), (1, 4, 3, 2), (1, 3)),
        (lambda: TransformerBlock(4, heads=2), (1, 3, 4), (1, 1, 4)),
        (lambda: TransformerBlock(4, heads=1), (1, 3, 4), (1, 3, 4)),
    ],
    ids=["residual", "down", "transformer", "transformer by token"],
)
def test_gradients_agree_with_differences(block, shape, e):
    module = awake(block())
    x, e = torch.randn(shape, dtype=F64), torch.randn(e, dtype=F64)
    assert torch.autograd.gradcheck(module, (x.requires_grad_(), e.requires_grad_()))


def test_networks_are_networks():
    assert isinstance(unet((1, 8)), Network)
    assert isinstance(dit((1, 8)), Network)


def test_mlp_takes_vectors_and_begins_at_zero() -> None:
    network = MLP((5,), width=16, blocks=2, context=2)
    x, level = torch.randn(3, 5), torch.tensor([-1.0, 0.0, 1.0])
    assert network(x, level, concat=torch.randn(3, 2)).abs().max() == 0
    with pytest.raises(SuffuseError, match=r"of shape \[channels\], and this one is \[5, 2\]"):
        MLP((5, 2))


def test_mlp_learns_the_clean_estimate_of_a_gaussian() -> None:
    # x_0 normal with the deviation 2, so that E[x_0 | x_t] = 4 x_t / (4 + 1) at sigma = 1
    torch.manual_seed(0)
    network = MLP((1,), width=32, blocks=1)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(400):
        x_0 = 2 * torch.randn(256, 1)
        estimate = network(x_0 + torch.randn_like(x_0), torch.zeros(256))
        optimizer.zero_grad()
        ((estimate - x_0) ** 2).mean().backward()
        optimizer.step()
    x = torch.linspace(-2, 2, 5)[:, None]
    with torch.no_grad():
        assert (network(x, torch.zeros(5)) - 0.8 * x).abs().max() < 0.2
