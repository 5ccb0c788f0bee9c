"""Properties of molecules by name, computed by rdkit: conditions, columns and figures.

logp      octanol-water partition coefficient, by Crippen's atomic contributions
qed       drug-likeness, 0 to 1 (Bickerton et al. 2012)
tpsa      topological polar surface area, in Å² (Ertl et al. 2000)
sa        synthetic accessibility, 1 (easy) to 10 (Ertl and Schuffenhauer 2009)
weight    average molecular weight, in g/mol
rings, aromatic, rotatable, donors, acceptors, atoms       counts
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from rdkit import Chem, RDConfig
from rdkit.Chem import QED, rdMolDescriptors

from suffuse.errors import SuffuseError, unknown

__all__ = ["PROPERTIES", "Properties", "property_of"]


@cache
def _scorer() -> Any:
    """rdkit's own implementation of the SA score, which lies among its contributions."""
    folder = str(Path(RDConfig.RDContribDir) / "SA_Score")
    sys.path.insert(0, folder)
    try:
        return import_module("sascorer")
    except ImportError:
        raise SuffuseError(
            "this installation of rdkit has no SA_Score among its contributions; leave the "
            "property 'sa' out, or install rdkit by pip"
        ) from None
    finally:
        sys.path.remove(folder)


def _sa(mol: Chem.Mol) -> float:
    return float(_scorer().calculateScore(mol))


PROPERTIES: Mapping[str, Callable[[Chem.Mol], float]] = {
    "logp": lambda mol: rdMolDescriptors.CalcCrippenDescriptors(mol)[0],
    "qed": QED.qed,
    "tpsa": rdMolDescriptors.CalcTPSA,
    "sa": _sa,
    "weight": rdMolDescriptors._CalcMolWt,
    "rings": rdMolDescriptors.CalcNumRings,
    "aromatic": rdMolDescriptors.CalcNumAromaticRings,
    "rotatable": rdMolDescriptors.CalcNumRotatableBonds,
    "donors": rdMolDescriptors.CalcNumHBD,
    "acceptors": rdMolDescriptors.CalcNumHBA,
    "atoms": lambda mol: mol.GetNumHeavyAtoms(),
}


def property_of(mol: Chem.Mol, name: str) -> float:
    """A property of a sanitised molecule; NaN where rdkit cannot compute it.

    >>> from suffuse_molecules.chemistry import parse
    >>> round(property_of(parse("CCO"), "tpsa"), 2), property_of(parse("c1ccccc1"), "aromatic")
    (20.23, 1.0)
    """
    if name not in PROPERTIES:
        raise unknown("property", name, PROPERTIES)
    try:
        value = float(PROPERTIES[name](mol))
    except (ValueError, RuntimeError, ZeroDivisionError):
        return math.nan
    return value


class Properties(Mapping[str, Any]):
    """The properties of one molecule by name, each computed when it is asked for.

    Args:
        mol: sanitised.
        given: values by name that are known already, for instance from a table.
    """

    def __init__(self, mol: Chem.Mol, given: Mapping[str, float] | None = None) -> None:
        self._mol, self._given = mol, dict(given or {})

    def __getitem__(self, name: str) -> float:
        if name in self._given:
            return self._given[name]
        if name not in PROPERTIES:
            raise KeyError(name)
        self._given[name] = property_of(self._mol, name)
        return self._given[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._given, *PROPERTIES]))

    def __len__(self) -> int:
        return len(list(iter(self)))
