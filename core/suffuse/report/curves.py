"""The curves of a training, from what it logged."""

from __future__ import annotations

import numpy as np

from suffuse.report import figures
from suffuse.report.blocks import Chart, number
from suffuse.report.record import Log

__all__ = ["curves"]


def curves(log: Log, decay: str) -> list[Chart]:
    """The loss, the loss by noise level, the learning rate and the throughput.

    Args:
        log: of one line or more.
        decay: of the learning rate, "cosine" or "constant".
    """
    last = log.last("loss")
    charts = [
        Chart(
            figures.loss(log.step, log.loss),
            "The training loss over steps, falling"
            + (f" to {number(last)}." if last is not None else "."),
            "The loss as logged, and its running average",
        )
    ]
    if log.levels.size:
        charts.append(
            Chart(
                figures.loss_by_level(log.step, log.levels),
                f"The loss over steps in {log.levels.shape[1]} parts of t, a line each.",
                "The same loss by noise level: each line is a part of t",
            )
        )
    if np.isfinite(log.learning_rate).any():
        charts.append(
            Chart(
                figures.line(log.step, log.learning_rate, "step", "learning rate"),
                "The learning rate over steps.",
                "The learning rate: a rise, then a fall"
                if decay == "cosine"
                else "The learning rate",
            )
        )
    if np.isfinite(log.examples_per_second).any():
        median = float(np.nanmedian(log.examples_per_second))
        charts.append(
            Chart(
                figures.line(log.step, log.examples_per_second, "step", "examples a second"),
                f"The throughput over steps, with a median of {number(median)} examples a second.",
                f"Throughput, {number(round(median))} examples a second at the median",
            )
        )
    return charts
