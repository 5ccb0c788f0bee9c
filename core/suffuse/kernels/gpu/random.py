"""Philox and normal numbers in registers: bit-equal words, normals to a few last places.

See `suffuse.kernels.philox`.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def philox(c0, c1, c2, c3, k0, k1):
    """Ten rounds on uint32 words."""
    for _ in tl.static_range(10):
        high_0, low_0 = tl.umulhi(c0, 0xD2511F53), c0 * 0xD2511F53
        high_1, low_1 = tl.umulhi(c2, 0xCD9E8D57), c2 * 0xCD9E8D57
        c0, c2 = high_1 ^ c1 ^ k0, high_0 ^ c3 ^ k1
        c1, c3 = low_1, low_0
        k0, k1 = k0 + 0x9E3779B9, k1 + 0xBB67AE85
    return c0, c1, c2, c3


@triton.jit
def words(quad, sample, n_samples, source, step, stream):
    """The four words of each quad of elements of a sample.

    `source` is `Noise.words`, [3, B], and `step` where the number of the step lies, int64.
    """
    low = tl.load(source + sample).to(tl.uint32)
    high = tl.load(source + n_samples + sample).to(tl.uint32)
    index = tl.load(source + 2 * n_samples + sample).to(tl.uint32)
    c0 = quad.to(tl.uint32)
    zero = c0 ^ c0
    return philox(
        c0, zero + index, zero + tl.load(step).to(tl.uint32), zero + stream.to(tl.uint32), low, high
    )


@triton.jit
def box_muller(a, b):
    """Two standard normals from two words.

    The angle is reduced to an eighth of a turn, where Taylor's polynomials are exact to rounding:
    the library's cosine keeps a stack for huge angles, which these never are.
    """
    radius = tl.sqrt(-2.0 * tl.log((a.to(tl.float32) + 0.5) * 2.3283064365386963e-10))
    turn = b.to(tl.float32) * 2.3283064365386963e-10
    quarter = tl.floor(turn * 4.0 + 0.5)
    x = (turn - quarter * 0.25) * 6.283185307179586
    y = x * x
    sine = x + x * y * (
        -1.6666666666666666e-01
        + y * (8.333333333333333e-03 + y * (-1.984126984126984e-04 + y * 2.755731922398589e-06))
    )
    cosine = 1.0 + y * (
        -0.5
        + y * (4.1666666666666664e-02 + y * (-1.388888888888889e-03 + y * 2.48015873015873e-05))
    )
    k = quarter.to(tl.int32)
    odd = (k & 1) != 0
    c, s = tl.where(odd, sine, cosine), tl.where(odd, cosine, sine)
    c = tl.where(((k + 1) & 2) != 0, -c, c)
    s = tl.where((k & 2) != 0, -s, s)
    return radius * c, radius * s


@triton.jit
def interleaved(a, b, c, d, size: tl.constexpr):
    """a_0 b_0 c_0 d_0 a_1 ...: four vectors as one of `size` elements."""
    return tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), (size,))
