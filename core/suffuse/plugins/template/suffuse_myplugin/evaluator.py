"""How good made curves are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
        made, real = right(asked), right([test[i] for i in range(len(test))])
        note = "Curves whose strongest frequency is the one asked for."
        return [Metric.share("frequency", made, real, note=note)]


def right(examples: Sequence[Example]) -> list[bool]:
    """For each example whether its strongest frequency is that of its speed."""
    spectra = np.abs(np.fft.rfft(np.stack([example.data for example in examples])))
    strongest = 1 + spectra[:, 1:].argmax(axis=1)
    wanted = [SPEEDS[example.conditions["speed"]] for example in examples]
    return [bool(a == b) for a, b in zip(strongest, wanted, strict=True)]
