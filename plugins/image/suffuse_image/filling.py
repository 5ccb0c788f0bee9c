"""Edits that fill: a part of a picture, or what lies beyond its borders.

The square around what is to be filled is brought to the model's size and back; pixels outside of
the mask are those of the picture, bit for bit, and its size stays.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from suffuse.diffusion import operators
from suffuse.diffusion.posterior import Observation
from suffuse.errors import SuffuseError

from .edits import Edit, draws, means, seeds
from .modes import eight_bit
from .reading import read

__all__ = ["Inpaint", "Outpaint", "Pan", "Tile", "Zoom"]


class Filling(Edit):
    """An edit that fills what a mask marks.

    Args:
        model: of pixels.
        context: the side of the square that the model sees, as a multiple of the mask's.
        strength: how much of what is there is made anew, above 0; 1 forgets it.
        average: each result is the mean of so many draws, nearer to the truth and softer.
        method: of posterior sampling.
    """

    def __init__(
        self,
        model: Any,
        *,
        context: float = 2.0,
        strength: float = 1.0,
        average: int = 1,
        method: str = "ddrm",
    ) -> None:
        super().__init__(model, method)
        self.average = draws(average)
        if not 1 <= context < np.inf:
            raise SuffuseError(f"context is a number of 1 or more, and {context} is not")
        if not 0 < strength <= 1:
            raise SuffuseError(f"strength is above 0 and at most 1, and {strength} is not")
        self.context, self.strength = context, strength

    def filled(
        self,
        picture: Image.Image,
        mask: np.ndarray,
        n: int,
        drawn: Callable[[int], list[int]],
        settings: dict[str, Any],
    ) -> list[Image.Image]:
        """n pictures, made anew where the mask is True; `drawn` gives so many draws their seeds."""
        box = self._box(mask)
        part = Image.fromarray(mask.astype(np.uint8) * 255).crop(box)
        # A pixel of the model is known where all that it covers is.
        small = part.resize(self.size[::-1], Image.Resampling.BOX)
        known = torch.from_numpy(np.array(small) == 0)
        region = picture.crop(box).resize(self.size[::-1], Image.Resampling.LANCZOS)
        x_0 = self.model.encode([region])
        seen = Observation(operators.mask(known.to(self.model.device)), x_0)
        if self.strength < 1:
            settings = {**settings, "x": x_0, "begin": self.strength}
        out = []
        count = n * self.average
        for made in means(self.restored(seen, count, drawn(count), settings), n):
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


class Inpaint(Filling):
    """Fill what a mask marks.

    Args:
        model: of pixels.
        mask: a picture of the size of the one to fill; what is white in it is filled.
        context, strength, average, method: see `Filling`; a strength below 1 varies what is there.
    """

    def __init__(
        self,
        model: Any,
        *,
        mask: str,
        context: float = 2.0,
        strength: float = 1.0,
        average: int = 1,
        method: str = "ddrm",
    ) -> None:
        super().__init__(model, context=context, strength=strength, average=average, method=method)
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
            out += self.filled(picture, self.mask, n, partial(seeds, seed, k), settings)
        return out


class _Moved(Filling, ABC):
    """A picture laid on a canvas of which it leaves a part free, which is filled."""

    @abstractmethod
    def canvas(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Width and height of the canvas, and where the picture's left and top come to lie."""

    def __call__(
        self, objects: Sequence[Image.Image], n: int = 1, *, seed: int = 0, **settings: Any
    ) -> list[Image.Image]:
        """n pictures of the canvas's size for each."""
        out = []
        for k, image in enumerate(objects):
            picture = eight_bit(image, self.model.encoder.channels)
            wide, high, left, top = self.canvas(*picture.size)
            # Filled by the edge, so that resampling at the border brings in nothing foreign.
            rows = np.arange(high)[:, None] - top
            columns = np.arange(wide) - left
            values = np.asarray(picture)
            laid = values[rows.clip(0, picture.height - 1), columns.clip(0, picture.width - 1)]
            free = (rows < 0) | (rows >= picture.height) | (columns < 0)
            mask = free | (columns >= picture.width)
            out += self.filled(Image.fromarray(laid), mask, n, partial(seeds, seed, k), settings)
        return out


class Outpaint(_Moved):
    """Go on beyond the borders.

    Args:
        model: of pixels.
        factor: how many times as large the result is; the picture is in its middle.
        method: of posterior sampling.
    """

    def __init__(self, model: Any, *, factor: float = 1.5, method: str = "ddrm") -> None:
        super().__init__(model, context=1.0, method=method)
        if not 1 < factor <= 4:
            raise SuffuseError(f"factor is above 1 and at most 4, and {factor} is not")
        self.factor = factor

    def canvas(self, width: int, height: int) -> tuple[int, int, int, int]:
        wide, high = round(self.factor * width), round(self.factor * height)
        return wide, high, (wide - width) // 2, (high - height) // 2


class Pan(_Moved):
    """Turn the view: the picture moves, and what comes into view is made.

    Args:
        model: of pixels.
        right, down: how far the view goes, as a part of the picture's width and height; below 0 to
            the left and up.
        method: of posterior sampling.
    """

    def __init__(
        self, model: Any, *, right: float = 0.25, down: float = 0.0, method: str = "ddrm"
    ) -> None:
        super().__init__(model, method=method)
        if not (max(abs(right), abs(down)) < 1 and (right or down)):
            raise SuffuseError(
                f"right and down are between -1 and 1, not both 0; given {right} and {down}"
            )
        self.right, self.down = right, down

    def canvas(self, width: int, height: int) -> tuple[int, int, int, int]:
        return width, height, -round(self.right * width), -round(self.down * height)


class Zoom(Outpaint):
    """Step back: the picture shrinks, and what comes into view around it is made.

    Args:
        model: of pixels.
        factor: how many times as much is in view.
        method: of posterior sampling.
    """

    def __call__(
        self, objects: Sequence[Image.Image], n: int = 1, *, seed: int = 0, **settings: Any
    ) -> list[Image.Image]:
        """n pictures for each, of its size."""
        made = super().__call__(objects, n, seed=seed, **settings)
        sizes = [image.size for image in objects for _ in range(n)]
        return [
            large.resize(size, Image.Resampling.LANCZOS)
            for large, size in zip(made, sizes, strict=True)
        ]


class Tile(Filling):
    """Make a picture that repeats without a seam, sideways and up and down.

    The picture is turned by half of its sides, so that its borders meet in the middle; a cross
    there is made anew; and it is turned back. The model looks at both, the picture as it is and as
    it is turned (`suffuse.diffusion.windows` on a circle): it knows what the whole shows, and what
    goes over the seam.

    Args:
        model: of pixels.
        seam: the width of what is made anew, as a part of the shorter side.
        strength: how much of what is there is made anew, above 0; 1 forgets it.
        method: of posterior sampling.
    """

    def __init__(
        self, model: Any, *, seam: float = 0.25, strength: float = 0.6, method: str = "ddrm"
    ) -> None:
        super().__init__(model, context=1.0, strength=strength, method=method)
        if not 0 < seam < 1:
            raise SuffuseError(f"seam is between 0 and 1, and {seam} is not")
        self.seam = seam

    def __call__(
        self, objects: Sequence[Image.Image], n: int = 1, *, seed: int = 0, **settings: Any
    ) -> list[Image.Image]:
        """n pictures for each, of its size."""
        out = []
        for k, image in enumerate(objects):
            picture = np.asarray(eight_bit(image, self.model.encoder.channels))
            high, wide = picture.shape[:2]
            half = (high // 2, wide // 2)
            reach = max(1, round(self.seam * min(high, wide) / 2))
            mask = np.zeros((high, wide), dtype=bool)
            mask[half[0] - reach : half[0] + reach] = True
            mask[:, half[1] - reach : half[1] + reach] = True
            turned = Image.fromarray(np.roll(picture, half, (0, 1)))
            words = {**settings, "circular": True}
            for made in self.filled(turned, mask, n, partial(seeds, seed, k), words):
                back = np.roll(np.asarray(made), (-half[0], -half[1]), (0, 1))
                out.append(Image.fromarray(back))
        return out
