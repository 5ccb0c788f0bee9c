"""Checks of evaluators, scorers and benchmarks."""

from __future__ import annotations

import json
import math
from typing import Any
from unittest import SkipTest

import torch

from suffuse import plugins
from suffuse.bench.case import key, parameters
from suffuse.errors import SuffuseError
from suffuse.plugins import Entry
from suffuse.plugins.contracts import Evaluator, Example, Metric
from suffuse.testing.workbench import Few, Workbench, close


def _real(bench: Workbench, entry: Entry) -> tuple[Evaluator, list[Example], Few, Few]:
    """An evaluator, real samples, and the two splits without these."""
    return plugins.build("evaluator", bench.options(entry)), *bench.halves(entry)


def _measured(bench: Workbench, entry: Entry) -> list[Metric]:
    """The figures of real samples; measured once, and kept."""
    if entry not in bench.figures:
        bench.figures[entry] = _evaluated(bench, entry, _real(bench, entry)[1])
    return bench.figures[entry]


def _evaluated(bench: Workbench, entry: Entry, samples: list[Example]) -> list[Metric]:
    evaluator, _, test, train = _real(bench, entry)
    found = evaluator.evaluate(samples, test=test, train=train, seed=0)
    assert found, (
        f"it has no figure for {len(samples)} samples; where that must be so, the plugin's "
        f"Conformance says it: settings['evaluator {entry.name}'] may be a function that raises "
        "SkipTest"
    )
    return found


def _noise(bench: Workbench, entry: Entry) -> list[Example]:
    """What an untrained model makes in the place of the samples, under their conditions."""
    model, samples = bench.model(entry), _real(bench, entry)[1]
    given: dict[str, Any] = {
        name: [sample.conditions.get(name) for sample in samples] for name in model.conditions
    }
    made = model.sample(len(samples), seed=0, steps=2, **given)
    return [Example(each, s.conditions) for each, s in zip(made, samples, strict=True)]


def measures(bench: Workbench, entry: Entry) -> None:
    """Its figures are finite, each within its interval, by distinct names, the same by seed."""
    figures = _measured(bench, entry)
    names = [figure.name for figure in figures]
    assert len(set(names)) == len(names), f"several figures have one name: {names}"
    for figure in figures:
        ordered = figure.low <= figure.value <= figure.high
        assert ordered and math.isfinite(figure.high - figure.low), (
            f"{figure.name}: {figure.value:g} is not within {figure.low:g} to {figure.high:g}"
        )
        assert figure.n >= 1, f"{figure.name} rests on {figure.n} samples"
    again = _evaluated(bench, entry, _real(bench, entry)[1])
    assert again == figures, "measured again, its figures differ"


def is_blind_to_order(bench: Workbench, entry: Entry) -> None:
    """The order of the samples does not change a figure."""
    turned = _evaluated(bench, entry, _real(bench, entry)[1][::-1])
    for a, b in zip(_measured(bench, entry), turned, strict=True):
        within = 1e-4 * max(abs(a.value), a.high - a.low, 1e-6)
        assert abs(a.value - b.value) <= within, (
            f"{a.name} is {a.value:g}, and {b.value:g} with the samples in another order"
        )


def finds_real_data_at_the_floor(bench: Workbench, entry: Entry) -> None:
    """Real data in the place of samples come out at the figure's floor, real against real.

    Of what an untrained model makes one figure at least has an interval apart from the floor's.
    """
    figures = [figure for figure in _measured(bench, entry) if figure.floor is not None]
    if not figures:
        raise SkipTest("its figures have no floor")
    for figure in figures:
        low, high = _floor(figure)
        width = (figure.high - figure.low) + (high - low) + 1e-9
        assert low - width <= figure.value <= high + width, (
            f"{figure.name} of real data is {figure.value:g}, and its floor {low:g} to {high:g}"
        )
    noise = [f for f in _evaluated(bench, entry, _noise(bench, entry)) if f.floor is not None]
    same = [f for f in noise if f.low <= _floor(f)[1] and f.high >= _floor(f)[0]]
    assert len(same) < len(noise), "an untrained model is at the floor, too: " + "; ".join(
        f"{f.name} {f.low:g} to {f.high:g}, floor {_floor(f)[0]:g} to {_floor(f)[1]:g}"
        for f in same
    )


def _floor(figure: Metric) -> tuple[float, float]:
    """The interval of the figure's floor."""
    assert figure.floor is not None
    return (
        figure.floor if figure.floor_low is None else figure.floor_low,
        figure.floor if figure.floor_high is None else figure.floor_high,
    )


def refuses_nothing(bench: Workbench, entry: Entry) -> None:
    """Without samples it has no figure: an empty list, or a sentence."""
    evaluator, _, test, train = _real(bench, entry)
    try:
        found = evaluator.evaluate([], test=test, train=train, seed=0)
    except SuffuseError:
        return
    except Exception as error:
        raise AssertionError(
            f"without samples it raises {type(error).__name__} ({error}), and no SuffuseError"
        ) from error
    assert not found, f"it has figures of no samples: {found}"


def scores(bench: Workbench, entry: Entry) -> None:
    """One finite score for each object, the same by seed and in any batch."""
    model, objects = bench.model(entry), bench.objects(entry, 6)
    options, usual = bench.options(entry), bench.objects(entry)
    found = [
        model.score(objects, options, reference=usual, seed=0, batch=batch) for batch in (64, 64, 2)
    ]
    assert tuple(found[0].shape) == (len(objects),), f"{len(objects)} objects: {found[0].shape}"
    assert bool(torch.isfinite(found[0]).all()), f"scores that are not finite: {found[0].tolist()}"
    assert torch.equal(found[0], found[1]), "scored again, objects have other scores"
    assert close(found[0], found[2]), "two at a time, objects have other scores"


def yields_cases(bench: Workbench, entry: Entry) -> None:
    """Its cases are frozen dataclasses of JSON values, each with a task, a model and a seed."""
    options = bench.options(entry)  # raises SkipTest where the plugin says that something lacks
    first, second = (list(plugins.build("benchmark", options)) for _ in range(2))
    assert first, "it has no case"
    for case in first:
        frozen = getattr(getattr(type(case), "__dataclass_params__", None), "frozen", False)
        assert frozen, f"{type(case).__name__} is no frozen dataclass"
        assert case.task and case.model and isinstance(case.seed, int), f"{case}: a name is empty"
        json.dumps(parameters(case))
    names = [(case.task, case.model, case.seed) for case in first]
    twice = sorted({name for name in names if names.count(name) > 1})
    assert not twice, f"several cases are {twice[0]}"
    assert [key(case) for case in first] == [key(case) for case in second], "its keys change"
