"""Edits of pictures by a model of pictures: what all share, and those that change a whole picture.

Each edit is made for a model, with options, and is called with pictures:

    Inpaint(model, mask="mask.png")([photo], n=4, seed=0, prompt="a hat") -> 4 pictures

Keywords beside n and seed go to the model: steps, solver, guidance, and its conditions. A model
works at one size: see `filling` and `restoring` for what becomes of the picture's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from suffuse.diffusion.inversion import invert
from suffuse.diffusion.posterior import Observation
from suffuse.errors import SuffuseError

from .modes import eight_bit
from .pixels import Pixels, crop_to

__all__ = ["STEPS", "Blend", "Edit", "Rephrase", "Vary", "draws", "means", "seeds"]

STEPS = 32
"""Network calls of posterior sampling, unless told otherwise."""

OPTIONS: Mapping[str, Mapping[str, Any]] = {"ddrm": {"eta": 1.0}}
"""Of methods, where others than the published ones measured better on training pictures: all of the
noise afresh in every step, in what is filled (by 0.7 dB) and in what is enlarged (by 0.6 dB)."""


class Edit:
    """What edits share: the model, its encoder and the method of posterior sampling."""

    shown: ClassVar[bool] = False
    """Whether a model that makes one picture of another is given that other one by the edit."""

    def __init__(self, model: Any, method: str = "ddrm") -> None:
        if not isinstance(model.encoder, Pixels):
            raise SuffuseError(
                "pictures are edited by models of pixels, and this one has the encoder "
                f"{model.recipe.encoder['name']!r}"
            )
        pictures = [name for name, about in model.conditions.items() if about.kind == "state"]
        if pictures and not self.shown:
            raise SuffuseError(
                f"this model makes a picture of another one, {pictures[0]!r}, which this edit does "
                "not give it; `suffuse edit upscale` does"
            )
        self.model, self.method = model, method
        self.size: tuple[int, int] = model.encoder.size

    def fit(self, image: Image.Image) -> Image.Image:
        """The picture in the model's channels and size."""
        return crop_to(eight_bit(image, self.model.encoder.channels), self.size)

    def restored(
        self, seen: Observation, n: int, seeds: list[int], settings: dict[str, Any]
    ) -> list[Image.Image]:
        """n pictures for one observation."""
        found: list[Image.Image] = self.model.restore(
            seen,
            n=n,
            method=self.method,
            options=OPTIONS.get(self.method),
            seed=seeds,
            **{"steps": STEPS, **settings},
        )
        return found

    def std(self) -> Tensor:
        """Of the state's channels, [C, 1, 1]."""
        return torch.tensor(self.model.encoder.std)[:, None, None]

    def mean(self) -> Tensor:
        """Of the state's channels, [C, 1, 1]."""
        return torch.tensor(self.model.encoder.mean)[:, None, None]


class Vary(Edit):
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
            drawn = seeds(seed, k, n)
            out += self.model.vary([image] * n, self.strength, seed=drawn, **settings)
        return out


class Blend(Edit):
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


class Rephrase(Edit):
    """Change what the words say, and keep the rest: a red car that was blue.

    The picture is walked back to the noise that the model makes it of under the words that describe
    it, `source`; from there it is made anew, led from those words to the new ones:
    d(source) + guidance · (d(prompt) − d(source)), Ho, Salimans (2022), arXiv 2207.12598. With the
    same words the picture comes back.

    Args:
        model: of pixels, with a prompt.
        source: the prompt of the picture as it is.
        strength: from 0 to 1: how far it is walked back.
        rounds: network calls for each step back; more make the way exact.
    """

    def __init__(self, model: Any, *, source: str, strength: float = 0.8, rounds: int = 4) -> None:
        super().__init__(model)
        words = [name for name, about in model.conditions.items() if about.kind == "text"]
        if len(words) != 1:
            raise SuffuseError(
                f"words are replaced by a model with one condition of text; this one has "
                f"{len(words)}"
            )
        if not 0 < strength <= 1:
            raise SuffuseError(f"strength is above 0 and at most 1, and {strength} is not")
        self.words, self.source = words[0], source
        self.strength, self.rounds = strength, rounds

    def __call__(
        self, objects: Sequence[Image.Image], n: int = 1, *, seed: int = 0, **settings: Any
    ) -> list[Image.Image]:
        """One picture for each, of the model's size; nothing is drawn, so that n is 1."""
        if n != 1:
            raise SuffuseError("replacing words draws nothing: there is one result, and not more")
        if self.words not in settings:
            raise SuffuseError(f"--{self.words} says what the picture is to become")
        if settings.pop("solver", "ddim") != "ddim":
            raise SuffuseError("words are replaced by the solver ddim, whose steps are walked back")
        model, count = self.model, len(objects)
        steps = settings.pop("steps", None) or max(24, model.recipe.sampling.steps)
        guidance = settings.pop("guidance", 1.5)
        how = {"solver": "ddim", "steps": steps, "begin": self.strength}
        others = {k: v for k, v in settings.items() if k in model.conditions and k != self.words}
        told = model.prepare({self.words: [self.source] * count, **_repeated(others, count)}, count)
        with torch.inference_mode():
            x = invert(
                model.denoiser(1.0),
                model.plan(**how),
                model.encode(objects),
                iterations=self.rounds,
                **told,
            )
        null = {self.words: self.source, **others}
        found: list[Image.Image] = model.sample(
            count, seed=seed, x=x, guidance=guidance, null=null, **how, **settings
        )
        return found


def _repeated(values: Mapping[str, Any], n: int) -> dict[str, list[Any]]:
    return {name: [value] * n for name, value in values.items()}


def seeds(seed: int, picture: int, n: int) -> list[int]:
    """A seed for each of the n results of a picture; results of different pictures differ."""
    return [(seed * 1_000_003 + picture * 1009 + i) % 2**63 for i in range(n)]


def draws(average: int) -> int:
    """How many draws a result is the mean of; raises where that is none."""
    if average < 1:
        raise SuffuseError(f"average is 1 draw or more, and not {average}")
    return average


def means(pictures: Sequence[Image.Image], n: int) -> list[Image.Image]:
    """n means of pictures of one size, each of every n-th of them."""
    if len(pictures) == n:
        return list(pictures)
    groups = [np.stack([np.asarray(p, dtype=np.float64) for p in pictures[i::n]]) for i in range(n)]
    return [Image.fromarray(group.mean(0).round().astype(np.uint8)) for group in groups]
