"""Pictures beside smaller copies of themselves, for models that make small pictures larger.

The copy is the mean of blocks, with normal noise of a deviation that is drawn for each picture
between 0 and `noise`, since what such a model is given later was often made by another model
(conditioning augmentation: Ho et al., "Cascaded diffusion models" (2021), arXiv 2106.15282).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from PIL import Image

from suffuse import plugins, stats
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Dataset, Example, Metric, Split

from .modes import eight_bit
from .pixels import crop_to
from .quality import ssim

__all__ = ["Detail", "Smaller"]


class Smaller:
    """One split of another data set, each picture with the condition "small".

    Args:
        split: "train" or "test".
        of: the data set, by name and options.
        path: of the pictures, for data sets in a folder.
        size: pictures are scaled and cropped to so many pixels a side.
        factor: how many times smaller the copy is; it divides the size.
        noise: the most noise in the copies of the training split, in levels of 255.

    Raises:
        SuffuseError: for a factor below 2 or that does not divide the size.

    >>> small = Smaller("test")[0].conditions["small"]
    >>> small.size
    (32, 32)
    """

    def __init__(
        self,
        split: Split = "train",
        of: dict[str, Any] | None = None,
        path: str = "",
        size: int = 64,
        factor: int = 2,
        noise: float = 8.0,
    ) -> None:
        if factor < 2 or size < factor or size % factor:
            raise SuffuseError(
                f"factor is 2 or more and divides the size; given {factor} and {size}"
            )
        asked = dict(of or {"name": "image/emoji", "size": size})
        if path:
            asked = {"name": "image/folder", **(of or {}), "path": path}
        self.inner = cast(Dataset, plugins.build("dataset", asked, split=split))
        self.size, self.factor = size, factor
        self.noise = noise if split == "train" else 0.0

    @property
    def licence(self) -> str:
        """That of the pictures."""
        return str(getattr(self.inner, "licence", ""))

    @property
    def source(self) -> str:
        """That of the pictures."""
        return str(getattr(self.inner, "source", ""))

    @property
    def conditions(self) -> Mapping[str, Condition]:
        """The picture "small" alone."""
        return {"small": Condition("state")}

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Example:
        image = crop_to(eight_bit(self.inner[index].data), (self.size, self.size))
        small = image.reduce(self.factor)
        if self.noise > 0:
            random = np.random.default_rng(index % len(self))
            pixels = np.asarray(small, dtype=np.float64)
            pixels += random.uniform(0, self.noise) * random.standard_normal(pixels.shape)
            small = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
        return Example(image, {"small": small})


class Detail:
    """How pictures that were made large agree with the small one, and with the true large one.

    The true one is that of the test split with the same small one; figures of it, beside those of
    Lanczos, are there where every sample has one.
    """

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """Errors in levels of 255 (root of the mean square) and SSIM, means over pictures."""
        small = [sample.conditions.get("small") for sample in samples]
        if not all(isinstance(each, Image.Image) for each in small):
            raise SuffuseError('what is judged are pictures with the condition "small"')
        made = [sample.data for sample in samples]
        reduced = [
            image.resize(s.size, Image.Resampling.BOX) for image, s in zip(made, small, strict=True)
        ]
        metrics = [_metric("Error of the small copy", _error, reduced, small, seed)]
        examples = (test[i] for i in range(len(test)))
        true = {example.conditions["small"].tobytes(): example.data for example in examples}
        wanted = [true.get(each.tobytes()) for each in small]
        if None not in wanted:
            lanczos = [
                s.resize(image.size, Image.Resampling.LANCZOS)
                for image, s in zip(made, small, strict=True)
            ]
            for name, figure in (("Error", _error), ("SSIM", ssim)):
                metrics.append(_metric(name, figure, made, wanted, seed))
                metrics.append(_metric(f"{name}, Lanczos", figure, lanczos, wanted, seed))
        return metrics


def _metric(
    name: str, figure: Callable[..., float], made: list[Any], wanted: list[Any], seed: int
) -> Metric:
    values = np.array([figure(a, b) for a, b in zip(made, wanted, strict=True)])
    found = stats.mean(values, seed=seed)
    if figure is _error:
        return Metric.of(name, found, "lower", len(values), unit="levels")
    return Metric.of(name, found, "higher", len(values))


def _error(made: Image.Image, true: Image.Image) -> float:
    a, b = (np.asarray(eight_bit(picture, 3), dtype=np.float64) for picture in (made, true))
    return float(np.sqrt(((a - b) ** 2).mean()))
