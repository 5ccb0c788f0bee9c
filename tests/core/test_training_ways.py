"""Ways to train: low rank, less memory, weighed levels, an early end, and a loss that explodes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from suffuse import recipe as recipes
from suffuse import storage
from suffuse.cli import cli
from suffuse.errors import SuffuseError
from suffuse.nn import lora
from suffuse.training import advice, energy, engine, looks, train, trials
from suffuse.training.directory import Record
from suffuse.training.importance import BINS, Importance


@pytest.fixture(autouse=True)
def _toy(toy: Any) -> None:
    pass


def small(**changes: Any) -> recipes.Recipe:
    usual = {
        "steps": 12, "batch": 10, "sample_every": 0, "checkpoint_every": 4, "warmup": 0,
        "decay": "constant", "precision": "fp32", "learning_rate": 0.01, "log_every": 3,
    }  # fmt: skip
    given = {f"training.{key}": value for key, value in {**usual, **changes}.items()}
    given |= {"dataset.n": 40, "denoiser.width": 16}
    given |= {} if "evaluate_every" in changes else {"evaluators": []}
    return recipes.load("toy/spiral", given)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return storage.load_tensors(run / "model.safetensors")


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def figure(step: int, value: float) -> dict[str, Any]:
    return {"name": "kid", "step": step, "value": value, "better": "lower", "low": 0.0,
            "high": 1.0, "n": 4, "unit": "", "floor": None}  # fmt: skip


WAYS: dict[str, dict[str, Any]] = {
    "low rank": {"lora": 2},
    "uncertainty": {"uncertainty": True},
    "importance": {"importance": True},
    "recomputed": {"recompute": True},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_each_way_goes_on_to_the_same_bits(way: dict[str, Any], tmp_path: Path) -> None:
    train(small(), tmp_path / "first", progress=False)
    way = {**way, "start": str(tmp_path / "first")}
    train(small(**way), tmp_path / "straight", progress=False)
    train(small(**way, steps=5), tmp_path / "broken", progress=False)
    train(small(**way), tmp_path / "broken", resume=True, progress=False)
    one, two = weights(tmp_path / "straight"), weights(tmp_path / "broken")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_low_rank_moves_matrices_by_low_rank_and_nothing_else(tmp_path: Path) -> None:
    train(small(), tmp_path / "first", progress=False)
    changed = small(lora=2, start=str(tmp_path / "first"), ema_std=0.01, steps=40)
    train(changed, tmp_path / "second", progress=False)
    before, after = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert before.keys() == after.keys()
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert moved
    for name in moved:
        change = (after[name] - before[name]).double()
        assert change.ndim > 1, name
        spectrum = torch.linalg.svdvals(change.flatten(1))
        # the average is over a hundredth of the training: products of nearly the same two factors
        assert spectrum[2:].sum() < 0.02 * spectrum.sum(), (name, spectrum)


def test_a_rank_that_no_layer_has_is_told() -> None:
    with pytest.raises(SuffuseError, match="no layer of this network is larger"):
        lora.adapt(nn.Linear(4, 4), 4)


def test_low_rank_beside_no_weights_is_refused() -> None:
    with pytest.raises(SuffuseError, match=r"training\.lora .* name one in training\.start"):
        small(lora=2)


def test_adapted_layers_begin_as_they_were() -> None:
    for layer, x in (
        (nn.Linear(6, 5), torch.randn(2, 6)),
        (nn.Conv2d(3, 4, 3), torch.randn(2, 3, 5, 5)),
    ):
        expected = layer(x)
        lora.adapt(layer, 2)
        assert torch.equal(layer(x), expected)


def test_recomputing_changes_nothing(tmp_path: Path) -> None:
    train(small(), tmp_path / "kept", progress=False)
    train(small(recompute=True), tmp_path / "again", progress=False)
    one, two = weights(tmp_path / "kept"), weights(tmp_path / "again")
    for name in one:
        torch.testing.assert_close(one[name], two[name])


def test_important_levels_are_drawn_more_often_and_the_mean_stays(seed: int) -> None:
    """By quadrature: the mean of f(u) / p(u) over the warped points is the integral of f."""
    generator = torch.Generator().manual_seed(seed)
    importance = Importance(torch.device("cpu"))
    centres = (torch.arange(BINS, dtype=torch.float64) + 0.5) / BINS
    importance.add(centres, 1 + 9 * torch.rand(BINS, generator=generator, dtype=torch.float64))
    losses = (importance.tensor()[:BINS]).sqrt()
    importance.update(importance.tensor().clone())
    expected = 0.2 + 0.8 * losses / losses.mean()
    torch.testing.assert_close(importance.density, expected)

    n = 16_000
    even = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    u, weight = importance.warp(even)
    assert bool((u.diff() > 0).all())
    assert u[0] > 0
    assert u[-1] < 1
    torch.testing.assert_close(
        (u**2 * weight).mean(), torch.tensor(1 / 3, dtype=torch.float64), rtol=1e-3, atol=0
    )
    counts = torch.bincount((u * BINS).long(), minlength=BINS).double() / n * BINS
    torch.testing.assert_close(counts, expected, rtol=2e-2, atol=0)


def test_a_loss_that_explodes_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = engine._Run.losses

    def exploding(self: Any, forward: Any, batch: Any) -> Any:
        losses, t = genuine(self, forward, batch)
        return losses * (1e5 if self.done >= 7 else 1.0), t

    monkeypatch.setattr(engine._Run, "losses", exploding)
    with pytest.raises(SuffuseError, match=r"diverged: the loss is .* and was .*divergence=lower"):
        train(small(), tmp_path / "run", progress=False)
    note = storage.read_json(tmp_path / "run" / "diverged.json")
    assert note["step"] == 9
    assert len(note["batch"]) == 10
    assert storage.load_tensors(tmp_path / "run" / "diverged.safetensors")


@pytest.mark.parametrize("step", [0, 6])
def test_a_run_that_diverges_goes_back_and_on_with_half_the_rate(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = engine._Run.losses

    def broken(self: Any, forward: Any, batch: Any) -> Any:
        losses, t = genuine(self, forward, batch)
        return losses * (torch.nan if self.done == step and self.lowered < 2 else 1.0), t

    monkeypatch.setattr(engine._Run, "losses", broken)
    train(small(divergence="lower"), tmp_path / "run", progress=False)
    assert Record.read(tmp_path / "run").lowered == 2
    found = {line["step"]: line["learning_rate"] for line in lines(tmp_path / "run")}
    assert sorted(found) == [3, 6, 9, 12]
    assert found[12] == pytest.approx(0.01 / 4)
    assert all(bool(k.isfinite().all()) for k in weights(tmp_path / "run").values())


@pytest.mark.parametrize("step", [0, 7])
def test_what_was_seen_of_given_up_weights_is_forgotten(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks at steps that are gone over again are made again, and trackers are not left open."""
    genuine, open_ones, seen = engine._Run.losses, [0], list[tuple[str, int, int]]()

    def broken(self: Any, forward: Any, batch: Any) -> Any:
        losses, t = genuine(self, forward, batch)
        return losses * (torch.nan if self.done == step and not self.lowered else 1.0), t

    class Tracker:
        def __init__(self) -> None:
            open_ones[0] += 1

        def log(self, values: Any, step: int) -> None:
            pass

        def finish(self) -> None:
            open_ones[0] -= 1

    def sheet(model: Any, path: Path) -> None:
        assert all(bool(p.isfinite().all()) for p in model.network.parameters())
        seen.append(("sheet", int(path.stem[-6:]), Record.read(tmp_path / "run").lowered))
        storage.write_bytes(path, b"")

    def evaluated(model: Any, path: Path, step: int) -> None:
        seen.append(("figure", step, Record.read(tmp_path / "run").lowered))
        storage.write_json(path, [*looks.evaluations(path), figure(step, 1.0)])

    monkeypatch.setattr(engine._Run, "losses", broken)
    monkeypatch.setattr("suffuse.training.session.opened", lambda *given: [Tracker()])
    monkeypatch.setattr(looks, "sheet", sheet)
    monkeypatch.setattr(looks, "evaluate", evaluated)
    often = {"sample_every": 1, "evaluate_every": 1, "log_every": 12, "checkpoint_every": 4}
    train(small(divergence="lower", **often), tmp_path / "run", progress=False)
    assert open_ones == [0]
    back = step // 4 * 4
    for kind in ("sheet", "figure"):
        earlier = [(kind, k, 0) for k in range(1, step + 1)]
        assert [k for k in seen if k[0] == kind] == [
            *earlier, *((kind, k, 1) for k in range(back + 1, 13))
        ]  # fmt: skip
    found = looks.evaluations(tmp_path / "run" / "evaluation.json")
    assert [m["step"] for m in found] == list(range(1, 13))


def test_only_what_is_later_is_forgotten(tmp_path: Path) -> None:
    looks.forget(tmp_path, 5)  # nothing is there
    names = "samples/step-{:06d}.png", "ema/{:08d}.safetensors"
    for step in (5, 6):
        for name in names:
            storage.write_bytes(tmp_path / name.format(step), b"")
    storage.write_json(tmp_path / "evaluation.json", [figure(5, 1.0), figure(6, 1.0)])
    looks.forget(tmp_path, 5)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*")}
    assert left == {name.format(5) for name in names}
    assert [m["step"] for m in looks.evaluations(tmp_path / "evaluation.json")] == [5]


@pytest.mark.parametrize("killed", [None, "evaluation", "checkpoint"])
def test_training_ends_where_evaluations_get_no_better(
    killed: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {2: 3.0, 4: 1.0, 6: 2.0, 8: 1.5, 10: 0.5}

    def evaluated(model: Any, path: Path, step: int) -> list[dict[str, Any]]:
        found = looks.evaluations(path)
        new = figure(step, values.get(step, 9.0))
        storage.write_json(path, [*found, new])
        return [new]

    class Kill(BaseException):
        pass

    def kill(*given: Any) -> None:
        raise Kill

    monkeypatch.setattr(looks, "evaluate", evaluated)
    asked = small(evaluate_every=2, patience=2, checkpoint_every=8)
    if killed:
        with monkeypatch.context() as patch:
            if killed == "evaluation":
                patch.setattr(
                    looks, "evaluate", lambda m, p, s: kill() if s == 8 else evaluated(m, p, s)
                )
            else:
                patch.setattr(engine._Run, "_finish", kill)
            with pytest.raises(Kill):
                train(asked, tmp_path / "run", progress=False)
    train(asked, tmp_path / "run", resume=True, progress=False)
    assert [line["step"] for line in lines(tmp_path / "run")] == [3, 6, 8]
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["00000008"]
    assert "8 of 10 examples" in (tmp_path / "run" / "README.md").read_text()
    before = weights(tmp_path / "run")
    train(asked, tmp_path / "run", resume=True, progress=False)  # finished
    assert all(torch.equal(before[name], k) for name, k in weights(tmp_path / "run").items())


def test_patience_without_evaluations_is_refused() -> None:
    with pytest.raises(SuffuseError, match=r"training\.patience .* training\.evaluate_every"):
        small(patience=2)
    with pytest.raises(SuffuseError, match=r"names evaluators"):
        recipes.load(
            "toy/spiral",
            {"training.patience": 2, "training.evaluate_every": 5, "evaluators": []},
        )


def test_runs_of_earlier_versions_go_on(tmp_path: Path) -> None:
    """What their record does not know of counts as the default."""
    train(small(steps=4), tmp_path / "run", progress=False)
    record = storage.read_json(tmp_path / "run" / "run.json")
    for key in ("lora", "importance", "sharded", "compile"):
        del record["recipe"]["training"][key]
    del record["compiled"], record["lowered"]
    storage.write_json(tmp_path / "run" / "run.json", record)
    train(small(), tmp_path / "run", resume=True, progress=False)
    assert Record.read(tmp_path / "run").finished == 12


def test_the_noise_of_a_gradient_is_found_from_its_norms(seed: int) -> None:
    """Gradients G + noise, of known G and Σ."""
    generator = torch.Generator().manual_seed(seed)
    mean, deviation, n, b = torch.full((400,), 0.5), 3.0, 64, 16
    draws = torch.randn(200, n, 400, generator=generator) * deviation + mean
    large = float(draws.mean(1).square().sum(1).mean())
    small = float(draws[:, :b].mean(1).square().sum(1).mean())
    found = advice.noise_scale(small, large, b, n)
    assert found == pytest.approx(400 * deviation**2 / 100, rel=0.05)
    assert advice.noise_scale(4.0, 1.0, 1, 4) is None


def test_advice_by_the_command_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(small(batch=16).to_toml())
    shown = CliRunner().invoke(cli, ["train", str(tmp_path / "r.toml"), "--advise"])
    assert shown.exit_code == 0, shown.output
    rate = float(shown.output.split("learning_rate=")[1])
    assert 1e-5 < rate < 0.1
    assert "batch " in shown.output
    assert [p.name for p in tmp_path.iterdir()] == ["r.toml"]


def test_energy_is_read_where_it_is_counted(tmp_path: Path) -> None:
    device = torch.device("cpu")
    assert energy.Meter(device, folder=tmp_path).joules() is None

    def count(first: int, second: int) -> None:
        for i, value in enumerate((first, second)):
            package = tmp_path / f"intel-rapl:{i}"
            package.mkdir(exist_ok=True)
            (package / "energy_uj").write_text(f"{value}\n")
            (package / "max_energy_range_uj").write_text("9000000\n")

    count(1_000_000, 8_000_000)
    meter = energy.Meter(device, 5.0, tmp_path)
    count(3_500_000, 1_000_000)  # the second began anew at 9 J
    assert meter.joules() == pytest.approx(5 + 2.5 + 2)
    assert energy.Meter(device, None, tmp_path).joules() is None


@pytest.mark.parametrize("asked", ["auto", "on"])
@pytest.mark.parametrize("outcome", ["no compiler", "fails", "slower", "faster"])
def test_compiling_is_decided_and_said(
    outcome: str,
    asked: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """torch.compile itself is replaced: it takes a minute."""
    seconds = {"plain": 2.0, "made": 1.0 if outcome == "faster" else 3.0}

    def trial(self: Any, compiled: bool = False) -> str:
        return "made" if compiled else "plain"

    def timed(step: str, *rest: object) -> float:
        if step == "made" and outcome == "fails":
            raise RuntimeError("no such instruction")
        return seconds[step]

    made: list[nn.Module] = []
    monkeypatch.setattr(trials.Trials, "_trial", trial)
    monkeypatch.setattr(trials.precision, "seconds", timed)
    monkeypatch.setattr(trials, "compiler", lambda: outcome != "no compiler")
    monkeypatch.setattr(torch, "compile", lambda network: made.append(network) or network)
    monkeypatch.setattr(trials, "MANY", 10)
    monkeypatch.setattr(trials, "COMPILING_PAYS", 20.0)
    compiled = outcome == "faster" or (outcome == "slower" and asked == "on")
    train(small(compile=asked), tmp_path / "run", progress=None)
    said = capsys.readouterr().err
    expected = {
        "no compiler": "off .*no C\\+\\+ compiler",
        "fails": "off .*compiling failed with RuntimeError",
        "slower": f"{'on' if compiled else 'off'} .*0.67 times as fast",
        "faster": "on .*2.00 times as fast",
    }
    assert re.search(f"torch.compile: {expected[outcome]}", said), said
    assert len(made) == compiled
    assert Record.read(tmp_path / "run").compiled is compiled


@pytest.mark.parametrize("decay", ["constant", "cooldown", "cosine"])
def test_a_rate_that_rises_again_is_told(
    decay: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(small(steps=8, decay=decay), tmp_path / "run", progress=False)
    train(small(steps=9, decay=decay), tmp_path / "run", resume=True)
    told = "grows from 8 to 9: the learning rate" in capsys.readouterr().err
    assert told is (decay != "constant")


def test_what_is_tried_leaves_no_trace_in_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on before its first checkpoint begins with the same matrices of low rank."""
    train(small(steps=1), tmp_path / "first", progress=False)
    way = {"lora": 2, "start": str(tmp_path / "first"), "steps": 1}

    def drawing(*given: Any) -> str:
        torch.rand(7)  # as dropout does in the steps that are timed
        return "fp32"

    monkeypatch.setattr(trials.precision, "choose", drawing)
    train(small(**way, precision="auto"), tmp_path / "tried", progress=False)
    train(small(**way, precision="fp32"), tmp_path / "told", progress=False)
    one, two = weights(tmp_path / "tried"), weights(tmp_path / "told")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_goes_on_without_what_it_began_with(tmp_path: Path) -> None:
    train(small(steps=1), tmp_path / "first", progress=False)
    asked = small(start=str(tmp_path / "first"), steps=2)
    train(asked, tmp_path / "second", progress=False)
    shutil.rmtree(tmp_path / "first")
    more = small(start=str(tmp_path / "first"), steps=3)
    train(more, tmp_path / "second", resume=True, progress=False)
    assert Record.read(tmp_path / "second").finished == 3
    with pytest.raises(SuffuseError, match="no model or run directory"):
        train(more, tmp_path / "third", progress=False)


def test_advice_on_a_loss_that_is_not_finite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, forward: Any, batch: Any) -> Any:
        losses, t = genuine(self, forward, batch)
        return losses * torch.nan, t

    genuine = advice.Session.losses
    monkeypatch.setattr(advice.Session, "losses", broken)
    with pytest.raises(SuffuseError, match=r"there is no advice: the loss .* is not finite"):
        advice.advise(small())
