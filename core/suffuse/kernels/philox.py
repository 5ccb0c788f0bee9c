"""Philox 4x32-10: random words as a pure function of a counter and a key.

A counter-based generator has no state: word j of counter c under key k is the same on every device,
in every order and at any batch size. Integer words are bit-equal everywhere; the normals made from
them agree to a few units in the last place, since `log`, `cos` and `sin` differ by that much
between libraries.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["draw", "drawn_normals", "drawn_uniforms", "normals", "philox4x32", "uniforms"]

Words = tuple[Tensor, Tensor, Tensor, Tensor]

TILE = 2**13
"""Counters that are worked on at once on a CPU, so that their words stay in the cache."""

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def philox4x32(counter: Words, key: tuple[Tensor, Tensor], rounds: int = 10) -> Words:
    """Four random 32-bit words for each counter.

    Args:
        counter: four tensors of dtype int64 holding 32-bit words, broadcastable to one shape.
        key: two such tensors.
        rounds: 10 for the published generator.

    Returns:
        Four int64 tensors of the common shape, with values in [0, 2^32).
    """
    c0, c1, c2, c3 = torch.broadcast_tensors(*counter)  # type: ignore[no-untyped-call]
    k0, k1 = key
    for _ in range(rounds):
        # int64 products wrap modulo 2^64, so the shifted and masked halves are exact.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0 = ((p1 >> 32) & _WORD).bitwise_xor_(c1).bitwise_xor_(k0)
        c2 = ((p0 >> 32) & _WORD).bitwise_xor_(c3).bitwise_xor_(k1)
        c1, c3 = p1.bitwise_and_(_WORD), p0.bitwise_and_(_WORD)
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return c0, c1, c2, c3


def draw(source: Tensor, elements: int, step: int | Tensor, stream: int) -> Words:
    """The random words for the elements of each sample, four to a word of the counter.

    The counter is (place // 4, sample, step, stream) and the key is the seed.

    Args:
        source: the low and the high word of the seed, and the number of the sample; [3, B] int64.
        elements: how many each sample has.
        step: a word, or an int64 tensor of one, for loops that are compiled or recorded.
        stream: a word.

    Returns:
        Four tensors [B, ceil(elements / 4)].
    """
    low, high, sample = source[:, :, None]
    block = torch.arange(-(-elements // 4), device=source.device)[None]
    zero = torch.zeros_like(low)
    return philox4x32((block, sample, zero + step, zero + stream), (low, high))


def drawn_normals(
    source: Tensor, elements: int, step: int | Tensor, stream: int, dtype: torch.dtype
) -> Tensor:
    """Standard normal numbers [B, elements], float32 or float64, for `draw`'s arguments."""
    if not _by_tiles(source, step):
        return normals(draw(source, elements, step, stream), dtype).flatten(1)[:, :elements]
    blocks, batch = -(-elements // 4), source.shape[1]
    out = torch.empty(batch * blocks, 2, 2, dtype=dtype)
    for part, words in _tiles(source, blocks, int(step), stream):
        a, b = (torch.from_numpy(w.view(np.int64)).to(dtype) for w in words)
        radius, angle = _polar(a, b)
        places = out[part].permute(2, 1, 0)  # cosine or sine, pair, counter
        torch.mul(radius, angle.cos(), out=places[0])
        torch.mul(radius, angle.sin_(), out=places[1])
    return out.view(batch, 4 * blocks)[:, :elements]


def drawn_uniforms(source: Tensor, elements: int, step: int | Tensor, stream: int) -> Tensor:
    """Uniform numbers in (0, 1), float64 [B, elements], for `draw`'s arguments."""
    if not _by_tiles(source, step):
        return uniforms(draw(source, elements, step, stream)).flatten(1)[:, :elements]
    blocks, batch = -(-elements // 4), source.shape[1]
    out = np.empty((batch * blocks, 2, 2))
    for part, words in _tiles(source, blocks, int(step), stream):
        for j, w in enumerate(words):
            out[part, :, j] = w.T
    return torch.from_numpy(out).add_(0.5).mul_(2.0**-32).view(batch, 4 * blocks)[:, :elements]


def uniforms(words: Words) -> Tensor:
    """Uniform numbers in (0, 1), float64, of shape [*words, 4]: (w + 1/2) / 2^32."""
    return torch.stack(words, dim=-1).to(torch.float64).add_(0.5).mul_(2.0**-32)


def normals(words: Words, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers of shape [*words, 4], by Box and Muller's transform of word pairs.

    Args:
        words: four int64 tensors of 32-bit words.
        dtype: float32 or float64; both are made of the same words and agree to rounding.
    """
    w0, w1, w2, w3 = (w.to(dtype) for w in words)
    pairs = []
    for a, b in ((w0, w1), (w2, w3)):
        radius, angle = _polar(a, b)
        pairs += [radius * angle.cos(), radius * angle.sin()]
    return torch.stack(pairs, dim=-1)


def _polar(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Radius and angle from two words as floating-point numbers, which are overwritten."""
    radius = a.add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
    return radius, b.mul_(2.0 * math.pi * 2.0**-32)


# On a CPU: tile by tile, on NumPy's unsigned integers, whose shifts need no mask and whose
# operations write where they are told to. Three times faster than torch's, and bit-equal.

Array = NDArray[np.uint64]

# numbers as arrays, which NumPy takes in faster than scalars; one for each half of the counter
_BY = np.array([_MULTIPLIERS], np.uint64).T
_HALF, _LOW = np.array([32], np.uint64), np.array([_WORD], np.uint64)


def _by_tiles(source: Tensor, step: int | Tensor) -> bool:
    """Whether the words are plain numbers on a CPU: not those of a compiled or a fake loop."""
    return source.is_cpu and type(source) is Tensor and not isinstance(step, Tensor)


def _tiles(
    source: Tensor, blocks: int, step: int, stream: int
) -> Iterator[tuple[slice, tuple[Array, Array]]]:
    """Parts of the B · blocks counters, sample by sample, with the words 0, 2 and 1, 3 of each."""
    *seed, index = source.numpy().astype(np.uint64)
    weyl = np.arange(10, dtype=np.uint64)[:, None, None] * np.array([_WEYL], np.uint64).T
    keys = (np.stack(seed) + weyl) & _LOW  # [rounds, 2, B]
    if one := bool((keys[0] == keys[0, :, :1]).all()):
        keys = keys[:, :, :1]
    total = len(index) * blocks
    for start in range(0, total, TILE):
        part = slice(start, min(start + TILE, total))
        sample, place = np.divmod(np.arange(part.start, part.stop), blocks)
        even, odd = (np.empty((2, len(place)), np.uint64) for _ in range(2))
        even[0], even[1], odd[0], odd[1] = place, step, index[sample], stream
        yield part, _philox(even, odd, keys if one else keys[:, :, sample])


def _philox(even: Array, odd: Array, keys: Array) -> tuple[Array, Array]:
    """`philox4x32` in the place of the counter's words 0, 2 and 1, 3, each [2, n]."""
    product = np.empty_like(even)
    swapped = product[::-1]
    for key in keys:
        np.multiply(even, _BY, product)
        np.right_shift(swapped, _HALF, even)
        np.bitwise_xor(even, odd, even)
        np.bitwise_xor(even, key, even)
        np.bitwise_and(swapped, _LOW, odd)
    return even, odd
