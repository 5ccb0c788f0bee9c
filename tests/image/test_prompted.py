"""Models of prompts: negative ones, weights, and files that say what made them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import suffuse
from suffuse import plugins, recipe
from suffuse.cli import main
from suffuse.errors import SuffuseError
from suffuse.model import Model

TINY = {
    "denoiser.width": 16,
    "denoiser.depth": 1,
    "denoiser.heads": 1,
    "encoder.size": 8,
    "encoder.channels": 3,
    "encoder.mean": [0.5, 0.5, 0.5],
    "encoder.std": [0.1, 0.1, 0.1],
    "sampling.steps": 4,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    loaded = recipe.load("image/emoji", TINY)
    dataset = plugins.build("dataset", loaded.dataset, split="test")
    made = Model(loaded, dataset.conditions)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in made.network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    folder = tmp_path_factory.mktemp("models") / "tiny"
    made.save(folder)
    return suffuse.load(folder)


def pixels(images):
    return np.stack([np.asarray(image, dtype=int) for image in images])


def test_led_away_from_what_is_asked_for_is_no_guidance(model):
    """d_null + w (d − d_null) = d where both are the same."""
    given = {"prompt": "fox", "style": "noto"}
    plain = pixels(model.sample(2, guidance=1.0, **given))
    both = pixels(model.sample(2, guidance=3.0, null=given, **given))
    assert np.abs(plain - both).max() <= 1
    other = pixels(model.sample(2, guidance=3.0, null={"prompt": "whale"}, **given))
    assert np.abs(plain - other).max() > 1


def test_a_negative_colour_weighs_below_nothing_and_the_rest_is_led_away_from(model):
    null = {"style": "noto", "prompt": "whale"}
    a = pixels(model.sample(2, guidance=3.0, prompt=["(red:-1) a fox", "(red:-1)"], null=null))
    negative = {"prompt": "a red whale", "style": "noto"}
    b = pixels(model.sample(2, guidance=3.0, prompt=["a fox", None], negative=negative))
    assert (a == b).all()


def test_no_negative_is_the_null_condition(model):
    a = pixels(model.sample(2, guidance=3.0, prompt="fox"))
    b = pixels(model.sample(2, guidance=3.0, prompt="fox", negative={"prompt": None}))
    assert (a == b).all()


def test_negatives_are_checked(model):
    with pytest.raises(SuffuseError, match="guidance"):
        model.sample(1, guidance=1.0, prompt="fox", negative={"style": "noto"})
    with pytest.raises(SuffuseError, match="did you mean 'prompt'"):
        model.sample(1, guidance=2.0, prompt="fox", negative={"promt": "whale"})
    with pytest.raises(SuffuseError, match="did you mean 'whale'"):
        model.sample(1, prompt="fox", negative={"prompt": "whalee"})


def run(capsys, *words):
    code = 0
    try:
        main([*map(str, words)])
    except SystemExit as end:
        code = end.code or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_file_with_a_negative_prompt_is_made_again(model, tmp_path, capsys):
    words = ("sample", model.path, "-n", 1, "--prompt", "a (red:1.5) fox", "--style", "noto")
    code, _, error = run(
        capsys, *words, "--guidance", 3, "--negative", "whale", "-o", tmp_path / "a.png"
    )
    assert (code, error) == (0, "")
    record = json.loads(Image.open(tmp_path / "a.png").text["suffuse"])
    assert record["settings"]["negative"] == {"prompt": "whale"}
    code, _, _ = run(capsys, "sample", "--from", tmp_path / "a.png", "-o", tmp_path / "b.png")
    assert code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    run(capsys, *words, "--guidance", 3, "-o", tmp_path / "c.png")
    assert Image.open(tmp_path / "c.png").tobytes() != Image.open(tmp_path / "a.png").tobytes()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--prompt", "spaceshipp"), "knows no word of the prompt 'spaceshipp'"),
        (("--prompt", "foxx"), "did you mean 'fox'"),
        (("--style", "nota"), "did you mean 'noto'"),
        (("--promt", "fox"), "did you mean 'prompt'"),
        (("--prompt", "fox", "--negative", "whalee"), "did you mean 'whale'"),
        (("--prompt", "fox", "--negative", "whale", "--guidance", "1"), "guidance"),
    ],
)
def test_what_the_user_gets_wrong(model, tmp_path, capsys, words, says):
    code, _, error = run(capsys, "sample", model.path, *words, "-o", tmp_path / "a.png")
    assert code == 1
    assert says in error


@pytest.mark.parametrize("prompt", ["", "🦊", "the", "((((", "fox " * 3000])
def test_prompts_of_any_kind_make_a_picture(model, tmp_path, capsys, prompt):
    out = tmp_path / "a.png"
    code, _, error = run(capsys, "sample", model.path, "-n", 1, "--prompt", prompt, "-o", out)
    assert (code, "Traceback" in error) == (0, False)
    assert Image.open(out).size == (8, 8)
