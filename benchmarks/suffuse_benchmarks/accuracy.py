"""Accuracy at equal network calls, with exact denoisers of Gaussian mixtures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suffuse.bench import Context, Record, Result, Table
from suffuse.diffusion import Schedule, sample, schedules, solvers
from suffuse.diffusion.grids import GRIDS
from suffuse.errors import SuffuseError
from suffuse.plugins.contracts import Metric
from suffuse.stats import bootstrap
from suffuse_benchmarks import peers
from suffuse_benchmarks.mixtures import BUDGETS, SHAPES, Problem, problems

__all__ = ["DEFAULT", "TUNED", "Peer", "Solver", "cases", "summary"]

DEFAULT = "suffuse, the default"
TUNED = "suffuse, tuned on other starting points"

QUIETED: dict[str, dict[str, Any]] = {"sa": {"tau": 0.0}}
"""Options by which a solver that adds noise does without."""


@dataclass(frozen=True)
class Setting:
    """What is asked of a sampler.

    Attributes:
        schedule: a schedule of the core's, by name.
        guidance: the weight; 1 is none.
        budgets: network calls.
        shapes: of the mixtures.
        starts: starting points of each.
    """

    schedule: str = "scaled-linear"
    guidance: float = 1.0
    budgets: tuple[int, ...] = BUDGETS
    shapes: tuple[tuple[int, int, float], ...] = SHAPES
    starts: int = 96

    @property
    def task(self) -> str:
        guided = f", guidance {self.guidance:g}" if self.guidance != 1 else ""
        return f"accuracy/{self.schedule}{guided}"


@dataclass(frozen=True)
class _Accuracy(ABC):
    task: str
    model: str
    seed: int
    setting: dict[str, Any] = field(default_factory=dict)

    @property
    def measures(self) -> tuple[str, ...]:
        """Whose code decides the errors."""
        return "suffuse.diffusion", "suffuse_benchmarks.mixtures"

    @abstractmethod
    def made(self, problem: Problem, schedule: Schedule, calls: int) -> Tensor | None:
        """The sampler's x_0 from the problem's starting points; None where it cannot."""

    def run(self, context: Context) -> Result:
        """Errors at every budget, over all mixtures and starting points."""
        asked = Setting(**{name: _tuples(value) for name, value in self.setting.items()})
        schedule = context.once(asked.schedule, lambda: schedules.schedule(asked.schedule))
        posed: list[Problem] = context.once(
            (self.seed, asked.shapes, asked.starts, asked.guidance),
            lambda: list(problems(self.seed, asked.shapes, asked.starts, asked.guidance)),
        )
        metrics, means, without = [], {}, []
        for calls in asked.budgets:
            made = [self.made(problem, schedule, calls) for problem in posed]
            ends = [x for x in made if x is not None]
            if len(ends) < len(made) or not all(bool(x.isfinite().all()) for x in ends):
                without.append(calls)
                continue
            errors = torch.stack(
                [p.errors(x, schedule) for p, x in zip(posed, ends, strict=True)]
            ).numpy()
            metrics.append(_metric(f"{calls} calls", errors))
            means[str(calls)] = [float(f"{e:.6g}") for e in errors.mean(1)]
        note = f"no finite answer at {', '.join(map(str, without))} calls" if without else ""
        return Result(metrics, {"means": means}, note)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _metric(name: str, errors: np.ndarray) -> Metric:
    """The mean error; its interval is over starting points, for these mixtures."""
    flat = errors.ravel()
    mixtures = np.repeat(np.arange(len(errors)), errors.shape[1])
    found = bootstrap(np.mean, flat, strata=mixtures, method="percentile", resamples=500)
    return Metric.of(name, found, "lower", flat.size)


@dataclass(frozen=True)
class Solver(_Accuracy):
    """A solver of ours on a grid of ours; both empty for the default, "tuned" for a tuned plan."""

    solver: str = ""
    grid: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def made(self, problem: Problem, schedule: Schedule, calls: int) -> Tensor | None:
        denoiser = problem.denoiser(schedule)
        if self.solver == "tuned":
            others = torch.randn(
                1024,
                problem.start.shape[1],
                generator=torch.Generator().manual_seed(10**6 + self.seed),
                dtype=torch.float64,
            )
            plan = solvers.tune(denoiser, schedule, calls=calls, x=others)
        else:
            words: dict[str, Any] = dict(self.options)
            if self.grid:
                words["grid"] = self.grid
            if self.solver:
                words["solver"] = self.solver
            try:
                plan = solvers.plan(schedule=schedule, steps=calls, **words)
            except SuffuseError:
                return None  # too few calls for the method, or a grid that it cannot take
            if plan.stochastic:
                return None
        made: Tensor = sample(denoiser, plan, x=problem.start)
        return made


@dataclass(frozen=True)
class Peer(_Accuracy):
    """A configuration of another library."""

    library: str = ""
    configuration: str = ""

    @property
    def measures(self) -> tuple[str, ...]:
        """Whose code decides the errors: the library's, and that of the truth."""
        truth = ("mixtures", "peers")
        exact = ("ode", "oracle", "schedules")
        return (
            self.library,
            *(f"suffuse_benchmarks.{name}" for name in truth),
            *(f"suffuse.diffusion.{name}" for name in exact),
        )

    def made(self, problem: Problem, schedule: Schedule, calls: int) -> Tensor | None:
        (peer,) = (p for p in peers.installed() if self.library == p.DISTRIBUTION)
        exact = _Counted(problem)
        made: Tensor = peer.sample(self.configuration, calls, exact, problem.start)
        if exact.calls > calls:
            raise SuffuseError(f"{self.model} made {exact.calls} calls where {calls} were allowed")
        return made


class _Counted:
    """The exact estimate of y = x/α at σ/α, with a count of how often it was asked."""

    def __init__(self, problem: Problem) -> None:
        self.clock = schedules.edm(sigma_max=1000.0)
        self.denoiser = problem.denoiser(self.clock)
        self.calls = 0

    def __call__(self, y: Tensor, ratio: float) -> Tensor:
        self.calls += 1
        y = y.double()
        t = self.clock.t(-np.log(ratio)).expand(len(y))
        return self.denoiser(y, t)


def _ours() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Name, solver, grid and options of every deterministic pair; the solver's name alone decides
    whether it adds noise."""
    for name, solver in solvers.SOLVERS.items():
        options = QUIETED.get(name, {})
        try:
            plan = solvers.plan(solver, schedules.cosine(), steps=12, **options)
        except SuffuseError:
            continue
        if plan.stochastic or plan.law != "affine":
            continue
        for grid in GRIDS:
            yield f"suffuse {name} {grid}", name, grid, options


def cases(
    setting: Setting,
    seed: int,
    *,
    others: Sequence[ModuleType] = (),
    pick: Callable[[str], bool] = lambda name: True,
    tuned: bool = True,
) -> Iterator[_Accuracy]:
    """Cases of one setting: the default, our solvers on our grids, and peers.

    Args:
        setting: what is asked.
        seed: of the mixtures.
        others: peers to take part.
        pick: which of our pairs and of the peers' configurations, by the case's model.
        tuned: whether the plan that is tuned for each mixture takes part.
    """
    changed = {
        name: value for name, value in vars(setting).items() if value != getattr(Setting, name)
    }
    head = (setting.task,)
    yield Solver(*head, DEFAULT, seed, changed)
    if tuned:
        yield Solver(*head, TUNED, seed, changed, solver="tuned")
    for model, solver, grid, options in _ours():
        if pick(model):
            yield Solver(*head, model, seed, changed, solver=solver, grid=grid, options=options)
    if setting.schedule == "scaled-linear":
        for peer in others:
            for name in peer.CONFIGURATIONS:
                model = f"{peer.DISTRIBUTION} {name}"
                if pick(model):
                    words = {"library": peer.DISTRIBUTION, "configuration": name}
                    yield Peer(*head, model, seed, changed, **words)


def summary(records: Sequence[Record]) -> list[Table]:
    """For every task and budget: ours beside the best peer, and the best pair of ours."""
    tables = []
    for task in dict.fromkeys(r.task for r in records if r.task.startswith("accuracy/")):
        found = [r for r in records if r.task == task]
        budgets = list(dict.fromkeys(b for r in found for b in r.detail["means"]))
        rows = [_row(found, budget) for budget in sorted(budgets, key=int)]
        libraries = {r.parameters["library"] for r in found if r.parameters.get("library")}
        versions = sorted(
            f"{name} {r.environment['versions'].get(name, '')}"
            for name in libraries
            for r in found
            if r.parameters.get("library") == name
        )
        caption = (
            f"Mean relative error of {len({r.model for r in found})} samplers; peers: "
            f"{', '.join(dict.fromkeys(versions)) or 'none installed'}. Intervals of the ratios "
            "are bootstrapped over the mixtures. The best peer is chosen for each budget after "
            "the fact; our default is one and the same."
        )
        head = ("calls", "default", "best peer", "its error", "default / peer", "tuned / peer",
                "best of ours", "its error")  # fmt: skip
        tables.append(Table(f"Summary: {task}", head, rows, caption))
    return tables


def _row(records: Sequence[Record], budget: str) -> list[str | float]:
    means: dict[str, np.ndarray] = {}
    for model in dict.fromkeys(r.model for r in records):
        each = [r.detail["means"].get(budget) for r in records if r.model == model]
        if all(each):
            means[model] = np.concatenate(each)
    most = max((len(m) for m in means.values()), default=0)
    means = {model: m for model, m in means.items() if len(m) == most}
    named = {r.model for r in records if r.parameters.get("library")}

    def best(models: Sequence[str]) -> str | None:
        return min(models, key=lambda m: float(means[m].mean()), default=None)

    ours = means.get(DEFAULT)
    peer = best([m for m in means if m in named])
    pair = best([m for m in means if m not in named and m not in (DEFAULT, TUNED)])

    def ratio(model: str) -> str:
        if peer is None or model not in means:
            return ""
        found = bootstrap(
            lambda a, b: a.mean() / b.mean(),
            means[model],
            means[peer],
            paired=True,
            method="percentile",
            resamples=1000,
        )
        return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"

    def told(model: str | None) -> tuple[str, str]:
        return ("", "") if model is None else (model, f"{means[model].mean():.3g}")

    first = "" if ours is None else f"{ours.mean():.3g}"
    return [budget, first, *told(peer), ratio(DEFAULT), ratio(TUNED), *told(pair)]
