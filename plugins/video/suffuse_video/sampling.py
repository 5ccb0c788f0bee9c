"""Clips of any length and rate, by prompt: what `suffuse sample --frames 32 --fps 12` does.

`Sized` stands in for the model where one of these conditions is asked for:

    frames    of a clip; shorter clips are the beginning of the model's, or, by models of clips of
              differing lengths, made as clips of that length
    fps       frames per second at which it is shown
    longer    how clips longer than the model's come about: "between" (as usual): the model's
              frames are spread over the whole clip and those between them are made, so that the
              prompt speaks of all of it, more slowly; "on": the clip goes on, window after window,
              as it may, and the prompt speaks of the beginning
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition

from .clip import Clip
from .making import complete

__all__ = ["Sized", "composed", "unasked"]

_OWN = {
    "frames": Condition("number"),
    "fps": Condition("number"),
    "longer": Condition("category", ("between", "on")),
}

GENERATED = ("video/shapes", "video/digits")
"""Data sets that are drawn by chance and need no files."""


class Sized:
    """A model of clips as one of clips of any length and rate.

    Args:
        model: of clips; longer clips than its own need a noise level for each frame.

    Attributes:
        conditions: the model's, with `frames`, `fps` and `longer`.
        recipe, renderer, path, encoder, dataset: the model's.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.conditions: Mapping[str, Condition] = {**model.conditions, **_OWN}
        self.recipe, self.renderer, self.path = model.recipe, model.renderer, model.path
        self.encoder, self.dataset = model.encoder, model.dataset

    def decode(self, x: Any, sizes: Any = None) -> list[Clip]:
        """As the model."""
        found: list[Clip] = self.model.decode(x, sizes)
        return found

    def sample(
        self,
        n: int = 1,
        *,
        seed: int = 0,
        first: int = 0,
        batch: int = 64,
        frames: Any = None,
        fps: Any = None,
        longer: Any = None,
        **settings: Any,
    ) -> list[Clip]:
        """n clips; sample i of a seed is the same at any batch size.

        Args:
            n, seed, first, batch, settings: see `Model.sample`.
            frames, fps, longer: see above; one for all, or a list that goes round.

        Raises:
            SuffuseError: for a length or a rate that cannot be.
        """
        told = [(_one(frames, i), _one(fps, i), _one(longer, i)) for i in range(n)]
        own = {k: v for k, v in settings.items() if k in self.model.conditions}
        rest = {k: v for k, v in settings.items() if k not in own}
        out: dict[int, Clip] = {}
        for wanted in dict.fromkeys(told):
            places = [i for i in range(n) if told[i] == wanted]
            runs = [places] if len(places) == n else [[i] for i in places]
            for run in runs:
                given = {k: [_one(v, i) for i in run] for k, v in own.items()}
                made = self._made(run, wanted, seed, first + run[0], batch, {**rest, **given})
                out |= dict(zip(run, made, strict=True))
        return [out[i] for i in range(n)]

    def _made(
        self,
        run: list[int],
        wanted: tuple[Any, Any, Any],
        seed: int,
        first: int,
        batch: int,
        settings: dict[str, Any],
    ) -> list[Clip]:
        own, (total, fps, longer) = self.model.shape[0], wanted
        longer = longer or "between"
        if longer not in _OWN["longer"].names:
            raise SuffuseError(f"longer is between or on, and {longer!r} is neither")
        most = (own - 1) ** 2 + 1  # a window then holds the frames on both sides of a gap
        if total is not None and (
            total != int(total) or total < 1 or (longer == "between" and total > most)
        ):
            raise SuffuseError(
                f"a clip has 1 frame or more, up to {most} between the {own} of this model (and "
                f"any number with --longer on); given {total:g} frames"
            )
        if fps is not None and not fps > 0:
            raise SuffuseError(f"fps is above 0, and {fps:g} is not")
        total = None if total is None else int(total)
        told = {} if total is None else self.encoder.told(len(run), min(total, own))
        made = self.model.sample(len(run), seed=seed, first=first, batch=batch, **told, **settings)
        if total is not None and total > own:
            made = self._longer(made, total, longer, seed, first, batch, settings)
        return [Clip(clip.frames[:total], fps or made[0].fps) for clip in made]

    def _longer(
        self,
        made: list[Clip],
        total: int,
        longer: str,
        seed: int,
        first: int,
        batch: int,
        settings: dict[str, Any],
    ) -> list[Clip]:
        own = self.model.shape[0]
        if longer == "on":
            places = np.arange(own)
        else:
            places = np.linspace(0, total - 1, own).round().astype(int)
        known = np.zeros(total, dtype=bool)
        known[places] = True
        shown = torch.stack([self.model.encoder.states(clip) for clip in made])
        states = torch.zeros(len(made), total, *shown.shape[2:])
        states[:, places] = shown
        # Neither windows of the middle nor frames between are what the prompt speaks of.
        kept = {key: settings[key] for key in ("solver", "steps", "on_step") if key in settings}
        found: list[Clip] = []
        for begin in range(0, len(made), batch):
            x = complete(
                self.model,
                states[begin : begin + batch],
                known,
                seed=seed,
                first=first + begin,
                guidance=1.0,
                **kept,
            )
            found += self.encoder.decode(x)
        return found


def composed(model: Any, names: Iterable[str]) -> Any:
    """What makes clips of another length or rate, where that is asked for; else the model."""
    asked = {name for name in names if name in _OWN and name not in model.conditions}
    return Sized(model) if asked else model


def unasked(model: Any, n: int, seed: int) -> dict[str, list[Any]]:
    """Conditions of n clips as a generator of clips that the model was trained on draws them.

    A clip of which nothing is asked is drawn so from the distribution that the model has learned,
    in the two steps in which the data come about: what it shows, and then the clip. Models of other
    data have none: {}.

    Args:
        model: of clips.
        n: how many.
        seed: sample i of a seed is the same for every n.
    """
    if model.recipe.dataset["name"] not in GENERATED:
        return {}
    data = model.dataset("train")
    places = [int(np.random.default_rng([seed, i]).integers(len(data))) for i in range(n)]
    told = [data[place].conditions for place in places]
    found = {key: [each.get(key) for each in told] for key in model.conditions}
    return {k: values for k, values in found.items() if any(v is not None for v in values)}


def _one(value: Any, i: int) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return value[i % len(value)]
    return value
