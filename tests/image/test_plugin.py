"""The plugin as the core sees it: names, options, recipes, and what its import costs."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from suffuse import plugins, recipe
from suffuse.errors import SuffuseError

OURS = {
    "dataset": ["image/digits", "image/emoji", "image/folder", "image/scenes", "image/smaller"],
    "encoder": ["image/pixels"],
    "denoiser": ["image/dit", "image/magnitude-unet", "image/unet"],
    "edit": [
        f"image/{name}"
        for name in (
            *("blend", "colorize", "deblur", "dejpeg", "denoise", "img2img", "inpaint"),
            *("outpaint", "pan", "rephrase", "tile", "upscale", "vary", "zoom"),
        )
    ],
    "evaluator": [
        "image/alignment",
        "image/classifier-accuracy",
        "image/composition",
        "image/detail",
        "image/kid",
        "image/memorisation",
        "image/prdc",
        "image/style-accuracy",
    ],
    "renderer": ["image/png"],
    "recipe": [
        f"image/{name}" for name in ("digits", "emoji", "folder", "scenes", "text", "upsampler")
    ],
}


def test_it_loads():
    status = {status.name: status for status in plugins.statuses()}["image"]
    assert (status.status, status.distribution, status.message) == ("ok", "suffuse-image", "")


@pytest.mark.parametrize("kind", OURS)
def test_everything_registered_is_there_and_described(kind):
    entries = [entry for entry in plugins.entries(kind) if entry.plugin == "image"]
    assert [entry.name for entry in entries] == OURS[kind]
    for entry in entries:
        assert entry.summary
        assert entry.load()
        if kind not in ("edit", "recipe"):  # an edit may ask for a file
            plugins.resolve(kind, {"name": entry.name})


def test_loading_it_imports_nothing_heavy():
    heavy = "torch numpy PIL sklearn pydantic suffuse_image.digits"
    code = (
        "import sys; from suffuse import plugins; plugins.entries('dataset');"
        "assert 'suffuse_image.plugin' in sys.modules;"
        f"print([name for name in {heavy!r}.split() if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", OURS["recipe"])
def test_recipes_resolve_and_come_back_from_their_own_text(name, tmp_path):
    loaded = recipe.load(name)
    assert loaded.summary == plugins.get("recipe", name).summary
    path = tmp_path / "again.toml"
    path.write_text(loaded.to_toml(), encoding="utf-8")
    assert recipe.load(path) == loaded


@pytest.mark.parametrize("name", OURS["denoiser"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 17, 30)])
def test_denoisers_keep_the_shape(name, shape):
    options = {"width": 32, "depth": 1} if name == "image/dit" else {"width": 16}
    network = plugins.build("denoiser", {"name": name, **options}, shape=shape)
    x = torch.randn(2, *shape)
    assert network(x, torch.zeros(2), torch.zeros(2, network.width)).shape == x.shape


@pytest.mark.parametrize(
    ("kind", "config", "words"),
    [
        ("dataset", {"name": "image/digit"}, "did you mean 'image/digits'"),
        ("dataset", {"name": "image/folder", "pth": "x"}, "path"),
        ("dataset", {"name": "image/folder", "test_fraction": "half"}, "test_fraction.*a number"),
        ("encoder", {"name": "image/pixels", "channels": 2}, "channels.*1 or 3"),
        ("encoder", {"name": "image/pixels", "size": "big"}, "size"),
        ("evaluator", {"name": "image/kid", "features": 3}, "features"),
    ],
)
def test_wrong_names_and_options_are_named(kind, config, words):
    with pytest.raises(SuffuseError, match=words):
        plugins.resolve(kind, config)
