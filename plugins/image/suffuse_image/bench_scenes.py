"""Composition: whether the model of scenes puts together what it has only seen apart.

`python -m suffuse_image.bench_scenes OUT.png` draws a scene for each withheld prompt, and beside it
the training picture that is nearest to it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from PIL import Image, ImageDraw

import suffuse
from suffuse.bench import Context, Result
from suffuse.plugins.contracts import Example
from suffuse.stats import nearest

from .bench_shared import CODE
from .evaluators import Memorisation
from .scenes import SCENES, Composition, Scenes

__all__ = ["SCENES_MODEL", "Composing", "beside"]

SCENES_MODEL = "image/scenes"


@dataclass(frozen=True)
class Composing:
    """Samples for each prompt of scenes that were trained on, or of withheld ones."""

    task: str
    model: str
    seed: int
    split: str
    guidance: float
    each: int = 20
    measures: ClassVar[Sequence[str]] = CODE

    def run(self, context: Context) -> Result:
        """How many show what was asked for, and how near they are to training pictures."""
        model = context.once(SCENES_MODEL, lambda: suffuse.load(SCENES_MODEL))
        asked = [s.caption for s in SCENES if s.withheld == (self.split == "test")] * self.each
        made = model.sample(len(asked), seed=self.seed, guidance=self.guidance, prompt=asked)
        samples = [Example(m, {"prompt": p}) for m, p in zip(made, asked, strict=True)]
        real: Any = Scenes(self.split, each=self.each)  # type: ignore[arg-type]
        train = model.dataset("train")
        metrics = Composition().evaluate(samples, test=real, train=train, seed=self.seed)
        if self.split == "test":  # real scenes of the same prompts were not trained on
            metrics += Memorisation().evaluate(samples, test=real, train=train, seed=self.seed)
        return Result(metrics)


def beside(model: Any, made: Sequence[Image.Image], captions: Sequence[str]) -> Image.Image:
    """Pictures with their captions, each beside the training picture nearest to it (L2)."""
    train = model.dataset("train")
    known = [train[i].data for i in range(len(train))]
    near = nearest(_flat(model, made), _flat(model, known))
    across, side, width, height = 4, 64, 192, 84
    rows = -(-len(made) // across)
    out = Image.new("RGB", (across * width, rows * height), "#dddddd")
    pen = ImageDraw.Draw(out)
    for i, (picture, caption) in enumerate(zip(made, captions, strict=True)):
        x, y = 8 + i % across * width, 4 + i // across * height
        for k, shown in enumerate((picture, known[int(near.index[i])])):
            large = shown.resize((side, side), Image.Resampling.NEAREST)
            out.paste(large, (x + k * (side + 8), y))
        pen.text((x, y + side + 1), caption, fill="black")
    return out


def _flat(model: Any, pictures: Sequence[Image.Image]) -> torch.Tensor:
    return torch.cat(
        [model.encode(pictures[i : i + 256]) for i in range(0, len(pictures), 256)]
    ).flatten(1)


def main(path: str) -> None:
    """The page for every withheld prompt, of seed 0; nothing is picked."""
    model = suffuse.load(SCENES_MODEL)
    captions = [scene.caption for scene in SCENES if scene.withheld]
    made = model.sample(len(captions), seed=0, prompt=captions)
    beside(model, made, captions).save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
