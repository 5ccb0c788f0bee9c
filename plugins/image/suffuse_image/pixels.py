"""Pictures as standardised pixels.

A picture of C channels with 8-bit values p becomes the state x = (p / 255 - mean) / std, where mean
and std are those of each channel over the training split. Decoding inverts this, rounds and clamps
to the 8-bit range, so that an 8-bit picture of the encoder's size and channels comes back bit for
bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset
from suffuse.stats import evenly

from .modes import eight_bit, has_colour

__all__ = ["Pixels", "crop_to"]

FIT_SAMPLE = 2048
"""At most so many pictures of a data set, evenly spaced, are measured by `Pixels.fit`."""

_LEAST_STD = 1 / 255  # of a set without contrast; keeps the division legal


class Pixels:
    """Encoder between PIL images and float32 states of shape [C, H, W].

    Args:
        size: height and width of the states in pixels; a single number makes them square. Pictures
            of another size are scaled to cover it (Lanczos, antialiased) and cropped around their
            centre. None: that of the training pictures, which must then agree.
        channels: 1 for grey, 3 for RGB. None: 1 if no training picture has colour, else 3.
        mean, std: of each channel, in [0, 1] units. None: measured by `fit`.

    Raises:
        SuffuseError: for a size below 1, a std that is not positive, or lists of another length
            than `channels`.

    >>> encoder = Pixels(size=2, channels=1, mean=[0.5], std=[0.25])
    >>> encoder.encode([Image.new("L", (2, 2), 255)]).flatten().tolist()
    [2.0, 2.0, 2.0, 2.0]
    >>> encoder.decode(torch.zeros(1, 1, 2, 2))[0].getpixel((0, 0))
    128
    """

    def __init__(
        self,
        size: int | list[int] | None = None,
        channels: Literal[1, 3] | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        if isinstance(size, int):
            size = [size, size]
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise SuffuseError(f"the encoder's size is one or two positive numbers, not {size}")
        if channels not in (None, 1, 3):
            raise SuffuseError(f"the encoder's channels are 1 or 3, not {channels}")
        given: int | None = channels
        for values in (mean, std):
            given = len(values) if given is None and values is not None else given
        for name, values in (("mean", mean), ("std", std)):
            if values is not None and (len(values) != given or given not in (1, 3)):
                raise SuffuseError(
                    f"the encoder's {name} has {len(values)} values; it takes one per channel, "
                    f"for {given if given in (1, 3) else '1 or 3'} channels"
                )
        if std is not None and min(std) <= 0:
            raise SuffuseError(f"the encoder's std must be above 0, not {std}")
        self.size = None if size is None else (int(size[0]), int(size[1]))
        self.channels: Literal[1, 3] | None = None if given is None else (1 if given == 1 else 3)
        self.mean = mean
        self.std = std

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one state; known once size and channels are."""
        if self.size is None or self.channels is None:
            raise RuntimeError("this encoder has no size and channels yet: call fit, or give them")
        return (self.channels, *self.size)

    def fit(self, dataset: Dataset) -> dict[str, Any]:
        """Measure what is not given yet on `dataset`, of which at most 2,048 pictures are read.

        The encoder is complete afterwards, and so is one made from what is returned.

        Returns:
            The options size, channels, mean and std.

        Raises:
            SuffuseError: for an empty set, or one of several sizes where no size is given.
        """
        if not len(dataset):
            raise SuffuseError("the training split holds no pictures to measure mean and size on")
        picked = evenly(len(dataset), FIT_SAMPLE)
        size = self.size
        coloured = False
        count = 0
        total = np.zeros(3)
        squares = np.zeros(3)
        for index in picked:
            image = eight_bit(dataset[index].data, self.channels)
            here = (image.height, image.width)
            if self.size is None and size not in (None, here):
                raise SuffuseError(
                    f"the pictures differ in size (there are {size[1]}x{size[0]} and "
                    f"{here[1]}x{here[0]}): give the one to use, for instance --set encoder.size=32"
                )
            size = size or here
            pixels = np.asarray(crop_to(image, size).convert("RGB"))
            coloured = coloured or has_colour(pixels)
            flat = pixels.reshape(-1, 3).astype(np.float64) / 255
            count += len(flat)
            total += flat.sum(0)
            squares += (flat**2).sum(0)
        channels = self.channels or (3 if coloured else 1)
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, _LEAST_STD**2))
        self.size = size
        self.channels = channels
        self.mean = self.mean or [round(float(m), 6) for m in mean[:channels]]
        self.std = self.std or [round(float(s), 6) for s in std[:channels]]
        assert size is not None
        return {"size": list(size), "channels": channels, "mean": self.mean, "std": self.std}

    def encode(self, objects: Sequence[Image.Image]) -> Tensor:
        """States of shape [B, C, H, W], float32, of any pictures that Pillow can hold."""
        channels, height, width = self.shape
        pixels = np.empty((len(objects), height, width, channels), dtype=np.uint8)
        for row, image in enumerate(objects):
            image = crop_to(eight_bit(image, self.channels), (height, width))
            pixels[row] = np.asarray(image).reshape(height, width, channels)
        mean, std = self._statistics()
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
        return ((x / 255 - mean) / std).contiguous()

    def decode(self, x: Tensor) -> list[Image.Image]:
        """Pictures in mode "L" or "RGB" from states [B, C, height, width] of any float type.

        Their size is that of the states, which may be another than the encoder's.

        Raises:
            SuffuseError: if a state holds NaN or infinity, which no picture can show.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ValueError(
                f"expected states of shape [B, {self.channels}, H, W], got {tuple(x.shape)}"
            )
        mean, std = self._statistics()
        values = x.detach().float().cpu() * std + mean
        if not torch.isfinite(values).all():
            raise SuffuseError(
                "the model made values that are not finite (NaN or infinity), so there is no "
                "picture to show; its training has probably diverged"
            )
        pixels = (values * 255).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        if self.channels == 1:
            pixels = pixels[..., 0]
        return [Image.fromarray(np.ascontiguousarray(picture)) for picture in pixels]

    def _statistics(self) -> tuple[Tensor, Tensor]:
        if self.mean is None or self.std is None:
            raise RuntimeError("this encoder has no mean and std yet: call fit, or give them")
        return torch.tensor(self.mean)[:, None, None], torch.tensor(self.std)[:, None, None]


def crop_to(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """`image` scaled to cover `size` (height, width) and cropped around its centre, in one step.

    Only the part that is kept is resampled, so that a picture of 20,000x1 pixels costs no more
    than another. One of the right size comes back untouched.
    """
    height, width = size
    if (image.width, image.height) == (width, height):
        return image
    scale = min(image.width / width, image.height / height)
    kept_w, kept_h = scale * width, scale * height
    left, top = (image.width - kept_w) / 2, (image.height - kept_h) / 2
    return image.resize(
        (width, height),
        Image.Resampling.LANCZOS,
        box=(left, top, min(left + kept_w, image.width), min(top + kept_h, image.height)),
        reducing_gap=3.0,
    )
