"""Files of molecules: SMILES lines, tables and SDF, also gzipped, line by line.

    .smi .txt .smiles   a SMILES first on each line, then a name
    .csv .tsv           a column of SMILES, found by its name; other columns are values
    .sdf .sd .mol       molecules with coordinates and data fields

What cannot be read, or is refused, is skipped and listed with its line (in an SDF, the number of
the molecule) and the code of the reason (`suffuse_molecules.chemistry.REASONS`). An SDF without
coordinates is read too: the graph needs none.
"""

from __future__ import annotations

import csv
import gzip
import io
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rdkit import Chem

from suffuse.errors import SuffuseError, unknown

from .chemistry import flat, known, parse, quiet, refusal

__all__ = ["SUFFIXES", "Read", "Record", "Skipped", "molecules", "read"]

logger = logging.getLogger("suffuse_molecules")

SUFFIXES = (".smi", ".smiles", ".txt", ".csv", ".tsv", ".sdf", ".sd", ".mol")

_COLUMNS = ("smiles", "canonical_smiles", "isomeric_smiles", "smi", "structure", "molecule", "mol")
_NAMED = 10


@dataclass(frozen=True)
class Record:
    """One molecule of a file.

    Attributes:
        line: its line, from 1; in an SDF its number.
        smiles: as it stands in the file; canonical where the file has none.
        name: what the file calls it, or "".
        values: its other columns or data fields.
    """

    line: int
    smiles: str
    name: str = ""
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Skipped:
    """What was not taken: its line, what stands there, and the code of the reason."""

    line: int
    text: str
    reason: str


@dataclass(frozen=True)
class Read:
    """What a file holds: the molecules that are taken, and those that are not."""

    path: Path
    records: tuple[Record, ...]
    skipped: tuple[Skipped, ...]

    def account(self) -> str:
        """A sentence on what was skipped; empty where nothing was."""
        if not self.skipped:
            return ""
        counts = Counter(s.reason for s in self.skipped).most_common()
        first = "; ".join(
            f"line {s.line}: {s.text[:60]!r} ({s.reason})" for s in self.skipped[:_NAMED]
        )
        more = ", and so on" if len(self.skipped) > _NAMED else ""
        return (
            f"{self.path}: {len(self.skipped)} of {len(self.skipped) + len(self.records)} "
            f"molecules are skipped ({', '.join(f'{n} {reason}' for reason, n in counts)}): "
            f"{first}{more}"
        )


def read(
    path: str | Path, *, column: str | None = None, salts: bool = False, largest: int | None = None
) -> Read:
    """The molecules of a file that have a graph.

    Args:
        path: a file of one of `SUFFIXES`, or that and .gz.
        column: of a table, the name of the column with SMILES; found by its name where None.
        salts: of a molecule in several pieces take the largest piece, instead of skipping it.
        largest: skip what has more heavy atoms.

    Raises:
        SuffuseError: where the file is missing, of another kind, or has no molecule to take.
    """
    path = Path(path)
    records: list[Record] = []
    skipped: list[Skipped] = []
    for record, given in _lines(path, column):
        mol = parse(record.smiles) if given is None else given
        if mol is not None and salts and "." in record.smiles:
            mol = max(
                Chem.GetMolFrags(mol, asMols=True), key=lambda piece: piece.GetNumHeavyAtoms()
            )
            record = Record(record.line, Chem.MolToSmiles(mol), record.name, record.values)
        reason = refusal(mol)
        if mol is not None and largest is not None and mol.GetNumHeavyAtoms() > largest:
            reason = reason or "size"
        if reason is None:
            records.append(record)
        else:
            skipped.append(Skipped(record.line, record.smiles or record.name, reason))
    found = Read(path, tuple(records), tuple(skipped))
    if not records:
        why = found.account() or "there is none in it"
        raise SuffuseError(f"{str(path)!r} holds no molecule that can be taken: {why}")
    return found


def molecules(found: Read) -> list[Chem.Mol]:
    """The molecules themselves, each with its name as the property "_Name"."""
    out = []
    for record in found.records:
        mol = known(record.smiles)
        mol.SetProp("_Name", record.name)
        out.append(mol)
    return out


def _lines(path: Path, column: str | None) -> Iterator[tuple[Record, Chem.Mol | None]]:
    """Every molecule of a file; with the molecule itself where the file has no SMILES."""
    suffix = [s.lower() for s in path.suffixes]
    kind = suffix[-2] if suffix[-1:] == [".gz"] and len(suffix) > 1 else (suffix or [""])[-1]
    if kind not in SUFFIXES:
        raise SuffuseError(
            f"{str(path)!r} is no file of molecules by its name: those end in "
            f"{', '.join(SUFFIXES)}, or that and .gz"
        )
    try:
        raw = path.read_bytes()
        data = gzip.decompress(raw) if suffix[-1] == ".gz" else raw
    except (OSError, EOFError) as error:
        raise SuffuseError(f"cannot read {str(path)!r}: {error}") from None
    if kind in (".sdf", ".sd", ".mol"):
        yield from _sdf(data)
    elif kind in (".csv", ".tsv"):
        yield from _table(path, data.decode("utf-8-sig", "replace"), column)
    else:
        yield from _smiles(data.decode("utf-8-sig", "replace"))


def _smiles(text: str) -> Iterator[tuple[Record, None]]:
    for number, line in enumerate(text.splitlines(), start=1):
        first, _, rest = line.strip().replace("\t", " ").partition(" ")
        if not first or first.startswith("#") or (number == 1 and first.lower() in _COLUMNS):
            continue
        yield Record(number, first, rest.strip()), None


def _table(path: Path, text: str, column: str | None) -> Iterator[tuple[Record, None]]:
    head = text[:4096].splitlines()[:1]
    mark = max(",;\t", key=head[0].count) if head else ","
    reader = csv.DictReader(io.StringIO(text), delimiter=mark)
    names = [name for name in reader.fieldnames or [] if name is not None]
    if column is None:
        by_name = {name.strip().lower(): name for name in names}
        column = next((by_name[name] for name in _COLUMNS if name in by_name), None)
        if column is None:
            raise SuffuseError(
                f"no column of {str(path)!r} is named for SMILES (there are: {', '.join(names)}); "
                "name it by the option column"
            )
    elif column not in names:
        raise unknown(f"column of {str(path)!r}", column, names)
    label = next((name for name in names if name.strip().lower() in ("name", "id", "title")), None)
    for row in reader:
        rest = {
            key: value.strip()
            for key, value in row.items()
            if key not in (column, label, None) and isinstance(value, str) and value.strip()
        }
        name = (row.get(label) or "") if label else ""
        yield Record(reader.line_num, (row.get(column) or "").strip(), name, rest), None


def _sdf(data: bytes) -> Iterator[tuple[Record, Chem.Mol | None]]:
    with quiet():
        supplier: Any = Chem.ForwardSDMolSupplier(io.BytesIO(data), sanitize=True, removeHs=True)
        for number, mol in enumerate(supplier, start=1):
            if mol is None:
                yield Record(number, f"molecule {number}"), None  # which is no SMILES
                continue
            name = mol.GetProp("_Name") if mol.HasProp("_Name") else ""
            smiles = Chem.MolToSmiles(flat(mol)) if refusal(mol) is None else Chem.MolToSmiles(mol)
            yield Record(number, smiles, name, mol.GetPropsAsDict()), mol
