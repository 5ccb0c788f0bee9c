"""Checks of what runs use: objectives, trackers and launchers."""

from __future__ import annotations

import copy
from contextlib import chdir
from types import MappingProxyType
from typing import Any
from unittest import SkipTest

import torch

import suffuse
from suffuse import plugins
from suffuse.diffusion.noise import Noise, Stream
from suffuse.plugins import Entry
from suffuse.testing.workbench import Workbench, close, rows


def is_a_loss(bench: Workbench, entry: Entry) -> None:
    """It gives each sample a finite loss of its own, the same again, that the network learns by."""
    model, objects = bench.model(entry), bench.objects(entry, 4)
    teacher = copy.deepcopy(model)
    teacher.network.requires_grad_(False)
    with torch.no_grad():  # of a student that is its teacher some objectives have nothing to teach
        for parameter in model.network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    objective = plugins.build(
        "objective", bench.options(entry), process=model.process, teacher=teacher.denoiser(1.0)
    )
    n, x_0, sizes = len(objects), model.encode(objects), model.sizes(objects)
    t = model.process.levels((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    noise = model.process.noise(Noise(0, n), x_0, step=0, stream=Stream.CORRUPT)
    mask = None if sizes is None else model.mask(sizes)
    given = model.prepare(bench.values(model, entry, n), n)

    def losses(chosen: Any) -> torch.Tensor:
        part: Any = [None if each is None else rows(each, chosen) for each in (x_0, t, noise, mask)]
        few = {name: rows(value, chosen) for name, value in given.items()}
        found: torch.Tensor = objective(model.network, *part[:3], mask=part[3], **few)
        return found

    model.network.eval()
    found = losses(slice(None))
    assert tuple(found.shape) == (n,), f"the losses of {n} samples are {list(found.shape)}"
    assert bool(torch.isfinite(found).all()), f"losses that are not finite: {found.tolist()}"
    assert torch.equal(found, losses(slice(None))), "asked again, the losses are others"
    for i in range(n):
        assert close(found.detach()[[i]], losses([i]).detach()), (
            f"sample {i} alone has another loss"
        )
    found.mean().backward()  # type: ignore[no-untyped-call]
    slopes = [p.grad for p in model.network.parameters() if p.grad is not None]
    assert all(bool(torch.isfinite(slope).all()) for slope in slopes), "a gradient is not finite"
    assert any(bool(slope.any()) for slope in slopes), "it moves none of the network's weights"


_SOME = {"dataset": {"name": "example"}, "training": {"steps": 4}, "evaluators": []}


def takes_figures(bench: Workbench, entry: Entry) -> None:
    """It takes figures by step, is closed, and opens again in the folder of a run that goes on."""
    try:
        recipe = bench.recipe(entry).model_dump(mode="json")
    except SkipTest:  # the plugin has no recipe, and does not need one
        recipe = dict(_SOME)
    run = bench.folder()
    for begin in (0, 2):
        tracker = plugins.build("tracker", bench.options(entry), run=run, recipe=recipe)
        for step in (begin + 1, begin + 2):
            values = MappingProxyType({"loss": 1 / step, "validation/loss": 2.0})
            tracker.log(values, step)
        tracker.finish()


def runs_commands(bench: Workbench, entry: Entry) -> None:
    """Commands run in the present folder; their statuses come in order, and what they print.

    One that fails does not stop the others.
    """
    commands = (["plugins", "new", "birds", "-o", "made"], ["no-such-command"], ["--version"])
    launcher, folder = plugins.build("launcher", bench.options(entry)), bench.folder()
    told: list[str] = []
    with chdir(folder):
        found = list(launcher.launch(commands, told.append))
    assert len(found) == len(commands), f"{len(commands)} commands end with {found}"
    assert found[0] == found[2] == 0, f"commands that succeed end with {found[0]} and {found[2]}"
    assert found[1] != 0, "a command that fails ends with 0"
    assert (folder / "made").is_dir(), "what a command writes is not in the present folder"
    assert any(suffuse.__version__ in line for line in told), f"what they print is lost: {told}"
