"""Pillow's pixel modes brought to 8-bit grey or RGB, which is what everything here works on.

Rules, in this order: of an animation the first frame counts; the rotation that a camera noted in
EXIF is applied; transparent pixels are laid over white; 16-bit grey is divided by 257, so that
65535 becomes 255; every other mode goes through Pillow's own conversion (palette, 1 bit, CMYK,
YCbCr, Lab). An 8-bit grey or RGB picture comes out as it went in, bit for bit.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from suffuse.errors import SuffuseError

__all__ = ["eight_bit", "has_colour", "upright"]

_ORIENTATION = 0x0112
_GREY = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}


def upright(image: Image.Image) -> Image.Image:
    """The first frame of `image`, turned as its EXIF orientation says; `image` itself is kept."""
    if getattr(image, "n_frames", 1) > 1 and image.tell():
        image.seek(0)
    try:
        turned = image.getexif().get(_ORIENTATION, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except Exception:  # a damaged EXIF block, of which Pillow raises anything, turns nothing
        return image


def eight_bit(image: Image.Image, channels: Literal[1, 3] | None = None) -> Image.Image:
    """`image` in mode "L" (one channel) or "RGB" (three), upright and without transparency.

    Args:
        image: any picture that Pillow can hold.
        channels: 1, 3, or None for what the picture's own mode has.

    >>> eight_bit(Image.new("RGBA", (2, 2), (255, 0, 0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    if not isinstance(image, Image.Image):
        raise SuffuseError(
            f"expected a PIL image, given {type(image).__name__}; PIL.Image.fromarray makes one of "
            "an array"
        )
    image = upright(image)
    grey = image.mode in _GREY
    if image.mode == "F" or image.mode.startswith("I"):
        image = _from_deep(image)
    elif image.has_transparency_data or image.mode in ("La", "RGBa"):
        image = _over_white(image, grey)
    mode = "L" if (channels or (1 if grey else 3)) == 1 else "RGB"
    if image.mode in ("LAB", "HSV", "YCbCr", "CMYK", "P", "PA") and mode == "L":
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def has_colour(pixels: np.ndarray) -> bool:
    """Whether any pixel of a uint8 array [H, W, 3] is other than grey."""
    red = pixels[..., :1]
    return bool((pixels[..., 1:] != red).any())


def _over_white(image: Image.Image, grey: bool) -> Image.Image:
    if image.mode == "La":  # Pillow goes from there to LA alone
        image = image.convert("LA")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("L" if grey else "RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    """Grey of 16 bit, of 32 bit or in floating point to 8 bit.

    The range of the last two is not in the file. Whole numbers count as 8 bit where none is above
    255, else as 16 bit; floats as 0 to 1 where none is above 1, else as 0 to 255.
    """
    values = np.nan_to_num(np.asarray(image).astype(np.float64), nan=0.0)
    top = values.max(initial=0.0)
    if image.mode == "F":
        values = values * 255 if top <= 1 else values
    elif image.mode != "I" or top > 255:
        values = values / 257
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
