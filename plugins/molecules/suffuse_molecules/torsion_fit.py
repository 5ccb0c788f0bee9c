"""Training the model of torsions on crystal ligands, and comparing conformers with crystals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rdkit import Chem
from rdkit.Chem import rdMolAlign

from suffuse.diffusion import Noise
from suffuse.diffusion.noise import Stream

from .chemistry import quiet
from .conformers import embedded
from .torsion_data import Ligand, crystal_ligands
from .torsion_network import Batch, TorsionNetwork, batch_of, turn
from .torsional import CLOCK, redraw, save
from .torus import Torus

__all__ = ["compared", "fit", "nearest"]

_PROCESS = Torus(CLOCK)
_DECAY = 0.99


def fit(
    out: str | Path,
    *,
    ligands: int = 6000,
    steps: int = 3000,
    batch: int = 24,
    rate: float = 3e-3,
    seed: int = 0,
    said: Callable[[str], None] = print,
) -> TorsionNetwork:
    """Train on crystal ligands that are not held out, and write the averaged weights into a folder.

    Molecules of like size share a batch, so that little is padded.

    Args:
        out: the folder; written at the end and every 250 steps.
        ligands: how many at most.
        steps, batch, rate: of Adam, whose rate falls to 0 along a cosine.
        seed: of all of it.
        said: told of the progress.
    """
    torch.manual_seed(seed)
    mols = [ligand.mol for ligand in crystal_ligands(ligands, held_out=False)]
    mols.sort(key=lambda mol: mol.GetNumAtoms())
    groups = [batch_of(mols[i : i + 64]) for i in range(0, len(mols), 64)]
    said(f"{len(mols)} crystal ligands")
    network = TorsionNetwork()
    mean = TorsionNetwork()
    mean.load_state_dict(network.state_dict())
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    losses: list[float] = []
    for step in range(steps):
        share = 0.5 * (1 + np.cos(np.pi * step / steps)) * min(1.0, (step + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = rate * share
        source = np.random.default_rng([seed, step])
        group = groups[int(source.integers(len(groups)))]
        rows = torch.from_numpy(source.permutation(len(group.x))[:batch])
        loss = _loss(network, group.of(rows), Noise(seed, len(rows), first=step * 64))
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


def _loss(network: TorsionNetwork, batch: Batch, noise: Noise) -> torch.Tensor:
    """The squared error of the score in units of its mean square; 1 for an answer of 0."""
    u = noise.uniform((1,), step=0, stream=Stream.LEVEL)[:, 0]
    t = 0.05 + 0.95 * u  # below 0.05 the schedule runs to σ = 0
    sigma = CLOCK.at(t).sigma.float()
    z = noise.normal(tuple(batch.turning.shape[1:]), step=0, stream=Stream.CORRUPT)
    angles = _PROCESS.walk(torch.zeros_like(z), sigma[:, None], z)
    raw = network(batch, turn(batch, batch.x, angles), sigma)
    wanted = _PROCESS.score(angles, torch.zeros_like(angles), sigma[:, None])
    wanted = wanted / _PROCESS.spread(sigma[:, None])
    error = torch.where(batch.turning, (raw - wanted) ** 2, 0.0)
    return error.sum() / batch.turning.sum()


def nearest(crystal: Chem.Mol, shaped: Chem.Mol) -> list[float]:
    """The root mean square distance in Å over heavy atoms of each conformer from the crystal's.

    After the best alignment and over symmetries.
    """
    heavy = Chem.RemoveHs(shaped)
    with quiet():
        return [
            rdMolAlign.GetBestRMS(
                Chem.Mol(heavy, confId=c.GetId()), Chem.Mol(crystal), maxMatches=2000
            )
            for c in heavy.GetConformers()
        ]


def compared(
    ligands: Sequence[Ligand], k: int = 10, seed: int = 0, network: TorsionNetwork | None = None
) -> dict[str, Any]:
    """For each ligand the distance of the nearest of k conformers, by method, [N] each in Å.

    "etkdg" are k of ETKDG, "torsional" k of the model, "union" the first half of either.
    """
    found: dict[str, list[float]] = {"etkdg": [], "torsional": [], "union": []}
    for ligand in ligands:
        plain = Chem.Mol(ligand.mol)
        plain.RemoveAllConformers()
        shaped = embedded(plain, k, seed)
        one = nearest(ligand.mol, shaped)
        redraw(shaped, [c.GetId() for c in shaped.GetConformers()], seed=seed, network=network)
        other = nearest(ligand.mol, shaped)
        found["etkdg"].append(min(one))
        found["torsional"].append(min(other))
        found["union"].append(min(one[: k // 2] + other[: k - k // 2]))
    return {name: np.array(values) for name, values in found.items()}
