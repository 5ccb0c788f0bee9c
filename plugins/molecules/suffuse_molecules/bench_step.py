"""The time of a training step, beside a plain network and the processor's limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from suffuse.bench import Context, Result, interleaved, median
from suffuse.nn.graph import Pairs

from .graph import Graph
from .network import GraphTransformer

__all__ = ["PlainTransformer", "Step"]


class _All(Pairs):
    """The n² ordered pairs of n nodes, whose edges are a square, as is usual."""

    @property
    def _n(self) -> int:
        return len(self.place)

    def ends(self, x: Tensor) -> tuple[Tensor, Tensor]:
        square = (len(x), self._n, self._n, x.shape[-1])
        first, second = x[:, :, None].expand(square), x[:, None].expand(square)
        return first.flatten(1, 2), second.flatten(1, 2)

    def both(self, x: Tensor) -> Tensor:
        return (x[:, :, None] + x[:, None]).flatten(1, 2)

    def total(self, e: Tensor, mask: Tensor) -> Tensor:
        off = ~torch.eye(self._n, dtype=torch.bool, device=e.device)
        real = mask[:, :, None] & mask[:, None] & off
        share = mask.sum(1).clamp(min=1).to(e.dtype).rsqrt()[:, None, None]
        return (self.dense(e) * real[..., None]).sum(2) * share

    def dense(self, e: Tensor) -> Tensor:
        return e.unflatten(1, (self._n, self._n))


def _all_of(n: int, device: torch.device | None = None) -> Pairs:
    first, second = torch.meshgrid(*[torch.arange(n, device=device)] * 2, indexing="ij")
    place = torch.arange(n * n, device=device).view(n, n)
    return _All(first.flatten(), second.flatten(), place, torch.empty(0))


class PlainTransformer(GraphTransformer):
    """The same function of the same weights with an edge for each ordered pair, N² of them.

    It is what `GraphTransformer` is measured against.
    """

    pairs = staticmethod(_all_of)


@dataclass(frozen=True)
class Step:
    """Milliseconds of a forward and backward pass over molecules without padding, one thread.

    Beside it the plain network, and one product of large matrices with as many floating-point
    operations, which is what the processor can do at best. All are called in turns.

    Args:
        edge: features of an edge.
        precision: "fp32" or "bf16".
        compiled: whether both stand there by torch.compile too, which takes minutes, and which
            training chooses by itself where it pays.
    """

    task: str
    model: str
    seed: int
    edge: int = 32
    precision: str = "fp32"
    compiled: bool = False
    atoms: int = 20
    batch: int = 128
    seconds: float = 40.0
    measures: ClassVar[Sequence[str]] = ("suffuse_molecules", "suffuse.nn", "torch")

    def run(self, context: Context) -> Result:
        """Medians over interleaved rounds, and the medians of the ratios within a round."""
        b, n = self.batch, self.atoms
        encoder = Graph(["C", "N", "O"], [4, 3, 2], [1] * n, [3, 1, 1], [8, 2, 1, 1])
        ours, plain = (
            kind(encoder.shape, encoder, width=128, edge=self.edge, depth=4)
            for kind in (GraphTransformer, PlainTransformer)
        )
        x = {
            "atoms": torch.zeros(b, n, dtype=torch.int64),
            "bonds": torch.zeros(b, n, n, dtype=torch.int64),
        }
        level = {name: torch.zeros(b) for name in x}
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        work = 3 * ours.flops(b, n)  # twice as much backward as forward
        side = 2048
        matrix = torch.randn(side, side, dtype=dtype)

        def step(network: Callable[..., Mapping[str, Tensor]]) -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
                out = network(x, level)
            sum(part.float().square().mean() for part in out.values()).backward()

        subjects = {
            "one product": lambda: matrix @ matrix,
            "step": lambda: step(ours),
            "plain step": lambda: step(plain),
        }
        if self.compiled:
            fast, plain_fast = torch.compile(ours), torch.compile(plain)
            subjects["step, compiled"] = lambda: step(fast)
            subjects["plain step, compiled"] = lambda: step(plain_fast)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            for subject in subjects.values():  # so that compiling is not among the seconds
                subject()
            metrics, rounds = interleaved(
                subjects,
                seconds=self.seconds,
                scale=1e3,
                unit="ms",
                clock=time.process_time_ns,
            )
        finally:
            torch.set_num_threads(threads)
        taken = {name: np.array(times) for name, times in rounds.items()}
        least = taken["one product"] * work / (2 * side**3)
        for name in ("step", "step, compiled")[: 1 + self.compiled]:
            metrics.append(median(f"{name} / plain step", taken[name] / taken["plain step"]))
            metrics.append(median(f"{name} / limit", taken[name] / least))
        if self.compiled:
            both = taken["step, compiled"] / taken["plain step, compiled"]
            metrics.append(median("both compiled, step / plain step", both))
        return Result(metrics)
