"""Guidance by resampling: of several clean graphs, one that is a molecule, and the nearest.

A clean estimate is a distribution of graphs whose tokens are independent, so that many a graph
drawn from it is none: half a double bond, a ring that its atoms did not agree on. So several are
drawn, and the first that is a valid molecule becomes the estimate; where properties are asked for,
they are computed, not predicted, and the nearest molecule is taken. That is importance resampling
of p(x_0 | x_t) p(y | x_0) with the estimate as the proposal, y being that x_0 is a molecule, and a
narrow p(y | x_0) of its properties. Nothing has to be differentiable.

Source: for the weights, Wu et al., "Practical and asymptotically exact conditional sampling in
diffusion models" (2023), arXiv 2306.17775, section 3; here the best of the draws is taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from rdkit import Chem
from torch import Tensor

from suffuse.diffusion import Noise
from suffuse.diffusion.noise import Stream
from suffuse.diffusion.process import Denoiser
from suffuse.errors import SuffuseError

from .chemistry import problem, quiet
from .graph import AROMATIC, Graph
from .properties import PROPERTIES, property_of

__all__ = ["resample"]

_SURE = 30.0
"""Added to the logits of the tokens that were chosen."""
_MIX = -7046029254386353131  # 2^64 divided by the golden ratio, as an int64


def resample(
    denoiser: Denoiser,
    encoder: Graph,
    conditioners: Mapping[str, Any],
    *,
    draws: int = 4,
    tries: int = 16,
    below: float = 0.6,
) -> Denoiser:
    """The denoiser, with its estimate replaced by the best of several graphs drawn from it.

    States that are no graphs are left alone.

    Args:
        denoiser: of molecular graphs, guided or not.
        encoder: of the model.
        conditioners: of the model; those that are numbers and properties of
            `suffuse_molecules.properties` are looked at.
        draws: graphs in each step of which the nearest is taken, where a property is asked for.
        tries: graphs in each step, at most, or draws where that is more, until one is a molecule.
            Where none is, the estimate stays.
        below: at times above this one the estimate stays: few draws are molecules there.

    Raises:
        SuffuseError: for another encoder, or fewer than two draws or tries.
    """
    if not isinstance(encoder, Graph):
        raise SuffuseError("'molecules/resample' guides models of molecular graphs")
    if min(draws, tries) < 2 or not 0 < below <= 1:
        raise SuffuseError(
            "draws and tries are 2 or more and below a time in (0, 1]; given "
            f"{draws}, {tries} and {below}"
        )
    names = [n for n in conditioners if n in PROPERTIES and hasattr(conditioners[n], "scale")]

    def guided(x_t: Any, t: Any, **conditions: Any) -> Any:
        estimate: Any = denoiser(x_t, t, **conditions)
        time = t["bonds"] if isinstance(t, Mapping) else t
        asked = {name: conditions[name] for name in names if name in conditions}
        wanted = torch.stack([*asked.values()], -1) if asked else torch.empty(len(time), 0)
        rows = (time <= below).nonzero()[:, 0]
        if not len(rows) or not isinstance(x_t, Mapping):
            return estimate
        mask = conditions.get("mask")
        sizes = None if mask is None else mask["atoms"].sum(1).tolist()
        seeds = _seeds(x_t, time, rows)
        best: dict[int, tuple[float, Tensor, Tensor]] = {}
        for k in range(max(draws, tries)):
            source = Noise([*seeds.values()]).branch(str(k))
            drawn = _drawn(estimate, torch.tensor([*seeds]), source)
            for row, atoms, bonds in zip(seeds, *drawn, strict=True):
                n = len(atoms) if sizes is None else sizes[row]
                graph = atoms[:n], bonds[:n, :n]
                error = _error(encoder, *graph, list(asked), wanted[row], conditioners)
                if error < best.get(row, (math.inf,))[0]:
                    best[row] = error, *graph
            nearer = k + 1 < draws
            seeds = {i: s for i, s in seeds.items() if i not in best or (nearer and best[i][0] > 0)}
            if not seeds:
                break
        out = {name: estimate[name].clone() for name in ("atoms", "bonds")}
        for row, (_, atoms, bonds) in best.items():
            n = len(atoms)
            out["atoms"][row, :n].scatter_add_(-1, atoms[..., None], _sure(atoms, estimate))
            out["bonds"][row, :n, :n].scatter_add_(-1, bonds[..., None], _sure(bonds, estimate))
        return {**estimate, **out}

    return guided


def _sure(tokens: Tensor, like: Any) -> Tensor:
    return torch.full((*tokens.shape, 1), _SURE).to(like["atoms"])


def _seeds(x_t: Mapping[str, Tensor], time: Tensor, rows: Tensor) -> dict[int, int]:
    """A seed for each row, of the noisy graph and its time, so that a batch changes nothing."""
    seeds = {}
    for row in rows.tolist():
        number = round(1e6 * float(time[row]))
        kept = [*x_t["atoms"][row].tolist(), *x_t["bonds"][row].flatten().tolist()]
        for token in kept:
            number = ((number ^ token) * _MIX + 1) & 0xFFFFFFFFFFFFFFFF
        seeds[row] = number
    return seeds


def _drawn(estimate: Mapping[str, Tensor], rows: Tensor, source: Noise) -> tuple[Tensor, Tensor]:
    """Tokens of atoms [R, N] and of bonds [R, N, N], symmetric, drawn from the logits of rows."""
    atoms, bonds = (
        _inverted(estimate[name][rows], source.branch(name)) for name in ("atoms", "bonds")
    )
    upper = bonds.triu(1)
    return atoms, upper + upper.mT


def _inverted(logits: Tensor, source: Noise) -> Tensor:
    u = source.uniform(tuple(logits.shape[1:-1]), step=0, stream=Stream.GUIDANCE)
    below = logits.double().softmax(-1).cumsum(-1)[..., :-1].cpu() <= u[..., None]
    return below.sum(-1).to(logits.device)


def _error(
    encoder: Graph,
    atoms: Tensor,
    bonds: Tensor,
    names: list[str],
    wanted: Tensor,
    conditioners: Mapping[str, Any],
) -> float:
    """The squared distance to what is wanted, in the conditions' scales; inf for no molecule."""
    assert encoder.capacity is not None
    tokens = atoms.tolist()
    most = torch.tensor([encoder.capacity[min(k, len(encoder.capacity) - 1)] for k in tokens])
    least = torch.where(bonds == AROMATIC, 1, bonds).sum(1)
    if bool((least.cpu() > most).any()):
        return math.inf
    mol = encoder.build(tokens, bonds.cpu().numpy())
    if problem(mol) is not None:
        return math.inf
    with quiet():
        Chem.SanitizeMol(mol)
    total = 0.0
    for name, value in zip(names, wanted.tolist(), strict=True):
        if value == value:  # not asked for is NaN
            scale = conditioners[name]
            total += ((property_of(mol, name) - scale.mean) / scale.scale - value) ** 2
    return total if total == total else math.inf
