r"""How likely each torsion is to be turned by each angle, given the others: a learned potential.

Of a torsion about the bond b-c the network says, for turns τ on a grid, a function f(τ) that does
not depend on how far the torsion is turned now but by way of its surroundings:

    f(τ) = Σ_{i-b-c-j} Σ_l k_l cos(l (φ_ij + τ)) + Σ_{n fixed, m moving} w(r_nm(τ)).

The first sum is over the atoms in a row across the bond, with their present dihedral angles φ_ij;
the second over pairs at least four bonds apart, whose distance when the torsion is turned by τ is

    r_nm(τ)² = A − 2 (a_n · a_m) cos τ − 2 u · (a_m × a_n) sin τ,

with the bond's direction u and the parts a of both atoms' places that are perpendicular to it; A
does not depend on τ. So all turns are looked at without turning anything. The amplitudes k_l and
the tables w, piecewise linear in the distance, depend on the atoms' vectors, which come of the
graph and then of the distances of the noisy shape, on the noise level, and on how many bonds and
torsions lie between the two atoms.

Distances and cosines of dihedral angles do not change when a molecule is moved, and a mirror
exchanges τ and −τ in both sums: so f is invariant to moves, f of a mirrored molecule at −τ is f,
and the score that follows from it is odd under reflection, by construction.

Source: for the symmetries, Jing et al., "Torsional diffusion" (2022), arXiv 2206.01729, section
3.4; their network is another one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from suffuse.nn.blocks import zeroed

from .torsion_batch import BETWEEN, FARTHEST, FEATURES, KINDS, Batch, direction

__all__ = ["TorsionNetwork"]

_REACH = 9.0
"""Å; pairs that are further apart do not count."""
_SHORTEST = 1.6
"""Å, the first entry of a table of distances; shorter ones count as this."""


class TorsionNetwork(nn.Module):
    """The potential of torsions, in nats.

    Args:
        width: features of an atom and of a pair.
        depth: rounds of messages along bonds.
        rounds: of messages between atoms near to each other in space.
        waves: the highest l of the cosines.
        entries: of a table of distances.
    """

    def __init__(
        self, width: int = 64, depth: int = 5, rounds: int = 1, waves: int = 8, entries: int = 24
    ) -> None:
        super().__init__()
        self.config = {
            "width": width,
            "depth": depth,
            "rounds": rounds,
            "waves": waves,
            "entries": entries,
        }
        self.width, self.waves, self.entries = width, waves, entries
        self.atom = nn.Linear(FEATURES, width)
        self.along = nn.ModuleList(_Along(width) for _ in range(depth))
        self.across = nn.ModuleList(_Across(width) for _ in range(rounds))
        self.norm = nn.LayerNorm(width)
        self.level = nn.Sequential(
            nn.Linear(9, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.end, self.ends = nn.Linear(2 * width, width), _Both(width)
        self.wave = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.amplitudes = zeroed(nn.Linear(width, waves))
        self.pair, self.steps = _Both(width), _Steps(width)
        self.torsions = nn.Embedding(BETWEEN + 1, width)
        self.entry = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.table = zeroed(nn.Linear(width, entries))

    def embed(self, batch: Batch) -> Tensor:
        """Vectors of the atoms, [A, width]; they depend on the graph alone."""
        h = self.atom(batch.atoms)
        for layer in self.along:
            h = layer(h, batch)
        return h

    def forward(
        self, batch: Batch, x: Tensor, sigma: Tensor, turns: Tensor, h: Tensor | None = None
    ) -> Tensor:
        """f, [T, K].

        Args:
            batch: its own places are not looked at.
            x: places of the atoms in Å, [A, 3].
            sigma: the noise level of each molecule in radians, [B].
            turns: τ in radians, [T, K].
            h: what `embed` gave for the batch.
        """
        h = self.embed(batch) if h is None else h
        log = sigma.log()[:, None]
        phase = log * log.new_tensor([0.5, 1.0, 2.0, 3.0])
        level = self.level(torch.cat([phase.sin(), phase.cos(), log], -1))
        for layer in self.across:
            h = layer(h, batch, x, level)
        h = self.norm(h)
        found = self._cosines(batch, x, h, level, turns)
        return self._distances(batch, x, h, level, turns, found)

    def _cosines(self, batch: Batch, x: Tensor, h: Tensor, level: Tensor, turns: Tensor) -> Tensor:
        """The first sum, [T, K]."""
        i, b, c, j = batch.quadruples.T
        left, right = (self.end(torch.cat([h[n], h[at]], -1)) for n, at in ((i, b), (j, c)))
        k = self.amplitudes(self.wave(self.ends(left, right, level[batch.of[batch.about]])))
        order = torch.arange(1, self.waves + 1, device=x.device)
        phase = order * _dihedral(x[i], x[b], x[c], x[j])[:, None]
        waves = torch.cat([k * phase.cos(), -k * phase.sin()], -1)
        waves = waves.new_zeros(len(turns), 2 * self.waves).index_add(0, batch.about, waves)
        phase = order[:, None] * turns[:, None]
        return (waves[:, None] @ torch.cat([phase.cos(), phase.sin()], 1))[:, 0]

    def _distances(
        self, batch: Batch, x: Tensor, h: Tensor, level: Tensor, turns: Tensor, found: Tensor
    ) -> Tensor:
        """The second sum, added to what was found, [T, K]."""
        ends = batch.bonds[batch.turned]
        origin = x[ends[:, 1]]
        axis = direction(origin - x[ends[:, 0]])
        n, m = x[batch.fixed] - origin, x[batch.moving] - origin
        high_n, high_m = ((axis * v).sum(-1, keepdim=True) for v in (n, m))
        n, m = n - high_n * axis, m - high_m * axis
        square = (high_n - high_m)[:, 0] ** 2 + (n**2).sum(-1) + (m**2).sum(-1)
        cos, sin = 2 * (n * m).sum(-1), 2 * (axis * torch.linalg.cross(m, n)).sum(-1)
        # only what some turn brings within reach
        met = (square - torch.sqrt(cos**2 + sin**2) < _REACH**2).nonzero()[:, 0]
        pairs, place = torch.unique(batch.pair[met], return_inverse=True)
        i, j = batch.pairs[pairs].T
        more = self.steps(batch.apart[pairs]) + self.torsions(batch.between[pairs])
        table = self.table(self.entry(self.pair(h[i], h[j], level[batch.owner[i]], more)))
        table = torch.cat([table, table.new_zeros(len(table), 1)], -1)[place]  # 0 out of reach
        by = batch.turned[met]
        squares = square[met, None] - cos[met, None] * turns.cos()[by]
        r = (squares - sin[met, None] * turns.sin()[by]).clamp(min=1e-3).sqrt()
        at = (r - _SHORTEST) / (_REACH - _SHORTEST) * self.entries
        at = at.clamp(0, self.entries - 1e-3)
        low = at.floor()
        share, entry = at - low, low.long()
        read = table.gather(1, entry) * (1 - share) + table.gather(1, entry + 1) * share
        return found.index_add(0, by, read)


class _Both(nn.Module):
    """Two vectors and the noise level as one vector, the same from either side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one = nn.Linear(width, width)
        self.product = nn.Linear(width, width, bias=False)
        self.scale = nn.Linear(width, 2 * width)

    def forward(self, a: Tensor, b: Tensor, level: Tensor, more: Tensor | float = 0.0) -> Tensor:
        """[P, width] of vectors [P, width], levels [P, width] and what else is added."""
        scale, shift = self.scale(level).chunk(2, -1)
        both = self.one(a + b) + self.product(a) * self.product(b) + more
        return both * (1 + scale) + shift


class _Steps(nn.Embedding):
    """Of the number of bonds between two atoms."""

    def __init__(self, width: int) -> None:
        super().__init__(FARTHEST + 1, width)


class _Along(nn.Module):
    """Messages along bonds, by their kind."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.message = nn.Linear(width, KINDS * width)
        self.mix = nn.Linear(2 * width, width)

    def forward(self, h: Tensor, batch: Batch) -> Tensor:
        """Vectors of the atoms, [A, width]."""
        to, source = batch.near.T
        sent = self.message(self.norm(h)).unflatten(-1, (KINDS, -1))[source, batch.kinds]
        got = torch.zeros_like(h).index_add(0, to, sent)
        return h + self.mix(torch.cat([silu(got), h], -1))


class _Across(nn.Module):
    """Messages between atoms that are near to each other in the noisy shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.both, self.steps = _Both(width), _Steps(width)
        self.distance = nn.Linear(16, width, bias=False)
        self.out = nn.Linear(width, width)
        self.mix = zeroed(nn.Linear(2 * width, width))
        self.centres: Tensor
        self.register_buffer("centres", torch.linspace(2, _REACH, 16), persistent=False)

    def forward(self, h: Tensor, batch: Batch, x: Tensor, level: Tensor) -> Tensor:
        """Vectors of the atoms, [A, width]."""
        r = (x[batch.pairs[:, 0]] - x[batch.pairs[:, 1]]).norm(dim=-1)
        near = (r < _REACH).nonzero()[:, 0]
        i, j = batch.pairs[near].T
        basis = torch.exp(-((r[near, None] - self.centres) ** 2) / (2 * 0.45**2))
        more = self.distance(basis) + self.steps(batch.apart[near])
        seen = self.norm(h)
        sent = self.out(silu(self.both(seen[i], seen[j], level[batch.owner[i]], more)))
        got = torch.zeros_like(h).index_add(0, i, sent).index_add(0, j, sent)
        return h + self.mix(torch.cat([silu(got / 4), h], -1))


def _dihedral(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """The dihedral angle of four points [..., 3] in radians, positive to the right."""
    axis = direction(c - b)
    before, after = torch.linalg.cross(b - a, axis), torch.linalg.cross(axis, d - c)
    return torch.atan2((axis * torch.linalg.cross(before, after)).sum(-1), (before * after).sum(-1))
