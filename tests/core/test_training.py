"""Runs: what they leave behind, and that nothing stops them from going on."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import suffuse
from suffuse import plugins, recipe, storage
from suffuse.errors import SuffuseError
from suffuse.recipe import Recipe
from suffuse.training import Interrupted, engine, looks, states, train, trials
from suffuse.training.directory import locked
from suffuse.training.progress import Report

SMALL: dict[str, Any] = {
    "dataset.n": 64,
    "denoiser.width": 8,
    "denoiser.depth": 1,
    "sampling.steps": 3,
    "training.steps": 30,
    "training.batch": 20,
    "training.warmup": 5,
    "training.log_every": 4,
    "training.sample_every": 0,
    "training.checkpoint_every": 10,
    "training.precision": "fp32",
}

Asked = Callable[..., Recipe]
WEIGHTS = ("model", "ema", "optimizer")


@pytest.fixture
def small(toy: ModuleType) -> Asked:
    """A recipe that trains in a moment, with changes to it."""

    def load(**changes: Any) -> Recipe:
        dotted = {key.replace("__", "."): value for key, value in changes.items()}
        return recipe.load("toy/spiral", {**SMALL, **dotted})

    return load


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this module keeps what several tests begin with."""
    return tmp_path_factory.mktemp("workshop")


@pytest.fixture
def straight(small: Asked, workshop: Path, tmp_path: Path) -> Path:
    """A run of 30 steps that nothing disturbed."""
    train(small(), workshop / "straight", resume=True, progress=False)  # once
    return Path(shutil.copytree(workshop / "straight", tmp_path / "straight"))


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], None]:
    """Have something happen right after a step, once."""

    def arrange(step: int, event: Callable[[], object]) -> None:
        genuine = Report.step

        def watched(self: Report, done: int) -> None:
            genuine(self, done)
            if done == step:
                monkeypatch.setattr(Report, "step", genuine)
                event()

        monkeypatch.setattr(Report, "step", watched)

    return arrange


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same(run: Path, other: Path, step: int = 30) -> None:
    """The same weights to the bit, and the same figures but for times and memory."""
    assert (run / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    for part in WEIGHTS:
        place = Path("checkpoints") / f"{step:08d}" / f"{part}.safetensors"
        assert (run / place).read_bytes() == (other / place).read_bytes()
    timeless = [
        [{k: v for k, v in m.items() if "second" not in k and k != "memory"} for m in lines(r)]
        for r in (run, other)
    ]
    assert timeless[0] == timeless[1]


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


# What a run is


def test_a_run_is_a_model_directory(straight: Path) -> None:
    assert {p.name for p in straight.iterdir()} == {
        *(".lock", "run.json", "recipe.toml", "cache", "metrics.jsonl", "samples", "checkpoints"),
        *("model.safetensors", "config.json", "README.md", "evaluation.json"),
    }
    assert sorted(p.name for p in (straight / "checkpoints").iterdir()) == ["00000020", "00000030"]
    assert [p.name for p in (straight / "samples").iterdir()] == ["step-000030.png"]
    assert [m["step"] for m in lines(straight)] == [4, 8, 12, 16, 20, 24, 28, 30]
    for line in lines(straight):
        assert list(line) == [
            *("step", "loss", "levels", "learning_rate", "gradient_norm"),
            *("examples_per_second", "seconds", "memory"),
        ]
        assert len(line["levels"]) == 8
    (metric,) = json.loads((straight / "evaluation.json").read_text())
    assert (metric["step"], metric["name"]) == (30, "distance")
    model = suffuse.load(straight)
    averaged = storage.load_tensors(straight / "checkpoints" / "00000030" / "ema.safetensors")
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor.cpu(), averaged[name])
    assert recipe.load(straight / "recipe.toml") == recipe.load("toy/spiral", SMALL)


def test_the_model_that_is_returned_is_the_one_that_lies_there(
    small: Asked, tmp_path: Path
) -> None:
    model = train(small(), tmp_path / "run", progress=False)
    loaded = suffuse.load(tmp_path / "run")
    assert not model.network.training
    assert model.path == tmp_path / "run"
    assert model.recipe == loaded.recipe
    np.testing.assert_array_equal(model.sample(3, arm="left"), loaded.sample(3, arm="left"))


def test_the_loss_falls(small: Asked, tmp_path: Path) -> None:
    train(
        small(dataset__noise=0.0, training__steps=120, training__log_every=40, denoiser__width=32),
        tmp_path / "run",
        progress=False,
    )
    losses = [m["loss"] for m in lines(tmp_path / "run")]
    assert losses[-1] < 0.9 * losses[0]


def test_torch_draws_on_as_if_nothing_had_been_trained(small: Asked, tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train(small(training__steps=2), tmp_path / "run", progress=False)
    assert torch.equal(torch.rand(3), expected)


def test_the_seed_is_what_makes_a_run(small: Asked, straight: Path, tmp_path: Path) -> None:
    train(small(), tmp_path / "again", progress=False)
    assert_same(tmp_path / "again", straight)
    train(small(training__seed=1), tmp_path / "other", progress=False)
    assert lines(tmp_path / "other")[0]["loss"] != lines(straight)[0]["loss"]


def test_the_card_says_what_was_done(
    small: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from suffuse_toy.data import Spiral
    from suffuse_toy.denoiser import MLP

    monkeypatch.setattr(Spiral, "licence", "CC0-1.0", raising=False)
    monkeypatch.setattr(MLP, "flops", lambda self: 2_500_000, raising=False)
    model = train(small(), tmp_path / "a run", progress=False)
    card = (tmp_path / "a run" / "README.md").read_text()
    parameters = sum(p.numel() for p in model.network.parameters())
    for part in (
        "# points on two spiral arms, by arm",
        "64 training examples",
        "Licence: CC0-1.0.",
        "Condition `arm`: category, 2 of them (left, right).",
        "arm='left'",
        "suffuse train recipe.toml --out 'a run'",
        f"{parameters} parameters",
        "| compute | 2.5 MFLOP for one example, forward |",
        "| seed | 0 |",
        "| precision | fp32 |",
        "core-seconds",
        "On 64 samples",
        "| distance |",
        "suffuse-toy 1.0",
    ):
        assert part in card, part
    assert "\n\n\n" not in card
    train(small(training__steps=1), tmp_path / "b", progress=False, command="make it so")
    assert "make it so" in (tmp_path / "b" / "README.md").read_text()


def test_looks_come_as_often_as_asked(small: Asked, tmp_path: Path) -> None:
    asked = small(training__sample_every=8, training__evaluate_every=15)
    train(asked, tmp_path / "run", progress=False)
    assert sorted(p.name for p in (tmp_path / "run" / "samples").iterdir()) == [
        f"step-0000{step}.png" for step in ("08", "16", "24", "30")
    ]
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert [m["step"] for m in found] == [15, 30]


def test_looks_are_not_training_time(
    small: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("suffuse.training.clock.time.perf_counter", lambda: now[0])

    def slow(*arguments: object) -> None:
        now[0] += 100

    monkeypatch.setattr(engine.looks, "sheet", slow)
    genuine = engine.learning_rate

    def second(training: Any, step: int) -> float:
        now[0] += 0.5  # it is asked once for the step, and once for the line
        return genuine(training, step)

    monkeypatch.setattr(engine, "learning_rate", second)
    asked = small(training__log_every=1, training__sample_every=1, training__steps=5)
    train(asked, tmp_path / "run", progress=False)
    assert [m["examples_per_second"] for m in lines(tmp_path / "run")[1:]] == [20.0] * 4
    assert lines(tmp_path / "run")[-1]["seconds"] < 5


def test_models_without_conditions_and_evaluators(small: Asked, tmp_path: Path) -> None:
    asked = small().model_copy(update={"conditions": {}, "evaluators": []})
    model = train(asked, tmp_path / "run", progress=False)
    assert len(model.sample(2)) == 2
    assert not (tmp_path / "run" / "evaluation.json").exists()
    assert "No evaluator" in (tmp_path / "run" / "README.md").read_text()


def test_a_run_can_be_loaded_and_watched_while_it_trains(small: Asked, tmp_path: Path) -> None:
    heard: list[Any] = []

    class Plugin:
        suffuse_api = 1

        @plugins.hookimpl
        def run_started(self, run: Path, recipe: Any, step: int) -> None:
            heard.append(("started", recipe["training"]["precision"], step))

        @plugins.hookimpl
        def checkpoint_saved(self, run: Path, checkpoint: Path, step: int) -> None:
            assert len(suffuse.load(run).sample(2, arm="right")) == 2
            assert (run / "metrics.jsonl").read_text().count("\n") == step // 4
            heard.append((checkpoint.name, step))
            raise RuntimeError("a plugin's mistake breaks nothing")

        @plugins.hookimpl
        def run_finished(self, run: Path, step: int, outcome: str) -> None:
            heard.append((outcome, step))

    import suffuse_toy.plugin

    candidates = [
        plugins.Candidate("toy", lambda: suffuse_toy.plugin, version="1.0"),
        plugins.Candidate("listener", Plugin, version="1.0"),
    ]
    with plugins.using(plugins.Manager(candidates)):
        train(small(training__steps=20, training__log_every=4), tmp_path / "run", progress=False)
        assert heard == [
            ("started", "fp32", 0),
            ("00000010", 10),
            ("00000020", 20),
            ("finished", 20),
        ]


# Going on


@pytest.mark.parametrize(
    ("step", "number"),
    [(17, signal.SIGTERM), *((step, signal.SIGINT) for step in (3, 10, 17, 29, 30))],
)
def test_an_interrupted_run_goes_on_to_the_same_weights(
    step: int,
    number: signal.Signals,
    small: Asked,
    straight: Path,
    tmp_path: Path,
    at_step: Callable[[int, Callable[[], object]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    at_step(step, lambda: os.kill(os.getpid(), number))
    with pytest.raises(Interrupted) as stopped:
        train(small(), run)
    assert (stopped.value.run, stopped.value.step) == (run, step)
    assert f"stopped at step {step} of 30" in capsys.readouterr().err
    assert suffuse.load(run).path == run
    train(small(), run, resume=True)
    assert f"going on from step {step} of 30" in capsys.readouterr().err
    assert_same(run, straight)
    assert (run / "README.md").exists()


@pytest.mark.parametrize("step", [10, 30])
def test_a_run_is_stopped_while_it_looks_at_samples_and_looks_again_when_it_goes_on(
    step: int, small: Asked, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, genuine = tmp_path / "run", looks.sheet

    def sheet(model: Any, path: Path) -> None:
        if path.stem == f"step-{step:06d}":
            os.kill(os.getpid(), signal.SIGTERM)
        genuine(model, path)

    recipe = small(training__sample_every=10, training__checkpoint_every=7)
    monkeypatch.setattr(looks, "sheet", sheet)
    with pytest.raises(Interrupted) as stopped:
        train(recipe, run, progress=False)
    assert stopped.value.step == step
    monkeypatch.setattr(looks, "sheet", genuine)
    train(recipe, run, resume=True, progress=False)
    assert_same(run, straight)
    assert (run / "samples" / f"step-{step:06d}.png").exists()
    assert (run / "README.md").exists()


def test_interrupted_again_and_again(
    small: Asked,
    straight: Path,
    tmp_path: Path,
    at_step: Callable[[int, Callable[[], object]], None],
) -> None:
    for step in (1, 2, 9, 25):
        at_step(step, interrupt)
        with pytest.raises(Interrupted):
            train(small(), tmp_path / "run", resume=True, progress=False)
    train(small(), tmp_path / "run", resume=True, progress=False)
    assert_same(tmp_path / "run", straight)


def test_the_newest_checkpoint_is_damaged(
    small: Asked, straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train(small(training__checkpoint_every=7, training__steps=20), run, progress=False)
    with (run / "checkpoints" / "00000020" / "ema.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    train(small(training__decay="cosine", training__steps=30), run, resume=True)
    said = capsys.readouterr().err
    assert "00000020 is damaged: ema.safetensors is not what was written" in said
    assert "going on from step 14" in said
    steps = [m["step"] for m in lines(run)]
    assert steps == sorted(set(steps))


def test_resume_also_starts(small: Asked, straight: Path, tmp_path: Path) -> None:
    train(small(), tmp_path / "run", resume=True, progress=False)
    assert_same(tmp_path / "run", straight)


def test_a_finished_run_returns_at_once(
    small: Asked, straight: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p: p.stat().st_mtime_ns for p in straight.rglob("*.safetensors")}
    monkeypatch.setattr(engine, "_Run", None)
    monkeypatch.setattr(engine.setup, "dataset", None)
    model = train(small(), straight, resume=True, progress=False)
    assert model.path == straight
    assert before == {p: p.stat().st_mtime_ns for p in straight.rglob("*.safetensors")}


def test_a_run_that_was_stopped_before_its_end_was_written(
    small: Asked, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"

    def crash(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine.looks, "evaluate", crash)
        with pytest.raises(KeyboardInterrupt):
            train(small(), run, progress=False)
    assert not (run / "README.md").exists()
    train(small(), run, resume=True, progress=False)
    assert_same(run, straight)
    assert "| final loss | n" not in (run / "README.md").read_text()
    assert json.loads((run / "evaluation.json").read_text())[-1]["step"] == 30


def test_steps_may_grow(small: Asked, tmp_path: Path) -> None:
    constant = {"training__decay": "constant"}
    train(small(training__steps=30, **constant), tmp_path / "long", progress=False)
    train(small(training__steps=12, **constant), tmp_path / "run", progress=False)
    train(small(training__steps=30, **constant), tmp_path / "run", resume=True, progress=False)
    for part in WEIGHTS:
        place = Path("checkpoints") / "00000030" / f"{part}.safetensors"
        assert (tmp_path / "run" / place).read_bytes() == (tmp_path / "long" / place).read_bytes()
    with pytest.raises(SuffuseError, match=r"training\.steps = 30, .* not shrink to 12"):
        train(small(training__steps=12, **constant), tmp_path / "run", resume=True)
    assert recipe.load(tmp_path / "run" / "recipe.toml").training.steps == 30


def test_steps_may_shrink_where_the_rate_so_far_is_the_same(
    small: Asked, tmp_path: Path, at_step: Callable[[int, Callable[[], object]], None]
) -> None:
    cooldown = {"training__decay": "cooldown", "training__warmup": 2}
    train(small(training__steps=20, **cooldown), tmp_path / "short", progress=False)
    at_step(12, interrupt)
    with pytest.raises(Interrupted):
        train(small(training__steps=40, **cooldown), tmp_path / "run", progress=False)
    with pytest.raises(SuffuseError, match="rate so far would have been another"):
        train(small(training__steps=14, **cooldown), tmp_path / "run", resume=True)
    train(small(training__steps=20, **cooldown), tmp_path / "run", resume=True, progress=False)
    for part in WEIGHTS:
        place = Path("checkpoints") / "00000020" / f"{part}.safetensors"
        assert (tmp_path / "run" / place).read_bytes() == (tmp_path / "short" / place).read_bytes()


def test_how_often_and_how_many_may_change(small: Asked, straight: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(small(training__steps=10, training__decay="constant"), run, progress=False)
    changed = small(
        training__decay="constant",
        training__log_every=3,
        training__checkpoint_every=2,
        training__keep=4,
    )
    train(changed, run, resume=True, progress=False)
    assert len(list((run / "checkpoints").iterdir())) == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training__learning_rate": 0.5}, r"training\.learning_rate was 0\.003 and is 0\.5"),
        ({"training__seed": 5}, r"training\.seed was 0 and is 5"),
        ({"denoiser__width": 16}, r"denoiser\.width was 8 and is 16"),
        ({"process__prediction": "eps"}, r"process\.prediction was 'v' and is 'eps'"),
        ({"dataset__n": 65, "encoder__scale": 2.0}, r"dataset\.n was 64.*encoder\.scale was 1\.0"),
    ],
)
def test_another_recipe_is_refused_by_key(
    changes: dict[str, Any], said: str, small: Asked, straight: Path
) -> None:
    with pytest.raises(SuffuseError, match=said):
        train(small(**changes), straight, resume=True, progress=False)


def test_a_condition_less_is_another_recipe(small: Asked, straight: Path) -> None:
    asked = small().model_copy(update={"conditions": {}})
    with pytest.raises(SuffuseError, match=r"conditions\.arm\.name was 'label' and is 'not set'"):
        train(asked, straight, resume=True, progress=False)


def test_changed_data_are_told(
    small: Asked, straight: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from suffuse_toy.data import Spiral

    monkeypatch.setattr(Spiral, "__len__", lambda self: 60)
    grown = small(training__steps=40)
    with pytest.raises(SuffuseError, match=r"has changed .* \(64 examples then, 60 now\)"):
        train(grown, straight, resume=True, progress=False)


# Directories


def test_a_run_is_not_overwritten(small: Asked, straight: Path) -> None:
    before = (straight / "model.safetensors").read_bytes()
    with pytest.raises(SuffuseError, match=r"holds a training run already; .*--resume"):
        train(small(), straight, progress=False)
    assert (straight / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("resume", [True, False])
def test_what_is_no_run_is_left_alone(resume: bool, small: Asked, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(SuffuseError, match="is not empty and holds no training run"):
        train(small(), tmp_path, resume=resume, progress=False)
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_two_trainings_on_one_directory(small: Asked, tmp_path: Path) -> None:
    with locked(tmp_path / "run"), pytest.raises(SuffuseError, match="is being trained already"):
        train(small(), tmp_path / "run", progress=False)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 3}', "\x00"])
def test_a_damaged_record_is_named(text: str, small: Asked, straight: Path) -> None:
    (straight / "run.json").write_text(text)
    with pytest.raises(SuffuseError, match=r"run\.json is damaged"):
        train(small(), straight, resume=True, progress=False)


def test_what_a_crash_left_half_written_is_no_hindrance(
    small: Asked, straight: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    (run / "checkpoints" / f"{storage.TEMPORARY}x-00000010").mkdir(parents=True)
    (run / f"{storage.TEMPORARY}y-run.json").write_text("{")
    (run / "cache").mkdir()
    (run / "checkpoints").rename(run / f"{storage.TEMPORARY}z-checkpoints")
    train(small(), run, resume=True, progress=False)
    assert_same(run, straight)


@pytest.mark.parametrize("call", range(1, 16))
def test_a_crash_in_one_of_the_first_writes(
    call: int, small: Asked, workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = small(training__steps=1).model_copy(update={"evaluators": []})
    train(asked, workshop / "short", resume=True, progress=False)  # once, undisturbed

    class Crash(BaseException):
        pass

    calls = [0]

    def crashing(genuine: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*arguments: object) -> object:
            calls[0] += 1
            if calls[0] == call:
                raise Crash
            return genuine(*arguments)

        return wrapper

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crashing(os.fsync))
        patch.setattr(os, "replace", crashing(os.replace))
        patch.setattr(Path, "unlink", lambda *a, **k: None)  # a kill tidies nothing up
        with pytest.raises(Crash):
            train(asked, tmp_path / "run", progress=False)
    train(asked, tmp_path / "run", resume=True, progress=False)
    assert_same(tmp_path / "run", workshop / "short", step=1)


# Data


def test_examples_are_encoded_once(
    small: Asked,
    straight: Path,
    tmp_path: Path,
    at_step: Callable[[int, Callable[[], object]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from suffuse_toy.data import Spiral

    asked, genuine = list[int](), Spiral.__getitem__

    def count(self: Spiral, index: int) -> Any:
        asked.append(index)
        return genuine(self, index)

    monkeypatch.setattr(Spiral, "__getitem__", count)
    monkeypatch.setattr(states, "CHUNK", 10)
    recipe = small().model_copy(update={"evaluators": []})
    at_step(17, interrupt)
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "run", progress=False)
    # Once for the fit of the encoder, and once to encode.
    assert sorted(asked) == sorted([*range(64)] * 2)
    asked.clear()
    train(recipe, tmp_path / "run", resume=True, progress=False)
    assert asked == []
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (
        straight / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("damage", ["cut", "removed", "conditions"])
def test_a_damaged_cache_is_made_again(
    damage: str, small: Asked, straight: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(small(training__steps=10, training__decay="constant"), run, progress=False)
    (array,) = (run / "cache").glob("*/x.npy")
    if damage == "cut":
        os.truncate(array, 200)
    elif damage == "removed":
        array.unlink()
    else:
        next((run / "cache").glob("*/condition.*.npy")).write_bytes(b"")
    train(small(training__decay="constant"), run, resume=True, progress=False)
    assert np.load(array).shape == (64, 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x * float("nan"), "training example 0 encodes to numbers that are not finite"),
        (lambda x: x[:, :1], r"states of shape \[64, 1\] of 64 examples, and tells of \[64, 2\]"),
    ],
)
def test_what_an_encoder_gets_wrong_is_told(
    change: Callable[[Any], Any],
    said: str,
    small: Asked,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from suffuse_toy.encoder import Points

    genuine = Points.encode
    monkeypatch.setattr(Points, "encode", lambda self, objects: change(genuine(self, objects)))
    with pytest.raises(SuffuseError, match=said):
        train(small(), tmp_path / "run", progress=False)


def test_no_data_are_told(small: Asked, tmp_path: Path) -> None:
    with pytest.raises(SuffuseError, match="the training split of 'toy/spiral' is empty"):
        train(small(dataset__n=0), tmp_path / "run", progress=False)


def test_an_unknown_condition_is_told(small: Asked, tmp_path: Path) -> None:
    asked = small().model_copy(update={"conditions": {"arn": {"name": "label"}}})
    with pytest.raises(SuffuseError, match="did you mean 'arm'"):
        train(asked, tmp_path / "run", progress=False)


# Precision


def test_the_precision_that_was_chosen_stays(
    small: Asked,
    tmp_path: Path,
    at_step: Callable[[int, Callable[[], object]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def choose(step: Callable[[str], None], *rest: object) -> str:
        step("fp32")
        step("bf16")
        return "bf16"

    monkeypatch.setattr(trials.precision, "choose", choose)
    asked = small(training__precision="auto")
    at_step(17, interrupt)
    with pytest.raises(Interrupted):
        train(asked, tmp_path / "run", progress=False)
    monkeypatch.setattr(trials.precision, "choose", None)
    train(asked, tmp_path / "run", resume=True, progress=False)
    train(small(training__precision="bf16"), tmp_path / "told", progress=False)
    assert_same(tmp_path / "run", tmp_path / "told")
    assert suffuse.load(tmp_path / "run").recipe.training.precision == "bf16"
    weights = storage.load_tensors(tmp_path / "run" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


# Trouble


def test_a_loss_that_is_not_finite(
    small: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = engine.learning_rate
    monkeypatch.setattr(
        engine,
        "learning_rate",
        lambda training, step: float("inf") if step == 12 else genuine(training, step),
    )
    run = tmp_path / "run"
    with pytest.raises(SuffuseError, match=r"not finite at step 14; the weights of step 10"):
        train(small(), run, progress=False)
    note = json.loads((run / "diverged.json").read_text())
    assert note["step"] == 14
    assert len(note["batch"]) == 20
    assert set(note["batch"]) <= set(range(64))
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["00000010"]
    for tensor in storage.load_tensors(run / "model.safetensors").values():
        assert torch.isfinite(tensor).all()
    assert [m["step"] for m in lines(run)] == [4, 8, 12]


def test_a_loss_that_is_not_finite_before_anything_is_kept(
    small: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "learning_rate", lambda training, step: 1e38)
    with pytest.raises(SuffuseError, match="not finite at step 2; nothing is kept"):
        train(small(), tmp_path / "run", progress=False)


def test_a_full_disk_at_a_checkpoint(
    small: Asked, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, genuine = tmp_path / "run", os.fsync

    def fsync(descriptor: int) -> None:
        if (run / "checkpoints" / "00000010").exists() and not full.is_set():
            full.set()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        genuine(descriptor)

    full = threading.Event()
    monkeypatch.setattr(engine.storage.os, "fsync", fsync)
    with pytest.raises(SuffuseError, match="the disk is full"):
        train(small(), run, progress=False)
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["00000010"]
    train(small(), run, resume=True, progress=False)
    assert_same(run, straight)


def test_a_place_that_cannot_be_written(small: Asked, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SuffuseError, match=r"cannot write .*file/run"):
        train(small(), tmp_path / "file" / "run", progress=False)


def test_more_processes_than_examples_in_a_batch(
    small: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Many:
        process_index, num_processes = 0, 1

    ranks = engine.Ranks(Many())
    ranks.count = 21
    with pytest.raises(SuffuseError, match="less than the 21 processes"):
        ranks.share(20)
    shares = []
    for ranks.index in range(21):
        shares += ranks.share(50)
    assert shares == list(range(50))


def test_parts_that_some_process_lacks_are_refused_where_weights_are_split() -> None:
    """They would wait for each other for ever: weights are gathered for each part."""

    class Many:
        process_index, num_processes = 0, 1

    ranks = engine.Ranks(Many())
    ranks.count = 2
    for batch, size in ((20, 3), (5, 3), (7, 2), (3, 64)):
        ranks.same_parts(batch, size)  # 10 and 10, 2 and 3, 3 and 4, 1 and 2 examples
    with pytest.raises(SuffuseError, match="are 1 or 2: give a"):
        ranks.same_parts(5, 2)


@pytest.fixture(autouse=True)
def signals_are_put_back() -> Iterator[None]:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
