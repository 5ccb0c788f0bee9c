"""Figures of enhanced speech, against the clean originals of the same mixtures.

Each is measured on strings of at least 3 s: shorter sounds are put one after the other, since PESQ
and STOI mean little on a word. What cannot be measured is counted.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset, Example, Metric
from suffuse_audio import measures
from suffuse_audio.enhance import classical
from suffuse_audio.sound import Floats, Sound, resample

__all__ = ["FIGURES", "MISSING", "Figure", "SpeechQuality", "mean", "measured"]

logger = logging.getLogger("suffuse_audio")

MISSING = "PESQ and STOI need the extra: pip install 'suffuse-audio[evaluation]'"
Better = Literal["lower", "higher"]
_LEAST = 3.0  # seconds of a string


@dataclass(frozen=True)
class Figure:
    """A figure of a sound [n] against the real one [n] at a rate in Hz: NaN where it fails."""

    of: Callable[[Floats, Floats, int], float]
    better: Better
    unit: str = ""


FIGURES: Mapping[str, Figure] = {
    "SI-SDR": Figure(lambda a, b, _: measures.si_sdr(a, b), "higher", "dB"),
    "PESQ": Figure(measures.pesq, "higher"),
    "STOI": Figure(measures.stoi, "higher"),
    "ESTOI": Figure(measures.estoi, "higher"),
    "log-spectral distance": Figure(
        lambda a, b, rate: measures.log_spectral_distance(a, b, max(rate // 32, 8)), "lower", "dB"
    ),
}


def measured(pairs: Sequence[tuple[Floats, Floats]], rate: int) -> dict[str, list[float]]:
    """Every figure of (made, real) pairs, NaN for failures; without those whose package misses."""
    values = {}
    for name, figure in FIGURES.items():
        try:
            values[name] = [figure.of(made, real, rate) for made, real in pairs]
        except ImportError:
            continue
    return values


def mean(
    name: str, values: Sequence[float], better: Better, unit: str = "", seed: int = 0
) -> Metric:
    """The mean over sounds with its bootstrap interval; what could not be measured is counted."""
    x = np.array([v for v in values if not math.isnan(v)])
    failed = len(values) - len(x)
    note = f"{failed} of {len(values)} could not be measured." if failed else ""
    if not len(x):
        return Metric(name, math.nan, math.nan, math.nan, better, 0, unit=unit, note=note)
    draws = np.random.default_rng(seed).choice(x, (2000, len(x))).mean(1)
    low, high = (float(q) for q in np.quantile(draws, (0.025, 0.975)))
    return Metric(name, float(x.mean()), low, high, better, len(x), unit=unit, note=note)


class SpeechQuality:
    """SI-SDR, PESQ, STOI, ESTOI and log-spectral distance; what they gain on the log-MMSE gain.

    PESQ is the narrow band's at 8 kHz, the wide band's at 16; other rates are brought to 16 kHz.
    DNSMOS comes with it at 16 kHz where its package is there. The gains are paired: the same
    mixtures, under the classical gain alone.

    Args:
        condition: the condition that holds the noisy sound.
    """

    def __init__(self, condition: str = "noisy") -> None:
        self.condition = condition

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """Figures by string.

        Raises:
            SuffuseError: if there are no samples, or none belongs to a mixture of the test split.
        """
        if not samples:
            raise SuffuseError("there are no samples to evaluate")
        found = list(self._strings(samples, test))
        rate = found[0][0].rate
        made, noisy, clean = ([row[k].samples[0] for row in found] for k in range(3))
        ours = measured(list(zip(made, clean, strict=True)), rate)
        plain = [classical(Sound(x, rate)).samples[0] for x in noisy]
        before = measured(list(zip(plain, clean, strict=True)), rate)
        if "PESQ" not in ours or "STOI" not in ours:
            logger.warning(MISSING)
        metrics = [
            mean(name, values, FIGURES[name].better, FIGURES[name].unit, seed)
            for name, values in ours.items()
        ]
        for name, values in ours.items():
            gain = [a - b for a, b in zip(values, before[name], strict=True)]
            title = f"{name}, less that of log-MMSE"
            metrics.append(mean(title, gain, FIGURES[name].better, FIGURES[name].unit, seed))
        if rate == 16000:
            try:
                values = [measures.dnsmos(x, rate) for x in made]
            except ImportError:
                logger.info("DNSMOS is left out: it needs the packages speechmos and onnxruntime")
            else:
                metrics.append(mean("DNSMOS, overall", values, "higher", seed=seed))
        return metrics

    def _strings(
        self, samples: Sequence[Example], test: Dataset
    ) -> Iterator[tuple[Sound, Sound, Sound]]:
        """Made, noisy and clean strings at a rate that PESQ knows, in the order of the split."""
        originals = {}
        for i in range(len(test)):
            example = test[i]
            given = example.conditions.get(self.condition)
            if isinstance(given, Sound):
                originals[given.samples.tobytes()] = i, example.data
        found = []
        for sample in samples:
            noisy = sample.conditions.get(self.condition)
            at = originals.get(noisy.samples.tobytes()) if isinstance(noisy, Sound) else None
            if at is None or not isinstance(noisy, Sound):
                raise SuffuseError(
                    "a sample was not made from a mixture of the test split, so its clean original "
                    f"is not known: make it with the condition {self.condition!r} of a held-out "
                    "example"
                )
            found.append((at[0], sample.data, noisy, at[1]))
        rows: list[tuple[Floats, Floats, Floats]] = []
        n = rate = 0
        for _, made, noisy, clean in sorted(found, key=lambda row: row[0]):
            rate = 8000 if made.rate == 8000 else 16000
            sounds = [resample(sound.mono, sound.rate, rate) for sound in (made, noisy, clean)]
            least = min(len(x) for x in sounds)
            rows.append((sounds[0][:least], sounds[1][:least], sounds[2][:least]))
            n += least
            if n >= _LEAST * rate:
                yield _joined(rows, rate)
                rows, n = [], 0
        if rows and len(rows) == len(found):  # less than a string in all: what there is
            yield _joined(rows, rate)


def _joined(rows: Sequence[tuple[Floats, Floats, Floats]], rate: int) -> tuple[Sound, Sound, Sound]:
    made, noisy, clean = (Sound(np.concatenate(parts), rate) for parts in zip(*rows, strict=True))
    return made, noisy, clean
