"""A small network that tells the labels of a data set apart, trained when it is first wanted.

It judges whether made pictures show what they were made for, and its inner activations are
features to compare pictures by. Training takes seconds, is repeatable (random numbers of its own,
one thread, on the CPU) and happens once per process and data set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset
from suffuse.stats import trained_classifier

from .look import Look

__all__ = ["Classifier", "label_indices", "label_names", "threads_for"]

_STEPS, _BATCH = 600, 128
_WIDTH, _EMBEDDING, _COMPONENTS = 16, 128, 32


class Classifier:
    """Version 1. Changing anything that changes its answers makes another version.

    Attributes:
        names: the labels in the order of the logits.
        n_train: how many labelled pictures it was trained on.
    """

    def __init__(self, look: Look, train: Dataset) -> None:
        self.names = label_names(train)
        x, y = _labelled(look, train, self.names)
        if not len(y):
            raise SuffuseError("the training split holds no labelled pictures for a classifier")
        self.n_train = len(y)
        shape, classes = x.shape[1:], len(self.names)
        with threads_for(x[:_BATCH]):
            self._network = trained_classifier(
                lambda: _network(shape[0], shape[1:], classes),
                *(x, y, _jittered),
                steps=_STEPS,
                batch=_BATCH,
            )
        embedded = self._activations(x).double()
        self._mean = embedded.mean(0)
        _, scales, axes = torch.linalg.svd(embedded - self._mean, full_matrices=False)
        kept = int((scales > 1e-3 * scales[0]).sum().clamp(1, _COMPONENTS))
        self._axes = axes[:kept].T * (max(1, len(x) - 1) ** 0.5 / scales[:kept])

    @classmethod
    def trained(cls, look: Look, train: Dataset) -> Classifier:
        """The classifier of this data set and size; trained once per process."""
        names = label_names(train)
        x, y = _labelled(look, train, names)
        digest = hashlib.sha256(repr(names).encode() + x.numpy().tobytes() + y.numpy().tobytes())
        key = digest.hexdigest()
        if key not in _classifiers:
            _classifiers[key] = cls(look, train)
        return _classifiers[key]

    def right(self, look: Look, test: Dataset) -> Tensor:
        """Whether it recognises each labelled picture of a split, bool [N].

        Raises:
            SuffuseError: if the split holds none.
        """
        x, y = _labelled(look, test, self.names)
        if not len(y):
            raise SuffuseError("the test split holds no labelled pictures to try a classifier on")
        return self.recognise(x).eq(y)

    def describe(self, right: Tensor) -> str:
        """What it is, in words for a note, with the share of held-out pictures that it knows."""
        return (
            f"a network trained on {self.n_train} real pictures, which recognises "
            f"{100 * right.float().mean():.1f} % of {len(right)} held-out ones"
        )

    @torch.no_grad()
    def recognise(self, x: Tensor) -> Tensor:
        """The index of the label of each picture, int64 [N], from what a `Look` gives."""
        return torch.cat([self._network(part).argmax(1) for part in _parts(x)])

    def embed(self, x: Tensor) -> Tensor:
        """Whitened principal components of the penultimate activations: [N, 32] float32.

        Fewer where the training pictures span fewer.
        """
        white: Tensor = (self._activations(x).double() - self._mean) @ self._axes
        return white.float()

    @torch.no_grad()
    def _activations(self, x: Tensor) -> Tensor:
        return torch.cat([self._network[:-2](part) for part in _parts(x)])


_classifiers: dict[str, Classifier] = {}


def label_names(dataset: Dataset) -> tuple[str, ...]:
    """The labels of a data set.

    Raises:
        SuffuseError: if there are fewer than two.
    """
    condition = dataset.conditions.get("label")
    if condition is None or condition.kind != "category" or len(condition.names) < 2:
        raise SuffuseError(
            "the pictures are not of two labels or more, so no classifier can be trained on them: "
            "use the features 'pixels' (in a recipe: features = \"pixels\")"
        )
    return condition.names


def label_indices(values: Iterable[Any], names: Sequence[str]) -> Tensor:
    """The index of each label among `names`, int64, -1 where it is none of them.

    A number means the name that is written like it, or, where no name is a whole number, an index:
    as in `suffuse.nn.Label`.
    """
    by_name = {name: index for index, name in enumerate(names)}
    numbered = any(name.removeprefix("-").isdigit() for name in names)

    def index(value: Any) -> int:
        if value is not None and str(value) in by_name:
            return by_name[str(value)]
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        return int(value) if whole and not numbered and 0 <= value < len(names) else -1

    return torch.tensor([index(value) for value in values], dtype=torch.int64)


@contextmanager
def threads_for(x: Tensor) -> Iterator[None]:
    """One thread where there are few rows: small operations gain nothing from more.

    Where other work has the cores meanwhile, they lose tenfold, since threads wait for each other.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if len(x) <= 2000 else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _labelled(look: Look, dataset: Dataset, names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    x, values = look.split(dataset)
    labels = label_indices(values, names)
    return x[labels >= 0], labels[labels >= 0]


def _network(channels: int, size: Sequence[int], classes: int) -> nn.Sequential:
    def block(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        return [convolution, nn.GroupNorm(8, outputs), nn.SiLU()]

    layers = block(channels, _WIDTH)
    side = max(size)
    while side > 8:  # large pictures are brought to 8 pixels a side at once: it is cheap
        layers += block(_WIDTH, _WIDTH, 2)
        side = -(-side // 2)
    layers += [*block(_WIDTH, _WIDTH), nn.MaxPool2d(2, ceil_mode=True)]
    layers += [*block(_WIDTH, 2 * _WIDTH), *block(2 * _WIDTH, 2 * _WIDTH)]
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2)]
    layers += [nn.Linear(2 * _WIDTH * 4, _EMBEDDING), nn.SiLU()]
    return nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(_EMBEDDING, classes))


def _jittered(x: Tensor, generator: torch.Generator) -> Tensor:
    """Turned and slanted by up to 0.2 rad, scaled by up to 10 %, shifted by up to an eighth."""
    angle, slant, scale, *shift = 2 * torch.rand(5, len(x), generator=generator) - 1
    angle, slant, scale = 0.2 * angle, 0.2 * slant, 1 + 0.1 * scale
    top = torch.stack([scale * angle.cos(), slant - scale * angle.sin(), 0.25 * shift[0]], 1)
    bottom = torch.stack([scale * angle.sin(), scale * angle.cos(), 0.25 * shift[1]], 1)
    grid = functional.affine_grid(torch.stack([top, bottom], 1), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _parts(x: Tensor, size: int = 512) -> Iterator[Tensor]:
    return (x[start : start + size] for start in range(0, max(len(x), 1), size))
