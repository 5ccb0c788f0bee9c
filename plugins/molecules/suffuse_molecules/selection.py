"""What is kept of a file of molecules, and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from rdkit import Chem

from suffuse.errors import SuffuseError, unknown
from suffuse.stats import evenly

from . import moses, reading
from .chemistry import canonical
from .evaluators import fcd, wasserstein
from .properties import PROPERTIES, property_of

__all__ = ["Range", "benchmark", "figures", "refused"]

_COMPARED = ("logp", "sa", "qed", "weight")
_MOST = 2000
"""Figures that compare all pairs look at so many molecules, evenly spaced."""


@dataclass(frozen=True)
class Range:
    """A property between two bounds, both inside; an infinite one is none."""

    name: str
    low: float
    high: float

    @classmethod
    def of(cls, text: str) -> Range:
        """A range as a user writes it.

        >>> Range.of("logp=0..3"), Range.of("weight=..350").low
        (Range(name='logp', low=0.0, high=3.0), -inf)
        """
        name, equals, bounds = text.partition("=")
        low, dots, high = bounds.partition("..")
        try:
            found = cls(name.strip(), float(low or "-inf"), float(high or "inf"))
        except ValueError:
            found = None
        given = found is not None and not (isnan(found.low) or isnan(found.high))
        if found is None or not (given and equals and dots):
            raise SuffuseError(f"--range is NAME=LOW..HIGH, for instance logp=0..3, not {text!r}")
        if found.name not in PROPERTIES:
            raise unknown("property", found.name, PROPERTIES)
        if not found.low <= found.high:
            raise SuffuseError(f"the range {text!r} holds nothing: its low end is above its high")
        return found


def refused(mol: Chem.Mol, ranges: Sequence[Range], pains: bool) -> str | None:
    """Why a molecule is left out: a property out of its range, or "pains"; None for one that stays.

    PAINS: Baell and Holloway (2010), doi 10.1021/jm901137j.
    """
    for wanted in ranges:
        if not wanted.low <= property_of(mol, wanted.name) <= wanted.high:
            return wanted.name
    return "pains" if pains and moses.pains().HasMatch(mol) else None


def figures(
    path: str | Path, reference: str | Path | None = None, column: str | None = None
) -> dict[str, Any]:
    """Figures of the molecules of a file, by name.

    Args:
        path: what was made; lines that cannot be read count as not valid.
        reference: real molecules to compare with.
        column: of a table, the name of the column with SMILES.
    """
    found = reading.read(path, column=column)
    mols = reading.molecules(found)
    lines = len(found.records) + len(found.skipped)
    different = {canonical(mol) for mol in mols}
    out: dict[str, Any] = {
        "molecules": lines,
        "valid (%)": 100 * len(mols) / lines,
        "unique (%)": 100 * len(different) / len(mols),
        "diversity": moses.diversity(_some(mols)),
    }
    for name in _COMPARED:
        out[f"mean {name}"] = float(np.mean([property_of(mol, name) for mol in mols]))
    if found.skipped:
        out["not valid"] = found.account()
    if reference is None:
        return out
    real = reading.molecules(reading.read(reference))
    out["novel (%)"] = 100 * len(different - {canonical(mol) for mol in real}) / len(different)
    similar = moses.nearest_similarity(_some(mols), _some(real))
    out["similarity to the nearest real one"] = similar
    for name in _COMPARED:
        ours, theirs = ([property_of(mol, name) for mol in side] for side in (mols, real))
        out[f"distance of {name}"] = wasserstein(ours, theirs)
    apart = fcd([canonical(mol) for mol in mols], [canonical(mol) for mol in real])
    if apart is not None:
        out["FCD"] = f"{apart.value:.3g} ({apart.low:.3g} to {apart.high:.3g})"
    return out


def benchmark(
    path: str | Path, reference: str | Path, training: str | Path, column: str | None = None
) -> dict[str, dict[str, float]]:
    """MOSES's and GuacaMol's figures; see `suffuse_molecules.moses.beside`.

    Args:
        path: what was made.
        reference: a test set.
        training: what the model was trained on.
        column: of a table of what was made, the name of the column with SMILES.
    """
    found = reading.read(path, column=column)
    made = [record.smiles for record in found.records] + [s.text for s in found.skipped]
    real = reading.molecules(reading.read(reference))
    known = [canonical(mol) for mol in reading.molecules(reading.read(training))]
    return moses.beside(made, real, known)


def _some(mols: list[Chem.Mol]) -> list[Chem.Mol]:
    return [mols[i] for i in evenly(len(mols), _MOST)]
