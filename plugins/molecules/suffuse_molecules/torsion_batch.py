"""Molecules as what the model of torsions reads: graphs, places, and what each torsion moves.

The molecules of a batch lie one after the other, without padding: atoms, torsions and pairs are
numbered through, and every index says of which kind it is (`_KINDS`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from rdkit import Chem
from torch import Tensor

from .flexible import rotors

__all__ = ["BETWEEN", "ELEMENTS", "FARTHEST", "FEATURES", "KINDS", "Batch", "batch_of", "turn"]

ELEMENTS = ("C", "N", "O", "S", "P", "F", "Cl", "Br", "I", "B", "Si")
_HYBRIDS = (Chem.HybridizationType.SP, Chem.HybridizationType.SP2, Chem.HybridizationType.SP3)
_RINGS = (3, 4, 5, 6, 7)
FEATURES = len(ELEMENTS) + len(_HYBRIDS) + 5 + len(_RINGS)
"""Of an atom."""
KINDS = 8
"""Of bonds: single, double, triple, aromatic, conjugated single, and the first three in rings."""
FARTHEST = 12
"""Bonds between two atoms; those that are further apart count as this far."""
BETWEEN = 5
"""Torsions between two atoms; more count as so many."""


class Batch(NamedTuple):
    """Molecules without hydrogens: A atoms, T torsions, P pairs of atoms that torsions move.

    Pairs are at least four bonds apart. Each torsion meets some of them, one atom on its fixed side
    and one on its moving side; those three bonds apart are its quadruples instead.

    Attributes:
        atoms: features of atoms, [A, FEATURES]. owner: the molecule of each atom, [A].
        near: the atoms of each bond from both ends, [E, 2]. kinds: of these bonds, [E].
        bonds: the fixed and the moving atom of each torsion, [T, 2]. of: its molecule, [T].
        rank: its place among the torsions of its molecule, [T].
        moved, by: atoms and the torsions that turn them, [S] each.
        quadruples: atoms bonded in a row across a torsion, [Q, 4]. about: that torsion, [Q].
        pairs: [P, 2]. apart: bonds between, [P]. between: torsions between, [P].
        fixed, moving, turned, pair: for each torsion and pair that it meets the atoms on its fixed
            and its moving side, the torsion and the pair, [X] each.
        x: places of the atoms in Å, [A, 3].
    """

    atoms: Tensor
    owner: Tensor
    near: Tensor
    kinds: Tensor
    bonds: Tensor
    of: Tensor
    rank: Tensor
    moved: Tensor
    by: Tensor
    quadruples: Tensor
    about: Tensor
    pairs: Tensor
    apart: Tensor
    between: Tensor
    fixed: Tensor
    moving: Tensor
    turned: Tensor
    pair: Tensor
    x: Tensor

    @property
    def molecules(self) -> int:
        """How many."""
        return int(self.owner[-1]) + 1

    @classmethod
    def together(cls, batches: Sequence[Batch]) -> Batch:
        """Several batches as one, in their order."""
        counts = {
            "atoms": [len(b.x) for b in batches],
            "torsions": [len(b.bonds) for b in batches],
            "pairs": [len(b.pairs) for b in batches],
            "molecules": [b.molecules for b in batches],
        }
        first = {kind: np.cumsum([0, *many]).tolist() for kind, many in counts.items()}
        out = []
        for name, parts in zip(cls._fields, zip(*batches, strict=True), strict=True):
            if kind := _KINDS.get(name):
                parts = tuple(p + k for p, k in zip(parts, first[kind], strict=False))
            out.append(torch.cat(parts))
        return cls(*out)


_KINDS = {
    **dict.fromkeys(("owner", "of"), "molecules"),
    **dict.fromkeys(("near", "bonds", "moved", "quadruples", "pairs", "fixed", "moving"), "atoms"),
    **dict.fromkeys(("by", "about", "turned"), "torsions"),
    "pair": "pairs",
}
"""What the numbers in a field count."""


def batch_of(mol: Chem.Mol) -> Batch:
    """A molecule without hydrogens, with a conformer, as a batch of one."""
    n = mol.GetNumAtoms()
    bonds, sides = rotors(mol)
    moves = np.zeros((len(bonds), n), dtype=bool)
    for k, side in enumerate(sides):
        moves[k, list(side)] = True
    steps = Chem.GetDistanceMatrix(mol).astype(np.int64)
    between = sum(row[:, None] != row for row in moves) + np.zeros((n, n), np.int64)
    i, j = np.nonzero(np.triu((steps >= 4) & (between > 0), 1))
    meets: list[np.ndarray] = []
    for k, (b, c) in enumerate(bonds):
        apart = (moves[k, i] != moves[k, j]) & ~np.isin(i, (b, c)) & ~np.isin(j, (b, c))
        pair = np.nonzero(apart)[0]
        swapped = moves[k, i[pair]]
        ends = np.where(swapped, j[pair], i[pair]), np.where(swapped, i[pair], j[pair])
        meets.append(np.stack([*ends, np.full_like(pair, k), pair]))
    fixed, moving, turned, pair = np.concatenate([np.zeros((4, 0), np.int64), *meets], 1)
    rows = [(k, *row) for k, bond in enumerate(bonds) for row in _quadruples(mol, *bond)]
    by, moved = np.nonzero(moves)
    near, kinds = _bonds(mol)
    x = torch.tensor(mol.GetConformer().GetPositions(), dtype=torch.float32)
    whole = _whole(rows, 5)
    return Batch(
        atoms=torch.tensor([_features(atom) for atom in mol.GetAtoms()]),
        owner=torch.zeros(n, dtype=torch.int64),
        near=_whole(near, 2),
        kinds=torch.tensor(kinds, dtype=torch.int64),
        bonds=_whole(bonds, 2),
        of=torch.zeros(len(bonds), dtype=torch.int64),
        rank=torch.arange(len(bonds)),
        moved=torch.from_numpy(moved),
        by=torch.from_numpy(by),
        quadruples=whole[:, 1:],
        about=whole[:, 0],
        pairs=torch.from_numpy(np.stack([i, j], 1)),
        apart=torch.from_numpy(steps[i, j]).clamp(max=FARTHEST),
        between=torch.from_numpy(between[i, j]).clamp(max=BETWEEN),
        fixed=torch.from_numpy(fixed),
        moving=torch.from_numpy(moving),
        turned=torch.from_numpy(turned),
        pair=torch.from_numpy(pair),
        x=x - x.mean(0),
    )


def _whole(rows: Sequence[Sequence[int]], width: int) -> Tensor:
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, width)


def _bonds(mol: Chem.Mol) -> tuple[list[tuple[int, int]], list[int]]:
    near, kinds = [], []
    for bond in mol.GetBonds():
        kind = 3 if bond.GetIsAromatic() else int(bond.GetBondTypeAsDouble()) - 1
        if kind != 3 and bond.IsInRing():
            kind += 5
        elif kind == 0 and bond.GetIsConjugated():
            kind = 4
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        near += [(i, j), (j, i)]
        kinds += [kind, kind]
    return near, kinds


def _quadruples(mol: Chem.Mol, b: int, c: int) -> list[tuple[int, int, int, int]]:
    """The atoms in a row across the bond from b to c."""
    left, right = (
        [n.GetIdx() for n in mol.GetAtomWithIdx(at).GetNeighbors() if n.GetIdx() != other]
        for at, other in ((b, c), (c, b))
    )
    return [(i, b, c, j) for i in left for j in right]


def _features(atom: Chem.Atom) -> list[float]:
    rings, place = atom.GetOwningMol().GetRingInfo(), atom.GetIdx()
    symbol = [float(atom.GetSymbol() == s) for s in ELEMENTS]
    hybrid = [float(atom.GetHybridization() == h) for h in _HYBRIDS]
    more = (
        atom.GetFormalCharge(),
        atom.GetTotalNumHs() / 3,
        atom.GetDegree() / 4,
        atom.IsInRing(),
        atom.GetIsAromatic(),
    )
    sizes = [float(rings.IsAtomInRingOfSize(place, size)) for size in _RINGS]
    return [*symbol, *hybrid, *map(float, more), *sizes]


def turn(batch: Batch, x: Tensor, angles: Tensor) -> Tensor:
    """Places [A, 3] with every torsion turned by its angle, [T] in radians."""
    rank = batch.rank[batch.by]
    for k in range(int(batch.rank.max()) + 1 if len(batch.rank) else 0):
        chosen = rank == k
        at, by = batch.moved[chosen], batch.by[chosen]
        origin = x[batch.bonds[by, 1]]
        axis = direction(origin - x[batch.bonds[by, 0]])
        arm = x[at] - origin
        along = (axis * arm).sum(-1, keepdim=True) * axis
        cos, sin = angles[by].cos()[:, None], angles[by].sin()[:, None]
        turned = along + cos * (arm - along) + sin * torch.linalg.cross(axis, arm)
        x = x.index_copy(0, at, turned + origin)
    return x


def direction(way: Tensor) -> Tensor:
    """Unit vectors along vectors [..., 3]."""
    return way / way.norm(dim=-1, keepdim=True).clamp(min=1e-6)
