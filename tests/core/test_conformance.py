"""The conformance kit: the toy plugin passes all of it, and for every check a broken one fails."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pydantic import BaseModel

from suffuse import plugins, testing
from suffuse.bench import Result
from suffuse.cli.plugins import plugins as command
from suffuse.diffusion import Gaussian, schedules, solvers
from suffuse.errors import SuffuseError
from suffuse.plugins import hookimpl
from suffuse.testing import Conformance, parametrize_with_checks
from suffuse.testing.catalogue import CATALOGUE

sys.path.append(str(Path(__file__).parents[1] / "fixtures" / "suffuse-toy"))

data, denoiser, encoder, evaluator, plugin, renderer = (
    importlib.import_module(f"suffuse_toy.{name}")
    for name in ("data", "denoiser", "encoder", "evaluator", "plugin", "renderer")
)
RECIPE = Path(plugin.__file__).parent / "recipes" / "spiral.toml"


def managed(module: Any) -> plugins.Manager:
    return plugins.Manager([plugins.Candidate("toy", lambda: module, version="1.0")])


@parametrize_with_checks("toy", managed(plugin))
def test_conformance(check):
    check()


# One broken thing for every check


class WrongLabels(data.Spiral):
    def __getitem__(self, index):
        return replace(super().__getitem__(index), conditions={"arm": "middle"})


class Endless(data.Spiral):
    def __getitem__(self, index):
        return super().__getitem__(index % len(self))


class Restless(data.Spiral):
    def __getitem__(self, index):
        return replace(super().__getitem__(index), data=np.random.default_rng().normal(size=2))


class OneSplit(data.Spiral):
    def __init__(self, split: str, *, n: int = 2000) -> None:
        super().__init__("train", n=n)


class Wide(encoder.Points):
    def encode(self, objects):
        return super().encode(objects).double()


class Lossy(encoder.Points):
    def decode(self, x):
        return super().decode(1.5 * x)


class Constant(encoder.Points):
    def encode(self, objects):
        return 0 * super().encode(objects)


class Loud(encoder.Points):
    def encode(self, objects):
        return 100 * super().encode(objects)


class Relative(encoder.Points):
    def encode(self, objects):
        x = super().encode(objects)
        return x - x.mean(0)


class Forgetful(encoder.Points):
    def fit(self, dataset):
        self.mean = torch.tensor([0.5, 0.5])
        return {"scale": float("nan")}


class Welcoming(encoder.Points):
    def encode(self, objects):
        return torch.zeros(len(objects), 2)


class Ragged(encoder.Points):
    """Points of which the second coordinate may be missing."""

    def sizes(self, objects):
        return torch.tensor([1 + (float(o[0]) > 0) for o in objects])

    def mask(self, sizes):
        return torch.arange(2) < sizes[:, None]

    def draw_sizes(self, noise):
        return 1 + (noise.uniform((), step=0) > 0.5).long()

    def decode(self, x, sizes):
        return super().decode(x)


class Unsized(Ragged):
    def sizes(self, objects):
        return super().sizes(objects).float()


class Narrow(denoiser.MLP):
    def forward(self, x, level, vector=None, mask=None):
        return super().forward(x, level, vector)[:, :1]


class Mixing(denoiser.MLP):
    def forward(self, x, level, vector=None):
        out = super().forward(x, level, vector)
        return out + out.mean(0)


class Masked(denoiser.MLP):
    """Takes a mask, and makes nothing of it."""

    def forward(self, x, level, vector=None, mask=None):
        return super().forward(x, level, vector)


class Idle(denoiser.MLP):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.unused = torch.nn.Linear(2, 2)


class Dull(denoiser.MLP):
    def forward(self, x, level, vector=None):
        return 0 * super().forward(x, level, vector)


class Hidden(denoiser.MLP):
    """A part of it is not kept."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        seed = int(np.random.default_rng().integers(2**31))
        draw = torch.randn(2, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("draw", draw, persistent=False)

    def forward(self, x, level, vector=None):
        return super().forward(x, level, vector) + self.draw


class Half(torch.nn.Module):
    """An embedding of half the width, of whatever value."""

    def __init__(self, condition: Any, width: int) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(2, width // 2)

    def prepare(self, values):
        return torch.tensor([value == "left" for value in values]).long()

    def forward(self, prepared):
        return self.table(prepared)


class Whole(Half):
    def __init__(self, condition: Any, width: int) -> None:
        super().__init__(condition, 2 * width)


class Unseeded(Gaussian):
    def prior(self, noise, shape, t=1.0):
        return super().prior(noise, shape, t) + torch.rand(())


class Shared(Gaussian):
    def corrupt(self, x_0, t, noise):
        return super().corrupt(x_0, t, noise + x_0.mean(0))


def backwards() -> schedules.Schedule:
    found = schedules.cosine()
    return replace(found, to_lam=lambda t: found.to_lam(1 - t))


def unfinished(schedule: schedules.Schedule, grid: Any) -> Any:
    return solvers.ddim(schedule, grid[:-1])


def halved(schedule: schedules.Schedule, grid: Any) -> Any:
    plan = solvers.ddim(schedule, grid)
    return replace(plan, B=0.5 * plan.B)


def boastful(schedule: schedules.Schedule, grid: Any) -> Any:
    return solvers.ddim(schedule, grid)


vars(boastful).update(order=2, exponential=False, stochastic=False)


def twice(denoiser: Any, weight: float, null: Any) -> Any:
    return lambda x_t, t, **conditions: weight * denoiser(x_t, t, **conditions)


def restless(model: Any) -> Any:
    def edit(objects, n=1, *, seed=0, **settings):
        model.encode(objects)  # refuses strangers
        return [np.random.default_rng().normal(size=2) for _ in objects]

    return edit


def unmoved(model: Any) -> Any:
    return lambda objects, n=1, **settings: [np.zeros(2) for _ in objects]


@dataclass(frozen=True)
class Measured:
    task: str
    model: str
    seed: int
    measures = ("suffuse_toy",)

    def run(self, context):
        return Result([])


def again() -> Any:
    return [Measured("toy/task", "toy", 0), Measured("toy/task", "toy", 0)]


def dice(denoiser: Any, schedule: Any) -> Any:
    return lambda x_0, *, seed=0, **conditions: torch.rand(len(x_0), 1, dtype=torch.float64)


def crowd(denoiser: Any, schedule: Any) -> Any:
    return lambda x_0, **conditions: x_0.mean().double().expand(len(x_0), 1)


def pooled(process: Any, teacher: Any) -> Any:
    """The mean over the batch in the place of each sample's own loss."""

    def objective(network, x_0, t, noise, *, mask=None, **conditions):
        losses = process.loss(network, x_0, t, noise, mask=mask, **conditions)
        return losses.mean().expand(len(losses))

    return objective


def loose(process: Any, teacher: Any) -> Any:
    """The teacher's loss, which moves nothing of the student's."""

    def objective(network, x_0, t, noise, *, mask=None, **conditions):
        losses = process.loss(network, x_0, t, noise, mask=mask, **conditions)
        return losses.detach() + 0 * losses

    return objective


class Diary:
    """Figures as lines of a file."""

    def __init__(self, run, recipe):
        self.file = (run / "diary.txt").open("a")

    def log(self, values, step):
        self.file.write(f"{step} {dict(values)}\n")

    def finish(self):
        self.file.close()


class Fresh(Diary):
    """Cannot go on."""

    def __init__(self, run, recipe):
        self.file = (run / "diary.txt").open("x")


class Deaf:
    """A launcher that runs commands, and says that all went well."""

    def launch(self, commands, tell):
        for words in commands:
            subprocess.run([sys.executable, "-m", "suffuse", *words], capture_output=True)
        return [0] * len(commands)


class Changed(evaluator.Distance):
    """Its figure, changed by a function of the samples."""

    def change(self, figure, samples):
        raise NotImplementedError

    def evaluate(self, samples, *, test, train, seed):
        found = super().evaluate(samples, test=test, train=train, seed=seed)
        return [self.change(figure, samples) for figure in found]


class Beside(Changed):
    def change(self, figure, samples):
        return replace(figure, low=figure.value + 1, high=figure.value + 2)


class FirstOnly(Changed):
    def change(self, figure, samples):
        return replace(figure, value=float(samples[0].data[0]))


class Offset(Changed):
    def change(self, figure, samples):
        return replace(figure, value=figure.value + 1, low=figure.low + 1, high=figure.high + 1)


class Vague(Changed):
    """Intervals in which everything lies."""

    def change(self, figure, samples):
        return replace(figure, low=-1e3, high=1e3)


class Eager(evaluator.Distance):
    def evaluate(self, samples, *, test, train, seed):
        first = samples[0]
        return super().evaluate([first, *samples[1:]], test=test, train=train, seed=seed)


class Mute(renderer.Plot):
    def metadata(self, path):
        return {}


class Blank(renderer.Plot):
    def sheet(self, objects, captions=None, columns=0):
        return b""


class Trusting(renderer.Plot):
    def _parsed(self, path):
        return dict(importlib.import_module("json").loads(path.read_text()))


class Loose(BaseModel, extra="allow"):
    """Options that let a misspelt key pass."""


class Optional(encoder.Points):
    def __init__(self, *, scale: float = 1.0, extra: float | None = 1.0) -> None:
        super().__init__(scale=scale)


def none_is_lost() -> dict[str, Any]:
    import tomllib

    recipe = tomllib.loads(RECIPE.read_text())
    return {**recipe, "encoder": {"name": "toy/points", "extra": None}}


def replaced(**hooks: Any) -> ModuleType:
    """The toy plugin with some of its hooks replaced: name -> function of `register` or `cli`."""
    module = ModuleType("suffuse_toy.broken")
    for name, value in vars(plugin).items():
        if not name.startswith("__"):
            setattr(module, name, value)
    for name, function in hooks.items():
        setattr(module, name, hookimpl(function, specname=name) if callable(function) else function)
    return module


def registers(hook: str, name: str, target: Any, **more: Any) -> dict[str, Any]:
    def function(register):
        register(name, target, **{"summary": "broken", **more})

    return {hook: function}


def dataset_as(target):
    return registers("register_datasets", "toy/spiral", target)


def encoder_as(target, **more):
    return registers("register_encoders", "toy/points", target, **more)


def denoiser_as(target):
    return registers("register_denoisers", "toy/mlp", target)


def evaluator_as(target):
    return registers("register_evaluators", "toy/distance", target)


def renderer_as(target):
    return registers("register_renderers", "toy/plot", target)


def solver_as(target):
    return registers("register_solvers", "toy/step", target)


def conditioner_as(target):
    settings = {"recipe toy/spiral": {"conditions.arm.name": "toy/arm"}}
    return {
        **registers("register_conditioners", "toy/arm", target),
        "suffuse_conformance": Conformance(settings),
    }


def speechless(cli):
    cli.command("toy")(lambda: None)


def foreign(register):
    register("other/spiral", data.Spiral, summary="of another's namespace")


BROKEN: dict[str, dict[str, Any]] = {
    "plugin toy is_whole": {"register_schedules": foreign},
    "plugin toy commands_have_help": {"register_commands": speechless},
    "encoder toy/points loads": encoder_as("suffuse_toy.nothing:Points"),
    "encoder toy/points has_options": encoder_as(encoder.Points, config=Loose),
    "encoder toy/points says_what_it_is": encoder_as(encoder.Points, summary=" "),
    "dataset toy/spiral has_examples": dataset_as(WrongLabels),
    "dataset toy/spiral ends": dataset_as(Endless),
    "dataset toy/spiral is_the_same_again": dataset_as(Restless),
    "dataset toy/spiral has_two_splits": dataset_as(OneSplit),
    "encoder toy/points has_shape": encoder_as(Wide),
    "encoder toy/points comes_back": encoder_as(Lossy),
    "encoder toy/points tells_apart": encoder_as(Constant),
    "encoder toy/points is_standardised": encoder_as(Loud),
    "encoder toy/points encodes_each_alone": encoder_as(Relative),
    "encoder toy/points needs_no_data": encoder_as(Forgetful),
    "encoder toy/points keeps_sizes": encoder_as(Unsized),
    "encoder toy/points refuses_strangers": encoder_as(Welcoming),
    "denoiser toy/mlp answers_in_shape": denoiser_as(Narrow),
    "denoiser toy/mlp keeps_samples_apart": denoiser_as(Mixing),
    "denoiser toy/mlp ignores_padding": {**denoiser_as(Masked), **encoder_as(Ragged)},
    "denoiser toy/mlp uses_its_weights": denoiser_as(Idle),
    "denoiser toy/mlp learns": denoiser_as(Dull),
    "conditioner toy/arm embeds": conditioner_as(Half),
    "conditioner toy/arm refuses_values": conditioner_as(Whole),
    "process toy/noise corrupts": registers("register_processes", "toy/noise", Shared),
    "process toy/noise samples_by_seed": registers("register_processes", "toy/noise", Unseeded),
    "schedule toy/back runs_from_data_to_noise": registers(
        "register_schedules", "toy/back", backwards
    ),
    "solver toy/step makes_plans": solver_as(unfinished),
    "solver toy/step finds_what_is_certain": solver_as(halved),
    "solver toy/step reaches_its_order": solver_as(boastful),
    "objective toy/pooled is_a_loss": registers("register_objectives", "toy/pooled", pooled),
    "tracker toy/fresh takes_figures": registers("register_trackers", "toy/fresh", Fresh),
    "launcher toy/deaf runs_commands": registers("register_launchers", "toy/deaf", Deaf),
    "guidance toy/twice leaves_what_agrees": registers("register_guidance", "toy/twice", twice),
    "edit toy/restless edits_by_seed": registers("register_edits", "toy/restless", restless),
    "edit toy/unmoved refuses_other_objects": registers("register_edits", "toy/unmoved", unmoved),
    "benchmark toy/again yields_cases": registers("register_benchmarks", "toy/again", again),
    "scorer toy/dice scores": registers("register_scorers", "toy/dice", dice),
    "evaluator toy/distance measures": evaluator_as(Beside),
    "evaluator toy/distance is_blind_to_order": evaluator_as(FirstOnly),
    "evaluator toy/distance finds_real_data_at_the_floor": evaluator_as(Offset),
    "evaluator toy/distance refuses_nothing": evaluator_as(Eager),
    "renderer toy/plot keeps_files": renderer_as(Mute),
    "renderer toy/plot draws_sheets": renderer_as(Blank),
    "renderer toy/plot refuses_files": renderer_as(Trusting),
    "recipe toy/spiral is_written_and_read": {
        **encoder_as(Optional),
        **registers("register_recipes", "toy/spiral", none_is_lost()),
    },
    "recipe toy/spiral samples_by_seed": denoiser_as(Mixing),
    "recipe toy/spiral is_kept": denoiser_as(Hidden),
    "recipe toy/spiral refuses_conditions": conditioner_as(Whole),
    "model toy/empty is_shipped": registers(
        "register_models", "toy/empty", Path(plugin.__file__).parent / "recipes"
    ),
}


class Nested(data.Spiral):
    """Its test split is the first part of the other."""

    def __init__(self, split: str, *, n: int = 2000) -> None:
        super().__init__("train", n=n)
        self._length = n if split == "train" else n // 4

    def __len__(self) -> int:
        return self._length


class Wavering(denoiser.MLP):
    """Never learns, but in training its answer is at times less wrong."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.calls = 0

    def forward(self, x, level, vector=None):
        self.calls += 1
        scale = 10 if self.training and self.calls % 2 else 0
        return 0 * super().forward(x, level, vector) + scale


class Axis(denoiser.MLP):
    def forward(self, x, level, vector=None):
        return super().forward(x, level, vector)[..., None]


class Trembling(denoiser.MLP):
    """Differs by less than what would be seen at the scale of the states."""

    def forward(self, x, level, vector=None):
        return super().forward(x, level, vector) + 2e-7 * torch.rand(x.shape)


class Silent(evaluator.Distance):
    def evaluate(self, samples, *, test, train, seed):
        return []


class Quits(encoder.Points):
    def encode(self, objects):
        raise SystemExit(0)


def refusing(*context: Any, **more: Any) -> Any:
    raise SuffuseError("this is refused, whatever is asked")


def refused_solver(schedule: schedules.Schedule, grid: Any) -> Any:
    return refusing()


def refused_suite() -> Any:
    return refusing()


def refused_guidance(denoiser: Any, weight: float) -> Any:
    return refusing()


def needy(denoiser: Any, weight: float, *, strength: float) -> Any:
    return denoiser


# Further ways to be broken, for checks that have several claims
ALSO: list[tuple[str, dict[str, Any]]] = [
    ("encoder toy/points loads", encoder_as("suffuse_toy.nothing:Points", extra="fast")),
    ("objective toy/loose is_a_loss", registers("register_objectives", "toy/loose", loose)),
    ("scorer toy/crowd scores", registers("register_scorers", "toy/crowd", crowd)),
    ("solver toy/step makes_plans", solver_as(refused_solver)),
    ("solver toy/step finds_what_is_certain", solver_as(refused_solver)),
    ("evaluator toy/distance measures", evaluator_as(Silent)),
    ("evaluator toy/distance finds_real_data_at_the_floor", evaluator_as(Vague)),
    ("benchmark toy/no yields_cases", registers("register_benchmarks", "toy/no", refused_suite)),
    (
        "guidance toy/no leaves_what_agrees",
        registers("register_guidance", "toy/no", refused_guidance),
    ),
    ("guidance toy/needy leaves_what_agrees", registers("register_guidance", "toy/needy", needy)),
    ("dataset toy/spiral has_two_splits", dataset_as(Nested)),
    ("denoiser toy/mlp learns", denoiser_as(Wavering)),
    ("denoiser toy/mlp answers_in_shape", denoiser_as(Axis)),
    ("recipe toy/spiral samples_by_seed", denoiser_as(Trembling)),
    ("recipe toy/spiral is_kept", denoiser_as(Trembling)),
    ("encoder toy/points has_shape", encoder_as(Quits)),
]


@pytest.mark.parametrize(("id", "hooks"), [*BROKEN.items(), *ALSO])
def test_a_broken_plugin_fails(id, hooks):
    manager = managed(replaced(**hooks))
    assert manager.statuses[0].status == "ok", manager.statuses[0].message
    found = {check.id: check for check in testing.checks("toy", manager)}
    result = found[id].run()
    assert result.outcome == "failed", result
    assert "Traceback" not in result.reason
    assert result.claim
    assert result.trace


_HEAVY_HOOK = """
from suffuse.plugins import hookimpl
suffuse_api = 1
@hookimpl
def {hook}:
    import torch
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("heavy_toy", "import torch\nsuffuse_api = 1\n"),
        ("heavy_hook", _HEAVY_HOOK.format(hook="register_schedules(register)")),
        ("heavy_command", _HEAVY_HOOK.format(hook="register_commands(cli)")),
    ],
)
def test_a_heavy_plugin_fails(name, text, tmp_path, monkeypatch):
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    manager = managed(importlib.import_module(name))
    result = next(c for c in testing.checks("toy", manager) if c.id.endswith("is_light")).run()
    assert result.outcome == "failed"
    assert "torch" in result.reason


SOUND = [
    *(
        registers("register_objectives", "toy/sound", f"suffuse.diffusion.distillation:{name}")
        for name in ("progressive", "consistency", "continuous", "reflow")
    ),
    registers("register_trackers", "toy/sound", Diary),
    registers("register_launchers", "toy/sound", "suffuse.bench.launching:Processes"),
    registers("register_conditioners", "toy/sound", "suffuse.nn.conditioning:Label"),
]


@pytest.mark.parametrize("hooks", SOUND)
def test_what_is_sound_passes(hooks):
    """The core's own, and a conditioner that no recipe uses."""
    found = [c for c in testing.checks("toy", managed(replaced(**hooks))) if "toy/sound" in c.id]
    results = [check.run() for check in found]
    assert len(results) >= 4
    assert {result.outcome for result in results} == {"passed"}, results


def test_every_check_has_a_broken_plugin():
    proven = {id.split(" ")[0] + " " + id.split(" ")[2] for id in BROKEN} | {"plugin is_light"}
    for kind, functions in CATALOGUE.items():
        for function in functions:
            where = "encoder" if kind == "any" else kind
            assert f"{where} {function.__name__}" in proven


# Expected failures, and what is said of wrong ones


def with_expected(failures: dict[str, str], **hooks: Any) -> plugins.Manager:
    return managed(replaced(suffuse_conformance=Conformance({}, failures), **hooks))


def test_an_expected_failure_is_told_with_its_reason():
    manager = with_expected({"encoder toy/points comes_back": "halves"}, **encoder_as(Lossy))
    results = {c.id: c.run() for c in testing.checks("toy", manager) if "comes_back" in c.id}
    result = results["encoder toy/points comes_back"]
    assert (result.outcome, result.reason) == ("expected", "halves")
    assert "| encoder toy/points | comes_back | expected | halves |" in testing.markdown(
        "toy", results.values()
    )
    marks = [
        mark
        for parameter in parametrize_with_checks("toy", manager).args[1]
        for mark in parameter.marks
        if mark.name == "xfail"
    ]
    assert [mark.kwargs for mark in marks] == [{"reason": "halves", "strict": True}]


def test_an_expected_failure_that_passes_is_a_failure():
    manager = with_expected({"encoder toy/points comes_back": "old"})
    check = next(c for c in testing.checks("toy", manager) if c.expected_failure)
    assert check.run().outcome == "failed"


@pytest.mark.parametrize(
    ("failures", "words"),
    [
        ({"encoder toy/points come_back": "x"}, "did you mean 'encoder toy/points comes_back'"),
        ({"encoder toy/points comes_back": " "}, "has no reason"),
    ],
)
def test_wrong_expected_failures_are_told(failures, words):
    with pytest.raises(SuffuseError, match=words):
        testing.checks("toy", with_expected(failures))


def test_settings_of_nothing_are_told():
    broken = replaced(suffuse_conformance=Conformance({"recipe toy/spirall": {"dataset.n": 200}}))
    with pytest.raises(SuffuseError, match="did you mean 'recipe toy/spiral'"):
        testing.checks("toy", managed(broken))


def at_two(denoiser: Any, weight: float, *, strength: float) -> Any:
    if weight < 2:
        raise SuffuseError("a weight of 2 or more is needed")
    return lambda x_t, t, **conditions: (2 * strength) * denoiser(x_t, t, **conditions)


def test_settings_give_options_and_a_refused_weight_is_left_out():
    settings = Conformance({"guidance toy/two": {"guidance.strength": 0.5}})
    manager = managed(
        replaced(suffuse_conformance=settings, **registers("register_guidance", "toy/two", at_two))
    )
    found = {
        check.id: check.run() for check in testing.checks("toy", manager) if "/two" in check.id
    }
    assert {result.outcome for result in found.values()} == {"passed"}, found


class Sized(denoiser.MLP):
    def __init__(self, shape: tuple[int, ...], *, layers: int = 99) -> None:
        super().__init__(shape)
        self.layers = layers


def test_settings_of_a_recipe_do_not_undo_those_of_what_takes_a_parts_place():
    """Options are set after the name, whose change drops them."""
    settings = Conformance(
        {"recipe toy/spiral": {"denoiser.layers": 3}, "denoiser toy/other": {"denoiser.layers": 5}}
    )

    def register_denoisers(register):
        register("toy/mlp", Sized, summary="a")
        register("toy/other", Sized, summary="b")

    manager = managed(replaced(suffuse_conformance=settings, register_denoisers=register_denoisers))
    checks = {check.id: check for check in testing.checks("toy", manager)}
    for name, layers in (("toy/mlp", 3), ("toy/other", 5)):
        check = checks[f"denoiser {name} learns"]
        with plugins.using(manager):
            found = check._workbench().recipe(check._subject).denoiser
        assert found == {"name": name, "layers": layers}


def test_plugins_that_cannot_be_checked():
    with pytest.raises(SuffuseError, match="did you mean 'toy'"):
        testing.checks("tyo", managed(plugin))
    with pytest.raises(SuffuseError, match="cannot be imported"):
        testing.checks("toy", managed(replaced(suffuse_conformance="suffuse_toy.none:X")))


def test_the_command(tmp_path):
    page = tmp_path / "toy.md"
    with plugins.using(managed(plugin)):
        done = CliRunner().invoke(command, ["check", "toy", "-k", "encoder", "--markdown", page])
    assert done.exit_code == 0, done.output
    assert "ok       encoder toy/points comes_back" in done.output
    assert "0 failed, 1 skipped, in" in done.output
    assert "the slowest: encoder toy/points " in done.output
    assert "| encoder toy/points | comes_back | passed |" in page.read_text()
    assert "The slowest: encoder toy/points " in page.read_text()
    with plugins.using(managed(replaced(**encoder_as(Lossy)))):
        done = CliRunner().invoke(command, ["check", "toy", "-k", "comes_back"])
    assert done.exit_code == 1
    assert "FAILED   encoder toy/points comes_back" in done.output


def test_the_pytest_plugin_costs_nothing():
    told = subprocess.run(
        [sys.executable, "-c", "import suffuse.testing.pytest_plugin, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = told.stdout.split()
    assert "suffuse.testing.pytest_plugin" in loaded
    assert not {"torch", "numpy", "pluggy", "click", "suffuse.testing.kit"} & set(loaded)
