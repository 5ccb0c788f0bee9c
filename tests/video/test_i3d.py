"""I3D by itself: names, padding, and what inflated filters say of a still clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from suffuse.errors import SuffuseError
from suffuse_video import i3d
from suffuse_video.clip import Clip
from suffuse_video.features import encoder
from suffuse_video.i3d import I3D, read


@pytest.fixture
def network():
    found = I3D(7).eval()
    for module in found.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0.2, 0.1)
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.02, 0.1)
    return found


def test_the_layers_are_those_of_the_published_network():
    shapes = {k: tuple(v.shape) for k, v in I3D().state_dict().items()}
    assert shapes["Conv3d_1a_7x7.conv3d.weight"] == (64, 3, 7, 7, 7)
    assert shapes["Conv3d_2c_3x3.conv3d.weight"] == (192, 64, 3, 3, 3)
    assert shapes["Mixed_3b.b1b.conv3d.weight"] == (128, 96, 3, 3, 3)
    assert shapes["Mixed_4e.b2b.bn.running_var"] == (64,)
    assert shapes["Mixed_5c.b0.conv3d.weight"] == (384, 832, 1, 1, 1)
    assert shapes["logits.conv3d.weight"] == (400, 1024, 1, 1, 1)
    # 57 convolutions, each with 4 numbers a channel and a count, and the logits.
    assert len(shapes) == 57 * 6 + 2
    assert sum(p.numel() for p in I3D().parameters()) == 12_697_264


def _two_dimensional(state, frame):
    """Inception of pictures [B, 3, h, w], of the middle of the filters in time, written plainly."""

    def pool(x, k, s):
        around = [max((-(-n // s) - 1) * s + k - n, 0) for n in x.shape[2:]]
        top, left = (n // 2 for n in around)
        x = functional.pad(x, (left, around[1] - left, top, around[0] - top))
        return functional.max_pool2d(x, k, s)

    def unit(x, name, stride=1):
        weight = state[f"{name}.conv3d.weight"]
        weight = weight[:, :, weight.shape[2] // 2]
        k = weight.shape[-1]
        around = [max((-(-n // stride) - 1) * stride + k - n, 0) for n in x.shape[2:]]
        top, left = (n // 2 for n in around)
        x = functional.pad(x, (left, around[1] - left, top, around[0] - top))
        x = functional.conv2d(x, weight, stride=stride)
        moments = (state[f"{name}.bn.running_{k}"] for k in ("mean", "var"))
        scale, shift = (state[f"{name}.bn.{k}"] for k in ("weight", "bias"))
        return functional.batch_norm(x, *moments, scale, shift, eps=1e-3).relu()

    def mixed(x, name):
        parts = [unit(x, f"{name}.b0")]
        parts += [unit(unit(x, f"{name}.b{k}a"), f"{name}.b{k}b") for k in (1, 2)]
        return torch.cat([*parts, unit(pool(x, 3, 1), f"{name}.b3b")], dim=1)

    x = pool(unit(frame, "Conv3d_1a_7x7", 2), 3, 2)
    x = pool(unit(unit(x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3"), 3, 2)
    x = pool(mixed(mixed(x, "Mixed_3b"), "Mixed_3c"), 3, 2)
    for letter in "bcdef":
        x = mixed(x, f"Mixed_4{letter}")
    x = mixed(mixed(pool(x, 2, 2), "Mixed_5b"), "Mixed_5c").mean((2, 3))
    return x @ state["logits.conv3d.weight"].flatten(1).T + state["logits.conv3d.bias"]


@pytest.mark.parametrize("sides", [(64, 64), (45, 70)])
def test_inflated_filters_say_of_a_still_clip_what_flat_ones_say_of_its_frame(network, sides):
    for module in network.modules():
        if isinstance(module, torch.nn.Conv3d):
            middle = module.weight.shape[2] // 2
            for k in range(module.weight.shape[2]):
                if k != middle:
                    module.weight.data[:, :, k] = 0
    frame = torch.rand(2, 3, *sides) * 2 - 1
    with torch.inference_mode():
        seen = network(frame[:, :, None].expand(-1, -1, 9, -1, -1))
        flat = _two_dimensional(network.state_dict(), frame)
    assert seen.shape == (2, 7)
    assert flat.std(0).min() > 1e-4
    assert torch.allclose(seen, flat, atol=1e-4 * float(flat.abs().max()))


def test_filters_spread_over_time_say_the_same_away_from_the_ends(network):
    unit = network.Conv3d_1a_7x7
    flat = unit.conv3d.weight[:, :, :1].detach()
    unit.conv3d.weight.data = (flat / 7).expand_as(unit.conv3d.weight).clone()
    frame = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        seen = unit(frame[:, :, None].expand(-1, -1, 16, -1, -1))
        once = functional.conv2d(functional.pad(frame, (2, 3, 2, 3)), flat[:, :, 0], stride=2)
        once = unit.bn(once[:, :, None]).relu()
    assert seen.shape[2] == 8
    for k in range(1, 6):  # no zeros before or after the clip are seen there
        assert torch.allclose(seen[:, :, k], once[:, :, 0], atol=1e-5)


def test_features_come_from_a_file_of_ones_own(network, rng, tmp_path, monkeypatch):
    monkeypatch.setattr(i3d, "SIZE", 32)  # for speed
    path = tmp_path / "i3d.safetensors"
    save_file(network.state_dict(), path)
    clip = Clip(rng.integers(0, 256, (20, 24, 24, 3), dtype=np.uint8), 8.0)
    back = Clip(clip.frames[::-1].copy(), 8.0)
    found = encoder(str(path))([clip, back])
    assert found.shape == (2, 7)
    assert not torch.allclose(found[0], found[1], rtol=1e-3)
    state = network.state_dict()
    del state["Mixed_4c.b1a.conv3d.weight"]
    save_file(state, path)
    with pytest.raises(SuffuseError, match=r"1 of 287 .* Mixed_4c.b1a.conv3d.weight, \[112, 512"):
        read(path)
    path.write_bytes(b"none")
    with pytest.raises(SuffuseError, match="cannot read the weights of I3D"):
        encoder(str(path))
    with pytest.raises(SuffuseError, match="cannot read the weights of I3D"):
        encoder(str(tmp_path / "no.safetensors"))
