"""Small pictures made larger: the data, their judge, and the edit by a model that knows how."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from suffuse import plugins, recipe
from suffuse.cli import main
from suffuse.errors import SuffuseError
from suffuse.model import Model
from suffuse.plugins.contracts import Example
from suffuse.training import looks
from suffuse_image.edits import Vary
from suffuse_image.filling import Tile
from suffuse_image.restoring import Denoise, Upscale
from suffuse_image.smaller import Detail, Smaller

LARGE = {"name": "image/emoji", "size": 64}
SMALL = {"denoiser.width": 16, "denoiser.depth": 1, "denoiser.heads": 1, "sampling.steps": 2}


def blocks(image: Image.Image, factor: int) -> np.ndarray:
    """Means of blocks."""
    p = np.asarray(image, dtype=np.float64)
    h, w = (side // factor for side in p.shape[:2])
    return p.reshape(h, factor, w, factor, 3).mean((1, 3))


def test_the_small_picture_is_the_mean_of_blocks() -> None:
    test = Smaller("test")
    for i in (0, 7, len(test) - 1):
        found = np.asarray(test[i].conditions["small"], dtype=np.float64)
        np.testing.assert_allclose(found, blocks(test[i].data, 2), atol=0.51)


def test_copies_of_the_training_split_have_noise_that_stays_the_same() -> None:
    train, quiet = Smaller("train", noise=8.0), Smaller("train", noise=0.0)
    apart = []
    for i in range(40):
        one, two = (np.asarray(s[i].conditions["small"], dtype=np.float64) for s in (train, quiet))
        assert train[i].conditions["small"].tobytes() == train[i].conditions["small"].tobytes()
        inner = (two > 40) & (two < 215)  # where nothing is clipped
        if inner.sum() > 300:
            apart.append((one - two)[inner].std())
    assert max(apart) < 9
    assert min(apart) < 3 < max(apart)


def test_pictures_of_a_folder_are_cropped_first(tmp_path, rng) -> None:
    for i in range(6):
        pixels = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    example = Smaller("train", path=str(tmp_path), size=24, factor=3, noise=0)[0]
    assert (example.data.size, example.conditions["small"].size) == ((24, 24), (8, 8))
    np.testing.assert_allclose(
        np.asarray(example.conditions["small"], dtype=float), blocks(example.data, 3), atol=0.6
    )


@pytest.mark.parametrize("wrong", [{"factor": 1}, {"factor": 3}, {"size": 0}])
def test_factors_that_do_not_fit_are_refused(wrong) -> None:
    with pytest.raises(SuffuseError, match="divides the size"):
        Smaller("test", **wrong)


def test_emoji_at_64_are_those_at_32() -> None:
    """Both sheets were drawn from one drawing of 128 pixels a side."""
    large = plugins.build("dataset", LARGE, split="test")
    small = plugins.build("dataset", {"name": "image/emoji"}, split="test")
    assert len(large) == len(small)
    for i in range(0, len(large), 11):
        assert large[i].conditions == small[i].conditions
        apart = np.abs(blocks(large[i].data, 2) - np.asarray(small[i].data, dtype=float))
        # a few drawings are not quite square, and were averaged over parts of pixels
        assert apart.max() <= 1.5 or apart.mean() < 0.5
    with pytest.raises(SuffuseError, match="drawn at 32 and 64 pixels"):
        plugins.build(
            "dataset", {"name": "image/emoji", "size": 64, "concepts": "all"}, split="test"
        )


def test_the_judge_finds_the_true_picture_of_each_small_one() -> None:
    test = Smaller("test")
    rows = [3, 0, 5]
    grey = Image.new("RGB", (64, 64), (90, 90, 90))
    true = [Example(test[i].data, test[i].conditions) for i in rows]
    found = {m.name: m for m in Detail().evaluate(true, test=test, train=test, seed=0)}
    assert found["Error"].value == 0
    assert found["SSIM"].value == pytest.approx(1)
    plain = [Example(grey, test[i].conditions) for i in rows]
    found = {m.name: m for m in Detail().evaluate(plain, test=test, train=test, seed=0)}
    errors = [(np.asarray(test[i].data, dtype=float) - 90) for i in rows]
    assert found["Error"].value == pytest.approx(np.mean([(e**2).mean() ** 0.5 for e in errors]))
    assert 0 < found["Error, Lanczos"].value < found["Error"].value
    assert found["Error of the small copy"].value > found["Error, Lanczos"].value
    (alone,) = Detail().evaluate(
        [Example(grey, {"small": grey})] * 2, test=test, train=test, seed=0
    )
    assert (alone.name, alone.value) == ("Error of the small copy", 0)
    with pytest.raises(SuffuseError, match='the condition "small"'):
        Detail().evaluate([Example(grey)], test=test, train=test, seed=0)


@pytest.mark.parametrize(
    ("size", "factor", "sizes"),
    [((32, 32), 2, [None]), ((40, 33), 2, [(66, 80)]), ((9, 40), 4, [(80, 64), (160, 64)])],
)
def test_a_model_that_knows_the_small_picture_is_told_it(size, factor, sizes) -> None:
    """Of any size; what it makes of a picture twice is four times larger."""
    loaded = recipe.load("image/upsampler", SMALL)
    data = plugins.build("dataset", loaded.dataset, split="train")
    model = Model.untrained(loaded, data)
    picture = data[0].data.resize(size)
    told = []

    def sample(n, **given):
        told.append(given)
        return [Image.fromarray(state_to_pixels(model, state)) for state in given["small"]]

    model.sample = sample  # type: ignore[method-assign]
    made = Upscale(model, factor=factor, average=2)([picture], n=3, seed=5, steps=4)
    assert [image.size for image in made] == [(size[0] * factor, size[1] * factor)] * 3
    assert [given.get("size") for given in told] == sizes
    for given in told:
        assert len(set(given["seed"])) == len(given["small"]) == 6
        assert given["steps"] == 4
    if factor == 2:  # what is told is the picture, made larger by Lanczos' filter
        wide = np.pad(np.asarray(picture), [(0, max(0, 32 - size[1])), (0, 0), (0, 0)], "edge")
        larger = Image.fromarray(wide).resize(
            (2 * size[0], 2 * max(32, size[1])), Image.Resampling.LANCZOS
        )
        assert made[0].tobytes() == larger.crop((0, 0, 2 * size[0], 2 * size[1])).tobytes()
    with pytest.raises(SuffuseError, match="2 times larger, or 4 by doing so twice, and not 3"):
        Upscale(model, factor=3)
    with pytest.raises(SuffuseError, match="leave out --small"):
        Upscale(model)([picture], small=picture)
    for ignored in ({"noise": 5.0}, {"method": "dps"}):
        with pytest.raises(SuffuseError, match="neither --noise nor --method"):
            Upscale(model, **ignored)
    for other in (Vary, Denoise, Tile):
        with pytest.raises(SuffuseError, match="of another one, 'small'"):
            other(model)


def state_to_pixels(model, state):
    mean, std = (torch.tensor(v)[:, None, None] for v in (model.encoder.mean, model.encoder.std))
    p = ((state * std + mean) * 255).round().clamp(0, 255).permute(1, 2, 0)
    return p.numpy().astype(np.uint8)


def test_a_large_picture_is_made_in_windows() -> None:
    """Untrained, the network says the same of any window: so does the whole."""
    loaded = recipe.load("image/upsampler", SMALL)
    model = Model.untrained(loaded, plugins.build("dataset", loaded.dataset, split="train"))
    picture = Image.effect_noise((50, 40), 60).convert("RGB")
    made = Upscale(model)([picture], steps=2)
    assert made[0].size == (100, 80)


def test_sheets_of_a_training_are_of_held_out_small_pictures(tmp_path, monkeypatch) -> None:
    loaded = recipe.load("image/upsampler", SMALL)
    model = Model.untrained(loaded, plugins.build("dataset", loaded.dataset, split="train"))
    given = []
    sample = model.sample
    monkeypatch.setattr(
        model, "sample", lambda n, **words: given.append(words["small"]) or sample(n, **words)
    )
    looks.sheet(model, tmp_path / "sheet.png")
    assert Image.open(tmp_path / "sheet.png").size[0] > 4 * 64
    test = Smaller("test")
    true = {test[i].conditions["small"].tobytes() for i in range(len(test))}
    assert len({small.tobytes() for small in given[0]} & true) == 16


def test_a_model_that_must_be_told_is_not_sampled_without(tmp_path, capsys) -> None:
    loaded = recipe.load("image/upsampler", SMALL)
    data = plugins.build("dataset", loaded.dataset, split="train")
    Model.untrained(loaded, data).save(tmp_path / "m")
    with pytest.raises(SystemExit) as end:
        main(["sample", str(tmp_path / "m"), "-n", "1", "-o", str(tmp_path / "x.png")])
    assert end.value.code == 1
    assert "makes one thing of another: give --small FILE" in capsys.readouterr().err
    data[0].conditions["small"].save(tmp_path / "small.png")
    words = ["--small", str(tmp_path / "small.png"), "-o", str(tmp_path / "x.png")]
    with pytest.raises(SystemExit) as end:
        main(["sample", str(tmp_path / "m"), "-n", "1", *words])
    assert not end.value.code
    assert Image.open(tmp_path / "x.png").size == (64, 64)
