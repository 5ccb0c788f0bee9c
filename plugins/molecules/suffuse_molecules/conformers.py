"""Shapes: conformers by distance geometry and a force field.

ETKDG (Riniker and Landrum, "Better informed distance geometry: using what we know to improve
conformation generation" (2015), doi 10.1021/acs.jcim.5b00654), version 3, embeds; MMFF94s, or UFF
where it has no parameters, relaxes; shapes that are nearer to a lower one than `distinct` are left
out. Torsions may also be drawn by a learned sampler (`suffuse_molecules.torsional`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdMolAlign

from suffuse.errors import SuffuseError

from .chemistry import implicit, quiet

__all__ = ["Conformers", "conformers", "embedded"]

_ATTEMPTS = 50
"""At one shape. rdkit's own bound, ten for each atom, takes minutes where none can be had."""


@dataclass(frozen=True)
class Conformers:
    """The shapes of one molecule, the lowest in energy first.

    Attributes:
        mol: with hydrogens and as many conformers as were found.
        energies: of each, in kcal/mol above the lowest.
        field: "MMFF94s", "UFF", or "none" where neither has parameters.
    """

    mol: Chem.Mol
    energies: tuple[float, ...]
    field: str


def conformers(
    mol: Chem.Mol,
    k: int = 10,
    *,
    seed: int = 0,
    distinct: float = 0.1,
    relax: bool = True,
    method: Literal["etkdg", "torsional", "both"] = "etkdg",
    torsions: str | Path | None = None,
) -> Conformers:
    """Up to k conformers of a molecule.

    Args:
        mol: sanitised; its stereo is kept, and what it leaves open is drawn at random.
        k: how many are embedded, at least 1.
        seed: of the embedding, in [0, 2^31 - 1).
        distinct: leave out what is nearer than so many Å (root mean square over heavy atoms, after
            the best alignment and over symmetries) to one that is lower.
        relax: in the force field.
        method: "torsional" draws the torsions by diffusion (`suffuse_molecules.torsional`), "both"
            half of them; molecules without torsions, or with elements that its model does not know,
            are shaped by ETKDG.
        torsions: the folder of the model of torsions; the one that ships where None.

    Raises:
        SuffuseError: where not one shape can be embedded.

    >>> from suffuse_molecules.chemistry import parse
    >>> found = conformers(parse("CCO"), 3)
    >>> found.mol.GetNumAtoms(), found.energies[0], found.field
    (9, 0.0, 'MMFF94s')
    """
    whole = embedded(mol, k, seed)
    if method != "etkdg":
        _retorsioned(whole, method == "both", seed, torsions)
    ids = [conformer.GetId() for conformer in whole.GetConformers()]
    with quiet():
        field, found = _relaxed(whole) if relax else ("none", [math.nan] * len(ids))
        order = np.argsort(found, kind="stable") if field != "none" else np.arange(len(ids))
        kept = _different(implicit(whole), [ids[i] for i in order], distinct)
    low = min(found) if field != "none" else math.nan
    out = Chem.Mol(whole)
    out.RemoveAllConformers()
    energies = []
    for i in kept:
        out.AddConformer(whole.GetConformer(i), assignId=True)
        energies.append(float(found[ids.index(i)] - low))
    return Conformers(out, tuple(energies), field)


def embedded(mol: Chem.Mol, k: int, seed: int = 0) -> Chem.Mol:
    """The molecule with hydrogens and up to k conformers of ETKDG (version 3), not relaxed.

    Raises:
        SuffuseError: where not one can be embedded.
    """
    with quiet():
        whole = Chem.AddHs(mol)
        settings: Any = rdDistGeom.ETKDGv3()
        settings.randomSeed = seed + 1  # with 0, all shapes would be one
        settings.maxIterations = _ATTEMPTS
        if not len(rdDistGeom.EmbedMultipleConfs(whole, k, settings)):
            settings.useRandomCoords = True  # rings and cages that distances alone do not lead to
            rdDistGeom.EmbedMultipleConfs(whole, k, settings)
    if not whole.GetNumConformers():
        raise SuffuseError(f"no shape can be embedded for {Chem.MolToSmiles(mol)!r}")
    return whole


def _retorsioned(whole: Chem.Mol, half: bool, seed: int, torsions: str | Path | None) -> None:
    """Give the conformers, or every second one, torsions drawn by diffusion; in place."""
    from .torsional import knows, load, redraw

    every = [conformer.GetId() for conformer in whole.GetConformers()]
    chosen = every[1::2] if half else every
    if chosen and knows(whole):
        redraw(whole, chosen, seed=seed, network=load(torsions))


def _relaxed(whole: Chem.Mol) -> tuple[str, list[float]]:
    """Minimised in place; the force field that had parameters, and the energies in kcal/mol."""
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(whole):
        done = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(
            whole, maxIters=500, mmffVariant="MMFF94s"
        )
        return "MMFF94s", [energy for _, energy in done]
    if rdForceFieldHelpers.UFFHasAllMoleculeParams(whole):
        done = rdForceFieldHelpers.UFFOptimizeMoleculeConfs(whole, maxIters=500)
        return "UFF", [energy for _, energy in done]
    return "none", [math.nan] * whole.GetNumConformers()


def _different(heavy: Chem.Mol, order: list[int], distinct: float) -> list[int]:
    kept: list[int] = []
    for i in order:
        # GetBestRMS moves the probe, which here is a copy of its own
        near = (
            rdMolAlign.GetBestRMS(Chem.Mol(heavy), heavy, prbId=i, refId=j, maxMatches=1000)
            for j in kept
        )
        if all(rms >= distinct for rms in near):
            kept.append(i)
    return kept
