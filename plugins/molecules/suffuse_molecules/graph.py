"""Molecules as dense graphs: a token for each atom and one for each pair of atoms.

A state is the mapping

    atoms  int64 [B, N]      the type of an atom, element and charge: an index into `types`
    bonds  int64 [B, N, N]   the order of a bond, 0 (none) to 3; symmetric, 0 on the diagonal

of molecules with up to N heavy atoms, with 0 beyond a molecule's own size. What is kept and what is
dropped: see `suffuse_molecules.chemistry`. Aromatic rings are written in one of two ways:

**Kekulé's form.** Bonds are single and double in turn. A token is an order, and valences are sums
of tokens; but a ring of six has two such forms, and which is meant no atom knows by itself.

**Aromatic bonds** have a token of their own, 4, as in SMILES. Which of them are double follows from
the valences once it is known which atoms give a pair of electrons to their ring, as the nitrogen of
pyrrole does and that of pyridine does not. Where the element does not tell, the atom's type does:
"N:" is a nitrogen that gives its pair, and has a hydrogen if nothing else is bonded to it. So
tautomers stay apart. A graph whose aromatic bonds allow no Kekulé form is no valid molecule.

A state that a sampler has made also tells how sure its last estimate was, in the part
"bond_logits" [B, N, N, K] (`suffuse_molecules.process`). Valence-safe decoding goes by it, and
leaves other states as they are: those on the way from noise.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
from .valence import admit, join, localized, open_rings, pieces, rings, unstable

__all__ = ["AROMATIC", "ORDERS", "RAW", "STABLE", "Graph"]

ORDERS = 4
"""Orders of a bond: none, single, double, triple."""

AROMATIC = 4
"""The token of aromatic bonds, for encoders that have one."""

RAW = "_raw"
"""The property of a decoded molecule that says what its graph was before it was made safe: "valid",
or the code of the reason why not."""

STABLE = "_stable"
"""The property of a decoded molecule that says how many atoms of its graph were stable, of how
many: "8/9"."""

_BONDS = {
    1: Chem.BondType.SINGLE,
    2: Chem.BondType.DOUBLE,
    3: Chem.BondType.TRIPLE,
    AROMATIC: Chem.BondType.AROMATIC,
}
_CHALCOGENS = {8, 16, 34, 52}  # in an aromatic ring they always give a pair of electrons

Element = tuple[int, int, bool]
"""Atomic number, charge, and whether the atom gives its pair of electrons to an aromatic ring."""


class Graph:
    """Encoder between rdkit molecules and dense graphs.

    Args:
        types: the atoms' types, for instance ["C", "N", "N+", "N:"]. Like the arguments after it,
            it is measured by `fit` where it is not given.
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
        aromatic: whether aromatic bonds have a token of their own; else Kekulé's form is written.

    >>> from suffuse_molecules.chemistry import canonical, parse
    >>> graph = Graph(["C", "O"], [4, 2], [0, 1, 1], [3, 1], [4, 2, 1, 1])
    >>> state = graph.encode([parse("CC=O")])
    >>> state["atoms"].tolist(), state["bonds"][0].tolist()
    ([[0, 0, 1]], [[0, 1, 0], [1, 0, 2], [0, 2, 0]])
    >>> canonical(graph.decode(state, torch.tensor([3]))[0])
    'CC=O'
    >>> graph = Graph(["C", "N:"], [4, 3], [0, 0, 0, 0, 1], [4, 1], [5, 0, 0, 0, 5], aromatic=True)
    >>> state = graph.encode([parse("c1cc[nH]c1")])
    >>> state["atoms"].tolist(), state["bonds"][0, 0].tolist()
    ([[0, 0, 0, 1, 0]], [0, 4, 0, 0, 4])
    >>> canonical(graph.decode(state, torch.tensor([5]))[0])
    'c1cc[nH]c1'
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
        aromatic: bool = False,
    ) -> None:
        self.types, self.capacity, self._sizes = types, capacity, sizes
        self.atoms, self.bonds = atoms, bonds
        self.decoding, self.largest_ring, self.aromatic = decoding, largest_ring, aromatic
        if bonds is not None and len(bonds) != self.orders:
            raise SuffuseError(
                f"an encoder {'with' if aromatic else 'without'} aromatic bonds has frequencies of "
                f"{self.orders} tokens of bonds; given {len(bonds)}"
            )
        self._held: Any = None
        if types is not None:
            self._elements = [_parsed(name) for name in types]
            self._index = {element: i for i, element in enumerate(self._elements)}
            lengths = [len(k) for k in (capacity, atoms) if k is not None]
            if any(n != len(types) for n in lengths):
                raise SuffuseError(
                    f"the encoder knows {len(types)} types of atoms; its capacities and "
                    f"frequencies have {lengths}"
                )

    @property
    def orders(self) -> int:
        """How many values a bond's token has."""
        return ORDERS + self.aromatic

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
        types: Counter[Element] = Counter()
        capacity: dict[Element, int] = {}
        sizes: Counter[int] = Counter()
        bonds = np.zeros(self.orders, dtype=np.int64)
        ring = 0
        for i in range(len(dataset)):
            elements, tokens, orders = self._read(dataset[i].data)
            n = len(elements)
            sizes[n] += 1
            ring = max(ring, *map(len, Chem.GetSymmSSSR(dataset[i].data)), 0)
            for element, total in zip(elements, orders.sum(1).tolist(), strict=True):
                types[element] += 1
                capacity[element] = max(capacity.get(element, 0), total)
            bonds += np.bincount(tokens[np.triu_indices(n, 1)], minlength=self.orders)
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
            "aromatic": self.aromatic,
        }
        self.__init__(**found, decoding=self.decoding)  # type: ignore[misc]
        return found

    def raw(self) -> Self:
        """The same encoder, but that its `decode` repairs nothing."""
        other = copy.copy(self)
        other.decoding = "raw"
        return other

    @contextmanager
    def holding(self, largest_ring: int, held: Tensor | None = None) -> Iterator[None]:
        """Within this context repair leaves rings of a size whole, and pairs of atoms alone.

        Args:
            largest_ring: the most atoms of a ring that stays, where rings have a limit at all.
            held: which pairs are left as they are, bool [N, N], symmetric; none where None.
        """
        before = self.largest_ring
        self._held = None if held is None else held.numpy()
        self.largest_ring = None if before is None else max(before, largest_ring)
        try:
            yield
        finally:
            self._held, self.largest_ring = None, before

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
            elements, tokens, _ = self._read(mol)
            size = len(elements)
            atoms[row, :size] = [self._index[element] for element in elements]
            bonds[row, :size, :size] = tokens
        return {"atoms": torch.from_numpy(atoms), "bonds": torch.from_numpy(bonds)}

    def element(self, token: int) -> tuple[int, int]:
        """The atomic number and the charge that a token stands for; 0 for a mask."""
        return self._element(token)[:2]

    def _element(self, token: int) -> Element:
        if token >= max(len(self._elements), 2):
            return 0, 0, False
        return self._elements[min(token, len(self._elements) - 1)]

    def tokens(self, mol: Chem.Mol) -> tuple[list[int], Tensor, Tensor]:
        """The tokens of a molecule's atoms [n] and bonds, and these' orders, int64 [n, n] each."""
        elements, tokens, orders = self._read(mol)
        atoms = [self._index[element] for element in elements]
        return atoms, torch.from_numpy(tokens), torch.from_numpy(orders)

    def refusal(self, mol: Chem.Mol | None) -> str | None:
        """Why this encoder does not take a molecule, as a code of `REASONS`; else None."""
        reason = refusal(mol)
        if reason is not None or self.types is None:
            return reason
        assert mol is not None
        if mol.GetNumHeavyAtoms() > self.largest:
            return "size"
        try:
            elements, _, _ = self._read(mol)
        except SuffuseError:
            return "kekulize"
        return None if all(element in self._index for element in elements) else "element"

    def decode(self, x: Mapping[str, Tensor], sizes: Tensor) -> list[Chem.Mol]:
        """Molecules from graphs, each with the properties `RAW` and `STABLE`.

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
        """The molecule of tokens of atoms [n] and bonds [n, n] as they are, not sanitised."""
        mol = Chem.RWMol()
        for token in atoms:
            number, charge, _ = self._element(token)
            atom = Chem.Atom(number)
            atom.SetFormalCharge(charge)
            mol.AddAtom(atom)
        for i, j in zip(*np.nonzero(np.triu(orders, 1)), strict=True):
            token = int(orders[i, j])
            if token < self.orders:  # beyond is the mask of absorbing kernels
                bond = mol.AddBond(int(i), int(j), _BONDS[token]) - 1
                if token == AROMATIC:
                    mol.GetBondWithIdx(bond).SetIsAromatic(True)
                    for end in (i, j):
                        mol.GetAtomWithIdx(int(end)).SetIsAromatic(True)
        for token, atom in zip(atoms, mol.GetAtoms(), strict=True):
            number, charge, gives = self._element(token)
            if gives and atom.GetIsAromatic():
                # no double bond is at this atom, whose valence is that of its isoelectronic element
                valence = Chem.GetPeriodicTable().GetDefaultValence(number - charge)
                atom.SetNumExplicitHs(max(0, valence - atom.GetDegree()))
        return mol.GetMol()

    def _molecule(
        self, atoms: list[int], orders: Any, logits: Tensor | None
    ) -> tuple[Chem.Mol, Any]:
        """A molecule, and which of the atoms it has."""
        mol = self.build(atoms, orders)
        reason = problem(mol)
        stable = len(atoms) - (len(unstable(mol)) if reason else 0)
        keep = np.arange(len(atoms))
        if self.decoding == "safe" and logits is not None and self._unfit(orders, reason):
            orders = self._repaired(atoms, orders, logits, mol if reason is None else None)
            label = pieces(orders)
            # the piece with the most of what is held, and of several the largest
            worth = 1 + len(atoms) * self._fixed(len(atoms)).sum(1)
            keep = np.flatnonzero(label == np.bincount(label, worth).argmax())
            mol = self.build([atoms[i] for i in keep], orders[np.ix_(keep, keep)])
        if problem(mol) is None:
            with quiet():
                Chem.SanitizeMol(mol)
        else:
            mol.UpdatePropertyCache(strict=False)
        mol.SetProp(RAW, reason or "valid")
        mol.SetProp(STABLE, f"{stable}/{len(atoms)}")
        return mol, keep

    def _unfit(self, orders: Any, reason: str | None) -> bool:
        """Whether a graph is no valid molecule, or has a ring that is too large."""
        most = self.largest_ring
        return reason is not None or (
            most is not None and any(len(ring) > most for ring in rings(orders))
        )

    def _repaired(
        self, atoms: list[int], tokens: Any, logits: Tensor, valid: Chem.Mol | None
    ) -> Any:
        """Orders of Kekulé's form within all limits; `valid` is the molecule if it is one."""
        assert self.capacity is not None
        capacity = [self.capacity[min(token, len(self.capacity) - 1)] for token in atoms]
        p = logits.softmax(-1).numpy()
        confidence = np.take_along_axis(p, tokens[..., None], -1)[..., 0]
        if valid is not None:
            with quiet():
                Chem.SanitizeMol(valid)
            orders = _kekulized(valid)
        else:
            gives = np.array([self._element(token)[2] for token in atoms])
            carbon = np.array([self._element(token)[0] == 6 for token in atoms])
            orders = localized(tokens, AROMATIC, capacity, confidence, gives, carbon)
        held = self._fixed(len(atoms))
        confidence[held] = np.inf
        if valid is None:
            orders = admit(orders, capacity, confidence)
        if self.largest_ring is not None:
            orders = open_rings(orders, confidence, self.largest_ring)
        return join(orders, capacity, np.where(held, np.inf, 1 - p[..., 0]), self.largest_ring)

    def _fixed(self, n: int) -> Any:
        """The pairs of n atoms that repair leaves alone, bool [n, n]."""
        return np.zeros((n, n), bool) if self._held is None else self._held[:n, :n]

    def _read(self, mol: Chem.Mol) -> tuple[list[Element], Any, Any]:
        """Elements, and bonds as tokens and in Kekulé's form, int64 [n, n] each.

        Raises:
            SuffuseError: where an aromatic ring has no Kekulé form.
        """
        bare = Chem.Mol(mol)
        if any(atom.GetAtomicNum() == 1 for atom in bare.GetAtoms()):
            bare = flat(bare)
        try:
            orders = _kekulized(bare)
        except Chem.KekulizeException:
            raise _refused(mol, "kekulize") from None
        tokens, gives = orders, [False] * len(orders)
        if self.aromatic:
            tokens = orders.copy()
            for bond in bare.GetBonds():
                if bond.GetIsAromatic():
                    i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
                    tokens[i, j] = tokens[j, i] = AROMATIC
            lone = (tokens == AROMATIC).any(1) & (orders.max(1, initial=0) == 1)
            gives = [
                bool(k) and atom.GetAtomicNum() not in _CHALCOGENS
                for k, atom in zip(lone, bare.GetAtoms(), strict=True)
            ]
        elements = [
            (atom.GetAtomicNum(), atom.GetFormalCharge(), k)
            for atom, k in zip(bare.GetAtoms(), gives, strict=True)
        ]
        return elements, tokens, orders


def _kekulized(mol: Chem.Mol) -> Any:
    """Bond orders of a molecule in Kekulé's form, int64 [n, n]; it is not written to."""
    other = Chem.Mol(mol)
    Chem.Kekulize(other, clearAromaticFlags=True)
    return Chem.GetAdjacencyMatrix(other, useBO=True, force=True).astype(np.int64)


def _refused(mol: Chem.Mol | None, reason: str, encoder: Graph | None = None) -> SuffuseError:
    name = "the molecule" if mol is None else repr(Chem.MolToSmiles(mol))
    more = ""
    if encoder is not None and reason == "size":
        more = f": {encoder.largest}"
    if encoder is not None and reason == "element":
        more = f", which are {', '.join(encoder.types or ())}"
    return SuffuseError(f"{name} is not taken ({reason}): {REASONS[reason]}{more}")


def _name(element: Element) -> str:
    """
    >>> _name((7, 1, False)), _name((8, -1, False)), _name((15, 2, False)), _name((7, 0, True))
    ('N+', 'O-', 'P+2', 'N:')
    """
    number, charge, gives = element
    name = Chem.GetPeriodicTable().GetElementSymbol(number)
    if charge:
        name += "+-"[charge < 0] + (str(abs(charge)) if abs(charge) > 1 else "")
    return name + ":" * gives


def _parsed(name: str) -> Element:
    found = re.fullmatch(r"([A-Z][a-z]?)(?:([+-])(\d*))?(:?)", name)
    if found is not None:
        symbol, sign, size, gives = found.groups()
        charge = (-1 if sign == "-" else 1) * int(size or 1) if sign else 0
        with suppress(RuntimeError):
            return Chem.GetPeriodicTable().GetAtomicNumber(symbol), charge, bool(gives)
    raise SuffuseError(
        f"{name!r} is no type of atom; a type is an element with a charge, as in N+ or O-"
    )
