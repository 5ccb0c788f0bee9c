r"""The pose of a ligand in a known pocket, sampled on R³ × SO(3) × torus.

Many poses at once: conformers of ETKDG, which fix rings, bond lengths and angles, are put into the
box with random places, rotations and torsions, and

1. **Langevin's steps at a falling temperature**: along the forces of the scoring function, with
   noise, geodesics taking the place of straight steps;
2. **renoising**: a pose is corrupted on the three spaces (normal, IGSO3, wrapped normal) by an
   amount that falls from round to round, made clean again by minimising, and kept or not by
   Metropolis' rule; between the rounds the worst give way to the best;
3. **minimising** what is left, first with maps and then with all pairs.

Nothing is learned: the scoring function (`suffuse_molecules.scoring`) stands in for the score of a
trained model, so no target has been seen.

Sources: Corso et al., "DiffDock" (2022), arXiv 2210.01776, for the product space; Trott, Olson
(2010) for search by perturbing and minimising.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rdkit import Chem
from rdkit.Chem import rdMolAlign
from torch import Tensor

from suffuse.diffusion import Noise, schedules
from suffuse.diffusion.noise import Stream
from suffuse.errors import SuffuseError

from .chemistry import implicit
from .conformers import conformers
from .flexible import Flexible, Motion, flexible
from .maps import Energy, Exact, Mapped
from .minimising import minimise
from .receptor import Box, Receptor
from .scoring import affinity
from .so3 import Rotations
from .torus import Torus

__all__ = ["Pose", "Search", "dock"]

_CLOCK = schedules.edm(sigma_max=np.pi, rho=1.0)
_ROTATIONS, _TORUS = Rotations(_CLOCK), Torus(_CLOCK)
_STEP = 3


@dataclass(frozen=True)
class Search:
    """How long and how wide is searched.

    Attributes:
        starts: poses at once.
        conformers: of ETKDG, among which they are spread.
        langevin: steps of the first phase; hot, cold: its temperatures, in kcal/mol.
        rounds: of renoising; each minimises for `descent` steps.
        wide, narrow: how far renoising goes in the first and the last round: Å, and radians.
        kept: poses that are minimised to the end.
        apart: Å between poses that are told apart.
    """

    starts: int = 256
    conformers: int = 16
    langevin: int = 60
    hot: float = 2.0
    cold: float = 0.3
    rounds: int = 24
    descent: int = 15
    wide: float = 1.5
    narrow: float = 0.3
    kept: int = 24
    apart: float = 1.0


@dataclass(frozen=True)
class Pose:
    """A pose that was found.

    Attributes:
        mol: with hydrogens, in the receptor's frame.
        affinity: by the scoring function, in kcal/mol.
        energy: by which poses are ranked: with the receptor, and within the ligand where its own
            atoms clash, kcal/mol.
    """

    mol: Chem.Mol
    affinity: float
    energy: float


def dock(
    mol: Chem.Mol,
    receptor: Receptor,
    box: Box,
    k: int = 9,
    *,
    seed: int = 0,
    search: Search | None = None,
    minimised: bool = True,
) -> list[Pose]:
    """Poses of a ligand in a box, the best first.

    Args:
        mol: the ligand, with its charges as they are to be; coordinates are not looked at.
        receptor: the protein.
        box: where its atoms may be.
        k: how many poses, at most.
        seed: of all of it.
        search: how long.
        minimised: to the end with all pairs; else as the rounds left them, which minimise with
            maps, and judged as they lie.

    Raises:
        SuffuseError: for a box without receptor, or a ligand that has no shape or does not fit.
    """
    search = search or Search()
    receptor.check(box)
    shaped = conformers(mol, search.conformers, seed=seed, distinct=0.3)
    ligand = flexible(shaped.mol)
    shapes = torch.tensor(
        np.stack([c.GetPositions() for c in shaped.mol.GetConformers()]), dtype=torch.float32
    )
    mapped = Mapped(ligand, receptor, box)
    noise = Noise(seed, search.starts)
    x = _placed(ligand, shapes, box, noise)
    x = _annealed(ligand, mapped, x, noise, search)
    x, energy = minimise(ligand, mapped, x, 2 * search.descent)
    held = x, energy
    for k_round in range(search.rounds):
        part = k_round / max(search.rounds - 1, 1)
        width = search.wide * (search.narrow / search.wide) ** part
        step = _STEP + search.langevin + k_round
        tried = _noised(ligand, x, width, noise, step)
        tried, after = minimise(ligand, mapped, tried, search.descent)
        u = noise.uniform((2,), step=step, stream=Stream.CORRECT).float()
        gain = energy.total - after.total
        x, energy = _chosen(u[:, 0].log() < gain / search.cold, (tried, after), (x, energy))
        if k_round == search.rounds // 2:
            # while many minima are still held; later rounds gather in the lowest
            held = x, energy
        x, energy = _crowded_out(x, energy, u[:, 1])
    x = torch.cat([x, held[0]])[torch.cat([energy.total, held[1].total]).argsort()]
    return _ranked(ligand, receptor, box, x, k, search, minimised)


def _placed(ligand: Flexible, shapes: Tensor, box: Box, noise: Noise) -> Tensor:
    """The starts: a conformer each, in uniform places, rotations and torsions, [B, N, 3]."""
    count = noise.uniform((4,), step=0, stream=Stream.PRIOR).float()
    x = shapes[(count[:, 0] * len(shapes)).long().clamp(max=len(shapes) - 1)]
    torsions = _TORUS.prior(noise.branch("torsions"), (ligand.rotors,))
    turn = _ROTATIONS.prior(noise.branch("rotation"), (3, 3))
    x = ligand.move(x, Motion(torch.zeros(len(x), 3), torch.zeros(len(x), 3), torsions))
    x = (x - ligand.centre(x)) @ turn.transpose(-1, -2)
    # the middle of the ligand stays in the inner half of the box
    where = box.centre + (count[:, 1:] - 0.5) * box.size * 0.5
    return x + where[:, None]


def _annealed(ligand: Flexible, energy: Mapped, x: Tensor, noise: Noise, search: Search) -> Tensor:
    """Langevin's steps at a temperature that falls from hot to cold."""
    size = 0.02  # Å² mol / kcal
    for i in range(search.langevin):
        heat = search.hot * (search.cold / search.hot) ** (i / max(search.langevin - 1, 1))
        scale = ligand.inertia(x).rsqrt()
        pull = ligand.pull(x, energy(x).force).flat() * scale
        drift = size * pull
        # clashes push without measure
        drift = drift * (1.0 / drift.norm(dim=1, keepdim=True).clamp(min=1.0))
        z = noise.normal((drift.shape[1],), step=_STEP + i, stream=Stream.STEP)
        x = ligand.move(x, Motion.of((drift + (2 * size * heat) ** 0.5 * z) * scale))
    return x


def _noised(ligand: Flexible, x: Tensor, width: float, noise: Noise, step: int) -> Tensor:
    """Poses corrupted on the three spaces, by about the same way of their atoms in each."""
    sigma = torch.tensor(min(width / 1.5, np.pi))
    z = noise.normal((6 + ligand.rotors,), step=step, stream=Stream.CORRUPT)
    eye = torch.eye(3).expand(len(x), 3, 3)
    zero = torch.zeros(len(x), ligand.rotors)
    turn = _ROTATIONS.log(eye, _ROTATIONS.walk(eye, (0.4 * sigma).expand(len(x), 1), z[:, 3:6]))
    torsions = _TORUS.walk(zero, sigma, z[:, 6:])
    return ligand.move(x, Motion(width * 0.6 * z[:, :3], turn, torsions))


def _chosen(where: Tensor, a: tuple[Tensor, Energy], b: tuple[Tensor, Energy]) -> Any:
    x = torch.where(where[:, None, None], a[0], b[0])
    pairs = zip(a[1], b[1], strict=True)
    parts = [torch.where(where.reshape(-1, *[1] * (p.ndim - 1)), p, q) for p, q in pairs]
    return x, Energy(*parts)


def _crowded_out(x: Tensor, energy: Energy, u: Tensor) -> tuple[Tensor, Energy]:
    """The worst sixteenth gives way to draws from the best quarter."""
    order = energy.total.argsort()
    few = len(x) // 16
    best = order[: max(len(x) // 4, 1)]
    source = torch.arange(len(x))
    worst = order[len(x) - few :]
    source[worst] = best[(u[worst] * len(best)).long().clamp(max=len(best) - 1)]
    return x[source], Energy(*(part[source] for part in energy))


def _ranked(
    ligand: Flexible,
    receptor: Receptor,
    box: Box,
    x: Tensor,
    k: int,
    search: Search,
    minimised: bool,
) -> list[Pose]:
    """The best of poses in the order of their energies by maps, judged with all pairs."""
    heavy = implicit(ligand.mol)
    x = x[_distinct(heavy, ligand, x, search.kept, search.apart / 2)]
    exact = Exact.of(ligand, receptor, box)
    x, judged = minimise(ligand, exact, x, 2 * search.descent) if minimised else (x, exact(x))
    # what the ligand's own pairs win in a folded shape, it would win without the receptor too
    rank = judged.between + judged.within.clamp(min=0)
    order = rank.argsort()
    if not bool(torch.isfinite(rank[order[0]])) or judged.between[order[0]] > 0:
        raise SuffuseError(
            "no pose without clashes was found: the box may be too small for the ligand, or lie "
            "inside the receptor; a larger box or padding helps"
        )
    kept = [order[i] for i in _distinct(heavy, ligand, x[order], k, search.apart)]
    between = affinity(judged.between, ligand.rotors)
    return [Pose(_with(ligand.mol, x[i]), float(between[i]), float(rank[i])) for i in kept]


def _distinct(heavy: Chem.Mol, ligand: Flexible, x: Tensor, most: int, apart: float) -> list[int]:
    """Places of the first poses that are apart from all before, by symmetric RMSD."""
    kept: list[int] = []
    molecules: list[Chem.Mol] = []
    for i in range(len(x)):
        own = _with(heavy, x[i, ligand.heavy])
        near = (
            rdMolAlign.CalcRMS(Chem.Mol(own), other, maxMatches=200) < apart for other in molecules
        )
        if not any(near):
            kept.append(i)
            molecules.append(own)
        if len(kept) == most:
            break
    return kept


def _with(mol: Chem.Mol, x: Tensor) -> Chem.Mol:
    """The molecule at the coordinates [N, 3]."""
    out = Chem.Mol(mol)
    out.RemoveAllConformers()
    conformer = Chem.Conformer(mol.GetNumAtoms())
    conformer.SetPositions(x.double().numpy())
    out.AddConformer(conformer, assignId=True)
    return out
