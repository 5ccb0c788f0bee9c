"""What the image plugin brings. Nothing is imported here until it is used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from suffuse.plugins import Register, hookimpl

if TYPE_CHECKING:
    import click

suffuse_api = 1
suffuse_conformance = "suffuse_image.conformance:CONFORMANCE"

_RECIPES = Path(__file__).parent / "recipes"
_MODELS = Path(__file__).parent / "pretrained"


@hookimpl
def register_datasets(register: Register) -> None:
    register(
        "image/digits",
        "suffuse_image.digits:Digits",
        summary="1,797 handwritten digits, 8x8, grey (scikit-learn, CC BY 4.0)",
    )
    register(
        "image/folder",
        "suffuse_image.folder:Folder",
        summary="a folder of pictures; subfolders or a metadata file give labels and captions",
    )
    register(
        "image/emoji",
        "suffuse_image.emoji:Emoji",
        summary="named emoji in seven styles, 32x32, with captions (Apache-2.0, MIT, CC BY 4.0)",
    )
    register(
        "image/smaller",
        "suffuse_image.smaller:Smaller",
        summary="another set's pictures beside smaller copies, for models that make them larger",
    )
    register(
        "image/scenes",
        "suffuse_image.scenes:Scenes",
        summary="drawn scenes with exact captions, 32x32; pairs withheld from training",
    )


@hookimpl
def register_encoders(register: Register) -> None:
    register(
        "image/pixels",
        "suffuse_image.pixels:Pixels",
        summary="standardised pixels, grey or RGB, of any size",
    )


@hookimpl
def register_denoisers(register: Register) -> None:
    register("image/unet", "suffuse.nn.unet:UNet", summary="convolutional U-Net with attention")
    register("image/dit", "suffuse.nn.dit:DiT", summary="diffusion transformer on patches")
    register(
        "image/magnitude-unet",
        "suffuse.nn.magnitude:MagnitudeUNet",
        summary="U-Net of magnitude-preserving layers (EDM2)",
    )


@hookimpl
def register_evaluators(register: Register) -> None:
    register(
        "image/kid",
        "suffuse_image.evaluators:KID",
        summary="kernel distance between made and held-out pictures, on named features",
    )
    register(
        "image/prdc",
        "suffuse_image.evaluators:PRDC",
        summary="precision, recall, density and coverage, on named features",
    )
    register(
        "image/classifier-accuracy",
        "suffuse_image.evaluators:ClassifierAccuracy",
        summary="how often a made picture is recognised as its label",
    )
    register(
        "image/memorisation",
        "suffuse_image.evaluators:Memorisation",
        summary="distances to the nearest training picture, beside those of held-out pictures",
    )
    register(
        "image/alignment",
        "suffuse_image.alignment:Alignment",
        summary="how often a picture's own prompt is picked among 100, by the encoder dual/1",
    )
    register(
        "image/composition",
        "suffuse_image.scenes:Composition",
        summary="how often a made scene shows the count, colour and shape asked for",
    )
    register(
        "image/detail",
        "suffuse_image.smaller:Detail",
        summary="made large pictures against the true ones, beside Lanczos",
    )
    register(
        "image/style-accuracy",
        "suffuse_image.alignment:StyleAccuracy",
        summary="how often a made picture is recognised as of its style",
    )


@hookimpl
def register_renderers(register: Register) -> None:
    register(
        "image/png",
        "suffuse_image.png:Png",
        summary="PNG, JPEG and WebP files that say how they were made; contact sheets",
    )


@hookimpl
def register_edits(register: Register) -> None:
    for name, target, summary in (
        ("inpaint", "filling:Inpaint", "fill what a mask marks; all else stays, bit for bit"),
        ("outpaint", "filling:Outpaint", "go on beyond the borders"),
        ("pan", "filling:Pan", "turn the view, and make what comes into it"),
        ("zoom", "filling:Zoom", "step back, and make what comes into view"),
        ("tile", "filling:Tile", "make a picture that repeats without a seam"),
        ("upscale", "restoring:Upscale", "details for a small picture"),
        ("denoise", "restoring:Denoise", "take away grain, of known or of estimated level"),
        ("deblur", "restoring:Deblur", "undo a Gaussian blur"),
        ("dejpeg", "restoring:Dejpeg", "undo what a JPEG of low quality left out"),
        ("colorize", "restoring:Colorize", "colours for a grey picture"),
        ("img2img", "edits:Vary", "make a picture anew in part, by the prompt"),
        ("vary", "edits:Vary", "variations of a picture"),
        ("blend", "edits:Blend", "pictures between two"),
        ("rephrase", "edits:Rephrase", "change what the words say, and keep the rest"),
    ):
        register(f"image/{name}", f"suffuse_image.{target}", summary=summary)


@hookimpl
def register_recipes(register: Register) -> None:
    register(
        "image/digits",
        _RECIPES / "digits.toml",
        summary="handwritten digits by class, 8x8; trains in a minute on two cores",
    )
    register(
        "image/folder",
        _RECIPES / "folder.toml",
        summary="your own pictures, RGB 32x32: --data DIR",
    )
    register(
        "image/emoji",
        _RECIPES / "emoji.toml",
        summary="emoji by prompt and style, RGB 32x32",
    )
    register(
        "image/scenes",
        _RECIPES / "scenes.toml",
        summary="drawn scenes by prompt, to measure composition",
    )
    register(
        "image/upsampler",
        _RECIPES / "upsampler.toml",
        summary="32x32 pictures made 64x64",
    )
    register(
        "image/text",
        _RECIPES / "text.toml",
        summary="your own captioned pictures by prompt, RGB 32x32: --data DIR",
    )


@hookimpl
def register_models(register: Register) -> None:
    register(
        "image/digits", _MODELS / "digits", summary="handwritten digits by class, 8x8 (1.0 MB)"
    )
    register(
        "image/emoji",
        _MODELS / "emoji",
        summary="259 things in seven styles by prompt, RGB 32x32 (5.7 MB)",
    )
    register(
        "image/scenes",
        _MODELS / "scenes",
        summary="one to four things of a colour and shape by prompt, RGB 32x32 (5.1 MB)",
    )
    register(
        "image/upsampler",
        _MODELS / "upsampler",
        summary="pictures made twice as large, for suffuse edit upscale (3.9 MB)",
    )


@hookimpl
def register_benchmarks(register: Register) -> None:
    register(
        "image/image",
        "suffuse_image.bench:image",
        summary="prompts, restoring, samplers, finding, speed, by the model that ships",
    )
    register("image/quick", "suffuse_image.bench:quick", summary="a few minutes of the same")


@hookimpl
def register_commands(cli: click.Group) -> None:
    from suffuse_image.commands import describe, search

    cli.add_command(search)
    cli.add_command(describe)
