"""What a training step takes: our networks beside those of diffusers, of about equal size and work.

A step is the forward pass of a batch of 32 pictures of 3 x 32 x 32 with noise levels, the mean
squared error, the backward pass, and AdamW. All settings are called in turns on the same data, and
the speed of plain matrix products, the most that the machine could do, is measured among them.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from suffuse.bench import Case, Context, Result, interleaved, median
from suffuse.nn import DiT, UNet
from suffuse_benchmarks import quality

__all__ = ["Step", "suite"]

BATCH, SHAPE = 32, (3, 32, 32)
SIDE = 1024
"""Of the matrices whose product is the measure of the machine."""


def _unet() -> nn.Module:
    return UNet(SHAPE, width=16, multipliers=(2, 4, 5), blocks=1, attention=(1, 2))


def _dit() -> nn.Module:
    return DiT(SHAPE, patch=4, width=256, depth=6, heads=4)


def _peer_unet() -> nn.Module:
    from diffusers import UNet2DModel

    made: nn.Module = UNet2DModel(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(32, 64, 96),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=8,
    )
    return made


def _peer_dit() -> nn.Module:
    from diffusers import DiTTransformer2DModel

    made: nn.Module = DiTTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=64,
        in_channels=3,
        out_channels=3,
        num_layers=6,
        sample_size=32,
        patch_size=4,
        num_embeds_ada_norm=10,
    )
    return made


OURS: dict[str, Callable[[], nn.Module]] = {"U-Net": _unet, "DiT": _dit}
PEERS: dict[str, Callable[[], nn.Module]] = {"U-Net": _peer_unet, "DiT": _peer_dit}


@dataclass(frozen=True)
class Step:
    """The time of a training step of one kind of network, in float32 and under bf16 autocast.

    Attributes:
        cores: whether it is the time of the processor's cores.
        compiled: whether bf16 is timed through torch.compile as well.
    """

    task: str
    model: str
    seed: int
    threads: int
    peer: bool
    seconds: float = 60.0
    cores: bool = False
    compiled: bool = False
    measures: ClassVar = ("suffuse.nn", "suffuse.kernels", "diffusers")

    def run(self, context: Context) -> Result:
        """Medians over interleaved rounds, ratios within a round, and shares of the peak."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            return self._measured()
        finally:
            torch.set_num_threads(before)

    def _measured(self) -> Result:
        torch.manual_seed(self.seed)
        ours = OURS[self.model]()
        networks = {"suffuse": ours} | ({"diffusers": PEERS[self.model]()} if self.peer else {})
        kinds = ("fp32", "bf16", "bf16 compiled")[: 3 if self.compiled else 2]
        subjects: dict[str, Callable[[], object]] = {
            f"{name}, {kind}": _step(name, network, kind)
            for name, network in networks.items()
            for kind in kinds
        }
        a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
        low, high = a.bfloat16(), b.bfloat16()
        subjects["product, fp32"] = lambda: a @ b
        subjects["product, bf16"] = lambda: low @ high
        clock = time.process_time_ns if self.cores else time.perf_counter_ns
        metrics, rounds = interleaved(
            subjects, seconds=self.seconds, scale=1e3, unit="ms", clock=clock
        )
        every = {name: np.array(times) for name, times in rounds.items()}
        work = 3 * ours.flops(BATCH) if isinstance(ours, UNet | DiT) else 0
        for kind in kinds:
            peak = 2 * SIDE**3 / every[f"product, {kind[:4]}"]
            share = work / every[f"suffuse, {kind}"] / peak
            metrics.append(median(f"share of the peak, {kind}", share, "higher"))
        if self.peer:
            for one, other in (*zip(kinds, kinds, strict=True), ("bf16", "fp32")):
                ratio = every[f"suffuse, {one}"] / every[f"diffusers, {other}"]
                metrics.append(median(f"suffuse {one} / diffusers {other}", ratio))
        sizes = {name: sum(p.numel() for p in n.parameters()) for name, n in networks.items()}
        return Result(metrics, {"parameters": sizes, "FLOP a step, ours": work})


def _step(name: str, network: nn.Module, kind: str) -> Callable[[], object]:
    x, target = torch.randn(BATCH, *SHAPE), torch.randn(BATCH, *SHAPE)
    level = torch.randn(BATCH)
    label = torch.randint(10, (BATCH,))
    fused = {"fused": True} if name == "suffuse" else {}
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, **fused)
    called: Callable[..., Any] = torch.compile(network) if "compiled" in kind else network

    def forward() -> Tensor:
        if name == "suffuse":
            return called(x, level)  # type: ignore[no-any-return]
        given: dict[str, Any] = {"timestep": (level.abs() * 300).long()}
        if "DiT" in type(network).__name__:
            given["class_labels"] = label
        return called(x, **given).sample  # type: ignore[no-any-return]

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=kind != "fp32"):
            found = forward()
        (found.float() - target).square().mean().backward()
        optimizer.step()

    return step


def suite(
    threads: int = 2,
    seconds: float = 60.0,
    with_peers: bool = True,
    cores: bool = False,
    compiled: bool = False,
    seeds: int = 3,
    level: float = 0.0,
    limit: float = 0.0,
) -> Iterator[Case]:
    """A step of a U-Net and of a DiT; and how long it takes until digits and emoji are good.

    Args:
        threads: of torch.
        seconds: about how long each case of a step takes.
        with_peers: whether other libraries take part, where they are installed.
        cores: whether a step's time is that of the processor's cores, for a machine that does other
            things as well; take one thread then.
        compiled: whether steps in bf16 are timed through torch.compile too, which takes minutes.
        seeds: of the trainings until pictures are good.
        level: of KID, at or below which they are; 0 for what `quality` says of each set.
        limit: core-seconds after which the other libraries' trainings are given up; 0 as above.
    """
    peer = with_peers and importlib.util.find_spec("diffusers") is not None
    for model in OURS:
        yield Step(
            "training/a step at 32x32, batch 32", model, 0, threads, peer, seconds, cores, compiled
        )
    yield from quality.cases(seeds, threads, level, limit, with_peers)


suite.summary = quality.table  # type: ignore[attr-defined]
