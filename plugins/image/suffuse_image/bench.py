"""The suite of benchmarks: prompts, restoring, samplers, finding, speed.

All but composition is of the emoji that ship, by the model that ships, on pairs of concept and
style that it was not trained on unless said otherwise; nothing needs files from elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from suffuse.bench import Case, Context, Result
from suffuse.plugins.contracts import Example, Metric

from .alignment import Alignment, StyleAccuracy
from .bench_budget import BUDGETS, Budget, samplers
from .bench_inner import ATTRIBUTES, Slider
from .bench_restoring import DAMAGES, Restoring, noisy, ways
from .bench_scenes import SCENES_MODEL, Composing
from .bench_shared import CODE, MODEL, PLAIN, data, mean, share, shipped
from .emoji import Emoji
from .emoji.variants import COLOURS, hue, named
from .modes import eight_bit
from .nearest import nearest

__all__ = ["image", "quick"]

QUANTILES = (0.6, 0.7, 0.8)


@dataclass(frozen=True)
class Prompts:
    """Whether samples show their prompt, in the style asked for."""

    task: str
    model: str
    seed: int
    split: str
    guidance: float
    n: int = 140
    measures: ClassVar[Sequence[str]] = CODE

    def run(self, context: Context) -> Result:
        """The own prompt picked among 100, and the style recognised; beside real pictures."""
        test, train = data(context, "test"), data(context, "train")
        source = test if self.split == "test" else train
        rows = np.random.default_rng(self.seed).permutation(len(source))[: self.n]
        asked = [source[int(i)].conditions for i in rows]
        words: dict[str, Any] = {k: [c[k] for c in asked] for k in ("prompt", "style")}
        made = shipped(context).sample(len(rows), seed=self.seed, guidance=self.guidance, **words)
        samples = [Example(m, c) for m, c in zip(made, asked, strict=True)]
        metrics: list[Metric] = []
        for judge in (Alignment(), StyleAccuracy()):
            metrics += judge.evaluate(samples, test=test, train=train, seed=self.seed)
        return Result(metrics)


@dataclass(frozen=True)
class Wishes:
    """How blue a heart is whose prompt asks for blue by a weight, or keeps away from it."""

    task: str
    model: str
    seed: int
    weight: float
    negative: bool = False
    n: int = 28
    measures: ClassVar[Sequence[str]] = CODE

    def run(self, context: Context) -> Result:
        """The share of blue pixels among coloured ones."""
        from .emoji import STYLES

        styles = [s for s in STYLES if s != PLAIN]
        words: dict[str, Any] = {"prompt": f"heart (blue:{self.weight})", "style": styles}
        if self.negative:
            words |= {"prompt": "heart", "negative": {"prompt": "blue"}}
        made = shipped(context).sample(self.n, seed=self.seed, guidance=2.0, **words)
        shares = []
        for picture in made:
            p = np.asarray(picture, dtype=int)
            coloured = np.ptp(p, axis=2) > 60
            blue = coloured & (p.argmax(2) == 2)
            shares.append(100 * blue.sum() / max(1, coloured.sum()))
        return Result([mean("blue pixels", shares, "higher", "%")])


@dataclass(frozen=True)
class Banned:
    """How red things are that are red by nature, with and without "red" as a negative prompt."""

    task: str
    model: str
    seed: int
    negative: str | None
    n: int = 36
    measures: ClassVar[Sequence[str]] = CODE
    THINGS: ClassVar[Sequence[str]] = (
        "strawberry",
        "tomato",
        "rose",
        "cherries",
        "rooster",
        "fire",
    )

    def run(self, context: Context) -> Result:
        """The share of red pixels among coloured ones."""
        from .emoji import STYLES

        styles = [s for s in STYLES if s != PLAIN]
        made = shipped(context).sample(
            self.n,
            seed=self.seed,
            prompt=[self.THINGS[i // len(styles) % len(self.THINGS)] for i in range(self.n)],
            style=styles,
            negative={"prompt": self.negative},
        )
        return Result([mean("red pixels", [100 * _red(picture) for picture in made], "lower", "%")])


def _red(picture: Image.Image) -> float:
    """The share of red among the coloured pixels."""
    coloured = np.ptp(np.asarray(picture, dtype=int), axis=2) > 60
    hue = np.asarray(picture.convert("HSV"))[..., 0]
    return float((coloured & ((hue < 14) | (hue > 235))).sum() / max(1, coloured.sum()))


@dataclass(frozen=True)
class Coloured:
    """Whether a thing whose prompt names a colour has it, as the template "a blue fox" asks."""

    task: str
    model: str
    seed: int
    guidance: float
    n: int = 240
    measures: ClassVar[Sequence[str]] = CODE

    def run(self, context: Context) -> Result:
        """How often the most frequent hue is nearest to the colour's, all in all and by colour."""
        test = data(context, "test")
        pairs = [test[i] for i in range(len(test)) if test[i].conditions["style"] != PLAIN]
        pairs = [e for e in pairs if not set(COLOURS) & set(e.conditions["prompt"].split())]
        names = [list(COLOURS)[i % len(COLOURS)] for i in range(self.n)]
        chosen = [pairs[(i // len(COLOURS)) % len(pairs)].conditions for i in range(self.n)]
        prompts = [f"a {c} {e['prompt']}" for c, e in zip(names, chosen, strict=True)]
        styles = [e["style"] for e in chosen]
        made = shipped(context).sample(
            self.n, seed=self.seed, guidance=self.guidance, prompt=prompts, style=styles
        )
        found = [None if (h := hue(picture)) is None else named(h) for picture in made]
        hits = sum(a == b for a, b in zip(found, names, strict=True))
        metrics = [share("in its colour", hits, self.n)]
        for name in COLOURS:
            own = [a for a, b in zip(found, names, strict=True) if b == name]
            metrics.append(share(f"in {name}", own.count(name), len(own)))
        return Result(metrics)


@dataclass(frozen=True)
class Finding:
    """Pictures changed, and searched for among 1,000."""

    task: str
    model: str
    seed: int
    change: str
    n: int = 300
    measures: ClassVar[Sequence[str]] = ("suffuse_image",)

    def run(self, context: Context) -> Result:
        """How often the original comes first."""
        from .search import Index

        folder = context.once("thousand", TemporaryDirectory)
        dataset = Emoji("train", concepts="all")
        rows = np.random.default_rng(0).permutation(len(dataset))[:1000]
        pictures = {}
        for row in rows.tolist():
            style = dataset[row].conditions["style"]
            large = dataset[row].data.resize((96, 96), Image.Resampling.BICUBIC)
            pictures[f"{dataset.concept(row)}-{style}.png"] = large

        def made() -> Index:
            for name, picture in pictures.items():
                picture.save(f"{folder.name}/{name}")
            return Index(folder.name)

        index = context.once("index", made)
        random = np.random.default_rng(self.seed)
        hits = sum(
            index.by_image(_CHANGES[self.change](pictures[name], random), 1)[0].name == name
            for name in index.names[: self.n]
        )
        return Result([share("first", hits, min(self.n, len(index.names)))])


def _crop(image: Image.Image, random: Any) -> Image.Image:
    side = round(image.width * 0.5**0.5)
    left, top = random.integers(0, image.width - side + 1, 2)
    return image.crop((left, top, left + side, top + side))


def _recoloured(image: Image.Image, random: Any) -> Image.Image:
    h = np.array(eight_bit(image, 3).convert("HSV"))
    h[..., 0] += np.uint8(random.integers(-20, 21) % 256)
    return Image.fromarray(h, "HSV").convert("RGB")


_CHANGES: dict[str, Callable[[Image.Image, Any], Image.Image]] = {
    "half of the area": _crop,
    "noise 20": lambda image, random: noisy(image, random, 20.0),
    "hue turned": _recoloured,
}


@dataclass(frozen=True)
class Asking:
    """The time of one question to 100,000 vectors."""

    task: str
    model: str
    seed: int
    n: int = 100_000
    measures: ClassVar[Sequence[str]] = ("suffuse_image.nearest",)

    def run(self, context: Context) -> Result:
        """Milliseconds."""
        vectors = torch.nn.functional.normalize(torch.randn(self.n, 128), dim=1)
        table = vectors.half()
        times = []
        for i in range(20):
            begin = time.perf_counter()
            nearest(table, vectors[i], 10)
            times.append(1000 * (time.perf_counter() - begin))
        return Result([mean("answered in", times[2:], "lower", "ms")])


@dataclass(frozen=True)
class Speed:
    """Seconds a picture, and what the network alone takes of them."""

    task: str
    model: str
    seed: int
    batch: int
    measures: ClassVar[Sequence[str]] = CODE

    def run(self, context: Context) -> Result:
        """Processor seconds with the recipe's sampler, and of as many calls of the network."""
        model = shipped(context)
        steps, guided = model.recipe.sampling.steps, model.recipe.sampling.guidance != 1
        rows = self.batch * (2 if guided else 1)
        x, level = torch.randn(rows, *model.shape), torch.zeros(rows)
        words = model.prepare({"prompt": ["fox"] * rows}, rows)
        totals, alone = [], []
        with torch.inference_mode():
            for i in range(4):
                begin = time.process_time()
                model.sample(self.batch, seed=i, batch=self.batch, prompt="fox")
                totals.append((time.process_time() - begin) / self.batch)
                begin = time.process_time()
                for _ in range(steps):
                    model.network(x, level, **words)
                alone.append((time.process_time() - begin) / self.batch)
        return Result(
            [
                mean("seconds a picture", totals[1:], "lower", "s"),
                mean("of which the network", alone[1:], "lower", "s"),
            ]
        )


def image(seeds: int = 1) -> Iterator[Case]:
    """The numbers of images.

    Args:
        seeds: how many times samples are drawn.
    """
    for seed in range(seeds):
        for split in ("train", "test"):
            for guidance in (1.0, 1.5, 3.0):
                yield Prompts(f"prompts/{split}", f"guidance {guidance:g}", seed, split, guidance)
        for split in ("train", "test"):
            for guidance in (1.0, 2.5):
                row = f"{SCENES_MODEL}, guidance {guidance:g}"
                yield Composing(f"composition/{split}", row, seed, split, guidance)
        for weight in (-1.0, 0.0, 0.5, 1.0, 1.5, 2.0):
            yield Wishes("weights/blue heart", f"weight {weight:g}", seed, weight)
        yield Wishes("weights/blue heart", "negative", seed, 0.0, negative=True)
        for negative in (None, "red"):
            yield Banned("weights/red things", f"negative {negative}", seed, negative)
        for damage in DAMAGES:
            for way in ways(damage):
                yield Restoring(f"restoring/{damage}", way, seed, damage, way)
        for guidance in (1.0, 2.5):
            yield Coloured("colours/templates", f"guidance {guidance:g}", seed, guidance)
        for steps in BUDGETS:
            for solver in samplers(steps):
                yield Budget(f"budget/{steps} calls", solver, seed, solver, steps)
    for attribute in ATTRIBUTES:
        for part in QUANTILES:
            yield Slider(f"sliders/{attribute}", f"to quantile {part:g}", 0, attribute, part)
    for change in _CHANGES:
        yield Finding("finding/among 1,000", change, 0, change)
    yield Asking("finding/time", "100,000 vectors", 0)
    for batch in (1, 16):
        yield Speed(f"speed/batch {batch}", MODEL, 0, batch)


def quick() -> Iterator[Case]:
    """A few minutes of the same."""
    for guidance in (1.0, 1.5, 3.0):
        yield Prompts("prompts/test", f"guidance {guidance:g}", 0, "test", guidance, n=100)
    for damage in DAMAGES:
        for way in ("filter", "ddrm"):
            yield Restoring(f"restoring/{damage}", way, 0, damage, way, n=12)
    for change in _CHANGES:
        yield Finding("finding/among 1,000", change, 0, change, n=200)
    yield Asking("finding/time", "100,000 vectors", 0)
