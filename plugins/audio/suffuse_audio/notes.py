"""Synthesised notes with exact labels. Made by formulas: there is nothing to download."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Example, Split
from suffuse_audio.sound import Sound
from suffuse_audio.synthesis import INSTRUMENTS, PITCHES, frequency, midi, note

__all__ = ["Notes"]


class Notes:
    """One split: every instrument at every pitch, `takes` times, with other details each time.

    Conditions: "instrument", and "pitch", C3 to B5 by name. Note i of a split is a function of
    (split, i); the splits share no random number.

    Args:
        split: "train" or "test".
        takes: of each instrument and pitch in the training split; the test split has two.
        rate: Hz.
        seconds: of each note.
    """

    licence = "Apache-2.0 (synthesised)"
    source = "notes synthesised by suffuse-audio"

    def __init__(
        self, split: Split = "train", takes: int = 12, rate: int = 16000, seconds: float = 1.0
    ) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"split is 'train' or 'test', not {split!r}")
        if takes < 1 or rate < 4000 or seconds <= 0:
            raise SuffuseError(
                "takes is at least 1, rate at least 4000 Hz and seconds above 0; given "
                f"{takes}, {rate} and {seconds:g}"
            )
        self.split, self.rate, self.seconds = split, rate, seconds
        self.takes = takes if split == "train" else 2

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return {
            "instrument": Condition("category", tuple(INSTRUMENTS)),
            "pitch": Condition("category", PITCHES),
        }

    def __len__(self) -> int:
        return len(INSTRUMENTS) * len(PITCHES) * self.takes

    def __getitem__(self, index: int) -> Example:
        if not -len(self) <= index < len(self):
            raise IndexError(f"note {index} of {len(self)}")
        index %= len(self)
        kind = index % (len(INSTRUMENTS) * len(PITCHES))
        instrument = tuple(INSTRUMENTS)[kind // len(PITCHES)]
        pitch = PITCHES[kind % len(PITCHES)]
        random = np.random.Generator(np.random.Philox(key=[index, 1 + (self.split == "test")]))
        x = note(instrument, frequency(midi(pitch)), self.seconds, self.rate, random)
        return Example(Sound(x, self.rate), {"instrument": instrument, "pitch": pitch})
