"""Sliders on the inside of audio/notes: whether they flip one attribute and leave the other.

Both are measured on the sound: the centre of its spectrum, and that of its energy in time. A note
has one if it has more of it than the median training note.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import suffuse
from suffuse import stats
from suffuse.bench import Context, Result
from suffuse.model import inner
from suffuse.model.sliders import Sliders, flips
from suffuse_audio.sound import Sound

__all__ = ["ATTRIBUTES", "Slider"]

MODEL = "audio/notes"
LEARNED, CALIBRATED = 300, 48
"""Training notes that directions are learned from, and samples that the response is."""


def bright(sound: Sound) -> float:
    """The centre of the spectrum's power, in Hz."""
    x = sound.samples.mean(0)
    power = np.abs(np.fft.rfft(x)) ** 2
    return float(np.average(np.fft.rfftfreq(len(x), 1 / sound.rate), weights=power + 1e-12))


def late(sound: Sound) -> float:
    """The centre of the energy, in seconds from the start."""
    energy = sound.samples.mean(0) ** 2
    return float(np.average(np.arange(len(energy)) / sound.rate, weights=energy + 1e-12))


ATTRIBUTES: Mapping[str, Callable[[Sound], float]] = {"bright": bright, "late": late}


@dataclass(frozen=True)
class Slider:
    """Samples without an attribute, made again with as much of it as a quantile of the data.

    Attributes:
        attribute: of `ATTRIBUTES`.
        quantile: of the training notes, to which it is moved.
    """

    task: str
    model: str
    seed: int
    attribute: str
    quantile: float
    n: int = 96
    measures: ClassVar[Sequence[str]] = ("suffuse_audio", "suffuse.model", "suffuse.diffusion")

    def run(self, context: Context) -> Result:
        """How often it flips, and how often the other one does."""
        model = context.once(MODEL, lambda: suffuse.load(MODEL))
        values, sliders = context.once("audio sliders", lambda: _learned(model))
        medians = {name: float(np.median(x)) for name, x in values.items()}
        target = float(np.quantile(values[self.attribute], self.quantile))
        number = list(ATTRIBUTES).index(self.attribute)
        before = context.once(
            ("notes", self.seed, self.n), lambda: model.sample(self.n, seed=self.seed)
        )
        after = sliders({number: target}, self.n, seed=self.seed)
        return Result(flips(ATTRIBUTES, medians, self.attribute, before, after))


def _learned(model: Any) -> tuple[dict[str, Any], Sliders]:
    """The attributes of training notes, and sliders by directions kept from each other."""
    train = model.dataset("train")
    notes = [train[i].data for i in stats.evenly(len(train), LEARNED)]
    values = {name: np.array([f(x) for x in notes]) for name, f in ATTRIBUTES.items()}
    directions = inner.learn_apart(model, notes, list(values.values()))
    attributes = list(ATTRIBUTES.values())
    return values, Sliders.fit(model, directions, attributes, n=CALIBRATED, seed=2**40)
