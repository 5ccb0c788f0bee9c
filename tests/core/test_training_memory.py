"""Less memory, other weights to start from, and averages made afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from suffuse import recipe as recipes
from suffuse import storage
from suffuse.cli import cli
from suffuse.errors import SuffuseError
from suffuse.model import load
from suffuse.training import engine, train
from suffuse.training.directory import Record
from suffuse.training.ema import exponent, mixture


@pytest.fixture(autouse=True)
def _toy(toy: Any) -> None:
    pass


def small(**changes: Any) -> recipes.Recipe:
    usual = {
        "steps": 12, "batch": 10, "sample_every": 0, "checkpoint_every": 0, "warmup": 0,
        "decay": "constant", "precision": "fp32", "learning_rate": 0.01,
    }  # fmt: skip
    given = {f"training.{key}": value for key, value in {**usual, **changes}.items()}
    given |= {"dataset.n": 40, "denoiser.width": 16, "evaluators": []}
    return recipes.load("toy/spiral", given)


def weights(run: Path) -> torch.Tensor:
    tensors = storage.load_tensors(run / "model.safetensors")
    return torch.cat([tensors[name].double().flatten() for name in sorted(tensors)])


@pytest.mark.parametrize("micro", [1, 3, 10, 64])
def test_a_batch_in_parts_teaches_the_same(micro: int, tmp_path: Path) -> None:
    train(small(), tmp_path / "whole", progress=False)
    train(small(micro_batch=micro), tmp_path / "parts", progress=False)
    torch.testing.assert_close(
        weights(tmp_path / "parts"), weights(tmp_path / "whole"), rtol=1e-3, atol=2e-5
    )


def too_large_for_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def too_large_for_a_host() -> None:
    torch.empty(10**15)  # torch says of it what it says when memory runs out


@pytest.mark.parametrize("too_large", [too_large_for_a_gpu, too_large_for_a_host])
def test_where_memory_runs_out_the_batch_is_halved(
    too_large: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    genuine = engine._Run.losses

    def cramped(self: Any, forward: Any, batch: Any) -> Any:
        if len(batch.u) > 3:
            torch.rand(1)  # as dropout draws
            too_large()
        found = genuine(self, forward, batch)
        drawn.append(float(torch.rand(1)))
        return found

    monkeypatch.setattr(engine._Run, "losses", cramped)
    run, drawn = tmp_path / "run", list[float]()
    train(small(), run)
    assert "going on with 2 examples at once" in capsys.readouterr().err
    assert Record.read(run).micro_batch == 2
    first, drawn = drawn, []
    train(small(micro_batch=2), tmp_path / "other", progress=False)
    assert torch.equal(weights(run), weights(tmp_path / "other"))
    assert first == drawn  # dropout is that of a run which always had so small parts


def test_parts_may_get_smaller_when_a_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the sentence for several processes that run out of memory says to do."""
    sizes, genuine = list[int](), engine._Run.losses

    def seen(self: Any, forward: Any, batch: Any) -> Any:
        sizes.append(len(batch.u))
        return genuine(self, forward, batch)

    monkeypatch.setattr(engine._Run, "losses", seen)
    for steps, micro in ((2, 0), (3, 5), (4, 2)):
        sizes.clear()
        train(small(steps=steps, micro_batch=micro), tmp_path / "run", resume=True, progress=False)
        assert max(sizes) == (micro or 10)
    record = Record.read(tmp_path / "run")
    record.model_copy(update={"micro_batch": 1}).write(tmp_path / "run")
    sizes.clear()
    train(small(steps=5, micro_batch=2), tmp_path / "run", resume=True, progress=False)
    assert max(sizes) == 1


def test_where_one_example_is_too_much_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cramped(self: Any, forward: Any, batch: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine._Run, "losses", cramped)
    with pytest.raises(SuffuseError, match=r"with 1 example at once; .* training\.recompute=true"):
        train(small(), tmp_path / "run", progress=False)


def test_a_process_among_others_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cramped(self: Any, forward: Any, batch: Any) -> Any:
        self.ranks.count = 2
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine._Run, "losses", cramped)
    with pytest.raises(SuffuseError, match=r"process 0; .* --resume --set training\.micro_batch=5"):
        train(small(), tmp_path / "run", progress=False)


def test_other_errors_are_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, forward: Any, batch: Any) -> Any:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(engine._Run, "losses", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        train(small(), tmp_path / "run", progress=False)


def test_a_run_starts_from_the_weights_of_another(tmp_path: Path) -> None:
    first = tmp_path / "first"
    train(small(steps=30), first, progress=False)
    start = str(first)
    train(small(start=start, steps=1, learning_rate=1e-9), tmp_path / "second", progress=False)
    torch.testing.assert_close(weights(tmp_path / "second"), weights(first), rtol=0, atol=1e-6)
    other = small(start=start)
    other.denoiser["width"] = 8
    with pytest.raises(SuffuseError, match="of another network than this recipe's"):
        train(other, tmp_path / "third", progress=False)


def test_layers_that_the_other_run_lacks_begin_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    train(small(steps=30), first, progress=False)
    deeper = small(start=str(first), steps=1, learning_rate=1e-9)
    deeper.denoiser["depth"] += 1
    train(deeper, second)
    assert "weights are new" in capsys.readouterr().err
    low = small(start=str(first), lora=2)
    low.denoiser["depth"] += 1
    with pytest.raises(SuffuseError, match=r"are new, among them .* would stay as random"):
        train(low, tmp_path / "low", progress=False)
    theirs, mine = (storage.load_tensors(run / "model.safetensors") for run in (first, second))
    assert theirs.keys() < mine.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(mine[name], tensor, rtol=0, atol=1e-6)
    with pytest.raises(SuffuseError, match="of another network than this recipe's"):
        train(small(start=str(second)), tmp_path / "third", progress=False)  # nor are any dropped


@pytest.mark.parametrize("std", [0.05, 0.07, 0.1, 0.15])
def test_profiles_are_rebuilt(std: float) -> None:
    """Against the profiles themselves, by quadrature."""
    times = [1000 * (i + 1) / 16 for i in range(16) for _ in range(2)]
    widths = [0.05, 0.1] * 16
    tau = (np.arange(200_000) + 0.5) / 200

    def profile(width: float, t: float) -> Any:
        gamma = exponent(width)
        return np.where(tau <= t, (gamma + 1) * (tau / t) ** gamma / t, 0)

    parts = zip(mixture(widths, times, std, 1000), widths, times, strict=True)
    found = sum(weight * profile(width, t) for weight, width, t in parts)
    wanted = profile(std, 1000)
    error = np.sqrt(((found - wanted) ** 2).mean() / (wanted**2).mean())
    assert error < (1e-9 if std in (0.05, 0.1) else 0.02)


def test_weights_are_averaged_over_another_width_afterwards(tmp_path: Path) -> None:
    steps = 96
    train(small(steps=steps, ema_snapshots=12, ema_std=0.1), tmp_path / "run", progress=False)
    train(small(steps=steps, ema_std=0.07), tmp_path / "straight", progress=False)
    for std in (0.07, 0.1):
        done = CliRunner().invoke(
            cli, ["ema", str(tmp_path / "run"), str(tmp_path / f"{std}"), "--std", str(std)]
        )
        assert done.exit_code == 0, done.output
    made = load(tmp_path / "0.07")
    made.sample(2)
    assert made.recipe.training.ema_std == 0.07
    wanted, usual = weights(tmp_path / "straight"), weights(tmp_path / "run")
    torch.testing.assert_close(weights(tmp_path / "0.1"), usual, rtol=1e-5, atol=1e-6)
    off = (weights(tmp_path / "0.07") - wanted).norm() / (usual - wanted).norm()
    assert off < 0.15


def test_snapshots_survive_a_stop(tmp_path: Path) -> None:
    for name, stops in (("straight", [24]), ("stopped", [11, 24])):
        for steps in stops:
            asked = small(steps=24, ema_snapshots=4)
            if steps < 24:
                asked = small(steps=24, ema_snapshots=4, checkpoint_every=steps)
            _until(asked, tmp_path / name, steps)
    last = "ema/00000024.safetensors"
    one, other = ((tmp_path / name / last).read_bytes() for name in ("straight", "stopped"))
    assert one == other


def _until(asked: recipes.Recipe, run: Path, steps: int) -> None:
    """Train, and be cut off after so many steps."""

    class CutOffError(Exception):
        pass

    genuine = engine._Run._step

    def step(self: Any) -> None:
        if self.done == steps:
            raise CutOffError
        genuine(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine._Run, "_step", step)
        with contextlib.suppress(CutOffError):
            train(asked, run, resume=True, progress=False)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_model_is_exported_small(dtype: str, tmp_path: Path) -> None:
    train(small(), tmp_path / "run", progress=False)
    words = ["export", str(tmp_path / "run"), str(tmp_path / "out"), "--dtype", dtype]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "README.md", "config.json", "model.safetensors",
    }  # fmt: skip
    whole, found = weights(tmp_path / "run"), weights(tmp_path / "out")
    precision = {"float32": 0.0, "bfloat16": 2**-8, "float16": 2**-11}[dtype]
    torch.testing.assert_close(found, whole, rtol=precision, atol=1e-7)
    one, other = (load(tmp_path / name).sample(1)[0] for name in ("run", "out"))
    np.testing.assert_allclose(one, other, atol=0.1)
    again = CliRunner().invoke(cli, words)
    assert isinstance(again.exception, SuffuseError)
