"""Molecules as dense graphs: a token for each atom and one for each pair of atoms.

A state is the mapping

    atoms  int64 [B, N]      the type of an atom, element and charge: an index into `types`
    bonds  int64 [B, N, N]   the order of a bond, 0 (none) to 3; symmetric, 0 on the diagonal

of molecules with up to N heavy atoms, with 0 beyond a molecule's own size. A molecule is written in
Kekulé's form, so that a token is an order and valences are sums of tokens. What is kept and what is
dropped: see `suffuse_molecules.chemistry`.

A state that a sampler has made also tells how sure its last estimate was, in the part
"bond_logits" [B, N, N, 4] (`suffuse_molecules.process`). Valence-safe decoding goes by it, and
leaves other states as they are: those on the way from noise.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator
from torch import Tensor

from suffuse.diffusion import Noise
from suffuse.diffusion.noise import Stream
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Dataset

from .chemistry import REASONS, flat, problem, quiet, refusal
from .valence import admit, join, open_rings, pieces, rings

__all__ = ["ORDERS", "RAW", "Graph"]

ORDERS = 4
"""Values of a bond's token: none, single, double, triple."""

RAW = "_raw"
"""The property of a decoded molecule that says what its graph was before it was made safe: "valid",
or the code of the reason why not."""

_BONDS = {
    1: Chem.BondType.SINGLE,
    2: Chem.BondType.DOUBLE,
    3: Chem.BondType.TRIPLE,
}


class Graph:
    """Encoder between rdkit molecules and dense graphs.

    Args:
        types: the atoms' types, for instance ["C", "N", "N+"]. Like the arguments after it, it is
            measured by `fit` where it is not given.
        capacity: the largest sum of bond orders of each type.
        sizes: how many molecules there are of 1, 2, ... atoms; the longest is N.
        atoms: how often each type occurs.
        bonds: how often each order occurs, 0 included.
        decoding: "safe" repairs sampled graphs that are no valid molecules (see
            `suffuse_molecules.valence`); "raw" leaves them, unsanitised. Either way the
            property `RAW` says what the graph was.
        largest_ring: the most atoms of a ring. Safe decoding opens larger ones at their least sure
            bonds, of graphs that are valid too. None for no limit, as in models that were fitted
            before there was one.

    >>> from suffuse_molecules.chemistry import canonical, parse
    >>> graph = Graph(["C", "O"], [4, 2], [0, 1, 1], [3, 1], [4, 2, 1, 1])
    >>> state = graph.encode([parse("CC=O")])
    >>> state["atoms"].tolist(), state["bonds"][0].tolist()
    ([[0, 0, 1]], [[0, 1, 0], [1, 0, 2], [0, 2, 0]])
    >>> canonical(graph.decode(state, torch.tensor([3]))[0])
    'CC=O'
    """

    def __init__(
        self,
        types: list[str] | None = None,
        capacity: list[int] | None = None,
        sizes: list[int] | None = None,
        atoms: list[float] | None = None,
        bonds: list[float] | None = None,
        decoding: Literal["safe", "raw"] = "safe",
        largest_ring: int | None = None,
    ) -> None:
        self.types, self.capacity, self._sizes = types, capacity, sizes
        self.atoms, self.bonds = atoms, bonds
        self.decoding, self.largest_ring = decoding, largest_ring
        if types is not None:
            self._elements = [_parsed(name) for name in types]
            self._index = {element: i for i, element in enumerate(self._elements)}
            lengths = [len(k) for k in (capacity, atoms) if k is not None]
            if any(n != len(types) for n in lengths):
                raise SuffuseError(
                    f"the encoder knows {len(types)} types of atoms; its capacities and "
                    f"frequencies have {lengths}"
                )

    # What was fitted

    @property
    def largest(self) -> int:
        """N, the most atoms of a molecule."""
        if self._sizes is None:
            raise RuntimeError("this encoder is not fitted: call fit, or give its options")
        return len(self._sizes)

    @property
    def shape(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the parts of a state."""
        n = self.largest
        return {"atoms": (n,), "bonds": (n, n)}

    def fit(self, dataset: Dataset) -> dict[str, Any]:
        """Types, capacities, sizes, frequencies and the largest ring of the training split.

        A `largest_ring` that was given is kept.

        Raises:
            SuffuseError: for a set without molecules, or with one that has no graph.
        """
        types: Counter[tuple[int, int]] = Counter()
        capacity: dict[tuple[int, int], int] = {}
        sizes: Counter[int] = Counter()
        bonds = np.zeros(ORDERS, dtype=np.int64)
        ring = 0
        for i in range(len(dataset)):
            elements, orders = _read(dataset[i].data)
            n = len(elements)
            sizes[n] += 1
            ring = max(ring, *map(len, Chem.GetSymmSSSR(dataset[i].data)), 0)
            for element, total in zip(elements, orders.sum(1).tolist(), strict=True):
                types[element] += 1
                capacity[element] = max(capacity.get(element, 0), total)
            bonds += np.bincount(orders[np.triu_indices(n, 1)], minlength=ORDERS)
        if not types:
            raise SuffuseError("the training split holds no molecules")
        known = [element for element, _ in types.most_common()]
        # an order that never occurs keeps a small share, since frequencies are above 0
        found = {
            "types": [_name(element) for element in known],
            "capacity": [capacity[element] for element in known],
            "sizes": [sizes[n] for n in range(1, max(sizes) + 1)],
            "atoms": [float(types[element]) for element in known],
            "bonds": [float(max(count, 1)) for count in bonds.tolist()],
            "largest_ring": ring if self.largest_ring is None else self.largest_ring,
        }
        self.__init__(**found, decoding=self.decoding)  # type: ignore[misc]
        return found

    def raw(self) -> Self:
        """The same encoder, but that its `decode` repairs nothing."""
        other = copy.copy(self)
        other.decoding = "raw"
        return other

    # States

    def sizes(self, objects: Sequence[Chem.Mol]) -> Tensor:
        """Heavy atoms of each molecule, int64 [B]."""
        return torch.tensor([mol.GetNumHeavyAtoms() for mol in objects], dtype=torch.int64)

    def mask(self, sizes: Tensor) -> dict[str, Tensor]:
        """True for the atoms of a molecule, [B, N], and for pairs of them, [B, N, N]."""
        atoms = torch.arange(self.largest, device=sizes.device) < sizes[:, None]
        return {"atoms": atoms, "bonds": atoms[:, :, None] & atoms[:, None, :]}

    def draw_sizes(self, noise: Noise) -> Tensor:
        """Sizes as they are distributed in the training split, int64 [B]."""
        assert self._sizes is not None
        counts = torch.tensor(self._sizes, dtype=torch.float64).cumsum(0)
        u = noise.uniform((1,), step=1, stream=Stream.PRIOR)[:, 0].cpu()
        return torch.searchsorted(counts, u * counts[-1], right=True) + 1

    def encode(self, objects: Sequence[Chem.Mol]) -> dict[str, Tensor]:
        """Graphs of molecules.

        Raises:
            SuffuseError: for a molecule that is refused, naming it and the reason.
        """
        n = self.largest
        atoms = np.zeros((len(objects), n), dtype=np.int64)
        bonds = np.zeros((len(objects), n, n), dtype=np.int64)
        for row, mol in enumerate(objects):
            if not isinstance(mol, Chem.Mol):
                raise SuffuseError(f"a molecule is an rdkit Mol, and not a {type(mol).__name__}")
            reason = self.refusal(mol)
            if reason is not None:
                raise _refused(mol, reason, self)
            elements, orders = _read(mol)
            size = len(elements)
            atoms[row, :size] = [self._index[element] for element in elements]
            bonds[row, :size, :size] = orders
        return {"atoms": torch.from_numpy(atoms), "bonds": torch.from_numpy(bonds)}

    def element(self, token: int) -> tuple[int, int]:
        """The atomic number and the charge that a token stands for; 0 for a mask."""
        if token >= max(len(self._elements), 2):
            return 0, 0
        return self._elements[min(token, len(self._elements) - 1)]

    def tokens(self, mol: Chem.Mol) -> tuple[list[int], Tensor]:
        """The tokens of a molecule's atoms, and the orders of its bonds, int64 [n, n]."""
        elements, orders = _read(mol)
        return [self._index[element] for element in elements], torch.from_numpy(orders)

    def refusal(self, mol: Chem.Mol | None) -> str | None:
        """Why this encoder does not take a molecule, as a code of `REASONS`; else None."""
        reason = refusal(mol)
        if reason is not None or self.types is None:
            return reason
        assert mol is not None
        if mol.GetNumHeavyAtoms() > self.largest:
            return "size"
        heavy = (atom for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1)
        known = all((a.GetAtomicNum(), a.GetFormalCharge()) in self._index for a in heavy)
        return None if known else "element"

    def decode(self, x: Mapping[str, Tensor], sizes: Tensor) -> list[Chem.Mol]:
        """Molecules from graphs, each with the property `RAW`.

        Repaired ones are sanitised and valid; of the rare graph that no repair joins the largest
        piece is kept. Of a valid graph with a ring above `largest_ring` `RAW` says "valid".
        """
        logits = x.get("bond_logits")
        out = []
        for row, size in enumerate(sizes.tolist()):
            atoms = x["atoms"][row, :size].tolist()
            orders = x["bonds"][row, :size, :size].numpy()
            sure = None if logits is None else logits[row, :size, :size].detach().double()
            out.append(self._molecule(atoms, orders, sure)[0])
        return out

    def embed(self, objects: Sequence[Chem.Mol]) -> Tensor:
        """Morgan fingerprints of radius 2, float32 [B, 1024]: distances are roots of unlike bits.

        Molecules that are not valid are zeros.
        """
        generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
        out = np.zeros((len(objects), 1024), dtype=np.float32)
        for row, mol in enumerate(objects):
            if problem(mol) is None:
                out[row] = generator.GetFingerprintAsNumPy(mol)
        return torch.from_numpy(out)

    def build(self, atoms: Sequence[int], orders: Any) -> Chem.Mol:
        """The molecule of tokens [n] and bond orders [n, n] as they are, not sanitised."""
        mol = Chem.RWMol()
        for token in atoms:
            number, charge = self.element(token)
            atom = Chem.Atom(number)
            atom.SetFormalCharge(charge)
            mol.AddAtom(atom)
        for i, j in zip(*np.nonzero(np.triu(orders, 1)), strict=True):
            if orders[i, j] < ORDERS:  # beyond is the mask of absorbing kernels
                mol.AddBond(int(i), int(j), _BONDS[int(orders[i, j])])
        return mol.GetMol()

    def _molecule(
        self, atoms: list[int], orders: Any, logits: Tensor | None
    ) -> tuple[Chem.Mol, Any]:
        """A molecule, and which of the atoms it has."""
        mol = self.build(atoms, orders)
        reason = problem(mol)
        keep = np.arange(len(atoms))
        if self.decoding == "safe" and logits is not None and self._unfit(orders, reason):
            orders = self._repaired(atoms, orders, logits, reason is None)
            label = pieces(orders)
            keep = np.flatnonzero(label == np.bincount(label).argmax())
            mol = self.build([atoms[i] for i in keep], orders[np.ix_(keep, keep)])
        if problem(mol) is None:
            with quiet():
                Chem.SanitizeMol(mol)
        else:
            mol.UpdatePropertyCache(strict=False)
        mol.SetProp(RAW, reason or "valid")
        return mol, keep

    def _unfit(self, orders: Any, reason: str | None) -> bool:
        """Whether a graph is no valid molecule, or has a ring that is too large."""
        most = self.largest_ring
        return reason is not None or (
            most is not None and any(len(ring) > most for ring in rings(orders))
        )

    def _repaired(self, atoms: list[int], orders: Any, logits: Tensor, valid: bool) -> Any:
        assert self.capacity is not None
        capacity = [self.capacity[min(token, len(self.capacity) - 1)] for token in atoms]
        p = logits.softmax(-1).numpy()
        confidence = np.take_along_axis(p, orders[..., None], -1)[..., 0]
        if not valid:
            orders = admit(orders, capacity, confidence)
        if self.largest_ring is not None:
            orders = open_rings(orders, confidence, self.largest_ring)
        return join(orders, capacity, 1 - p[..., 0], self.largest_ring)


def _read(mol: Chem.Mol) -> tuple[list[tuple[int, int]], Any]:
    """Elements with charges, and bond orders [n, n], of a molecule in Kekulé's form."""
    copy = Chem.Mol(mol)
    if any(atom.GetAtomicNum() == 1 for atom in copy.GetAtoms()):
        copy = flat(copy)
    try:
        Chem.Kekulize(copy, clearAromaticFlags=True)
    except Chem.KekulizeException:
        raise _refused(mol, "kekulize") from None
    elements = [(atom.GetAtomicNum(), atom.GetFormalCharge()) for atom in copy.GetAtoms()]
    return elements, Chem.GetAdjacencyMatrix(copy, useBO=True, force=True).astype(np.int64)


def _refused(mol: Chem.Mol | None, reason: str, encoder: Graph | None = None) -> SuffuseError:
    name = "the molecule" if mol is None else repr(Chem.MolToSmiles(mol))
    more = ""
    if encoder is not None and reason == "size":
        more = f": {encoder.largest}"
    if encoder is not None and reason == "element":
        more = f", which are {', '.join(encoder.types or ())}"
    return SuffuseError(f"{name} is not taken ({reason}): {REASONS[reason]}{more}")


def _name(element: tuple[int, int]) -> str:
    """
    >>> _name((7, 1)), _name((8, -1)), _name((15, 2)), _name((6, 0))
    ('N+', 'O-', 'P+2', 'C')
    """
    number, charge = element
    symbol = Chem.GetPeriodicTable().GetElementSymbol(number)
    if not charge:
        return symbol
    return symbol + "+-"[charge < 0] + (str(abs(charge)) if abs(charge) > 1 else "")


def _parsed(name: str) -> tuple[int, int]:
    symbol = name.rstrip("+-0123456789")
    rest = name[len(symbol) :]
    charge = (-1 if rest[:1] == "-" else 1) * int(rest[1:] or 1) if rest else 0
    try:
        return Chem.GetPeriodicTable().GetAtomicNumber(symbol), charge
    except RuntimeError:
        raise SuffuseError(
            f"{name!r} is no type of atom; a type is an element with a charge, as in N+ or O-"
        ) from None
