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

__all__ = ["compared", "fit", "nearest"]

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
) -> dict[str, Any]:
    """For each ligand the distance of the nearest of k conformers, by method, [N] each in Å.

    "etkdg" are k of ETKDG, "torsional" k of the model, "union" the first half of either. Ligands
    that ETKDG cannot embed are left out.
    """
    found: dict[str, list[float]] = {"etkdg": [], "torsional": [], "union": []}
    for ligand in ligands:
        plain = Chem.Mol(ligand.mol)
        plain.RemoveAllConformers()
        try:
            shaped = embedded(plain, k, seed)
        except SuffuseError:
            continue
        one = nearest(ligand.mol, shaped)
        redraw(shaped, [c.GetId() for c in shaped.GetConformers()], seed=seed, network=network)
        other = nearest(ligand.mol, shaped)
        found["etkdg"].append(min(one))
        found["torsional"].append(min(other))
        found["union"].append(min(one[: k // 2] + other[: k - k // 2]))
    return {name: np.array(values) for name, values in found.items()}
