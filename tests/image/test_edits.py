"""Edits, by a model whose answers are known.

A fresh network answers 0, and the prediction "edm" makes of that the exact denoiser of data that
are normal with the variance 1: what edits do to such data has closed forms.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import suffuse
from suffuse import recipe
from suffuse.cli import main
from suffuse.cli.edit import KEY
from suffuse.errors import SuffuseError
from suffuse.model import Model
from suffuse_image import edits, filling, jpeg, restoring

CHANGES = {
    "denoiser.width": 16,
    "denoiser.depth": 1,
    "denoiser.heads": 1,
    "encoder.size": 16,
    "encoder.channels": 3,
    "encoder.mean": [0.55, 0.5, 0.45],
    "encoder.std": [0.06, 0.07, 0.08],  # so that no pixel is clipped
    "sampling.steps": 6,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    loaded = recipe.load("image/emoji", CHANGES)
    made = Model(loaded, made_conditions(loaded))
    folder = tmp_path_factory.mktemp("models") / "plain"
    made.save(folder)
    return suffuse.load(folder)


def made_conditions(loaded):
    from suffuse import plugins

    return plugins.build("dataset", loaded.dataset, split="test").conditions


def picture(size=(16, 16), seed=0, mode="RGB"):
    values = np.random.default_rng(seed).integers(105, 150, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def saved_mask(path, size, box):
    mask = Image.new("L", size, 0)
    mask.paste(255, box)
    mask.save(path)
    return str(path)


@pytest.mark.parametrize(
    ("size", "box"),
    [((16, 16), (0, 8, 16, 16)), ((90, 70), (30, 20, 50, 35)), ((40, 16), (39, 0, 40, 16))],
)
def test_inpainting_keeps_every_pixel_outside_of_the_mask(model, tmp_path, size, box):
    mask = saved_mask(tmp_path / "mask.png", size, box)
    image = picture(size)
    first, second = filling.Inpaint(model, mask=mask)([image], n=2, seed=3, prompt="fox")
    inside = np.asarray(Image.open(mask)) > 0
    for made in (first, second):
        assert made.size == size
        assert (np.asarray(made)[~inside] == np.asarray(image)[~inside]).all()
    assert (np.asarray(first)[inside] != np.asarray(second)[inside]).any()
    again = filling.Inpaint(model, mask=mask)([image], n=1, seed=3, prompt="fox")[0]
    assert again.tobytes() == first.tobytes()


def test_masks_that_do_not_fit_are_refused(model, tmp_path):
    small = saved_mask(tmp_path / "small.png", (8, 8), (0, 0, 4, 4))
    with pytest.raises(SuffuseError, match="8x8 pixels, and the picture 16x16"):
        filling.Inpaint(model, mask=small)([picture()])
    black = saved_mask(tmp_path / "black.png", (16, 16), (0, 0, 0, 0))
    with pytest.raises(SuffuseError, match="nothing to fill"):
        filling.Inpaint(model, mask=black)
    with pytest.raises(SuffuseError, match="no such file"):
        filling.Inpaint(model, mask=str(tmp_path / "none.png"))


def test_a_white_mask_makes_all_of_it_anew(model, tmp_path):
    white = saved_mask(tmp_path / "white.png", (16, 16), (0, 0, 16, 16))
    made = filling.Inpaint(model, mask=white)([picture()])[0]
    assert made.size == (16, 16)


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "CMYK", "1"])
def test_any_mode_is_edited(model, tmp_path, mode):
    mask = saved_mask(tmp_path / "mask.png", (16, 16), (0, 0, 8, 8))
    assert filling.Inpaint(model, mask=mask)([picture(mode=mode)])[0].mode == "RGB"


def test_outpainting_keeps_the_picture_in_the_middle(model):
    image = picture((20, 12))
    made = filling.Outpaint(model, factor=2.0)([image])[0]
    assert made.size == (40, 24)
    assert made.crop((10, 6, 30, 18)).tobytes() == image.tobytes()
    with pytest.raises(SuffuseError, match="factor"):
        filling.Outpaint(model, factor=1.0)


def test_an_upscaled_picture_has_the_means_of_the_small_one(model):
    small = picture((8, 8))
    made = restoring.Upscale(model, method="mmps")([small])[0]
    means = np.asarray(made, dtype=float).reshape(8, 2, 8, 2, 3).mean((1, 3))
    assert np.abs(means - np.asarray(small)).mean() < 1.5
    with pytest.raises(SuffuseError, match="divides"):
        restoring.Upscale(model, factor=3)


def test_denoising_shrinks_to_the_mean_as_the_posterior_does(model):
    """E[x | y] = y / (1 + s²) for x ~ N(0, 1), y = x + s z; the draw's deviation is s/√(1 + s²)."""
    image, levels = picture(), 20.0
    made = restoring.Denoise(model, noise=levels, method="mmps")([image], n=48, seed=1, steps=48)
    y = model.encode([image])[0]
    s = torch.tensor(levels / 255) / torch.tensor(model.encoder.std)[:, None, None]
    x = model.encode(made)
    expected = y / (1 + s**2)
    spread = (s / (1 + s**2).sqrt()).expand_as(y)
    error = (x.mean(0) - expected) / (spread / len(made) ** 0.5)
    # The mean square of standard normal numbers is 1 within 3 √(2 / n).
    assert error.square().mean() < 1.4
    assert 0.7 < (x.std(0) / spread).mean() < 1.1


def test_denoising_answers_with_the_mean_of_what_it_may_have_been(model):
    image, levels = picture(), 20.0
    made = restoring.Denoise(model, noise=levels)([image], n=2, seed=1)
    assert made[0].tobytes() == made[1].tobytes()
    y = model.encode([image])[0]
    s = torch.tensor(levels / 255) / torch.tensor(model.encoder.std)[:, None, None]
    expected = y / (1 + s.square().mean())
    assert (model.encode(made)[0] - expected).abs().max() < 0.6 / 255 / min(model.encoder.std)


def test_a_mean_of_draws_is_nearer_than_a_draw(model):
    image = picture()
    y = model.encode([image])[0]
    s = 20 / 255 / torch.tensor(model.encoder.std)[:, None, None]
    far = []
    for average in (1, 8):
        edit = restoring.Denoise(model, noise=20.0, method="mmps", average=average)
        x = model.encode(edit([image], n=2, seed=0, steps=24))
        far.append((x - y / (1 + s**2)).square().mean())
    assert far[1] < far[0] / 4
    with pytest.raises(SuffuseError, match="1 draw or more"):
        restoring.Denoise(model, average=0)


def test_a_filling_may_be_the_mean_of_draws(model, tmp_path):
    """Of the draws with the same seeds; known pixels stay as they are."""
    image, box = picture(), (4, 4, 12, 10)
    mask = saved_mask(tmp_path / "mask.png", image.size, box)
    drawn = filling.Inpaint(model, mask=mask)([image], n=6, seed=2, steps=4)
    means = filling.Inpaint(model, mask=mask, average=3)([image], n=2, seed=2, steps=4)
    for k, mean in enumerate(means):
        expected = np.mean([np.asarray(p, dtype=float) for p in drawn[k::2]], axis=0)
        assert abs(np.asarray(mean) - expected).max() <= 0.5
        clear = np.asarray(Image.open(mask)) == 0
        assert (np.asarray(mean)[clear] == np.asarray(image)[clear]).all()
    assert means[0].tobytes() != means[1].tobytes()
    with pytest.raises(SuffuseError, match="1 draw or more"):
        filling.Inpaint(model, mask=mask, average=0)


def test_the_noise_of_a_picture_is_estimated():
    rng = np.random.default_rng(0)
    smooth = np.broadcast_to(np.linspace(60, 190, 64)[:, None, None], (64, 64, 3))
    for deviation in (5.0, 15.0, 30.0):
        noisy = (smooth + rng.normal(0, deviation, smooth.shape)).clip(0, 255).astype(np.uint8)
        assert restoring.noise_level(Image.fromarray(noisy)) == pytest.approx(deviation, rel=0.1)


def test_colours_keep_the_brightness(model):
    grey = picture(mode="L")
    made = restoring.Colorize(model, method="mmps")([grey], steps=12)[0]
    difference = np.asarray(made.convert("L"), dtype=float) - np.asarray(grey)
    assert np.abs(difference).mean() < 3
    assert np.ptp(np.asarray(made).astype(int), axis=2).max() > 10


def test_deblurring_agrees_with_the_blurred_picture(model):
    image = picture()
    edit = restoring.Deblur(model, blur=1.0, method="mmps")
    blurred = model.decode(edit.operator(model.encode([image])))[0]
    made = edit([blurred], steps=32)[0]
    again = edit.operator(model.encode([made])) - model.encode([blurred])
    assert again.abs().mean() < 0.06


def test_a_jpeg_is_told_of_by_its_coefficients():
    """The rounding is that of Pillow's encoder: what it wrote lies within half a step."""
    import io

    rng = np.random.default_rng(0)
    smooth = np.kron(rng.uniform(60, 200, (4, 4, 3)), np.ones((8, 8, 1)))
    image = Image.fromarray(smooth.astype(np.uint8)).resize((32, 32), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=30)
    coded = Image.open(file).convert("RGB")
    std = torch.ones(3, 1, 1)
    A, deviation = jpeg.operator((32, 32), std, 30)
    true, seen = (
        A(torch.from_numpy(np.array(p)).permute(2, 0, 1)[None] / 255) for p in (image, coded)
    )
    luma = slice(0, 32 * 32)  # of colours, the decoder's smoothing is a part of what is seen
    steps = ((true - seen)[0, luma] / (deviation[luma] * 12**0.5)).abs()
    assert (steps < 0.6).float().mean() > 0.99
    x, y = torch.randn(1, 3, 32, 32), torch.randn(1, len(deviation))
    assert float((A(x) * y).sum()) == pytest.approx(float((x * A.T(y)).sum()), rel=1e-3)
    with pytest.raises(SuffuseError, match="1 to 100"):
        jpeg.operator((32, 32), std, 0)


def test_artefacts_of_a_jpeg_are_undone_in_agreement_with_it(model):
    image = picture()
    made = restoring.Dejpeg(model, quality=40)([image], steps=16)[0]
    edit = restoring.Dejpeg(model, quality=40)
    gap = edit.operator(model.encode([made])) - edit.observe(image).y
    assert (gap / edit.noise).square().mean() < 3


def test_pan_moves_the_picture_and_fills_what_comes_into_view(model):
    image = picture((20, 16))
    made = filling.Pan(model, right=0.25, down=-0.25)([image], steps=4)[0]
    assert made.size == image.size
    assert made.crop((0, 4, 15, 16)).tobytes() == image.crop((5, 0, 20, 12)).tobytes()
    with pytest.raises(SuffuseError, match="not both 0"):
        filling.Pan(model, right=0.0)


def test_zoom_keeps_the_size(model):
    made = filling.Zoom(model, factor=2.0)([picture((24, 16))], steps=4)[0]
    assert made.size == (24, 16)


def test_a_tile_keeps_all_but_its_seam(model):
    """Outside of a cross around the borders nothing changes; side by side, nothing breaks there."""
    ramp = np.broadcast_to(np.linspace(110, 150, 16)[None, :, None], (16, 16, 3))
    image = Image.fromarray(ramp.astype(np.uint8))
    made = np.asarray(filling.Tile(model, seam=0.5)([image], steps=8)[0])
    assert (made[4:12, 4:12] == np.asarray(image)[4:12, 4:12]).all()
    assert (made[:3] != np.asarray(image)[:3]).any()
    rows = []
    handle = model.network.register_forward_pre_hook(lambda m, args: rows.append(len(args[0])))
    filling.Tile(model)([image], steps=3)
    handle.remove()
    assert sum(rows) == 3 * 4  # as it is, and turned sideways, up, and both
    with pytest.raises(SuffuseError, match="seam"):
        filling.Tile(model, seam=1.0)


def test_a_region_is_varied_by_its_strength(model, tmp_path):
    mask = saved_mask(tmp_path / "mask.png", (16, 16), (4, 4, 12, 12))
    image = picture()
    inside = np.asarray(Image.open(mask)) > 0
    changes = []
    for strength in (0.1, 1.0):
        made = np.asarray(filling.Inpaint(model, mask=mask, strength=strength)([image])[0])
        assert (made[~inside] == np.asarray(image)[~inside]).all()
        changes.append(np.abs(made[inside].astype(float) - np.asarray(image)[inside]).mean())
    assert changes[0] < 5 < changes[1]
    with pytest.raises(SuffuseError, match="strength"):
        filling.Inpaint(model, mask=mask, strength=0.0)


def test_the_same_words_bring_the_picture_back(model):
    image = picture()
    made = edits.Rephrase(model, source="a fox", rounds=8)([image], prompt="a fox", steps=24)[0]
    gap = np.abs(np.asarray(made, dtype=float) - np.asarray(image)).mean()
    assert gap < 2.5
    with pytest.raises(SuffuseError, match="--prompt says"):
        edits.Rephrase(model, source="a fox")([image])
    with pytest.raises(SuffuseError, match="one result"):
        edits.Rephrase(model, source="a fox")([image], n=2, prompt="a cat")
    with pytest.raises(SuffuseError, match="by the solver ddim"):
        edits.Rephrase(model, source="a fox")([image], prompt="a cat", solver="heun")


def test_numbers_that_are_none_are_refused(model, tmp_path):
    for edit in (restoring.Deblur, restoring.Upscale):
        for noise in (-1.0, 300.0, float("nan")):
            with pytest.raises(SuffuseError, match="noise is 0 or more"):
                edit(model, noise=noise)
    mask = str(tmp_path / "mask.png")
    Image.new("L", (16, 16), 255).save(mask)
    for context in (0.5, float("inf"), float("nan")):
        with pytest.raises(SuffuseError, match="context"):
            filling.Inpaint(model, mask=mask, context=context)


def test_the_strength_of_a_variation(model):
    image = picture()
    near, far = (
        np.abs(
            np.asarray(edits.Vary(model, strength=s)([image])[0], dtype=float) - np.asarray(image)
        ).mean()
        for s in (0.2, 0.9)
    )
    assert near < 7 < far
    with pytest.raises(SuffuseError, match="strength"):
        edits.Vary(model, strength=0.0)([image])


def test_a_blend_is_of_two(model):
    first, second = (Image.new("RGB", (16, 16), (level,) * 3) for level in (100, 160))
    made = edits.Blend(model, strength=0.1)([first, second], n=3)
    means = [np.asarray(image).mean() for image in made]
    assert means == sorted(means)
    with pytest.raises(SuffuseError, match="two pictures"):
        edits.Blend(model)([first])


# The command


def run(capsys, *words):
    try:
        main([*map(str, words)])
    except SystemExit as end:
        captured = capsys.readouterr()
        return end.code or 0, captured.out, captured.err
    captured = capsys.readouterr()
    return 0, captured.out, captured.err


def test_the_command_writes_what_the_edit_makes(model, tmp_path, capsys):
    picture().save(tmp_path / "a.png")
    mask = saved_mask(tmp_path / "mask.png", (16, 16), (0, 0, 8, 8))
    out = tmp_path / "out.png"
    code, said, _ = run(
        capsys,
        *("edit", "inpaint", tmp_path / "a.png", "--mask", mask, "--model", model.path),
        *("--prompt", "a fox", "--style", "noto", "--seed", 2, "-o", out),
    )
    assert (code, said) == (0, f"1 result in {out}\n")
    edit = filling.Inpaint(model, mask=mask)
    expected = edit([picture()], seed=2, prompt="a fox", style="noto")[0]
    assert Image.open(out).tobytes() == expected.tobytes()
    record = json.loads(Image.open(out).text[KEY])
    assert record["conditions"] == {"prompt": "a fox", "style": "noto"}
    assert (record["edit"], record["seed"]) == ("image/inpaint", 2)


def test_a_folder_keeps_its_names(model, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.jpg"):
        picture().save(tmp_path / "in" / name)
    code, _, _ = run(
        capsys,
        *("edit", "vary", "--strength=0.3", tmp_path / "in", "--model", model.path),
        *("-o", tmp_path / "out"),
    )
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.jpg"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("inpant", "a.png"), "did you mean 'inpaint'"),
        (("inpaint", "a.png"), "edit.mask is missing: give it by --mask"),
        (("vary", "a.png", "--strenth", "1"), "did you mean 'strength'"),
        (("vary", "a.png", "--strength", "x"), "expected a number"),
        (("vary", "a.png", "--style", "not"), "did you mean 'noto'"),
        (("vary", "a.png", "--prompt", "foxx"), "did you mean 'fox'"),
        (("vary", "none.png"), "no file 'none.png'"),
        (("vary",), "at least one file"),
        (("vary", "a.png", "-n", "0"), "-n is 1 or more"),
        (("vary", "broken.png"), "damaged"),
    ],
)
def test_what_the_user_gets_wrong(model, tmp_path, capsys, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    picture().save("a.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:200])
    code, _, error = run(capsys, "edit", *words, "--model", model.path)
    assert code == 1
    assert error.startswith("error: ")
    assert says in error


def test_without_a_model_the_only_one_that_reads_the_file_is_taken(
    model, tmp_path, capsys, monkeypatch
):
    from suffuse import plugins

    real = plugins.entries
    names = ["image/plain", "audio/plain"]

    def entries(kind):
        return [SimpleNamespace(name=n) for n in names] if kind == "model" else real(kind)

    monkeypatch.setattr(plugins, "entries", entries)
    sound = SimpleNamespace(renderer=SimpleNamespace(suffixes=(".wav",)))
    monkeypatch.setattr(suffuse, "load", {"image/plain": model, "audio/plain": sound}.get)
    picture().save(tmp_path / "a.png")
    words = ("edit", "vary", tmp_path / "a.png", "-o", tmp_path / "out.png")
    assert run(capsys, *words)[::2] == (0, "by image/plain\n")
    names.append("image/other")
    monkeypatch.setattr(suffuse, "load", lambda name: model)
    code, _, said = run(capsys, *words)
    assert code == 1
    assert "needs --model, a run directory or a name: installed are image/plain, audio" in said
    assert "no edit 'varry'; did you mean 'vary'?" in run(capsys, "edit", "varry", "a.png")[2]
