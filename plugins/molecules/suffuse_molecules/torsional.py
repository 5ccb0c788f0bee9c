r"""Conformers by torsional diffusion: local structures of ETKDG, torsions of a learned sampler.

Bond lengths, angles and rings are those of conformers that ETKDG embeds; all torsions are then
forgotten, and drawn anew by diffusion on the torus (`suffuse_molecules.torus`) with the score of a
network that was trained on crystal ligands (`suffuse_molecules.torsion_network`). A state is how
far each torsion is turned from the embedded conformer.

Source: Jing et al., "Torsional diffusion" (2022), arXiv 2206.01729.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rdkit import Chem
from rdkit.Chem import rdDistGeom
from torch import Tensor

from suffuse.diffusion import Noise, sample, schedules, solvers
from suffuse.errors import SuffuseError

from .chemistry import quiet
from .torsion_network import ELEMENTS, Batch, TorsionNetwork, batch_of, turn
from .torus import Torus

__all__ = ["CLOCK", "STEPS", "embedded", "load", "save", "torsional"]

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


def embedded(mol: Chem.Mol, k: int, seed: int = 0) -> Chem.Mol:
    """The molecule with hydrogens and up to k conformers of ETKDG (version 3), not relaxed.

    Raises:
        SuffuseError: where not one can be embedded.
    """
    with quiet():
        whole = Chem.AddHs(mol)
        settings: Any = rdDistGeom.ETKDGv3()
        settings.randomSeed = seed + 1
        if not len(rdDistGeom.EmbedMultipleConfs(whole, k, settings)):
            settings.useRandomCoords = True
            rdDistGeom.EmbedMultipleConfs(whole, k, settings)
    if not whole.GetNumConformers():
        raise SuffuseError(f"no shape can be embedded for {Chem.MolToSmiles(mol)!r}")
    return whole


def torsional(
    mol: Chem.Mol,
    k: int = 10,
    *,
    seed: int = 0,
    steps: int = STEPS,
    network: TorsionNetwork | None = None,
) -> Chem.Mol:
    """The molecule with hydrogens and up to k conformers, whose torsions were drawn by diffusion.

    Args:
        mol: sanitised.
        k: how many.
        seed: of the embedding and the diffusion.
        steps: network calls.
        network: the one that ships where None.

    Raises:
        SuffuseError: for elements that the network does not know, or where nothing is embedded.
    """
    strange = {a.GetSymbol() for a in mol.GetAtoms() if a.GetAtomicNum() > 1} - set(ELEMENTS)
    if strange:
        raise SuffuseError(
            f"the model of torsions knows {', '.join(ELEMENTS)}, and not {', '.join(strange)}"
        )
    network = network or load()
    whole = embedded(mol, k, seed)
    heavy = Chem.RemoveHs(whole)
    own = [Chem.Mol(heavy, confId=c.GetId()) for c in heavy.GetConformers()]
    batch = batch_of(own)
    if not bool(batch.turning.any()):
        return whole
    angles = sampled(network, batch, seed, steps)
    # the hydrogens come along
    from .flexible import flexible, turned

    chain = flexible(whole)
    light = flexible(heavy)
    place = {tuple(pair): i for i, pair in enumerate(light.bonds.tolist())}
    order = [_signed(place, pair) for pair in chain.bonds.tolist()]
    x = torch.tensor(
        np.stack([c.GetPositions() for c in whole.GetConformers()]), dtype=torch.float32
    )
    moved = turned(x, chain.bonds, chain.moving, angles[:, order])
    for conformer, at in zip(whole.GetConformers(), moved.double().numpy(), strict=True):
        conformer.SetPositions(at)
    return whole


def _signed(place: dict[tuple[int, ...], int], pair: list[int]) -> int:
    """A torsion's angle is the same from either side."""
    a, b = pair
    return place[(a, b)] if (a, b) in place else place[(b, a)]


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
