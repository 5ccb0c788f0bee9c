"""Whether the shapes of made molecules are sound, beside those of real ones.

A shape is **sound** if it passes the checks of `suffuse_molecules.checks` that need no receptor:
bond lengths, angles, clashes and flat rings by the bounds of distance geometry (PoseBusters). Its
**strain** is how far it moves when its heavy atoms and hydrogens are relaxed with MMFF94s: the root
mean square distance in Å over heavy atoms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers, rdMolAlign

from suffuse import stats
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset, Example, Metric

from .checks import failed
from .chemistry import quiet
from .files import is_valid
from .space import in_space

__all__ = ["Geometry", "moved"]

_LEFT_OUT = ("energy",)
"""A molecule of nine atoms is never 100 times above the mean of its conformers."""


class Geometry:
    """Soundness and strain of shapes, of valid molecules; the floor is that of held-out ones."""

    def evaluate(
        self, samples: Sequence[Example], *, test: Dataset, train: Dataset, seed: int
    ) -> list[Metric]:
        """The share of sound shapes in percent, and the median strain in Å.

        Raises:
            SuffuseError: where no sample is a valid molecule in space.
        """
        made = [s.data for s in samples if is_valid(s.data) and in_space(s.data)]
        if not made:
            raise SuffuseError(
                f"none of the {len(samples)} samples is a valid molecule with coordinates"
            )
        held = range(0, len(test), max(1, len(test) // len(made)))
        real = [test[i].data for i in held]
        found, floor = _sound(made), _sound(real)
        reasons = Counter(name for names in found for name in names)
        counts = ", ".join(f"{n} {name}" for name, n in reasons.most_common())
        metrics = [
            Metric.share(
                "Sound shapes",
                [not names for names in found],
                [not names for names in floor],
                note="Valid molecules whose bond lengths, angles and distances lie within the "
                "bounds of distance geometry, as PoseBusters has it. "
                + (f"The others fail: {counts}." if counts else "All do."),
            )
        ]
        strains = [_finite([moved(mol) for mol in mols]) for mols in (made, real)]
        if len(strains[0]) >= 10:
            own, other = (
                stats.bootstrap(np.median, k, method="percentile", resamples=500, seed=seed)
                if len(k) >= 10
                else None
                for k in strains
            )
            assert own is not None
            metrics.append(
                Metric.of(
                    "Strain",
                    own,
                    "lower",
                    len(strains[0]),
                    floor=other,
                    unit="Å",
                    note="How far heavy atoms move when the shape is relaxed with MMFF94s, median.",
                )
            )
        return metrics


def moved(mol: Chem.Mol) -> float:
    """The root mean square distance in Å to the shape relaxed by MMFF94s; NaN where it has none."""
    with quiet():
        before = Chem.RemoveHs(mol)
        whole = Chem.AddHs(before, addCoords=True)
        if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(whole):
            return float("nan")
        try:
            rdForceFieldHelpers.MMFFOptimizeMolecule(whole, "MMFF94s", maxIters=500)
        except (ValueError, RuntimeError):
            return float("nan")
        after = Chem.RemoveHs(whole)
        return float(
            rdMolAlign.AlignMol(
                after, before, atomMap=[(i, i) for i in range(len(before.GetAtoms()))]
            )
        )


def _sound(mols: Sequence[Chem.Mol]) -> list[tuple[str, ...]]:
    """The checks that each shape fails."""
    out = []
    for mol in mols:
        with quiet():
            whole = Chem.AddHs(Chem.RemoveHs(mol), addCoords=True)
        out.append(tuple(n for n in failed(whole, ground=float("nan")) if n not in _LEFT_OUT))
    return out


def _finite(values: list[float]) -> list[float]:
    return [value for value in values if np.isfinite(value)]
