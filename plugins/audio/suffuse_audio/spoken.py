"""Words of a small vocabulary, said by eSpeak NG: speech to train on for more than digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Example, Split
from suffuse_audio.corpora import NAMES
from suffuse_audio.espeak import Utterance, spoken
from suffuse_audio.playing import trimmed
from suffuse_audio.sound import Floats, Sound, resample

__all__ = ["Spoken"]

WORDS = (
    *NAMES,
    *("yes", "no", "please", "hello", "goodbye", "and", "the", "is", "not", "my"),
    *("up", "down", "left", "right", "on", "off", "start", "stop", "open", "close"),
    *("red", "green", "blue", "yellow", "black", "white"),
    *("door", "window", "light", "music", "water", "house", "garden", "morning", "evening"),
)
VOICES = ("f2", "f4", "f5", "m1", "m3", "m6")
_TESTED = 2  # takes of each word and voice that are the test's
_SPEEDS, _PITCHES = (125, 175), (35, 65)  # words a minute; 50 is a voice's own pitch


class Spoken:
    """One split of words said by voices, each several times at another speed and pitch.

    Conditions: "word" and "voice". Needs the extra `espeak` of suffuse-audio.

    Args:
        split: "train" or "test"; the test's takes are two more of each word and voice.
        words: the vocabulary; some forty English words where empty, digits among them.
        voices: variants of eSpeak NG: "f1" to "f5", "m1" to "m8" and others.
        language: of eSpeak NG: "en-us", "de", "fr", ...
        takes: how often each voice says a word in the training split.
        rate: of the sounds, in Hz.
        level: root mean square that every sound is brought to; full scale is 1.

    Raises:
        SuffuseError: for options out of range, words that are said by no sound, an unknown
            language or voice, and where eSpeak NG is not installed.
    """

    licence = "Apache-2.0 (synthesised; eSpeak NG itself is under GPL-3.0)"
    source = "eSpeak NG, which says each word when the data set is made"

    def __init__(
        self,
        split: Split = "train",
        words: Sequence[str] = (),
        voices: Sequence[str] = VOICES,
        language: str = "en-us",
        takes: int = 10,
        rate: int = 16000,
        level: float = 0.1,
    ) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"split is 'train' or 'test', not {split!r}")
        if takes < 1 or not 0 < level < 1 or not voices or not 4000 <= rate <= 96000:
            raise SuffuseError(
                "takes is at least 1, level between 0 and 1, rate from 4000 to 96000, and there is "
                f"a voice; given {takes}, {level:g}, {rate} and {len(voices)} voices"
            )
        self._words = tuple(dict.fromkeys(word.strip().lower() for word in words or WORDS))
        self._voices = tuple(dict.fromkeys(voices))
        if bad := [word for word in self._words if not word.isalpha()]:
            raise SuffuseError(f"words are single words, of letters alone; given {bad[0]!r}")
        rows = [(w, v) for w in range(len(self._words)) for v in range(len(self._voices))]
        drawn = range(takes) if split == "train" else range(takes, takes + _TESTED)
        self._rows = [(w, v, k) for k in drawn for w, v in rows]
        self._sounds = _said(
            tuple(
                Utterance(self._words[w], f"{language}+{self._voices[v]}", *_manner(w, v, k))
                for w, v, k in self._rows
            ),
            rate,
        )
        self._rate, self._level = rate, level

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return {
            "word": Condition("category", self._words),
            "voice": Condition("category", self._voices),
        }

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Example:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sound {index} of {len(self)}")
        w, v, _ = self._rows[index]
        x = self._sounds[index]
        x = x * np.float32(self._level / float(np.sqrt(np.mean(x**2))))
        conditions = {"word": self._words[w], "voice": self._voices[v]}
        return Example(Sound(x, self._rate), conditions)


def _manner(*key: int) -> tuple[int, int]:
    """Words a minute and pitch of take k of a word by a voice."""
    random = np.random.default_rng(key)
    return int(random.integers(*_SPEEDS)), int(random.integers(*_PITCHES))


@lru_cache(maxsize=2)
def _said(utterances: tuple[Utterance, ...], rate: int) -> list[Floats]:
    """The sounds at a rate, without the silence around them."""
    sounds, own = spoken(utterances)
    for utterance, x in zip(utterances, sounds, strict=True):
        if not x.any():
            raise SuffuseError(f"eSpeak NG says {utterance.text!r} without a sound")
    return [trimmed(Sound(resample(x, own, rate), rate)) for x in sounds]
