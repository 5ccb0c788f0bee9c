"""Checks of networks, of conditions, and of whole models."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import SkipTest

import torch

from suffuse import plugins, storage
from suffuse import recipe as recipes
from suffuse.diffusion.noise import Noise, Stream
from suffuse.diffusion.process import State, by_name
from suffuse.errors import MissingExtra, SuffuseError
from suffuse.model import Model
from suffuse.plugins import Entry
from suffuse.plugins.contracts import Condition
from suffuse.testing.workbench import Workbench, close, refused, rows

STEPS = 60
"""The most optimiser steps in which a network must show that it learns."""


def _asked(bench: Workbench, model: Model, entry: Entry) -> tuple[State, Any, dict[str, Any]]:
    """What the network is shown of the first four examples, half noised."""
    objects = bench.objects(entry, 4)
    n = len(objects)
    x_0, sizes = model.encode(objects), model.sizes(objects)
    t = torch.full((n,), 0.5, dtype=torch.float64)
    noise = model.process.noise(Noise(0, n), x_0, step=0, stream=Stream.CORRUPT)
    given: dict[str, Any] = dict(model.prepare(bench.values(model, entry, n), n))
    process = model.process.given(given)
    x, level = process.present(process.corrupt(x_0, t, noise), t)
    if sizes is not None:
        given["mask"] = model.mask(sizes)
    return x, level, given


def answers_in_shape(bench: Workbench, entry: Entry) -> None:
    """Its answer has the shape of the state, or one axis more for tokens; finite, float32."""
    model = bench.model(entry)
    clean = model.encode(bench.objects(entry, 1))
    tokens = {
        name
        for name, part in (clean if isinstance(clean, Mapping) else {"": clean}).items()
        if part.dtype == torch.int64
    }
    x, level, given = _asked(bench, model, entry)
    for n in (1, 2):
        few: Any = {name: rows(value, slice(n)) for name, value in given.items()}
        with torch.no_grad():
            out = model.network(rows(x, slice(n)), by_name(lambda part: part[:n], level), **few)  # noqa: B023
        shapes = model.shape if isinstance(model.shape, Mapping) else {"": model.shape}
        parts = out if isinstance(out, Mapping) else {"": out}
        assert set(parts) == set(shapes), f"it answers {set(parts)}, and states have {set(shapes)}"
        for name, part in parts.items():
            plain = (n, *shapes[name])
            shape = tuple(part.shape)
            assert shape == plain or (name in tokens and shape[:-1] == plain), (
                f"for states {name} {list(plain)} it answers {list(part.shape)}"
            )
            assert part.dtype == torch.float32, f"its answer {name} is of {part.dtype}"
            assert bool(torch.isfinite(part).all()), f"its answer {name} is not finite"


def keeps_samples_apart(bench: Workbench, entry: Entry) -> None:
    """In evaluation the answer for a sample does not depend on the others of its batch."""
    model = bench.model(entry)
    x, level, given = _asked(bench, model, entry)
    with torch.no_grad():
        together = model.network(x, level, **given)
        for i in range(len(bench.objects(entry, 4))):
            few: Any = {name: rows(value, [i]) for name, value in given.items()}
            alone = model.network(rows(x, [i]), rows(level, [i]), **few)
            assert close(rows(together, [i]), alone), f"sample {i} alone is answered otherwise"


def ignores_padding(bench: Workbench, entry: Entry) -> None:
    """What lies outside of a ragged state changes nothing inside of it."""
    model = bench.model(entry)
    x, level, given = _asked(bench, model, entry)
    if "mask" not in given:
        raise SkipTest("states are of one size")
    mask = given["mask"] if isinstance(given["mask"], Mapping) else {"": given["mask"]}
    states = x if isinstance(x, Mapping) else {"": x}
    wide = {
        name: m.reshape(*m.shape, *[1] * (states[name].ndim - m.ndim)) for name, m in mask.items()
    }
    if all(bool(m.all()) for m in mask.values()):
        raise SkipTest("no example is padded")
    other = {
        name: torch.where(wide[name], part, part.flip(0) + 1) if name in wide else part
        for name, part in states.items()
        if part.is_floating_point()
    }
    tokens = {
        name: torch.where(wide[name], part, torch.zeros_like(part)) if name in wide else part
        for name, part in states.items()
        if not part.is_floating_point()
    }
    changed: Any = {**other, **tokens}
    with torch.no_grad():
        a = model.network(x, level, **given)
        b = model.network(changed if isinstance(x, Mapping) else changed[""], level, **given)
    a, b = (each if isinstance(each, Mapping) else {"": each} for each in (a, b))
    for name, m in mask.items():
        assert close(a[name][m], b[name][m]), f"the padding of {name} changes what is inside"


def uses_its_weights(bench: Workbench, entry: Entry) -> None:
    """The loss has a gradient for every weight; data-parallel training fails where one has not."""
    model = bench.model(entry)
    model.network.train()
    bench.loss(model, entry).mean().backward()  # type: ignore[no-untyped-call]
    idle = [
        name for name, p in model.network.named_parameters() if p.requires_grad and p.grad is None
    ]
    assert not idle, f"no gradient reaches {', '.join(idle[:5])}"
    broken = [
        name
        for name, p in model.network.named_parameters()
        if p.grad is not None and not torch.isfinite(p.grad).all()
    ]
    assert not broken, f"the gradient of {', '.join(broken[:5])} is not finite"


def learns(bench: Workbench, entry: Entry) -> None:
    """A few optimiser steps on a few examples lower their loss in evaluation by a tenth."""
    model = bench.model(entry, shaken=False)

    def loss() -> float:
        model.network.eval()
        with torch.no_grad():
            return float(bench.loss(model, entry).mean())

    optimizer = torch.optim.Adam(model.network.parameters(), lr=2e-3)
    first = last = loss()
    for step in range(1, STEPS + 1):
        model.network.train()
        optimizer.zero_grad()
        bench.loss(model, entry).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % 10 == 0:
            last = loss()
            if first - last > 0.1 * abs(first):
                return
    raise AssertionError(f"after {STEPS} steps the loss is {last:.3g}, from {first:.3g}")


# Conditions


_WIDTH = 16
"""Of the vectors that a conditioner makes for no network."""

_KINDS = (
    (Condition("text"), ["a red apple", "two"]),
    (Condition("category", ("a", "b", "c")), ["a", "c"]),
    (Condition("number"), [0.5, -2.0]),
)
"""Conditions, with values, for one that no recipe uses."""


@dataclass(frozen=True)
class _Asked:
    """A conditioner at work.

    Attributes:
        made: the conditioner.
        condition: what it embeds.
        values: some, as examples have them.
        slots: what the network takes.
        width: of the vector that the network takes.
    """

    made: Any
    condition: Condition
    values: list[Any]
    slots: Sequence[str]
    width: int


def _conditioners(bench: Workbench, entry: Entry) -> list[_Asked]:
    """It in the model of its recipe; or by itself, where no recipe uses it."""
    try:
        recipe = bench.recipe(entry)
    except SkipTest:  # the plugin has none, or what its recipe needs is not here
        try:
            return [_alone(bench, entry)]
        except AssertionError:
            if not bench.recipes():
                raise
        raise
    names = [name for name, part in recipe.conditions.items() if part["name"] == entry.name]
    if not names:
        return [_alone(bench, entry)]
    model, few = bench.model(entry), bench.few(entry, "train")
    network: Any = model.network
    slots = [*inspect.signature(network.backbone.forward).parameters][2:]
    return [
        _Asked(
            network.conditioners[name],
            model.conditions[name],
            [few[i].conditions.get(name) for i in range(min(3, len(few)))],
            slots,
            network.backbone.width,
        )
        for name in names
    ]


def _alone(bench: Workbench, entry: Entry) -> _Asked:
    slots, refusals = ("vector", "tokens", "token_mask", "concat"), []
    for condition, values in _KINDS:
        try:
            made = plugins.build(
                "conditioner", bench.options(entry), condition=condition, width=_WIDTH
            )
            made.prepare(values)
        except MissingExtra:
            raise
        except (SuffuseError, TypeError) as error:
            refusals.append(f"{condition.kind}: {error}")
        else:
            return _Asked(made, condition, values, slots, _WIDTH)
    raise AssertionError(
        f"no recipe uses it, and by itself it takes no value; {'; '.join(refusals)}. "
        f"settings['conditioner {entry.name}'] of the plugin's Conformance may name a recipe: "
        "{'recipe': ..., 'conditions.NAME.name': ...}"
    )


def embeds(bench: Workbench, entry: Entry) -> None:
    """Values and "not given" become one row each, and rows of what the network takes."""
    for asked in _conditioners(bench, entry):
        values = [*asked.values, *([] if getattr(asked.made, "always", False) else [None])]
        prepared = asked.made.prepare(values)
        assert len(prepared) == len(values), f"{len(values)} values become {len(prepared)} rows"
        answer = asked.made(prepared)
        for slot, value in (answer if isinstance(answer, Mapping) else {"vector": answer}).items():
            assert slot in asked.slots, (
                f"it answers {slot!r}, and the network takes {', '.join(asked.slots)}"
            )
            assert len(value) == len(values), f"{len(values)} values become {len(value)} {slot}"
        if not isinstance(answer, Mapping):
            expected = (len(values), asked.width)
            assert tuple(answer.shape) == expected, f"{list(answer.shape)}, not {list(expected)}"


def refuses_values(bench: Workbench, entry: Entry) -> None:
    """A value of another kind is refused with a sentence."""
    for asked in _conditioners(bench, entry):
        refused(lambda: asked.made.prepare([object()]), "the value object()")  # noqa: B023


# Models


def is_written_and_read(bench: Workbench, entry: Entry) -> None:
    """Resolved and written as a file, the recipe is read back as the same."""
    recipe = bench.recipe(entry)
    path = bench.folder() / "recipe.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8")
    assert recipes.load(path) == recipe, "the recipe that is read back is another"


def samples_by_seed(bench: Workbench, entry: Entry) -> None:
    """Sample i of a seed is the same in any batch and alone; another seed gives another."""
    model = bench.model(entry)
    x = bench.states(model, entry, 4, seed=3)
    assert close(x, bench.states(model, entry, 4, seed=3), 0.0), "made again, samples differ"
    assert close(x, bench.states(model, entry, 4, seed=3, batch=1)), "one by one, samples differ"
    assert close(rows(x, slice(2, 4)), bench.states(model, entry, 2, seed=3, first=2)), (
        "samples 2 and 3 alone are others"
    )
    assert not close(x, bench.states(model, entry, 4, seed=4)), "another seed makes the same"


def is_kept(bench: Workbench, entry: Entry) -> None:
    """Saved and loaded, the model samples the same to the bit, and saves to the same bytes."""
    model, folder = bench.model(entry), bench.folder()
    model.save(folder / "a")
    loaded = Model.load(folder / "a", "cpu")
    loaded.save(folder / "b")
    for name in ("model.safetensors", "config.json"):
        same = storage.digest(folder / "a" / name) == storage.digest(folder / "b" / name)
        assert same, f"{name} of the loaded model is another"
    made = (bench.states(each, entry, 2, seed=1) for each in (model, loaded))
    assert close(next(made), next(made), 0.0), "the loaded model samples otherwise"


def refuses_conditions(bench: Workbench, entry: Entry) -> None:
    """A condition that there is not, and a category that there is not, are refused."""
    model = bench.model(entry)
    refused(lambda: model.sample(1, steps=2, no_such_condition=1), "an unknown condition")
    for name, condition in model.conditions.items():
        if condition.kind == "category":
            wrong: Any = {name: "no such category"}
            refused(lambda: model.sample(1, steps=2, **wrong), f"an unknown {name}")  # noqa: B023


def is_shipped(bench: Workbench, entry: Entry) -> None:
    """It loads, samples by its seed, has a card, and is of a size that a wheel may hold."""
    folder = entry.load()
    assert (folder / "README.md").is_file(), "it has no model card, README.md"
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    assert size <= 25, f"it has {size:.0f} MB, and a wheel holds 25"
    model = Model.load(folder, "cpu")
    objects = model.sample(2, seed=0, steps=min(model.recipe.sampling.steps, 6))
    again = model.sample(2, seed=0, steps=min(model.recipe.sampling.steps, 6))
    a, b = (model.encode(each) for each in (objects, again))
    assert close(a, b), "made again, its samples differ"
