"""Spoken digits: the Free Spoken Digit Dataset, with its official split."""

from __future__ import annotations

from collections.abc import Mapping

from suffuse.plugins.contracts import Condition, Example, Split
from suffuse_audio import corpora
from suffuse_audio.sound import Sound

__all__ = ["Digits"]


class Digits:
    """One split of the spoken digits, 8 kHz; the clips 0 to 4 of a speaker's digit are the test's.

    Conditions: "digit", "zero" to "nine", and "speaker", by name. Needs SUFFUSE_DATA.

    Args:
        split: "train" or "test".
    """

    licence = "CC BY-SA 4.0"
    source = "Free Spoken Digit Dataset (Z. Jackson and others, CC BY-SA 4.0)"

    def __init__(self, split: Split = "train") -> None:
        if split not in ("train", "test"):
            raise ValueError(f"split is 'train' or 'test', not {split!r}")
        clips = corpora.digits()
        self._clips = [clip for clip in clips if (clip.index < 5) == (split == "test")]
        self._speakers = tuple(sorted({clip.group for clip in clips}))

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return {
            "digit": Condition("category", corpora.NAMES),
            "speaker": Condition("category", self._speakers),
        }

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Example:
        clip = self._clips[index]
        return Example(Sound(clip.samples, 8000), {"digit": clip.label, "speaker": clip.group})
