"""Spoken digits: the Free Spoken Digit Dataset, with its official split."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.signal import resample_poly

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Example, Split
from suffuse_audio import corpora
from suffuse_audio.sound import Floats, Sound

__all__ = ["Digits"]

RATE = 8000
_SPEEDS = (96, 97, 98, 99, 100, 101, 102, 103, 104)  # over 100: by so much a clip is stretched
_DELAY = 0.016  # seconds of silence before a take, at most


class Digits:
    """One split of the spoken digits, 8 kHz; the clips 0 to 4 of a speaker's digit are the test's.

    Conditions: "digit", "zero" to "nine", and "speaker", by name. Needs SUFFUSE_DATA.

    Args:
        split: "train" or "test".
        takes: how often each training clip is there: once as it is, else up to 4 % faster or slower
            and up to 16 ms later, so that a model sees no clip too often. The test split has each
            clip once.
        level: root mean square that every clip is brought to; full scale is 1.
    """

    licence = "CC BY-SA 4.0"
    source = "Free Spoken Digit Dataset (Z. Jackson and others, CC BY-SA 4.0)"

    def __init__(self, split: Split = "train", takes: int = 1, level: float = 0.1) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"split is 'train' or 'test', not {split!r}")
        if takes < 1 or not 0 < level < 1:
            raise SuffuseError(
                f"takes is at least 1, and level between 0 and 1; given {takes} and {level:g}"
            )
        clips = corpora.digits()
        self._clips = [clip for clip in clips if (clip.index < 5) == (split == "test")]
        self._speakers = tuple(sorted({clip.group for clip in clips}))
        self._takes, self._level = takes if split == "train" else 1, level

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return {
            "digit": Condition("category", corpora.NAMES),
            "speaker": Condition("category", self._speakers),
        }

    def __len__(self) -> int:
        return len(self._clips) * self._takes

    def name(self, index: int) -> str:
        """What is said, by whom, and which of the takes it is or is made from."""
        clip = self._clips[index % len(self._clips)]
        return f"{clip.label}, {clip.group}, take {clip.index}"

    def __getitem__(self, index: int) -> Example:
        if not -len(self) <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        take, index = divmod(index % len(self), len(self._clips))
        clip = self._clips[index]
        x = clip.samples if not take else _varied(clip.samples, index, take)
        x = x * np.float32(self._level / max(float(np.sqrt(np.mean(x**2))), 1e-6))
        return Example(Sound(x, RATE), {"digit": clip.label, "speaker": clip.group})


def _varied(samples: Floats, index: int, take: int) -> Floats:
    """A clip a little faster or slower, and a little later: a function of (index, take)."""
    random = np.random.Generator(np.random.Philox(key=[index, take]))
    x = resample_poly(samples, int(random.choice(_SPEEDS)), 100)
    silence = np.zeros(round(random.uniform(0, _DELAY) * RATE), dtype=np.float32)
    varied: Floats = np.concatenate([silence, x]).astype(np.float32)
    return varied
