"""A graph transformer's block on dense tensors: nodes attend, and edges have a stream of their own.

The edge between two nodes shifts and scales what they exchange, and is itself updated from both.
Edges here have no direction, so there is one feature vector for each unordered pair i < j:
P = N (N − 1) / 2 of them instead of N² (`Pairs` turns either into the other). All goes through
matrix products; nothing is scattered, and nothing has to be compiled. Without features that tell
nodes apart, a block is equivariant to their permutations.

Sources: Dwivedi, Bresson, "A generalization of transformer networks to graphs" (2020),
arXiv 2012.09699; Vignac et al., "DiGress" (2023), arXiv 2209.14734, section 5.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, silu

from suffuse.errors import SuffuseError

__all__ = ["GraphBlock", "Pairs", "modulated", "pairs_of"]


class Pairs(NamedTuple):
    """The pairs i < j of n nodes, P of them.

    Attributes:
        first, second: i and j, [P].
        place: the number of the pair (i, j), [n, n]; any on the diagonal.
        incidence: 1 where a node is of a pair, float32 [n, P].
    """

    first: Tensor
    second: Tensor
    place: Tensor
    incidence: Tensor

    def ends(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The features of both nodes of each pair, [B, P, C], of nodes [B, n, C]."""
        return x.index_select(1, self.first), x.index_select(1, self.second)

    def both(self, x: Tensor) -> Tensor:
        """Their sum, [B, P, C], by a product of matrices, whose gradient scatters nothing."""
        return self.incidence.mT.to(x.dtype) @ x

    def total(self, e: Tensor, mask: Tensor) -> Tensor:
        """The sum of the features of each node's pairs over the root of the nodes' number.

        Args:
            e: of pairs, [B, P, C].
            mask: [B, n], True for nodes that are there; pairs with others do not count.

        Returns:
            [B, n, C].
        """
        share = mask.sum(1).clamp(min=1).to(e.dtype).rsqrt()[:, None] * mask
        both = share[:, self.first] * mask[:, self.second]
        return (self.incidence.to(e.dtype) * both[:, None]) @ e

    def dense(self, e: Tensor) -> Tensor:
        """[B, n, n, C], symmetric, of pairs [B, P, C]; on the diagonal stands nothing of use.

        >>> pairs_of(3).dense(torch.tensor([[[5.0], [6.0], [7.0]]]))[0, 0, 1:, 0]
        tensor([5., 6.])
        """
        n = len(self.incidence)
        return e.index_select(1, self.place.flatten()).reshape(len(e), n, n, e.shape[-1])

    def sparse(self, x: Tensor) -> Tensor:
        """Pairs [B, P, *C] of what stands above the diagonal of [B, n, n, *C]."""
        return x[:, self.first, self.second]


@lru_cache(maxsize=64)
def pairs_of(n: int, device: torch.device | None = None) -> Pairs:
    """The pairs of n nodes, in the order (0, 1), (0, 2), ..., (1, 2), ..."""
    # kept tensors serve training too, which takes none that were made in inference mode
    with torch.inference_mode(False):
        first, second = torch.triu_indices(n, n, 1, device=device)
        number = torch.arange(len(first), device=device)
        place = torch.zeros(n, n, dtype=torch.int64, device=device)
        place[first, second] = place[second, first] = number
        incidence = torch.zeros(n, len(first), device=device)
        incidence[first, number] = incidence[second, number] = 1
    return Pairs(first, second, place, incidence)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """norm(x) (1 + scale) + shift, with the layer normalisation over the last axis."""
    return torch.addcmul(shift, layer_norm(x, x.shape[-1:], eps=1e-5), 1 + scale)


class GraphBlock(nn.Module):
    """Nodes exchange what the edges let through; edges see both of their nodes.

    All three updates are steered by an embedding and stand behind gates. These begin at zero where
    the embedding's linear layer does, so that a fresh block changes nothing.

    Args:
        width: features of a node.
        edge: features of an edge.
        heads: attention heads; they divide `width`.
    """

    def __init__(self, width: int, edge: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise SuffuseError(f"a width of {width} cannot be split into {heads} heads")
        self.heads = heads
        self.modulation = nn.Parameter(torch.zeros(6 * width + 3 * edge))
        self.qkv = nn.Linear(width, 3 * width)
        self.steer = nn.Linear(edge, 2 * heads)
        self.out = nn.Linear(width, width)
        self.from_nodes = nn.Linear(width, 4 * edge)
        self.from_edge = nn.Linear(edge, 2 * edge)
        self.edge_out = nn.Linear(2 * edge, edge)
        self.gather = nn.Linear(2 * edge, width)
        self.linear_0 = nn.Linear(width, 2 * width)
        self.linear_1 = nn.Linear(2 * width, width)

    def forward(
        self, x: Tensor, e: Tensor, y: Tensor, pairs: Pairs, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Nodes [B, N, width] and edges [B, P, edge] after the block.

        Args:
            x: nodes, [B, N, width].
            e: edges, [B, P, edge].
            y: shifts, scales and gates, to which the block's own are added:
                [B, 1, 6 width + 3 edge].
            pairs: of N nodes.
            mask: [B, N], True for nodes that are there; others are not looked at.
        """
        n = x.shape[1]
        edge = e.shape[-1]
        parts = torch.split(y + self.modulation, [x.shape[-1]] * 6 + [edge] * 3, dim=-1)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m, shift_e, scale_e, gate_e = parts

        h = modulated(x, shift_a, scale_a)
        q, k, v = self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        he = modulated(e, shift_e, scale_e)
        steer = pairs.dense(self.steer(he)).permute(0, 3, 1, 2)
        steer = steer * (1 - torch.eye(n, dtype=e.dtype, device=e.device))  # no edge to itself
        shift, scale = steer.chunk(2, dim=1)
        logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + shift
        logits = logits.masked_fill(~mask[:, None, None, :], -1e4)
        weights = logits.softmax(-1) * (1 + scale)
        x = torch.addcmul(x, gate_a, self.out((weights @ v).transpose(1, 2).flatten(2)))

        total, other = self.from_nodes(h).split(2 * edge, dim=-1)
        inner = torch.addcmul(self.from_edge(he) + pairs.both(total), *pairs.ends(other))
        inner = silu(inner)
        e = torch.addcmul(e, gate_e, self.edge_out(inner))
        message = self.gather(pairs.total(inner, mask))

        h = modulated(x, shift_m, scale_m) + message
        x = torch.addcmul(x, gate_m, self.linear_1(silu(self.linear_0(h))))
        return x, e
