"""Trainings that are killed (SIGKILL), and go on: to the bit what an undisturbed one makes.

Each kill ends a process of ``suffuse train --resume`` at a random moment of its life, or at one of
its calls that bring a file to the disk or rename it, so in the middle of a write. The same command
then goes on to the end. The model is the template's of new plugins, in the core alone.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from suffuse import stats, storage
from suffuse.bench import Context, Result
from suffuse.errors import SuffuseError
from suffuse.plugins import scaffold
from suffuse.plugins.contracts import Metric

__all__ = ["Killed", "suite"]

STEPS = 24
CHANGES = {
    "dataset.n": 64,
    "denoiser.width": 8,
    "denoiser.blocks": 1,
    "sampling.steps": 3,
    "evaluators": [],
    "training.steps": STEPS,
    "training.batch": 16,
    "training.log_every": 4,
    "training.sample_every": 8,
    "training.checkpoint_every": 2,
    "training.precision": "fp32",
}
FILES = ("model.safetensors", *(f"checkpoints/{STEPS:08d}/{name}.safetensors"
                                for name in ("model", "ema", "optimizer")))  # fmt: skip

PROGRAM = """
import importlib, json, os, signal, sys
run, call, template, changes = sys.argv[1:]
sys.path.insert(0, template)
from suffuse import plugins, recipe
from suffuse.training import train

module = importlib.import_module("suffuse_myplugin.plugin")
calls = 0

def watched(genuine):
    def wrapper(*arguments):
        global calls
        calls += 1
        if calls == int(call):
            os.kill(os.getpid(), signal.SIGKILL)
        return genuine(*arguments)
    return wrapper

os.fsync, os.replace = watched(os.fsync), watched(os.replace)
with plugins.using(plugins.Manager([plugins.Candidate("myplugin", lambda: module)])):
    asked = recipe.load("myplugin/waves", json.loads(changes))
    print("ready", flush=True)
    train(asked, run, resume=True, progress=False)
    print(calls, flush=True)
"""


def _start(run: Path, call: int = 0) -> subprocess.Popen[str]:
    """A training, killed at a call that writes; answers when it has begun."""
    words = [str(run), str(call), str(scaffold.TEMPLATE), json.dumps(CHANGES)]
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    program.stdout.readline()
    return program


def _end(program: subprocess.Popen[str]) -> str:
    told, _ = program.communicate(timeout=600)
    return told.strip()


def _digests(run: Path) -> dict[str, str]:
    return {name: storage.digest(run / name) for name in FILES}


@dataclass(frozen=True)
class _Undisturbed:
    """The digests of a run that was left alone, its seconds, and its calls that write."""

    digests: dict[str, str]
    seconds: float
    calls: int


def _undisturbed() -> _Undisturbed:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        program, begun = _start(run), time.perf_counter()
        told = _end(program)
        if program.returncode:
            raise SuffuseError(f"the undisturbed training ends with status {program.returncode}")
        return _Undisturbed(_digests(run), time.perf_counter() - begun, int(told))


@dataclass(frozen=True)
class Killed:
    """How many killed trainings end with the weights of the undisturbed one."""

    task: str
    model: Literal["at a random moment", "in the middle of a write"]
    seed: int
    kills: int

    measures = ("suffuse.training", "suffuse.storage", "suffuse.model", "suffuse.plugins.scaffold")

    def run(self, context: Context) -> Result:
        """Kill, go on, compare."""
        truth = context.once("damage: undisturbed", _undisturbed)
        draw = random.Random(self.seed)
        ended, same, wrong = [], 0, []
        for trial in range(self.kills):
            with tempfile.TemporaryDirectory() as folder:
                run = Path(folder, "run")
                write = self.model == "in the middle of a write"
                program = _start(run, draw.randrange(1, truth.calls + 1) if write else 0)
                if not write:
                    time.sleep(draw.uniform(0, truth.seconds))
                    program.kill()
                _end(program)
                ended.append(program.returncode)
                again = _start(run)
                _end(again)
                if again.returncode == 0 and _digests(run) == truth.digests:
                    same += 1
                else:
                    wrong.append(trial)
        killed = sum(status == -signal.SIGKILL for status in ended)
        share = stats.proportion(same, self.kills)
        return Result(
            [Metric("same to the bit", share.value, share.low, share.high, "higher", n=self.kills)],
            detail={"killed": killed, "of": self.kills, "wrong": wrong},
            note=f"{killed} of {self.kills} trainings were killed before their end.",
        )


def suite(kills: int = 20, seed: int = 0) -> Iterator[Killed]:
    """Kills at random moments and in the middle of writes.

    Args:
        kills: of each.
        seed: of the moments.
    """
    yield Killed("damage/killed and resumed", "at a random moment", seed, kills)
    yield Killed("damage/killed and resumed", "in the middle of a write", seed, kills)
