r"""A ligand as a chain of rigid pieces: its torsions, how it moves, and what forces do to it.

A pose moves by a tangent vector of R³ × SO(3) × torus: a shift v, a turn w about its centre, and an
angle τ for each rotatable bond, about which the smaller side turns. Forces f on atoms at x pull
along these by Σ f, Σ (x − c) × f, and u · Σ_m (x − o) × f for a bond at o with the direction u
whose moving side is m; so no gradient is taken through the chain of rotations.

Coordinates are all there is of a pose, [B, N, 3] with hydrogens, so that bond lengths, angles and
rings stay those of the conformer that it began with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from rdkit import Chem
from torch import Tensor

from .scoring import RADII, Kinds, Pairing
from .so3 import rotation_of

__all__ = ["Flexible", "Motion", "flexible", "kinds_of", "rotatable", "rotors"]

_ROTATABLE = Chem.MolFromSmarts("[!$([#1])&!D1&!$(*#*)]-&!@[!$([#1])&!D1&!$(*#*)]")
_AMIDE = Chem.MolFromSmarts("[CX3](=[OX1,SX1,NX2])-!@[#7X3]")
_HALOGENS = {"F", "Cl", "Br", "I"}


@dataclass(frozen=True)
class Motion:
    """Tangent vectors: shift [B, 3] in Å, turn [B, 3] and torsions [B, T] in radians."""

    shift: Tensor
    turn: Tensor
    torsions: Tensor

    @classmethod
    def of(cls, flat: Tensor) -> Motion:
        """From one vector [B, 6 + T]."""
        return cls(flat[:, :3], flat[:, 3:6], flat[:, 6:])

    def flat(self) -> Tensor:
        """As one vector [B, 6 + T]."""
        return torch.cat([self.shift, self.turn, self.torsions], dim=1)


@dataclass(frozen=True)
class Flexible:
    """What a ligand is for docking and for torsional diffusion.

    Attributes:
        mol: with hydrogens.
        heavy: the atoms that count, int64 [H].
        kinds: of the heavy atoms.
        bonds: of each torsion the fixed and the moving atom, int64 [T, 2].
        moving: the atoms that it turns, [T, N], 1 and 0.
        pairs: heavy atoms (their places in `heavy`) that torsions move against each other and that
            are more than three bonds apart, int64 [P, 2].
        pairing: of these.
    """

    mol: Chem.Mol
    heavy: Tensor
    kinds: Kinds
    bonds: Tensor
    moving: Tensor
    pairs: Tensor
    pairing: Pairing

    @property
    def rotors(self) -> int:
        """T, the number of torsions."""
        return len(self.bonds)

    def centre(self, x: Tensor) -> Tensor:
        """The mean of the heavy atoms, [B, 1, 3]."""
        return x[:, self.heavy].mean(1, keepdim=True)

    def move(self, x: Tensor, motion: Motion) -> Tensor:
        """The poses x [B, N, 3] moved: first the torsions, one after the other, then the whole."""
        x = turned(x, self.bonds, self.moving, motion.torsions)
        centre = self.centre(x)
        turn = rotation_of(motion.turn)
        return (x - centre) @ turn.transpose(-1, -2) + centre + motion.shift[:, None]

    def pull(self, x: Tensor, force: Tensor) -> Motion:
        """What forces [B, N, 3] on the atoms do along the motions: minus the energy's gradient."""
        torque = torch.linalg.cross(x - self.centre(x), force)
        whole = torch.cat([force, torque], -1).sum(1)
        if not self.rotors:
            return Motion(whole[:, :3], whole[:, 3:], x.new_zeros(len(x), 0))
        origin, axis = axes(x, self.bonds)
        side = self.moving.to(x.dtype)
        about = torch.einsum("tn,bnk->btk", side, torch.linalg.cross(x, force))
        moved = torch.einsum("tn,bnk->btk", side, force)
        pulls = (axis * (about - torch.linalg.cross(origin, moved))).sum(-1)
        return Motion(whole[:, :3], whole[:, 3:], pulls)

    def inertia(self, x: Tensor) -> Tensor:
        """The mean square of how far the heavy atoms go per unit of each motion, [B, 6 + T].

        It makes steps in Å of atoms of steps in radians.
        """
        at = x[:, self.heavy]
        from_centre = at - at.mean(1, keepdim=True)
        square = from_centre**2
        turn = square.sum(-1, keepdim=True) - square
        parts = [torch.ones_like(turn[:, 0]), turn.mean(1)]
        if self.rotors:
            origin, axis = axes(x, self.bonds)
            arm = torch.linalg.cross(
                at[:, None] - origin[:, :, None], axis[:, :, None].expand(-1, -1, at.shape[1], -1)
            )
            side = self.moving[:, self.heavy]
            parts.append((arm.square().sum(-1) * side).mean(-1))
        return torch.cat(parts, 1).clamp(min=0.05)


def axes(x: Tensor, bonds: Tensor) -> tuple[Tensor, Tensor]:
    """A point on each rotatable bond and its direction, [B, T, 3] each."""
    origin = x[:, bonds[:, 1]]
    axis = origin - x[:, bonds[:, 0]]
    return origin, axis / axis.norm(dim=-1, keepdim=True).clamp(min=1e-9)


def turned(x: Tensor, bonds: Tensor, moving: Tensor, angles: Tensor) -> Tensor:
    """Poses [B, N, 3] with every rotatable bond turned by its angle [B, T]."""
    for k in range(len(bonds)):
        origin, axis = axes(x, bonds[k : k + 1])
        rotation = rotation_of(axis[:, 0] * angles[:, k, None])
        side = moving[k].bool()
        x = x.clone()
        x[:, side] = (x[:, side] - origin) @ rotation.transpose(-1, -2) + origin
    return x


def rotatable(mol: Chem.Mol) -> list[tuple[int, int]]:
    """The bonds that turn: single, in no ring, not at an end; amides and their like stay flat.

    >>> rotatable(Chem.MolFromSmiles("CCOC(=O)c1ccccc1"))
    [(1, 2), (2, 3), (3, 5)]
    """
    flat = {frozenset(match[::2]) for match in mol.GetSubstructMatches(_AMIDE)}
    found = []
    for a, b in mol.GetSubstructMatches(_ROTATABLE):
        # a group of hydrogens alone, as methyl, turns nothing that counts
        ends = [
            sum(n.GetAtomicNum() > 1 for n in mol.GetAtomWithIdx(i).GetNeighbors()) for i in (a, b)
        ]
        if min(ends) > 1 and frozenset((a, b)) not in flat:
            found.append((a, b))
    return found


def rotors(mol: Chem.Mol) -> tuple[list[tuple[int, int]], list[set[int]]]:
    """The bonds that turn, each from its fixed to its moving atom, and the atoms that it turns.

    The side with fewer heavy atoms turns.

    >>> rotors(Chem.MolFromSmiles("CCCCCC"))
    ([(2, 1), (2, 3), (3, 4)], [{0, 1}, {3, 4, 5}, {4, 5}])
    """
    bonds, sides = [], []
    for a, b in rotatable(mol):
        side = _side(mol, a, b)
        if sum(mol.GetAtomWithIdx(i).GetAtomicNum() > 1 for i in side) * 2 > _heavy(mol):
            a, b, side = b, a, set(range(mol.GetNumAtoms())) - side
        bonds.append((a, b))
        sides.append(side)
    return bonds, sides


def flexible(mol: Chem.Mol) -> Flexible:
    """A molecule with hydrogens as a flexible ligand."""
    n = mol.GetNumAtoms()
    bonds, parts = rotors(mol)
    sides = [[float(i in part) for i in range(n)] for part in parts]
    heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    moving = torch.tensor(sides).reshape(len(bonds), n)
    kinds = kinds_of(mol)
    pairs = _pairs(mol, heavy, moving)
    pairing = Pairing.of(kinds.of(pairs[:, 0]), kinds.of(pairs[:, 1]))
    return Flexible(
        mol,
        torch.tensor(heavy),
        kinds,
        torch.tensor(bonds, dtype=torch.int64).reshape(-1, 2),
        moving,
        pairs,
        pairing,
    )


def kinds_of(mol: Chem.Mol) -> Kinds:
    """What counts of a ligand's heavy atoms, by their bonds."""
    rows = []
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() == 1:
            continue
        symbol = atom.GetSymbol()
        near: list[Any] = list(atom.GetNeighbors())
        polar = any(other.GetAtomicNum() not in (1, 6) for other in near)
        hydrogens = atom.GetTotalNumHs(includeNeighbors=True)
        rows.append(
            (
                RADII.get(symbol, 1.2),
                (symbol == "C" and not polar) or symbol in _HALOGENS,
                (symbol in ("N", "O") and hydrogens > 0) or symbol not in RADII,
                symbol == "O" or (symbol == "N" and _lone_pair(atom)),
            )
        )
    radius, hydrophobic, donor, acceptor = zip(*rows, strict=True)
    flags = (torch.tensor(part, dtype=torch.bool) for part in (hydrophobic, donor, acceptor))
    return Kinds(torch.tensor(radius), *flags)


def _lone_pair(atom: Chem.Atom) -> bool:
    """Whether a nitrogen's lone pair is free: two neighbours, or three and a pyramid."""
    if atom.GetFormalCharge() > 0:
        return False
    if atom.GetTotalDegree() < 3:
        return True
    conjugated = any(bond.GetIsConjugated() for bond in atom.GetBonds())
    return not conjugated and not atom.GetIsAromatic()


def _heavy(mol: Chem.Mol) -> int:
    return sum(atom.GetAtomicNum() > 1 for atom in mol.GetAtoms())


def _side(mol: Chem.Mol, a: int, b: int) -> set[int]:
    """The atoms on b's side of the bond a, b; b is among them."""
    seen, todo = {a, b}, [b]
    while todo:
        for other in mol.GetAtomWithIdx(todo.pop()).GetNeighbors():
            if other.GetIdx() not in seen:
                seen.add(other.GetIdx())
                todo.append(other.GetIdx())
    return seen - {a}


def _pairs(mol: Chem.Mol, heavy: list[int], moving: Tensor) -> Tensor:
    distance = torch.from_numpy(Chem.GetDistanceMatrix(mol))[heavy][:, heavy]
    side = moving[:, heavy]
    apart = (side[:, :, None] != side[:, None, :]).any(0)
    return ((distance > 3) & apart).triu(1).nonzero()
