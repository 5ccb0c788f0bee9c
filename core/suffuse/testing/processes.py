"""Checks of schedules, processes and solvers."""

from __future__ import annotations

from collections.abc import Mapping
from unittest import SkipTest

import numpy as np
import torch

from suffuse import plugins
from suffuse.diffusion import Noise, schedules, solvers
from suffuse.diffusion.noise import Stream
from suffuse.diffusion.plan import Plan
from suffuse.diffusion.process import State
from suffuse.errors import SuffuseError
from suffuse.plugins import Entry
from suffuse.testing.workbench import Workbench, close, rows


def runs_from_data_to_noise(bench: Workbench, entry: Entry) -> None:
    """From t = 0, which is clean, to t = 1 the noise grows against the data at every time."""
    schedule = plugins.build("schedule", bench.options(entry))
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    at = schedule.at(t)
    level = torch.atan2(at.sigma, at.alpha)
    assert bool(torch.isfinite(level).all()), "its coefficients are not finite"
    assert float(at.sigma[0]) == 0 and float(at.alpha[0]) > 0, "t = 0 is not clean data"
    assert bool((level.diff() > 0).all()), "the noise does not grow with t everywhere"


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


def makes_plans(bench: Workbench, entry: Entry) -> None:
    """Its plans for 8 and 20 calls keep to that, print, and come back from JSON the same."""
    options = dict(bench.options(entry))
    options.pop("name")
    schedule = schedules.cosine()
    made = 0
    for steps in (8, 20):
        try:
            plan = solvers.plan(entry.load(), schedule, steps=steps, **options)
        except SuffuseError:  # it needs another schedule or more calls, and says so
            continue
        made += 1
        assert str(plan), "its plan prints nothing"
        assert len(plan.t) <= steps + 1, f"{steps} calls are asked for, and it makes {len(plan.t)}"
        again = Plan.from_json(plan.to_json())
        assert np.allclose(np.asarray(again.t), np.asarray(plan.t)), "from JSON it is another plan"
    if not made:
        raise SkipTest("it makes no plan for the cosine schedule; its own tests must show it")
