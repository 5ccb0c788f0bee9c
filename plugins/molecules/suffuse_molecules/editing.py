"""New molecules around a known part: decorate, link, hop.

The known part is an observation of the clean state: its atoms, the bonds among them, and that each
attachment point has one single bond to what is new. New atoms have no order, so that point j may as
well bond to new atom j, and no other. In each step of sampling the clean estimate is projected onto
it, so that with a solver that corrupts the estimate afresh (renoise) the known part is noised and
made clean together with the rest, and is there in the end to the letter.

A model of up to N atoms makes molecules of up to N atoms, the known part included.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from rdkit import Chem
from torch import Tensor

from suffuse.diffusion import Noise
from suffuse.diffusion.categorical import NEVER
from suffuse.diffusion.noise import Stream
from suffuse.errors import SuffuseError
from suffuse.model import Model

from .chemistry import REASONS, canonical, parse, problem, quiet, refusal
from .graph import RAW, Graph
from .network import GraphTransformer
from .valence import rings

__all__ = ["Known", "Made", "decorate", "hop", "known_of", "link", "make", "vary"]

ROUNDS = 8
"""How many times as many as are wanted are made, at most, to find different ones that fit."""


@dataclass(frozen=True)
class Known:
    """The part of a molecule that is given.

    Attributes:
        mol: its atoms and bonds, in pieces or in one, without attachment points.
        open: the atoms that bond to what is new, each once for every time it is named; where
            empty, any may that has capacity left, as often as that allows.
        whole: the molecule that it is a part of, which is not made again; None where there is none.
    """

    mol: Chem.Mol
    open: tuple[int, ...] = ()
    whole: Chem.Mol | None = None


@dataclass(frozen=True)
class Made:
    """What came of an edit.

    Attributes:
        molecules: different valid ones that hold the known part, at most as many as wanted.
        tried: how many were sampled; retained: how many of them hold the known part, None where
            there is none.
        raw: how many of them were valid before valence-safe decoding; safe: after it.
        reasons: why graphs were not valid, with how often.
    """

    molecules: list[Chem.Mol]
    tried: int = 0
    retained: int | None = None
    raw: int = 0
    safe: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


def known_of(smiles: str) -> Known:
    """The known part that a SMILES with attachment points ([*:1], [R1] or *) says.

    >>> part = known_of("[*:1]c1ccccc1")
    >>> part.mol.GetNumAtoms(), part.open
    (6, (0,))

    Raises:
        SuffuseError: where the text is no SMILES, has no atoms beside attachment points, or one
            that is bonded by more than a single bond.
    """
    mol = parse(smiles.strip())
    if mol is None:
        raise SuffuseError(
            f"{smiles!r} is no SMILES; a part is written as one with its attachment points, for "
            "instance '[*:1]c1ccccc1'"
        )
    points = {atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() == 0}
    bonds = (bond for i in points for bond in mol.GetAtomWithIdx(i).GetBonds())
    for kind in {bond.GetBondType() for bond in bonds} - {Chem.BondType.SINGLE}:
        raise SuffuseError(
            f"an attachment point is where a single bond to new atoms begins, and {smiles!r} has "
            f"one with a bond that is {str(kind).lower()}"
        )
    with quiet():
        whole = Chem.RWMol(mol)
        Chem.Kekulize(whole, clearAromaticFlags=True)
    for atom in whole.GetAtoms():
        # what an attachment point held is free again
        held = sum(near.GetIdx() in points for near in atom.GetNeighbors())
        if held and atom.GetIdx() not in points:
            atom.SetNoImplicit(False)
            atom.SetNumExplicitHs(0)
            atom.SetIntProp("open", held)
    for i in sorted(points, reverse=True):
        whole.RemoveAtom(i)
    with quiet():
        failed = Chem.SanitizeMol(whole, catchErrors=True)
    part = whole.GetMol()
    reason = "unreadable" if failed else refusal(part)
    if reason is not None and reason != "fragments":
        raise SuffuseError(f"the part {smiles!r} is not taken ({reason}): {REASONS[reason]}")
    return Known(part, _opened(part))


def _opened(mol: Chem.Mol) -> tuple[int, ...]:
    """The atoms with the property "open", each as often as it says."""
    atoms = [atom for atom in mol.GetAtoms() if atom.HasProp("open")]
    return tuple(atom.GetIdx() for atom in atoms for _ in range(atom.GetIntProp("open")))


def make(
    model: Model,
    known: Known,
    n: int,
    *,
    atoms: tuple[int, int] | None = None,
    seed: int = 0,
    rounds: int = ROUNDS,
    **settings: Any,
) -> Made:
    """Different molecules that hold a known part.

    The solver is "renoise" where none is given: it draws what is new afresh in every step, until
    that fits the known part.

    Args:
        model: of molecular graphs.
        known: the part.
        n: how many.
        atoms: the least and the most new atoms. Where None, at least one for each attachment
            point, drawn from the sizes in the training data. With fewer, points share an atom.
        seed: of all of it.
        rounds: how many times n are sampled, at most, until there are as many different ones.
        settings: handed to `Model.sample`.

    Raises:
        SuffuseError: where the part is too large for the model, unknown to it, or has no room for
            a bond to what is new.
    """
    settings = {"solver": "renoise", **settings}
    encoder = _encoder(model)
    tokens, bonds, orders = _tokens(encoder, known)
    size = len(tokens)
    room = encoder.largest - size
    least, most = atoms or (max(1, min(len(known.open), room)), room)
    if least < 1 or most < least or size + most > encoder.largest:
        raise SuffuseError(
            f"the known part has {size} atoms and the model makes molecules of up to "
            f"{encoder.largest}, so that it adds 1 to {max(encoder.largest - size, 0)}; asked for "
            f"{least} to {most}"
        )
    free = _free(encoder, tokens, orders)
    if not known.open and not bool((free > 0).any()):
        raise SuffuseError(
            f"no atom of {Chem.MolToSmiles(known.mol)!r} has room for a new bond; a place for one "
            "is marked by [*:1]"
        )
    own = None if known.whole is None else canonical(known.whole)
    # repair leaves the known part alone, and what its attachment points are bonded to
    held = torch.zeros(encoder.largest, encoder.largest, dtype=torch.bool)
    held[:size, : None if known.open else size] = True
    held |= held.T.clone()
    project = _projection(encoder, tokens, bonds, free, known.open, least)
    query = _query([encoder.element(token) for token in tokens], orders, known.open)
    kept: dict[str, Chem.Mol] = {}
    tried = retained = raw = safe = 0
    reasons: dict[str, int] = {}
    for part in range(rounds):
        first = part * n
        sizes = _sizes(encoder, Noise(seed, n, first=first), size + least, size + most)
        # new atoms come after the known ones, whatever joins them
        with _unordered(model), encoder.holding(_largest_ring(orders), held):
            sampled = model.sample(
                n, seed=seed, first=first, sizes=sizes, project=project, **settings
            )
        for mol, wanted in zip(sampled, sizes, strict=True):
            tried += 1
            reason = mol.GetProp(RAW)
            raw += reason == "valid"
            if reason != "valid":
                reasons[reason] = reasons.get(reason, 0) + 1
            sound = problem(mol) is None
            safe += sound
            if sound and mol.HasSubstructMatch(query):
                retained += 1
                # new atoms that nothing joins to a held part are left out, and so is the molecule
                if canonical(mol) != own and mol.GetNumAtoms() == wanted:
                    kept.setdefault(canonical(mol), mol)
        if len(kept) >= n:
            break
    return Made([*kept.values()][:n], tried, retained, raw, safe, reasons)


def decorate(model: Model, scaffold: str, n: int = 16, **settings: Any) -> Made:
    """Molecules with new groups at the attachment points of a scaffold; see `make`.

    Where the scaffold marks no attachment point, any atom with a hydrogen may get a group.
    """
    return make(model, known_of(scaffold), n, **settings)


def link(model: Model, parts: str | Sequence[str], n: int = 16, **settings: Any) -> Made:
    """Molecules in which new atoms join two or more parts, "A|B" or a list; see `make`."""
    pieces = parts.split("|") if isinstance(parts, str) else list(parts)
    if len(pieces) < 2:
        raise SuffuseError(
            f"linking takes two parts or more, for instance '[*:1]CO|[*:1]CN'; given {parts!r}"
        )
    found = [known_of(piece) for piece in pieces]
    whole, opened = found[0].mol, list(found[0].open)
    for piece in found[1:]:
        opened += [whole.GetNumAtoms() + i for i in piece.open]
        whole = Chem.CombineMols(whole, piece.mol)
    return make(model, Known(whole, tuple(opened)), n, **settings)


def hop(model: Model, molecule: str, keep: str, n: int = 16, **settings: Any) -> Made:
    """Molecules that keep what a SMARTS matches of a molecule, and replace the rest; see `make`.

    The molecule itself is left out. As many new atoms as are replaced, unless `atoms` says
    otherwise; they bond to the atoms that the replaced ones were bonded to.
    """
    with quiet():
        mol, pattern = parse(molecule), Chem.MolFromSmarts(keep)
    if mol is None or pattern is None:
        raise SuffuseError(
            f"hop takes a SMILES and a SMARTS of what to keep; given {molecule!r} and {keep!r}"
        )
    reason = refusal(mol)
    if reason is not None:
        raise SuffuseError(f"{molecule!r} is not taken ({reason}): {REASONS[reason]}")
    matched = {i for match in mol.GetSubstructMatches(pattern) for i in match}
    if not matched or len(matched) == mol.GetNumAtoms():
        raise SuffuseError(
            f"{keep!r} matches {'all' if matched else 'nothing'} of {molecule!r}, so there is "
            f"nothing to {'replace' if matched else 'keep'}"
        )
    whole = Chem.RWMol(mol)
    Chem.Kekulize(whole, clearAromaticFlags=True)
    for i in matched:
        near = {atom.GetIdx() for atom in whole.GetAtomWithIdx(i).GetNeighbors()}
        if near - matched:
            whole.GetAtomWithIdx(i).SetIntProp("open", len(near - matched))
            whole.GetAtomWithIdx(i).SetNumExplicitHs(0)
    replaced = sorted(set(range(mol.GetNumAtoms())) - matched, reverse=True)
    for i in replaced:
        whole.RemoveAtom(i)
    with quiet():
        Chem.SanitizeMol(whole, catchErrors=True)
    opened = _opened(whole.GetMol())
    settings = {"atoms": (len(replaced), len(replaced)), **settings}
    return make(model, Known(whole.GetMol(), opened, mol), n, **settings)


def vary(
    model: Model,
    molecule: str,
    strength: float = 0.4,
    n: int = 16,
    *,
    seed: int = 0,
    **settings: Any,
) -> Made:
    """Molecules like one: it is noised to a part, and made clean again; itself is left out.

    The solver is "ancestral" where none is given: renoising draws all tokens anew in every step,
    and so wanders away from the molecule at any strength.

    Args:
        model: of molecular graphs.
        molecule: a SMILES.
        strength: in (0, 1], how far it is noised; 1 forgets it but for its size.
        n: how many different ones are wanted.
        seed, settings: as for `make`.
    """
    encoder, mol = _encoder(model), parse(molecule)
    reason = encoder.refusal(mol)
    if mol is None or reason is not None:
        raise SuffuseError(
            f"{molecule!r} is not taken by this model ({reason}): {REASONS[reason or 'unreadable']}"
        )
    settings = {"solver": "ancestral", **settings}
    kept: dict[str, Chem.Mol] = {}
    own, tried, raw, safe = canonical(mol), 0, 0, 0
    reasons: dict[str, int] = {}
    for part in range(ROUNDS):
        # a seed of its own for every round: a variation takes its noise from sample i of a seed
        seeds = [seed + (part * n + i << 32) for i in range(n)]
        with encoder.holding(_largest_ring(encoder.tokens(mol)[2])):
            varied = model.vary([mol] * n, strength, seed=seeds, **settings)
        for made in varied:
            tried += 1
            found = made.GetProp(RAW)
            raw += found == "valid"
            if found != "valid":
                reasons[found] = reasons.get(found, 0) + 1
            sound = problem(made) is None
            safe += sound
            if sound and canonical(made) != own:
                kept.setdefault(canonical(made), made)
        if len(kept) >= n:
            break
    return Made([*kept.values()][:n], tried, None, raw, safe, reasons)


def _unordered(model: Model) -> Any:
    backbone = model.network.backbone
    return backbone.unordered() if isinstance(backbone, GraphTransformer) else nullcontext()


def _largest_ring(orders: Tensor) -> int:
    """The most atoms of a ring of known bonds [k, k]."""
    return max(map(len, rings(orders.numpy())), default=0)


def _encoder(model: Model) -> Graph:
    if not isinstance(model.encoder, Graph):
        raise SuffuseError(
            "this edits molecular graphs, and the model's encoder is "
            f"{model.recipe.encoder['name']!r}"
        )
    return model.encoder


def _tokens(encoder: Graph, known: Known) -> tuple[list[int], Tensor, Tensor]:
    """Tokens of the known part's atoms [k] and bonds [k, k], and these' orders [k, k]."""
    reason = encoder.refusal(known.mol)
    if reason == "fragments":  # parts to be linked are in pieces, each of which is asked for
        found = {encoder.refusal(piece) for piece in Chem.GetMolFrags(known.mol, asMols=True)}
        reason = next(iter(found - {None}), None)
        if reason is None and known.mol.GetNumHeavyAtoms() > encoder.largest:
            reason = "size"
    if reason is not None:
        raise SuffuseError(
            f"the known part {Chem.MolToSmiles(known.mol)!r} is not taken by this model "
            f"({reason}): {REASONS[reason]}"
        )
    return encoder.tokens(known.mol)


def _free(encoder: Graph, tokens: list[int], orders: Tensor) -> Tensor:
    """What the valences of the known atoms leave, [k]."""
    assert encoder.capacity is not None
    return torch.tensor([encoder.capacity[token] for token in tokens]) - orders.sum(1)


def _projection(
    encoder: Graph,
    tokens: list[int],
    known: Tensor,
    free: Tensor,
    opened: Sequence[int],
    least: int,
) -> Any:
    """(clean estimate, x_t, t) -> the estimate in which the known part is certain.

    `least` new atoms are there for sure, to which the attachment points are bonded in turn.
    """
    assert encoder.types is not None
    k, n = len(tokens), encoder.largest
    kinds = max(len(encoder.types), 2)
    atoms = torch.zeros(n, kinds)
    atoms[:k] = NEVER
    atoms[range(k), tokens] = 0
    bonds = torch.zeros(n, n, encoder.orders)
    bonds[:k, :k] = NEVER
    bonds[:k, :k].scatter_(-1, known[..., None], 0.0)
    # a known atom's bond to a new one is at most what its valence leaves
    least_order = torch.tensor([0, 1, 2, 3, 1][: encoder.orders])
    over = least_order > free[:, None]
    bonds[:k, k:][over[:, None].expand(k, n - k, encoder.orders)] = NEVER
    if opened:
        bonds[:k, k:, 1:] = NEVER
        for j, i in enumerate(opened):
            bonds[i, k + j % least] = NEVER
            bonds[i, k + j % least, 1] = 0.0
    bonds[k:, :k] = bonds[:k, k:].transpose(0, 1)
    certain = {"atoms": atoms == NEVER, "bonds": bonds == NEVER}
    fixed = {"atoms": torch.arange(n) < k}
    fixed["bonds"] = fixed["atoms"][:, None] & fixed["atoms"][None, :]

    def project(estimate: Any, x_t: Any, t: Any) -> Any:
        out = dict(estimate)  # the coordinates of a model in space stay as they are
        for name, where in fixed.items():
            logits = estimate[name]
            plain = torch.where(where[..., None].to(logits.device), 0.0, logits)
            out[name] = plain.masked_fill(certain[name].to(logits.device), NEVER)
        return out

    return project


def _sizes(encoder: Graph, noise: Noise, least: int, most: int) -> list[int]:
    """Sizes from the training data's distribution between two bounds; even where it has none."""
    assert encoder._sizes is not None
    weights = torch.tensor(encoder._sizes[least - 1 : most], dtype=torch.float64)
    weights = weights if weights.sum() > 0 else torch.ones_like(weights)
    cdf = weights.cumsum(0)
    u = noise.uniform((1,), step=2, stream=Stream.PRIOR)[:, 0]
    found: list[int] = (torch.searchsorted(cdf, u * cdf[-1], right=True) + least).tolist()
    return found


def _query(tokens: Sequence[tuple[int, int]], orders: Tensor, opened: Sequence[int]) -> Chem.Mol:
    """The known part as a pattern: elements, charges, and orders that may have become aromatic.

    Where there are attachment points, an atom has at most as many new neighbours as it has of them.
    """
    query = Chem.RWMol()
    for i, (number, charge) in enumerate(tokens):
        degree = int((orders[i] > 0).sum())
        bound = f"D{{{degree}-{degree + opened.count(i)}}}" if opened else ""
        query.AddAtom(Chem.AtomFromSmarts(f"[#{number}{charge:+d}{bound}]"))
    for i, j in orders.triu().nonzero().tolist():
        bond = query.AddBond(i, j, Chem.BondType.SINGLE) - 1
        query.ReplaceBond(
            bond, Chem.BondFromSmarts({1: "-,:", 2: "=,:", 3: "#"}[int(orders[i, j])])
        )
    return query.GetMol()
