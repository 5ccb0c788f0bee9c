"""Crystal ligands: the chemical component dictionary of the Protein Data Bank, from `biotite`.

Each component comes with the coordinates of one deposited structure ("model coordinates"). Taken
are single molecules of common elements with 8 to 40 heavy atoms and one to ten rotatable bonds.
They are split by their Murcko scaffold: those whose scaffold has a small digest are held out, so
that no scaffold is on both sides.

Source: Westbrook et al., "The chemical component dictionary" (2015), doi
10.1093/bioinformatics/btu789; scaffolds: Bemis, Murcko (1996), doi 10.1021/jm9602928.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from rdkit import Chem
from rdkit.Chem.Scaffolds import MurckoScaffold

from suffuse.errors import SuffuseError

from .chemistry import quiet
from .flexible import rotatable

__all__ = ["Ligand", "crystal_ligands", "scaffold", "taken"]

_ELEMENTS = {"H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Br", "I"}
_ORDERS = {
    "SING": Chem.BondType.SINGLE,
    "DOUB": Chem.BondType.DOUBLE,
    "TRIP": Chem.BondType.TRIPLE,
}
_HELD_OUT = 26
"""Of 256 digests of scaffolds, about a tenth."""


class Ligand(NamedTuple):
    """A component: its name, the molecule without hydrogens in its crystal shape, and its split."""

    name: str
    mol: Chem.Mol
    held_out: bool


def scaffold(mol: Chem.Mol) -> str:
    """The SMILES of the Murcko scaffold; of a molecule without rings its own, stereo left aside."""
    core = MurckoScaffold.GetScaffoldForMol(mol)
    return Chem.MolToSmiles(core if core.GetNumAtoms() else mol, isomericSmiles=False)


def taken(mol: Chem.Mol | None) -> bool:
    """Whether a molecule without hydrogens is one to learn torsions from."""
    if mol is None or not 8 <= mol.GetNumAtoms() <= 40 or len(Chem.GetMolFrags(mol)) > 1:
        return False
    if any(atom.GetSymbol() not in _ELEMENTS for atom in mol.GetAtoms()):
        return False
    return 1 <= len(rotatable(mol)) <= 10


def crystal_ligands(most: int | None = None, held_out: bool | None = None) -> Iterator[Ligand]:
    """Components in the order of the digests of their names, so that any number is a fair sample.

    Args:
        most: how many at most.
        held_out: only those that are, or are not; both where None.

    Raises:
        SuffuseError: where biotite is not installed.
    """
    try:
        from biotite.structure.info.ccd import get_ccd
    except ImportError:
        raise SuffuseError(
            "crystal ligands come with the package 'biotite': pip install "
            "'suffuse-molecules[torsions]'"
        ) from None
    dictionary = get_ccd()
    names, kinds = (dictionary["chem_comp"][k].as_array() for k in ("id", "type"))
    chosen = [str(n) for n, kind in zip(names, kinds, strict=True) if "NON-POLYMER" in kind.upper()]
    chosen.sort(key=_digest)
    tables = _Tables(dictionary)
    found = 0
    for name in chosen:
        mol = tables.molecule(name)
        if mol is None or not taken(mol):
            continue
        outside = _digest(scaffold(mol))[0] < _HELD_OUT
        if held_out is None or outside == held_out:
            yield Ligand(name, mol, outside)
            found += 1
            if found == most:
                return


def _digest(text: str) -> bytes:
    return hashlib.sha256(b"torsions/" + text.encode()).digest()


class _Tables:
    """The dictionary's columns, with the rows of each component."""

    def __init__(self, dictionary: Any) -> None:
        atoms, bonds = dictionary["chem_comp_atom"], dictionary["chem_comp_bond"]
        self._atom_rows = _rows(atoms["comp_id"].as_array())
        self._bond_rows = _rows(bonds["comp_id"].as_array())
        self._names = atoms["atom_id"].as_array()
        self._elements = atoms["type_symbol"].as_array()
        self._charges = atoms["charge"].as_array(str)
        self._x = [atoms[f"model_Cartn_{k}"].as_array(str) for k in "xyz"]
        self._ends = [bonds[f"atom_id_{k}"].as_array() for k in (1, 2)]
        self._orders = bonds["value_order"].as_array()

    def molecule(self, name: str) -> Chem.Mol | None:
        """A component without hydrogens, in its crystal shape; None where it is none of ours."""
        if name not in self._atom_rows or name not in self._bond_rows:
            return None
        rows = range(*self._atom_rows[name])
        symbols = [str(self._elements[i]).capitalize() for i in rows]
        heavy = sum(s != "H" for s in symbols)
        if not 8 <= heavy <= 40 or not set(symbols) <= _ELEMENTS:
            return None
        mol, place = Chem.RWMol(), {}
        shape = Chem.Conformer(len(rows))
        for k, (i, symbol) in enumerate(zip(rows, symbols, strict=True)):
            atom = Chem.Atom(symbol)
            try:
                atom.SetFormalCharge(int(self._charges[i]))
                at = [float(axis[i]) for axis in self._x]
            except ValueError:
                if symbol != "H":
                    return None
                at = [0.0, 0.0, 0.0]  # a hydrogen that was not seen, and goes in a moment
            atom.SetNoImplicit(True)
            mol.AddAtom(atom)
            shape.SetAtomPosition(k, at)
            place[str(self._names[i])] = k
        for i in range(*self._bond_rows[name]):
            order = _ORDERS.get(str(self._orders[i]).upper())
            if order is None:
                return None
            mol.AddBond(*(place[str(end[i])] for end in self._ends), order)
        mol.AddConformer(shape)
        with quiet():
            if Chem.SanitizeMol(mol, catchErrors=True):
                return None
            out = Chem.RemoveHs(mol.GetMol())
            Chem.AssignStereochemistryFrom3D(out)
        x = out.GetConformer().GetPositions()
        apart = np.linalg.norm(x[:, None] - x, axis=-1) + 9 * np.eye(len(x))
        return out if apart.min() > 0.9 else None


def _rows(ids: Any) -> dict[str, tuple[int, int]]:
    """The first row of each component and the one after its last; its rows are together."""
    starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    ends = [*starts[1:].tolist(), len(ids)]
    return {str(ids[a]): (int(a), int(b)) for a, b in zip(starts, ends, strict=True)}
