"""Wholes out of parts: a model of digits says sentences, a model of notes plays melodies.

`Composed` stands in for the model where a condition is asked for that only wholes have: "text" of a
model of digits or words, "melody" of a model of notes. Whole i is made of the samples from
4096 · i on, so that it is the same alone and among others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition
from suffuse_audio import playing
from suffuse_audio.sound import Sound

__all__ = ["Composed", "composed"]

_ROOM = 4096  # samples of the model that belong to one whole, at most


def _said(model: Any, text: str, given: Mapping[str, Any]) -> Sound:
    return playing.say(model, text, **given)


def _played(model: Any, melody: str, given: Mapping[str, Any]) -> Sound:
    tempo = given.get("tempo")
    rest = {name: value for name, value in given.items() if name != "tempo"}
    return playing.play(model, playing.melody(melody, 120.0 if tempo is None else tempo), **rest)


_Maker = Callable[[Any, str, Mapping[str, Any]], Sound]
_WHOLES: Mapping[str, tuple[tuple[str, ...], _Maker, tuple[str, ...]]] = {
    "text": (("digit", "word"), _said, ()),
    "melody": (("pitch",), _played, ("tempo",)),
}
"""By the condition of a whole: those of its parts, how it is made, and further numbers."""

_EXAMPLES = {"text": "seven three one", "melody": "C4 E4 G4:2"}


class Composed:
    """A model of parts as a model of wholes: sentences of digits, melodies of notes.

    Args:
        model: of parts, `suffuse.model.Model`.
        name: "text" or "melody".

    Attributes:
        conditions: the model's, with that of the whole in the place of that of the parts.
        recipe, renderer, path: the model's.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.model, self.name = model, name
        parts, self._make, numbers = _WHOLES[name]
        kept = {key: value for key, value in model.conditions.items() if key not in parts}
        own = dict.fromkeys(numbers, Condition("number"))
        self.conditions: Mapping[str, Condition] = {name: Condition("text"), **kept, **own}
        self.recipe, self.renderer, self.path = model.recipe, model.renderer, model.path

    def sample(
        self,
        n: int = 1,
        *,
        seed: int = 0,
        first: int = 0,
        on_step: Callable[[Any], None] | None = None,
        batch: int = 64,
        **given: Any,
    ) -> list[Sound]:
        """n wholes; where a category such as the speaker is not given, each whole draws one.

        Args:
            n, seed, first, batch: as for `Model.sample`.
            on_step: not called: the parts of a whole are made together.
            given: conditions, one value or a list each; the rest goes to `Model.sample`.
        """
        out = []
        for i in range(n):
            own = {key: self._one(key, value, i) for key, value in given.items()}
            whole = own.pop(self.name, None)
            if whole is None or not str(whole).strip():
                raise SuffuseError(
                    f"--{self.name} is empty: give for instance {_EXAMPLES[self.name]!r}"
                )
            random = np.random.Generator(np.random.Philox(key=[seed, first + i]))
            for key, condition in self.conditions.items():
                if condition.kind == "category" and own.get(key) is None:
                    own[key] = condition.names[int(random.integers(len(condition.names)))]
            at = {"seed": seed, "first": _ROOM * (first + i), "batch": batch}
            out.append(self._make(self.model, str(whole), {**own, **at}))
        return out

    def _one(self, key: str, value: Any, i: int) -> Any:
        if key in self.conditions and isinstance(value, Sequence) and not isinstance(value, str):
            return value[i % len(value)]
        return value


def composed(model: Any, names: Iterable[str]) -> Any:
    """What makes the wholes that conditions of these names ask for; else the model itself."""
    for name in names:
        known = model.conditions
        if name in _WHOLES and name not in known and any(p in known for p in _WHOLES[name][0]):
            return Composed(model, name)
    return model
