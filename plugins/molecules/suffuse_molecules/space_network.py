r"""An E(3)-equivariant graph transformer: atoms, bonds and coordinates at once.

It is the graph transformer of `suffuse_molecules.network`, whose edges also see how far apart their
atoms are, and whose blocks each end by moving the atoms along the lines that join them:

    x_i ← x_i + (1 + g_i) n^{−1/2} Σ_j f_ij (x_i − x_j) / (1 + r_ij),

with f_ij from the edge and g_i from the node. Distances do not change when the molecule is turned,
mirrored or shifted, and the moves turn and are mirrored with it: so the tokens' logits are
invariant and the answer for the coordinates is equivariant, by construction. The answer is how far
the atoms were moved in all, about its mean.

Source: Satorras, Hoogeboom, Welling, "E(n) equivariant graph neural networks" (2021),
arXiv 2102.09844, eq. 3 to 6, and their appendix C for the divisor.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from suffuse.errors import SuffuseError
from suffuse.nn.blocks import zeroed

from .network import GraphTransformer
from .space import Space, centred

__all__ = ["EquivariantTransformer"]

_CENTRES = torch.cat([torch.arange(0.0, 3.0, 0.15), torch.arange(3.0, 8.1, 0.5)])
"""Of the radial functions, in units of the noisy coordinates' deviation."""


class EquivariantTransformer(GraphTransformer):
    """The denoiser of molecules in space.

    Args:
        shape: of one state, {"atoms": (N,), "bonds": (N, N), "x": (N, 3)}.
        encoder: the fitted `Space`.
        width, edge, depth, heads, walks: as of `GraphTransformer`.
    """

    def __init__(
        self,
        shape: Mapping[str, tuple[int, ...]],
        encoder: Space,
        *,
        width: int = 128,
        edge: int = 64,
        depth: int = 6,
        heads: int = 8,
        walks: int = 8,
    ) -> None:
        if "x" not in shape:
            raise SuffuseError(
                "the denoiser 'molecules/equivariant' needs the encoder 'molecules/space'"
            )
        super().__init__(
            shape, encoder, width=width, edge=edge, depth=depth, heads=heads, walks=walks
        )
        self.near = nn.ModuleList(nn.Linear(len(_CENTRES) + 1, edge) for _ in range(depth))
        self.pull = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(edge), nn.Linear(edge, edge), nn.SiLU(), _last(edge))
            for _ in range(depth)
        )
        self.gate = nn.ModuleList(zeroed(nn.Linear(width, 1)) for _ in range(depth))
        self.centres: Tensor
        self.register_buffer("centres", _CENTRES.clone(), persistent=False)
        gaps = self.centres.diff()
        self.wide: Tensor
        self.register_buffer("wide", torch.cat([gaps[:1], gaps]), persistent=False)

    def forward(
        self,
        x: Mapping[str, Tensor],
        level: Mapping[str, Tensor],
        *,
        vector: Tensor | None = None,
        mask: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Logits of the clean tokens as of `GraphTransformer`, and "x" [B, N, 3].

        Args:
            x: also "x", noisy coordinates [B, N, 3] of about unit deviation, wherever they lie.
            level, vector, mask: as of `GraphTransformer`.
        """
        there = self._there(x, mask)
        h, e, y, pairs = self._shown(x, level, vector, there)
        steering = self.steering(y)
        first, second = pairs.first, pairs.second
        sides = _sides(there.shape[1], first, second).to(x["x"])
        both = (there[:, first] & there[:, second])[..., None]
        share = there.sum(1).clamp(min=1).to(x["x"]).rsqrt()[:, None, None]
        start = at = centred(x["x"], there)
        for block, near, pull, gate in zip(
            self.blocks, self.near, self.pull, self.gate, strict=True
        ):
            way = at[:, first] - at[:, second]
            r = (way.square().sum(-1, keepdim=True) + 1e-12).sqrt()
            e = e + near(self._radial(r).to(e.dtype))
            h, e = block(h, e, steering, pairs, there)
            strength = torch.where(both, pull(e).to(way.dtype), 0.0)
            move = sides @ (strength * way / (1 + r))
            at = at + share * (1 + gate(h).to(way.dtype)) * move
        return {**self._answers(h, e, y, pairs), "x": centred(at - start, there)}

    def _radial(self, r: Tensor) -> Tensor:
        """Bumps at the centres, and the distance itself, of distances [B, P, 1]."""
        bumps = torch.exp(-0.5 * ((r - self.centres) / self.wide) ** 2)
        return torch.cat([bumps, r / 4], -1)


def _last(edge: int) -> nn.Module:
    """Begins small, so that a fresh network leaves the atoms nearly where they are."""
    layer = nn.Linear(edge, 1, bias=False)
    nn.init.normal_(layer.weight, std=0.1 * edge**-0.5)
    return layer


def _sides(n: int, first: Tensor, second: Tensor) -> Tensor:
    """[N, P]: +1 where a node is the first of a pair, −1 where it is the second."""
    number = torch.arange(len(first), device=first.device)
    sides = torch.zeros(n, len(first), device=first.device)
    sides[first, number] = 1
    sides[second, number] = -1
    return sides
