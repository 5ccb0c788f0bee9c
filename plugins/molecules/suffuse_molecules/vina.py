"""AutoDock Vina as a baseline and as a judge: the packages `vina` and `meeko`, an extra.

The receptor is written in Vina's format from what `suffuse_molecules.receptor` read; hydrogens on
N, O and S have to be in the file, since Vina finds donors by them.

Source: Eberhardt, Santos-Martins, Tillack, Forli, "AutoDock Vina 1.2.0" (2021), doi
10.1021/acs.jcim.1c00203.
"""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any

from rdkit import Chem

from suffuse.errors import SuffuseError

from .conformers import conformers
from .docking import Pose
from .receptor import Box, Receptor

__all__ = ["dock_with_vina", "pdbqt", "score_with_vina"]

_METALS = {"Mg", "Mn", "Zn", "Ca", "Fe"}


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise SuffuseError(
            f"this needs the package {name!r}: pip install 'suffuse-molecules[vina]'"
        ) from None


def pdbqt(receptor: Receptor, near: Any) -> str:
    """Some atoms of a receptor, and their polar hydrogens, as Vina reads them."""
    if not len(receptor.polar):
        raise SuffuseError(
            f"{str(receptor.path)!r} holds no hydrogens, and Vina finds donors by them; add them "
            "with a tool for proteins first, or dock without Vina"
        )
    rows = []
    for i in near.tolist():
        element = receptor.elements[i]
        acceptor = bool(receptor.kinds.acceptor[i])
        kind = {"O": "OA", "S": "SA", "N": "NA" if acceptor else "N", "Se": "SA"}.get(
            element, element if len(element) == 1 or element in _METALS | {"Cl", "Br"} else "C"
        )
        rows.append((receptor.x[i], kind))
    middle = receptor.x[near]
    low, high = middle.amin(0) - 2, middle.amax(0) + 2
    rows += [(x, "HD") for x in receptor.polar if bool(((x > low) & (x < high)).all())]
    lines = [
        f"ATOM  {k % 100000:5d}  {kind[0]:<3s} REC A   1    "
        f"{x[0]:8.3f}{x[1]:8.3f}{x[2]:8.3f}  1.00  0.00     0.000 {kind:<2s}\n"
        for k, (x, kind) in enumerate(rows, start=1)
    ]
    return "".join(lines)


def _prepared(receptor: Receptor, box: Box, seed: int, ligand: str) -> Any:
    engine = _package("vina").Vina(sf_name="vina", cpu=1, seed=seed + 1, verbosity=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "receptor.pdbqt"
        path.write_text(pdbqt(receptor, receptor.near(box, 12.0)))
        engine.set_receptor(str(path))
    try:
        engine.set_ligand_from_string(ligand)
    except TypeError as error:  # which is how Vina tells of an element that it does not know
        why = " ".join(str(error).split()).partition(" >")[0]
        raise SuffuseError(f"Vina refuses the ligand: {why}") from None
    engine.compute_vina_maps(center=box.centre.tolist(), box_size=box.size.tolist())
    return engine


def _ligand(mol: Chem.Mol) -> tuple[Any, str]:
    meeko = _package("meeko")
    setup = meeko.MoleculePreparation().prepare(mol)[0]
    text, fine, why = meeko.PDBQTWriterLegacy.write_string(setup)
    if not fine:
        raise SuffuseError(f"Vina's preparation refuses the ligand: {why}")
    return meeko, text


def dock_with_vina(
    mol: Chem.Mol,
    receptor: Receptor,
    box: Box,
    k: int = 9,
    *,
    seed: int = 0,
    exhaustiveness: int = 8,
) -> list[Pose]:
    """Poses by Vina itself, of one conformer of ETKDG, on one thread; arguments as for `dock`."""
    receptor.check(box)
    whole = conformers(mol, 1, seed=seed).mol
    meeko, text = _ligand(whole)
    engine = _prepared(receptor, box, seed, text)
    engine.dock(exhaustiveness=exhaustiveness, n_poses=k)
    energies = engine.energies(n_poses=k)
    found = meeko.PDBQTMolecule(engine.poses(n_poses=k), skip_typing=True)
    made = meeko.RDKitMolCreate.from_pdbqt_mol(found)[0]
    if made is None:
        raise SuffuseError("Vina's poses cannot be read back as molecules")
    poses = []
    for conformer, row in zip(made.GetConformers(), energies, strict=True):
        own = Chem.AddHs(Chem.Mol(made, confId=conformer.GetId()), addCoords=True)
        poses.append(Pose(own, float(row[0]), float(row[1] + row[2])))
    return poses


def score_with_vina(pose: Chem.Mol, receptor: Receptor, box: Box) -> dict[str, float]:
    """Vina's own judgement of an unmoved pose: "between" and "affinity", in kcal/mol."""
    _, text = _ligand(pose)
    engine = _prepared(receptor, box, 0, text)
    total = engine.score()
    return {"affinity": float(total[0]), "between": float(total[1])}
