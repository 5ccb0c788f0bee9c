"""Edits of pictures by a model of pictures: filling, restoring, changing.

Each edit is made for a model, with options, and is called with pictures:

    Inpaint(model, mask="mask.png")([photo], n=4, seed=0, prompt="a hat") -> 4 pictures

Keywords beside n and seed go to the model: steps, solver, guidance, and its conditions. A model
works at one size. Filling keeps the size of the picture: the square around what is to be filled is
brought to the model's size and back, and pixels outside of the mask are those of the picture, bit
for bit. What restores answers at the model's size.

A state's channel is x = (p - mean) / std. Means over pixels (blur, pooling) pass such maps by, so
that they act on states as on pictures; a mixture of channels is corrected for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from suffuse.diffusion import operators
from suffuse.diffusion.posterior import Observation
from suffuse.errors import SuffuseError

from .modes import eight_bit
from .pixels import Pixels, crop_to
from .reading import read

__all__ = ["Blend", "Colorize", "Deblur", "Denoise", "Inpaint", "Outpaint", "Upscale", "Vary"]

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601: grey from red, green and blue, as Pillow mixes them."""


class _Edit:
    """What edits share: the model, its encoder and the method of posterior sampling."""

    def __init__(self, model: Any, method: str = "diffpir") -> None:
        if not isinstance(model.encoder, Pixels):
            raise SuffuseError(
                "pictures are edited by models of pixels, and this one has the encoder "
                f"{model.recipe.encoder['name']!r}"
            )
        self.model, self.method = model, method
        self.size: tuple[int, int] = model.encoder.size

    def _fit(self, image: Image.Image) -> Image.Image:
        """The picture in the model's channels and size."""
        return crop_to(eight_bit(image, self.model.encoder.channels), self.size)

    def _restored(
        self, seen: Observation, n: int, seed: Any, settings: dict[str, Any]
    ) -> list[Image.Image]:
        """n pictures for one observation."""
        found: list[Image.Image] = self.model.restore(
            seen, n=n, method=self.method, seed=seed, **settings
        )
        return found

    def _std(self) -> Tensor:
        return torch.tensor(self.model.encoder.std)[:, None, None]

    def _mean(self) -> Tensor:
        return torch.tensor(self.model.encoder.mean)[:, None, None]


class Inpaint(_Edit):
    """Fill what a mask marks.

    Args:
        model: of pixels.
        mask: a picture of the size of the one to fill; what is white in it is filled.
        context: the side of the square that the model sees, as a multiple of the mask's.
        method: of posterior sampling.
    """

    def __init__(
        self, model: Any, *, mask: str, context: float = 2.0, method: str = "diffpir"
    ) -> None:
        super().__init__(model, method)
        if not context >= 1:
            raise SuffuseError(f"context is 1 or more, and {context} is not")
        self.context = context
        self.mask, self.name = np.asarray(eight_bit(read(Path(mask)), 1)) >= 128, mask
        if not self.mask.any():
            raise SuffuseError(
                f"the mask {mask} is black all over, so there is nothing to fill: paint white what "
                "is to be filled"
            )

    def __call__(
        self, objects: Sequence[Image.Image], n: int = 1, *, seed: int = 0, **settings: Any
    ) -> list[Image.Image]:
        """n pictures for each, of its size; raises where the mask has another size."""
        out = []
        for k, image in enumerate(objects):
            picture = eight_bit(image, self.model.encoder.channels)
            if (picture.height, picture.width) != self.mask.shape:
                raise SuffuseError(
                    f"the mask {self.name} has {self.mask.shape[1]}x{self.mask.shape[0]} pixels, "
                    f"and the picture {picture.width}x{picture.height}: they have to agree"
                )
            out += self._filled(
                picture, self.mask, n, [seed + 1000 * k + i for i in range(n)], settings
            )
        return out

    def _filled(
        self,
        picture: Image.Image,
        mask: np.ndarray,
        n: int,
        seeds: list[int],
        settings: dict[str, Any],
    ) -> list[Image.Image]:
        box = self._box(mask)
        part = Image.fromarray(mask.astype(np.uint8) * 255).crop(box)
        # A pixel of the model is known where all that it covers is.
        small = part.resize(self.size[::-1], Image.Resampling.BOX)
        known = torch.from_numpy(np.array(small) == 0)
        if (picture.height, picture.width) == self.size:
            known = torch.from_numpy(~mask)
        region = picture.crop(box).resize(self.size[::-1], Image.Resampling.LANCZOS)
        seen = Observation(operators.mask(known.to(self.model.device)), self.model.encode([region]))
        out = []
        for made in self._restored(seen, n, seeds, settings):
            large = made.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BICUBIC)
            result = picture.copy()
            result.paste(large, box[:2], part)
            out.append(result)
        return out

    def _box(self, mask: np.ndarray) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of what the model sees: the whole picture where it is small."""
        height, width = mask.shape
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        side = max(np.ptp(rows) + 1, np.ptp(columns) + 1) * self.context
        least = max(self.size)
        high, wide = (int(min(n, max(round(side), least))) for n in (height, width))
        top = int(np.clip((rows[0] + rows[-1] + 1 - high) // 2, 0, height - high))
        left = int(np.clip((columns[0] + columns[-1] + 1 - wide) // 2, 0, width - wide))
        return left, top, left + wide, top + high


class Outpaint(Inpaint):
    """Go on beyond the borders.

    Args:
        model: of pixels.
        factor: how many times as large the result is; the picture is in its middle.
        method: of posterior sampling.
    """

    def __init__(self, model: Any, *, factor: float = 1.5, method: str = "diffpir") -> None:
        _Edit.__init__(self, model, method)
        if not 1 < factor <= 4:
            raise SuffuseError(f"factor is above 1 and at most 4, and {factor} is not")
        self.factor, self.context = factor, 1.0

    def __call__(
        self, objects: Sequence[Image.Image], n: int = 1, *, seed: int = 0, **settings: Any
    ) -> list[Image.Image]:
        """n larger pictures for each."""
        out = []
        for k, image in enumerate(objects):
            picture = eight_bit(image, self.model.encoder.channels)
            size = tuple(round(self.factor * side) for side in picture.size)
            at = tuple((a - b) // 2 for a, b in zip(size, picture.size, strict=True))
            # Filled by the edge, so that resampling at the border brings in nothing foreign.
            pads = [
                (at[1], size[1] - at[1] - picture.height),
                (at[0], size[0] - at[0] - picture.width),
            ]
            values = np.asarray(picture)
            padded = np.pad(values, [*pads, *[(0, 0)] * (values.ndim - 2)], mode="edge")
            mask = np.ones((size[1], size[0]), dtype=bool)
            mask[at[1] : at[1] + picture.height, at[0] : at[0] + picture.width] = False
            out += self._filled(Image.fromarray(padded), mask, n, _seeds(seed, k, n), settings)
        return out


class _Restore(_Edit):
    """An edit that restores each picture from an observation of it."""

    def observe(self, image: Image.Image) -> Observation:
        """What is known of the state."""
        raise NotImplementedError

    def __call__(
        self, objects: Sequence[Image.Image], n: int = 1, *, seed: int = 0, **settings: Any
    ) -> list[Image.Image]:
        """n pictures for each, of the model's size."""
        out = []
        for k, image in enumerate(objects):
            out += self._restored(self.observe(image), n, _seeds(seed, k, n), settings)
        return out


class Upscale(_Restore):
    """Details for a picture that is `factor` times smaller than the model's.

    Args:
        model: of pixels.
        factor: of each side; it divides the model's size.
        noise: deviation of the noise in the small picture, in levels of 255.
        method: of posterior sampling.
    """

    def __init__(
        self, model: Any, *, factor: int = 2, noise: float = 0.0, method: str = "diffpir"
    ) -> None:
        super().__init__(model, method)
        if factor < 2 or any(side % factor for side in self.size):
            raise SuffuseError(
                f"factor is 2 or more and divides the model's size {self.size}; given {factor}"
            )
        self.factor, self.noise = factor, noise

    def observe(self, image: Image.Image) -> Observation:
        """The picture as the means of blocks."""
        height, width = (side // self.factor for side in self.size)
        encoder = self.model.encoder
        small = crop_to(eight_bit(image, encoder.channels), (height, width))
        own = Pixels([height, width], encoder.channels, encoder.mean, encoder.std)
        # Means of 8-bit pixels are rounded: half a level at most.
        noise = max(self.noise, 0.29) / 255 / self._std()
        return Observation(operators.pool(self.factor), own.encode([small]), noise)


class Denoise(_Restore):
    """Take away grain.

    Args:
        model: of pixels.
        noise: its deviation in levels of 255; estimated from the picture where None.
        method: of posterior sampling.
    """

    def __init__(self, model: Any, *, noise: float | None = None, method: str = "diffpir") -> None:
        super().__init__(model, method)
        if noise is not None and not 0 < noise < 256:
            raise SuffuseError(f"noise is above 0 and below 256 levels, and {noise} is not")
        self.noise = noise

    def observe(self, image: Image.Image) -> Observation:
        """The picture as its clean self with normal noise."""
        fitted = self._fit(image)
        noise = noise_level(fitted) if self.noise is None else self.noise
        levels = torch.as_tensor(max(noise, 0.29) / 255) / self._std()
        return Observation(operators.identity(), self.model.encode([fitted]), levels)


class Deblur(_Restore):
    """Undo a Gaussian blur.

    Args:
        model: of pixels.
        blur: its deviation in pixels of the model's size.
        noise: deviation of the noise in the picture, in levels of 255.
        method: of posterior sampling.
    """

    def __init__(
        self, model: Any, *, blur: float = 1.5, noise: float = 1.0, method: str = "diffpir"
    ) -> None:
        super().__init__(model, method)
        self.operator, self.noise = operators.blur(blur, self.size), noise

    def observe(self, image: Image.Image) -> Observation:
        """The picture as a blurred one."""
        noise = max(self.noise, 0.29) / 255 / self._std()
        return Observation(self.operator, self.model.encode([self._fit(image)]), noise)


class Colorize(_Restore):
    """Colours for a grey picture; its brightness stays."""

    def __init__(self, model: Any, *, method: str = "diffpir") -> None:
        super().__init__(model, method)
        if model.encoder.channels != 3:
            raise SuffuseError("this model makes grey pictures, which have no colours to give")

    def observe(self, image: Image.Image) -> Observation:
        """The picture's brightness: a mixture of the state's channels."""
        grey = np.asarray(crop_to(eight_bit(image, 1), self.size)) / 255
        luma = torch.tensor(LUMA)[:, None, None]
        weights = (luma * self._std()).reshape(1, 3)
        y = torch.from_numpy(grey).float() - (luma * self._mean()).sum()
        return Observation(operators.mix(weights, axis=-3), y[None, None], 1 / 255)


class Vary(_Edit):
    """Noise a picture in part and make it clean again.

    Args:
        model: of pixels.
        strength: from 0 to 1: how much is made anew.
    """

    def __init__(self, model: Any, *, strength: float = 0.5) -> None:
        super().__init__(model)
        self.strength = strength

    def __call__(
        self, objects: Sequence[Image.Image], n: int = 1, *, seed: int = 0, **settings: Any
    ) -> list[Image.Image]:
        """n variations of each, of the model's size."""
        out = []
        for k, image in enumerate(objects):
            seeds = _seeds(seed, k, n)
            out += self.model.vary([image] * n, self.strength, seed=seeds, **settings)
        return out


class Blend(_Edit):
    """Pictures on the way from one to another.

    Args:
        model: of pixels.
        strength: from 0 to 1: how much of a mixture is made anew.
    """

    def __init__(self, model: Any, *, strength: float = 0.6) -> None:
        super().__init__(model)
        self.strength = strength

    def __call__(
        self, objects: Sequence[Image.Image], n: int = 1, *, seed: int = 0, **settings: Any
    ) -> list[Image.Image]:
        """n pictures, evenly between the two; for one, the middle."""
        if len(objects) != 2:
            raise SuffuseError(f"a blend is of two pictures, and {len(objects)} are given")
        made: list[Image.Image] = self.model.interpolate(
            *objects, n + 2, strength=self.strength, seed=seed, **settings
        )
        return made[1:-1]


def _seeds(seed: int, picture: int, n: int) -> list[int]:
    """A seed for each of the n results of a picture; results of different pictures differ."""
    return [(seed * 1_000_003 + picture * 1009 + i) % 2**63 for i in range(n)]


def noise_level(image: Image.Image) -> float:
    """The deviation of a picture's noise in levels of 255, from its finest diagonal details.

    Half the difference of neighbouring diagonals has the deviation of the noise, and of the picture
    itself little but at edges, which the median leaves out: 1.4826 times the median of its
    magnitudes is the deviation of normal noise (Donoho, Johnstone (1994), "Ideal spatial
    adaptation by wavelet shrinkage").
    """
    p = np.asarray(image, dtype=np.float64)
    detail = (p[:-1, :-1] - p[1:, :-1] - p[:-1, 1:] + p[1:, 1:]) / 2
    return float(1.4826 * np.median(np.abs(detail)))
