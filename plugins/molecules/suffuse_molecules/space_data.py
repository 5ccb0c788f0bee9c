"""Molecules with coordinates, from an SDF: QM9's geometries, or a file of yours."""

from __future__ import annotations

import gzip
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from rdkit import Chem

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Example, Split

from .chemistry import canonical, quiet, refusal
from .datasets import _changed, side
from .properties import PROPERTIES, Properties
from .space import in_space

__all__ = ["Shapes"]

logger = logging.getLogger("suffuse_molecules")


class _Kept(NamedTuple):
    smiles: str
    binary: bytes


class Shapes:
    """The molecules of an SDF with their coordinates, by split.

    All shapes of one molecule are on one side.

    Args:
        split: "train" or "test".
        path: an .sdf, or that and .gz, with coordinates in space. QM9's geometries are commonly
            distributed as gdb9.sdf.
        held_out: how many shapes are the test split, about; at most a fifth of the file is.
        largest: skip molecules with more heavy atoms.

    Raises:
        SuffuseError: where the file cannot be read, is no SDF or has no shape to take.
    """

    licence = "the licence of your own file"

    def __init__(self, split: Split, path: str, held_out: int = 1000, largest: int = 40) -> None:
        kept, self.skipped = _read(str(Path(path)), _changed(path), largest)
        if self.skipped and split == "train":
            reasons = ", ".join(f"{n} {reason}" for reason, n in self.skipped.items())
            logger.warning(
                "%s: %d molecules are skipped (%s)", path, sum(self.skipped.values()), reasons
            )
        self._kept = side(kept, [each.smiles for each in kept], split, held_out)

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return {name: Condition("number") for name in PROPERTIES}

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Example:
        mol = Chem.Mol(self._kept[index].binary)
        return Example(mol, Properties(mol))

    def smiles(self) -> list[str]:
        """The SMILES of all molecules, without stereo."""
        return [each.smiles for each in self._kept]


@lru_cache(maxsize=1)
def _read(path: str, changed: float, largest: int) -> tuple[list[_Kept], Mapping[str, int]]:
    kept, skipped = [], Counter[str]()
    for mol in _molecules(Path(path)):
        reason = refusal(mol)
        if reason is None and mol.GetNumHeavyAtoms() > largest:
            reason = "size"
        if reason is None and not in_space(mol):
            reason = "flat"
        if reason is None:
            kept.append(_Kept(canonical(mol), mol.ToBinary()))
        else:
            skipped[reason] += 1
    if not kept:
        reasons = ", ".join(f"{n} {reason}" for reason, n in skipped.items()) or "it is empty"
        advice = (
            f"those of more than {largest} heavy atoms are taken with --set dataset.largest=N"
            if skipped["size"]
            else "shapes are made by `suffuse molecules conformers in.smi -k 1 -o shapes.sdf`"
        )
        raise SuffuseError(
            f"{path!r} holds no molecule with coordinates that can be taken ({reasons}); {advice}"
        )
    return kept, skipped


def _molecules(path: Path) -> Iterator[Any]:
    """Molecules without explicit hydrogens; None for what cannot be read."""
    name = path.name.lower()
    if not name.removesuffix(".gz").endswith((".sdf", ".sd")):
        raise SuffuseError(
            f"{str(path)!r} is no file of shapes by its name: those end in .sdf or .sdf.gz"
        )
    try:
        with gzip.open(path) if name.endswith(".gz") else path.open("rb") as file, quiet():
            yield from Chem.ForwardSDMolSupplier(file, sanitize=True, removeHs=True)
    except (OSError, EOFError, SystemError) as error:
        # rdkit turns what goes wrong within the file object into a SystemError
        raise SuffuseError(f"cannot read {str(path)!r}: {error.__cause__ or error}") from None
