"""Checks of schedules, processes, solvers and guidance."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from unittest import SkipTest

import numpy as np
import torch

from suffuse import plugins
from suffuse.diffusion import Noise, sample, schedules, solvers
from suffuse.diffusion.noise import Stream
from suffuse.diffusion.plan import Plan
from suffuse.diffusion.process import State
from suffuse.errors import SuffuseError
from suffuse.plugins import Entry
from suffuse.testing import mathematics
from suffuse.testing.workbench import Workbench, close, rows


def runs_from_data_to_noise(bench: Workbench, entry: Entry) -> None:
    """From t = 0, which is clean, to t = 1 the noise grows; its gauge and its inverse hold."""
    mathematics.check_schedule(plugins.build("schedule", bench.options(entry)))


def corrupts(bench: Workbench, entry: Entry) -> None:
    """Corrupted states and draws of the prior are like states; row i is its own, by its seed."""
    model, objects = bench.model(entry), bench.objects(entry, 4)
    process, x_0, n = model.process, model.encode(objects), len(objects)
    t = torch.linspace(0.1, 0.9, n, dtype=torch.float64)
    drawn = process.noise(Noise(5, n), x_0, step=0, stream=Stream.CORRUPT)
    given = model.prepare(bench.values(model, entry, n), n)
    own = process.given(given)
    x_t = own.corrupt(x_0, t, drawn)
    last = rows(x_0, [n - 1])
    noise = process.noise(Noise(5, 1, first=n - 1), last, step=0, stream=Stream.CORRUPT)
    alone = process.given({name: rows(value, [n - 1]) for name, value in given.items()})
    assert close(rows(x_t, [n - 1]), alone.corrupt(last, t[-1:], noise), 1e-5), (
        "a state is corrupted otherwise alone"
    )
    prior = own.prior(Noise(5, n), model.shape)
    assert _shapes(x_t) == _shapes(prior) == _shapes(x_0), (
        f"clean states are {_shapes(x_0)}, corrupted ones {_shapes(x_t)}, of the prior "
        f"{_shapes(prior)}"
    )


def _shapes(x: State) -> dict[str, list[int]]:
    parts = x if isinstance(x, Mapping) else {"": x}
    return {name: list(part.shape) for name, part in parts.items()}


SCHEDULES: tuple[Callable[[], schedules.Schedule], ...] = (
    schedules.cosine,
    schedules.scaled_linear,
    schedules.flow,
    schedules.edm,
)
"""A solver makes a plan for one of these."""


def _plan(entry: Entry, bench: Workbench, steps: int) -> tuple[Plan, schedules.Schedule]:
    """Its plan for the first of `SCHEDULES` that it takes, and that schedule."""
    options = dict(bench.options(entry))
    options.pop("name")
    refusals = []
    for make in SCHEDULES:
        try:
            return solvers.plan(entry.load(), make(), steps=steps, **options), make()
        except SuffuseError as error:
            refusals.append(f"{make.__name__}: {error}")
    raise AssertionError(f"it makes no plan of {steps} calls; " + "; ".join(refusals))


def makes_plans(bench: Workbench, entry: Entry) -> None:
    """A plan keeps to the calls that it is given, ends in clean data, and is kept as JSON."""
    plan, _ = _plan(entry, bench, 20)
    assert len(plan) <= 20, f"20 calls are asked for, and it makes {len(plan)}"
    assert not np.any(plan.s[-1]), f"it ends at t = {plan.s[-1]:g} and not in clean data"
    assert str(plan), "it prints nothing"
    again = Plan.from_json(plan.to_json())
    same = all(np.array_equal(getattr(plan, name), getattr(again, name)) for name in "tsABC")
    assert same, "from JSON it is another plan"


def finds_what_is_certain(bench: Workbench, entry: Entry) -> None:
    """Where the denoiser always answers with the same state, sampling ends there."""
    plan, _ = _plan(entry, bench, 20)
    if plan.law != "affine":
        raise SkipTest(f"its rows are of the law {plan.law!r}")
    certain = torch.tensor([[0.5, -1.5]], dtype=torch.float64)
    start = torch.ones_like(certain)
    found = sample(lambda x, t: certain.expand_as(x), plan, x=start, noise=Noise(0, 1))
    assert torch.allclose(found, certain, atol=1e-9), f"{certain.tolist()} becomes {found.tolist()}"


def reaches_its_order(bench: Workbench, entry: Entry) -> None:
    """Its error falls with the steps as its order says, its loop does what its table says."""
    target = entry.load()
    if not hasattr(target, "order"):
        raise SkipTest("it states no order: @suffuse.diffusion.solvers.solver(order)")
    plan, schedule = _plan(entry, bench, 20)
    if plan.law != "affine":
        raise SkipTest(f"its rows are of the law {plan.law!r}")
    options = dict(bench.options(entry))
    options.pop("name")
    mathematics.check_loop(plan)
    if not plan.stochastic:
        try:
            mathematics.check_order(target, schedule, options=options)
        except AssertionError:  # its steps are those of σ/α
            mathematics.check_order(target, schedule, options=options, equal="ratio")
        if target.exponential:
            mathematics.check_exactness(target, schedule, options=options)


def leaves_what_agrees(bench: Workbench, entry: Entry) -> None:
    """Where conditions change nothing it changes nothing, at any weight; shape and dtype stay.

    A weight that it refuses with a sentence is left out.
    """
    x_t = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(2, 2, 3)
    t, arm = torch.tensor([0.3, 0.6], dtype=torch.float64), torch.tensor([0, 1])
    schedule = schedules.cosine()

    def plain(x: torch.Tensor, t: torch.Tensor, **conditions: torch.Tensor) -> torch.Tensor:
        return 0.5 * x + 0.1

    asks = "encoder" in inspect.signature(entry.load()).parameters
    encoder = bench.model(entry).encoder if asks else None
    options, refusals, weights = bench.options(entry), [], (1.0, 2.5)
    for weight in weights:
        try:
            guided = plugins.build(
                "guidance",
                options,
                encoder=encoder,
                conditioners={},
                denoiser=plain,
                plain=plain,
                weight=weight,
                null={"arm": torch.tensor([2])},
                schedule=schedule,
                plan=solvers.plan("ddim", schedule, steps=4),
            )
        except SuffuseError as error:
            refusals.append(f"{weight:g}: {error}")
            assert len(refusals) < len(weights), "no weight works; " + "; ".join(refusals)
            continue
        found = guided(x_t, t, arm=arm)
        assert found.shape == x_t.shape and found.dtype == x_t.dtype, (
            f"of {list(x_t.shape)}, {x_t.dtype} it makes {list(found.shape)}, {found.dtype}"
        )
        assert torch.allclose(found, 0.5 * x_t + 0.1, atol=1e-9), (
            f"both estimates are the same, and at weight {weight:g} it answers with another"
        )
