"""Trainings that are killed (SIGKILL), and go on: to the bit what an undisturbed one makes.

Each kill ends a process that trains as ``suffuse train --resume`` does: at a random moment of its
life, or at one of its calls that bring a file to the disk or rename it, so in the middle of a
write. The same training then goes on to the end. The model is the template's of new plugins, in the
core alone.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
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
    "training.sample_every": 0,  # drawing would take most of the time, and most of the kills
    "training.checkpoint_every": 2,
    "training.precision": "fp32",
}
FILES = ("model.safetensors", *(f"checkpoints/{STEPS:08d}/{name}.safetensors"
                                for name in ("model", "ema", "optimizer")))  # fmt: skip

SERVER = """
import importlib, json, os, signal, sys
import accelerate, matplotlib.figure, torch._dynamo  # as each training would, for a second
template, changes = sys.argv[1:]
sys.path.insert(0, template)
from suffuse import plugins, recipe
from suffuse.training import train

module = importlib.import_module("suffuse_myplugin.plugin")
calls = 0

def watched(genuine, last):
    def wrapper(*arguments):
        global calls
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return genuine(*arguments)
    return wrapper

def trained(run, call):
    os.fsync, os.replace = watched(os.fsync, call), watched(os.replace, call)
    with plugins.using(plugins.Manager([plugins.Candidate("myplugin", lambda: module)])):
        train(recipe.load("myplugin/waves", json.loads(changes)), run, resume=True, progress=False)

for line in sys.stdin:
    run, call = json.loads(line)
    told, tell = os.pipe()
    process = os.fork()
    if not process:
        try:
            trained(run, call)
            os.write(tell, str(calls).encode())
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(0)
    os.close(tell)
    print(process, flush=True)
    written = os.read(told, 100).decode()
    os.close(told)
    killed = os.WIFSIGNALED(os.waitpid(process, 0)[1])
    print(json.dumps([killed, int(written or 0)]), flush=True)
"""


class _Trainings:
    """Trainings one after the other, each in a process of its own.

    They are forked from one that has imported all that is needed and done nothing else: starting
    Python and torch takes ten times as long as this training.
    """

    def __init__(self) -> None:
        words = [str(scaffold.TEMPLATE), json.dumps(CHANGES)]
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def run(self, run: Path, *, call: int = 0, seconds: float | None = None) -> tuple[bool, int]:
        """Train on in a folder, to the end or until it is killed.

        Args:
            run: the run directory.
            call: of those that write, at which it is killed; 0 for none.
            seconds: after which it is killed.

        Returns:
            Whether it was killed, and its calls that write; 0 where it did not come to its end.
        """
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps([str(run), call]) + "\n")
        self._server.stdin.flush()
        process = int(self._line())
        if seconds is not None:
            time.sleep(seconds)
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        killed, calls = json.loads(self._line())
        return killed, calls

    def _line(self) -> str:
        assert self._server.stdout is not None
        found = self._server.stdout.readline()
        if not found:
            raise SuffuseError("the process that trainings are begun from has ended")
        return found


def _digests(run: Path) -> dict[str, str]:
    """Of the files that count; "" for one that is not there."""
    return {n: storage.digest(run / n) if (run / n).exists() else "" for n in FILES}


@dataclass(frozen=True)
class _Undisturbed:
    """The digests of a run that was left alone, its seconds, and its calls that write."""

    digests: dict[str, str]
    seconds: float
    calls: int


def _undisturbed(trainings: _Trainings) -> _Undisturbed:
    with tempfile.TemporaryDirectory() as folder:
        run, begun = Path(folder, "run"), time.perf_counter()
        _, calls = trainings.run(run)
        if not calls:
            raise SuffuseError("the undisturbed training does not come to its end")
        return _Undisturbed(_digests(run), time.perf_counter() - begun, calls)


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
        trainings = context.once("damage: trainings", _Trainings)
        truth = context.once("damage: undisturbed", lambda: _undisturbed(trainings))
        draw = random.Random(self.seed)
        killed, same, wrong = 0, 0, []
        for trial in range(self.kills):
            with tempfile.TemporaryDirectory() as folder:
                run = Path(folder, "run")
                if self.model == "in the middle of a write":
                    ended, _ = trainings.run(run, call=draw.randrange(1, truth.calls + 1))
                else:
                    ended, _ = trainings.run(run, seconds=draw.uniform(0, truth.seconds))
                killed += ended
                trainings.run(run)
                if _digests(run) == truth.digests:
                    same += 1
                else:
                    wrong.append(trial)
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
