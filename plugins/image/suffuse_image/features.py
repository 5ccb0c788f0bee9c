"""What pictures are compared by: named features, whose figures compare only with the same name.

A feature is made for one data set and one size of picture, since both belong to its meaning:

* ``pixels/1``: the pixels, standardised per channel, at most 32x32.
* ``classifier/1``: the penultimate activations of a small convolutional network that was trained to
  tell the labels of the training split apart: their first 32 principal components over that split,
  each brought to variance 1. (Without that the few directions that hold the labels drown the rest,
  and a tenth of pure noise among good pictures goes unnoticed by KID.)
* ``dual/1``: the vectors of the encoder that ships (`suffuse_image.dual`).
* A folder with a vision model of Hugging Face's transformers, for instance DINOv2 or CLIP, whose
  name these figures bear: see `local`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from suffuse.errors import unknown
from suffuse.plugins.contracts import Dataset, Example

from .classifier import Classifier
from .dual import NAME, pretrained
from .local import LocalVision
from .look import Look

__all__ = ["NAMES", "Features", "features"]

NAMES = ("pixels", "classifier", "dual")


@dataclass(frozen=True)
class Features:
    """A named map from pictures to vectors.

    Attributes:
        name: name and version, for instance "classifier/1".
        origin: where it comes from, in words that go on "measured on ...".
        train, test: features of the two splits of the data set, [N, D] float32, in order.
        embed: features of pictures, [N, D], float32.
    """

    name: str
    origin: str
    train: Tensor
    test: Tensor
    embed: Callable[[Sequence[Image.Image]], Tensor]

    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        """Features of shape [N, D], float32."""
        return self.embed(images)


def features(name: str, samples: Sequence[Example], *, test: Dataset, train: Dataset) -> Features:
    """The features of that name for a data set and for pictures of the samples' size.

    Raises:
        SuffuseError: for an unknown name, no samples, an empty split, "classifier" without labels,
            or a folder without a vision model.
    """
    look = Look.of(samples, train)
    if name == "pixels":
        train_x, test_x = (look.split(split)[0].flatten(1) for split in (train, test))
        return Features(
            "pixels/1", "standardised pixels", train_x, test_x, lambda p: look(p).flatten(1)
        )
    if name == "classifier":
        judge = Classifier.trained(look, train)
        origin = f"the activations of {judge.describe(judge.right(look, test))}"
        train_x, test_x = (judge.embed(look.split(split)[0]) for split in (train, test))
        return Features("classifier/1", origin, train_x, test_x, lambda p: judge.embed(look(p)))
    if name == "dual":
        embed: Callable[[Sequence[Image.Image]], Tensor] = pretrained().pictures
        told, origin = NAME, "the vectors of the encoder that ships"
    elif Path(name).is_dir():
        vision = LocalVision(name)
        embed, told, origin = vision, vision.name, f"the vectors of the model in {name}"
    else:
        raise unknown("feature (or folder with a vision model)", name, NAMES)
    train_x, test_x = (look.embedded(split, name, embed) for split in (train, test))
    return Features(told, origin, train_x, test_x, embed)
