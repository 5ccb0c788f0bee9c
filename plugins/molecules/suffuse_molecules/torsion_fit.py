"""Training the model of torsions on crystal ligands, and comparing conformers with crystals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rdkit import Chem
from rdkit.Chem import rdMolAlign
from torch import Tensor

from suffuse.diffusion import Noise
from suffuse.diffusion.noise import Stream
from suffuse.errors import SuffuseError

from .chemistry import implicit, quiet
from .conformers import embedded
from .torsion_batch import Batch, batch_of, turn
from .torsion_data import Ligand, crystal_ligands
from .torsion_network import TorsionNetwork
from .torsional import CLOCK, directions, kernel, redraw, save
from .torus import wrap

__all__ = ["compared", "coverage", "fit", "nearest"]

_DECAY = 0.999
_WARMUP = 100


def fit(
    out: str | Path,
    *,
    ligands: int = 30000,
    steps: int = 4000,
    batch: int = 32,
    rate: float = 2e-3,
    seed: int = 0,
    said: Callable[[str], None] = print,
) -> TorsionNetwork:
    """Train on crystal ligands that are not held out, and write the averaged weights into a folder.

    Args:
        out: the folder; written at the end and every 250 steps.
        ligands: how many at most.
        steps, batch, rate: of Adam, whose rate falls to 0 along a cosine.
        seed: of all of it.
        said: told of the progress.
    """
    torch.manual_seed(seed)
    mols = [ligand.mol for ligand in crystal_ligands(ligands, held_out=False)]
    tables: dict[int, Batch] = {}
    said(f"{len(mols)} crystal ligands")
    network = TorsionNetwork()
    mean = TorsionNetwork()
    mean.load_state_dict(network.state_dict())
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    losses: list[float] = []
    for step in range(steps):
        share = 0.5 * (1 + math.cos(math.pi * step / steps)) * min(1.0, (step + 1) / _WARMUP)
        for group in optimizer.param_groups:
            group["lr"] = rate * share
        chosen = np.random.default_rng([seed, step]).integers(len(mols), size=batch).tolist()
        for k in chosen:
            if k not in tables:
                tables[k] = batch_of(mols[k])
        noise = Noise(seed, batch, first=step * batch)
        loss = _loss(network, Batch.together([tables[k] for k in chosen]), noise)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        decay = min(_DECAY, (step + 1) / (step + 10))
        with torch.no_grad():
            for a, b in zip(mean.parameters(), network.parameters(), strict=True):
                a.lerp_(b, 1 - decay)
        losses.append(float(loss.detach()))
        if (step + 1) % 50 == 0:
            said(f"step {step + 1}/{steps}  loss {np.mean(losses[-50:]):.4f}")
        if (step + 1) % 250 == 0:
            save(mean, out)
    save(mean, out)
    return mean


def _loss(network: TorsionNetwork, batch: Batch, noise: Noise) -> Tensor:
    """The cross-entropy of the clean angles, in nats less than without a network; below 0 learns.

    The grid of turns holds the one that leads back to the clean angle. Among the angles of a grid
    the density's shares are those of the angles, so that no integral is taken.
    """
    u = noise.uniform((1,), step=0, stream=Stream.LEVEL)[:, 0]
    u = (torch.arange(len(u)) + u) / len(u)  # levels spread evenly over the batch
    sigma = CLOCK.at(0.05 + 0.95 * u).sigma.float()  # below 0.05 the schedule runs to σ = 0
    z = noise.normal((int(batch.rank.max()) + 1,), step=0, stream=Stream.CORRUPT)
    spread = sigma[batch.of]
    angles = spread * z[batch.of, batch.rank]
    turns = wrap(directions() - angles[:, None])
    known = kernel(turns, spread[:, None])
    found = network(batch, turn(batch, batch.x, angles), sigma, turns)
    gain = (known + found).log_softmax(-1) - known.log_softmax(-1)
    return -gain[:, int(directions().abs().argmin())].mean()


def nearest(crystal: Chem.Mol, shaped: Chem.Mol) -> list[float]:
    """The root mean square distance in Å over heavy atoms of each conformer from the crystal's.

    After the best alignment and over symmetries.
    """
    heavy = implicit(shaped)
    with quiet():
        return [
            rdMolAlign.GetBestRMS(
                Chem.Mol(heavy, confId=c.GetId()), Chem.Mol(crystal), maxMatches=2000
            )
            for c in heavy.GetConformers()
        ]


def compared(
    ligands: Sequence[Ligand], k: int = 10, seed: int = 0, network: TorsionNetwork | None = None
) -> dict[str, list[Any]]:
    """For each ligand the distances of its k conformers, by method, [k] each in Å.

    "etkdg" are k of ETKDG, "torsional" k of the model, "union" k of which every second is of the
    model, as `conformers` has them by its method "both". Ligands that ETKDG cannot embed are left
    out.
    """
    found: dict[str, list[Any]] = {"etkdg": [], "torsional": [], "union": []}
    for ligand in ligands:
        plain = Chem.Mol(ligand.mol)
        plain.RemoveAllConformers()
        try:
            shaped = embedded(plain, k, seed)
        except SuffuseError:
            continue
        every = [conformer.GetId() for conformer in shaped.GetConformers()]
        for name, chosen in (("etkdg", []), ("torsional", every), ("union", every[1::2])):
            drawn = Chem.Mol(shaped)
            if chosen:
                redraw(drawn, chosen, seed=seed, network=network)
            found[name].append(np.array(nearest(ligand.mol, drawn)))
    return found


def coverage(distances: Any, within: float = 0.75) -> dict[str, float]:
    """How well K conformers of a molecule and its R reference shapes cover each other.

    COV-R is the share of references with a conformer within so many Å, MAT-R the mean distance of a
    reference to its nearest conformer; COV-P and MAT-P the same with the two exchanged.

    Ganea et al., "GeoMol" (2021), arXiv 2106.07802, section 4; Jing et al. (2022), section 4.1.

    Args:
        distances: root mean square distances, [R, K] in Å.
        within: in Å; 0.75 is usual for drug-like molecules.

    >>> coverage([[0.5, 2.0], [1.0, 3.0]])
    {'COV-R': 0.5, 'MAT-R': 0.75, 'COV-P': 0.5, 'MAT-P': 1.25}
    """
    between = np.asarray(distances, float)
    out = {}
    for letter, axis in (("R", 1), ("P", 0)):
        least = between.min(axis)
        out[f"COV-{letter}"] = float((least < within).mean())
        out[f"MAT-{letter}"] = float(least.mean())
    return out
