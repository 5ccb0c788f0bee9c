"""Maps of pictures."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from suffuse.errors import SuffuseError
from suffuse_image.maps import draw_map


def test_pictures_lie_where_their_numbers_say():
    pictures = [Image.new("RGB", (8, 8), name) for name in ("red", "lime", "blue")]
    at = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 4.0]])
    drawn = draw_map(pictures, at, side=100, cell=10)
    assert drawn.getpixel((5, 95)) == (255, 0, 0)
    assert drawn.getpixel((95, 95)) == (0, 255, 0)
    assert drawn.getpixel((50, 5)) == (0, 0, 255)
    assert drawn.getpixel((50, 50)) == (255, 255, 255)


def test_what_is_no_map():
    with pytest.raises(SuffuseError, match="a place"):
        draw_map([Image.new("L", (4, 4))], torch.zeros(2, 2))
    with pytest.raises(SuffuseError, match="cells"):
        draw_map([Image.new("L", (4, 4))], torch.zeros(1, 2), side=10, cell=20)
