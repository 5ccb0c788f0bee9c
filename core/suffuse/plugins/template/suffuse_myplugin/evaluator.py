"""How good made curves are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from suffuse import stats
from suffuse.plugins.contracts import Dataset, Example, Metric

from .data import SPEEDS


class Frequency:
    """How often the strongest frequency of a curve is that of the speed it was asked for."""

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        asked = [sample for sample in samples if sample.conditions.get("speed")]
        if not asked:
            return []
        made, real = share(asked), share([test[i] for i in range(len(test))])
        return [
            Metric(
                "frequency",
                value=made.value,
                low=made.low,
                high=made.high,
                better="higher",
                n=len(asked),
                floor=real.value,
                floor_low=real.low,
                floor_high=real.high,
                note="The share of curves whose strongest frequency is the one asked for.",
            )
        ]


def share(examples: Sequence[Example]) -> stats.Interval:
    """The share of examples whose strongest frequency is that of their speed."""
    spectra = np.abs(np.fft.rfft(np.stack([example.data for example in examples])))
    strongest = 1 + spectra[:, 1:].argmax(axis=1)
    right = strongest == [SPEEDS[example.conditions["speed"]] for example in examples]
    return stats.proportion(int(right.sum()), len(examples))
