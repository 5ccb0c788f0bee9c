"""What the conformance kit needs to know of this plugin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import SkipTest

from suffuse.testing import Conformance

__all__ = ["CONFORMANCE"]

_TINY = {"denoiser.width": 32, "denoiser.depth": 1, "denoiser.heads": 2}
_SHORT = {"encoder.seconds": 0.25, "encoder.components": 12, "encoder.iterations": 8}


def _sounds(folder: Path) -> Mapping[str, Any]:
    """Sixty-four sounds of noise and of tones, of several lengths."""
    import numpy as np

    from suffuse_audio import files
    from suffuse_audio.sound import Sound

    random = np.random.default_rng(0)
    for i in range(64):
        t = np.arange(int(random.integers(3000, 6000))) / 8000
        tone = np.sin(2 * np.pi * random.uniform(200, 900) * t)
        x = 0.3 * tone if i % 2 else 0.1 * random.standard_normal(len(t))
        (folder / ("tone" if i % 2 else "noise")).mkdir(exist_ok=True)
        path = folder / ("tone" if i % 2 else "noise") / f"{i:02d}.wav"
        files.write(path, Sound(x + 0.01 * random.standard_normal(len(t)), 8000))
    return {**_TINY, **_SHORT, "encoder.rate": 8000, "encoder.window": 256, "encoder.hop": 128,
            "dataset.path": str(folder), "dataset.test_fraction": 0.4}  # fmt: skip


def _with(name: str, changes: Mapping[str, Any]) -> Any:
    """The changes, for checks that need a collection of SUFFUSE_DATA."""

    def found(folder: Path) -> Mapping[str, Any]:
        from suffuse_audio import corpora

        for needed in name.split():
            if not corpora.available(needed):
                raise SkipTest(f"needs {needed} in the folder that SUFFUSE_DATA names")
        return changes

    return found


def _spoken(folder: Path) -> Mapping[str, Any]:
    """Three words by one voice, where eSpeak NG is installed."""
    from importlib.util import find_spec

    if find_spec("espeakng_loader") is None:
        raise SkipTest("needs eSpeak NG: pip install 'suffuse-audio[espeak]'")
    few = {"dataset.words": ["tea", "cake", "yes"], "dataset.voices": ["f2"], "dataset.takes": 20}
    return {**_TINY, **_SHORT, **few}


def _own_test(folder: Path) -> Mapping[str, Any]:
    """An evaluator of mixtures, of words, or of music has tests of its own."""
    raise SkipTest("it takes held-out mixtures, words, or music, which the kit has none of")


_BOTH = "audio/fsdd_8k_flac.zip audio/esc10_22k_ogg.zip"
_ENHANCE = {
    "denoiser.width": 32,
    "denoiser.dilations": [1, 2],
    "dataset.count": 100,
    "sampling.steps": 2,  # one call has no draw
}

CONFORMANCE = Conformance(
    settings={
        "recipe audio/notes": {**_TINY, "encoder.seconds": 0.25, "dataset.seconds": 0.25},
        "recipe audio/folder": _sounds,
        "recipe audio/digits": _with("audio/fsdd_8k_flac.zip", {**_TINY, **_SHORT}),
        "recipe audio/enhance": _with(_BOTH, {**_ENHANCE, "encoder.seconds": 0.32}),
        "recipe audio/spoken": _spoken,
        "denoiser audio/unet": {"denoiser.width": 16, "denoiser.multipliers": [1, 2]},
        "recipe audio/scenes": {**_TINY, **_SHORT, "dataset.seconds": 0.25, "dataset.count": 100},
        "encoder audio/spectra": {
            "recipe": "audio/notes",
            "encoder.name": "audio/spectra",
            **_SHORT,
        },
        "encoder audio/log-mel": {
            "recipe": "audio/notes",
            "encoder.name": "audio/log-mel",
            "encoder.seconds": 0.25,
            "encoder.iterations": 8,
        },
        "encoder audio/waveform": {
            "recipe": "audio/notes",
            "encoder.name": "audio/waveform",
            "encoder.seconds": 0.25,
        },
        "denoiser audio/stft-unet": {
            "recipe": "audio/notes",
            "encoder.name": "audio/frames",
            "encoder.rate": 8000,
            "encoder.seconds": 0.1,
            "encoder.window": 64,
            "encoder.hop": 32,
            "denoiser.name": "audio/stft-unet",
            "denoiser.width": 8,
            "denoiser.multipliers": [1, 2],
        },
        "denoiser audio/diffwave": {
            "recipe": "audio/notes",
            "encoder.name": "audio/waveform",
            "encoder.rate": 8000,
            "encoder.seconds": 0.25,
            "denoiser.name": "audio/diffwave",
            "denoiser.width": 16,
            "denoiser.depth": 3,
        },
        "denoiser audio/mask": {"recipe": "audio/enhance"},
        "process audio/mask-bridge": {"recipe": "audio/enhance"},
        "conditioner audio/noisy": {"recipe": "audio/enhance"},
        **{
            f"edit audio/{name}": {"recipe": "audio/notes"}
            for name in ("vary", "transfer", "interpolate", "continue")
        },
        "encoder audio/frames": {"recipe": "audio/notes", "encoder.name": "audio/frames"},
        "evaluator audio/label-accuracy": {"recipe": "audio/notes"},
        "evaluator audio/distance": {"recipe": "audio/notes"},
        "evaluator audio/spread": {"recipe": "audio/notes"},
        "evaluator audio/nearest": {"recipe": "audio/notes"},
        "evaluator audio/music": _own_test,
        "evaluator audio/speech-quality": _own_test,
        "evaluator audio/word-error": _own_test,
    },
    examples=80,
    expected_failures={
        "encoder audio/spectra comes_back": "phases are found anew, and what they leave lies above "
        "the weakest components",
        "encoder audio/partials comes_back": "phases are not kept, and noise is drawn anew",
        "encoder audio/log-mel comes_back": "bins that share a band are lost, and what the phases "
        "leave lies above the quietest bands",
        "renderer audio/files refuses_files": "a sound that is cut short is read as far as it goes",
    },
)
