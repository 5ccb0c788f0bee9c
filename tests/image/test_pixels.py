"""The encoder: exact where it can be, and any picture goes in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Encoder, Example
from suffuse_image.digits import Digits
from suffuse_image.modes import eight_bit
from suffuse_image.pixels import Pixels


class Listed:
    """A data set of the pictures given."""

    def __init__(self, images):
        self.images = images

    @property
    def conditions(self):
        return {"label": Condition("category", ("a",))}

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return Example(self.images[index], {"label": "a"})


def random_image(rng, mode="RGB", size=(24, 16)):
    bands = {"L": (), "RGB": (3,), "RGBA": (4,), "LA": (2,)}[mode]
    pixels = rng.integers(0, 256, (size[1], size[0], *bands), dtype=np.uint8)
    image = Image.fromarray(pixels)
    assert image.mode == mode
    return image


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_eight_bit_pictures_come_back_bit_for_bit(rng, mode):
    images = [random_image(rng, mode) for _ in range(20)]
    encoder = Pixels()
    encoder.fit(Listed(images))
    x = encoder.encode(images)
    assert x.dtype == torch.float32
    assert x.shape == (20, *encoder.shape) == (20, len(mode), 16, 24)
    for before, after in zip(images, encoder.decode(x), strict=True):
        assert after.mode == mode
        assert after.tobytes() == before.tobytes()


def test_all_256_values_survive_any_mean_and_std(rng):
    image = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    for _ in range(50):
        mean, std = float(rng.uniform(0, 1)), float(10 ** rng.uniform(-2.4, 0.5))
        encoder = Pixels(16, 1, [mean], [std])
        assert encoder.decode(encoder.encode([image]))[0].tobytes() == image.tobytes()


def test_the_training_split_is_standardised_per_channel(rng):
    scale = np.array([40, 90, 20])
    images = [
        Image.fromarray(rng.normal([60, 120, 200], scale, (9, 7, 3)).clip(0, 255).astype(np.uint8))
        for _ in range(50)
    ]
    encoder = Pixels()
    encoder.fit(Listed(images))
    x = encoder.encode(images)
    assert x.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-3)
    assert x.std((0, 2, 3)).tolist() == pytest.approx([1, 1, 1], abs=1e-2)


def test_what_fit_returns_makes_the_same_encoder():
    digits = Digits("train")
    encoder = Pixels()
    options = encoder.fit(digits)
    again = Pixels(**options)
    images = [digits[i].data for i in range(5)]
    assert options["size"] == [8, 8]
    assert options["channels"] == 1
    assert torch.equal(encoder.encode(images), again.encode(images))
    assert again.fit(digits) == options
    assert isinstance(again, Encoder)


def test_what_is_given_is_not_measured(rng):
    images = [random_image(rng) for _ in range(4)]
    options = Pixels(size=[4, 6], channels=1, mean=[0.5], std=[0.5]).fit(Listed(images))
    assert options == {"size": [4, 6], "channels": 1, "mean": [0.5], "std": [0.5]}


def test_colour_decides_the_channels_and_not_the_mode(rng):
    grey = [random_image(rng, "L").convert("RGB") for _ in range(4)]
    assert Pixels().fit(Listed(grey))["channels"] == 1
    assert Pixels().fit(Listed([*grey, random_image(rng)]))["channels"] == 3


def test_a_set_without_contrast_is_legal():
    encoder = Pixels()
    encoder.fit(Listed([Image.new("L", (4, 4), 9)] * 3))
    x = encoder.encode([Image.new("L", (4, 4), 9)])
    assert torch.isfinite(x).all()
    assert encoder.decode(x)[0].getpixel((0, 0)) == 9


def test_decoding_clamps_and_rounds():
    encoder = Pixels(1, 1, [0.5], [0.5])
    x = torch.tensor([-9.0, 9.0, 0.0, (100.4 / 255 - 0.5) / 0.5]).reshape(4, 1, 1, 1)
    assert [p.getpixel((0, 0)) for p in encoder.decode(x)] == [0, 255, 128, 100]
    assert [p.getpixel((0, 0)) for p in encoder.decode(x.bfloat16())][:3] == [0, 255, 128]


def test_values_that_are_not_finite_are_refused():
    encoder = Pixels(1, 1, [0.5], [0.5])
    with pytest.raises(SuffuseError, match="not finite"):
        encoder.decode(torch.full((1, 1, 1, 1), torch.nan))


def test_inputs_are_not_written_to(rng):
    image = random_image(rng, "RGBA")
    before = image.tobytes()
    x = torch.randn(1, 3, 5, 5)
    kept = x.clone()
    encoder = Pixels(5, 3, [0.5] * 3, [0.5] * 3)
    encoder.encode([image])
    encoder.decode(x)
    assert image.tobytes() == before
    assert torch.equal(x, kept)


# Sizes


def test_other_sizes_are_scaled_to_cover_and_cropped_around_the_centre():
    image = Image.new("L", (300, 100), 0)
    image.paste(255, (100, 0, 200, 100))
    encoder = Pixels(10, 1, [0.0], [1.0])
    x = encoder.encode([image])
    assert x[..., 3:7].min() == 1  # the middle third fills the picture,
    assert x.min() > 0.5  # and its edges see a little of what lies beside them


def test_shrinking_is_antialiased():
    board = np.indices((64, 64)).sum(0) % 2 * 255
    x = Pixels(8, 1, [0.0], [1.0]).encode([Image.fromarray(board.astype(np.uint8))])
    assert x.flatten().tolist() == pytest.approx([0.5] * 64, abs=0.01)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (20_000, 1), (3, 20_000), (20_000, 300)])
def test_any_size_goes_in(size):
    x = Pixels([12, 20], 3, [0.0] * 3, [1.0] * 3).encode([Image.new("RGB", size, (255, 0, 0))])
    assert x.shape == (1, 3, 12, 20)
    assert x.mean((0, 2, 3)).tolist() == pytest.approx([1, 0, 0], abs=1e-3)


def test_pictures_of_several_sizes_need_a_size():
    images = [Image.new("L", (4, 4)), Image.new("L", (5, 4))]
    with pytest.raises(SuffuseError, match=r"4x4 and 5x4.*encoder\.size"):
        Pixels().fit(Listed(images))
    assert Pixels(size=3).fit(Listed(images))["size"] == [3, 3]


def test_no_pictures_is_no_batch_and_no_fit():
    assert Pixels(4, 1, [0.0], [1.0]).encode([]).shape == (0, 1, 4, 4)
    with pytest.raises(SuffuseError, match="no pictures"):
        Pixels().fit(Listed([]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 0}, "positive"),
        ({"size": [3, 4, 5]}, "one or two"),
        ({"channels": 2}, "1 or 3, not 2"),
        ({"mean": [0.5], "std": [0.5] * 3}, "std has 3 values"),
        ({"channels": 3, "mean": [0.5]}, "for 3 channels"),
        ({"mean": [0.5] * 2}, "1 or 3 channels"),
        ({"std": [0.0]}, "above 0"),
    ],
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(SuffuseError, match=words):
        Pixels(**options)


def test_misuse_is_named():
    with pytest.raises(RuntimeError, match="call fit"):
        _ = Pixels().shape
    with pytest.raises(SuffuseError, match="ndarray"):
        Pixels(2, 1, [0.0], [1.0]).encode([np.zeros((2, 2))])
    with pytest.raises(ValueError, match="expected states"):
        Pixels(2, 1, [0.0], [1.0]).decode(torch.zeros(1, 3, 2, 2))


# Modes


def test_transparency_is_laid_over_white():
    for mode, clear in (("RGBA", (9, 9, 9, 0)), ("LA", (9, 0))):
        assert set(eight_bit(Image.new(mode, (2, 2), clear)).tobytes()) == {255}
    half = eight_bit(Image.new("RGBA", (1, 1), (0, 0, 0, 128))).getpixel((0, 0))
    assert half == (127, 127, 127)


def test_a_transparent_palette_entry_is_laid_over_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert [eight_bit(image).getpixel((i, 0)) for i in (0, 1)] == [(10, 20, 30), (200, 100, 50)]
    image.info["transparency"] = 0
    assert [eight_bit(image).getpixel((i, 0)) for i in (0, 1)] == [(255,) * 3, (200, 100, 50)]


def test_sixteen_bit_grey_keeps_its_range():
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    for image in (Image.fromarray(values), Image.fromarray(values.astype(np.int32))):
        assert list(eight_bit(image).tobytes()) == [0, 1, 128, 255]


def test_floats_are_read_by_their_range():
    for values in ([0.0, 0.5, 1.0], [0.0, 127.5, 255.0]):
        image = Image.fromarray(np.array([values], dtype=np.float32))
        assert list(eight_bit(image).tobytes()) == [0, 128, 255]
    image = Image.fromarray(np.array([[np.nan, 1.0, np.inf]], dtype=np.float32))
    assert eight_bit(image).tobytes()[0] == 0


def test_one_bit_and_cmyk():
    assert list(eight_bit(Image.new("1", (1, 1), 1)).tobytes()) == [255]
    assert eight_bit(Image.new("CMYK", (1, 1), (0, 255, 255, 0))).getpixel((0, 0)) == (255, 0, 0)
    assert eight_bit(Image.new("CMYK", (1, 1), (0, 0, 0, 0)), channels=1).getpixel((0, 0)) == 255


@pytest.mark.parametrize(
    "mode",
    [
        "1",
        "L",
        "LA",
        "La",
        "P",
        "PA",
        "RGB",
        "RGBA",
        "RGBX",
        "RGBa",
        "CMYK",
        "YCbCr",
        "LAB",
        "HSV",
        "I",
        "F",
        "I;16",
    ],
)
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_every_mode_becomes_grey_or_rgb(mode, channels):
    image = eight_bit(Image.new(mode, (3, 2)), channels)
    grey = mode in ("1", "L", "LA", "La", "I", "F", "I;16")
    assert image.mode == ("L" if (channels or (1 if grey else 3)) == 1 else "RGB")
    assert image.size == (3, 2)


def test_the_rotation_that_a_camera_noted_is_applied(tmp_path):
    image = Image.new("RGB", (40, 20), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    assert eight_bit(Image.open(tmp_path / "a.png")).size == (20, 40)


def test_the_first_frame_of_an_animation_counts(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    image = Image.open(tmp_path / "a.gif")
    image.seek(2)
    assert min(eight_bit(image).getpixel((0, 0))[0], 254) == 254
    assert eight_bit(image).getpixel((0, 0))[1:] == (0, 0)
