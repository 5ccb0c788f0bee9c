"""What a sampler costs beside its network: time a step, and time to draw noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from suffuse.bench import Context, Result, interleaved, median
from suffuse.diffusion import Noise, Plan, sample, schedules, solvers
from suffuse.plugins.contracts import Metric
from suffuse_benchmarks.peers import diffusers_schedulers

__all__ = ["METHODS", "SHAPES", "Draw", "Step", "cases"]

SHAPES = ((1, 4, 64, 64), (16, 4, 64, 64))
METHODS: dict[str, tuple[str, dict[str, Any], str]] = {
    "the default": ("", {}, "unipc-3 linspace"),
    "ddim": ("ddim", {}, "ddim trailing"),
    "dpmpp-2m": ("dpmpp-2m", {}, "dpmpp-2m linspace"),
    "dpmpp-3m": ("dpmpp-3m", {}, "dpmpp-3m linspace"),
    "unipc": ("unipc", {"order": 3}, "unipc-3 linspace"),
    "deis": ("deis", {"order": 3}, "deis-3 linspace"),
    "lms": ("lms", {}, "lms linspace"),
    "sa": ("sa", {"tau": 0.0}, "sa-tau0 trailing"),
    "heun": ("heun", {}, "heun linspace"),
    "pndm": ("pndm", {}, "pndm leading"),
}
"""Ours with its options, and the configuration of diffusers that stands beside it."""


@dataclass(frozen=True)
class Step:
    """The time of one step, denoiser excluded: ours, that of diffusers, and the least there is.

    The denoiser answers with a tensor that lies ready. Ours is the whole sampling loop. "least" are
    the bare operations that the rows' terms need, one multiplication and then additions in place,
    on tensors that lie ready; "by memory" is what reading each term and writing the result takes at
    the speed at which torch copies a tensor of this size. All are called in turns.
    """

    task: str
    model: str
    seed: int
    shape: tuple[int, ...]
    threads: int = 1
    method: str = "the default"
    calls: int = 20
    peer: bool = True
    seconds: float = 3.0

    @property
    def measures(self) -> tuple[str, ...]:
        """Whose code decides the times."""
        return (
            "suffuse.diffusion",
            "suffuse.kernels",
            "suffuse_benchmarks.peers",
            *(("diffusers",) if self.peer else ()),
        )

    def run(self, context: Context) -> Result:
        """Medians over interleaved rounds, and medians of the ratios within a round."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            return self._measured()
        finally:
            torch.set_num_threads(before)

    def _measured(self) -> Result:
        name, options, configuration = METHODS[self.method]
        words = {"solver": name, **options} if name else options
        plan = solvers.plan(schedule=schedules.scaled_linear(), steps=self.calls, **words)
        random = torch.Generator().manual_seed(self.seed)
        x, d = (torch.randn(self.shape, generator=random) for _ in range(2))
        terms = _terms(plan)
        subjects: dict[str, Callable[[], object]] = {
            "suffuse": lambda: sample(lambda x_t, t: d, plan, x=x),
            "least": lambda: _bare(terms, x, d),
            "one copy": lambda: [x.clone() for _ in range(len(plan))],
        }
        per = {"suffuse": len(plan), "least": len(plan), "one copy": len(plan)}
        prepare: dict[str, Callable[[], object]] = {}
        if self.peer:
            steps = diffusers_schedulers.steps_of(configuration, self.calls)
            made = diffusers_schedulers.scheduler(configuration, steps)
            subjects["diffusers"] = lambda: _stepped(made, x, d)
            prepare["diffusers"] = lambda: made.set_timesteps(steps)
            per["diffusers"] = len(made.timesteps)
        metrics, rounds = interleaved(subjects, per=per, prepare=prepare, seconds=self.seconds)
        of = {m.name: m for m in metrics}
        each = float(np.mean([(len(row) + 1) / 2 for row in terms]))
        copy = of.pop("one copy")
        of["by memory"] = Metric(
            "by memory", *(each * v for v in (copy.value, copy.low, copy.high)), "lower",
            n=copy.n, unit=copy.unit,
        )  # fmt: skip
        pairs = [("suffuse", "least")] + [("suffuse", "diffusers")] * self.peer
        for a, b in pairs:
            of[f"{a} / {b}"] = median(f"{a} / {b}", np.array(rounds[a]) / np.array(rounds[b]))
        return Result(list(of.values()), {"terms": [len(row) for row in terms]})


def _terms(plan: Plan) -> list[list[tuple[bool, float]]]:
    """For every row its terms: whether it is a state, and the coefficient."""
    return [
        [(True, k) for k in a if k != 0.0] + [(False, k) for k in b if k != 0.0]
        for a, b in zip(plan.A.tolist(), plan.B.tolist(), strict=True)
    ]


def _bare(terms: list[list[tuple[bool, float]]], x: torch.Tensor, d: torch.Tensor) -> None:
    for row in terms:
        (state, k), *rest = row
        out = (x if state else d) * k
        for state, k in rest:
            out.add_(x if state else d, alpha=k)


def _stepped(made: Any, x: torch.Tensor, d: torch.Tensor) -> None:
    for t in made.timesteps:
        made.scale_model_input(x, t)
        x = made.step(d, t, x).prev_sample


@dataclass(frozen=True)
class Draw:
    """The time to draw normal noise of one shape: by counter, and by torch's generator."""

    task: str
    model: str
    seed: int
    shape: tuple[int, ...]
    threads: int = 1
    seconds: float = 3.0

    @property
    def measures(self) -> tuple[str, ...]:
        """Whose code decides the times."""
        return "suffuse.diffusion.noise", "suffuse.kernels"

    def run(self, context: Context) -> Result:
        """Medians over interleaved rounds."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            noise = Noise(self.seed, self.shape[0])
            generator = torch.Generator().manual_seed(self.seed)
            metrics, _ = interleaved(
                {
                    "by counter": lambda: noise.normal(self.shape[1:], step=0),
                    "torch.randn": lambda: torch.randn(self.shape, generator=generator),
                },
                seconds=self.seconds,
            )
        finally:
            torch.set_num_threads(before)
        return Result(metrics)


def cases(
    peer: bool,
    *,
    shapes: tuple[tuple[int, ...], ...] = SHAPES,
    threads: tuple[int, ...] = (1, 2),
    methods: tuple[str, ...] = tuple(METHODS),
    seconds: float = 3.0,
) -> Iterator[Step | Draw]:
    """Steps of every method, shape and number of threads; and noise.

    Args:
        peer: whether diffusers takes part.
        shapes, threads, methods: which.
        seconds: about how long each case takes.
    """
    for shape in shapes:
        for n in threads:
            name = f"{'x'.join(map(str, shape))}, {n} thread{'s' if n > 1 else ''}"
            for method in methods:
                yield Step(f"overhead/{name}", method, 0, shape, n, method, 20, peer, seconds)
            yield Draw(f"noise/{name}", "normal noise", 0, shape, n, seconds / 2)
