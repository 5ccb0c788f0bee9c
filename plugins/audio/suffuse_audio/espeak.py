"""Speech by rules: eSpeak NG, from the optional package `espeakng-loader`, in a process of its own.

A synthesiser carries its state from word to word, so that what it says of one depends on those
before. A fresh process that is asked for a list says the same each time.

eSpeak NG (J. Duddington, R. Dunn and others) is under the GPL, version 3; what it says is not.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suffuse.errors import SuffuseError
from suffuse_audio.sound import Floats

__all__ = ["Utterance", "spoken"]

# Of speak_lib.h: the output is handed over in memory; parameters; how text and its place are told.
_RETRIEVAL, _RATE, _PITCH, _CHARACTERS, _UTF8 = 1, 1, 3, 1, 1


@dataclass(frozen=True)
class Utterance:
    """What is to be said, and how.

    Attributes:
        text: words of the language.
        voice: a language of eSpeak NG and a variant: "en-us+f2".
        speed: words a minute, 80 to 450.
        pitch: 0 to 99; 50 is the voice's own.
    """

    text: str
    voice: str
    speed: int
    pitch: int


def spoken(utterances: Sequence[Utterance]) -> tuple[list[Floats], int]:
    """The samples of each utterance, within 1, and their rate in Hz.

    Raises:
        SuffuseError: where the package is missing, or does not know a voice.
    """
    asked = json.dumps([asdict(each) for each in utterances])
    done = subprocess.run(
        [sys.executable, "-m", "suffuse_audio.espeak"],
        input=asked.encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        raise SuffuseError(told[-1] if told else "eSpeak NG ended without a word")
    head, _, body = done.stdout.partition(b"\n")
    answer = json.loads(head)
    ends = np.cumsum(answer["lengths"])
    samples = np.frombuffer(body, dtype="<i2").astype(np.float32) / 32768
    return np.split(samples, ends[:-1]), int(answer["rate"])


def _library() -> tuple[Any, Path]:
    try:
        import espeakng_loader
    except ImportError:
        sys.exit("speech by rules needs eSpeak NG: pip install 'suffuse-audio[espeak]'")
    return ctypes.CDLL(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())


def _say(asked: Sequence[dict[str, Any]]) -> tuple[list[Any], int]:
    """16-bit samples of each, and their rate, by the library, which is of this process alone."""
    library, data = _library()
    rate = library.espeak_Initialize(_RETRIEVAL, 0, str(data).encode(), 0)
    if rate <= 0:
        sys.exit(f"eSpeak NG cannot read its data in {data}")
    parts: list[Any] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def hand_over(samples: Any, n: int, events: Any) -> int:
        if samples and n > 0:
            parts.append(np.ctypeslib.as_array(samples, (n,)).copy())
        return 0

    library.espeak_SetSynthCallback(hand_over)
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # or breath and flutter follow the clock
    variants = {path.name for path in (data / "voices" / "!v").iterdir()}
    out = []
    for each in asked:
        _, plus, variant = each["voice"].partition("+")
        unknown = plus and variant not in variants  # which eSpeak NG would pass over in silence
        if unknown or library.espeak_SetVoiceByName(each["voice"].encode()):
            sys.exit(f"eSpeak NG has no voice {each['voice']!r}; voices are like en-us+f2")
        library.espeak_SetParameter(_RATE, each["speed"], 0)
        library.espeak_SetParameter(_PITCH, each["pitch"], 0)
        text = each["text"].encode()
        parts.clear()
        library.espeak_Synth(text, len(text) + 1, 0, _CHARACTERS, 0, _UTF8, None, None)
        library.espeak_Synchronize()
        out.append(np.concatenate(parts) if parts else np.zeros(0, np.int16))
    return out, rate


def _main() -> None:
    found, rate = _say(json.load(sys.stdin))
    head = json.dumps({"rate": rate, "lengths": [len(x) for x in found]})
    sys.stdout.buffer.write(head.encode() + b"\n")
    for x in found:
        sys.stdout.buffer.write(x.astype("<i2").tobytes())


if __name__ == "__main__":
    _main()
