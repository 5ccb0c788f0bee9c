"""The energy of a pose in a pocket: the receptor's part from maps, the ligand's from its pairs.

For each kind of ligand atom the sum of its contacts with the receptor is computed once, on a grid
in the box, and read by trilinear interpolation, which also gives the force. Out of the box an atom
pays for every Å.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from .flexible import Flexible
from .receptor import Box, Receptor
from .scoring import CUTOFF, Kinds, Pairing, contact

__all__ = ["Energy", "Exact", "Mapped"]

_SPACING = 0.4
_BLOCK = 10
_BIN = 0.01  # Å, of distances in the tables that maps are filled from
_OUTSIDE = 5.0  # kcal/mol for each Å out of the box
_SHORTEST = 0.05  # Å


class Energy(NamedTuple):
    """Kcal/mol of each pose, with the receptor and within the ligand, [B]; forces [B, N, 3]."""

    between: Tensor
    within: Tensor
    force: Tensor

    @property
    def total(self) -> Tensor:
        """The sum, [B]."""
        return self.between + self.within


def _within(ligand: Flexible, at: Tensor) -> tuple[Tensor, Tensor]:
    """The energy of the ligand's own pairs, [B], and the forces on its heavy atoms [B, H, 3]."""
    force = torch.zeros_like(at)
    if not len(ligand.pairs):
        return at.new_zeros(len(at)), force
    i, j = ligand.pairs.T
    way = at[:, i] - at[:, j]
    r = way.norm(dim=-1).clamp(min=_SHORTEST)
    energy, slope = contact(r, ligand.pairing)
    pull = -(slope / r)[..., None] * way
    force.index_add_(1, i, pull)
    force.index_add_(1, j, -pull)
    return energy.sum(1), force


def _whole(ligand: Flexible, x: Tensor, force: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    out[:, ligand.heavy] = force
    return out


@dataclass(frozen=True)
class Exact:
    """The energy by all pairs, without maps: slower, and to the letter.

    Attributes:
        ligand: whose poses are judged.
        x, kinds: of the receptor's atoms near the box.
    """

    ligand: Flexible
    x: Tensor
    kinds: Kinds

    @classmethod
    def of(cls, ligand: Flexible, receptor: Receptor, box: Box) -> Exact:
        """Of a receptor's atoms that a ligand in the box may meet."""
        near = receptor.near(box, CUTOFF + 2)
        return cls(ligand, receptor.x[near], receptor.kinds.of(near))

    @cached_property
    def _pairing(self) -> Pairing:
        own = Kinds(*(part[:, None] for part in self.ligand.kinds))
        return Pairing.of(own, Kinds(*(part[None] for part in self.kinds)))

    def __call__(self, x: Tensor) -> Energy:
        """Of poses [B, N, 3]."""
        at = x[:, self.ligand.heavy]
        within, force = _within(self.ligand, at)
        between = at.new_empty(len(at))
        for k, pose in enumerate(at):
            way = pose[:, None] - self.x
            r = way.norm(dim=-1).clamp(min=_SHORTEST)
            energy, slope = contact(r, self._pairing)
            between[k] = energy.sum()
            force[k] -= torch.einsum("hm,hmk->hk", slope / r, way)
        return Energy(between, within, _whole(self.ligand, x, force))


class Mapped:
    """The energy by maps.

    Args:
        ligand: whose poses are judged.
        receptor: what it meets.
        box: where.
    """

    def __init__(self, ligand: Flexible, receptor: Receptor, box: Box) -> None:
        self.ligand, self.box = ligand, box
        self.low = box.centre - box.size / 2
        self.high = box.centre + box.size / 2
        self.points = [int(k) for k in (box.size / _SPACING).ceil() + 1]
        kinds = torch.stack([part.to(torch.float32) for part in ligand.kinds], 1)
        own, self.channel = torch.unique(kinds, dim=0, return_inverse=True)
        near = receptor.near(box, CUTOFF)
        maps = self._filled(own, receptor.x[near], receptor.kinds.of(near))
        # the eight corners of each cell side by side, so that a look-up is one row
        cells = maps.unfold(1, 2, 1).unfold(2, 2, 1).unfold(3, 2, 1)
        self.cells = cells.reshape(-1, 8).contiguous()

    def _filled(self, own: Tensor, x: Tensor, kinds: Kinds) -> Tensor:
        """The maps [C, *points] of the kinds of ligand atoms `own` [C, 4].

        A contact depends on the distance and the kinds alone, so it is looked up in a table.
        """
        rows = torch.stack([part.to(torch.float32) for part in kinds], 1)
        classes, of = torch.unique(rows, dim=0, return_inverse=True)
        table = _table(own, classes)
        bins = len(table) // max(len(classes), 1)
        maps = torch.zeros(len(own), *self.points)
        lines = [
            self.low[k] + _SPACING * torch.arange(n, dtype=torch.float32)
            for k, n in enumerate(self.points)
        ]
        starts = [range(0, n, _BLOCK) for n in self.points]
        for a, b, c in product(*starts):
            part = [line[k : k + _BLOCK] for line, k in zip(lines, (a, b, c), strict=True)]
            grid = torch.cartesian_prod(*part)
            middle = (grid[0] + grid[-1]) / 2
            reach = CUTOFF + float((grid[0] - middle).norm())
            seen = ((x - middle).norm(dim=1) < reach).nonzero()[:, 0]
            if not len(seen):
                continue
            r = torch.cdist(grid, x[seen], compute_mode="donot_use_mm_for_euclid_dist")
            place = (r * (1 / _BIN)).to(torch.int32).clamp_(max=bins - 1)
            place += (bins * of[seen]).to(torch.int32)
            values = torch.nn.functional.embedding_bag(place, table, mode="sum")
            shape = [len(p) for p in part]
            maps[:, a : a + shape[0], b : b + shape[1], c : c + shape[2]] = values.T.reshape(
                -1, *shape
            )
        return maps

    def __call__(self, x: Tensor) -> Energy:
        """Of poses [B, N, 3]."""
        at = x[:, self.ligand.heavy]
        within, force = _within(self.ligand, at)
        inside = torch.minimum(torch.maximum(at, self.low), self.high)
        out = at - inside
        place = (inside - self.low) / _SPACING
        most = torch.tensor([n - 2 for n in self.points])
        cell = torch.minimum(place.floor().long(), most)
        f = place - cell
        n = [k - 1 for k in self.points]
        row = ((self.channel * n[0] + cell[..., 0]) * n[1] + cell[..., 1]) * n[2] + cell[..., 2]
        v = self.cells[row].unflatten(-1, (2, 2, 2))
        fx, fy, fz = f[..., None, None, 0], f[..., None, 1], f[..., 2]
        dx = v[..., 1, :, :] - v[..., 0, :, :]
        v = v[..., 0, :, :] + fx * dx
        dx = dx[..., 0, :] + fy * (dx[..., 1, :] - dx[..., 0, :])
        dy = v[..., 1, :] - v[..., 0, :]
        v = v[..., 0, :] + fy * dy
        dx, dy = (d[..., 0] + fz * (d[..., 1] - d[..., 0]) for d in (dx, dy))
        dz = v[..., 1] - v[..., 0]
        energy = v[..., 0] + fz * dz
        slope = torch.stack([dx, dy, dz], -1) / _SPACING
        slope = torch.where(out == 0, slope, 0.0)
        away = out.norm(dim=-1)
        force -= slope + _OUTSIDE * out / away.clamp(min=1e-6)[..., None]
        between = (energy + _OUTSIDE * away).sum(1)
        return Energy(between, within, _whole(self.ligand, x, force))


def _table(own: Tensor, classes: Tensor) -> Tensor:
    """The energies of kinds of ligand atoms [C, 4] with classes of receptor atoms [M, 4] by bins
    of the distance, [M * bins, C]; the last bin is beyond the cutoff."""
    r = _BIN * (torch.arange(round(CUTOFF / _BIN) + 1, dtype=torch.float32) + 0.5)

    def kinds(rows: Tensor) -> Kinds:
        return Kinds(rows[..., 0], *(rows[..., k].bool() for k in (1, 2, 3)))

    pairing = Pairing.of(kinds(own), kinds(classes[:, None, None]))
    return contact(r[:, None], pairing)[0].reshape(-1, len(own))
