"""Which examples belong to a split, for the plugin's data sets."""

from __future__ import annotations

import hashlib

import numpy as np

from suffuse.plugins.contracts import Split

__all__ = ["Generated", "checked", "fraction"]


def checked(split: Split) -> Split:
    """The split, where it is one.

    Raises:
        ValueError: for another than "train" and "test".
    """
    if split not in ("train", "test"):
        raise ValueError(f"split is 'train' or 'test', not {split!r}")
    return split


def fraction(name: str) -> float:
    """The SHA-256 digest of a name as a fraction, in [0, 1): the same everywhere and for ever.

    >>> round(fraction("a red circle stays"), 4)
    0.4072
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


class Generated:
    """One split of clips that are drawn by chance. Clip i of a seed is always the same.

    Args:
        split: "train" or "test".
        clips, test_clips: how many there are of each.
        seed: of all that is left to chance.
    """

    def __init__(self, split: Split, clips: int, test_clips: int, seed: int) -> None:
        self.split, self.seed = checked(split), seed
        self._length = clips if split == "train" else test_clips

    def __len__(self) -> int:
        return self._length

    def random(self, index: int) -> np.random.Generator:
        """What decides about clip `index`."""
        if not -self._length <= index < self._length:
            raise IndexError(index)
        key = [self.seed, index % self._length, self.split == "test"]
        return np.random.default_rng(key)
