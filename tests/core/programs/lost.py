"""Trains on torchrun's processes, one of which is killed once: ``lost.py RUN CHANGES STEP``."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from suffuse import recipe
from suffuse.training import train
from suffuse.training.progress import Report

run, changes, step = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
gone = run.with_suffix(".gone")
genuine = Report.step


def watched(self: Report, done: int) -> None:
    genuine(self, done)
    if done == step and os.environ["RANK"] == "1" and not gone.exists():
        gone.touch()
        os.kill(os.getpid(), signal.SIGKILL)


Report.step = watched  # type: ignore[method-assign]
train(recipe.load("toy/spiral", json.loads(changes)), run, resume=True, progress=False)
