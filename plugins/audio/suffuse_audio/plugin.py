"""What the audio plugin brings. Nothing is imported here until it is used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from suffuse.plugins import Register, hookimpl

if TYPE_CHECKING:
    import click

suffuse_api = 1
suffuse_conformance = "suffuse_audio.conformance:CONFORMANCE"

_RECIPES = Path(__file__).parent / "recipes"


@hookimpl
def register_datasets(register: Register) -> None:
    register(
        "audio/noisy-speech",
        "suffuse_audio.mixtures:NoisySpeech",
        summary="speech in noise, with the clean original: SUFFUSE_DATA, or folders",
    )
    register(
        "audio/notes",
        "suffuse_audio.notes:Notes",
        summary="notes of six instruments, C3 to B5, synthesised: nothing to download",
    )
    register(
        "audio/digits",
        "suffuse_audio.digits:Digits",
        summary="spoken digits, 8 kHz (FSDD, CC BY-SA 4.0, in SUFFUSE_DATA)",
    )
    register(
        "audio/spoken",
        "suffuse_audio.spoken:Spoken",
        summary="words of a small vocabulary, said by eSpeak NG (extra: espeak)",
    )
    register(
        "audio/scenes",
        "suffuse_audio.scenes:Scenes",
        summary="captioned melodies, chords, drums, loops and weather, synthesised",
    )
    register(
        "audio/folder",
        "suffuse_audio.folder:Folder",
        summary="a folder of sounds; subfolders give labels",
    )


@hookimpl
def register_encoders(register: Register) -> None:
    register(
        "audio/frames",
        "suffuse_audio.frames:Frames",
        summary="compressed complex spectrum, frame by frame; loses nothing",
    )
    register(
        "audio/spectra",
        "suffuse_audio.spectra:Spectra",
        summary="principal components of amplitude spectra; phases by Griffin and Lim",
    )
    register(
        "audio/partials",
        "suffuse_audio.partials:Partials",
        summary="one note as its pitch and the loudness of its partials and of its noise",
    )
    register(
        "audio/log-mel",
        "suffuse_audio.mel:LogMel",
        summary="log-mel spectra; phases by Griffin and Lim",
    )
    register(
        "audio/waveform",
        "suffuse_audio.waveform:Waveform",
        summary="samples, standardised",
    )


@hookimpl
def register_processes(register: Register) -> None:
    register(
        "audio/mask-bridge",
        "suffuse_audio.enhancing:mask_bridge",
        summary="a bridge from noisy to clean, with a loss on spectra",
    )


@hookimpl
def register_denoisers(register: Register) -> None:
    register("audio/dit", "suffuse.nn.dit:DiT", summary="diffusion transformer on frames")
    register("audio/unet", "suffuse.nn.unet:UNet", summary="one-dimensional U-Net on frames")
    register(
        "audio/stft-unet",
        "suffuse_audio.networks:SpectrogramUNet",
        summary="two-dimensional U-Net on complex spectra",
    )
    register(
        "audio/diffwave",
        "suffuse_audio.networks:DiffWave",
        summary="dilated convolutions on samples, for reference",
    )
    register(
        "audio/mask",
        "suffuse_audio.enhancing:MaskNetwork",
        summary="convolutions over frames that answer with a complex mask on the noisy sound",
    )


@hookimpl
def register_conditioners(register: Register) -> None:
    register(
        "audio/noisy",
        "suffuse_audio.enhancing:NoisyCondition",
        summary="a noisy sound with its classical gain",
    )


@hookimpl
def register_evaluators(register: Register) -> None:
    register(
        "audio/label-accuracy",
        "suffuse_audio.evaluators:LabelAccuracy",
        summary="how often a made sound is recognised as what it was made for",
    )
    register(
        "audio/distance",
        "suffuse_audio.evaluators:Distance",
        summary="Fréchet and kernel distance to held-out sounds, on named features",
    )
    register(
        "audio/pitch",
        "suffuse_audio.evaluators:PitchError",
        summary="cents from the pitch asked for, and energy off the harmonics",
    )
    register(
        "audio/music",
        "suffuse_audio.music:Music",
        summary="whether music has the tempo and the key that its prompt names, by its waveform",
    )
    register(
        "audio/spread",
        "suffuse_audio.evaluators:Spread",
        summary="variance within each category, over that of real sounds",
    )
    register(
        "audio/nearest",
        "suffuse_audio.evaluators:Nearest",
        summary="whether made sounds lie nearer to training sounds than held-out ones do",
    )
    register(
        "audio/speech-quality",
        "suffuse_audio.speech:SpeechQuality",
        summary="SI-SDR, PESQ, STOI, ESTOI of enhanced speech, beside log-MMSE",
    )
    register(
        "audio/word-error",
        "suffuse_audio.words:WordError",
        summary="words that a recogniser hears, against those that were to be said",
    )


@hookimpl
def register_renderers(register: Register) -> None:
    register(
        "audio/files",
        "suffuse_audio.files:Files",
        summary="sound files that say how they were made; sheets of spectrograms",
    )


@hookimpl
def register_edits(register: Register) -> None:
    for name, summary in (
        ("vary", "sounds like the given ones, by noising and denoising"),
        ("transfer", "the same in another style: --instrument, --speaker, --label"),
        ("interpolate", "sounds on the way between two"),
        ("continue", "what may come after a sound"),
    ):
        register(f"audio/{name}", f"suffuse_audio.edits:{name.capitalize()}", summary=summary)


@hookimpl
def register_recipes(register: Register) -> None:
    register(
        "audio/enhance",
        _RECIPES / "enhance.toml",
        summary="speech out of noise, 8 and 16 kHz: a bridge on the classical gain",
    )
    register(
        "audio/notes",
        _RECIPES / "notes.toml",
        summary="notes by instrument and pitch, 16 kHz; needs no data",
    )
    register(
        "audio/digits",
        _RECIPES / "digits.toml",
        summary="spoken digits by digit and speaker, 8 kHz (SUFFUSE_DATA)",
    )
    register(
        "audio/spoken",
        _RECIPES / "spoken.toml",
        summary="words by voice, 16 kHz, sentences of them; needs no data (extra: espeak)",
    )
    register(
        "audio/scenes",
        _RECIPES / "scenes.toml",
        summary="music and sounds by caption, 16 kHz; needs no data, and suffuse-text",
    )
    register(
        "audio/folder",
        _RECIPES / "folder.toml",
        summary="your own sounds: --data DIR",
    )


_MODELS = {
    "digits": "spoken digits by digit and speaker, 8 kHz; sentences of them with --text",
    "enhance": "speech out of noise, 8 and 16 kHz",
    "regressor": "the same by plain regression, to compare audio/enhance with",
    "scenes": "music and sounds by caption, 16 kHz",
    "spoken": "45 English words by six voices, 16 kHz; sentences of them with --text",
    "notes": "notes by instrument and pitch, 16 kHz",
}


@hookimpl
def register_models(register: Register) -> None:
    for folder in sorted((Path(__file__).parent / "pretrained").glob("*/config.json")):
        name = folder.parent.name
        register(f"audio/{name}", folder.parent, summary=_MODELS.get(name, ""))


@hookimpl
def register_benchmarks(register: Register) -> None:
    register(
        "audio/audio",
        "suffuse_audio.benchmark:audio",
        summary="enhancement, gaps, bands, clipping, notes, beside baselines",
    )
    register("audio/short", "suffuse_audio.benchmark:short", summary="a few minutes of the same")


@hookimpl
def report_section(run: Path) -> tuple[str, str] | None:
    import json

    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    if not str(config["recipe"]["encoder"]["name"]).startswith("audio/"):
        return None
    from suffuse_audio.page import section

    return section(run)


@hookimpl
def register_commands(cli: click.Group) -> None:
    from suffuse_audio.commands import audio

    cli.add_command(audio)
