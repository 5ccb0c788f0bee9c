r"""Diffusion time by a network: which noise level a row looks like, asked without a denoiser.

A row gets noise, x = x_0 + σ ε, and a network that sees x alone tells σ. With log σ uniform:

    dte-c     the network sorts log σ into bins, by cross-entropy; the score is the mean bin
    dte-ig    p(σ² | x) is taken to be an inverse gamma distribution of the shape D/2, as it is for
              one training row, and the network tells the logarithm g of its scale β = e^g D/2; the
              loss is −log p(σ² | x) / D = (e^g / σ² − g) / 2 up to a constant, and the score is g

The published form draws one of T times evenly from a schedule with β_t from 0.0001 to 0.01, takes
the shape D/2 − 1, which is none for one or two columns, and the scores Σ b p_b and β: the same
order. Here σ goes from 0.05 to 3 deviations of the data, whatever T.

What a dimension adds is the size of its integrated gradient on the way from the centre to the row:
∂score/∂x_j, averaged over the way, times x_j (Sundararajan, Taly, Yan (2017), arXiv 1703.01365).

Source: Livernoche et al., "On diffusion modeling for anomaly detection" (2023), arXiv 2305.18593,
section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from suffuse_anomaly.blocks import by_block
from suffuse_anomaly.member import Floats, Input, Member, Rows, even
from suffuse_anomaly.table import Table

__all__ = ["NETWORKS", "TimeNetwork"]

NETWORKS = ("dte-c", "dte-ig")
"""The methods."""
LOW, HIGH = math.log(0.05), math.log(3.0)
BINS = 16
WIDTH, BATCH, RATE = 256, 256, 1e-3
STEEP = 2.0
"""log of scale over σ² up to which the loss of "dte-ig" is exact."""
WAY = 8
"""Points of the integrated gradient."""


class TimeNetwork(Member):
    """A network that tells log σ.

    Attributes:
        name: "dte-c" or "dte-ig".
        input: of rows to the network's numbers.
        network: the trained layers.
    """

    def __init__(self, name: str, own_input: Input, network: nn.Sequential) -> None:
        self.name, self.input, self.network = name, own_input, network

    @classmethod
    def fit(
        cls,
        name: str,
        rows: Rows,
        table: Table,
        *,
        seed: int,
        steps: int,
        k: int,
        start: Any = None,
    ) -> Self:
        own = Input.fit(rows) if start is None else start.input
        network = _layers(name, rows.shape[1], seed)
        if start is not None:
            network.load_state_dict(start.network.state_dict())
        train(name, network, own(rows), seed=seed, steps=steps)
        return cls(name, own, network.eval())

    @classmethod
    def load(cls, name: str, tensors: Mapping[str, Tensor], table: Table) -> Self:
        network = _layers(name, len(tensors["mean"]), 0)
        network.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("network.")})
        return cls(name, Input.load(tensors), network.eval())

    def tensors(self) -> dict[str, Any]:
        return self.input.tensors() | {
            f"network.{k}": v for k, v in self.network.state_dict().items()
        }

    def raw(self, rows: Rows) -> Floats:
        with torch.no_grad():
            found = by_block(lambda x: told(self.name, self.network, x), self.input(rows))
        return found.double()[:, None].numpy()

    def shares(self, rows: Rows) -> Floats:
        def sizes(x: Tensor) -> Tensor:
            total = torch.zeros_like(x)
            for i in range(WAY):
                point = ((i + 0.5) / WAY * x).requires_grad_()
                total += torch.autograd.grad(told(self.name, self.network, point).sum(), point)[0]
            return (total * x).abs() / WAY

        return even(by_block(sizes, self.input(rows)).double().numpy())[:, None]


def _layers(name: str, size: int, seed: int) -> nn.Sequential:
    out = BINS if name == "dte-c" else 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(size, WIDTH),
            nn.SiLU(),
            nn.Linear(WIDTH, WIDTH),
            nn.SiLU(),
            nn.Linear(WIDTH, out),
        )


def train(name: str, network: nn.Sequential, x: Tensor, *, seed: int, steps: int) -> None:
    """AdamW on noised rows x [N, D], their levels spread evenly in each batch."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    batch = min(BATCH, max(32, len(x)))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(x), (batch,), generator=generator)
        u = (torch.arange(batch) + torch.rand(1, generator=generator)) / batch
        sigma = torch.exp(LOW + (HIGH - LOW) * u)
        eps = torch.randn(batch, x.shape[1], generator=generator)
        loss = _loss(name, network(x[chosen] + sigma[:, None] * eps), u, sigma)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rate.step()


def told(name: str, network: nn.Sequential, x: Tensor) -> Tensor:
    """The score of the network's inputs x [N, D], [N]."""
    out: Tensor = network(x)
    if name == "dte-ig":
        return out[:, 0]
    return out.softmax(1) @ torch.arange(BINS, dtype=out.dtype)


def _loss(name: str, out: Tensor, u: Tensor, sigma: Tensor) -> Tensor:
    """Cross-entropy of the bin of u in [0, 1], or −log p(σ²) / D but for what g does not touch."""
    if name == "dte-c":
        return functional.cross_entropy(out, (u * BINS).long().clamp(max=BINS - 1))
    r = out[:, 0] - 2 * sigma.log()
    # A straight line beyond STEEP: else the few rows with least noise decide every step.
    rising = torch.exp(r.clamp(max=STEEP)) * (1 + (r - STEEP).clamp(min=0))
    return (rising - r).mean() / 2
