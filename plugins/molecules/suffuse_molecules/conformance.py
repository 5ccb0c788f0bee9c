"""What the conformance kit needs to know of this plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn
from unittest import SkipTest

from suffuse.testing import Conformance

_TINY = {"denoiser.width": 16, "denoiser.edge": 8, "denoiser.depth": 1, "denoiser.heads": 2}
_FEW = "of the few molecules that the kit shows, the test split has other elements"

_ENDS = ("O", "N", "F", "C=O", "C#N", "C(C)C", "C(=O)O")
_ANGLES = "the kit corrupts what an encoder makes, and the encoders here make graphs, no angles"


def _file(folder: Path) -> dict[str, Any]:
    """Small molecules of carbon, nitrogen, oxygen and fluorine, as a table."""
    path = folder / "molecules.csv"
    chains = ["C" * i + middle + "C" * j for middle in "CON" for i in range(1, 5) for j in range(4)]
    lines = [f"{chain}{end}" for chain in chains for end in _ENDS]
    path.write_text("smiles\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return {**_TINY, "dataset.path": str(path)}


def _shapes(folder: Path) -> dict[str, Any]:
    """The same kind of molecules with coordinates, as an SDF."""
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom

    blocks = []
    for middle in "CON":
        for i in range(1, 5):
            for end in ("O", "N", "C=O", "C#N"):
                mol = Chem.AddHs(Chem.MolFromSmiles("C" * i + middle + "C" + end))
                rdDistGeom.EmbedMolecule(mol, randomSeed=1)
                blocks.append(Chem.MolToMolBlock(Chem.RemoveHs(mol)) + "$$$$\n")
    path = folder / "shapes.sdf"
    path.write_text("".join(blocks), encoding="utf-8")
    return {**_TINY, "dataset.path": str(path)}


def _many(folder: Path) -> NoReturn:
    raise SkipTest("a Fréchet distance needs 600 molecules on either side, more than the kit shows")


CONFORMANCE = Conformance(
    settings={
        "recipe molecules/nci": _TINY,
        "recipe molecules/moses": _file,
        "recipe molecules/qm9": _file,
        "recipe molecules/smiles": _file,
        "recipe molecules/qm9-3d": _shapes,
        "dataset molecules/nci": {"dataset.largest": 8},
        "evaluator molecules/fcd": _many,
    },
    expected_failures={
        "dataset molecules/nci has_two_splits": _FEW,
        "evaluator molecules/distinct finds_real_data_at_the_floor": "what is made at random is as "
        "novel as molecules that were held out",
        **{
            f"process molecules/{space} {check}": _ANGLES
            for space in ("torus", "so3")
            for check in ("corrupts", "samples_by_seed")
        },
    },
)
