"""Features of I3D, the network of Fréchet video distances, from weights of one's own.

The weights are a safetensors file with the names of the usual port to PyTorch (`Conv3d_1a_7x7`,
`Mixed_3b.b1a`, `logits`), and are not part of the plugin. What others publish as `.pt` becomes one
by

    save_file(torch.load("rgb_imagenet.pt", weights_only=True), "i3d.safetensors")

The features are the logits, as in the published distance: 400 of Kinetics-400. A clip is shown as
16 frames of 224x224 pixels in [-1, 1].

Sources: Carreira, Zisserman, "Quo vadis, action recognition? A new model and the Kinetics dataset"
(2017), arXiv 1705.07750; Unterthiner et al., "Towards accurate generative models of video" (2018),
arXiv 1812.01717.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import max_pool3d, pad, relu

from suffuse.errors import SuffuseError

__all__ = ["I3D", "read"]

FRAMES, SIZE, WIDTH = 16, 224, 1024

_POOLS = {  # before these layers: kernel and stride in time, height and width
    "Conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}
_MIXED = {  # channels of b0, b1a, b1b, b2a, b2b, b3b
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}


def _same(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Zeros around x, so that each side comes out as its length over the stride, rounded up."""
    around: list[int] = []
    for n, k, s in zip(x.shape[2:], kernel, stride, strict=True):
        more = max((-(-n // s) - 1) * s + k - n, 0)
        around = [more // 2, more - more // 2, *around]
    return pad(x, around)


def _pooled(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    return max_pool3d(_same(x, kernel, stride), tuple(kernel), tuple(stride))


class _Unit(nn.Module):
    def __init__(self, enter: int, leave: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(enter, leave, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(leave, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        x = _same(x, self.conv3d.kernel_size, self.conv3d.stride)
        return relu(self.bn(self.conv3d(x)))


class _Mixed(nn.Module):
    def __init__(self, enter: int, channels: Sequence[int]) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3b = channels
        self.b0 = _Unit(enter, b0)
        self.b1a, self.b1b = _Unit(enter, b1a), _Unit(b1a, b1b, 3)
        self.b2a, self.b2b = _Unit(enter, b2a), _Unit(b2a, b2b, 3)
        self.b3b = _Unit(enter, b3b)

    def forward(self, x: Tensor) -> Tensor:
        around = self.b3b(_pooled(x, (3, 3, 3), (1, 1, 1)))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), around], dim=1)


class I3D(nn.Module):
    """Clips [B, 3, F, height, width] in [-1, 1] -> logits [B, classes].

    Args:
        classes: that it was trained to tell apart.
    """

    def __init__(self, classes: int = 400) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = _Unit(3, 64, 7, 2)
        self.Conv3d_2b_1x1 = _Unit(64, 64)
        self.Conv3d_2c_3x3 = _Unit(64, 192, 3)
        width = 192
        for name, channels in _MIXED.items():
            self.add_module(name, _Mixed(width, channels))
            width = channels[0] + channels[2] + channels[4] + channels[5]
        self.logits = nn.ModuleDict({"conv3d": nn.Conv3d(WIDTH, classes, 1)})

    def forward(self, x: Tensor) -> Tensor:
        for name, layer in self.named_children():
            if name == "logits":
                break
            if name in _POOLS:
                x = _pooled(x, *_POOLS[name])
            x = layer(x)
        out: Tensor = self.logits["conv3d"](x.mean((2, 3, 4), keepdim=True))
        return out.flatten(1)


def read(path: str | Path) -> I3D:
    """The network with the weights of a file, ready to look.

    Raises:
        SuffuseError: where there is no such file, or its weights are not of I3D.
    """
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise SuffuseError(f"cannot read the weights of I3D in {path}: {error}") from None
    last = state.get("logits.conv3d.bias", torch.zeros(400))
    network = I3D(len(last))
    own = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    wrong = [k for k, v in own.items() if k not in state or state[k].shape != v.shape]
    if wrong:
        raise SuffuseError(
            f"{path} holds no weights of I3D for colour clips in the layout of its port to "
            f"PyTorch: {len(wrong)} of {len(own)} are missing or of another shape, the first is "
            f"{wrong[0]}, {list(own[wrong[0]].shape)}"
        )
    network.load_state_dict({k: state[k].float() for k in own}, strict=False)
    return network.eval()
