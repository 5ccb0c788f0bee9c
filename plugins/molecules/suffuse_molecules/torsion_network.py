r"""The score of torsion angles, from learned forces between atoms.

A network of the molecule's graph gives each atom a vector; a function of the vectors of two atoms,
their distance, how many bonds they are apart and the noise level gives the strength f_ij of a force
along the line that joins them. What the forces do along a torsion is its score:

    s_τ = u · Σ_{m in the moving side} (x_m − o) × F_m,     F_i = Σ_j f_ij (x_i − x_j) / r_ij.

Distances do not change when the molecule is moved or mirrored, and the triple product changes its
sign with the mirror: so the score is invariant to moves and odd under reflection, as it has to be,
with nothing but matrix products.

Source: for the symmetries, Jing et al., "Torsional diffusion" (2022), arXiv 2206.01729, section
3.4; their network is another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from rdkit import Chem
from torch import Tensor, nn
from torch.nn.functional import silu

from .flexible import flexible
from .so3 import rotation_of

__all__ = ["Batch", "TorsionNetwork", "batch_of", "turn"]

ELEMENTS = ("C", "N", "O", "S", "P", "F", "Cl", "Br", "I", "B", "Si")
_HYBRIDS = (Chem.HybridizationType.SP, Chem.HybridizationType.SP2, Chem.HybridizationType.SP3)
_FARTHEST = 8
_SCALE = 0.1
"""Many atoms on long arms add up to a score of about one."""
_CENTRES = [*np.arange(2.0, 5.0, 0.2).tolist(), *np.arange(5.0, 15.1, 0.8).tolist()]


class Batch(NamedTuple):
    """Molecules without hydrogens, padded to N atoms and T torsions.

    Attributes:
        atoms: features of atoms, [B, N, F]. bonds: by kind (single, double, triple, aromatic),
            [B, 4, N, N]. apart: bonds between atoms, at most 8, int64 [B, N, N].
        there: real atoms, [B, N].
        torsions: [B, T, 2] int64. moving: [B, T, N]. turning: real torsions, [B, T].
        x: coordinates in Å, [B, N, 3].
    """

    atoms: Tensor
    bonds: Tensor
    apart: Tensor
    there: Tensor
    torsions: Tensor
    moving: Tensor
    turning: Tensor
    x: Tensor

    def of(self, index: Tensor) -> Batch:
        """Some of the molecules."""
        return Batch(*(part[index] for part in self))


def batch_of(mols: Sequence[Chem.Mol], n: int | None = None, t: int | None = None) -> Batch:
    """Molecules without hydrogens, each with a conformer, as a batch."""
    chains = [flexible(mol) for mol in mols]
    n = n or max(mol.GetNumAtoms() for mol in mols)
    t = max(t or 1, *(chain.rotors for chain in chains))
    b = len(mols)
    out = Batch(
        torch.zeros(b, n, len(ELEMENTS) + len(_HYBRIDS) + 5),
        torch.zeros(b, 4, n, n),
        torch.full((b, n, n), _FARTHEST),
        torch.zeros(b, n, dtype=torch.bool),
        torch.zeros(b, t, 2, dtype=torch.int64),
        torch.zeros(b, t, n),
        torch.zeros(b, t, dtype=torch.bool),
        torch.zeros(b, n, 3),
    )
    out.torsions[..., 1] = 1
    for row, (mol, chain) in enumerate(zip(mols, chains, strict=True)):
        k, r = mol.GetNumAtoms(), chain.rotors
        out.atoms[row, :k] = torch.tensor([_features(atom) for atom in mol.GetAtoms()])
        for bond in mol.GetBonds():
            i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
            kind = 3 if bond.GetIsAromatic() else int(bond.GetBondTypeAsDouble()) - 1
            out.bonds[row, kind, i, j] = out.bonds[row, kind, j, i] = 1
        steps = torch.from_numpy(Chem.GetDistanceMatrix(mol)).clamp(max=_FARTHEST)
        out.apart[row, :k, :k] = steps.long()
        out.there[row, :k] = True
        out.torsions[row, :r] = chain.bonds
        out.moving[row, :r, :k] = chain.moving
        out.turning[row, :r] = True
        x = torch.tensor(mol.GetConformer().GetPositions(), dtype=torch.float32)
        out.x[row, :k] = x - x.mean(0)
    return out


def _features(atom: Chem.Atom) -> list[float]:
    symbol = [float(atom.GetSymbol() == s) for s in ELEMENTS]
    hybrid = [float(atom.GetHybridization() == h) for h in _HYBRIDS]
    more = (
        atom.GetFormalCharge(),
        atom.GetTotalNumHs() / 3,
        atom.GetDegree() / 4,
        atom.IsInRing(),
        atom.GetIsAromatic(),
    )
    return [*symbol, *hybrid, *map(float, more)]


def turn(batch: Batch, x: Tensor, angles: Tensor) -> Tensor:
    """Coordinates [B, N, 3] with every torsion turned by its angle, [B, T] in radians."""
    rows = torch.arange(len(x))
    for k in range(angles.shape[1]):
        origin = x[rows, batch.torsions[:, k, 1]][:, None]
        axis = origin[:, 0] - x[rows, batch.torsions[:, k, 0]]
        axis = axis / axis.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        angle = torch.where(batch.turning[:, k], angles[:, k], 0.0)
        turned = (x - origin) @ rotation_of(axis * angle[:, None]).transpose(-1, -2) + origin
        x = torch.where(batch.moving[:, k, :, None] > 0, turned, x)
    return x


class TorsionNetwork(nn.Module):
    """The score of torsions in units of its deviation.

    Args:
        width: features of an atom and of a pair.
        depth: rounds of messages along bonds.
    """

    def __init__(self, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.config = {"width": width, "depth": depth}
        self.atom = nn.Linear(len(ELEMENTS) + len(_HYBRIDS) + 5, width)
        self.messages = nn.ModuleList(nn.Linear(width, 4 * width) for _ in range(depth))
        self.mixes = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.one = nn.Linear(width, width)
        self.both = nn.Linear(width, width, bias=False)
        self.distance = nn.Linear(len(_CENTRES) + 1, width, bias=False)
        self.apart = nn.Embedding(_FARTHEST + 1, width)
        self.level = nn.Sequential(nn.Linear(8, width), nn.SiLU(), nn.Linear(width, 2 * width))
        self.inner = nn.Linear(width, width)
        self.out = nn.Linear(width, 1)
        self.centres: Tensor
        self.register_buffer("centres", torch.tensor(_CENTRES), persistent=False)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def embed(self, batch: Batch) -> Tensor:
        """Vectors of the atoms, [B, N, width]; they depend on the graph alone."""
        h = self.atom(batch.atoms)
        for message, mix, norm in zip(self.messages, self.mixes, self.norms, strict=True):
            sent = message(norm(h)).unflatten(-1, (4, -1)).transpose(1, 2)
            got = (batch.bonds @ sent).sum(1)
            h = h + mix(torch.cat([silu(got), h], -1))
        return h

    def forward(self, batch: Batch, x: Tensor, sigma: Tensor, h: Tensor | None = None) -> Tensor:
        """[B, T], for coordinates x [B, N, 3] at the noise levels σ [B] in radians."""
        h = self.embed(batch) if h is None else h
        first, second = torch.triu_indices(x.shape[1], x.shape[1], 1)
        real = batch.there[:, first] & batch.there[:, second]
        steps = batch.apart[:, first, second]
        way = x[:, first] - x[:, second]
        r = way.norm(dim=-1).clamp(min=0.1)
        near = torch.exp(-((r[..., None] - self.centres) ** 2) / (2 * 0.25**2))
        far = torch.exp(-((r[..., None] - self.centres) ** 2) / (2 * 0.8**2))
        basis = torch.where(self.centres < 5, near, far)
        basis = torch.cat([basis, 1 / r[..., None]], -1)
        level = torch.log(sigma)[:, None] * torch.tensor([0.25, 0.5, 1.0, 2.0])
        shift, scale = self.level(torch.cat([level.sin(), level.cos()], -1))[:, None].chunk(2, -1)
        one, both = self.one(h), self.both(h)
        pair = one[:, first] + one[:, second] + both[:, first] * both[:, second]
        pair = pair + self.distance(basis) + self.apart(steps)
        pair = silu(pair * (1 + scale) + shift)
        strength = self.out(silu(self.inner(pair)))[..., 0]
        # what is one or two bonds apart does not move against each other
        strength = torch.where(real & (steps > 2), strength, 0.0)
        pull = strength[..., None] * way / r[..., None]
        force = torch.zeros_like(x).index_add(1, first, pull).index_add(1, second, -pull)
        return self._along(batch, x, force)

    @staticmethod
    def _along(batch: Batch, x: Tensor, force: Tensor) -> Tensor:
        rows = torch.arange(len(x))[:, None]
        origin = x[rows, batch.torsions[..., 1]]
        axis = origin - x[rows, batch.torsions[..., 0]]
        axis = axis / axis.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        about = batch.moving @ torch.linalg.cross(x, force)
        moved = batch.moving @ force
        found = (axis * (about - torch.linalg.cross(origin, moved))).sum(-1)
        return torch.where(batch.turning, _SCALE * found, 0.0)
