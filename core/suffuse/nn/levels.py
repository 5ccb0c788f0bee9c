"""Which blocks a U-Net has: their channels, levels and heads, whatever they are made of.

Residual blocks at falling resolutions, then at rising ones, where each block also sees what its
counterpart on the way down made. The first level is at full resolution, and each further one halves
every axis (rounding up).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from suffuse.errors import SuffuseError
from suffuse.nn.blocks import divisor

__all__ = ["Levels", "Place", "levels"]


@dataclass(frozen=True)
class Place:
    """Where a block stands.

    Attributes:
        channels, out: that it is given, with those laid beside on the way up, and that it makes.
        heads: of its attention over all positions; 0 for none.
        resample: whether it begins by halving or doubling every axis.
    """

    channels: int
    out: int
    heads: int = 0
    resample: Literal["down", "up"] | None = None


@dataclass(frozen=True)
class Levels:
    """The blocks on the way down, in the middle and on the way up; and the channels at the end."""

    down: Sequence[Place]
    middle: Sequence[Place]
    up: Sequence[Place]
    channels: int


def levels(
    width: int,
    multipliers: Sequence[int],
    blocks: int,
    attention: Sequence[int],
    head_width: int,
    *,
    owner: str,
) -> Levels:
    """The blocks of a U-Net.

    Args:
        width: channels at full resolution.
        multipliers: the channels of each level as a multiple of `width`.
        blocks: residual blocks of a level on the way down; one more on the way up.
        attention: the levels whose blocks attend, 0 the first, −1 the last. Of the two in the
            middle the first attends if the last level does.
        head_width: the least width of an attention head; narrower levels have one head.
        owner: the name of the network, for errors.

    Raises:
        SuffuseError: for a number below 1, or a level that is not there.

    >>> found = levels(8, (1, 2), 1, (-1,), 64, owner="UNet")
    >>> [(k.channels, k.out) for k in found.up], found.channels
    ([(32, 16), (24, 16), (16, 16), (24, 8), (16, 8)], 8)
    """
    depth = len(multipliers)
    if min(width, blocks, head_width, depth, *multipliers) < 1:
        raise SuffuseError(
            f"width, blocks, head_width and every multiplier of a {owner} are at least 1; "
            f"given {width}, {blocks}, {head_width} and {list(multipliers)}"
        )
    if any(not -depth <= level < depth for level in attention):
        raise SuffuseError(
            f"attention names levels from {-depth} to {depth - 1}, as there are {depth} "
            f"multipliers; given {list(attention)}"
        )
    attentive = {level % depth for level in attention}

    def place(channels: int, out: int, level: int) -> Place:
        heads = divisor(out, out // head_width) if level in attentive else 0
        return Place(channels, out, heads)

    channels, skips = width, [width]
    down, up = [], []
    for level, multiplier in enumerate(multipliers):
        if level:
            down.append(Place(channels, channels, resample="down"))
            skips.append(channels)
        for _ in range(blocks):
            down.append(place(channels, width * multiplier, level))
            channels = width * multiplier
            skips.append(channels)
    middle = [place(channels, channels, depth - 1), Place(channels, channels)]
    for level, multiplier in reversed(list(enumerate(multipliers))):
        for _ in range(blocks + 1):
            up.append(place(channels + skips.pop(), width * multiplier, level))
            channels = width * multiplier
        if level:
            up.append(Place(channels, channels, resample="up"))
    return Levels(down, middle, up, channels)
