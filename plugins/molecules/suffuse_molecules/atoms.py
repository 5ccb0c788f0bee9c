"""The atoms of a structure's file, PDB or mmCIF, also gzipped.

Taken is the first model; of alternative places of an atom that of the highest occupancy, and the
first of equal ones. Names, residues, numbers and chains are the authors', as the literature has
them.

Source: "Atomic coordinate entry format, version 3.3" and "PDBx/mmCIF dictionary", category
atom_site, of the wwPDB.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from suffuse.errors import SuffuseError

__all__ = ["Atom", "read_atoms"]

_METALS = {
    "Li", "Na", "K", "Mg", "Ca", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Cd", "Hg", "Sr", "Ba",
}  # fmt: skip
_TOKEN = re.compile(r"""'.*?'(?=\s|$)|".*?"(?=\s|$)|\S+""")
_PLACE = ("Cartn_x", "Cartn_y", "Cartn_z")


class Atom(NamedTuple):
    """A heavy atom.

    Attributes:
        element, name, residue: as "C", "CA", "GLU".
        key: of its residue, as in "A:GLU81".
        x: its place in Å.
        occupancy: of that place.
        place: its chain, and the number of its residue with the insertion code.
    """

    element: str
    name: str
    residue: str
    key: str
    x: tuple[float, float, float]
    occupancy: float
    place: tuple[str, str]


def read_atoms(path: Path) -> tuple[list[Atom], Any]:
    """Heavy atoms, and the places of hydrogens, float64 [K, 3].

    Raises:
        SuffuseError: where the file cannot be read, or a line of an atom has no place.
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("latin-1")
    except (OSError, EOFError, zlib.error) as error:
        raise SuffuseError(f"cannot read {str(path)!r}: {error}") from None
    inside = path.with_suffix("") if path.suffix == ".gz" else path
    rows = _cif if inside.suffix.lower() in (".cif", ".mmcif") else _pdb
    kept: dict[tuple[str, str], Atom] = {}
    hydrogens = []
    for atom in rows(text, path):
        if atom.element == "H":
            hydrogens.append(atom.x)
            continue
        # alternative places share chain, number and name
        slot = (":".join(atom.place), atom.name)
        if slot not in kept or atom.occupancy > kept[slot].occupancy:
            kept[slot] = atom
    return [*kept.values()], np.array(hydrogens).reshape(-1, 3)


def _pdb(text: str, path: Path) -> Iterator[Atom]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("ENDMDL"):
            return
        if not line.startswith(("ATOM", "HETATM")):
            continue
        at = _numbers(line[30:38], line[38:46], line[46:54]) if len(line) >= 54 else None
        share = _numbers(line[54:60].strip() or "1")
        if at is None or share is None:
            raise SuffuseError(
                f"line {number} of {str(path)!r} is no atom of a PDB file: its columns 31 to 54 "
                "hold no coordinates in Å, or 55 to 60 no occupancy: "
                f"{line[:66]!r}"
            )
        name, residue = line[12:16].strip(), line[17:21].strip()
        chain, place = line[21].strip(), line[22:27].strip()
        key = f"{chain}:{residue}{place}"
        yield Atom(_element(line, name), name, residue, key, at, share[0], (chain, place))


def _cif(text: str, path: Path) -> Iterator[Atom]:
    columns: list[str] = []
    first = None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("_atom_site."):
            columns.append(line.split()[0].removeprefix("_atom_site."))
        elif columns and line.startswith(("#", "loop_", "_", "data_")):
            break
        elif columns and line.strip():
            values = [token.strip("'\"") for token in _TOKEN.findall(line)]
            row = dict(zip(columns, values, strict=False))
            at = _numbers(*(row.get(axis, "") for axis in _PLACE))
            share = _numbers(row.get("occupancy", "1").replace("?", "1"))
            if len(values) != len(columns) or at is None or share is None:
                raise SuffuseError(
                    f"line {number} of {str(path)!r} is no atom of an mmCIF file: {len(columns)} "
                    f"columns are named, among them {', '.join(_PLACE)}, and it reads {line[:66]!r}"
                )
            first = first or row.get("pdbx_PDB_model_num")
            if row.get("pdbx_PDB_model_num") != first:
                break
            name, residue, chain, place = (
                row.get(f"auth_{key}_id", row.get(f"label_{key}_id", ""))
                for key in ("atom", "comp", "asym", "seq")
            )
            place += row.get("pdbx_PDB_ins_code", "").strip("?.")
            element = row.get("type_symbol", name[:1]).capitalize()
            element = "H" if element == "D" else element
            yield Atom(
                element, name, residue, f"{chain}:{residue}{place}", at, share[0], (chain, place)
            )


def _numbers(*texts: str) -> Any:
    """Finite numbers, or None where one is not."""
    try:
        found = tuple(float(text) for text in texts)
    except ValueError:
        return None
    return found if all(map(math.isfinite, found)) else None


def _element(line: str, name: str) -> str:
    told = line[76:78].strip().capitalize()
    if told and told.isalpha():
        return "H" if told == "D" else told
    letters = name.lstrip("0123456789")
    if line[12:14].strip().capitalize() in _METALS and line.startswith("HETATM"):
        return line[12:14].strip().capitalize()
    return {"D": "H"}.get(letters[:1], letters[:1].upper())
