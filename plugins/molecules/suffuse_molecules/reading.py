"""Files of molecules: SMILES lines, tables and SDF, also gzipped, line by line.

    .smi .txt .smiles   a SMILES first on each line, then a name
    .csv .tsv           a column of SMILES, found by its name; other columns are values
    .sdf .sd .mol       molecules with coordinates and data fields

What cannot be read, or is refused, is skipped and listed with its line (in an SDF, the number of
the molecule) and the code of the reason (`suffuse_molecules.chemistry.REASONS`). An SDF without
coordinates is read too: the graph needs none. Stereo is that of the coordinates, or of a drawing's
wedges; hydrogens, coordinates and data fields stay with the molecule.
"""

from __future__ import annotations

import csv
import gzip
import io
import logging
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rdkit import Chem

from suffuse.errors import SuffuseError, unknown

from .chemistry import parse, quiet, refusal

__all__ = ["SUFFIXES", "Read", "Record", "Skipped", "kind", "molecules", "read", "rows"]

logger = logging.getLogger("suffuse_molecules")

SUFFIXES = (".smi", ".smiles", ".txt", ".csv", ".tsv", ".sdf", ".sd", ".mol")
_SDF = (".sdf", ".sd", ".mol")

_COLUMNS = ("smiles", "canonical_smiles", "isomeric_smiles", "smi", "structure", "molecule", "mol")
_NAMED = 10


@dataclass(frozen=True)
class Record:
    """One molecule of a file.

    Attributes:
        line: its line, from 1; in an SDF its number.
        smiles: as it stands in the file; canonical, with stereo, where the file has none.
        name: what the file calls it, or "".
        values: its other columns or data fields.
        whole: of an SDF, the molecule with its hydrogens and coordinates in rdkit's binary form.
    """

    line: int
    smiles: str
    name: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    whole: bytes = field(default=b"", repr=False)

    def molecule(self, hydrogens: bool = False) -> Chem.Mol | None:
        """The molecule itself, with the hydrogens of an SDF or without; None where it is none."""
        if not self.whole:
            return parse(self.smiles)
        mol = Chem.Mol(self.whole)
        return mol if hydrogens else _bare(mol)


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
    for record in _lines(path, column):
        mol = record.molecule(hydrogens=True)
        if mol is not None and salts and "." in record.smiles:
            mol = max(
                Chem.GetMolFrags(mol, asMols=True), key=lambda piece: piece.GetNumHeavyAtoms()
            )
            whole = _binary(mol) if record.whole else b""
            record = replace(record, smiles=Chem.MolToSmiles(_bare(mol)), whole=whole)
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


def molecules(found: Read, hydrogens: bool = False) -> list[Chem.Mol]:
    """The molecules themselves, each with its name as "_Name" and its values as properties.

    Args:
        found: what was read.
        hydrogens: of an SDF, keep those that are atoms there; else all are implicit, but those that
            tell a double bond's side.
    """
    out = []
    for record in found.records:
        mol = record.molecule(hydrogens)
        assert mol is not None
        mol.SetProp("_Name", record.name)
        for name, value in record.values.items():
            mol.SetProp(name, value)
        out.append(mol)
    return out


def kind(path: Path) -> Literal["smiles", "table", "sdf"]:
    """What a file is by its name.

    Raises:
        SuffuseError: where it is no file of molecules.

    >>> kind(Path("in.SDF.gz")), kind(Path("in.csv"))
    ('sdf', 'table')
    """
    suffix = path.with_suffix("").suffix if path.suffix.lower() == ".gz" else path.suffix
    if suffix.lower() not in SUFFIXES:
        raise SuffuseError(
            f"{str(path)!r} is no file of molecules by its name: those end in "
            f"{', '.join(SUFFIXES)}, or that and .gz"
        )
    if suffix.lower() in _SDF:
        return "sdf"
    return "table" if suffix.lower() in (".csv", ".tsv") else "smiles"


def _lines(path: Path, column: str | None) -> Iterator[Record]:
    """Every molecule of a file."""
    of = kind(path)
    try:
        raw = path.read_bytes()
        data = gzip.decompress(raw) if path.suffix.lower() == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise SuffuseError(f"cannot read {str(path)!r}: {error}") from None
    if of == "sdf":
        yield from _sdf(data)
    elif of == "table":
        yield from _table(path, data.decode("utf-8-sig", "replace"), column)
    else:
        yield from _smiles(data.decode("utf-8-sig", "replace"))


def _smiles(text: str) -> Iterator[Record]:
    for number, line in enumerate(text.splitlines(), start=1):
        first, _, rest = line.strip().replace("\t", " ").partition(" ")
        if not first or first.startswith("#") or (number == 1 and first.lower() in _COLUMNS):
            continue
        yield Record(number, first, rest.strip())


def _table(path: Path, text: str, column: str | None) -> Iterator[Record]:
    head = text[:4096].splitlines()[:1]
    mark = max(",;\t", key=head[0].count) if head else ","
    names, lines = rows(path, text, mark)
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
    for line, row in lines:
        rest = {
            key: value.strip()
            for key, value in row.items()
            if key not in (column, label) and value.strip()
        }
        yield Record(line, row[column].strip(), row[label] if label else "", rest)


def rows(
    path: Path, text: str, mark: str = ","
) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """The names of a table's columns; and its rows by name, each with the line that it ends in.

    Raises:
        SuffuseError: at a quote that swallows what comes after it.
    """
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=mark, strict=True)

    def lines() -> Iterator[tuple[int, list[str]]]:
        last = 0
        try:
            for row in reader:
                last = reader.line_num
                if row:
                    yield last, row
        except csv.Error as error:
            raise SuffuseError(
                f"the row that begins in line {last + 1} of {str(path)!r} cannot be read: {error}; "
                'a field that begins with " ends with one, and within it each " is written twice'
            ) from None

    every = lines()
    _, names = next(every, (0, []))
    blank = [""] * len(names)
    return names, ((line, dict(zip(names, row + blank, strict=False))) for line, row in every)


def _sdf(data: bytes) -> Iterator[Record]:
    with quiet():
        supplier: Any = Chem.ForwardSDMolSupplier(io.BytesIO(data), sanitize=True, removeHs=False)
        for number, mol in enumerate(supplier, start=1):
            if mol is None:
                yield Record(number, f"molecule {number}")  # which is no SMILES
                continue
            name = mol.GetProp("_Name") if mol.HasProp("_Name") else ""
            values = {key: mol.GetProp(key) for key in mol.GetPropNames()}
            yield Record(number, Chem.MolToSmiles(_bare(mol)), name, values, _binary(mol))


def _bare(mol: Chem.Mol) -> Chem.Mol:
    """Without explicit hydrogens, but those that tell a double bond's side."""
    with quiet():
        return Chem.RemoveHs(mol)


def _binary(mol: Chem.Mol) -> bytes:
    return bytes(mol.ToBinary(Chem.PropertyPickleOptions.CoordsAsDouble))
