"""The page of a run, from data to samples, for any domain.

It walks the four stages of a diffusion model in the order of their happening: the data and its
states, forward diffusion, training, reverse diffusion; then what the model makes, how good that is
and what was run. Raw objects are drawn by the model's renderer alone, so that nothing here knows
whether they are pictures, sounds or molecules.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from torch import Tensor

from suffuse import plugins, storage
from suffuse.model import Model
from suffuse.plugins.contracts import Example, named
from suffuse.report import figures, stages
from suffuse.report.blocks import Cell, Chart, Html, number
from suffuse.report.page import Page
from suffuse.report.pictures import cells
from suffuse.report.view import SHOWN, View, drawn, look, recipe_path, spread
from suffuse.stats import nearest

__all__ = ["write_report"]

SEARCHED = 5000
"""Training examples among which the nearest are looked for."""

COMPARED = 512
"""Held-out examples that samples are compared with."""


def write_report(run: Path, out: Path) -> None:
    """Write the page of a run, or of a model directory, as one HTML file.

    Args:
        run: the directory; what it has no record of (training, evaluation) is left out.
        out: the file, written whole or not at all.

    Raises:
        SuffuseError: where `run` is no model, or `out` cannot be written.
    """
    run, out = Path(run), Path(out)
    view = look(run)
    page = _page(view)
    stages.data(page, view)
    stages.forward(page, view)
    stages.training(page, view)
    stages.reverse(page, view)
    _samples(page, view)
    _metrics(page, view)
    for title, html in _from_plugins(run):
        page.section(title).add(Html(Markup(html)))
    _ran(page, view)
    page.write(out)


def _page(view: View) -> Page:
    model = view.model
    name = str(model.recipe.dataset["name"])
    summary = model.recipe.summary
    page = Page(f"{name}, from data to samples", summary[:1].upper() + summary[1:])
    for m in view.metrics[:2]:
        spread = (m.high - m.low) / 2
        unit = f" {m.unit}" if m.unit else ""
        note = f"{number(m.low, spread)} to {number(m.high, spread)}" if spread > 0 else ""
        page.fact(number(m.value, spread or None) + unit, m.name, note)
    seconds = view.log.last("seconds")
    if seconds is not None:
        steps = f"{int(view.log.step[-1]):,} steps"
        page.fact(_duration(seconds), "of training", steps)
    page.fact(f"{view.parameters():,}", "parameters", str(model.recipe.denoiser["name"]))
    if view.train is not None:
        page.fact(f"{len(view.train):,}", "training examples", name)
    return page


def _samples(page: Page, view: View) -> None:
    section = page.section("Samples", lead="What the model makes, and what it has seen like it")
    model = view.model
    rows = max(len(view.names), 1) if view.category is not None else 3
    n = rows * SHOWN
    wanted = view.conditions(n)
    made = model.sample(n, seed=0, **wanted)
    sampling = model.recipe.sampling
    guided = f", guidance {number(sampling.guidance)}" if sampling.guidance != 1 else ""
    examples = [
        Example(data, {name: values[i] for name, values in wanted.items()})
        for i, data in enumerate(made)
    ]
    grid: list[tuple[str, Sequence[Cell]]] = []
    for r in range(rows):
        # Categories take turns, so that a row of one is every rows-th sample.
        chosen = examples[r::rows] if view.category is not None else examples[r * SHOWN :][:SHOWN]
        label = view.names[r] if view.category is not None else ""
        pictures = cells(model.renderer, *drawn(chosen, view.category), alt="sample")
        grid.append((label, pictures))
    by = f", one row for each {view.category}" if view.category is not None else ""
    section.tiles(
        grid,
        caption=f"Samples of seed 0{by}; none was picked. Solver `{sampling.solver['name']}`, "
        f"{sampling.steps} network calls{guided}.",
    )
    if view.train is None:
        return
    searched = spread(len(view.train), SEARCHED)
    real = [view.train[i] for i in searched]
    known = _flat(model, [example.data for example in real])
    near = nearest(_flat(model, made), known)
    few = min(SHOWN, len(made))
    section.prose(
        "A model that had learned its data by heart would repeat it. Below are samples and the "
        "training example nearest to each, by the distance between their "
        + ("features." if hasattr(model.encoder, "embed") else "states.")
    )
    section.tiles(
        [
            ("sample", cells(model.renderer, made[:few], alt="sample")),
            (
                "nearest in training",
                cells(
                    model.renderer,
                    [real[int(j)].data for j in near.index[:few]],
                    [
                        f"{searched[j]}, at {d:.1f}"
                        for j, d in zip(near.index[:few], near.distance[:few], strict=True)
                    ],
                    alt="nearest training example, and its distance",
                ),
            ),
        ],
        caption="Under each training example: its number, and its distance from the sample above "
        "it (L2).",
    )
    players = getattr(model.renderer, "players", None)
    if players is not None:
        told = zip(near.index[:few], near.distance[:few], strict=True)
        pairs = [
            players(
                [made[i], real[j].data],
                [f"sample {i}", f"{named(view.train, searched[j])}, at {d:.1f}"],
            )
            for i, (j, d) in enumerate(told)
        ]
        section.prose("The same to listen to, each sample before what is nearest to it.")
        section.add(Html(Markup("".join(pairs))))
    if view.test is None:
        return
    held = [view.test[i].data for i in spread(len(view.test), COMPARED)]
    far = nearest(_flat(model, held), known)
    section.side(
        Chart(
            figures.distances(near.distance, far.distance, xlabel="distance to the nearest (L2)"),
            f"Histograms of the distance to the nearest training example: of samples, with median "
            f"{float(np.median(near.distance)):.2f}, and of held-out real examples, with median "
            f"{float(np.median(far.distance)):.2f}.",
            f"Distance to the nearest of {len(real):,} training examples, for {len(made)} samples "
            f"and {len(held)} real examples not trained on. Copies would stand at 0.",
        )
    )


def _metrics(page: Page, view: View) -> None:
    section = page.section("Metrics", lead="How good the samples are, measured")
    if not view.metrics:
        section.prose("This model was not evaluated, or its recipe names no evaluators.")
        return
    floors = any(m.floor is not None for m in view.metrics)
    section.prose(
        "Each figure was measured on samples made under the conditions of held-out examples, and "
        "has a 95 % interval."
        + (
            " Real against real is the same figure with held-out real examples in place of the "
            "samples: the best that can be hoped for with so many."
            if floors
            else ""
        )
    )
    section.metrics(view.metrics)
    section.code(f"suffuse evaluate {view.run.as_posix()}", "On the command line")


def _ran(page: Page, view: View) -> None:
    section = page.section("What was run", lead="All that is needed to make it again")
    model = view.model
    rows: list[tuple[str, str]] = []
    for key in ("command", "commit", "machine"):
        if isinstance(view.started.get(key), str):
            rows.append((key, f"`{view.started[key]}`" if key != "machine" else view.started[key]))
    rows.append(("seed", str(model.recipe.training.seed)))
    rows += [(name, version) for name, version in _versions(model.path)]
    rows += [
        ("Python", platform.python_version()),
        ("torch", torch.__version__),
        ("page written on", _machine()),
    ]
    rows += plugins.current().environment().items()
    section.table(("", ""), rows)
    example = _typed(view)
    path = view.run.as_posix()
    section.code(
        f"""
suffuse train {recipe_path(view)} --out runs/again
suffuse sample {path} -n 16{example} --seed 0 -o samples/
suffuse report {path}
""",
        "On the command line: train again, sample, and write this page",
    )
    section.code(model.recipe.to_toml(), "The recipe, with every default written out")


def _from_plugins(run: Path) -> list[tuple[str, str]]:
    return [
        (answer[0], answer[1])
        for answer in plugins.hook.report_section(run=run)
        if isinstance(answer, tuple | list)
        and len(answer) == 2
        and all(isinstance(part, str) for part in answer)
    ]


def _flat(model: Model, objects: Sequence[Any]) -> Tensor:
    """What the distance of two objects is taken of, [B, D]: `embed` of the encoder, or states."""
    embed = getattr(model.encoder, "embed", None)
    if embed is not None:
        vectors: Tensor = embed(objects)
        return vectors
    parts = []
    for i in range(0, len(objects), 256):
        x = model.encode(objects[i : i + 256])
        each = x.values() if isinstance(x, Mapping) else [x]
        parts.append(torch.cat([part.flatten(1).float() for part in each], dim=1).cpu())
    return torch.cat(parts)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _typed(view: View) -> str:
    """A condition as it is typed on the command line."""
    for name, values in view.conditions(1).items():
        if values[0] is not None:
            text = str(values[0])
            quoted = f"'{text}'" if not text.isalnum() else text
            return f" --{name} {quoted}"
    return ""


def _versions(path: Path | None) -> list[tuple[str, str]]:
    """Suffuse and the plugins that the model was saved with."""
    config = storage.read_json(path / "config.json") if path is not None else {}
    found = {"suffuse": config.get("suffuse", ""), **config.get("plugins", {})}
    return [(str(name), str(version)) for name, version in found.items() if version]


def _machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.system()} {platform.machine()}, {cores} processor cores{gpu}"
