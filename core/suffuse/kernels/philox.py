"""Philox 4x32-10: random words as a pure function of a counter and a key.

A counter-based generator has no state: word j of counter c under key k is the same on every device,
in every order and at any batch size. Integer words are bit-equal everywhere; the normals made from
them agree to a few units in the last place, since `log`, `cos` and `sin` differ by that much
between libraries.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["draw", "drawn_normals", "normals", "philox4x32", "uniforms"]

Words = tuple[Tensor, Tensor, Tensor, Tensor]

TILE = 2**14
"""Counters that are worked on at once on a CPU."""

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


def draw(source: Tensor, elements: int, step: int, stream: int, part: range | None = None) -> Words:
    """The random words for the elements of each sample, four to a word of the counter.

    The counter is (place // 4, sample, step, stream) and the key is the seed.

    Args:
        source: the low and the high word of the seed, and the number of the sample; [3, B] int64.
        elements: how many each sample has.
        step, stream: words.
        part: which of the ceil(elements / 4) places // 4; all where None.

    Returns:
        Four tensors [B, ceil(elements / 4)], or [B, len(part)].
    """
    low, high, sample = source[:, :, None]
    part = range(-(-elements // 4)) if part is None else part
    block = torch.arange(part.start, part.stop, device=source.device)[None]
    counter = (block, sample, torch.full_like(low, step), torch.full_like(low, stream))
    return philox4x32(counter, (low, high))


def drawn_normals(
    source: Tensor, elements: int, step: int, stream: int, dtype: torch.dtype
) -> Tensor:
    """Standard normal numbers [B, elements], float32 or float64, for `draw`'s arguments.

    On a CPU tile by tile, so that the words stay in the cache: two to four times faster.
    """
    blocks, batch = -(-elements // 4), source.shape[1]
    size = max(TILE // max(batch, 1), 1) if source.device.type == "cpu" else blocks
    out = torch.empty(batch, blocks, 4, dtype=dtype, device=source.device)
    for start in range(0, blocks, max(size, 1)):
        part = range(start, min(start + size, blocks))
        out[:, part.start : part.stop] = normals(draw(source, elements, step, stream, part), dtype)
    return out.flatten(1)[:, :elements]


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
        radius = a.add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
        angle = b.mul_(2.0 * math.pi * 2.0**-32)
        pairs += [radius * angle.cos(), radius * angle.sin()]
    return torch.stack(pairs, dim=-1)
