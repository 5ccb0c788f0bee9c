"""Trains on the processes that torchrun made: ``shared.py FOLDER CHANGES``.

Once straight through; once with a stop that only the last process is asked for. Where weights are
split, magnitude-preserving layers are also trained so and whole, on the same examples.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from suffuse import recipe
from suffuse.errors import SuffuseError
from suffuse.nn import MagnitudeUNet
from suffuse.training import Interrupted, setup, train
from suffuse.training.learner import Learner
from suffuse.training.progress import Report
from suffuse.training.ranks import Ranks

folder, changes = sys.argv[1:]
asked = recipe.load("toy/spiral", json.loads(changes))
rank = int(os.environ["RANK"])
train(asked, Path(folder, "straight"), progress=False)

genuine = Report.step


def watched(self: Report, done: int) -> None:
    genuine(self, done)
    if done == 9 and rank == int(os.environ["WORLD_SIZE"]) - 1:
        os.kill(os.getpid(), signal.SIGTERM)


Report.step = watched  # type: ignore[method-assign]
with pytest.raises(Interrupted) as stopped:
    train(asked, Path(folder, "stopped"), progress=False)
assert stopped.value.step == 16
Report.step = genuine  # type: ignore[method-assign]
train(asked, Path(folder, "stopped"), resume=True, progress=False)

with pytest.raises(SuffuseError) as refused:
    train(asked, Path(folder, "stopped"), progress=False)
Path(folder, f"error-{rank}").write_text(str(refused.value))


def trained(sharded: bool) -> dict[str, Tensor]:
    """The weights of a network of unit-length layers after some steps."""
    torch.manual_seed(0)
    network = MagnitudeUNet((1, 8), width=8, multipliers=(1,), blocks=1)
    settings = asked.training.model_copy(update={"sharded": sharded, "uncertainty": False})
    accelerator = setup.accelerator()
    learner = Learner(network, settings, accelerator, Ranks(accelerator), False)
    for step in range(6):
        x = torch.randn(4, 1, 8, generator=torch.Generator().manual_seed(10 * step + rank))
        learner.begin()
        (learner.prepared(x, x[:, 0, 0]) - x).square().mean().backward()
        learner.clip(1.0)
        learner.optimizer.step()
    return learner.state(True)[0]


if asked.training.sharded:
    whole, split = trained(False), trained(True)
    for name, tensor in whole.items():
        torch.testing.assert_close(split[name], tensor, rtol=1e-3, atol=1e-4)
