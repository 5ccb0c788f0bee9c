"""`suffuse sample`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from suffuse.errors import SuffuseError, unknown

if TYPE_CHECKING:
    from suffuse.model import Model
    from suffuse.plugins.contracts import Condition, Renderer

KEY = "suffuse"
"""The text entry of a file that holds what made it, as JSON."""


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("model", required=False)
@click.option("-n", "n", type=int, default=16, show_default=True, help="How many samples.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--solver", help="A registered solver.  [the model's]")
@click.option("--steps", type=int, help="The most network calls.  [the model's]")
@click.option("--grid", default="uniform", show_default=True, help="How the steps are spread.")
@click.option("--guidance", type=float, help="Classifier-free guidance; 1 is none.  [the model's]")
@click.option("--set", "given", multiple=True, metavar="KEY=VALUE", help="A condition.")
@click.option("--batch", type=int, default=64, show_default=True, help="Samples made at once.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("samples"),
    show_default=True,
    help="One file where the suffix is known, else a folder with one file a sample.",
)
@click.option(
    "--from",
    "origin",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Make the sample in this file again, from what the file says of itself.",
)
@click.pass_context
def sample(
    ctx: click.Context,
    model: str | None,
    n: int,
    seed: int,
    solver: str | None,
    steps: int | None,
    grid: str,
    guidance: float | None,
    given: tuple[str, ...],
    batch: int,
    out: Path,
    origin: Path | None,
) -> None:
    """Make samples with MODEL: a run, a model directory or the name of an installed model.

    Conditions are options too: --label 7, or --label 0,1,2 to go round, or --label all.

    \b
    suffuse sample runs/a -n 16 --label 7 --seed 0 -o out/
    suffuse sample runs/a -n 100 --label all -o grid.png
    suffuse sample --from out/00003.png -o again/
    """
    settings: dict[str, Any] = {
        "solver": solver,
        "steps": steps,
        "grid": grid,
        "guidance": guidance,
    }
    conditions = _conditions(ctx.args, given, [p.opts[0].lstrip("-") for p in ctx.command.params])
    if origin is not None:
        given_too = [
            name
            for name in ("n", "seed", "solver", "steps", "grid", "guidance")
            if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
        ]
        if conditions or given_too:
            raise SuffuseError(
                "--from remakes a file as it was: give no conditions or settings with it, but "
                + ", ".join([*conditions, *given_too])
                + " is given"
            )
        _again(origin, model, batch, out)
        return
    if model is None:
        raise SuffuseError(
            "sample needs a model: a run directory or a name from `suffuse models list`"
        )
    if guidance is not None and not abs(guidance) <= 1000:
        raise SuffuseError(f"--guidance is a number within 1000 of 0, and {guidance} is not")
    import suffuse

    loaded = suffuse.load(model)
    values = {name: _values(name, text, loaded, ctx) for name, text in conditions.items()}
    _make(loaded, model, n, seed, 0, batch, out, settings, values)


def _again(origin: Path, model: str | None, batch: int, out: Path) -> None:
    """Make the sample in a file again; `model` stands in for the path that the file names."""
    import suffuse

    record = _record(origin)
    try:
        loaded = suffuse.load(model or record["model"])
    except SuffuseError as error:
        raise SuffuseError(
            f"{error}; {str(origin)!r} was made with the model {record['model']!r}: where it lies "
            "elsewhere now, name it: suffuse sample MODEL --from FILE"
        ) from None
    if record["weights"] != weights(loaded):
        raise SuffuseError(
            f"{str(origin)!r} was made with other weights than those of "
            f"{model or record['model']!r}: it has been trained on since, or is another model"
        )
    name = model or record["model"]
    conditions = {key: [value] for key, value in record["conditions"].items()}
    settings = record["settings"]
    _make(loaded, name, 1, record["seed"], record["index"], batch, out, settings, conditions)


def weights(model: Model) -> str:
    """What tells a model's weights from others: the beginning of their file's SHA-256."""
    from suffuse import storage

    assert model.path is not None
    return storage.digest(model.path / "model.safetensors")[:16]


def _make(
    model: Model,
    name: str,
    n: int,
    seed: int,
    first: int,
    batch: int,
    out: Path,
    settings: Mapping[str, Any],
    conditions: Mapping[str, Any],
) -> None:
    """Sample, each process its share of the batch, and write the files."""
    import torch
    from accelerate import PartialState
    from accelerate.utils import gather_object

    from suffuse.cli.progress import sampling_progress
    from suffuse.training.setup import leave_at_exit

    renderer = model.renderer
    suffixes = [*renderer.suffixes, *getattr(renderer, "collections", ())]
    single = out.suffix.lower() in {*suffixes, ".png"}
    if n < 1:
        raise SuffuseError(f"-n is 1 or more, and {n} is not")
    if not single and out.is_file():
        raise SuffuseError(
            f"-o is a folder, or a file that ends in {', '.join(suffixes)}; {str(out)!r} is a file "
            "of another kind"
        )
    every = {
        key: [value[i % len(value)] if isinstance(value, list) else value for i in range(n)]
        for key, value in conditions.items()
    }
    settings = _full(model, settings)
    # Only told so does accelerate take several processes without a GPU for what they are.
    processes = PartialState(cpu=not torch.accelerator.is_available())
    leave_at_exit()
    rank, world = processes.process_index, processes.num_processes
    begin, end = n * rank // world, n * (rank + 1) // world
    made: list[Any] = []
    if begin < end:
        own: dict[str, Any] = {
            key: _given(model, key, values[begin:end]) for key, values in every.items()
        }
        with sampling_progress(end - begin, batch, processes.is_main_process) as on_step:
            made = model.sample(
                end - begin,
                seed=seed,
                first=first + begin,
                batch=batch,
                on_step=on_step,
                **settings,
                **own,
            )
    objects = made if processes.num_processes == 1 else gather_object(made)
    if not processes.is_main_process:
        return
    records = [
        {
            "model": name,
            "weights": weights(model),
            "seed": seed,
            "index": first + i,
            "settings": dict(settings),
            "conditions": {key: values[i] for key, values in every.items()},
        }
        for i in range(n)
    ]
    _write(objects, records, renderer, out, single)


def _given(model: Model, name: str, values: Sequence[Any]) -> list[Any]:
    """The values of a condition; where they are raw objects, those in the files that are named."""
    if model.conditions[name].kind != "state":
        return list(values)
    return [None if value is None else model.renderer.read(Path(value)) for value in values]


def _full(model: Model, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with the model's own where none was given, so that a record is complete."""
    usual = model.recipe.sampling
    own = {"solver": usual.solver, "steps": usual.steps, "guidance": usual.guidance}
    return {key: own.get(key) if value is None else value for key, value in settings.items()}


def _write(
    objects: Sequence[Any],
    records: Sequence[dict[str, Any]],
    renderer: Renderer,
    out: Path,
    single: bool,
) -> None:
    import suffuse
    from suffuse import storage

    def text(record: Mapping[str, Any]) -> dict[str, str]:
        return {KEY: json.dumps({"version": suffuse.__version__, **record})}

    captions = [_caption(record["conditions"]) for record in records]
    shown = captions if any(captions) else None
    if single and len(objects) == 1 and out.suffix.lower() in renderer.suffixes:
        renderer.write(objects[0], out, text(records[0]))
    elif single and out.suffix.lower() in getattr(renderer, "collections", ()):
        everything: Any = renderer
        everything.write_all(objects, out, [text(record) for record in records])
    elif single and out.suffix.lower() == ".png":
        storage.write_bytes(out, renderer.sheet(objects, shown))
    elif single:
        raise SuffuseError(
            f"{len(objects)} samples on one sheet are written as .png, not {out.suffix}; or give a "
            "folder to -o"
        )
    else:
        suffix = renderer.suffixes[0]
        for i, (data, record) in enumerate(zip(objects, records, strict=True)):
            renderer.write(data, out / f"{i:05d}{suffix}", text(record))
        storage.write_bytes(out / "grid.png", renderer.sheet(objects, shown))
    where = str(out) if single else f"{out}/ and {out}/grid.png"
    click.echo(f"{len(objects)} sample{'s' * (len(objects) != 1)} in {where}")


def _caption(conditions: Mapping[str, Any]) -> str:
    return ", ".join(str(value) for value in conditions.values() if value is not None)


def _record(path: Path) -> dict[str, Any]:
    """What a file says of its making."""
    from suffuse import plugins

    for entry in plugins.entries("renderer"):
        renderer: Any = plugins.build("renderer", {"name": entry.name})
        if path.suffix.lower() in renderer.suffixes:
            record = _checked(renderer.metadata(path).get(KEY))
            if record is not None:
                return record
            break
    raise SuffuseError(
        f"{str(path)!r} does not say how it was made; only files written by `suffuse sample` do, "
        "as long as no other program has rewritten them"
    )


def _checked(text: str | None) -> dict[str, Any] | None:
    """The record that a file holds as JSON, or None where it is none of ours."""
    from pydantic import BaseModel, ConfigDict, Field, ValidationError

    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
        solver: dict[str, Any] | str
        steps: int = Field(ge=1)
        grid: str | list[float]
        guidance: float

    class Record(BaseModel):
        version: str
        model: str
        weights: str
        seed: int = Field(ge=0, lt=2**64)
        index: int = Field(ge=0, lt=2**32)
        settings: Settings
        conditions: dict[str, str | float | None]

    try:
        return Record.model_validate_json(text or "").model_dump()
    except ValidationError:
        return None


def _conditions(extra: Iterable[str], given: Iterable[str], options: list[str]) -> dict[str, str]:
    """`--name value`, `--name=value` and `--set name=value` as a mapping."""
    out: dict[str, str] = {}
    words = list(extra)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise SuffuseError(f"unexpected argument {word!r}; conditions are --name value")
        name, equals, value = word[2:].partition("=")
        if not equals:
            if not words:
                raise SuffuseError(f"the condition --{name} needs a value: --{name} VALUE")
            value = words.pop(0)
        _once(out, name, value)
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise SuffuseError(f"--set takes condition=value, not {text!r}")
        _once(out, name, value)
    return out


def _once(out: dict[str, str], name: str, value: str) -> None:
    if name in out:
        raise SuffuseError(
            f"the condition {name!r} is given twice; several values go round with commas: "
            f"--{name} {out[name]},{value}"
        )
    out[name] = value


def _values(name: str, text: str, model: Model, ctx: click.Context) -> list[Any]:
    """The values of a condition that the user typed."""
    if name not in model.conditions:
        options = [
            p.opts[-1].lstrip("-") for p in ctx.command.params if p.param_type_name == "option"
        ]
        raise unknown("condition or option", name, [*model.conditions, *options])
    condition: Condition = model.conditions[name]
    if condition.kind in ("text", "state"):
        return [text]
    if condition.kind == "category" and text == "all" and "all" not in condition.names:
        return list(condition.names)
    if condition.kind == "category" and text in condition.names:
        return [text]
    parts = [part.strip() for part in text.split(",")]
    if condition.kind == "category":
        return parts
    try:
        return [float(part) for part in parts]
    except ValueError:
        raise SuffuseError(
            f"the condition {name!r} takes numbers, and {text!r} is not one"
        ) from None
