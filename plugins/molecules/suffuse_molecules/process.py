"""The corruption of molecular graphs: atoms and bonds, each forgotten by itself.

A product of two categorical processes on one clock (`suffuse.diffusion.categorical`), whose noise
is drawn from how often each type of atom and each order of bond occurs in the training data
(Vignac et al., "DiGress: discrete denoising diffusion for graph generation" (2023),
arXiv 2209.14734, section 4.2), and whose corruption is linear in the token's distribution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from suffuse.diffusion import Noise
from suffuse.diffusion.categorical import Categorical
from suffuse.diffusion.plan import Row
from suffuse.diffusion.process import Denoiser, Gaussian, Network, Process, Registers, State
from suffuse.diffusion.product import Product
from suffuse.diffusion.schedules import Schedule
from suffuse.errors import SuffuseError

from .graph import Graph
from .space import Space, centred

__all__ = ["Molecular", "Spatial", "molecular", "spatial"]


@dataclass(frozen=True)
class Molecular(Product):
    """The product of atoms and bonds.

    A state at the last time has a third part beside "atoms" and "bonds": "bond_logits"
    [B, N, N, K], the last clean estimate, which tells valence-safe decoding which bonds are sure.

    Attributes:
        temperature: the logits of the clean estimate are divided by it in sampling; below 1
            sharpens. Training does not see it.
    """

    temperature: float = 1.0

    def given(self, conditions: Mapping[str, Any]) -> Molecular:
        """The same: the corruption depends on no condition."""
        return self

    def denoiser(self, network: Network) -> Denoiser:
        """The network as a denoiser, its logits divided by the temperature."""
        plain = super().denoiser(network)

        def denoise(x_t: State, t: Any, **conditions: Any) -> Any:
            estimate: Any = plain(x_t, t, **conditions)
            tokens = {name: estimate[name] / self.temperature for name in ("atoms", "bonds")}
            return {**estimate, **tokens}

        return denoise

    def step(self, row: Mapping[str, Row], registers: Registers, noise: Noise | None) -> State:
        """The step of both parts; into the last time, with the logits that led there."""
        x = dict(super().step(row, registers, noise))
        if row["bonds"].s == 0:
            x["bond_logits"] = registers.estimates[0]["bonds"]
        return x


@dataclass(frozen=True)
class Spatial(Molecular):
    """The product of atoms, bonds and coordinates, "x" [B, N, 3].

    Coordinates are corrupted as numbers are. Where a molecule lies says nothing of it: the noise
    that training adds, and every state that the network is asked about, are brought about their
    centre, so that the estimate is that of centred molecules.

    Source: for the centre, Hoogeboom et al., "Equivariant diffusion for molecule generation in 3D"
    (2022), arXiv 2203.17003, section 3.1; for the product, Vignac et al., "MiDi" (2023),
    arXiv 2302.09048.
    """

    def denoiser(self, network: Network) -> Denoiser:
        """The network as a denoiser of centred states."""
        plain = super().denoiser(network)

        def denoise(x_t: Any, t: Any, **conditions: Any) -> Any:
            return plain(_about_centre(x_t, conditions.get("mask")), t, **conditions)

        return denoise

    def loss(
        self,
        network: Network,
        x_0: State,
        t: Any,
        noise: State,
        *,
        mask: State | None = None,
        **conditions: Any,
    ) -> Tensor:
        """As of `Process`, with centred noise."""
        noise = _about_centre(noise, mask)
        return super().loss(network, x_0, t, noise, mask=mask, **conditions)


def _about_centre(state: Any, mask: Any) -> dict[str, Any]:
    there = None if mask is None else mask["atoms"]
    return {**state, "x": centred(state["x"], there)}


def molecular(
    schedule: Schedule,
    encoder: Graph,
    kernel: Literal["marginal", "uniform", "absorbing"] = "marginal",
    bond_weight: float = 5.0,
    temperature: float = 1.0,
) -> Molecular:
    """The process of a fitted encoder's graphs, for recipes.

    Args:
        schedule: the clock of both.
        encoder: fitted; its frequencies are the marginals.
        kernel: what tokens become, see `suffuse.diffusion.categorical`.
        bond_weight: of the loss of a bond beside that of an atom.
        temperature: see `Molecular`.
    """
    return Molecular(_tokens(schedule, encoder, kernel, bond_weight, temperature), temperature)


def spatial(
    schedule: Schedule,
    encoder: Space,
    kernel: Literal["marginal", "uniform", "absorbing"] = "marginal",
    bond_weight: float = 5.0,
    place_weight: float = 3.0,
    temperature: float = 1.0,
) -> Spatial:
    """The process of a fitted encoder's molecules in space, for recipes.

    Args:
        schedule, kernel, bond_weight, temperature: see `molecular`; the clock is that of all.
        encoder: fitted.
        place_weight: of the loss of the coordinates beside that of an atom.
    """
    if not isinstance(encoder, Space):
        raise SuffuseError("the process 'molecules/space' needs the encoder 'molecules/space'")
    parts = _tokens(schedule, encoder, kernel, bond_weight, temperature)
    if not place_weight > 0:
        raise SuffuseError(f"place_weight is above 0; given {place_weight}")
    return Spatial({**parts, "x": (Gaussian(schedule, "edm"), place_weight)}, temperature)


def _tokens(
    schedule: Schedule, encoder: Graph, kernel: Any, bond_weight: float, temperature: float
) -> dict[str, tuple[Process, float]]:
    if encoder.types is None or encoder.atoms is None or encoder.bonds is None:
        raise SuffuseError("the process 'molecules/graph' needs the encoder 'molecules/graph'")
    if not (temperature > 0 and bond_weight > 0):
        raise SuffuseError(
            f"temperature and bond_weight are above 0; given {temperature} and {bond_weight}"
        )
    known = kernel == "marginal"
    atoms = Categorical(
        schedule, max(len(encoder.types), 2), kernel, _shares(encoder.atoms) if known else None
    )
    bonds = Categorical(
        schedule, encoder.orders, kernel, _shares(encoder.bonds) if known else None, symmetric=True
    )
    return {"atoms": (atoms, 1.0), "bonds": (bonds, bond_weight)}


def _shares(counts: list[float]) -> tuple[float, ...]:
    """Frequencies as shares; a single one gets a second of nearly nothing, since there are two."""
    counts = [*counts, 1e-6 * sum(counts)] if len(counts) == 1 else counts
    return tuple(count / sum(counts) for count in counts)
