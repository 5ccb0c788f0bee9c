"""Noise as a function of (seed, sample, step, stream, element).

A sample gets the same noise in any batch, in any order, on any device and in any number of
processes, because nothing is drawn from a shared, moving state: Philox turns a counter made of the
five numbers into random words.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from enum import IntEnum
from math import prod
from numbers import Integral

import torch
from torch import Tensor

from suffuse.errors import SuffuseError
from suffuse.kernels.philox import drawn_normals, drawn_uniforms

__all__ = ["Noise", "Stream"]


class Stream(IntEnum):
    """What a draw is for; draws for different purposes never share words."""

    PRIOR = 0
    STEP = 1
    CORRUPT = 2
    LEVEL = 3
    DROP = 4
    GUIDANCE = 5
    CORRECT = 6


class Noise:
    """A batch of noise sources, one for each sample.

    Args:
        seed: an integer s, for the samples (s, first), (s, first + 1), ...; or one integer for each
            sample, for (s_0, 0), (s_1, 0), ... Seeds are in [0, 2^64).
        n: how many samples; needed with a single seed.
        first: the index of the first sample under a single seed, in [0, 2^32).
        device: where the numbers are made.

    >>> whole, part = Noise(7, 3), Noise(7, 1, first=2)
    >>> bool((whole.normal((5,), step=0)[2:] == part.normal((5,), step=0)).all())
    True
    """

    def __init__(
        self,
        seed: int | Sequence[int],
        n: int | None = None,
        *,
        first: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        if isinstance(seed, int | Integral):
            if n is None:
                raise SuffuseError("a single seed needs the number of samples: Noise(seed, n)")
            if not 0 <= first <= first + n <= 2**32:
                raise SuffuseError(
                    f"samples are numbered from 0 to 2^32 - 1; given {n} from {first} on"
                )
            seeds, samples = [int(seed)] * n, list(range(first, first + n))
        else:
            seeds, samples = list(map(int, seed)), [0] * len(seed)
            if n is not None and n != len(seeds):
                raise SuffuseError(f"{len(seeds)} seeds were given for {n} samples")
        for s in seeds:
            if not 0 <= s < 2**64:
                raise SuffuseError(f"a seed is an integer from 0 to 2^64 - 1, and {s} is not")
        words = [[s & 0xFFFFFFFF for s in seeds], [s >> 32 for s in seeds], samples]
        self._words = torch.tensor(words, dtype=torch.int64, device=device)
        self._branch = 0

    def __len__(self) -> int:
        return self._words.shape[1]

    def __getitem__(self, which: slice) -> Noise:
        return self._with(self._words[:, which].contiguous(), self._branch)

    def branch(self, name: str) -> Noise:
        """Sources whose streams no other name and no `Noise` itself has: for a product's part.

        >>> whole = Noise(0, 2)
        >>> a, b = (whole.branch(name).normal((3,), step=0) for name in ("atoms", "bonds"))
        >>> bool((a == b).any())
        False
        """
        # the low byte is left to the stream
        return self._with(self._words, zlib.crc32(name.encode(), self._branch) & 0xFFFFFF00)

    def clone(self) -> Noise:
        """The same sources, with words of their own."""
        return self._with(self._words.clone(), self._branch)

    def _with(self, words: Tensor, branch: int) -> Noise:
        part = object.__new__(Noise)
        part._words, part._branch = words, branch
        return part

    @property
    def words(self) -> Tensor:
        """The low and the high word of each seed, and the number of each sample; [3, B] int64."""
        return self._words

    def stream(self, number: int) -> int:
        """A stream's number among those of all branches."""
        return self._branch | int(number)

    def normal(
        self,
        shape: Sequence[int],
        *,
        step: int | Tensor,
        stream: int = Stream.STEP,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Standard normal noise of shape [B, *shape]; float64 or float32 (then cast to `dtype`)."""
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        z = drawn_normals(self._words, prod(shape), step, self.stream(stream), wide)
        return z.reshape(len(self), *shape).to(dtype)

    def uniform(self, shape: Sequence[int], *, step: int | Tensor, stream: int) -> Tensor:
        """Uniform noise in (0, 1) of shape [B, *shape], float64."""
        u = drawn_uniforms(self._words, prod(shape), step, self.stream(stream))
        return u.reshape(len(self), *shape)
