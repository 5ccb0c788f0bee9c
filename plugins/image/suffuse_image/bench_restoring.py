"""Restoring: damages to held-out pictures undone, by every method of the core and the usual ways.

The usual ways are filters: "filter" is the first of `FILTERS`, which needs nothing else; others ask
for OpenCV (`pip install 'suffuse-image[bench]'`) and are left out without it.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image, ImageFilter

from suffuse.bench import Context, Result
from suffuse.diffusion import operators
from suffuse.diffusion.posterior import Observation
from suffuse.plugins.contracts import Example, Metric

from . import edits, quality, restoring
from .bench_shared import CODE, data, mean, shipped
from .edits import OPTIONS, STEPS

__all__ = ["DAMAGES", "FILTERS", "Restoring", "noisy", "ways"]

METHODS = ("ddrm", "diffpir", "mmps", "pigdm", "replacement", "dps")
"""Of the core, that restore any of the damages."""

MOST_PSNR = 60.0
"""In dB: a picture that came back to the bit counts as one that errs by its rounding."""

AVERAGED = 4
"""Draws, of which "ddrm mean" is the mean."""


@dataclass(frozen=True)
class Restoring:
    """A damage to held-out pictures, undone: by a method with the model, or by a filter.

    Attributes:
        damage: of `DAMAGES`.
        way: of `ways`.
    """

    task: str
    model: str
    seed: int
    damage: str
    way: str
    n: int = 48
    split: str = "test"
    measures: ClassVar[Sequence[str]] = CODE

    def run(self, context: Context) -> Result:
        """PSNR, SSIM and the distance on features; network calls and time of a picture."""
        test = data(context, self.split)
        rows = np.random.default_rng(self.seed).permutation(len(test))[: self.n]
        examples = [test[int(i)] for i in rows]
        true = [example.data for example in examples]
        random = np.random.default_rng(self.seed)
        spoilt = [DAMAGES[self.damage](image, random) for image in true]
        begin, calls = time.process_time(), 0
        if self.way in FILTERS[self.damage]:
            made = [FILTERS[self.damage][self.way](image) for image in spoilt]
        else:
            made, calls = self._by_model(shipped(context), spoilt, examples)
        seconds = (time.process_time() - begin) / self.n
        pairs = list(zip(made, true, strict=True))
        return Result(
            [
                mean(
                    "PSNR",
                    [min(MOST_PSNR, quality.psnr(*pair)) for pair in pairs],
                    "higher",
                    "dB",
                ),
                mean("SSIM", [quality.ssim(*pair) for pair in pairs], "higher"),
                mean("distance (dual/1)", list(quality.feature_distance(made, true)), "lower"),
                mean("LPIPS-like (dual/1)", list(quality.perceptual_distance(made, true)), "lower"),
                Metric("network calls", calls, calls, calls, "lower", self.n),
                Metric("processor time", seconds, seconds, seconds, "lower", self.n, unit="s"),
            ]
        )

    def _by_model(
        self, model: Any, spoilt: Sequence[Image.Image], examples: Sequence[Example]
    ) -> tuple[list[Image.Image], int]:
        """The pictures, and passes through the network for each, backward ones too.

        All pictures at once, which edits take one by one.
        """
        method, _, average = self.way.partition(" ")
        passes = {"mmps": 7, "pigdm": 2, "dps": 2, "repaint": 10}.get(method, 1)
        words: dict[str, Any] = {
            name: [example.conditions[name] for example in examples] for name in model.conditions
        }
        if self.damage == "inpaint":
            known = torch.from_numpy(np.array(_hole()) == 0)
            seen = Observation(operators.mask(known), model.encode(spoilt))
        else:
            kind, own = EDITS[self.damage]
            edit = kind(model, **own, method=method)
            if method == "mean":
                told = [{name: values[i] for name, values in words.items()}
                        for i in range(len(spoilt))]  # fmt: skip
                return [edit([p], **w)[0] for p, w in zip(spoilt, told, strict=True)], 1
            each = [edit.observe(image) for image in spoilt]
            seen = Observation(each[0].operator, torch.cat([o.y for o in each]), each[0].noise)
        draws = [
            model.restore(
                seen,
                method=method,
                options=OPTIONS.get(method),
                solver="ddpm" if method == "repaint" else None,
                steps=STEPS,
                seed=edits.seeds(self.seed + draw, 0, len(spoilt)),
                **words,
            )
            for draw in range(AVERAGED if average else 1)
        ]
        made = [edits.means(pictures, 1)[0] for pictures in zip(*draws, strict=True)]
        return made, STEPS * passes * len(draws)


def ways(damage: str) -> list[str]:
    """What undoes a damage here: filters, methods of the core, and the mean of draws."""
    filters = [name for name in FILTERS[damage] if name not in OPENCV or find_spec("cv2")]
    if damage == "jpeg 20":
        return [*filters, "diffpir", "mmps", "diffpir mean"]
    more = {"inpaint": ["repaint", "ddrm mean"], "noise 25": ["mean", "ddrm mean"]}
    return [*filters, *METHODS, *more.get(damage, ["ddrm mean"])]


# Damages


def _hole() -> Image.Image:
    """A quarter of the picture, in its middle."""
    mask = Image.new("L", (32, 32), 0)
    mask.paste(255, (8, 8, 24, 24))
    return mask


def _holed(image: Image.Image, random: Any) -> Image.Image:
    out = image.copy()
    out.paste((0, 0, 0), (8, 8, 24, 24))
    return out


def noisy(image: Image.Image, random: Any, deviation: float) -> Image.Image:
    """The picture with normal noise of a deviation in levels."""
    noise = random.normal(0, deviation, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).round().clip(0, 255).astype(np.uint8))


def _blurred(image: Image.Image, random: Any) -> Image.Image:
    return noisy(image.filter(ImageFilter.GaussianBlur(1.5)), random, 2.0)


def _jpeg(image: Image.Image, random: Any) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=20)
    return Image.open(file).convert("RGB")


DAMAGES: dict[str, Callable[[Image.Image, Any], Image.Image]] = {
    "inpaint": _holed,
    "x4": lambda image, random: image.resize((8, 8), Image.Resampling.BOX),
    "noise 25": lambda image, random: noisy(image, random, 25.0),
    "blur 1.5": _blurred,
    "jpeg 20": _jpeg,
}
EDITS: dict[str, tuple[Any, dict[str, Any]]] = {
    "x4": (restoring.Upscale, {"factor": 4}),
    "noise 25": (restoring.Denoise, {"noise": 25.0}),
    "blur 1.5": (restoring.Deblur, {"blur": 1.5, "noise": 2.0}),
    "jpeg 20": (restoring.Dejpeg, {"quality": 20}),
}

# Filters


def _filled(image: Image.Image) -> Image.Image:
    """The hole filled from its border inwards, by the mean of the neighbours that are known."""
    p = np.asarray(image, dtype=np.float64).copy()
    known = np.asarray(_hole()) == 0
    while not known.all():
        total, count = np.zeros_like(p), np.zeros(known.shape)
        for shift in (-1, 1):
            for axis in (0, 1):
                near = np.roll(known, shift, axis)
                total += np.roll(p, shift, axis) * near[..., None]
                count += near
        fresh = ~known & (count > 0)
        p[fresh] = total[fresh] / count[fresh][:, None]
        known = known | fresh
    return Image.fromarray(p.round().astype(np.uint8))


def _telea(image: Image.Image) -> Image.Image:
    import cv2  # type: ignore[import-not-found,unused-ignore]

    found = cv2.inpaint(np.asarray(image), np.asarray(_hole()), 3, cv2.INPAINT_TELEA)
    return Image.fromarray(found)


def _non_local(image: Image.Image) -> Image.Image:
    """The strength, of 5 to 30, and the windows that were best on 48 training pictures."""
    import cv2

    return Image.fromarray(cv2.fastNlMeansDenoisingColored(np.asarray(image), None, 10, 10, 3, 15))


OPENCV = frozenset({"telea", "non-local means"})
FILTERS: dict[str, dict[str, Callable[[Image.Image], Image.Image]]] = {
    "inpaint": {"filter": _filled, "telea": _telea},
    "x4": {
        "filter": lambda image: image.resize((32, 32), Image.Resampling.BICUBIC),
        "lanczos": lambda image: image.resize((32, 32), Image.Resampling.LANCZOS),
    },
    "noise 25": {"filter": quality.median, "non-local means": _non_local},
    "blur 1.5": {"filter": lambda image: quality.wiener(image, 1.5)},
    "jpeg 20": {"filter": lambda image: image},
}
