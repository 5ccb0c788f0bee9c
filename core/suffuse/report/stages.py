"""The four stages of a diffusion model as sections of a page: data, noising, training, sampling."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from suffuse.diffusion import Gaussian, Noise, Step, Stream
from suffuse.diffusion.plan import Plan
from suffuse.diffusion.process import by_name
from suffuse.model import Model
from suffuse.report import figures, record
from suffuse.report.blocks import Cell, Chart, Tiles, number
from suffuse.report.curves import curves
from suffuse.report.page import Page
from suffuse.report.pictures import cells
from suffuse.report.view import View, drawn, recipe_path, shape, spread

__all__ = ["data", "forward", "reverse", "training"]

LEVELS = 9
"""Noise levels of the forward strips."""

MEASURED = 512
"""Examples whose values are measured."""

TARGETS = {
    "x0": "x_0",
    "eps": "ε",
    "v": "α_t ε − σ_t x_0",
    "score": "−ε / σ_t",
    "flow": "ε − x_0",
    "edm": "(σ_t x_0 / s − α_t s ε) / √(α_t^2 s^2 + σ_t^2)",
}
"""What the network is trained to answer, by the name of the prediction."""


def data(page: Page, view: View) -> None:
    section = page.section("Data", number=1, lead="Real examples, and the states made of them")
    model = view.model
    name = model.recipe.dataset["name"]
    if view.train is None:
        section.prose(
            f"The data set `{name}` is not to be had here, so none of it is shown. A state has the "
            f"shape {shape(model.shape)}."
        )
        return
    held = f" and {len(view.test):,} that it never sees" if view.test is not None else ""
    section.prose(
        f"`{name}` has {len(view.train):,} examples that the model learns from{held}. The encoder "
        f"`{model.recipe.encoder['name']}` turns each into a state: a tensor of shape "
        f"{shape(model.shape)} whose values are about standardised, so that noise of one size "
        "suits them all."
    )
    rows = [
        (label, cells(model.renderer, *drawn(row, view.category), alt="training example"))
        for label, row in view.examples
    ]
    by = f", one row for each {view.category}" if view.category is not None else ""
    section.tiles(rows, caption=f"Examples of the training split{by}.")
    objects = [view.train[i].data for i in spread(len(view.train), MEASURED)]
    x_0 = model.encode(objects)
    if not isinstance(x_0, torch.Tensor) or not x_0.is_floating_point():
        section.prose("States are tokens, or several parts; there is no histogram of them.")
        return
    sizes = model.sizes(objects)
    filled = x_0 if sizes is None else x_0[model.mask(sizes).to(x_0.device)]
    states = filled.cpu().double().numpy()
    raw = _values(objects)
    before = None if raw is None else np.concatenate([r.ravel() for r in raw])
    table: list[Sequence[str | float]] = []
    charts = []
    if before is not None:
        table.append(("as stored", *_moments(before)))
        charts.append(
            Chart(
                figures.histogram(before, "value as stored"),
                f"Histogram of the raw values, from {number(before.min())} to "
                f"{number(before.max())}.",
                "Values as they are stored",
            )
        )
    table.append(("as states", *_moments(states)))
    charts.append(
        Chart(
            figures.histogram(states, "value of the state", normal=True),
            f"Histogram of the values of states, with mean {states.mean():.2f} and deviation "
            f"{states.std():.2f}, and the standard normal density over it.",
            "Values of the states, and the noise that they will be mixed with",
        )
    )
    section.side(*charts)
    section.table(
        ("values", "mean", "deviation", "least", "greatest"),
        table,
        f"Measured on {len(objects):,} training examples.{_round_trip(model, objects, raw)}",
    )
    section.formula("x_0 = encode(object)", "mean(x_0) ≈ 0,  deviation(x_0) ≈ 1")
    also = "" if sizes is None else ", model.sizes(objects)"
    section.code(
        f"""
import suffuse

model = suffuse.load({json.dumps(view.run.as_posix())})
examples = model.dataset("train")
objects = [examples[i].data for i in range(8)]
x_0 = model.encode(objects)  # {shape(model.shape)}, 8 times
objects = model.decode(x_0{also})  # and back
""",
        "In Python",
    )


def forward(page: Page, view: View) -> None:
    section = page.section(
        "Forward diffusion", number=2, lead="Signal is mixed with noise until only noise is left"
    )
    model = view.model
    plan = _one(model.plan())
    gaussian = isinstance(model.process, Gaussian)
    section.prose(
        "Time t runs from 0, where the data is clean, to 1, where it is noise. "
        + (
            "At each t a state is a sum of the clean state and standard normal noise; the schedule "
            f"`{model.recipe.schedule['name']}` says how much of each."
            if gaussian
            else f"The process `{model.recipe.process['name']}` says how a state is corrupted on "
            "the way."
        )
    )
    if gaussian:
        section.formula("x_t = α_t x_0 + σ_t ε", "ε ∼ N(0, 1),  λ_t = log(α_t / σ_t)")
    times = np.linspace(0, 1, LEVELS)
    if view.few:
        objects = [example.data for _, example in view.few]
        x_0 = model.encode(objects)
        source = Noise(0, len(objects), device=model.device)
        noise = model.process.noise(source, x_0, step=0, stream=Stream.CORRUPT)
        steps = []
        for t in times.tolist():
            at = torch.full((len(objects),), t, dtype=torch.float64, device=model.device)
            x_t = model.process.corrupt(x_0, at, noise)
            steps.append(model.decode(x_t, model.sizes(objects)))
        section.tiles(
            [
                (name, cells(model.renderer, [step[i] for step in steps], alt="corrupted example"))
                for i, (name, _) in enumerate(view.few)
            ],
            [f"{t:.2f}" for t in times],
            "One example a row under the same noise, and more and more of it.",
            corner="t",
        )
    t = np.linspace(0, 1, 401)
    c = model.schedule.at(torch.from_numpy(t))
    marks = plan.t.reshape(len(plan), -1).mean(1)
    asks = f"dots are the {len(plan)} times at which the sampler asks the network"
    section.side(
        Chart(
            figures.coefficients(t, c.alpha.numpy(), c.sigma.numpy(), marks),
            "Curves of alpha, which falls with t, and sigma, which rises.",
            f"The share of signal and of noise; {asks}",
        ),
        Chart(
            figures.log_ratio(t, c.lam.numpy(), marks),
            "The curve of lambda, which falls with t.",
            "Their log ratio λ, infinite at both ends"
            if math.isinf(float(c.lam[-1]))
            else "Their log ratio λ",
        ),
    )
    section.code(
        """
import torch
from suffuse.diffusion import Noise

t = torch.full((8,), 0.5)
noise = model.process.noise(Noise(0, 8, device=model.device), x_0, step=0, stream=0)
x_t = model.process.corrupt(x_0, t, noise)
""",
        "In Python, going on from above",
    )


def training(page: Page, view: View) -> None:
    section = page.section(
        "Training", number=3, lead="A network learns to tell the data from the noise"
    )
    model, log = view.model, view.log
    training = model.recipe.training
    section.prose(
        "Each step takes clean examples, draws a time and noise for each, and asks the network "
        f"`{model.recipe.denoiser['name']}`, of {view.parameters():,} parameters, what they were "
        "mixed from. The mean squared error of its answer moves its weights. What is sampled here "
        "are the weights averaged over training, which as a rule do better than the last ones."
    )
    target = TARGETS.get(getattr(model.process, "prediction", ""))
    if target is not None:
        given = ", c" if model.conditions else ""
        section.formula(f"loss = {{E}}_{{t, ε}} ‖ f_θ(x_t, λ_t{given}) − ({target}) ‖^2")
    if len(log):
        section.side(*curves(log, training.decay))
    else:
        section.prose("There is no record of the training here (metrics.jsonl).")
    shown = record.sheets(view.run)
    if shown:
        section.prose(
            "The same seeds, sampled from the averaged weights again and again during the training:"
        )
        section.side(
            *(
                Chart(png, f"Samples after {step} steps.", f"After {step:,} steps")
                for step, png in shown
            )
        )
    values = _example_call(view, 8)
    section.code(
        f"""
conditions = model.prepare({values}, 8)
loss = model.process.loss(model.network, x_0, t, noise, **conditions)  # [8]

from suffuse import recipe

mine = recipe.load({json.dumps(recipe_path(view))}, {{"training.steps": {training.steps}}})
model = suffuse.train(mine, "runs/mine")
""",
        "In Python, going on from above: one step's loss, and a whole training",
    )


def reverse(page: Page, view: View) -> None:
    section = page.section(
        "Reverse diffusion", number=4, lead="From noise to a sample, a call of the network a step"
    )
    model = view.model
    plan = model.plan()
    one = _one(plan)
    section.prose(
        f"Sampling starts from noise alone. At each of {len(one)} times the network estimates the "
        f"clean state, and the solver `{one.solver}` moves towards it, to the next lower noise "
        "level. Early estimates are averages of all that the noise may still become; each step "
        "leaves less open."
    )
    if isinstance(model.process, Gaussian):
        section.formula(
            "x_s = (σ_s / σ_t) x_t + (α_s − α_t σ_s / σ_t) x\u0302_0(x_t, t)",
            "from t to s < t: the step of first order (DDIM)",
        )
    n = min(4, max(len(view.names), 1)) if view.category is not None else 3
    wanted = view.conditions(n)
    noise = Noise(0, n, device=model.device)
    start = model.process.prior(noise, model.shape, by_name(lambda k: _first(k.t), plan))
    sizes = model.encoder.draw_sizes(noise) if hasattr(model.encoder, "draw_sizes") else None
    own = None if sizes is None else sizes.tolist()
    trail: list[Step] = []
    made = model.sample(n, seed=0, x=start, sizes=own, on_step=trail.append, **wanted)
    kept = spread(len(trail), 12)
    states = [start, *(step.x for step in trail)]
    seen = [model.decode(states[i], sizes) for i in kept]
    estimates = [model.process.draw(trail[i].denoised, noise, i) for i in kept]
    guessed = [model.decode(estimate, sizes) for estimate in estimates]
    rows: list[tuple[str, Sequence[Cell]]] = []
    hero: list[tuple[str, Sequence[Cell]]] = []
    for i in range(n):
        label = str(wanted[view.category][i]) if view.category is not None else str(i + 1)
        path = cells(model.renderer, [*(s[i] for s in seen), made[i]], alt="state of the sampler")
        guesses = cells(model.renderer, [g[i] for g in guessed], alt="clean estimate")
        rows += [(f"{label}: x", path), ("estimate", [*guesses, Cell(None)])]
        hero.append(("", path))
    section.tiles(
        rows,
        [*(f"{_mean(trail[k].t):.2f}" for k in kept), "0.00"],
        f"{n} samples: the state x at time t, and below it the network's estimate of the clean "
        "state from it.",
        corner="t",
    )
    page.hero = Tiles(hero[:2], caption=f"From noise to samples, in {len(one)} network calls.")
    values = "".join(f", {k}={v[0]!r}" for k, v in wanted.items() if v and v[0] is not None)
    section.code(
        f"""
print(model.plan(steps=8))  # the sampler, as a table
samples = model.sample(16{values}, seed=0)  # a list of 16

steps = []
model.sample(1, seed=0, steps=8, on_step=steps.append)  # each has .t .s .x .denoised
""",
        "In Python",
    )


def _values(objects: Sequence[Any]) -> list[NDArray[np.float64]] | None:
    """Raw objects as numbers, where they are such: pictures and arrays are, molecules are not."""
    out = []
    for data in objects:
        try:
            values = np.asarray(data)
        except (ValueError, TypeError):
            return None
        if values.dtype.kind not in "biuf" or not values.size:
            return None
        out.append(values.astype(np.float64))
    return out


def _moments(values: NDArray[np.float64]) -> tuple[str, ...]:
    found = (values.mean(), values.std(), values.min(), values.max())
    return tuple(number(float(v), float(values.std()) / 20) for v in found)


def _round_trip(
    model: Model, objects: Sequence[Any], raw: Sequence[NDArray[np.float64]] | None
) -> str:
    """How far decode(encode(objects)) is from the objects."""
    back = _values(model.decode(model.encode(objects), model.sizes(objects)))
    if (
        raw is None
        or back is None
        or any(a.shape != b.shape for a, b in zip(raw, back, strict=True))
    ):
        return ""
    worst = max(float(np.abs(a - b).max()) for a, b in zip(raw, back, strict=True))
    if worst == 0:
        return " Encoding and decoding them gives every value back exactly."
    return f" Encoding and decoding them changes no value by more than {number(worst)}."


def _first(t: NDArray[np.float64]) -> Tensor | float:
    return float(t[0]) if t.ndim == 1 else torch.from_numpy(t[0][None])


def _mean(t: float | Tensor | Mapping[str, Any]) -> float:
    """A time as one number; of a product's times the first part's."""
    if isinstance(t, Mapping):
        return _mean(next(iter(t.values())))
    return float(t.mean()) if isinstance(t, Tensor) else t


def _example_call(view: View, n: int) -> str:
    """Raw conditions of n examples, as Python."""
    values = {k: v for k, v in view.conditions(n).items() if None not in v}
    return repr(values)


def _one(plan: Any) -> Plan:
    """The plan; of a product's the first, whose rows walk with the others'."""
    found: Plan = next(iter(plan.values())) if isinstance(plan, Mapping) else plan
    return found
