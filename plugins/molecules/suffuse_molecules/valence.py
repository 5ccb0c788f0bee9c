"""Valence-safe decoding: a molecule from a graph that need not be one.

A graph that is a valid molecule is left as it is. Else bonds are admitted one by one, the most
confident first, each with the order that the capacities of its two atoms still allow; then pieces
are joined by the likeliest bonds between them. An atom's capacity is the largest sum of bond orders
that its type has in the training data, so that every graph that is built this way can be sanitised.
Rings larger than a given size are opened, at their least sure bonds.
"""

from __future__ import annotations

from collections.abc import Sequence

import networkx
import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from .chemistry import quiet

__all__ = ["admit", "join", "localized", "open_rings", "pieces", "rings", "unstable"]

Orders = NDArray[np.int64]


def pieces(orders: Orders) -> NDArray[np.int64]:
    """The number of the piece that each atom of bond orders [N, N] is in, [N].

    >>> pieces(np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]])).tolist()
    [0, 1, 0]
    """
    label = np.full(len(orders), -1)
    for start in range(len(orders)):
        if label[start] >= 0:
            continue
        number, stack = label.max() + 1, [start]
        label[start] = number
        while stack:
            for i in np.flatnonzero(orders[stack.pop()]):
                if label[i] < 0:
                    label[i] = number
                    stack.append(int(i))
    return label


def unstable(mol: Chem.Mol) -> set[int]:
    """The atoms of a molecule, sanitised or not, whose bonds cannot be.

    Those with more than their element and charge allow, and those of aromatic rings without a
    Kekulé form. Hydrogens are implicit: too few bonds are none too few.

    >>> unstable(Chem.MolFromSmiles("CF(C)C", sanitize=False))
    {1}
    """
    with quiet():
        problems = Chem.DetectChemistryProblems(mol)
    found = set()
    for problem in problems:
        if hasattr(problem, "GetAtomIndices"):
            found.update(problem.GetAtomIndices())
        elif hasattr(problem, "GetAtomIdx"):
            found.add(problem.GetAtomIdx())
    return found


def admit(orders: Orders, capacity: Sequence[int], confidence: NDArray[np.float64]) -> Orders:
    """Bond orders that no atom's capacity forbids, the most confident bonds first.

    Args:
        orders: wanted bond orders [N, N], symmetric, 0 where there is no bond.
        capacity: the most that the orders at each atom may sum to, [N].
        confidence: of the bonds, [N, N].

    >>> admit(np.array([[0, 3, 1], [3, 0, 0], [1, 0, 0]]), [3, 4, 1], np.ones((3, 3))).tolist()
    [[0, 3, 0], [3, 0, 0], [0, 0, 0]]
    """
    i, j = np.nonzero(np.triu(orders))
    left = np.array(capacity)
    out = np.zeros_like(orders)
    for k in np.argsort(-confidence[i, j], kind="stable"):
        a, b = i[k], j[k]
        order = min(orders[a, b], left[a], left[b])
        if order > 0:
            out[a, b] = out[b, a] = order
            left[[a, b]] -= order
    return out


def localized(
    tokens: Orders,
    aromatic: int,
    capacity: Sequence[int],
    confidence: NDArray[np.float64],
    gives: NDArray[np.bool_],
    carbon: NDArray[np.bool_],
) -> Orders:
    """Bond orders with single and double bonds in the place of aromatic ones.

    As many are double as can be, at most one at each atom that has room for it and does not give
    its electrons to the ring: a matching of the greatest size. Of those, one that leaves few
    carbons out, and is of likely bonds.

    Args:
        tokens: orders [N, N], symmetric, with the value `aromatic` for aromatic bonds.
        capacity, confidence: as for `admit`.
        gives: atoms that are known to take no double bond, [N].
        carbon: atoms that are carbon, [N].

    >>> ring = 4 * (np.roll(np.eye(5, dtype=int), 1, 0) + np.roll(np.eye(5, dtype=int), -1, 0))
    >>> oxygen = np.arange(5) == 0
    >>> furan = localized(ring, 4, [2, 4, 4, 4, 4], np.ones((5, 5)), oxygen, ~oxygen)
    >>> furan[:2].tolist()
    [[0, 1, 0, 0, 1], [1, 0, 2, 0, 0]]
    """
    where = tokens == aromatic
    out = np.where(where, 1, tokens)
    able = (np.array(capacity) > out.sum(1)) & ~gives
    graph = networkx.Graph()
    for i, j in zip(*np.nonzero(np.triu(where)), strict=True):
        if able[i] and able[j]:
            worth = float(carbon[i]) + float(carbon[j]) + float(confidence[i, j]) / len(tokens)
            graph.add_edge(int(i), int(j), weight=worth)
    for i, j in networkx.max_weight_matching(graph, maxcardinality=True):
        out[i, j] = out[j, i] = 2
    return out


def rings(orders: Orders) -> list[tuple[int, ...]]:
    """The smallest set of smallest rings of bond orders [N, N]: the atoms of each, in order.

    >>> square = np.roll(np.eye(4, dtype=int), 1, 0)
    >>> [sorted(ring) for ring in rings(square + square.T)]
    [[0, 1, 2, 3]]
    """
    mol = Chem.RWMol()
    for _ in range(len(orders)):
        mol.AddAtom(Chem.Atom(0))
    for i, j in zip(*np.nonzero(np.triu(orders, 1)), strict=True):
        mol.AddBond(int(i), int(j), Chem.BondType.SINGLE)
    with quiet():
        return [tuple(ring) for ring in Chem.GetSymmSSSR(mol)]


def open_rings(orders: Orders, confidence: NDArray[np.float64], largest: int) -> Orders:
    """The same bonds, without those that close rings of more than `largest` atoms.

    The least sure bond of the rings that are too large goes first, and of their bonds those that
    are in no smaller ring: a ring of nine that shares a bond with one of six leaves the six whole.
    What is in one piece stays so. Rings are those of the smallest set of smallest rings, so that
    the rim of naphthalene is none.

    Args:
        orders, confidence: as for `admit`; a ring whose bonds are all sure, infinitely, stays.
        largest: the most atoms of a ring; 0 opens all.

    >>> square = np.roll(np.eye(4, dtype=int), 1, 0)
    >>> square = square + square.T
    >>> sure = np.ones((4, 4))
    >>> sure[1, 2] = sure[2, 1] = 0.5
    >>> open_rings(square, sure, 3)[1].tolist(), open_rings(square, sure, 4)[1].tolist()
    ([1, 0, 0, 0], [1, 0, 1, 0])
    """
    out = orders.copy()
    while True:
        found = rings(out)
        beyond = _around([ring for ring in found if len(ring) > largest])
        if not beyond:
            return out
        kept = _around([ring for ring in found if len(ring) <= largest])
        closing = {bond for bond in beyond if np.isfinite(confidence[bond])}
        if not closing:
            return out
        a, b = min(sorted(closing - kept or closing), key=lambda bond: confidence[bond])
        out[a, b] = out[b, a] = 0


def _around(found: Sequence[Sequence[int]]) -> set[tuple[int, int]]:
    """The bonds of rings."""
    return {
        (min(a, b), max(a, b))
        for ring in found
        for a, b in zip(ring, [*ring[1:], ring[0]], strict=True)
    }


def join(
    orders: Orders,
    capacity: Sequence[int],
    likely: NDArray[np.float64],
    largest: int | None = None,
) -> Orders:
    """The same bonds and those that make them one piece, the likeliest first.

    A piece without capacity left gets some by lowering its double and triple bonds, or else by
    opening a ring. Pieces that cannot be joined at all (two atoms of fluorine) stay apart.

    Args:
        orders, capacity: as for `admit`.
        likely: how likely there is a bond, [N, N]; pairs that are infinitely so are left alone.
        largest: the most atoms of a ring, as for `open_rings`: opening one ring merges it with
            its neighbour. None for any.

    >>> join(np.zeros((2, 2), dtype=int), [4, 1], np.ones((2, 2))).tolist()
    [[0, 1], [1, 0]]
    """
    out = orders.copy()
    cap = np.array(capacity)
    free = np.isfinite(likely)
    label = pieces(out)
    while label.max() > 0:
        left = cap - out.sum(1)
        apart = label[:, None] != label[None, :]
        reach = (left > 0)[:, None] & apart & free
        able = reach & reach.T
        if able.any():
            a, b = np.unravel_index(np.argmax(np.where(able, likely, -np.inf)), able.shape)
            out[a, b] = out[b, a] = 1
            label[label == label[b]] = label[a]
            label = np.unique(label, return_inverse=True)[1]
            continue
        # lower the least likely bond of a piece that is full and can spare it
        full = [k for k in range(label.max() + 1) if not reach[label == k].any()]
        inside = np.isin(label, full)[:, None] & free
        spare = (out > 1) & inside
        if not spare.any():
            spare = _rings(out) & inside
        if not spare.any():
            return out
        a, b = np.unravel_index(np.argmin(np.where(spare, likely, np.inf)), out.shape)
        out[a, b] -= 1
        out[b, a] -= 1
        if largest is not None:
            out = open_rings(out, likely, largest)
    return out


def _rings(orders: Orders) -> NDArray[np.bool_]:
    """The bonds without which a piece would still be one, [N, N]."""
    out = np.zeros(orders.shape, dtype=bool)
    count = pieces(orders).max()
    for a, b in zip(*np.nonzero(np.triu(orders)), strict=True):
        without = orders.copy()
        without[a, b] = without[b, a] = 0
        out[a, b] = out[b, a] = pieces(without).max() == count
    return out
