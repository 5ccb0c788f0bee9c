"""Edits that restore: what was lost, made again in agreement with what is left.

Each states what was observed, y = A x + noise, and draws pictures that agree with it
(`suffuse.diffusion.posterior`). A state's channel is x = (p - mean) / std, p in [0, 1]; data here
are pictures less the mean, so that A begins with a multiplication by std, and the noise is one
number for all channels: its deviation in levels, over 255.

A draw is one of the pictures that it may have been, as sharp as any. The mean of several draws is
nearer to the truth in squared error, and softer: `average`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from suffuse.diffusion import operators
from suffuse.diffusion.operators import Operator
from suffuse.diffusion.posterior import Observation
from suffuse.errors import SuffuseError

from . import jpeg
from .edits import Edit, draws, means, seeds
from .modes import eight_bit
from .pixels import Pixels, crop_to

__all__ = ["Colorize", "Deblur", "Dejpeg", "Denoise", "Restore", "Upscale", "noise_level"]

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601: grey from red, green and blue, as Pillow mixes them."""

ROUNDING = 0.29
"""The deviation, in levels, of the rounding of 8-bit values."""


class Restore(Edit, ABC):
    """An edit that restores each picture from an observation of it.

    Args:
        model: of pixels.
        average: each result is the mean of so many draws.
        method: of posterior sampling.
    """

    def __init__(self, model: Any, *, average: int = 1, method: str = "ddrm") -> None:
        super().__init__(model, method)
        self.average = draws(average)

    @abstractmethod
    def observe(self, image: Image.Image) -> Observation:
        """What is known of the state."""

    def __call__(
        self, objects: Sequence[Image.Image], n: int = 1, *, seed: int = 0, **settings: Any
    ) -> list[Image.Image]:
        """n pictures for each, of the model's size."""
        out = []
        for k, image in enumerate(objects):
            drawn = seeds(seed, k, n * self.average)
            made = self.restored(self.observe(image), n * self.average, drawn, settings)
            out += means(made, n)
        return out

    def _whole(self, x: Operator | None = None) -> Operator:
        """The operator on pictures, of states; every pixel where None."""
        units = operators.mix(torch.diag(self.std().flatten()), axis=-3)
        return units if x is None else x @ units

    def _data(self, image: Image.Image) -> Tensor:
        """A picture less the mean, [1, C, H, W]."""
        p = np.array(eight_bit(image, self.model.encoder.channels), dtype=np.float32) / 255
        y = torch.from_numpy(p).reshape(image.height, image.width, -1).permute(2, 0, 1)
        return (y - self.mean())[None].to(self.model.device)


class Upscale(Restore):
    """Details for a picture that is `factor` times smaller than what is made.

    A model that was trained for it, with the condition "small" (`image/upsampler`), is told the
    small picture, of any size, and makes it so many times larger, in several rounds where it has
    to. Any other draws pictures of its own size whose means of blocks are the small one's pixels.

    Args:
        model: of pixels.
        factor: of each side; it divides the model's size, or is a power of the trained factor.
        noise: deviation of the noise in the small picture, in levels of 255.
        average, method: see `Restore`.

    A model that is told the small picture takes neither noise nor method.
    """

    shown = True

    def __init__(
        self,
        model: Any,
        *,
        factor: int = 2,
        noise: float = 0.0,
        average: int = 1,
        method: str = "ddrm",
    ) -> None:
        super().__init__(model, average=average, method=method)
        self.told = "small" in model.conditions
        if self.told and (noise or method != "ddrm"):
            raise SuffuseError(
                "this model is told the small picture: it takes neither --noise nor --method"
            )
        self.trained = model.recipe.dataset.get("factor", 2) if self.told else factor
        self.rounds = max(1, round(math.log(max(factor, 2), self.trained)))
        if self.told and factor != self.trained**self.rounds:
            raise SuffuseError(
                f"this model makes pictures {self.trained} times larger, or {self.trained**2} by "
                f"doing so twice, and not {factor} times"
            )
        if factor < 2 or (not self.told and any(side % factor for side in self.size)):
            raise SuffuseError(
                f"factor is 2 or more and divides the model's size {self.size}; given {factor}"
            )
        self.small = tuple(side // factor for side in self.size)
        if not self.told:
            self.operator = self._whole(operators.resample(self.size, self.small, kernel="box"))
        self.noise = _deviation(noise)

    def __call__(
        self, objects: Sequence[Image.Image], n: int = 1, *, seed: int = 0, **settings: Any
    ) -> list[Image.Image]:
        """n pictures for each."""
        if not self.told:
            return super().__call__(objects, n, seed=seed, **settings)
        if "small" in settings:
            raise SuffuseError("what is made larger is the small picture: leave out --small")
        out = []
        for k, image in enumerate(objects):
            drawn = seeds(seed, k, n * self.average)
            made = [eight_bit(image, self.model.encoder.channels)] * len(drawn)
            for _ in range(self.rounds):
                made = self._larger(made, drawn, settings)
            out += means(made, n)
        return out

    def _larger(
        self, pictures: Sequence[Image.Image], drawn: Sequence[int], settings: Mapping[str, Any]
    ) -> list[Image.Image]:
        """Each picture, all of one size, by the trained factor larger."""
        encoder, least = self.model.encoder, [side // self.trained for side in self.size]
        height, width = pictures[0].height, pictures[0].width
        missing = max(0, least[0] - height), max(0, least[1] - width)
        full = [_extended(picture, missing) for picture in pictures]
        size = (height + missing[0]) * self.trained, (width + missing[1]) * self.trained
        larger = Pixels(list(size), encoder.channels, encoder.mean, encoder.std)
        asked = {} if size == self.size else {"size": size}
        made = self.model.sample(
            len(full), seed=list(drawn), small=list(larger.encode(full)), **asked, **settings
        )
        box = (0, 0, width * self.trained, height * self.trained)
        return [picture.crop(box) for picture in made]

    def observe(self, image: Image.Image) -> Observation:
        """The picture as the means of blocks."""
        return Observation(self.operator, self._data(self._fitted(image)), self.noise)

    def _fitted(self, image: Image.Image) -> Image.Image:
        return crop_to(eight_bit(image, self.model.encoder.channels), self.small)


def _deviation(noise: float) -> float:
    """Of the noise in pixels of [0, 1], from that in levels; 8-bit values have their rounding."""
    if not 0 <= noise < 256:
        raise SuffuseError(f"noise is 0 or more and below 256 levels, and {noise} is not")
    return max(noise, ROUNDING) / 255


def _extended(picture: Image.Image, by: tuple[int, int]) -> Image.Image:
    """The picture with its last row and column repeated."""
    p = np.asarray(picture)
    return Image.fromarray(np.pad(p, [(0, by[0]), (0, by[1])] + [(0, 0)] * (p.ndim - 2), "edge"))


class Denoise(Restore):
    """Take away grain.

    A picture with normal noise is a state of the model's own at that level: one call of the network
    gives the mean of all pictures that it may have been, which nothing surpasses in squared error.

    Args:
        model: of pixels.
        noise: its deviation in levels of 255; estimated from the picture where None.
        average, method: "mean" is that one call; for draws, see `Restore`.
    """

    def __init__(
        self,
        model: Any,
        *,
        noise: float | None = None,
        average: int = 1,
        method: str = "mean",
    ) -> None:
        super().__init__(model, average=average, method=method)
        if noise is not None and not 0 < noise < 256:
            raise SuffuseError(f"noise is above 0 and below 256 levels, and {noise} is not")
        self.noise = noise

    def observe(self, image: Image.Image) -> Observation:
        """The picture as its clean self with normal noise."""
        fitted = self.fit(image)
        level = noise_level(fitted) if self.noise is None else self.noise
        return Observation(self._whole(), self._data(fitted), max(level, ROUNDING) / 255)

    def restored(
        self, seen: Observation, n: int, seeds: list[int], settings: dict[str, Any]
    ) -> list[Image.Image]:
        """n pictures, all the same by the method "mean"."""
        if self.method != "mean":
            return super().restored(seen, n, seeds, settings)
        return [self._expected(seen, settings)] * n

    def _expected(self, seen: Observation, settings: dict[str, Any]) -> Image.Image:
        """E[x_0 | y], from the level of the channels' mean noise variance in the model's units."""
        model, schedule = self.model, self.model.schedule
        words = {k: v for k, v in settings.items() if k in model.conditions}
        prepared = model.prepare({k: [v] for k, v in words.items()}, 1)
        x = seen.y / self.std().to(seen.y)
        deviation = float((float(seen.noise) ** 2 / self.std() ** 2).mean().sqrt())
        t = torch.as_tensor(schedule.t(-float(np.log(deviation))), dtype=torch.float64)
        t = t.reshape(1).to(x.device)
        # x is clean plus noise; α x is a state of the level where σ/α is that noise.
        alpha = float(schedule.at(float(t)).alpha)
        denoise = model.denoiser(settings.get("guidance", 1.0))
        with torch.inference_mode():
            found: Image.Image = model.decode(denoise(alpha * x, t, **prepared))[0]
        return found


class Deblur(Restore):
    """Undo a Gaussian blur.

    Args:
        model: of pixels.
        blur: its deviation in pixels of the model's size.
        noise: deviation of the noise in the picture, in levels of 255.
        average, method: see `Restore`.
    """

    def __init__(
        self,
        model: Any,
        *,
        blur: float = 1.5,
        noise: float = 1.0,
        average: int = 1,
        method: str = "ddrm",
    ) -> None:
        super().__init__(model, average=average, method=method)
        self.operator = self._whole(operators.blur(blur, self.size))
        self.noise = _deviation(noise)

    def observe(self, image: Image.Image) -> Observation:
        """The picture as a blurred one."""
        return Observation(self.operator, self._data(self.fit(image)), self.noise)


class Colorize(Restore):
    """Colours for a grey picture; its brightness stays.

    Args:
        model: of pixels in colour.
        average, method: see `Restore`.
    """

    def __init__(self, model: Any, *, average: int = 1, method: str = "ddrm") -> None:
        super().__init__(model, average=average, method=method)
        if model.encoder.channels != 3:
            raise SuffuseError("this model makes grey pictures, which have no colours to give")

    def observe(self, image: Image.Image) -> Observation:
        """The picture's brightness: a mixture of the state's channels."""
        grey = np.array(crop_to(eight_bit(image, 1), self.size), dtype=np.float32) / 255
        luma = torch.tensor(LUMA)[:, None, None]
        y = torch.from_numpy(grey) - (luma * self.mean()).sum()
        weights = (luma * self.std()).reshape(1, 3)
        y = y[None, None].to(self.model.device)
        return Observation(operators.mix(weights, axis=-3), y, 1 / 255)


class Dejpeg(Restore):
    """Undo what a JPEG of low quality left out: blocks, rings, smeared colours.

    Args:
        model: of pixels; the picture is brought to its size before, so that the blocks of 8x8
            pixels are those of pictures of that size.
        quality: that the picture was saved with, 1 to 100.
        average, method: see `Restore`; one for noise that differs between data.
    """

    def __init__(
        self, model: Any, *, quality: int = 20, average: int = 1, method: str = "diffpir"
    ) -> None:
        super().__init__(model, average=average, method=method)
        self.operator, self.noise = jpeg.operator(self.size, self.std(), quality)

    def observe(self, image: Image.Image) -> Observation:
        """The cosine coefficients of the picture's blocks, each with its rounding as noise."""
        y = self.operator(self._data(self.fit(image)) / self.std().to(self.model.device))
        return Observation(self.operator, y, self.noise.to(self.model.device))


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
