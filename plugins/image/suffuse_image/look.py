"""How evaluators look at pictures: all in one size, as standardised pixels, each split read once.

Real pictures are first brought to the size and channels of the made ones, in the way that the
model's encoder does, so that resampling is no difference between them; then all are shrunk to 32
pixels a side at most.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset, Example
from suffuse.stats import evenly

from .modes import eight_bit
from .pixels import Pixels, crop_to

__all__ = ["Look"]

LARGEST = 32
"""No more than this many pixels along a side are looked at."""

MOST = 10_000
"""At most so many pictures of a split, evenly spaced, are looked at."""

_BATCH = 256


@dataclass(frozen=True)
class Look:
    """Pictures as an encoder of the made pictures' size gives them, at most 32x32."""

    encoder: Pixels

    @classmethod
    def of(cls, samples: Sequence[Example], train: Dataset) -> Look:
        """The look at pictures of the first sample's size and channels.

        Raises:
            SuffuseError: if there are no samples or no training pictures.
        """
        if not samples:
            raise SuffuseError("there are no samples to evaluate")
        first = eight_bit(samples[0].data)
        kept = _kept(train)
        key = ("encoder", *first.size, first.mode)
        if key not in kept:
            kept[key] = Pixels([first.height, first.width], 1 if first.mode == "L" else 3)
            kept[key].fit(train)
        return cls(kept[key])

    def __call__(self, images: Iterable[Image.Image]) -> Tensor:
        """Standardised pixels, float32, [N, C, H, W] with H and W at most 32."""
        channels, height, width = self.encoder.shape
        scale = min(1.0, LARGEST / max(height, width))
        small = (max(1, round(height * scale)), max(1, round(width * scale)))
        parts = [torch.empty(0, channels, *small)]
        for batch in _batches(images):
            x = self.encoder.encode(batch)
            if scale < 1:
                x = functional.interpolate(x, small, mode="bilinear", antialias=True)
            parts.append(x)
        return torch.cat(parts)

    def again(self, image: Image.Image) -> Image.Image:
        """A picture in the size and channels of the made ones."""
        _, height, width = self.encoder.shape
        return crop_to(eight_bit(image, self.encoder.channels), (height, width))

    def embedded(
        self, dataset: Dataset, name: str, embed: Callable[[Sequence[Image.Image]], Tensor]
    ) -> Tensor:
        """The vectors [N, D] of a split's pictures, by the encoder of that name or path.

        They are made once per process, as long as the data set lives.
        """
        key = ("embedded", name, *self.encoder.shape)
        kept = _kept(dataset)
        if key not in kept:
            kept[key] = embed([self.again(dataset[i].data) for i in range(len(dataset))])
        found: Tensor = kept[key]
        return found

    def split(self, dataset: Dataset) -> tuple[Tensor, tuple[Any, ...]]:
        """Pictures and labels of a split: all, or 10,000 of them evenly spaced.

        They are read once per process, as long as the data set lives.

        Returns:
            What `__call__` makes of the pictures, and the raw label of each, None without one.

        Raises:
            SuffuseError: if the split is empty.
        """
        if not len(dataset):
            raise SuffuseError("a split of the data set is empty: there is nothing to compare with")
        key = ("split", *self.encoder.shape, *(self.encoder.mean or ()), *(self.encoder.std or ()))
        kept = _kept(dataset)
        if key not in kept:
            labels: list[Any] = []

            def pictures() -> Iterator[Image.Image]:
                for index in evenly(len(dataset), MOST):
                    example = dataset[index]
                    labels.append(example.conditions.get("label"))
                    yield example.data

            kept[key] = (self(pictures()), tuple(labels))
        found: tuple[Tensor, tuple[Any, ...]] = kept[key]
        return found


_datasets: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()


def _kept(dataset: Dataset) -> dict[Any, Any]:
    """Where to keep what was computed for a data set, for as long as the data set lives."""
    try:
        return _datasets.setdefault(dataset, {})
    except TypeError:  # a list, or another thing without weak references or a hash
        return {}


def _batches(images: Iterable[Image.Image]) -> Iterator[list[Image.Image]]:
    batch = []
    for image in images:
        batch.append(image)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
