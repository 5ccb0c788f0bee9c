r"""A scoring function of contacts between atoms: the terms of AutoDock Vina, written anew.

For two atoms at the distance r, with radii R_i and R_j, the surface distance is d = r − R_i − R_j
and their energy, in kcal/mol, for r under 8 Å

    −0.035579 e^{−(d / 0.5)²} − 0.005156 e^{−((d − 3) / 2)²} + 0.840245 min(d, 0)²
    −0.035069 h(d)   where both are hydrophobic: 1 up to 0.5 Å, 0 from 1.5 Å, straight between
    −0.587439 b(d)   between donor and acceptor: 1 up to −0.7 Å, 0 from 0 Å, straight between

The energy of a pose is the sum over pairs of ligand and receptor, and over pairs within the ligand
that a torsion moves against each other; the affinity is the first sum over 1 + 0.05846 N for N
rotatable bonds.

Source: Trott, Olson, "AutoDock Vina: improving the speed and accuracy of docking" (2010), doi
10.1002/jcc.21334, table 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["CUTOFF", "RADII", "ROTOR", "Kinds", "affinity", "contact"]

CUTOFF = 8.0
"""Å, beyond which atoms do not meet."""

ROTOR = 0.05846
"""What a rotatable bond costs of the affinity."""

RADII = {
    "C": 1.9, "N": 1.8, "O": 1.7, "S": 2.0, "P": 2.1, "F": 1.5, "Cl": 1.8, "Br": 2.0, "I": 2.2,
    "Si": 2.2, "B": 1.92, "Se": 2.1, "As": 2.1,
}  # fmt: skip
"""Å, by element; metals have 1.2."""


class Kinds(NamedTuple):
    """What counts of atoms: radius in Å, and whether hydrophobic, donor and acceptor; [N] each."""

    radius: Tensor
    hydrophobic: Tensor
    donor: Tensor
    acceptor: Tensor

    def of(self, index: Tensor) -> Kinds:
        """Those of some atoms."""
        return Kinds(*(part[index] for part in self))


@dataclass(frozen=True)
class Pairing:
    """What counts of pairs of atoms: the sum of their radii, and 1 for either kind of bonus."""

    radii: Tensor
    hydrophobic: Tensor
    hydrogen: Tensor

    @classmethod
    def of(cls, a: Kinds, b: Kinds) -> Pairing:
        """Of two lists that broadcast."""
        bond = (a.donor & b.acceptor) | (a.acceptor & b.donor)
        return cls(
            a.radius + b.radius, (a.hydrophobic & b.hydrophobic).to(a.radius), bond.to(a.radius)
        )


def contact(r: Tensor, pair: Pairing) -> tuple[Tensor, Tensor]:
    """The energy of pairs at the distances r, and its derivative in r; shapes broadcast."""
    d = r - pair.radii
    near, far = torch.exp(-((d / 0.5) ** 2)), torch.exp(-(((d - 3) / 2) ** 2))
    inside = d.clamp(max=0)
    water = (1.5 - d).clamp(0, 1)
    bond = (-d / 0.7).clamp(0, 1)
    energy = (
        -0.035579 * near
        - 0.005156 * far
        + 0.840245 * inside**2
        - 0.035069 * pair.hydrophobic * water
        - 0.587439 * pair.hydrogen * bond
    )
    slope = (
        0.035579 * 8 * d * near
        + 0.005156 * (d - 3) / 2 * far
        + 0.840245 * 2 * inside
        + 0.035069 * pair.hydrophobic * ((water > 0) & (water < 1))
        + 0.587439 / 0.7 * pair.hydrogen * ((bond > 0) & (bond < 1))
    )
    within = r < CUTOFF
    return torch.where(within, energy, 0.0), torch.where(within, slope, 0.0)


def affinity(between: Tensor, rotors: int) -> Tensor:
    """Kcal/mol, of the energies between ligand and receptor."""
    return between / (1 + ROTOR * rotors)
