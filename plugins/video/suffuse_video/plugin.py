"""What the video plugin brings. Nothing is imported here until it is used."""

from __future__ import annotations

from pathlib import Path

from suffuse.plugins import Register, hookimpl

suffuse_api = 1
suffuse_conformance = "suffuse_video.conformance:CONFORMANCE"

_RECIPES = Path(__file__).parent / "recipes"


@hookimpl
def register_datasets(register: Register) -> None:
    register(
        "video/shapes",
        "suffuse_video.shapes:Shapes",
        summary="coloured shapes that move as their caption says; a generator, motion known",
    )
    register(
        "video/digits",
        "suffuse_video.digits:Digits",
        summary="a digit that bounces in its frame; a generator, motion known",
    )
    register(
        "video/sprites",
        "suffuse_video.sprites:Sprites",
        summary="characters that act, from sheets of your own (Liberated Pixel Cup)",
    )
    register(
        "video/emoji",
        "suffuse_video.emoji:Emoji",
        summary="animated emoji from a package of your own, with their Unicode names",
    )
    register(
        "video/folder",
        "suffuse_video.folder:Folder",
        summary="mp4, webm, gif and folders of frames; subfolders give labels",
    )


@hookimpl
def register_encoders(register: Register) -> None:
    register(
        "video/pixels",
        "suffuse_video.pixels:Pixels",
        summary="standardised pixels of clips, letterboxed and resampled in time",
    )
    register(
        "video/lengths",
        "suffuse_video.lengths:Lengths",
        summary="the same of clips of differing lengths, padded to one",
    )


@hookimpl
def register_denoisers(register: Register) -> None:
    register(
        "video/spacetime",
        "suffuse_video.network:SpaceTime",
        summary="transformer over space and time, with a noise level for each frame",
    )
    register(
        "video/unet",
        "suffuse_video.unet:SpaceTimeUNet",
        summary="U-Net of images with attention over time; may begin with a model of images",
    )


@hookimpl
def register_processes(register: Register) -> None:
    register(
        "video/forcing",
        "suffuse_video.forcing:forcing",
        summary="Gaussian noise with a level for each frame (diffusion forcing)",
    )


@hookimpl
def register_conditioners(register: Register) -> None:
    register(
        "video/words",
        "suffuse_video.words:Words",
        summary="prompts from the closed vocabulary of a captioned generator",
    )


@hookimpl
def register_evaluators(register: Register) -> None:
    register(
        "video/motion",
        "suffuse_video.evaluators:Obeyed",
        summary="words of a prompt obeyed, distance from the asked path, form kept",
    )
    register(
        "video/identity",
        "suffuse_video.evaluators:Identity",
        summary="whether a moving digit is its label, and the same in every frame",
    )
    register(
        "video/label-accuracy",
        "suffuse_video.judge:LabelAccuracy",
        summary="how often a made clip is recognised as what it was made for: actions, digits",
    )
    register(
        "video/flicker",
        "suffuse_video.evaluators:Flicker",
        summary="unsteady brightness: second differences in time",
    )
    register(
        "video/kid",
        "suffuse_video.evaluators:KID",
        summary="kernel distance of made and held-out clips, on pixels and their changes",
    )
    register(
        "video/warping",
        "suffuse_video.temporal:Warping",
        summary="how far each frame is from the next, taken along the flow that is known",
    )
    register(
        "video/frechet",
        "suffuse_video.temporal:Frechet",
        summary="Fréchet and kernel distance on features of the reader, I3D or VideoMAE",
    )
    register(
        "video/drift",
        "suffuse_video.drift:Drift",
        summary="the quality of frame k against k, and of the last quarter against the first",
    )
    register(
        "video/frames",
        "suffuse_video.frames:Frames",
        summary="PSNR and SSIM of frames predicted and interpolated, beside what needs no model",
    )


@hookimpl
def register_edits(register: Register) -> None:
    register(
        "video/continue",
        "suffuse_video.edits:Continue",
        summary="go on where a clip, or a picture, ends: --frames 48",
    )
    register(
        "video/interpolate",
        "suffuse_video.edits:Interpolate",
        summary="more frames between those of a clip: --times 2",
    )
    register(
        "video/fill",
        "suffuse_video.edits:Fill",
        summary="missing frames (--missing 5-8) or a region (--mask mask.png, or mask.mp4)",
    )
    register(
        "video/animate",
        "suffuse_video.edits:Animate",
        summary="a picture comes to life: --prompt WORDS",
    )
    register(
        "video/upscale",
        "suffuse_video.restoring:Upscale",
        summary="frames of the model's size from smaller ones",
    )
    register(
        "video/denoise",
        "suffuse_video.restoring:Denoise",
        summary="without noise: --noise 25, in grey levels",
    )
    register(
        "video/stabilise",
        "suffuse_video.restoring:Stabilise",
        summary="without wavering light and colour",
    )


@hookimpl
def register_renderers(register: Register) -> None:
    register(
        "video/clip",
        "suffuse_video.files:ClipFiles",
        summary="MP4, WebM, GIF and WebP files that say how they were made; contact strips",
    )


@hookimpl
def register_recipes(register: Register) -> None:
    register(
        "video/shapes",
        _RECIPES / "shapes.toml",
        summary="moving shapes by prompt, 16 frames of 16x16",
    )
    register(
        "video/digits",
        _RECIPES / "digits.toml",
        summary="a bouncing digit by label, 16 frames of 16x16",
    )
    register(
        "video/sprites",
        _RECIPES / "sprites.toml",
        summary="characters that act, 8 frames of 32x32: --data sprites.zip",
    )
    register(
        "video/emoji",
        _RECIPES / "emoji.toml",
        summary="animated emoji by name, 16 frames of 32x32: --data PACKAGE.tgz",
    )
    register(
        "video/folder",
        _RECIPES / "folder.toml",
        summary="your own clips, 4 to 16 frames of 32x32: --data DIR",
    )


@hookimpl
def register_models(register: Register) -> None:
    register(
        "video/shapes",
        Path(__file__).parent / "pretrained" / "shapes",
        summary="moving shapes and digits by prompt, 16 frames of 16x16 (5.8 MB)",
    )


@hookimpl
def register_benchmarks(register: Register) -> None:
    register(
        "video/video",
        "suffuse_video.bench:video",
        summary="words obeyed, frames predicted and filled in, clips of four lengths",
    )
    register("video/short", "suffuse_video.bench:short", summary="the same in some minutes")


@hookimpl
def report_section(run: Path) -> tuple[str, str] | None:
    import json

    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    if not str(config["recipe"]["encoder"]["name"]).startswith("video/"):
        return None
    from suffuse_video.page import section

    return section(run)
