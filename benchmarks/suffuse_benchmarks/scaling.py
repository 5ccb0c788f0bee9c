"""Several processes at one run: the loss curve of one, and how the time grows.

Strong: one global batch, shared by more processes; the logged losses are compared step by step.
Sums are rounded in another order, which a training blows up like any chaotic system: the
difference doubles every few steps until it is as large as that of two runs of other seeds. So what
counts is the beginning, of `EARLY` steps; the difference over all is told beside it.
Weak: a batch that grows with the processes; the time of a step stays, at best. Processes on one
machine share its cores, each with one thread, so that there must be a core for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suffuse.bench import Context, Result, median
from suffuse.errors import SuffuseError
from suffuse.plugins import scaffold
from suffuse.plugins.contracts import Metric

__all__ = ["Scaling", "suite"]

CHANGES: dict[str, Any] = {
    "dataset.n": 512,
    "denoiser.width": 256,
    "denoiser.blocks": 6,
    "evaluators": [],
    "sampling.steps": 3,
    "training.steps": 120,
    "training.log_every": 10,
    "training.sample_every": 0,
    "training.checkpoint_every": 0,
    "training.precision": "fp32",
}

EARLY = 30
"""Steps over which losses are to agree to rounding."""

PROGRAM = """
import importlib, json, sys
run, template, changes = sys.argv[1:]
sys.path.insert(0, template)
from suffuse import plugins, recipe
from suffuse.training import train

module = importlib.import_module("suffuse_myplugin.plugin")
with plugins.using(plugins.Manager([plugins.Candidate("myplugin", lambda: module)])):
    train(recipe.load("myplugin/waves", json.loads(changes)), run, progress=False)
"""


def _curve(processes: int, batch: int, sharded: bool = False) -> tuple[Any, Any]:
    """The logged losses, and the seconds of a step between the lines."""
    with tempfile.TemporaryDirectory() as folder:
        program, run = Path(folder, "program.py"), Path(folder, "run")
        program.write_text(PROGRAM, encoding="utf-8")
        changes = {**CHANGES, "training.batch": batch, "training.sharded": sharded}
        words = [str(run), str(scaffold.TEMPLATE), json.dumps(changes)]
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        done = subprocess.run(
            [sys.executable, *launch, str(processes), str(program), *words],
            env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SuffuseError(f"{processes} processes ended with: {done.stderr[-500:]}")
        lines = [json.loads(k) for k in (run / "metrics.jsonl").read_text().splitlines()]
    seconds = np.diff([line["seconds"] for line in lines]) / CHANGES["training.log_every"]
    return np.array([line["loss"] for line in lines]), seconds


@dataclass(frozen=True)
class Scaling:
    """Two processes against one."""

    task: str
    model: str
    seed: int
    batch: int
    processes: int = 2

    measures = ("suffuse.training",)

    def run(self, context: Context) -> Result:
        """Loss curves and times, whole and sharded."""
        alone, step = context.once(f"scaling: {self.batch}", lambda: _curve(1, self.batch))
        metrics: list[Metric] = []
        curves = {}
        for name, sharded in (("whole copies", False), ("sharded", True)):
            shared, faster = _curve(self.processes, self.batch, sharded)
            _, wide = _curve(self.processes, self.batch * self.processes, sharded)
            apart = np.abs(shared / alone - 1)
            curves[name] = apart.tolist()
            early = EARLY // CHANGES["training.log_every"]
            for steps, part in ((EARLY, apart[:early]), (CHANGES["training.steps"], apart)):
                most = float(part.max())
                metrics.append(
                    Metric(f"losses differ in {steps} steps, {name}", most, most, most, "lower",
                           n=len(part))
                )  # fmt: skip
            metrics += [
                median(f"time of a step, same batch, {name}", faster / np.median(step)),
                median(f"time of a step, batch a process, {name}", wide / np.median(step)),
            ]
        detail = {"processes": self.processes, "batch": self.batch, "losses differ": curves}
        return Result(metrics, detail)


def suite(batch: int = 64) -> Iterator[Scaling]:
    """Two processes against one, of one global batch and of one batch each.

    Args:
        batch: of one process.
    """
    yield Scaling("training/two processes", "suffuse", 0, batch)
