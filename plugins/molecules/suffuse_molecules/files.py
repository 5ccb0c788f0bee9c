"""Molecules as files and drawings: SDF, SMILES lines, tables, and sheets of drawings.

    .sdf   each molecule with coordinates (its own, then with hydrogens, else those of its drawing),
           with its SMILES, its properties and what it was made with as data fields
    .smi   a SMILES first on each line, then a name
    .csv   a SMILES, the properties, and what its graph was before it was made safe
    .html  a page of drawings, shapes to turn, and properties

All are written atomically. A molecule that is not valid (made with raw decoding) is written as it
is, without properties.
"""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rdkit import Chem
from rdkit.Chem import rdDepictor
from rdkit.Chem.Draw import rdMolDraw2D

from suffuse.errors import SuffuseError
from suffuse.storage import write_bytes

from .chemistry import problem, quiet
from .conformers import Conformers
from .graph import RAW
from .properties import PROPERTIES, property_of
from .reading import _lines, kind, molecules, read
from .space import in_space

__all__ = ["Files", "is_valid", "posed", "shapes", "smiles"]

logger = logging.getLogger("suffuse_molecules")

_COLUMNS = ("logp", "qed", "tpsa", "sa", "weight", "rings")
_LARGEST = 6000  # pixels along a sheet
_CELL = (90, 220)  # pixels, least and most


def smiles(mol: Chem.Mol) -> str:
    """The canonical SMILES, with stereo where the molecule has any, and hydrogens implicit."""
    return Chem.MolToSmiles(_bare(mol))


def is_valid(mol: Chem.Mol) -> bool:
    """Whether a molecule sanitises and is in one piece."""
    return problem(mol) is None


class Files:
    """Renderer of rdkit molecules."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (".sdf", ".smi")

    @property
    def collections(self) -> tuple[str, ...]:
        """Files that hold many molecules."""
        return (".sdf", ".smi", ".csv", ".html")

    def write(self, data: Chem.Mol, path: Path, metadata: Mapping[str, str]) -> None:
        """Write one molecule."""
        self.write_all([data], path, [metadata])

    def write_all(
        self, objects: Sequence[Chem.Mol], path: Path, metadata: Sequence[Mapping[str, str]]
    ) -> None:
        """Write all molecules into one file, in their order.

        Raises:
            SuffuseError: for an unknown suffix.
        """
        suffix = Path(path).suffix.lower()
        if suffix == ".sdf":
            text = "".join(_block(mol, m) for mol, m in zip(objects, metadata, strict=True))
        elif suffix == ".smi":
            text = "".join(f"{smiles(mol)}\t{_title(mol, i)}\n" for i, mol in enumerate(objects))
        elif suffix == ".csv":
            text = _table(objects)
        elif suffix == ".html":
            self._page(objects, Path(path), metadata)
            return
        else:
            raise SuffuseError(
                f"cannot write {str(path)!r}: molecules are written as "
                f"{', '.join(self.collections)}, and drawings of them as .png"
            )
        write_bytes(Path(path), text.encode())

    def _page(
        self, objects: Sequence[Chem.Mol], path: Path, metadata: Sequence[Mapping[str, str]]
    ) -> None:
        """The page that `suffuse molecules report` makes of a file with these molecules."""
        from suffuse.report.page import Page

        from .page import write

        if not any(is_valid(mol) for mol in objects):
            page = Page(path.stem, f"{len(objects)} molecules, and none is valid")
            page.section("Molecules").figure(
                self.sheet(objects[:30]), "molecules as they were drawn"
            )
            page.write(path)
            return
        with TemporaryDirectory() as folder:
            file = Path(folder) / f"{path.stem}.sdf"
            self.write_all(objects, file, metadata)
            write(file, path)

    def read(self, path: Path) -> Chem.Mol:
        """The first molecule of a file, sanitised, with the coordinates that an SDF has.

        Raises:
            SuffuseError: where there is none.
        """
        found = read(path)
        return molecules(replace(found, records=found.records[:1]))[0]

    def read_all(self, path: Path) -> list[tuple[str, Chem.Mol]]:
        """Every molecule of a file, as `read` reads one, and its name there, else its line.

        What cannot be taken is told of in the log.

        Raises:
            SuffuseError: where there is none.
        """
        found = read(path)
        if found.skipped:
            logger.warning("%s", found.account())
        names = [record.name or f"line {record.line}" for record in found.records]
        return list(zip(names, molecules(found), strict=True))

    def metadata(self, path: Path) -> Mapping[str, str]:
        """The data fields of the first molecule of an SDF; of other files there are none."""
        if kind(Path(path)) != "sdf":
            return {}
        first = next(_lines(Path(path), None), None)
        return {} if first is None else first.values

    def sheet(
        self,
        objects: Sequence[Chem.Mol],
        captions: Sequence[str] | None = None,
        columns: int = 0,
    ) -> bytes:
        """All molecules drawn on one PNG, row by row; those that are not valid say why."""
        if not objects:
            raise ValueError("a sheet needs at least one molecule")
        columns = min(columns or math.ceil(math.sqrt(len(objects))), len(objects))
        rows = math.ceil(len(objects) / columns)
        cell = max(_CELL[0], min(_CELL[1], _LARGEST // max(columns, rows)))
        drawn = [_drawable(mol, cell) for mol in objects]
        legends = [
            caption or reason
            for caption, (_, reason) in zip(captions or [""] * len(objects), drawn, strict=True)
        ]
        return _drawn([mol for mol, _ in drawn], legends, columns, rows, cell)


def shapes(mol: Chem.Mol, name: str, found: Conformers) -> str:
    """All conformers of a molecule as blocks of an SDF, with their energies."""
    out: list[str] = []
    for conformer, energy in zip(mol.GetConformers(), found.energies, strict=True):
        copy = Chem.Mol(mol, confId=conformer.GetId())
        copy.SetProp("_Name", name)
        fields = {
            "SMILES": smiles(mol),
            "conformer": str(len(out) + 1),
            "energy_kcal_mol": "" if math.isnan(energy) else f"{energy:.4f}",
            "force_field": found.field,
        }
        out.append(_record(Chem.MolToMolBlock(copy), fields))
    return "".join(out)


def posed(mol: Chem.Mol, name: str, fields: Mapping[str, str]) -> str:
    """One pose as a block of an SDF, with its hydrogens and data fields."""
    copy = Chem.Mol(mol)
    copy.SetProp("_Name", name)
    return _record(Chem.MolToMolBlock(copy), {"SMILES": smiles(copy), **fields})


def _drawn(
    mols: Sequence[Chem.Mol], legends: Sequence[str], columns: int, rows: int, cell: int
) -> bytes:
    drawer = rdMolDraw2D.MolDraw2DCairo(columns * cell, rows * cell, cell, cell)
    options: Any = drawer.drawOptions()
    options.legendFontSize = 14
    options.prepareMolsBeforeDrawing = False
    with quiet():
        drawer.DrawMolecules(list(mols), legends=list(legends))
        drawer.FinishDrawing()
    return bytes(drawer.GetDrawingText())


def _drawable(mol: Chem.Mol, cell: int) -> tuple[Chem.Mol, str]:
    """A copy that rdkit draws, and why it is not valid, or ""."""
    copy, reason = Chem.Mol(_bare(mol)), problem(mol) or ""
    with quiet():
        if reason in ("", "fragments"):
            Chem.SanitizeMol(copy)
            if copy.GetNumConformers() and copy.GetConformer().Is3D():
                copy.RemoveAllConformers()  # a shape seen from one side is no drawing
            copy = rdMolDraw2D.PrepareMolForDrawing(copy)
        else:
            copy.UpdatePropertyCache(strict=False)
            Chem.FastFindRings(copy)
            rdDepictor.Compute2DCoords(copy)
    if reason:
        try:
            _drawn([copy], [reason], 1, 1, cell)
        except RuntimeError:  # more bonds than can be laid out: an empty cell that says why
            return Chem.Mol(), reason
    return copy, reason


def _bare(mol: Chem.Mol) -> Chem.Mol:
    """Without explicit hydrogens, whether it is valid or not."""
    if all(atom.GetAtomicNum() != 1 for atom in mol.GetAtoms()):
        return mol
    with quiet():
        return Chem.RemoveHs(mol, sanitize=is_valid(mol))


def _title(mol: Chem.Mol, index: int) -> str:
    name = mol.GetProp("_Name") if mol.HasProp("_Name") else ""
    return name or str(index)


def _values(mol: Chem.Mol) -> dict[str, str]:
    if not is_valid(mol):
        return {}
    bare = _bare(mol)
    return {name: f"{property_of(bare, name):.4g}" for name in _COLUMNS if name in PROPERTIES}


def _block(mol: Chem.Mol, metadata: Mapping[str, str]) -> str:
    copy = Chem.Mol(mol)
    with quiet():
        if not copy.GetNumConformers():
            rdDepictor.Compute2DCoords(copy)
        elif is_valid(mol) and in_space(mol):
            copy = Chem.AddHs(copy, addCoords=True)
    block = Chem.MolToMolBlock(copy, kekulize=is_valid(mol))
    fields = {"SMILES": smiles(mol), **_values(mol), "raw": _raw(mol), **_own(mol), **metadata}
    return _record(block, fields)


def _own(mol: Chem.Mol) -> dict[str, str]:
    """The properties that were given to a molecule, as by the file that it was read from."""
    names = (name for name in mol.GetPropNames() if name.lower() != "smiles")
    return {name: mol.GetProp(name) for name in names}


def _record(block: str, fields: Mapping[str, str]) -> str:
    lines = [f">  <{key}>\n{_flat(value)}\n\n" for key, value in fields.items() if value]
    return block + "".join(lines) + "$$$$\n"


def _flat(text: str) -> str:
    """A data field ends at an empty line."""
    return "\n".join(line for line in str(text).splitlines() if line.strip())


def _raw(mol: Chem.Mol) -> str:
    return mol.GetProp(RAW) if mol.HasProp(RAW) else ""


def _table(objects: Sequence[Chem.Mol]) -> str:
    file = io.StringIO()
    own = [_own(mol) for mol in objects]
    columns = dict.fromkeys(["smiles", "name", "raw", *_COLUMNS, *(k for o in own for k in o)])
    writer = csv.DictWriter(file, [*columns], restval="", lineterminator="\n")
    writer.writeheader()
    for i, (mol, more) in enumerate(zip(objects, own, strict=True)):
        row = {"smiles": smiles(mol), "name": _title(mol, i), "raw": _raw(mol)}
        writer.writerow({**row, **_values(mol), **more})
    return file.getvalue()
