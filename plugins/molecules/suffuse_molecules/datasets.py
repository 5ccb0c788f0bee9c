"""Data sets of molecules: QM9, a part of NCI, and a user's file.

Every example has all properties of `suffuse_molecules.properties` as number conditions, computed
when they are asked for, and the numeric columns of a user's table. A molecule is held out by the
digest of its canonical SMILES without stereo: those with the least digests are, so that adding
molecules moves few others, and one molecule, however it is written, is on one side. (QM9, where
none is written twice, goes by the SMILES of its file.)
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Condition, Example, Split

from .chemistry import canonical, known
from .properties import PROPERTIES, Properties
from .reading import Read, Record, _lines, read

__all__ = ["NCI", "QM9", "Smiles", "side"]

logger = logging.getLogger("suffuse_molecules")

_QM9 = Path("molecules") / "qm9_smiles.csv.gz"


T = TypeVar("T")


def side(items: Sequence[T], names: Sequence[str], split: Split, held_out: int) -> list[T]:
    """The items of a split; those of one name are on one side.

    Args:
        items: all.
        names: of each, what its side follows from.
        split: "train" or "test".
        held_out: how many are the test split, about; at most a fifth is.

    Raises:
        SuffuseError: for a number below 0.
    """
    if held_out < 0:
        raise SuffuseError(f"held_out is 0 or more molecules, and not {held_out}")
    ranks = [hashlib.sha256(b"molecules/" + name.encode()).digest() for name in names]
    count = min(held_out, len(items) // 5)
    border = sorted(ranks)[count] if count else b""
    test = split == "test"
    return [item for item, rank in zip(items, ranks, strict=True) if (rank < border) == test]


class Smiles:
    """The molecules of a file, by split.

    Args:
        split: "train" or "test".
        path: of a file: .smi, .csv, .sdf and others, see `suffuse_molecules.reading`.
        column: of a table, the name of the column with SMILES.
        held_out: how many molecules are the test split, about; at most a fifth of the file is.
        largest: skip molecules with more heavy atoms: the cost of a graph grows with its square.
        salts: of a molecule in several pieces take the largest piece.

    What is skipped is said in a warning, with lines and reasons, and is in `skipped`.
    """

    licence = "the licence of your own file"
    warns = True

    def __init__(
        self,
        split: Split,
        path: str,
        column: str | None = None,
        held_out: int = 1000,
        largest: int = 40,
        salts: bool = True,
    ) -> None:
        found, names = _read(str(Path(path)), _changed(path), column, salts, largest)
        self.skipped = found.skipped
        if self.skipped and split == "train" and self.warns:
            logger.warning("%s", found.account())
        self._records = side(found.records, names, split, held_out)
        self._numeric = tuple(sorted(_numeric(found.records)))

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return {name: Condition("number") for name in (*PROPERTIES, *self._numeric)}

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        record = self._records[index]
        given = {
            name: float(record.values[name]) for name in self._numeric if name in record.values
        }
        mol = known(record.smiles)
        return Example(mol, Properties(mol, given))

    def smiles(self) -> list[str]:
        """The SMILES of all molecules, as they stand in the file."""
        return [record.smiles for record in self._records]


class QM9(Smiles):
    """QM9: 133,885 molecules of up to nine heavy atoms C, N, O, F.

    Ramakrishnan, Dral, Rupp, von Lilienfeld, "Quantum chemistry structures and properties of 134
    kilo molecules" (Scientific Data 1, 2014), doi 10.1038/sdata.2014.22.

    Args:
        split: "train" or "test".
        path: of a table with a column "smiles"; where None, molecules/qm9_smiles.csv.gz in the
            folder that the environment variable SUFFUSE_DATA names.
        held_out: how many molecules are the test split.

    Raises:
        SuffuseError: where the file is not found.
    """

    licence = "QM9, CC BY 4.0 (doi 10.6084/m9.figshare.c.978904)"

    def __init__(self, split: Split, path: str | None = None, held_out: int = 2000) -> None:
        if path is None:
            folder = os.environ.get("SUFFUSE_DATA")
            path = str(Path(folder) / _QM9) if folder else None
        if path is None or not Path(path).is_file():
            raise SuffuseError(
                "QM9 does not come with this plugin"
                + (f", and {path!r} is no file" if path else "")
                + ": give a table with a column 'smiles' by --data (dataset.path), or set "
                f"SUFFUSE_DATA to a folder with {_QM9} in it"
            )
        self.skipped = ()
        records = _known(path, _changed(path))
        self._records = side(records, [record.smiles for record in records], split, held_out)
        self._numeric = ()


class NCI(Smiles):
    """The first 5,000 molecules of the NCI open database, which come with rdkit.

    Args:
        split: "train" or "test".
        held_out: how many molecules are the test split.
        largest: skip molecules with more heavy atoms.
    """

    licence = "public domain (National Cancer Institute), as distributed with rdkit (BSD-3-Clause)"
    warns = False

    def __init__(self, split: Split, held_out: int = 300, largest: int = 20) -> None:
        super().__init__(split, _nci(), held_out=held_out, largest=largest)


def _nci() -> str:
    from rdkit import RDConfig

    return str(Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi")


def _changed(path: str) -> float:
    try:
        return Path(path).stat().st_mtime
    except OSError:
        return 0.0  # reading it says what is wrong


@lru_cache(maxsize=2)
def _read(
    path: str, changed: float, column: str | None, salts: bool, largest: int
) -> tuple[Read, list[str]]:
    """What a file holds, and of each molecule what tells it from others."""
    found = read(path, column=column, salts=salts, largest=largest)
    return found, [canonical(known(record.smiles)) for record in found.records]


@lru_cache(maxsize=1)
def _known(path: str, changed: float) -> tuple[Record, ...]:
    """The records of a table that is known to be clean: nothing is parsed."""
    return tuple(_lines(Path(path), None))


def _numeric(records: tuple[Record, ...]) -> set[str]:
    """The columns that hold a number for every molecule that has a value there."""
    names: set[str] = set()
    broken: set[str] = set()
    for record in records:
        for name, value in record.values.items():
            names.add(name)
            try:
                float(value)
            except (TypeError, ValueError):
                broken.add(name)
    return {name for name in names - broken if name.isidentifier() and name not in PROPERTIES}
