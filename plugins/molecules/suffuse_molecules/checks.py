"""Whether a pose could be one: checks of its chemistry, its shape and its place in the receptor.

These are checks of PoseBusters, written anew with its thresholds. A pose passes if it passes all;
each that it fails is named. Metals and ions are judged apart, as there, since ligands bind them at
less than the sum of van der Waals radii. Otherwise than in PoseBusters (0.6.5): 25 conformers are
relaxed for the energy and not 50; cofactors are judged together with the protein; water is no part
of a receptor here; and whether it has radicals, can be written as InChI, or has saturated rings
that are flat is not checked.

Source: Buttenschoen, Morris, Deane, "PoseBusters: AI-based docking methods fail to generate
physically valid poses or generalise to novel sequences" (2024), doi 10.1039/D3SC04185A, table 4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdShapeHelpers

from .chemistry import quiet
from .receptor import Receptor
from .scoring import RADII

__all__ = ["CHECKS", "failed", "strain"]

CHECKS = {
    "sanitize": "rdkit sanitises it",
    "connected": "it is in one piece",
    "bonds": "bond lengths are within the bounds of distance geometry, give or take a quarter",
    "angles": "so are distances over two bonds",
    "inner-clash": "other atoms of the ligand keep 0.7 of the least distance of distance geometry",
    "flat-rings": "aromatic rings of five and six are flat to 0.25 Å",
    "flat-double-bonds": "double bonds between carbons are flat to 0.25 Å",
    "stereo": "stereo centres and double bonds are those that were asked for",
    "energy": "its energy is at most 100 times the mean of relaxed conformers, or 100 kcal/mol",
    "near": "it is within 5 Å of the receptor",
    "clash": "heavy atoms keep 0.75 of the sum of van der Waals radii from the receptor's, and of "
    "covalent radii from metals and ions",
    "overlap": "at most 7.5 % of its volume, at 0.8 of the radii, is the receptor's, and as much, "
    "at 0.5 of the radii, that of metals and ions",
}
"""What is checked, by the name that a failed check is told by."""

_FLAT = {
    "flat-rings": (
        "[ar5^2]1[ar5^2][ar5^2][ar5^2][ar5^2]1",
        "[ar6^2]1[ar6^2][ar6^2][ar6^2][ar6^2][ar6^2]1",
    ),
    "flat-double-bonds": ("[C;X3;^2](*)(*)=[C;X3;^2](*)(*)",),
}
_PATTERNS = {name: [Chem.MolFromSmarts(text) for text in texts] for name, texts in _FLAT.items()}
_FLATNESS = 0.25
_CONFORMERS = 25
_IONS = ("FES", "MOS", "PO3", "PO4", "PPK", "SO3", "SO4", "VO4")
_LEAST = 1.0
"""kcal/mol: small molecules relax to an energy of nearly 0, of which a multiple says nothing."""


def failed(
    pose: Chem.Mol,
    receptor: Receptor | None = None,
    asked: Chem.Mol | None = None,
    ground: float | None = None,
) -> tuple[str, ...]:
    """The names of the checks that a pose fails; empty for one that passes all.

    Args:
        pose: with coordinates and hydrogens.
        receptor: those about the receptor are left out where it is None.
        asked: the molecule that was asked for, whose stereo the pose should have.
        ground: the mean energy of relaxed conformers, from `strain`, where it is known already.
    """
    copy = Chem.Mol(pose)
    with quiet():
        if Chem.SanitizeMol(copy, catchErrors=True):
            return ("sanitize",)
        out = []
        if len(Chem.GetMolFrags(copy)) > 1:
            out.append("connected")
        heavy = Chem.RemoveHs(copy)
        out += _geometry(heavy)
        out += [name for name in _FLAT if not _flat(heavy, name)]
        if asked is not None and not _same_stereo(copy, asked):
            out.append("stereo")
        mean = strain(copy) if ground is None else ground
        own = _energy(copy)
        if own is not None and np.isfinite(mean) and own > 100 * max(mean, _LEAST):
            out.append("energy")
        if receptor is not None:
            out += _place(heavy, receptor)
    return tuple(out)


def strain(mol: Chem.Mol) -> float:
    """The mean energy of relaxed conformers in UFF, kcal/mol; NaN where there is none."""
    with quiet():
        copy = Chem.AddHs(Chem.RemoveHs(mol))
        settings: Any = rdDistGeom.ETKDGv3()
        settings.randomSeed = 42
        rdDistGeom.EmbedMultipleConfs(copy, _CONFORMERS, settings)
        if not copy.GetNumConformers() or not rdForceFieldHelpers.UFFHasAllMoleculeParams(copy):
            return float("nan")
        done = rdForceFieldHelpers.UFFOptimizeMoleculeConfs(copy, maxIters=200)
    return float(np.mean([energy for _, energy in done]))


def _energy(mol: Chem.Mol) -> float | None:
    if not rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
        return None
    return float(rdForceFieldHelpers.UFFGetMoleculeForceField(mol).CalcEnergy())


def _geometry(heavy: Chem.Mol) -> list[str]:
    """Bonds, angles and clashes against the bounds of distance geometry."""
    bounds = rdDistGeom.GetMoleculeBoundsMatrix(
        heavy, set15bounds=True, scaleVDW=True, doTriangleSmoothing=True
    )
    n = heavy.GetNumAtoms()
    upper = np.triu(bounds, 1)
    lower = np.tril(bounds, -1).T
    x = heavy.GetConformer().GetPositions()
    r = np.linalg.norm(x[:, None] - x, axis=-1)
    steps = Chem.GetDistanceMatrix(heavy)
    above = np.triu(np.ones((n, n), bool), 1)

    def beyond(where: Any, wide: float) -> bool:
        low, high = lower[where] * (1 - wide), upper[where] * (1 + wide)
        return bool(((r[where] < low) | (r[where] > high)).any())

    found = []
    if beyond(above & (steps == 1), 0.25):
        found.append("bonds")
    if beyond(above & (steps == 2), 0.25):
        found.append("angles")
    rest = above & (steps > 2)
    if (r[rest] < lower[rest] * 0.7).any():
        found.append("inner-clash")
    return found


def _flat(heavy: Chem.Mol, name: str) -> bool:
    x = heavy.GetConformer().GetPositions()
    for pattern in _PATTERNS[name]:
        for match in heavy.GetSubstructMatches(pattern):
            part = x[list(match)] - x[list(match)].mean(0)
            normal = np.linalg.svd(part)[2][-1]
            if np.abs(part @ normal).max() > _FLATNESS:
                return False
    return True


def _same_stereo(pose: Chem.Mol, asked: Chem.Mol) -> bool:
    """Whether the shape has the stereo that was asked for; what was left open may be any."""
    shaped = Chem.Mol(pose)
    Chem.AssignStereochemistryFrom3D(shaped)
    return bool(Chem.RemoveHs(shaped).HasSubstructMatch(Chem.RemoveHs(asked), useChirality=True))


def _place(heavy: Chem.Mol, receptor: Receptor) -> list[str]:
    x = heavy.GetConformer().GetPositions().astype(np.float32)
    protein = receptor.x.numpy()
    close = np.flatnonzero(((protein > x.min(0) - 8) & (protein < x.max(0) + 8)).all(1))
    if not len(close):
        return ["near"]
    r = np.linalg.norm(x[:, None] - protein[close], axis=-1)
    found = []
    if r.min() > 5.0:
        found.append("near")
    table = Chem.GetPeriodicTable()
    ionic = np.array([_ionic(receptor, i) for i in close])
    clash = overlap = False
    for group, radius, scale in (
        (~ionic, table.GetRvdw, 0.8),
        (ionic, table.GetRcovalent, 0.5),
    ):
        own = np.array([radius(atom.GetSymbol()) for atom in heavy.GetAtoms()])
        theirs = np.array([radius(receptor.elements[i]) for i in close[group]])
        clash |= bool((r[:, group] < 0.75 * (own[:, None] + theirs)).any())
        within = close[group & (r.min(0) < 5.0)]
        overlap |= len(within) > 0 and _overlap(heavy, receptor, within, scale) > 0.075
    return found + ["clash"] * clash + ["overlap"] * overlap


def _ionic(receptor: Receptor, i: int) -> bool:
    """Whether an atom is what PoseBusters has for an inorganic cofactor."""
    element, residue = receptor.elements[i], receptor.residues[i].split(":")[-1]
    return element not in RADII or element in ("Cl", "Br") or residue.startswith(_IONS)


def _overlap(heavy: Chem.Mol, receptor: Receptor, within: Any, scale: float) -> float:
    around = Chem.RWMol()
    conformer = Chem.Conformer(len(within))
    for k, i in enumerate(within.tolist()):
        around.AddAtom(Chem.Atom(receptor.elements[i]))
        conformer.SetAtomPosition(k, receptor.x[i].tolist())
    around.AddConformer(conformer)
    share = rdShapeHelpers.ShapeTverskyIndex(heavy, around.GetMol(), 1.0, 0.0, vdwScale=scale)
    return float(share)
