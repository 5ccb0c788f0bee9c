"""What the checks of one plugin work with: recipes, a few examples, models; each made once."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from suffuse import plugins
from suffuse import recipe as recipes
from suffuse.diffusion.noise import Noise, Stream
from suffuse.diffusion.process import State, by_name
from suffuse.errors import SuffuseError
from suffuse.model import Model
from suffuse.plugins import Entry, Manager, PluginStatus
from suffuse.plugins.contracts import Condition, Dataset, Example, Metric
from suffuse.recipe import Recipe
from suffuse.testing.kit import Conformance

__all__ = ["EXAMPLES", "Few", "Workbench", "close", "rows"]

EXAMPLES = 16
"""So many examples are encoded, trained on and drawn."""

_PARTS = ("dataset", "encoder", "denoiser", "process", "schedule", "renderer")


_IN_RECIPES = ("conditioner", "evaluator", "solver")
"""Further parts of recipes."""

_OPTIONED = frozenset(plugins.KINDS) - {*_PARTS, "conditioner", "recipe", "model"}
"""The kinds whose options settings give as "KIND.OPTION"; a recipe has those of the others."""


class Few:
    """Some examples of a data set."""

    def __init__(self, whole: Dataset, indices: Sequence[int]) -> None:
        self._whole, self._indices = whole, list(indices)
        self.licence = getattr(whole, "licence", None)

    @classmethod
    def spread(cls, whole: Dataset, n: int) -> Few:
        """At most n examples from all over it; at random, since data may be laid out by class."""
        return cls(whole, random.Random(0).sample(range(len(whole)), min(n, len(whole))))

    @property
    def conditions(self) -> Mapping[str, Condition]:
        """Those of the whole."""
        return self._whole.conditions

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Example:
        return self._whole[self._indices[index]]


class Workbench:
    """The plugin, and what its checks need.

    Args:
        status: of the plugin.
        conformance: what it says of itself.
        manager: which has loaded it.

    Attributes:
        figures: what evaluators found of real samples.
    """

    def __init__(self, status: PluginStatus, conformance: Conformance, manager: Manager) -> None:
        self.status, self.conformance, self.manager = status, conformance, manager
        self._folder = tempfile.mkdtemp(prefix="suffuse-check-")
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self.recipe = cache(self._recipe)
        self._halves: dict[str, tuple[list[Example], Few, Few]] = {}
        self._read: dict[tuple[str, str, int], Few] = {}
        self._settings = cache(self._settings_of)
        self._fitted = cache(self._fit)
        self.figures: dict[Entry, list[Metric]] = {}

    def folder(self) -> Path:
        """A new, empty folder."""
        return Path(tempfile.mkdtemp(dir=self._folder))

    # What a thing is checked in

    def _settings_of(self, key: str) -> dict[str, Any]:
        found = self.conformance.settings.get(key, {})
        return dict(found(self.folder()) if callable(found) else found)

    def _recipe(self, entry: Entry) -> Recipe:
        """The recipe in which a thing is checked, and which uses it."""
        own = self._settings(f"{entry.kind} {entry.name}")
        host = own.get("recipe")
        if host is None and entry.kind == "recipe":
            host = entry.name
        names = self.recipes()
        if host is None:
            usable = [name for name in names if self._usable(name)]
            using = [name for name in names if self._used(name, entry, name in usable)]
            both = [name for name in using if name in usable]
            host = next(iter([*both, *using, *usable, *names]), None)
        if host is None:
            raise SkipTest(
                f"no recipe of the plugin's to check it in; settings['{entry.kind} {entry.name}'] "
                "of its Conformance may name one: {'recipe': ...}"
            )
        apart = ("recipe", f"{entry.kind}.") if entry.kind in _OPTIONED else ("recipe",)
        changes = {key: value for key, value in own.items() if not key.startswith(apart)}
        if not _uses(self._loaded(host, {}), entry):
            if entry.kind in _PARTS:
                changes = {f"{entry.kind}.name": entry.name, **changes}
            elif entry.kind == "evaluator":
                changes = {"evaluators": [{"name": entry.name}], **changes}
        return self._loaded(host, changes)

    def recipes(self) -> list[str]:
        """The names of the plugin's own recipes."""
        return [e.name for e in plugins.entries("recipe") if e.plugin == self.status.name]

    def _used(self, recipe: str, entry: Entry, usable: bool) -> bool:
        """Whether a recipe, which may lack its settings, uses a thing."""
        try:
            found = self._loaded(recipe, {}) if usable else recipes.load(recipe)
        except SuffuseError:
            return False
        return _uses(found, entry)

    def _usable(self, recipe: str) -> bool:
        """Whether its settings are there; for instance not, where they need data that are not."""
        try:
            self._settings(f"recipe {recipe}")
        except SkipTest:
            return False
        return True

    def _loaded(self, name: str, changes: Mapping[str, Any]) -> Recipe:
        """A recipe under its settings and changes; those of a part that is replaced fall away."""
        replaced = tuple(key.removesuffix("name") for key in changes if key.endswith(".name"))
        own = self._settings(f"recipe {name}")
        kept = {key: value for key, value in own.items() if not key.startswith(replaced)}
        return recipes.load(name, {**kept, **changes})

    def options(self, entry: Entry) -> dict[str, Any]:
        """The thing's name and options: its settings over what the recipe has where it is checked.

        Raises:
            SuffuseError: one that it must be given is in neither.
        """
        found = {"name": entry.name}
        if entry.kind in _PARTS or entry.kind in _IN_RECIPES:
            with suppress(SkipTest):
                parts = _parts(self.recipe(entry), entry.kind)
                found = next((dict(p) for p in parts if p["name"] == entry.name), found)
        if entry.kind in _OPTIONED:
            start, key = f"{entry.kind}.", f"{entry.kind} {entry.name}"
            own = self._settings(key)
            found |= {k.removeprefix(start): v for k, v in own.items() if k.startswith(start)}
            for name, option in entry.options.model_fields.items():
                if option.is_required() and name not in found:
                    raise SuffuseError(
                        f"it needs {name}; settings[{key!r}] of the plugin's Conformance may say: "
                        f"{{'{start}{name}': ...}}"
                    )
        return found

    # Examples

    def dataset(self, entry: Entry, split: str) -> Dataset:
        """The data set of the thing's recipe."""
        found: Dataset = plugins.build("dataset", self.recipe(entry).dataset, split=split)
        return found

    def _data(self, entry: Entry) -> str:
        """By what the data are known again that the thing is checked in."""
        return json.dumps(self.recipe(entry).dataset, sort_keys=True)

    def few(self, entry: Entry, split: str, n: int = EXAMPLES) -> Few:
        """Some examples of the thing's recipe; read once for all recipes that have these data."""
        key = (self._data(entry), split, n)
        if key not in self._read:
            few = Few.spread(self.dataset(entry, split), n)
            self._read[key] = Few(_Read([few[i] for i in range(len(few))], few), range(len(few)))
        return self._read[key]

    def halves(self, entry: Entry) -> tuple[list[Example], Few, Few]:
        """Real samples, and the test and training splits without these.

        Made once for all evaluators, as they keep what they learn of a data set.
        """
        key, n = self._data(entry), self.conformance.examples
        if key not in self._halves:
            test, twice = self.few(entry, "test", n), self.few(entry, "train", 2 * n)
            samples = [twice[i] for i in range(1, len(twice), 2)][: len(test)]
            self._halves[key] = samples, test, Few(twice, range(0, len(twice), 2))
        return self._halves[key]

    def objects(self, entry: Entry, n: int = EXAMPLES) -> list[Any]:
        """Raw objects of the training split."""
        few = self.few(entry, "train")
        return [few[i].data for i in range(min(n, len(few)))]

    def values(self, model: Model, entry: Entry, n: int) -> dict[str, list[Any]]:
        """Values of the model's conditions, as those of examples are."""
        few = self.few(entry, "train")
        return {
            name: [few[i % len(few)].conditions.get(name) for i in range(n)]
            for name in model.conditions
        }

    # Models

    def _fit(self, entry: Entry) -> Recipe:
        torch.manual_seed(0)
        return Model.untrained(self.recipe(entry), self.few(entry, "train")).recipe

    def model(self, entry: Entry, *, shaken: bool = True) -> Model:
        """A model by the thing's recipe, its encoder fitted on a few examples.

        Args:
            entry: the thing.
            shaken: move the weights a little, since outputs that begin at zero say nothing.
        """
        torch.manual_seed(0)
        model = Model(self._fitted(entry), self.few(entry, "train").conditions)
        if shaken:
            with torch.no_grad():
                for parameter in model.network.parameters():
                    parameter.add_(torch.randn_like(parameter), alpha=0.02)
        return model

    def loss(self, model: Model, entry: Entry, n: int = EXAMPLES) -> Tensor:
        """The training loss of the first examples, [n], always under the same noise."""
        objects = self.objects(entry, n)
        n = len(objects)
        x_0 = model.encode(objects)
        sizes = model.sizes(objects)
        t = model.process.levels((torch.arange(n, dtype=torch.float64) + 0.5) / n)
        noise = model.process.noise(Noise(0, n), x_0, step=0, stream=Stream.CORRUPT)
        mask = None if sizes is None else model.mask(sizes)
        given = model.prepare(self.values(model, entry, n), n)
        return model.process.loss(model.network, x_0, t, noise, mask=mask, **given)

    def states(self, model: Model, entry: Entry, n: int, **settings: Any) -> State:
        """States that the model samples under the conditions of examples; [n, *shape]."""
        caught: list[State] = []

        def catch(x: State, sizes: Tensor | None = None) -> list[Any]:
            caught.append(x)
            return [None] * _length(x)

        first = settings.get("first", 0)
        values = self.values(model, entry, first + n)
        given: dict[str, Any] = {name: value[first:] for name, value in values.items()}
        steps = min(model.recipe.sampling.steps, 6)
        model.__dict__["decode"] = catch  # the states themselves, before they become objects
        try:
            model.sample(n, **{"steps": steps, **settings}, **given)
        finally:
            del model.__dict__["decode"]
        return _joined(caught)


class _Read:
    """Examples that have been read."""

    def __init__(self, examples: Sequence[Example], of: Few) -> None:
        self._examples, self.conditions, self.licence = examples, of.conditions, of.licence

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Example:
        return self._examples[index]


def _parts(recipe: Recipe, kind: str) -> list[dict[str, Any]]:
    if kind in _PARTS:
        return [getattr(recipe, kind)]
    if kind == "evaluator":
        return recipe.evaluators
    if kind == "conditioner":
        return list(recipe.conditions.values())
    if kind == "solver":
        solver = recipe.sampling.solver
        return [solver] if "name" in solver else list(solver.values())
    return []


def _uses(recipe: Recipe, entry: Entry) -> bool:
    if entry.kind == "recipe":
        return True
    return any(part["name"] == entry.name for part in _parts(recipe, entry.kind))


def _length(x: State) -> int:
    return len(x if isinstance(x, Tensor) else next(iter(x.values())))


def _joined(parts: Sequence[State]) -> State:
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def rows(x: State, chosen: Any) -> State:
    """Some rows of a state."""
    return by_name(lambda part: part[chosen], x)


def close(a: State, b: State, relative: float = 1e-3) -> bool:
    """Whether states agree: tokens to the last, numbers to this share of their deviation.

    With a share of 0: to the bit.
    """
    if not isinstance(a, Tensor):
        return a.keys() == b.keys() and all(close(a[name], b[name], relative) for name in a)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not relative or not a.is_floating_point():
        return torch.equal(a, b)
    scale = float(a.std()) + 1e-6 if a.numel() > 1 else float(a.abs().max()) + 1e-6
    return bool(((a - b).abs() <= relative * scale + 1e-6).all())


def refused(call: Any, what: str) -> None:
    """Hold a call to answering with a SuffuseError that says something."""
    try:
        call()
    except SuffuseError as error:
        assert len(str(error)) > 10, f"{what} is refused without a word: {str(error)!r}"
        return
    except Exception as error:
        raise AssertionError(
            f"{what} raises {type(error).__name__} ({error}) and not a SuffuseError with a "
            "sentence for its reader"
        ) from error
    raise AssertionError(f"{what} is taken without an error")
