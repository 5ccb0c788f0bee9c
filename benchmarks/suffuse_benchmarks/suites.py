"""The suites: `core`, and `quick`, which is a part of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from suffuse.bench import Case
from suffuse_benchmarks import accuracy, discrete, overhead, peers, restoring, size

__all__ = ["core", "quick"]

STRONG = (
    "azula reab-3 exponential",
    "azula vab-2 exponential",
    "azula vab-2 karras",
    "azula vab-3 exponential",
    "azula vab-3 karras",
    "azula zeab-2 karras",
    "azula zeab-3 exponential",
    "azula zeab-3 karras",
    "diffusers deis-2 karras",
    "diffusers deis-3 karras",
    "diffusers dpm-2m exponential",
    "diffusers dpm-2m karras",
    "diffusers dpmpp-2m karras",
    "diffusers dpmpp-3m exponential",
    "diffusers dpmpp-3m karras",
    "diffusers dpmpp-3m lu",
    "diffusers lms karras",
    "diffusers sa-tau0 trailing",
    "diffusers unipc-2 exponential",
    "diffusers unipc-2 karras",
    "diffusers unipc-3 exponential",
    "diffusers unipc-3 karras",
    "k-diffusion lms karras",
)
"""Peers' configurations that came within 1.35 times of the best, at any number of calls, on five
development mixtures of other shapes and seeds."""


def core(seeds: int = 1, with_peers: bool = True, strong: bool = False) -> Iterator[Case]:
    """The numbers of the core: accuracy, overhead, size, discrete and posterior samplers.

    Args:
        seeds: how many sets of mixtures.
        with_peers: whether installed peers take part (extra `peers`).
        strong: for accuracy, ours by default and tuned beside the strongest of the peers alone, a
            quarter of all pairs.
    """
    others = peers.installed() if with_peers else []
    words: dict[str, Any] = {"pick": STRONG.__contains__} if strong else {}
    for seed in range(seeds):
        yield from accuracy.cases(accuracy.Setting(), seed, others=others, **words)
        for schedule in ("cosine", "flow", "edm"):
            yield from accuracy.cases(accuracy.Setting(schedule), seed, **words)
        for weight in (3.0, 7.5):
            guided = accuracy.Setting(guidance=weight, shapes=accuracy.SHAPES[1:9:2])
            yield from accuracy.cases(guided, seed, others=others, **words)
    peer = any(p.DISTRIBUTION == "diffusers" for p in others)
    yield from overhead.cases(peer)
    yield from size.cases()
    yield from discrete.cases(3)
    yield from restoring.cases(1)


def quick(with_peers: bool = True) -> Iterator[Case]:
    """A few minutes: few mixtures, the strongest peers, one shape.

    Args:
        with_peers: whether installed peers take part (extra `peers`).
    """
    others = peers.installed() if with_peers else []
    few = accuracy.Setting(budgets=(5, 10, 20), shapes=accuracy.SHAPES[1:7:2], starts=32)

    def strong(name: str) -> bool:
        ours = name.startswith("suffuse ") and name.endswith((" uniform", " karras"))
        return ours or name in STRONG

    yield from accuracy.cases(few, 0, others=others, pick=strong, tuned=False)
    peer = any(p.DISTRIBUTION == "diffusers" for p in others)
    methods = ("the default", "dpmpp-2m", "unipc")
    yield from overhead.cases(
        peer, shapes=overhead.SHAPES[:1], threads=(1,), methods=methods, seconds=2.0
    )
    yield from size.cases()
    yield from discrete.cases(1)


def _summarised(function: Any) -> None:
    function.summary = accuracy.summary


_summarised(core)
_summarised(quick)
