r"""Conformers by torsional diffusion: local structures of ETKDG, torsions of a learned sampler.

Bond lengths, angles and rings are those of conformers that ETKDG embeds; all torsions are then
forgotten, and drawn anew by diffusion on the torus (`suffuse_molecules.torus`) with the score of a
network that was trained on crystal ligands (`suffuse_molecules.torsion_network`). A state is how
far each torsion is turned from the embedded conformer.

Source: Jing et al., "Torsional diffusion" (2022), arXiv 2206.01729.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from rdkit import Chem
from torch import Tensor

from suffuse.diffusion import Noise, sample, schedules, solvers
from suffuse.errors import SuffuseError

from .flexible import flexible, rotatable, turned
from .torsion_network import ELEMENTS, Batch, TorsionNetwork, batch_of, turn
from .torus import Torus

__all__ = ["CLOCK", "STEPS", "knows", "load", "redraw", "sampled", "save"]

CLOCK = schedules.geometric(sigma_min=0.05, sigma_max=np.pi)
"""σ of the torsions, in radians."""

STEPS = 20
_SHIPPED = Path(__file__).parent / "pretrained" / "torsions"
_PROCESS = Torus(CLOCK)


def save(network: TorsionNetwork, path: str | Path) -> None:
    """Write model.safetensors and config.json into a folder."""
    from safetensors.torch import save as to_bytes

    from suffuse.storage import write_bytes

    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    write_bytes(folder / "model.safetensors", to_bytes(state))
    config = {"kind": "molecules/torsions", **network.config}
    write_bytes(folder / "config.json", (json.dumps(config) + "\n").encode())


@lru_cache(maxsize=2)
def load(path: str | Path | None = None) -> TorsionNetwork:
    """The network of a folder, or the one that ships.

    Raises:
        SuffuseError: where the folder holds none.
    """
    from safetensors.torch import load_file

    folder = _SHIPPED if path is None else Path(path)
    try:
        config = json.loads((folder / "config.json").read_text())
        if config.pop("kind") != "molecules/torsions":
            raise KeyError("kind")
        network = TorsionNetwork(**config)
        network.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise SuffuseError(
            f"{str(folder)!r} holds no model of torsions ({error}); make one by "
            "`suffuse molecules fit-torsions -o FOLDER`"
        ) from None
    return network.eval()


def knows(mol: Chem.Mol) -> bool:
    """Whether the network knows all elements of a molecule, and there is a torsion to turn."""
    symbols = {atom.GetSymbol() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1}
    return symbols <= set(ELEMENTS) and bool(rotatable(mol))


def redraw(
    whole: Chem.Mol,
    conformers: Sequence[int],
    *,
    seed: int = 0,
    steps: int = STEPS,
    network: TorsionNetwork | None = None,
) -> None:
    """Give conformers of a molecule new torsions, in place.

    Args:
        whole: with hydrogens, which come along.
        conformers: which, by their ids.
        seed: of the diffusion.
        steps: network calls.
        network: the one that ships where None.
    """
    network = network or load()
    heavy = Chem.RemoveHs(whole)
    batch = batch_of([Chem.Mol(heavy, confId=i) for i in conformers])
    angles = sampled(network, batch, seed, steps)
    chain, light = flexible(whole), flexible(heavy)
    # the same bond may be told from either side, and turns by the same angle
    place = {frozenset(pair): i for i, pair in enumerate(light.bonds.tolist())}
    order = [place[frozenset(pair)] for pair in chain.bonds.tolist()]
    x = np.stack([whole.GetConformer(i).GetPositions() for i in conformers])
    at = torch.tensor(x, dtype=torch.float32)
    moved = turned(at, chain.bonds, chain.moving, angles[:, order]).double().numpy()
    for i, positions in zip(conformers, moved, strict=True):
        whole.GetConformer(i).SetPositions(positions)


@torch.no_grad()
def sampled(network: TorsionNetwork, batch: Batch, seed: int, steps: int) -> Tensor:
    """How far each torsion of each molecule is to be turned, [B, T] in radians."""
    h = network.embed(batch)

    def denoiser(theta: Tensor, t: Tensor) -> Tensor:
        sigma = CLOCK.at(t).sigma.float()
        raw = network(batch, turn(batch, batch.x, theta), sigma, h)
        return _PROCESS.estimate(raw, theta, t)

    noise = Noise(seed, len(batch.x))
    start = _PROCESS.prior(noise, tuple(batch.turning.shape[1:]))
    plan = solvers.plan("euler-ancestral", CLOCK, steps=steps)
    return sample(denoiser, plan, x=start, process=_PROCESS, noise=noise)
