"""`suffuse sample`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from click.core import ParameterSource

from suffuse.cli.conditions import condition_objects, condition_values, typed_conditions
from suffuse.cli.files import ensure_folder
from suffuse.cli.records import read_record, record_text, weights
from suffuse.cli.sampling import SETTINGS, sampling_options
from suffuse.errors import SuffuseError

if TYPE_CHECKING:
    from suffuse.model import Model
    from suffuse.plugins.contracts import Renderer


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("model", required=False)
@click.option("-n", "n", type=int, help="How many samples.  [16; 1 for a file that holds one]")
@click.option("--seed", type=int, default=0, show_default=True)
@sampling_options
@click.option("--grid", help="How the steps are spread.  [the solver's own]")
@click.option("--negative", help="What to keep away from: words for a model of prompts.")
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
    "--size", help="Height x width, as 48x96, larger than the model's; made in windows of its size."
)
@click.option(
    "--raw", is_flag=True, help="Leave samples as they are, where the model's domain repairs them."
)
@click.option("--circular", is_flag=True, help="Let the ends meet, for what repeats.")
@click.option(
    "--csv",
    "table",
    type=click.Path(path_type=Path),
    help="A table of conditions: a column for each, a row for each sample.",
)
@click.option(
    "--preview",
    type=click.Path(path_type=Path),
    help="A .png that shows after each step what the samples will look like.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also a page, .html, of the samples.",
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
    n: int | None,
    seed: int,
    solver: dict[str, Any] | None,
    steps: int | None,
    grid: str | None,
    guidance: float | None,
    guidance_by: list[dict[str, Any]] | None,
    negative: str | None,
    given: tuple[str, ...],
    batch: int,
    out: Path,
    size: str | None,
    raw: bool,
    circular: bool,
    table: Path | None,
    preview: Path | None,
    report: Path | None,
    origin: Path | None,
) -> None:
    """Make samples with MODEL: a run, a model directory or the name of an installed model.

    Conditions are options too: --label 7, or --label 0,1,2 to go round, or --label all; and of a
    number --logp 1..2, from which each sample's is drawn.

    \b
    suffuse sample runs/a -n 16 --label 7 --seed 0 -o out/
    suffuse sample runs/a -n 100 --label all -o grid.png
    suffuse sample image/emoji --csv prompts.csv -o out/
    suffuse sample --from out/00003.png -o again/
    """
    if report is not None and report.suffix.lower() != ".html":
        raise SuffuseError(f"--report is a page, .html, and {str(report)!r} is of another kind")
    settings: dict[str, Any] = {
        "solver": solver,
        "steps": steps,
        "grid": grid,
        "guidance": guidance,
        "guidance_by": guidance_by,
    }
    conditions = typed_conditions(ctx.args, given)
    if origin is not None:
        given_too = [
            name
            for name in ("n", "seed", "grid", "negative", "size", "raw", "circular", *SETTINGS)
            if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
        ]
        given_too += ["csv"] * (table is not None)
        if conditions or given_too:
            raise SuffuseError(
                "--from remakes a file as it was: give no conditions or settings with it, but "
                + ", ".join([*conditions, *given_too])
                + " is given"
            )
        _again(origin, model, batch, out, report)
        return
    if model is None:
        raise SuffuseError(
            "sample needs a model: a run directory or a name from `suffuse models list`"
        )
    import suffuse

    loaded = _composed(suffuse.load(model), conditions)
    if n is None:
        n = 1 if _holds_one(out, loaded.renderer) else 16
    values = {name: condition_values(name, text, loaded, ctx) for name, text in conditions.items()}
    if table is not None:
        from suffuse.cli.table import read_table

        columns = read_table(table, loaded)
        for name in columns.keys() & values.keys():
            raise SuffuseError(f"the condition {name!r} is given twice: in {table} and by --{name}")
        values |= columns
        if ctx.get_parameter_source("n") is ParameterSource.DEFAULT:
            n = len(next(iter(columns.values())))
    values |= _unasked(loaded, values, n, seed)
    for name, condition in loaded.conditions.items():
        if condition.kind == "state" and name not in {*values, *loaded.droppable}:
            raise SuffuseError(f"{model} makes one thing of another: give --{name} FILE")
    if negative is not None:
        settings["negative"] = {_prompt(loaded): negative}
    if raw:
        settings["raw"] = True
    if size is not None or circular:
        settings |= {"size": None if size is None else _sides(size), "circular": circular}
    _make(loaded, model, n, seed, 0, batch, out, settings, values, preview, report)


def _composed(model: Model, names: Iterable[str]) -> Model:
    """The model, or what its domain makes wholes with, where a condition of wholes is asked for."""
    compose = getattr(model.renderer, "compose", None)
    return model if compose is None else cast("Model", compose(model, names))


def _unasked(model: Model, given: Mapping[str, Any], n: int, seed: int) -> dict[str, list[Any]]:
    """The conditions that the domain has for samples of which nothing was asked, and says so."""
    draw = getattr(model.renderer, "unasked", None)
    found: dict[str, list[Any]] = {}
    if draw is not None:
        found = {name: k for name, k in draw(model, n, seed).items() if name not in given}
    if found:
        click.echo(
            f"no {' or '.join(found)} is given: drawn for each sample as in the training data",
            err=True,
        )
    return found


def _holds_one(out: Path, renderer: Renderer) -> bool:
    """Whether a file is of a kind that holds one object, and no sheet of many."""
    many = {*getattr(renderer, "collections", ()), ".png"}
    return out.suffix.lower() in renderer.suffixes and out.suffix.lower() not in many


def _prompt(model: Model) -> str:
    """The name of the model's one condition of text."""
    names = [name for name, condition in model.conditions.items() if condition.kind == "text"]
    if len(names) != 1:
        raise SuffuseError(
            f"--negative takes words, for a model with one condition of text; this one has "
            f"{len(names)}"
        )
    return names[0]


def _sides(text: str) -> list[int]:
    """48x96 as [48, 96]."""
    parts = text.lower().replace(",", "x").split("x")
    if not all(part.strip().isdecimal() for part in parts):
        raise SuffuseError(f"--size is whole numbers, as 48x96 (height x width); given {text!r}")
    return [int(part) for part in parts]


def _again(origin: Path, model: str | None, batch: int, out: Path, report: Path | None) -> None:
    """Make the sample in a file again; `model` stands in for the path that the file names."""
    import suffuse

    record = read_record(origin)
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
    loaded = _composed(loaded, record["conditions"])
    name = model or record["model"]
    conditions = {key: [value] for key, value in record["conditions"].items()}
    unset = ("negative", "size", "circular", "raw")
    settings = {k: v for k, v in record["settings"].items() if v or k not in unset}
    seed, first = record["seed"], record["index"]
    _make(loaded, name, 1, seed, first, batch, out, settings, conditions, None, report)


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
    preview: Path | None,
    report: Path | None,
) -> None:
    """Sample, each process its share, and write the files batch by batch."""
    import torch
    from accelerate import PartialState
    from accelerate.utils import gather_object

    from suffuse import storage
    from suffuse.cli.progress import sampling_progress
    from suffuse.diffusion import Noise
    from suffuse.model.rows import drawn
    from suffuse.training.setup import leave_at_exit

    renderer = model.renderer
    suffixes = [*renderer.suffixes, *getattr(renderer, "collections", ())]
    single = out.suffix.lower() in {*suffixes, ".png"}
    if n < 1 or batch < 1:
        raise SuffuseError(f"-n and --batch are 1 or more; given {n} and {batch}")
    if not single:
        ensure_folder(out, [*suffixes, ".png"])
    if (
        single
        and n > 1
        and out.suffix.lower() not in {*getattr(renderer, "collections", ()), ".png"}
    ):
        raise SuffuseError(
            f"{n} samples on one sheet are written as .png, not {out.suffix}; or give a "
            "folder to -o"
        )
    every = {
        key: [value[i % len(value)] if isinstance(value, list) else value for i in range(n)]
        for key, value in conditions.items()
    }
    every = drawn(every, model.conditions, Noise(seed, n, first=first))
    settings = _full(model, settings)
    asked = {key: value for key, value in settings.items() if key != "raw"}
    if settings.get("raw"):
        _unrepaired(model)
    # Only told so does accelerate take several processes without a GPU for what they are.
    processes = PartialState(cpu=not torch.accelerator.is_available())
    leave_at_exit()
    rank, world = processes.process_index, processes.num_processes
    begin, end = n * rank // world, n * (rank + 1) // world
    main = processes.is_main_process
    if report is not None:
        storage.ensure_writable(report)
    if single:
        storage.ensure_writable(out)
    elif main:
        _tell_older(out, n, renderer.suffixes[0])
    made: list[tuple[int, Any]] = []
    maker = weights(model)

    def record(i: int) -> dict[str, Any]:
        return {
            "model": name,
            "weights": maker,
            "seed": seed,
            "index": first + i,
            "settings": dict(settings),
            "conditions": {key: values[i] for key, values in every.items()},
        }

    with sampling_progress(end - begin, batch, main) as told:
        on_step = told if preview is None or not main else _shown(model, preview, told)
        for at in range(0, -(-n // world), batch):  # as often in every process
            part = range(min(begin + at, end), min(begin + at + batch, end))
            objects: list[Any] = []
            if part:
                own: dict[str, Any] = {
                    key: condition_objects(model, key, values[part.start : part.stop])
                    for key, values in every.items()
                }
                objects = model.sample(
                    len(part),
                    seed=seed,
                    first=first + part.start,
                    batch=batch,
                    on_step=on_step,
                    **asked,
                    **own,
                )
            found = list(zip(part, objects, strict=True))
            if world > 1:
                found = gather_object(found)
            if main and not single:  # at once, so that a run that is stopped leaves what it made
                for i, data in found:
                    path = out / f"{i:05d}{renderer.suffixes[0]}"
                    with storage.replacing(path) as temporary:
                        renderer.write(data, temporary, record_text(record(i)))
            made += found
    if not main:
        return
    made.sort(key=lambda each: each[0])
    _write([data for _, data in made], [record(i) for i in range(n)], renderer, out, single, report)


def _unrepaired(model: Model) -> None:
    """Have the model's encoder decode without repair.

    Raises:
        SuffuseError: where it repairs nothing.
    """
    encoder: Any = model.encoder
    if not hasattr(encoder, "raw"):
        raise SuffuseError("nothing is repaired in this model's domain: leave --raw out")
    model.encoder = encoder.raw()


def _shown(model: Model, preview: Path, then: Any) -> Any:
    """An `on_step` that also draws the clean estimates of the batch at hand.

    Raises:
        SuffuseError: for a file that is no .png, and a model whose states have no one size.
    """
    from suffuse import storage
    from suffuse.plugins.contracts import RaggedEncoder

    ragged = isinstance(model.encoder, RaggedEncoder)
    if preview.suffix.lower() != ".png" or (ragged and not isinstance(model.encoder.shape, tuple)):
        raise SuffuseError(
            "--preview is a .png, for a model whose samples are tensors of numbers; given "
            f"{str(preview)!r}"
        )
    storage.ensure_writable(preview)

    def on_step(step: Any) -> None:
        storage.write_bytes(preview, model.renderer.sheet(model.decode(step.denoised, step.sizes)))
        if then is not None:
            then(step)

    return on_step


def _tell_older(out: Path, n: int, suffix: str) -> None:
    """Say which samples lie in a folder already and will not be written over."""
    older = [
        path.name
        for path in sorted(out.glob(f"*{suffix}"))
        if path.stem.isdigit() and int(path.stem) >= n
    ]
    if older:
        click.echo(
            f"note: {out} holds {len(older)} older sample{'s' * (len(older) > 1)}, from {older[0]} "
            "on, which stay beside the new ones",
            err=True,
        )


def _full(model: Model, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with the model's own where none was given, so that a record is complete."""
    usual = model.recipe.sampling
    own = {name: getattr(usual, name) for name in SETTINGS}
    if settings["solver"] is None:
        own["grid"] = usual.grid
    return {key: own.get(key) if value is None else value for key, value in settings.items()}


def _write(
    objects: Sequence[Any],
    records: Sequence[dict[str, Any]],
    renderer: Renderer,
    out: Path,
    single: bool,
    report: Path | None,
) -> None:
    """Write one file, or the sheet of a folder whose samples are written; and the page of them."""
    from suffuse import storage

    captions = [_caption(record["conditions"]) for record in records]
    shown = captions if any(captions) else None
    if single and len(objects) == 1 and out.suffix.lower() in renderer.suffixes:
        with storage.replacing(out) as temporary:
            renderer.write(objects[0], temporary, record_text(records[0]))
    elif single and out.suffix.lower() in getattr(renderer, "collections", ()):
        everything: Any = renderer
        everything.write_all(objects, out, [record_text(record) for record in records])
    else:
        storage.write_bytes(out if single else out / "grid.png", renderer.sheet(objects, shown))
    where = str(out) if single else f"{out}/ and {out}/grid.png"
    if report is not None:
        if ".html" in getattr(renderer, "collections", ()):
            cast(Any, renderer).write_all(objects, report, [record_text(r) for r in records])
        else:
            from suffuse.report.samples import write_samples

            write_samples(objects, records, shown, renderer, report)
        where += f"; the page is {report}"
    click.echo(f"{len(objects)} sample{'s' * (len(objects) != 1)} in {where}")


def _caption(conditions: Mapping[str, Any]) -> str:
    told = {key: value for key, value in conditions.items() if value is not None}
    return ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else str(v) for k, v in told.items())
