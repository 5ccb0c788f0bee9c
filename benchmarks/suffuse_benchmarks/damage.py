"""Trainings that are killed (SIGKILL), and go on: to the bit what an undisturbed one makes.

Each kill ends a process that trains as ``suffuse train --resume`` does: when it has used a random
time of its core (SIGPROF, which like SIGKILL leaves it no last word), or at one of its calls that
bring a file to the disk or rename it (SIGKILL), so in the middle of a write. The same training then
goes on to the end. The model is the template's of new plugins, in the
core alone.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

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
import importlib, json, os, signal, sys, time
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

def trained(run, call, seconds):
    if seconds:
        signal.setitimer(signal.ITIMER_PROF, seconds)
    os.fsync, os.replace = watched(os.fsync, call), watched(os.replace, call)
    with plugins.using(plugins.Manager([plugins.Candidate("myplugin", lambda: module)])):
        train(recipe.load("myplugin/waves", json.loads(changes)), run, resume=True, progress=False)

for line in sys.stdin:
    run, call, seconds = json.loads(line)
    told, tell = os.pipe()
    process = os.fork()
    if not process:
        try:
            trained(run, call, seconds)
            os.write(tell, json.dumps([calls, time.process_time()]).encode())
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(0)
    os.close(tell)
    written = os.read(told, 100).decode()
    os.close(told)
    killed = os.WIFSIGNALED(os.waitpid(process, 0)[1])
    print(json.dumps([killed, *json.loads(written or "[0, 0]")]), flush=True)
"""


class _Ended(NamedTuple):
    """Whether it was killed; and where not, its calls that write and the seconds of its core."""

    killed: bool
    calls: int
    seconds: float


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

    def run(self, run: Path, *, call: int = 0, seconds: float = 0.0) -> _Ended:
        """Train on in a folder, to the end or until it is killed.

        Args:
            run: the run directory.
            call: of those that write, at which it is killed; 0 for none.
            seconds: of its core, after which it is killed; 0 for never.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps([str(run), call, seconds]) + "\n")
        self._server.stdin.flush()
        told = self._server.stdout.readline()
        if not told:
            raise SuffuseError("the process that trainings are begun from has ended")
        return _Ended(*json.loads(told))


def _digests(run: Path) -> dict[str, str]:
    """Of the files that count; "" for one that is not there."""
    return {n: storage.digest(run / n) if (run / n).exists() else "" for n in FILES}


def _undisturbed(trainings: _Trainings) -> tuple[dict[str, str], _Ended]:
    """The digests of a run that is left alone, and how it ended."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        ended = trainings.run(run)
        if not ended.calls:
            raise SuffuseError("the undisturbed training does not come to its end")
        return _digests(run), ended


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
        truth, whole = context.once("damage: undisturbed", lambda: _undisturbed(trainings))
        draw = random.Random(self.seed)
        killed, same, wrong = 0, 0, []
        for trial in range(self.kills):
            with tempfile.TemporaryDirectory() as folder:
                run = Path(folder, "run")
                if self.model == "in the middle of a write":
                    ended = trainings.run(run, call=draw.randrange(1, whole.calls + 1))
                else:
                    ended = trainings.run(run, seconds=draw.uniform(1e-3, whole.seconds))
                killed += ended.killed
                trainings.run(run)
                if _digests(run) == truth:
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
