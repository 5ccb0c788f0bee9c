"""`suffuse edit`: existing objects changed by a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from suffuse.cli.conditions import condition_values, typed_conditions
from suffuse.cli.files import ensure_folder, found, read, readable
from suffuse.cli.records import weights
from suffuse.cli.sampling import SETTINGS, sampling_options
from suffuse.errors import SuffuseError, unknown

if TYPE_CHECKING:
    from suffuse.model import Model
    from suffuse.plugins import Entry

KEY = "suffuse-edit"
"""The text entry of a file that says how it was edited, as JSON."""


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("name", metavar="EDIT")
@click.argument("inputs", metavar="INPUT...", nargs=-1)
@click.option(
    "--model",
    help="A run, a model directory or the name of an installed model.  [the only one there is]",
)
@click.option("-n", "n", type=int, default=1, show_default=True, help="Results for each input.")
@click.option("--seed", type=int, default=0, show_default=True)
@sampling_options
@click.option("--set", "given", multiple=True, metavar="KEY=VALUE", help="An option or condition.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("edited"),
    show_default=True,
    help="One file where the suffix is known, else a folder.",
)
@click.pass_context
def edit(
    ctx: click.Context,
    name: str,
    inputs: tuple[str, ...],
    model: str | None,
    n: int,
    seed: int,
    solver: dict[str, Any] | None,
    steps: int | None,
    guidance: float | None,
    guidance_by: list[dict[str, Any]] | None,
    given: tuple[str, ...],
    out: Path,
) -> None:
    """Change what is in the INPUT files, or in the files of a folder, by a model.

    The edits are those of the model's domain: `suffuse edits list`. What an edit takes, and the
    model's conditions, are options too.

    \b
    suffuse edit inpaint photo.png --mask mask.png --model image/emoji --prompt "a hat"
    suffuse edit vary photos/ --model runs/a --strength 0.4 -n 4 -o varied/
    """
    import suffuse
    from suffuse import plugins

    paths, extra = _apart([*inputs, *ctx.args])
    words = typed_conditions(extra, given)
    if n < 1:
        raise SuffuseError(f"-n is 1 or more, and {n} is not")
    model = model or _only(name, paths)
    loaded = suffuse.load(model)
    entry = _entry(name, loaded)
    fields = entry.options.model_fields
    options: dict[str, Any] = {}
    conditions: dict[str, Any] = {}
    for key, text in words.items():
        if key.replace("-", "_") in fields:
            options[key.replace("-", "_")] = text
        elif key in loaded.conditions:
            values = condition_values(key, text, loaded, ctx)
            conditions[key] = values[0] if len(values) == 1 else values
        else:
            raise unknown("option or condition", key, [*fields, *loaded.conditions])
    inputs_found = found(paths, loaded.renderer)
    _targets(inputs_found, n, n * len(inputs_found), loaded, out, inputs_found)
    apply = plugins.build("edit", {"name": entry.name, **options}, model=loaded)
    settings = {
        key: value
        for key, value in zip(SETTINGS, (solver, steps, guidance, guidance_by), strict=True)
        if value is not None
    }
    files, objects = read(inputs_found, loaded.renderer)
    made = apply(objects, n, seed=seed, **settings, **conditions)
    record = {
        "version": suffuse.__version__,
        "edit": entry.name,
        "options": options,
        "model": model,
        "weights": weights(loaded),
        "seed": seed,
        "settings": settings,
        "conditions": conditions,
    }
    targets = _targets(files, n, len(made), loaded, out, inputs_found)
    _write(made, targets, loaded, {KEY: json.dumps(record)}, out)


def _apart(words: list[str]) -> tuple[list[Path], list[str]]:
    """The paths, and the options with their values, of what click does not know."""
    paths: list[Path] = []
    extra: list[str] = []
    rest = iter(words)
    for word in rest:
        if not word.startswith("--"):
            paths.append(Path(word))
        else:
            extra += [word] if "=" in word else [word, *[next(rest, "")]]
    return paths, extra


def _only(name: str, paths: list[Path]) -> str:
    """The one installed model of a domain that has this edit and such files."""
    import suffuse
    from suffuse import plugins

    edits = [e.name for e in plugins.entries("edit")]
    domains = {e.partition("/")[0] for e in edits if name in (e, e.partition("/")[2])}
    if not domains:
        raise unknown("edit", name, sorted({e.partition("/")[2] for e in edits}))
    models = [e.name for e in plugins.entries("model") if e.name.partition("/")[0] in domains]
    if len(models) > 1 and paths:
        models = [m for m in models if readable(paths[0], suffuse.load(m).renderer)] or models
    if len(models) != 1:
        some = f"installed are {', '.join(models)}" if models else "none is installed"
        raise SuffuseError(f"edit {name} needs --model, a run directory or a name: {some}")
    click.echo(f"by {models[0]}", err=True)
    return models[0]


def _entry(name: str, model: Model) -> Entry:
    """The edit of this name, in the domain of the model's renderer."""
    from suffuse import plugins

    domain = str(model.recipe.renderer["name"]).partition("/")[0]
    here = [e.name for e in plugins.entries("edit") if e.name.startswith(f"{domain}/")]
    full = name if "/" in name else f"{domain}/{name}"
    if full not in here:
        raise unknown(f"edit for models of {domain}", name, [e.partition("/")[2] for e in here])
    return plugins.get("edit", full)


def _targets(
    files: list[Path], n: int, count: int, model: Model, out: Path, inputs: list[Path]
) -> list[Path]:
    """Where results go: one file, or one each, named after its input where each has n, else
    numbered.

    Raises:
        SuffuseError: for a file that cannot hold as many results, or that is an input.
    """
    renderer = model.renderer
    many = {*getattr(renderer, "collections", ()), ".png"}
    if out.suffix.lower() in {*renderer.suffixes, *many}:
        if count != 1 and out.suffix.lower() not in many:
            raise SuffuseError(f"{count} results go into a folder, and {str(out)!r} is a file")
        targets = [out]
    else:
        ensure_folder(out, [*renderer.suffixes, *many])
        own = count == len(files) * n and len({file.stem for file in files}) == len(files)
        targets = []
        for i in range(count):
            source = files[i // n if own else 0]
            known = source.suffix.lower() in renderer.suffixes
            suffix = source.suffix.lower() if known else renderer.suffixes[0]
            stem = (source.stem if n == 1 else f"{source.stem}-{i % n}") if own else f"{i:05d}"
            targets.append(out / f"{stem}{suffix}")
    taken = {file.resolve() for file in inputs}
    for target in targets:
        if target.resolve() in taken:
            raise SuffuseError(
                f"{str(target)!r} is an input, which the result would replace: give another -o"
            )
    return targets


def _write(
    made: list[Any], targets: list[Path], model: Model, metadata: Mapping[str, str], out: Path
) -> None:
    from suffuse import storage

    renderer: Any = model.renderer
    suffix = out.suffix.lower()
    single = targets == [out]
    if single and not (len(made) == 1 and suffix in renderer.suffixes):
        if suffix in getattr(renderer, "collections", ()):
            renderer.write_all(made, out, [metadata] * len(made))
        else:
            storage.write_bytes(out, renderer.sheet(made))
    else:
        for data, target in zip(made, targets, strict=True):
            renderer.write(data, target, metadata)
    where = out if single else f"{out}/"
    click.echo(f"{len(made)} result{'s' * (len(made) != 1)} in {where}")
