"""Word errors: what a recogniser that has seen no sound of ours hears, against what was to be said.

PocketSphinx with the English model inside its package, which is optional; it listens for the words
of a vocabulary, in any order, and knows how many there are. A little noise is laid under each
sound, since digital silence spoils what it hears: of clear single words it had 58 % wrong without
the noise, and 11 % with it. Source: Huggins-Daines et al. (2006), "PocketSphinx".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset, Example, Metric
from suffuse.stats import evenly
from suffuse_audio.sound import Sound, resample

__all__ = ["WordError", "edits", "heard"]

_RATE = 16000
_NOISE = 1e-3  # root mean square; a sound reaches 0.5
_MOST = 200  # real sounds that the floor rests on


def edits(said: Sequence[str], wanted: Sequence[str]) -> int:
    """Insertions, deletions and substitutions that make one out of the other (Levenshtein 1966).

    >>> edits("one two".split(), "two three".split())
    2
    """
    row = list(range(len(wanted) + 1))
    for i, word in enumerate(said, 1):
        before, row = row, [i]
        for j, other in enumerate(wanted, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (word != other)))
    return row[-1]


@cache
def _decoder(vocabulary: tuple[str, ...]) -> Any:
    try:
        from pocketsphinx import Decoder, get_model_path
    except ImportError:
        raise SuffuseError(
            "word errors need a recogniser: pip install 'suffuse-audio[recogniser]'"
        ) from None
    decoder = Decoder(
        hmm=get_model_path("en-us/en-us"),
        dict=get_model_path("en-us/cmudict-en-us.dict"),
        lm=None,
        samprate=float(_RATE),
        loglevel="FATAL",
    )
    for word in vocabulary:
        if decoder.lookup_word(word) is None:
            raise SuffuseError(f"the recogniser does not know the word {word!r}")
    return decoder


def heard(sound: Sound, vocabulary: Sequence[str], count: int) -> list[str]:
    """The `count` words of a sound of any rate, by a recogniser that knows no others; [] for none.

    Raises:
        SuffuseError: if the recogniser is not installed, or does not know a word.
    """
    known = tuple(sorted(set(vocabulary)))
    decoder = _decoder(known)
    rule = " ".join([f"({' | '.join(known)})"] * count)
    decoder.add_jsgf_string("words", f"#JSGF V1.0; grammar words; public <all> = {rule};")
    decoder.activate_search("words")
    x = resample(sound.mono, sound.rate, _RATE)
    silence = np.zeros(_RATE // 4, np.float32)
    x = np.concatenate([silence, 0.5 * x / max(float(np.abs(x).max()), 1e-9), silence])
    x += _NOISE * np.random.default_rng(0).standard_normal(len(x), np.float32)
    decoder.start_utt()
    decoder.process_raw((32767 * x).astype("<i2").tobytes(), False, True)
    decoder.end_utt()
    found = decoder.hyp()
    return [] if found is None else found.hypstr.split()


class WordError:
    """Word errors over words that were to be said, in percent; the floor is that of real sounds.

    Args:
        condition: the condition that holds what is said: a word, or several.
        words: names of its categories that are no words, and the words for them; digits are known.
    """

    def __init__(self, condition: str = "digit", words: dict[str, str] | None = None) -> None:
        self.condition = condition
        digits = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
        self.words = {str(i): word for i, word in enumerate(digits)} | (words or {})

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """One figure.

        Raises:
            SuffuseError: where there is no recogniser, or no sample that has words.
        """
        made = self._said(samples)
        if not made:
            raise SuffuseError(
                f"no sample was made for words: make them with the condition {self.condition!r}"
            )
        real = self._said([test[i] for i in evenly(len(test), _MOST)])
        known = sorted({word for _, wanted in made + real for word in wanted})
        value, low, high = _rate(made, known, seed)
        floor, floor_low, floor_high = _rate(real, known, seed) if real else (None, None, None)
        return [
            Metric(
                name="Word errors (PocketSphinx)",
                value=value,
                low=low,
                high=high,
                better="lower",
                n=len(made),
                floor=floor,
                floor_low=floor_low,
                floor_high=floor_high,
                unit="%",
                note=f"It listens for {len(known)} words; the floor is {len(real)} real sounds.",
            )
        ]

    def _said(self, examples: Sequence[Example]) -> list[tuple[Sound, list[str]]]:
        out = []
        for example in examples:
            text = example.conditions.get(self.condition)
            if text is not None:
                words = [self.words.get(word, word) for word in str(text).lower().split()]
                out.append((example.data, words))
        return out


def _rate(
    said: Sequence[tuple[Sound, list[str]]], known: Sequence[str], seed: int
) -> tuple[float, float, float]:
    """Errors over words in percent, with a bootstrap interval over sounds."""
    errors = np.array([edits(heard(sound, known, len(wanted)), wanted) for sound, wanted in said])
    words = np.array([len(wanted) for _, wanted in said])
    rows = np.random.default_rng(seed).integers(len(said), size=(2000, len(said)))
    draws = 100 * errors[rows].sum(1) / words[rows].sum(1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(100 * errors.sum() / words.sum()), float(low), float(high)
