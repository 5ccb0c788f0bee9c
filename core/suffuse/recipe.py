"""Recipes: what a model is made of and how it is trained, as checked, plain values.

A recipe names its parts by their registered names, each with options of its own; a name alone is
one without options:

    renderer = "image/png"
    schedule = "cosine"
    [dataset]
    name = "image/digits"
    [denoiser]
    name = "image/unet"
    width = 32

Reading checks every key, ours and the parts', and answers a wrong one with the nearest right one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from suffuse import plugins
from suffuse.diffusion.grids import GRIDS
from suffuse.diffusion.posterior import METHODS
from suffuse.errors import SuffuseError, unknown
from suffuse.plugins import options

__all__ = ["Recipe", "Sampling", "Training", "changed", "load", "overrides", "part"]


def _named(part: Any) -> Any:
    return {"name": part} if isinstance(part, str) else part


Part = Annotated[dict[str, Any], BeforeValidator(_named)]
"""A registered thing: its "name", and its options; a name alone where it has none."""

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Sampling(_Checked):
    """How the model is sampled where the caller does not say otherwise.

    Attributes:
        solver: a registered solver with its options; for a product of processes also one for each
            part, by name.
        steps: the most network calls.
        grid: how steps are spread, a name in `suffuse.diffusion.grids.GRIDS` with its options; the
            solver's own where None, and where the caller names another solver.
        guidance: the weight of guidance; 1 is none.
        guidance_by: what guides, registered guidance with its options, and what is to follow it;
            classifier-free guidance where none takes the weight.
        restoring: how `Model.restore` keeps to what was observed, a name in
            `suffuse.diffusion.posterior.METHODS`.
    """

    solver: Part = {"name": "adams"}
    steps: Positive = 20
    grid: Part | None = None
    guidance: float = 1.0
    guidance_by: list[Part] = []
    restoring: str = "mmps"


class Training(_Checked):
    """The training run.

    Attributes:
        steps: optimiser steps.
        start: a model's directory or registered name, whose weights are trained on; new ones where
            it is empty.
        batch: examples a step, over all processes.
        micro_batch: how many of a process's examples go through the network at once, their
            gradients being added up; 0 is all. Halved, and said so, where memory runs out.
        sharded: splits weights, gradients and moments among the processes (FSDP), instead of a
            whole copy on each.
        recompute: computes the activations of a block again on the way back, to save memory.
        compile: whether torch compiles the network; "on" wherever it can, and "auto" where that
            saves time over the whole run.
        lora: the rank of matrices that learn instead of the weights of `start`; 0 is all of these.
        learning_rate: its highest value.
        warmup: steps over which it rises from 0.
        decay: after that, "cosine" to 0 at the last step, "constant", or "cooldown", which is
            constant until the last quarter and falls to 0 in it.
        weight_decay: AdamW's.
        clip: the largest gradient norm; 0 is no clipping.
        uncertainty: learns how large the loss is at each noise level, and weighs levels alike.
        importance: draws noise levels by the loss that is measured there.
        divergence: what a loss that explodes or is not finite does: "stop", or "lower" to go back
            to the last checkpoint and on with half the learning rate, at most five times.
        patience: evaluations without a better first figure after which training ends; 0 is never.
        condition_dropout: how often an example is shown without its conditions, so that the model
            also learns the unconditional estimate that guidance needs.
        mirror: axes of a state, each reversed in half of the examples at random; [-1] is
            left and right of pictures. Not for states that a condition tells the sides of.
        ema_std: the width of the averaged weights relative to the training time (EDM2's σ_rel).
        ema_snapshots: how many times in the run averages are kept, from which `suffuse ema` makes
            one of any width afterwards; each is twice the size of the weights.
        precision: "auto" measures whether bf16 pays on this machine.
        seed: of everything random in training.
        log_every: steps between lines of metrics.jsonl.
        sample_every, evaluate_every, checkpoint_every: steps between these; 0 is only at the end.
        keep: how many checkpoints stay.
        trackers: where else what is logged goes, by registered names.
    """

    steps: Positive = 2000
    start: str = ""
    batch: Positive = 64
    micro_batch: NotNegative = 0
    sharded: bool = False
    recompute: bool = False
    compile: Literal["auto", "on", "off"] = "auto"
    lora: NotNegative = 0
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    warmup: NotNegative = 100
    decay: Literal["cosine", "constant", "cooldown"] = "cosine"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip: Annotated[float, Field(ge=0)] = 1.0
    uncertainty: bool = False
    importance: bool = False
    divergence: Literal["stop", "lower"] = "stop"
    patience: NotNegative = 0
    condition_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    mirror: list[int] = []
    ema_std: Annotated[float, Field(gt=0, lt=0.28)] = 0.1
    ema_snapshots: NotNegative = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    log_every: Positive = 20
    sample_every: NotNegative = 500
    evaluate_every: NotNegative = 0
    checkpoint_every: NotNegative = 500
    keep: Positive = 2
    trackers: list[Part] = []


class Recipe(_Checked):
    """A model and its training. Parts are mappings with a "name" and options.

    `objective` is what is learned instead of the process's own loss, from the model that
    `training.start` names as the teacher.
    """

    summary: str = ""
    renderer: Part
    dataset: Part
    encoder: Part
    schedule: Part = {"name": "cosine"}
    process: Part = {"name": "gaussian"}
    objective: Part | None = None
    denoiser: Part
    conditions: dict[str, Part] = {}
    evaluators: list[Part] = []
    sampling: Sampling = Sampling()
    training: Training = Training()

    def resolved(self) -> Recipe:
        """The same with every default of every part written out, and every option checked.

        Raises:
            SuffuseError: for an unknown part or option, or a value of a wrong type.
        """
        data = self.model_dump()
        for kind in ("renderer", "dataset", "encoder", "schedule", "process", "denoiser"):
            data[kind] = plugins.resolve(kind, data[kind], where=kind)
        if data["objective"] is not None:
            data["objective"] = plugins.resolve("objective", data["objective"], where="objective")
            if not data["training"]["start"]:
                raise SuffuseError(
                    "an objective needs a teacher: name a model in training.start, or use "
                    "`suffuse distill`"
                )
        training = data["training"]
        if training["patience"] and not (training["evaluate_every"] and data["evaluators"]):
            raise SuffuseError(
                "training.patience counts evaluations, and there are none under way: set "
                "training.evaluate_every to a number of steps, in a recipe that names evaluators"
            )
        if training["lora"] and not training["start"]:
            raise SuffuseError(
                "training.lora learns beside the weights of another model: name one in "
                "training.start, which is train's --from"
            )
        for name, part in data["conditions"].items():
            where = f"conditions.{name}"
            data["conditions"][name] = plugins.resolve("conditioner", part, where=where)
        data["evaluators"] = [
            plugins.resolve("evaluator", part, where=f"evaluators.{i}")
            for i, part in enumerate(data["evaluators"])
        ]
        data["training"]["trackers"] = [
            plugins.resolve("tracker", part, where=f"training.trackers.{i}")
            for i, part in enumerate(data["training"]["trackers"])
        ]
        data["sampling"]["guidance_by"] = [
            plugins.resolve("guidance", part, where=f"sampling.guidance_by.{i}")
            for i, part in enumerate(data["sampling"]["guidance_by"])
        ]
        if data["sampling"]["grid"] is not None:
            data["sampling"]["grid"] = _grid(data["sampling"]["grid"])
        if data["sampling"]["restoring"] not in METHODS:
            raise unknown("method of restoring", data["sampling"]["restoring"], METHODS)
        solver, where = data["sampling"]["solver"], "sampling.solver"
        if "name" in solver or not all(isinstance(part, dict) for part in solver.values()):
            data["sampling"]["solver"] = plugins.resolve("solver", solver, where=where)
        else:
            for name, part in solver.items():
                solver[name] = plugins.resolve("solver", part, where=f"{where}.{name}")
        return Recipe.model_validate(data)

    def to_toml(self) -> str:
        """TOML that `load` reads back; options that are None are left out."""
        return tomli_w.dumps(_without_none(self.model_dump()))


def _grid(part: Part) -> Part:
    """A grid with every option written out."""
    name, rest = part.get("name"), {k: v for k, v in part.items() if k != "name"}
    if name not in GRIDS:
        raise unknown("grid", str(name), GRIDS)
    known = options.from_signature(GRIDS[name], ("schedule", "n", "begin"))
    return {"name": name, **options.check(known, rest, "sampling.grid").model_dump()}


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_none(v) for v in value]
    return value


def part(text: str) -> Part:
    """A registered thing with its options, as commands take it: NAME or NAME,KEY=VALUE,...

    >>> part("ddim,eta=0.5")
    {'name': 'ddim', 'eta': 0.5}
    >>> part("classifier-free,interval=[0.2, 0.8]")
    {'name': 'classifier-free', 'interval': [0.2, 0.8]}
    """
    name, *options = re.split(r",(?=\s*[\w-]+\s*=)", text)
    return {"name": name.strip(), **overrides(options)}


def overrides(assignments: Iterable[str]) -> dict[str, Any]:
    """``["training.steps=300", "denoiser.width=32"]`` as a mapping of dotted keys to values.

    A value is read as TOML, and as a string where that fails.

    >>> overrides(["training.steps=300", "dataset.path=my pictures"])
    {'training.steps': 300, 'dataset.path': 'my pictures'}
    """
    out: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise SuffuseError(
                f"--set takes key=value, for instance training.steps=300, not {text!r}"
            )
        try:
            out[key.strip()] = tomllib.loads(f"value = {value.strip()}")["value"]
        except tomllib.TOMLDecodeError:
            out[key.strip()] = value.strip()
    return out


def load(source: str | PathLike[str], changes: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe by its registered name or from a TOML file, with changes, resolved.

    Args:
        source: for instance "image/digits", or a path that ends in .toml.
        changes: dotted keys and values, for instance ``{"training.steps": 300}``; a bare key is
            looked for among the options of the parts, and is legal where just one of them has it.

    Raises:
        SuffuseError: for an unknown name, an unreadable file, an unknown key or a wrong value.
    """
    path = Path(source)
    if path.suffix == ".toml":
        data = _read(path)
    else:
        target = plugins.get("recipe", str(source)).load()
        data = _read(target) if isinstance(target, Path) else dict(target)
    for key, value in (changes or {}).items():
        _assign(data, _placed(data, key), value)
    return options.check(Recipe, data).resolved()


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """A recipe with other values for some keys, as `load` takes them, resolved."""
    data = recipe.model_dump()
    for key, value in changes.items():
        _assign(data, _placed(data, key), value)
    return options.check(Recipe, data).resolved()


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SuffuseError(f"no recipe file {str(path)!r}") from None
    except OSError as e:
        raise SuffuseError(f"cannot read the recipe {str(path)!r}: {e.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise SuffuseError(f"{str(path)!r} is not a TOML file: {e}") from None


def _placed(data: Mapping[str, Any], key: str) -> str:
    """The dotted key that a bare one stands for."""
    if "." in key or key in Recipe.model_fields:
        return key
    found = [k for k, model in (("sampling", Sampling), ("training", Training))
             if key in model.model_fields]  # fmt: skip
    for kind in ("dataset", "encoder", "schedule", "process", "denoiser"):
        name = data.get(kind, {}).get("name")
        if name in {entry.name for entry in plugins.entries(kind)}:
            found += [kind] if key in plugins.get(kind, name).options.model_fields else []
    if len(found) > 1:
        raise SuffuseError(
            f"{key!r} is an option of several parts: say {' or '.join(f'{k}.{key}' for k in found)}"
        )
    return f"{found[0]}.{key}" if found else key


_PARTS = (
    r"renderer|dataset|encoder|schedule|process|objective|denoiser"
    r"|conditions\.[^.]+|sampling\.solver(\.[^.]+)?"
)
"""The keys of parts, which may be a name alone."""


def _assign(data: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    place: Any = data
    for depth, key in enumerate(parents):
        if isinstance(place, dict):
            place.setdefault(key, {})
            if re.fullmatch(_PARTS, ".".join(parents[: depth + 1])):
                place[key] = _named(place[key])
            place = place[key]
        elif isinstance(place, list) and key.isdigit() and int(key) < len(place):
            place = place[int(key)]
        else:
            raise _not_settable(dotted, ".".join(parents[:depth]), place)
    if not isinstance(place, dict):
        raise _not_settable(dotted, ".".join(parents), place)
    # Another part by name brings its own options: those of the old one are gone.
    if last == "name" and place.get("name", value) != value:
        place.clear()
    place[last] = value


def _not_settable(dotted: str, where: str, place: Any) -> SuffuseError:
    if isinstance(place, list):
        return SuffuseError(
            f"{where!r} is a list of {len(place)}, so {dotted!r} needs an index: {where}.0.KEY"
        )
    return SuffuseError(f"{where!r} is a value, so {dotted!r} cannot be set")
