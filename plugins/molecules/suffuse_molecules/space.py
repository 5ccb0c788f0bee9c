"""Molecules in space: graphs with the coordinates of their heavy atoms.

A state is that of `suffuse_molecules.graph`, and

    x      float32 [B, N, 3]     coordinates about the molecule's centre, in units of `scale` Å

with 0 for padding. Hydrogens are implicit in the graph and have no coordinates; files that are
written place them by the geometry of their neighbours (rdkit). Which of two mirror images a
molecule is follows from its coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from rdkit import Chem
from torch import Tensor

from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset

from .chemistry import quiet
from .graph import RAW, Graph

__all__ = ["Space", "centred", "in_space"]


def in_space(mol: Chem.Mol) -> bool:
    """Whether a molecule has coordinates in space: a conformer that is no drawing."""
    return bool(mol.GetNumConformers()) and mol.GetConformer().Is3D()


def centred(x: Tensor, there: Tensor | None) -> Tensor:
    """Coordinates [B, N, 3] about their mean over the atoms that are there, [B, N]; 0 elsewhere."""
    if there is None:
        return x - x.mean(1, keepdim=True)
    share = there[..., None].to(x.dtype)
    mean = (x * share).sum(1, keepdim=True) / share.sum(1, keepdim=True).clamp(min=1)
    return (x - mean) * share


class Space(Graph):
    """Encoder between rdkit molecules with conformers and dense graphs with coordinates.

    Args:
        types, capacity, sizes, atoms, bonds, decoding, largest_ring, aromatic: as of `Graph`.
        scale: the deviation of coordinates from the molecule's centre, along one axis, in Å;
            measured by `fit` where it is None.
    """

    def __init__(
        self,
        types: list[str] | None = None,
        capacity: list[int] | None = None,
        sizes: list[int] | None = None,
        atoms: list[float] | None = None,
        bonds: list[float] | None = None,
        decoding: Literal["safe", "raw"] = "safe",
        scale: float | None = None,
        largest_ring: int | None = None,
        aromatic: bool = False,
    ) -> None:
        super().__init__(types, capacity, sizes, atoms, bonds, decoding, largest_ring, aromatic)
        self.scale = scale

    @property
    def shape(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the parts of a state."""
        return {**super().shape, "x": (self.largest, 3)}

    def fit(self, dataset: Dataset) -> dict[str, Any]:
        """What `Graph.fit` measures, and the scale.

        Raises:
            SuffuseError: as of `Graph.fit`, and for molecules without coordinates.
        """
        found = super().fit(dataset)
        total = count = 0.0
        for i in range(len(dataset)):
            x = _coordinates(dataset[i].data)
            total += float(((x - x.mean(0)) ** 2).sum())
            count += x.size
        self.scale = float(np.sqrt(total / count)) or 1.0
        return {**found, "scale": self.scale}

    def mask(self, sizes: Tensor) -> dict[str, Tensor]:
        """As of `Graph`; that of the coordinates is [B, N]."""
        found = super().mask(sizes)
        return {**found, "x": found["atoms"]}

    def encode(self, objects: Sequence[Chem.Mol]) -> dict[str, Tensor]:
        """Graphs and coordinates of molecules, whose explicit hydrogens are left out.

        Raises:
            SuffuseError: for a molecule that is refused or has no coordinates in space.
        """
        graphs = super().encode(objects)
        assert self.scale is not None
        out = np.zeros((len(objects), self.largest, 3), dtype=np.float32)
        for row, mol in enumerate(objects):
            x = _coordinates(mol)
            out[row, : len(x)] = (x - x.mean(0)) / self.scale
        return {**graphs, "x": torch.from_numpy(out)}

    def decode(self, x: Mapping[str, Tensor], sizes: Tensor) -> list[Chem.Mol]:
        """Molecules with a conformer and the property `RAW`; see `Graph.decode`."""
        assert self.scale is not None
        logits = x.get("bond_logits")
        at = self.scale * x["x"].detach().double()
        out = []
        for row, size in enumerate(sizes.tolist()):
            sure = None if logits is None else logits[row, :size, :size].detach().double()
            mol, kept = self._molecule(
                x["atoms"][row, :size].tolist(), x["bonds"][row, :size, :size].numpy(), sure
            )
            conformer = Chem.Conformer(len(kept))
            conformer.Set3D(True)
            conformer.SetPositions(at[row].numpy()[kept])
            mol.AddConformer(conformer)
            if mol.GetProp(RAW) == "valid" or self.decoding == "safe":
                with quiet():
                    Chem.AssignStereochemistryFrom3D(mol)
            out.append(mol)
        return out


def _coordinates(mol: Chem.Mol) -> Any:
    """Those of the heavy atoms in Å, float64 [n, 3], in the order of the graph's atoms."""
    if not in_space(mol):
        raise SuffuseError(
            f"{Chem.MolToSmiles(mol)!r} has no coordinates in space; give an .sdf of shapes, for "
            "instance by `suffuse molecules conformers in.smi -k 1 -o shapes.sdf`"
        )
    heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    return mol.GetConformer().GetPositions()[heavy]
