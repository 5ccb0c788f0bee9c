"""The learning rate over a run."""

from __future__ import annotations

import math

from suffuse.recipe import Training

__all__ = ["COOLDOWN", "learning_rate"]

COOLDOWN = 0.25
"""The part of a run, at its end, in which the rate falls to 0."""


def learning_rate(training: Training, step: int) -> float:
    """The rate of one optimiser step, counted from 0.

    It rises linearly over `warmup` steps to `learning_rate`, which it reaches at step `warmup`, and
    then stays ("constant"), falls along half a cosine to 0 at step `steps`, one after the last
    ("cosine"), or stays and falls along a line to 0 in the last quarter ("cooldown"; Hägele et al.,
    "Scaling laws and compute-optimal training beyond fixed training durations" (2024), arXiv
    2405.18392). A run with a cooldown can be made longer without harm until it begins.

    >>> training = Training(steps=100, warmup=10, learning_rate=1.0)
    >>> [round(learning_rate(training, step), 3) for step in (0, 4, 10, 55, 99)]
    [0.1, 0.5, 1.0, 0.5, 0.0]
    """
    if step < training.warmup:
        return training.learning_rate * (step + 1) / training.warmup
    if training.decay == "constant":
        return training.learning_rate
    if training.decay == "cooldown":
        left = (training.steps - step) / (COOLDOWN * training.steps)
        return training.learning_rate * min(left, 1.0)
    passed = (step - training.warmup) / max(training.steps - training.warmup, 1)
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * min(passed, 1.0)))
