"""The suites: `core`, and `quick`, which is a part of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from suffuse.bench import Case
from suffuse_benchmarks import accuracy, discrete, overhead, peers, restoring, size

__all__ = ["core", "quick"]

STRONG = (
    "unipc-2 exponential",
    "unipc-3 karras",
    "dpmpp-2m karras",
    "dpmpp-3m karras",
    "deis-3 karras",
    "lms karras",
    "sa-tau0 leading",
    "zeab-3 karras",
)


def core(seeds: int = 1, with_peers: bool = True) -> Iterator[Case]:
    """The numbers of the core: accuracy, overhead, size, discrete and posterior samplers.

    Args:
        seeds: how many sets of mixtures.
        with_peers: whether installed peers take part (extra `peers`).
    """
    others = peers.installed() if with_peers else []
    for seed in range(seeds):
        yield from accuracy.cases(accuracy.Setting(), seed, others=others)
        for schedule in ("cosine", "flow", "edm"):
            yield from accuracy.cases(accuracy.Setting(schedule), seed)
        for weight in (3.0, 7.5):
            guided = accuracy.Setting(guidance=weight, shapes=accuracy.SHAPES[1:9:2])
            yield from accuracy.cases(guided, seed, others=others)
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
        return ours or name.endswith(STRONG)

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
