"""A graph transformer for molecules: atoms as nodes, bonds as edges, on dense tensors.

Its blocks are those of `suffuse.nn.graph`; here is what they are shown of a noisy molecule.

**Features of the noisy graph**, made anew in each call. With the orders o_ij of the bonds, 1.5 for
an aromatic one, degrees d_i = Σ_j o_ij and the walk S = D^{−1/2} O D^{−1/2}: the powers S^k, k = 1
to K, whose entry (i, j) is √(P^k_ij P^k_ji) of the random walk P, and on the diagonal the
probability of its return in k steps; and for each atom the sum of its bonds' orders, its number of
bonds, and how far the sum is above the capacity of its type.

**Order of the atoms.** Without it the network is equivariant to permutations. With `ordered` it
also sees each atom's place and each pair's distance of places, in the order in which the data's
SMILES write the molecules: canonical ones are walks along the bonds, so that most bonds join
neighbours. In training a share of the examples goes without, so that known parts, whose order is
another, can be completed too (`unordered`).

Sources: Vignac et al., "DiGress" (2023), arXiv 2209.14734, section 5; relative random-walk
features: Ma et al., "Graph inductive biases in transformers without message passing" (2023),
arXiv 2305.17589, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from suffuse.errors import SuffuseError
from suffuse.nn.blocks import zeroed
from suffuse.nn.embedding import LevelEmbedding
from suffuse.nn.graph import GraphBlock, Pairs, modulated, pairs_of
from suffuse.nn.network import flops, params

from .graph import Graph

__all__ = ["GraphTransformer"]


class GraphTransformer(nn.Module):
    """The denoiser of molecular graphs.

    Args:
        shape: of one state, {"atoms": (N,), "bonds": (N, N)}; other N are legal in a call.
        encoder: the fitted `Graph`.
        width: features of a node, and of the conditions' vector.
        edge: features of an edge.
        depth: how many blocks.
        heads: attention heads; they divide `width`.
        walks: K, the powers of the random walk among the features.
        ordered: whether places in the order of the atoms are among the features.
    """

    unseen = 0.15
    """The share of examples that are shown without their order in training."""

    pairs = staticmethod(pairs_of)
    """Which pairs of nodes have an edge; a subclass may have others."""

    def __init__(
        self,
        shape: Mapping[str, tuple[int, ...]],
        encoder: Graph,
        *,
        width: int = 128,
        edge: int = 64,
        depth: int = 6,
        heads: int = 8,
        walks: int = 8,
        ordered: bool = False,
    ) -> None:
        super().__init__()
        if encoder.types is None or encoder.capacity is None:
            raise SuffuseError(
                "the denoiser 'molecules/graph-transformer' needs the encoder 'molecules/graph'"
            )
        self.shape, self.width, self.walks = shape, width, walks
        kinds = max(len(encoder.types), 2)
        capacity = torch.tensor([*encoder.capacity, *[8] * (kinds + 1 - len(encoder.capacity))])
        self.capacity: Tensor
        self.register_buffer("capacity", capacity.float(), persistent=False)
        self.embedding = LevelEmbedding(width)
        self.graph = nn.Linear(3, width)
        # one more token of each for the mask of absorbing kernels
        orders = [0.0, 1.0, 2.0, 3.0, 1.5][: encoder.orders]
        self.orders: Tensor
        self.register_buffer("orders", torch.tensor([*orders, 0.0]), persistent=False)
        self.atoms = nn.Embedding(kinds + 1, width)
        self.node = nn.Linear(3 + walks, width)
        self.bonds = nn.Embedding(encoder.orders + 1, edge)
        self.edge = nn.Linear(walks, edge)
        self.ends = nn.Linear(width, edge)
        self.ordered = ordered
        if ordered:
            self.places = nn.Embedding(shape["atoms"][0], width)
            self.distances = nn.Embedding(shape["atoms"][0], edge)
        self.steering = zeroed(nn.Linear(width, 6 * width + 3 * edge))
        self.blocks = nn.ModuleList(GraphBlock(width, edge, heads) for _ in range(depth))
        self.modulation = zeroed(nn.Linear(width, 2 * width + 2 * edge))
        self.atoms_out = zeroed(nn.Linear(width, kinds))
        self.bonds_out = zeroed(nn.Linear(edge, encoder.orders))
        for layer, counts in ((self.atoms_out, encoder.atoms), (self.bonds_out, encoder.bonds)):
            if counts is not None:
                share = torch.tensor(counts) / sum(counts)
                with torch.no_grad():
                    layer.bias[: len(share)] = share.clamp(min=1e-6).log()

    def forward(
        self,
        x: Mapping[str, Tensor],
        level: Mapping[str, Tensor],
        *,
        vector: Tensor | None = None,
        mask: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Logits of the clean tokens.

        Args:
            x: tokens {"atoms": [B, N], "bonds": [B, N, N]}.
            level: the noise level of each part, [B]; that of the atoms is used.
            vector: the conditions' embedding, [B, width].
            mask: True for atoms that are there, {"atoms": [B, N]}; all where None.

        Returns:
            {"atoms": [B, N, K], "bonds": [B, N, N, K]}, symmetric in the nodes of a pair.
        """
        there = self._there(x, mask)
        h, e, y, pairs = self._shown(x, level, vector, there)
        steering = self.steering(y)
        for block in self.blocks:
            h, e = block(h, e, steering, pairs, there)
        return self._answers(h, e, y, pairs)

    def params(self) -> int:
        """How many numbers training adjusts."""
        return params(self)

    def flops(self, batch: int = 1, atoms: int | None = None) -> int:
        """Floating-point operations of one call; see `suffuse.nn.network.flops`.

        Args:
            batch: how many molecules.
            atoms: of each; the most that states have where None.
        """
        n = self.shape["atoms"][0] if atoms is None else atoms
        x = {
            "atoms": torch.zeros(batch, n, dtype=torch.int64, device="meta"),
            "bonds": torch.zeros(batch, n, n, dtype=torch.int64, device="meta"),
            "x": torch.zeros(batch, n, 3, device="meta"),
        }
        level = torch.zeros(batch, device="meta")
        return flops(self, {k: x[k] for k in self.shape}, dict.fromkeys(self.shape, level))

    def _there(self, x: Mapping[str, Tensor], mask: Mapping[str, Tensor] | None) -> Tensor:
        """The atoms that are there, [B, N]."""
        return torch.ones_like(x["atoms"], dtype=torch.bool) if mask is None else mask["atoms"]

    def _shown(
        self,
        x: Mapping[str, Tensor],
        level: Mapping[str, Tensor],
        vector: Tensor | None,
        there: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Pairs]:
        """Nodes, edges and the embedding [B, 1, width] before the first block; and the pairs."""
        atoms, bonds = x["atoms"], x["bonds"]
        pairs = self.pairs(atoms.shape[1], atoms.device)
        first, second = pairs.first, pairs.second
        node, walk, whole = self._features(atoms, bonds, there)
        y = self.embedding(level["atoms"].to(self.node.weight.dtype), vector)
        y = (y + self.graph(whole.to(y.dtype)))[:, None]
        h = self.atoms(atoms) + self.node(node.to(y.dtype))
        e = self.bonds(bonds[:, first, second]) + self.edge(walk[:, first, second].to(y.dtype))
        if self.ordered:
            seen = self._seen(len(atoms), h)
            h = h + seen * self.places.weight[: atoms.shape[1]]
            e = e + seen * self.distances((second - first).abs())
        return h, e + pairs.both(self.ends(h)), y, pairs

    def _answers(self, h: Tensor, e: Tensor, y: Tensor, pairs: Pairs) -> dict[str, Tensor]:
        """Logits of nodes and edges after the last block."""
        width, edge = h.shape[-1], e.shape[-1]
        shift, scale, shift_e, scale_e = self.modulation(y).split(
            [width, width, edge, edge], dim=-1
        )
        return {
            "atoms": self.atoms_out(modulated(h, shift, scale)),
            "bonds": pairs.dense(self.bonds_out(modulated(e, shift_e, scale_e))),
        }

    @contextmanager
    def unordered(self) -> Iterator[None]:
        """Within this context the network goes by no order."""
        before, self.ordered = self.ordered, False
        try:
            yield
        finally:
            self.ordered = before

    def _seen(self, count: int, like: Tensor) -> Tensor:
        """1 for the examples whose order is shown, [B, 1, 1]."""
        seen = torch.ones(count, 1, 1, dtype=like.dtype, device=like.device)
        if self.training:
            seen[torch.rand(count, device=like.device) < self.unseen] = 0
        return seen

    @torch.no_grad()
    def _features(self, atoms: Tensor, bonds: Tensor, there: Tensor) -> tuple[Tensor, ...]:
        """What is computed of a noisy graph: of nodes, of pairs and of the whole."""
        real = there[:, :, None] & there[:, None, :]
        orders = torch.where(real, self.orders[bonds], 0.0)
        total = orders.sum(-1)
        scale = total.clamp(min=1).rsqrt()
        step = scale[:, :, None] * orders * scale[:, None, :]
        powers = [step]
        for _ in range(self.walks - 1):
            powers.append(powers[-1] @ step)
        walk = torch.stack(powers, dim=-1)
        excess = total - self.capacity[atoms]
        own = torch.stack([total / 4, (orders > 0).sum(-1) / 4, excess / 4], dim=-1)
        node = torch.cat([own, walk.diagonal(dim1=1, dim2=2).transpose(1, 2)], dim=-1)
        node = torch.where(there[..., None], node, 0.0)
        size = there.sum(1).float()
        bonded = (orders > 0).flatten(1).sum(1) / 2
        over = ((excess > 0) & there).sum(1).float()
        whole = torch.stack([size / 16, bonded / size.clamp(min=1), over / size.clamp(min=1)], -1)
        return node, walk, whole
