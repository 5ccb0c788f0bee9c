"""A receptor from a PDB or mmCIF file: the atoms that a ligand meets, and what is wrong with it.

Water is left out, and so is a ligand that lies where the box is taken from; cofactors, metals and
residues of other names stay, their atoms' kinds found from their neighbours. Missing heavy atoms of
the twenty amino acids, unknown residues and what was left out are told, since a hole in a pocket is
an invitation to dock into it.
"""

from __future__ import annotations

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

from .atoms import Atom, read_atoms
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
_LARGEST = 40  # Å
_CAPS = {"ACE", "NME", "NMA", "NH2"}
_DONORS = {"NE", "NH1", "NH2", "ND2", "NE2", "ND1", "NZ", "OG", "OG1", "OH", "NE1"}


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
        left: residues that were left out, since they are the ligand that says where the pocket is.
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
    left: tuple[str, ...] = ()

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
        if not all(0 < k <= _LARGEST for k in side) or not bool(box.centre.isfinite().all()):
            raise SuffuseError(
                f"the box's centre is finite and its sides are above 0 and at most {_LARGEST} Å, "
                f"since the pocket is to be known; given {side} about "
                f"{[round(k, 1) for k in box.centre.tolist()]}"
            )
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
        if self.left:
            names = ", ".join(key.lstrip(":") for key in self.left)
            said.append(f"{names}: left out, as the ligand that the box was taken from")
        holes = [f"{name} ({' '.join(lost)})" for name, lost in self.missing.items()]
        here = [hole for hole, name in zip(holes, self.missing, strict=True) if name in about]
        if holes:
            said.append(
                f"{len(holes)} residues lack atoms"
                + (f", at the box: {', '.join(here[:8])}" if here else ", none of them at the box")
            )
        if self.unknown:
            atoms = (f"{n} atom{'s' if n > 1 else ''}" for n in self.unknown.values())
            listed = ", ".join(f"{name} ({n})" for name, n in zip(self.unknown, atoms, strict=True))
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
        atoms, _ = read_atoms(path)
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


def read_receptor(path: str | Path, ligand: Any = None) -> Receptor:
    """The receptor of a PDB or mmCIF file, also gzipped.

    Args:
        path: the file.
        ligand: places in Å, [N, 3], of a ligand that lies in the pocket: a residue that is no amino
            acid and lies where it does is left out.

    Raises:
        SuffuseError: where the file cannot be read or holds no receptor, or one whose residues lack
            most of their atoms.
    """
    path = Path(path)
    atoms, hydrogens = read_atoms(path)
    heavy = [atom for atom in atoms if atom.residue not in _WATER]
    if len(heavy) < 20:
        raise SuffuseError(
            f"{str(path)!r} holds {len(heavy)} heavy atoms beside water; a receptor is a PDB or "
            "mmCIF file with the ATOM lines of a protein"
        )
    same = set() if ligand is None else _where(heavy, ligand)
    heavy = [atom for atom in heavy if atom.key not in same]
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
    common = sum(name in _SIDE for name in names.values())
    if len(missing) > common / 2:
        first = next(iter(missing))
        raise SuffuseError(
            f"{len(missing)} of the {common} amino acids of {str(path)!r} lack heavy atoms, as "
            f"{first} does ({' '.join(missing[first])}): it is a trace or a backbone, and a ligand "
            "is held by side chains; give a whole structure, or one completed by a modelling tool"
        )
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
        tuple(sorted(same)),
    )


def _where(heavy: list[Atom], ligand: Any) -> set[str]:
    """The residues beside amino acids that lie where a ligand does, most atoms within 1 Å of it."""
    x = np.array([atom.x for atom in heavy])
    near = cKDTree(ligand).query(x)[0] < 1.0
    found: dict[str, list[bool]] = defaultdict(list)
    for atom, there in zip(heavy, near, strict=True):
        if _ALIASES.get(atom.residue, atom.residue) not in _SIDE:
            found[atom.key].append(bool(there))
    return {key for key, there in found.items() if np.mean(there) > 0.5}


def _kinds(atoms: list[Atom], names: dict[str, str], hydrogens: Any) -> Kinds:
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


def _polar(atoms: list[Atom], hydrogens: Any) -> Any:
    x = [atom.x for atom in atoms if atom.element in ("N", "O", "S")]
    if not len(hydrogens) or not x:
        return hydrogens[:0]
    return hydrogens[cKDTree(np.array(x)).query(hydrogens)[0] < 1.4]


def _gives(element: str, degree: int, lengths: Any) -> bool:
    """Whether an atom of an unknown residue without hydrogens probably has one to give."""
    if element == "O":
        return degree == 1 and bool(lengths.min() > 1.3)
    return element == "N" and degree < 3
