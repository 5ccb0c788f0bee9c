"""A run in one process: its parts, as the recipe and the newest checkpoint make them.

Each process of a run has one. What is saved is the same on any number of processes: whole weights,
and sums over all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from suffuse import plugins, storage
from suffuse.errors import SuffuseError
from suffuse.model import Model, load
from suffuse.plugins.contracts import Dataset
from suffuse.recipe import Recipe
from suffuse.training import checkpoint, importance, precision, setup, states
from suffuse.training.averages import Averages
from suffuse.training.batches import Batch, Batches
from suffuse.training.clock import Clock
from suffuse.training.directory import Record
from suffuse.training.divergence import Diverged
from suffuse.training.energy import Meter
from suffuse.training.learner import Learner
from suffuse.training.metrics import Metrics, Window
from suffuse.training.progress import Report
from suffuse.training.ranks import Ranks
from suffuse.training.trackers import opened
from suffuse.training.trials import Trials
from suffuse.training.warmstart import take_over

__all__ = ["Session"]


class Session:
    """What a run consists of while it is trained.

    Args:
        out: the run directory, which has a run.json that fits (`setup.begin`).
        asked: the recipe.
        record: what run.json holds.
        accelerator: accelerate's.
        ranks: the processes.
        report: what the reader is told.

    Attributes:
        model: the model, whose network holds the average.
        learner: the network that learns, with its optimiser.
        averages: what follows the learner.
        done: steps done.
        saved: the step of the last checkpoint; −1 where there is none.
    """

    def __init__(
        self,
        out: Path,
        asked: Recipe,
        record: Record,
        accelerator: Any,
        ranks: Ranks,
        report: Report,
    ) -> None:
        self.out, self.ranks, self.report = out, ranks, report
        self.device = cast(torch.device, accelerator.device)
        self.training = asked.training
        self.done = 0

        dataset = setup.dataset(asked)
        self.licence = getattr(dataset, "licence", None)
        torch.manual_seed(self.training.seed)
        fitted = asked.model_copy(update={"encoder": {**asked.encoder, **record.encoder}})
        self.model = Model(fitted, dataset.conditions, path=out)
        self.batches = self._batches(dataset)
        self.model.network.to(self.device)
        self.objective = self.model.process.loss
        # Weights to begin with are in the checkpoints by then; a teacher is needed throughout.
        begun = checkpoint.newest_step(out / "checkpoints") > 0
        if not begun and hasattr(self.model.network.backbone, "begin"):
            cast(Any, self.model.network.backbone).begin()
        if self.training.start and (asked.objective is not None or not begun):
            start = load(self.training.start)
            if asked.objective is not None:
                record = self._same_teacher(start, record)
            self.objective = take_over(self.model, start, report.say)
        trials = Trials(
            out, asked, self.model.network, self._first_gradient, self.device, ranks, report.say
        )
        # What is tried draws numbers, and a run that goes on tries nothing.
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            self.precision = trials.which_precision(record)
            compiled = trials.whether_compiled(record, self.precision)
        self.model.recipe = fitted.model_copy(
            update={"training": self.training.model_copy(update={"precision": self.precision})}
        )
        self.learner = Learner(self.model.network, self.training, accelerator, ranks, compiled)
        if self.training.sharded and ranks.count > 1:
            # The average's whole copy is kept on the host, and looked at on the device.
            self.model.network.cpu()
        self.averages = Averages(self.model.network, self.learner.network, self.training)
        self.forward = precision.autocast(self.learner.prepared, self.device, self.precision)
        share = len(self.ranks.share(self.training.batch))
        asked_for = [n for n in (record.micro_batch, self.training.micro_batch) if n]
        self.micro_batch = min([share, *asked_for])
        if self.training.sharded and asked_for:
            ranks.same_parts(self.training.batch, min(asked_for))
        self.importance = importance.Importance(self.device) if self.training.importance else None
        self.lowered = record.lowered
        self.earlier: list[float] = []
        self.window = Window(self.device)
        self.clock, self.meter = Clock(self.device), Meter(self.device)
        self.logged = 0.0
        self.restore()

    def _same_teacher(self, teacher: Model, record: Record) -> Record:
        """The record, with the digest of the teacher's weights.

        Raises:
            SuffuseError: where it has another one.
        """
        assert teacher.path is not None
        found = storage.digest(teacher.path / "model.safetensors")
        if record.teacher not in ("", found):
            raise SuffuseError(
                f"the weights of the teacher {self.training.start!r} have changed since the run in "
                f"{self.out} began; restore them, or distil anew in another directory"
            )
        record = record.model_copy(update={"teacher": found})
        self.ranks.lead(lambda: record.write(self.out))
        return record

    def _batches(self, dataset: Dataset) -> Batches:
        cache, recipe = self.out / "cache", self.model.recipe

        def work() -> None:
            if states.load(self.model, dataset, cache) is None:
                states.encode(self.model, dataset, cache, self.report.bar)

        self.ranks.lead(work)
        found = states.load(self.model, dataset, cache)
        if found is None:
            raise SuffuseError(
                f"the encoded data in {cache} cannot be read by every process; put the run "
                "directory where all of them see it"
            )
        self.examples = len(found)
        return Batches(
            found,
            self.model.process,
            mask=self.model.mask,
            seed=self.training.seed,
            batch=self.training.batch,
            share=self.ranks.share(self.training.batch),
            null=self.model.prepare({}, 1),
            dropout=dict.fromkeys(self.model.droppable, recipe.training.condition_dropout),
            mirror=self.training.mirror,
            beside=[name for name, c in self.model.conditions.items() if c.kind == "state"],
            device=self.device,
        )

    def _first_gradient(self, forward: Any) -> None:
        losses, _ = self.losses(forward, self.batches(0))
        losses.mean().backward()  # type: ignore[no-untyped-call]

    def losses(self, forward: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss and the time of each example of a batch; for a product its mean time."""
        t = self.model.process.levels(batch.u)
        losses = self.objective(
            forward, batch.x_0, t, batch.noise, mask=batch.mask, **batch.conditions
        )
        return losses, torch.stack([*t.values()]).mean(0) if isinstance(t, Mapping) else t

    def restore(self) -> None:
        """Take up the newest checkpoint, if there is one."""
        folder = self.out / "checkpoints"
        # Rank 0 sets damaged ones aside before the others look.
        found = self.ranks.lead(lambda: checkpoint.newest(folder, self.report.say))
        if self.ranks.index != 0:
            found = checkpoint.newest(folder, lambda text: None)
        logged = found.step if found else 0
        if found and found.facts["window_steps"]:  # a line of that very step came after it
            logged -= 1
        first = self.ranks.index == 0
        self.metrics = Metrics(self.out / "metrics.jsonl", logged) if first else None
        self.trackers = opened(self.model.recipe, self.out) if first else []
        self.saved = found.step if found else -1
        if found is None:
            return
        self.learner.load(found.model, found.optimizer)
        self.averages.restore(found.ema)
        facts = found.facts
        # Sums over all processes were saved: the first one carries them on.
        self.clock = Clock(self.device, facts["seconds"], facts["core_seconds"] if first else 0.0)
        self.meter = Meter(self.device, facts.get("joules"))
        self.logged = facts["logged"]
        sums = facts["window"]
        self.window.restore(facts["window_steps"], sums if first else [0.0] * len(sums))
        self.earlier = list(facts.get("losses", []))
        if self.importance is not None:
            self.importance.restore(facts["importance"], first)
        self.done = found.step

    def checkpoint(self) -> None:
        """Save all that the run needs to go on, and the model as it is now."""
        if self.saved == self.done:
            return
        self.check()
        sums = self.ranks.sum(self.window.tensor())
        cores = self.ranks.sum(torch.tensor(self.clock.cores(), dtype=torch.float64))
        seconds = self.clock.seconds()
        folder = self.out / "checkpoints"
        weights, moments = self.learner.state(self.ranks.index == 0)
        self.averages.collect()
        extra: dict[str, Any] = {"losses": self.earlier, "joules": self.meter.joules()}
        if self.importance is not None:
            measured = self.ranks.sum(self.importance.tensor())
            extra["importance"] = self.importance.state(measured)

        def work() -> Path:
            if self.metrics is not None:
                self.metrics.sync()
            path = checkpoint.save(
                folder,
                checkpoint.Checkpoint(
                    step=self.done,
                    seed=self.training.seed,
                    model=weights,
                    ema=self.averages.state(),
                    optimizer=moments,
                    facts={
                        "seconds": seconds,
                        "core_seconds": float(cores),
                        "logged": self.logged,
                        "window_steps": self.window.steps,
                        "window": sums.tolist(),
                        **extra,
                    },
                ),
            )
            checkpoint.prune(folder, self.training.keep)
            self.model.save(self.out)
            return path

        with self.clock.paused():
            path = self.ranks.lead(work)
            self.saved = self.done
            if path is not None:
                plugins.hook.checkpoint_saved(run=self.out, checkpoint=path, step=self.done)

    def check(self) -> None:
        """Stop where a loss or gradient was not finite, before anything is saved."""
        never = 2**62
        broken = self.window.broken()
        first = self.ranks.least(never if broken < 0 else broken)
        if first != never:
            raise Diverged(first, "the loss or its gradient is not finite")

    def close(self) -> None:
        """Close what is written to."""
        if self.metrics is not None:
            self.metrics.close()
        for tracker in self.trackers:
            tracker.finish()
