"""Runs in processes of their own: killed, and several at one run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from suffuse import recipe, storage
from suffuse.training import train

PROGRAMS = Path(__file__).parent / "programs"
CHANGES: dict[str, Any] = {
    "dataset.n": 64,
    "denoiser.width": 8,
    "denoiser.depth": 1,
    "sampling.steps": 3,
    "training.steps": 30,
    "training.batch": 21,
    "training.warmup": 5,
    "training.log_every": 4,
    "training.sample_every": 0,
    "training.checkpoint_every": 3,
    "training.precision": "fp32",
}


def call(environment: dict[str, str], *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def figures(run: Path, *names: str) -> list[list[Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [[line[name] for name in names] for line in found]


def weights(run: Path) -> dict[str, bytes]:
    places = ("model", *(f"checkpoints/00000030/{p}" for p in ("model", "ema", "optimizer")))
    return {place: (run / f"{place}.safetensors").read_bytes() for place in places}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    toy_environment: dict[str, str], tmp_path: Path, seed: int
) -> None:
    out = call(toy_environment, PROGRAMS / "killed.py", tmp_path, json.dumps(CHANGES), seed, 3)
    ends = json.loads(out)
    print(ends)
    straight = tmp_path / "straight"
    names = ("step", "loss", "levels", "learning_rate", "gradient_norm")
    for name, statuses in ends.items():
        assert statuses[-1] == 0
        assert set(statuses[:-1]) <= {0, signal.SIGPROF, signal.SIGKILL}
        assert weights(tmp_path / name) == weights(straight)
        assert figures(tmp_path / name, *names) == figures(straight, *names)
        assert (tmp_path / name / "README.md").exists()
        left = [p for p in (tmp_path / name / "checkpoints").iterdir() if not p.name.isdigit()]
        assert left == []
    killed = [s for statuses in ends.values() for s in statuses if s]
    assert {signal.SIGPROF, signal.SIGKILL} <= set(killed)


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)


@pytest.mark.parametrize("sharded", [False, True])
def test_two_processes_train_as_one(
    sharded: bool, toy: ModuleType, toy_environment: dict[str, str], tmp_path: Path
) -> None:
    changes = {**CHANGES, "training.checkpoint_every": 10, "training.decay": "constant"}
    split = {**changes, "training.sharded": sharded, "training.uncertainty": sharded}
    changes["training.uncertainty"] = sharded
    call(toy_environment, *TORCHRUN, PROGRAMS / "shared.py", tmp_path, json.dumps(split))
    train(recipe.load("toy/spiral", changes), tmp_path / "alone", progress=False)
    alone, straight, stopped = (tmp_path / name for name in ("alone", "straight", "stopped"))
    assert figures(straight, "step") == figures(alone, "step")
    for name in ("loss", "levels", "gradient_norm"):
        np.testing.assert_allclose(
            np.array(figures(straight, name), float),
            np.array(figures(alone, name), float),
            rtol=2e-5,
        )
    one, two = (storage.load_tensors(run / "model.safetensors") for run in (alone, straight))
    for key, tensor in one.items():
        np.testing.assert_allclose(two[key].numpy(), tensor.numpy(), rtol=1e-3, atol=1e-5)
    # A stop asked of one process stops both, and with as many the weights are the same to the bit.
    assert weights(stopped) == weights(straight)
    assert "2 processes" in (straight / "README.md").read_text()
    assert "holds a training run already" in (tmp_path / "error-0").read_text()
    assert "the first process of this run stopped" in (tmp_path / "error-1").read_text()
    # What two processes saved goes on on one.
    more = {**changes, "training.steps": 36}
    for run in (alone, straight):
        train(recipe.load("toy/spiral", more), run, resume=True, progress=False)
    one, two = (storage.load_tensors(run / "model.safetensors") for run in (alone, straight))
    for key, tensor in one.items():
        np.testing.assert_allclose(two[key].numpy(), tensor.numpy(), rtol=1e-3, atol=1e-5)


def test_a_lost_process_is_made_up_for(toy_environment: dict[str, str], tmp_path: Path) -> None:
    """torchrun begins both anew; they go on from the last checkpoint, to the same bits."""
    program, changes = PROGRAMS / "lost.py", json.dumps(CHANGES)
    call(toy_environment, *TORCHRUN, program, tmp_path / "straight", changes, 0)
    call(toy_environment, *TORCHRUN, "--max-restarts", 1, program, tmp_path / "lost", changes, 14)
    assert (tmp_path / "lost.gone").exists()
    assert weights(tmp_path / "lost") == weights(tmp_path / "straight")
