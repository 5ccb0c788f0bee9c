r"""Conformers by torsional diffusion: local structures of ETKDG, torsions of a learned sampler.

Bond lengths, angles and rings are those of conformers that ETKDG embeds; all torsions are then
forgotten, and drawn anew by diffusion on the torus (`suffuse_molecules.torus`) with a network that
was trained on crystal ligands (`suffuse_molecules.torsion_network`). A state is how far each
torsion is turned from the embedded conformer.

Given the other noisy torsions, the clean angle θ_0 of one whose noisy angle is θ_t has the density

    p(θ_0 | θ_t, others) ∝ p_σ(θ_t | θ_0) p(θ_0 | others),

because each torsion walks by itself. The first factor is the wrapped normal; the network says the
logarithm of the second, f(τ) for θ_0 = θ_t + τ, at `DIRECTIONS` equal steps of τ. The score of the
noisy torsions follows,

    ∂ log p(θ_t) / ∂θ_t = E[∂ log p_σ(θ_t | θ_0) / ∂θ_t | θ_t],

but is not needed: the clean angles are drawn, and noised afresh to the next level (`renoise`). So
what is learned is two- and threefold torsions as they are, which have no score at high noise.

Source: Jing et al., "Torsional diffusion" (2022), arXiv 2206.01729, for the diffusion; the density
instead of the score: as for tokens, Austin et al., "D3PM" (2021), arXiv 2107.03006, section 3.3.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from rdkit import Chem
from torch import Tensor

from suffuse.diffusion import Noise, sample, schedules, solvers
from suffuse.diffusion.noise import Stream
from suffuse.diffusion.process import Registers
from suffuse.errors import SuffuseError

from .chemistry import implicit
from .flexible import flexible, rotatable, turned
from .torsion_batch import ELEMENTS, Batch, batch_of, turn
from .torsion_network import TorsionNetwork
from .torus import Torus, wrap, wrapped_normal_density

__all__ = [
    "CLOCK",
    "DIRECTIONS",
    "SHIPPED",
    "STEPS",
    "Turns",
    "kernel",
    "knows",
    "load",
    "redraw",
    "sampled",
    "save",
]

CLOCK = schedules.geometric(sigma_min=0.12, sigma_max=np.pi)
"""σ of the torsions, in radians. Those of crystals are not known to much better than 0.12."""

DIRECTIONS = 36
"""Steps of a turn, of 10 degrees."""

STEPS = 12
SHIPPED = Path(__file__).parent / "pretrained" / "torsions"
"""The folder of the model that ships."""


def kernel(turns: Tensor, sigma: Tensor) -> Tensor:
    """log p_σ of angles that were turned so far by noise, but for a constant; both broadcast."""
    return wrapped_normal_density(turns, sigma).clamp(min=1e-30).log()


@dataclass(frozen=True)
class Turns(Torus):
    """Angles whose clean ones are drawn from a density: the estimate is its logits [B, T, K].

    They are those of the turns 2π k / K from the present angle to the clean one.
    """

    laws: ClassVar[frozenset[str]] = frozenset()  # renoise alone

    def estimate(self, raw: Tensor, x_t: Tensor, t: Any) -> Tensor:
        """The logits of the density: f and the kernel."""
        sigma = self.schedule.at(t).align(x_t).sigma[..., None]
        return raw + kernel(directions(), sigma.to(raw.dtype))

    def error(
        self, raw: Tensor, x_0: Tensor, x_t: Tensor, t: Any, noise: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Not defined here: `suffuse_molecules.torsion_fit` trains on a grid of its own."""
        raise NotImplementedError

    def renoise(self, row: Any, registers: Registers, noise: Noise | None) -> Tensor:
        """The clean angles drawn, and walked afresh to the time that the row reaches."""
        assert noise is not None
        x_t, logits = registers.states[0], registers.estimates[0]
        u = noise.uniform(tuple(x_t.shape[1:]), step=row.index, stream=Stream.STEP)
        share = logits.double().softmax(-1).cumsum(-1)
        chosen = (u[..., None] * share[..., -1:] > share).sum(-1).clamp(max=DIRECTIONS - 1)
        fresh = self.noise(noise, x_t, step=row.index, stream=Stream.CORRUPT)
        return self.corrupt(wrap(x_t + directions()[chosen]), row.s, fresh)


def directions() -> Tensor:
    """The turns in [−π, π), [K]."""
    return wrap(torch.arange(DIRECTIONS) * (2 * math.pi / DIRECTIONS))


_PROCESS = Turns(CLOCK)


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
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = SHIPPED if path is None else Path(path)
    try:
        config = json.loads((folder / "config.json").read_text())
        if not isinstance(config, dict) or config.pop("kind", None) != "molecules/torsions":
            raise KeyError("kind")
        network = TorsionNetwork(**config)
        network.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
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
    heavy = implicit(whole)
    x = np.stack([whole.GetConformer(i).GetPositions() for i in conformers])
    at = torch.tensor(x, dtype=torch.float32)
    one = batch_of(Chem.Mol(heavy, confId=conformers[0]))
    own = [a.GetIdx() for a in whole.GetAtoms() if a.GetAtomicNum() > 1]
    copies = [one._replace(x=places) for places in at[:, own]]
    angles = sampled(network, Batch.together(copies), seed, steps)
    chain = flexible(whole)
    # the same bond may be told from either side, and turns by the same angle
    place = {frozenset((own[a], own[b])): i for i, (a, b) in enumerate(one.bonds.tolist())}
    order = [place[frozenset(pair)] for pair in chain.bonds.tolist()]
    moved = turned(at, chain.bonds, chain.moving, angles[:, order]).double().numpy()
    for i, positions in zip(conformers, moved, strict=True):
        whole.GetConformer(i).SetPositions(positions)


@torch.no_grad()
def sampled(network: TorsionNetwork, batch: Batch, seed: int = 0, steps: int = STEPS) -> Tensor:
    """How far each torsion of molecules with T torsions each is to be turned, [B, T] in radians."""
    h = network.embed(batch)
    count = batch.molecules

    def denoiser(theta: Tensor, t: Tensor) -> Tensor:
        sigma = CLOCK.at(t).sigma.float().expand(count)
        turns = directions().expand(theta.numel(), -1)
        raw = network(batch, turn(batch, batch.x, theta.flatten()), sigma, turns, h)
        return _PROCESS.estimate(raw.reshape(*theta.shape, -1), theta, t)

    noise = Noise(seed, count)
    start = _PROCESS.prior(noise, (len(batch.bonds) // count,))
    plan = solvers.plan("renoise", CLOCK, steps=steps)
    return sample(denoiser, plan, x=start, process=_PROCESS, noise=noise)
