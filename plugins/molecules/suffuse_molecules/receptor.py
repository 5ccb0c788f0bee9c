"""A receptor from a PDB file: the atoms that a ligand meets, and what is wrong with the file.

Water is left out; cofactors, metals and residues of other names stay, their atoms' kinds found from
their neighbours. Of alternative places the one of the highest occupancy is taken. Missing heavy
atoms of the twenty amino acids, unknown residues and what was left out are told, since a hole in a
pocket is an invitation to dock into it.
"""

from __future__ import annotations

import gzip
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rdkit import Chem
from scipy.spatial import cKDTree
from torch import Tensor

from suffuse.errors import SuffuseError

from .chemistry import quiet
from .scoring import RADII, Kinds

__all__ = ["Box", "Receptor", "points", "read_receptor"]

_WATER = {"HOH", "WAT", "DOD", "TIP", "TIP3", "SOL", "H2O", "T3P", "SPC"}
_SIDE = {
    "ALA": "CB", "ARG": "CB CG CD NE CZ NH1 NH2", "ASN": "CB CG OD1 ND2", "ASP": "CB CG OD1 OD2",
    "CYS": "CB SG", "GLN": "CB CG CD OE1 NE2", "GLU": "CB CG CD OE1 OE2", "GLY": "",
    "HIS": "CB CG ND1 CD2 CE1 NE2", "ILE": "CB CG1 CG2 CD1", "LEU": "CB CG CD1 CD2",
    "LYS": "CB CG CD CE NZ", "MET": "CB CG SD CE", "PHE": "CB CG CD1 CD2 CE1 CE2 CZ",
    "PRO": "CB CG CD", "SER": "CB OG", "THR": "CB OG1 CG2",
    "TRP": "CB CG CD1 CD2 NE1 CE2 CE3 CZ2 CZ3 CH2", "TYR": "CB CG CD1 CD2 CE1 CE2 CZ OH",
    "VAL": "CB CG1 CG2",
}  # fmt: skip
_ALIASES = {
    "HID": "HIS", "HIE": "HIS", "HIP": "HIS", "HSD": "HIS", "HSE": "HIS", "HSP": "HIS",
    "CYX": "CYS", "CYM": "CYS", "ASH": "ASP", "GLH": "GLU", "LYN": "LYS", "MSE": "MET",
}  # fmt: skip
_CAPS = {"ACE", "NME", "NMA", "NH2"}
_DONORS = {"NE", "NH1", "NH2", "ND2", "NE2", "ND1", "NZ", "OG", "OG1", "OH", "NE1"}
_METALS = {
    "Li", "Na", "K", "Mg", "Ca", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Cd", "Hg", "Sr", "Ba",
}  # fmt: skip


class Box(NamedTuple):
    """Where a ligand is looked for: centre and side lengths in Å, [3] each."""

    centre: Tensor
    size: Tensor

    @classmethod
    def about(cls, x: Any, padding: float = 4.0) -> Box:
        """The box about points [N, 3], wider by the padding on each side."""
        x = torch.as_tensor(np.asarray(x), dtype=torch.float32)
        low, high = x.amin(0) - padding, x.amax(0) + padding
        return cls((low + high) / 2, high - low)


@dataclass(frozen=True)
class Receptor:
    """The atoms of a receptor without hydrogens.

    Attributes:
        x: in Å, float32 [M, 3].
        kinds: of them.
        names: of each, as in "GLU81:CD".
        residues: of each, as in "A:GLU81".
        missing: residues of the twenty amino acids without all heavy atoms, with those they lack.
        unknown: names of other residues that stay, with how many atoms they have.
        polar: places of the file's hydrogens on N, O and S, float32 [K, 3].
        elements: of the atoms.
        path: of the file.
    """

    x: Tensor
    kinds: Kinds
    names: tuple[str, ...]
    residues: tuple[str, ...]
    missing: dict[str, tuple[str, ...]]
    unknown: dict[str, int]
    polar: Tensor
    elements: tuple[str, ...]
    path: Path

    def near(self, box: Box, margin: float) -> Tensor:
        """The atoms within a margin of the box, int64."""
        far = ((self.x - box.centre).abs() - box.size / 2).clamp(min=0).norm(dim=1)
        return (far <= margin).nonzero()[:, 0]

    def check(self, box: Box) -> list[str]:
        """What a user should know of this box in this receptor, as sentences.

        Raises:
            SuffuseError: where the box is empty, or has next to no receptor in it.
        """
        side = [round(k, 1) for k in box.size.tolist()]
        if min(side) <= 0 or max(side) > 80:
            raise SuffuseError(f"the box's sides are above 0 and at most 80 Å; given {side}")
        inside = self.near(box, 4.0)
        if len(inside) < 20:
            away = float((self.x - box.centre).norm(dim=1).min())
            middle = [round(k, 1) for k in self.x.mean(0).tolist()]
            raise SuffuseError(
                f"the box about {[round(k, 1) for k in box.centre.tolist()]} holds "
                f"{len(inside)} atoms of the receptor, whose nearest is {away:.1f} Å from the "
                f"box's centre (its own centre is {middle}); are ligand and receptor in the same "
                "frame?"
            )
        about = {self.residues[i] for i in inside.tolist()}
        said = []
        holes = [f"{name} ({' '.join(lost)})" for name, lost in self.missing.items()]
        here = [hole for hole, name in zip(holes, self.missing, strict=True) if name in about]
        if holes:
            said.append(
                f"{len(holes)} residues lack atoms"
                + (f", at the box: {', '.join(here[:8])}" if here else ", none of them at the box")
            )
        if self.unknown:
            listed = ", ".join(f"{name} ({n} atoms)" for name, n in self.unknown.items())
            said.append(
                f"kept as they are: {listed}; if one of these is the ligand itself, remove it"
            )
        return said


def points(path: str | Path) -> Any:
    """The places of the atoms of a ligand that lies in a pocket, [N, 3], of an .sdf or .pdb file.

    Raises:
        SuffuseError: where the file has no coordinates in three dimensions.
    """
    path = Path(path)
    if path.suffix.lower() in (".pdb", ".ent"):
        try:
            atoms, _ = _atoms(path.read_text(encoding="latin-1"), path)
        except OSError as error:
            raise SuffuseError(f"cannot read {str(path)!r}: {error}") from None
        x = np.array([atom.x for atom in atoms if atom.residue not in _WATER]).reshape(-1, 3)
    else:
        x = _first_shape(path)
    if not len(x) or np.ptp(x, axis=0).min() < 1e-3:
        raise SuffuseError(
            f"{str(path)!r} has no coordinates in three dimensions, so it cannot say where the "
            "pocket is; give a ligand as it lies in the receptor, or --box"
        )
    return x


def _first_shape(path: Path) -> Any:
    if path.suffix.lower() not in (".sdf", ".sd", ".mol"):
        raise SuffuseError(
            f"a ligand that says where the pocket is comes as .sdf or .pdb, and not {str(path)!r}"
        )
    try:
        text = path.read_text(encoding="latin-1")
    except OSError as error:
        raise SuffuseError(f"cannot read {str(path)!r}: {error}") from None
    with quiet():
        mol = Chem.MolFromMolBlock(text.partition("$$$$")[0], sanitize=False, removeHs=False)
    if mol is None:
        raise SuffuseError(f"the first molecule of {str(path)!r} cannot be read")
    heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    return mol.GetConformer().GetPositions()[heavy] if mol.GetNumConformers() else np.empty((0, 3))


class _Atom(NamedTuple):
    element: str
    name: str
    residue: str
    key: str
    x: tuple[float, float, float]
    occupancy: float
    place: tuple[str, str]


def read_receptor(path: str | Path) -> Receptor:
    """The receptor of a PDB file, or one that is gzipped.

    Raises:
        SuffuseError: where the file cannot be read or holds no receptor.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("latin-1")
    except (OSError, EOFError) as error:
        raise SuffuseError(f"cannot read {str(path)!r}: {error}") from None
    atoms, hydrogens = _atoms(text, path)
    heavy = [atom for atom in atoms if atom.residue not in _WATER]
    if len(heavy) < 20:
        raise SuffuseError(
            f"{str(path)!r} holds {len(heavy)} heavy atoms beside water; a receptor is a PDB file "
            "with ATOM lines of a protein"
        )
    present: dict[str, set[str]] = defaultdict(set)
    names: dict[str, str] = {}
    for atom in heavy:
        present[atom.key].add(atom.name)
        names[atom.key] = _ALIASES.get(atom.residue, atom.residue)
    missing = {}
    for key, found in present.items():
        if names[key] in _SIDE:
            wanted = ("N CA C O " + _SIDE[names[key]]).split()
            lost = tuple(k for k in wanted if k not in found and not (k == "SD" and "SE" in found))
            if lost:
                missing[key] = lost
    other = Counter(
        atom.residue for atom in heavy if names[atom.key] not in _SIDE and atom.residue not in _CAPS
    )
    return Receptor(
        torch.tensor([atom.x for atom in heavy], dtype=torch.float32),
        _kinds(heavy, names, hydrogens),
        tuple(f"{atom.residue}{atom.place[1]}:{atom.name}" for atom in heavy),
        tuple(atom.key for atom in heavy),
        missing,
        dict(other),
        torch.tensor(_polar(heavy, hydrogens), dtype=torch.float32).reshape(-1, 3),
        tuple(atom.element for atom in heavy),
        path,
    )


def _atoms(text: str, path: Path) -> tuple[list[_Atom], Any]:
    """Heavy atoms, and the places of hydrogens [K, 3], of the first model."""
    kept: dict[tuple[str, str], _Atom] = {}
    hydrogens = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("ENDMDL"):
            break
        if not line.startswith(("ATOM", "HETATM")):
            continue
        try:
            x = (float(line[30:38]), float(line[38:46]), float(line[46:54]))
        except ValueError:
            raise SuffuseError(
                f"line {number} of {str(path)!r} is no atom of a PDB file: its columns 31 to 54 "
                f"hold no coordinates: {line[:60]!r}"
            ) from None
        name, residue = line[12:16].strip(), line[17:21].strip()
        element = _element(line, name)
        if element == "H":
            hydrogens.append(x)
            continue
        chain, place = line[21].strip(), line[22:27].strip()
        key = f"{chain}:{residue}{place}"
        occupancy = float(line[54:60]) if line[54:60].strip() else 1.0
        atom = _Atom(element, name, residue, key, x, occupancy, (chain, place))
        # alternative places share chain, number and name
        slot = (f"{chain}:{place}", name)
        if slot not in kept or occupancy > kept[slot].occupancy:
            kept[slot] = atom
    return [*kept.values()], np.array(hydrogens).reshape(-1, 3)


def _element(line: str, name: str) -> str:
    told = line[76:78].strip().capitalize()
    if told and told.isalpha():
        return "H" if told == "D" else told
    letters = name.lstrip("0123456789")
    if line[12:14].strip().capitalize() in _METALS and line.startswith("HETATM"):
        return line[12:14].strip().capitalize()
    return {"D": "H"}.get(letters[:1], letters[:1].upper())


def _kinds(atoms: list[_Atom], names: dict[str, str], hydrogens: Any) -> Kinds:
    x = np.array([atom.x for atom in atoms])
    elements = [atom.element for atom in atoms]
    bonded = cKDTree(x).query_ball_point(x, 1.95)
    with_h = (
        np.array([bool(k) for k in cKDTree(hydrogens).query_ball_point(x, 1.25)])
        if len(hydrogens)
        else np.zeros(len(x), bool)
    )
    rows = []
    for i, atom in enumerate(atoms):
        near = [j for j in bonded[i] if j != i]
        known = names[atom.key] in _SIDE
        polar = any(elements[j] not in ("C", "H") for j in near)
        if with_h.any() and (with_h[i] or not known or names[atom.key] == "HIS"):
            donor = bool(with_h[i])
        elif known:
            donor = atom.name in _DONORS or (atom.name == "N" and names[atom.key] != "PRO")
        else:
            donor = _gives(atom.element, len(near), np.linalg.norm(x[near] - x[i], axis=1))
        taken = atom.element == "O" or (
            atom.element == "N"
            and (
                (names[atom.key] == "HIS" and atom.name in ("ND1", "NE2") and not with_h[i])
                or (not known and len(near) < 3 and not with_h[i])
            )
        )
        metal = atom.element not in RADII
        rows.append(
            (
                RADII.get(atom.element, 1.2),
                (atom.element == "C" and not polar) or atom.element in ("F", "Cl", "Br", "I"),
                metal or (donor and atom.element in ("N", "O")),
                taken,
            )
        )
    radius, hydrophobic, donors, acceptors = zip(*rows, strict=True)
    flags = (torch.tensor(part, dtype=torch.bool) for part in (hydrophobic, donors, acceptors))
    return Kinds(torch.tensor(radius, dtype=torch.float32), *flags)


def _polar(atoms: list[_Atom], hydrogens: Any) -> Any:
    x = [atom.x for atom in atoms if atom.element in ("N", "O", "S")]
    if not len(hydrogens) or not x:
        return hydrogens[:0]
    return hydrogens[cKDTree(np.array(x)).query(hydrogens)[0] < 1.4]


def _gives(element: str, degree: int, lengths: Any) -> bool:
    """Whether an atom of an unknown residue without hydrogens probably has one to give."""
    if element == "O":
        return degree == 1 and bool(lengths.min() > 1.3)
    return element == "N" and degree < 3
