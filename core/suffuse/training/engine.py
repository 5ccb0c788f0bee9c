"""The training run.

Step k draws its batch, levels and noise from (seed, k), takes the gradient of the mean loss over
the global batch, and moves the weights by AdamW; their average moves behind them and is what the
model is made of. All else happens between steps: figures, checkpoints, looks at samples.
"""

from __future__ import annotations

import copy
import hashlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from suffuse import plugins, storage
from suffuse.errors import SuffuseError
from suffuse.model import Model, load
from suffuse.plugins.contracts import Dataset
from suffuse.recipe import Recipe
from suffuse.training import card, checkpoint, importance, looks, precision, setup, states
from suffuse.training.batches import Batch, Batches
from suffuse.training.clock import Clock
from suffuse.training.directory import Record, locked
from suffuse.training.ema import EMA, SNAPSHOT_STDS, SNAPSHOTS
from suffuse.training.energy import Meter
from suffuse.training.learner import COMPILING_PAYS, Learner, compiler
from suffuse.training.metrics import Metrics, Window, last_loss, summary
from suffuse.training.progress import Report, duration
from suffuse.training.ranks import Ranks
from suffuse.training.rate import learning_rate
from suffuse.training.stop import Interrupted, Stop
from suffuse.training.trackers import opened

__all__ = ["train"]

MOST_LOWERED = 5
"""How often the learning rate is halved before a run that diverges stops after all."""

MANY = 1000
"""Steps from which a run may be long enough to be compiled; shorter ones are not timed."""

ASK_EVERY = 8
"""Steps between questions to other processes whether they were asked to stop."""


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    progress: bool | None = None,
    command: str | None = None,
) -> Model:
    """Train a model.

    Under ``torchrun`` each process calls this; the batch is shared among them.

    Args:
        recipe: what to train; need not be resolved.
        out: the run directory, which becomes a model directory with its first checkpoint.
        resume: go on with the run that is in `out`, or start where there is none. One that is
            finished is loaded and returned at once.
        progress: a progress bar (True), silence (False), or a bar on a terminal and plain lines
            elsewhere (None).
        command: what the model card says the model is made with; by default it names the recipe's
            file in the run directory.

    Returns:
        The model, with averaged weights, as it lies in `out`.

    Raises:
        SuffuseError: for a directory that is in use, belongs to another run or cannot be written;
            for damaged checkpoints; for a loss that is not finite.
        Interrupted: after Ctrl-C or SIGTERM, when a checkpoint has been saved; and after Ctrl-C
            while the run is set up, which can be resumed as well.
    """
    out, asked = Path(out), recipe.resolved()
    accelerator = setup.accelerator()
    ranks = Ranks(accelerator)
    with ExitStack() as stack:
        report = stack.enter_context(Report(progress if ranks.index == 0 else False))
        ranks.lead(lambda: stack.enter_context(locked(out)))
        ranks.lead(lambda: setup.begin(out, asked, resume, report))
        record = Record.read(out)
        if record.finished >= asked.training.steps:
            report.say(f"{out} is finished: {record.finished} steps are done")
            return Model.load(out)
        # Initial weights and dropout draw from torch's own generators; the caller's are kept.
        device = accelerator.device
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        try:
            run = _Run(out, asked, record, accelerator, ranks, report)
        except KeyboardInterrupt:
            interrupted = Interrupted(out, 0, asked.training.steps)
            report.say(str(interrupted))
            raise interrupted from None
        name = shlex.quote(out.resolve().name)
        return run.train(command or f"suffuse train recipe.toml --out {name}")


@contextmanager
def preparing(recipe: Recipe, out: Path) -> Iterator[_Run]:
    """A run that is set up in a folder and not trained, for who measures with its parts."""
    asked, accelerator = recipe.resolved(), setup.accelerator()
    with Report(False) as report, locked(out):
        setup.begin(out, asked, False, report)
        device = accelerator.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            run = _Run(out, asked, Record.read(out), accelerator, Ranks(accelerator), report)
            try:
                yield run
            finally:
                run.close()


class _Diverged(Exception):  # noqa: N818
    """The loss exploded, or is not finite, at a step counted from 0."""

    def __init__(self, step: int, why: str) -> None:
        super().__init__(why)
        self.step, self.why = step, why


def exploded(loss: float, earlier: Sequence[float]) -> bool:
    """Whether a mean loss is a hundred times the least and ten times the first of earlier ones.

    >>> exploded(50.0, [1.0, 0.4]), exploded(50.0, [20.0, 0.4])
    (True, False)
    """
    return bool(earlier) and loss > 100 * min(earlier) and loss > 10 * earlier[0]


class _Run:
    """One session of a run: its parts, and what happens to them."""

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
        self.accelerator, self.device = accelerator, cast(torch.device, accelerator.device)
        self.training = asked.training
        self.done = 0
        self.stop = Stop(alone=ranks.count == 1)

        dataset = setup.dataset(asked)
        self.licence = getattr(dataset, "licence", None)
        torch.manual_seed(self.training.seed)
        fitted = asked.model_copy(update={"encoder": {**asked.encoder, **record.encoder}})
        # Its network holds the average, so that sampling and saving need no exchange of weights.
        self.model = Model(fitted, dataset.conditions, path=out)
        self.batches = self._batches(dataset)
        self.model.network.to(self.device)
        self.objective = self.model.process.loss
        if self.training.start:
            self._start(self.training.start)
        self.precision = self._precision(record)
        self.model.recipe = fitted.model_copy(
            update={"training": self.training.model_copy(update={"precision": self.precision})}
        )

        self.learner = Learner(
            self.model.network, self.training, accelerator, ranks, self._compiled(record)
        )
        learning = self.learner.network
        if self.training.sharded and ranks.count > 1:
            # The average's whole copy is kept on the host, and looked at on the device.
            self.model.network.cpu()
        self.snapshots = {
            std: (averaged, EMA(averaged, learning, std))
            for std in (SNAPSHOT_STDS if self.training.ema_snapshots else ())
            for averaged in [copy.deepcopy(self.model.network)]
        }
        self.averages = [
            EMA(self.model.network, learning, self.training.ema_std),
            *(ema for _, ema in self.snapshots.values()),
        ]
        self.forward = precision.autocast(self.learner.prepared, self.device, self.precision)
        share = len(self.ranks.share(self.training.batch))
        self.micro_batch = min(record.micro_batch or self.training.micro_batch or share, share)
        self.importance = importance.Importance(self.device) if self.training.importance else None
        self.lowered = record.lowered
        self.losses: list[float] = []
        self.enough = False
        self.window = Window(self.device)
        self.clock, self.meter = Clock(self.device), Meter(self.device)
        self.logged = 0.0
        self._restore()

    # Setting up

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
            device=self.device,
        )

    def _precision(self, record: Record) -> precision.Precision:
        """What the run has used, else what the recipe says, else what is measured; recorded."""

        def work() -> None:
            chosen = self.training.precision
            if chosen == "auto":
                chosen = precision.choose(self._trial(), self.device, self.report.say)
            record.model_copy(update={"precision": chosen}).write(self.out)

        if record.precision == "auto":
            self.ranks.lead(work)
            record = Record.read(self.out)
        return cast(precision.Precision, record.precision)

    def _compiled(self, record: Record) -> bool:
        """Whether torch.compile pays: by how long the rest will take; recorded, and said."""
        asked = self.training.compile

        def work() -> None:
            found, why, worth = asked == "on", "as asked", asked == "on"
            if asked == "auto" and self.training.steps >= MANY:
                seconds = precision.seconds(self._trial(), self.precision, self.device)
                seconds *= self.training.steps
                found = worth = seconds > COMPILING_PAYS
                why = f"the run is estimated at {duration(seconds)}"
            if found and self.model.recipe.objective is not None:
                found, why = False, "distillation takes derivatives that it has none of"
            elif found and self.device.type == "cpu" and not compiler():
                found, why = False, "it would pay, and there is no C++ compiler"
            elif found:
                found, gain = self._compiling_gains()
                why = f"{why}; {gain}"
            if worth:
                self.report.say(f"torch.compile: {'on' if found else 'off'} ({why})")
            Record.read(self.out).model_copy(update={"compiled": found}).write(self.out)

        if record.compiled is None and (self.out / "checkpoints").is_dir():
            return False  # begun by a version that did not compile
        if record.compiled is None:
            self.ranks.lead(work)
            record = Record.read(self.out)
        return bool(record.compiled)

    def _compiling_gains(self) -> tuple[bool, str]:
        """Whether compiled steps are shorter, by trying, and what to say of it."""
        plain, made = self._trial(), self._trial(compiled=True)
        try:
            times = [
                min(precision.seconds(step, self.precision, self.device) for _ in range(3))
                for step in (plain, made)
            ]
        except Exception as error:  # whatever a compiler answers, training goes on without
            return False, f"compiling failed with {type(error).__name__}"
        gain = times[0] / times[1]
        return gain > 1.03, f"compiled steps are {gain:.2f} times as fast"

    def _trial(self, compiled: bool = False) -> Any:
        """A forward and backward pass on the first batch, on a copy of the network."""
        network: Any = copy.deepcopy(self.model.network).train()
        network = torch.compile(network) if compiled else network
        batch = self.batches(0)

        def step(chosen: precision.Precision) -> None:
            network.zero_grad()
            forward = precision.autocast(network, self.device, chosen)
            losses, _ = self._losses(forward, batch)
            losses.mean().backward()  # type: ignore[no-untyped-call]

        return step

    def _start(self, source: str) -> None:
        """Take over the weights of another model; layers that it lacks begin anew.

        A teacher has to have them all.
        """
        start = load(source)
        theirs = start.network.state_dict()
        mine = self.model.network.state_dict()
        new = set() if self.model.recipe.objective is not None else mine.keys() - theirs.keys()
        others = [n for n in {*mine, *theirs} - new if getattr(mine.get(n), "shape", 0)
                  != getattr(theirs.get(n), "shape", 1)]  # fmt: skip
        if others:
            raise SuffuseError(
                f"the weights of {source!r} (training.start) are of another network than this "
                f"recipe's: {len(others)} of {len(mine)} differ, among them {min(others)!r}; take "
                "the recipe that it was trained by"
            )
        self.model.network.load_state_dict(theirs, strict=not new)
        if new:
            self.report.say(f"{len(new)} of {len(mine)} weights are new, among them {min(new)!r}")
        if self.model.recipe.objective is not None:
            teacher = copy.deepcopy(self.model)
            teacher.network.requires_grad_(False)
            usual = start.recipe.sampling
            guided = teacher.denoiser(usual.guidance, by=usual.guidance_by)
            self.objective = plugins.build(
                "objective",
                self.model.recipe.objective,
                process=self.model.process,
                teacher=guided,
            )

    def _restore(self) -> None:
        """Take up the newest checkpoint, if there is one."""
        folder = self.out / "checkpoints"
        # Rank 0 sets damaged ones aside before the others look.
        found = self.ranks.lead(lambda: checkpoint.newest(folder, self.report.say))
        if self.ranks.index != 0:
            found = checkpoint.newest(folder, lambda text: None)
        self.metrics = (
            Metrics(self.out / "metrics.jsonl", found.step if found else 0)
            if self.ranks.index == 0
            else None
        )
        self.trackers = opened(self.model.recipe, self.out) if self.ranks.index == 0 else []
        self.saved = found.step if found else -1
        if found is None:
            return
        self.learner.load(found.model, found.optimizer)
        self.model.network.load_state_dict(_part(found.ema, ""))
        for std, (averaged, _) in self.snapshots.items():
            averaged.load_state_dict(_part(found.ema, f"{std:g}/"))
        for ema in self.averages:
            ema.distribute()
        facts, first = found.facts, self.ranks.index == 0
        # Sums over all processes were saved: the first one carries them on.
        self.clock = Clock(self.device, facts["seconds"], facts["core_seconds"] if first else 0.0)
        self.meter = Meter(self.device, facts.get("joules"))
        self.logged = facts["logged"]
        sums = facts["window"]
        self.window.restore(facts["window_steps"], sums if first else [0.0] * len(sums))
        self.losses = list(facts.get("losses", []))
        if self.importance is not None:
            self.importance.restore(facts["importance"], first)
        self.done = found.step

    # Running

    def train(self, command: str) -> Model:
        """All steps that are left, and what belongs to the end."""
        outcome: Literal["finished", "interrupted", "failed"] = "failed"
        first = self.ranks.index == 0
        try:
            if first:
                plugins.hook.run_started(
                    run=self.out, recipe=self.model.recipe.model_dump(mode="json"), step=self.done
                )
            if self.done:
                self.report.say(f"going on from step {self.done} of {self.training.steps}")
                self._look()
            self.report.begin(self.done, self.training.steps)
            with self.stop:
                if self.training.divergence == "lower" and self.saved < 0:
                    self._checkpoint()  # something to go back to
                while self.done < self.training.steps and not self.enough:
                    try:
                        self._step()
                        self._between()
                    except _Diverged as found:
                        self._diverged(found)
                self._finish(command)
            outcome = "finished"
        except Interrupted as interrupted:
            outcome = "interrupted"
            self.report.stop()
            self.report.say(str(interrupted))
            raise
        except KeyboardInterrupt:
            outcome = "interrupted"
            raise
        finally:
            self.report.stop()
            self.close()
            if first:
                plugins.hook.run_finished(run=self.out, step=self.done, outcome=outcome)
        return self.model

    def close(self) -> None:
        """Close what is written to."""
        if self.metrics is not None:
            self.metrics.close()
        for tracker in self.trackers:
            tracker.finish()

    def _step(self) -> None:
        step = self.done
        batch = self._drawn(step)
        _seed(self.device, _mixed(self.training.seed, step, self.ranks.index))
        rate = self._rate(step)
        for group in self.learner.optimizer.param_groups:
            group["lr"] = rate
        losses, t = self._gradient(batch)
        norm = self.learner.clip(self.training.clip)
        self.learner.optimizer.step()
        self.done = step + 1
        for ema in self.averages:
            ema.update(self.done)
        self.window.add(step, losses, t, norm)
        if self.importance is not None:
            self.importance.add(batch.u, losses)
            if self.done % importance.EVERY == 0:
                self.importance.update(self.ranks.sum(self.importance.tensor()))

    def _drawn(self, step: int) -> Batch:
        """This process's share of a step, at the noise levels that are worth most."""
        batch = self.batches(step)
        if self.importance is None:
            return batch
        if batch.u.ndim > 1:
            raise SuffuseError(
                "training.importance is for processes with one noise level an example; this one "
                "has several"
            )
        u, weight = self.importance.warp(batch.u)
        return batch._replace(u=u, weight=weight)

    def _rate(self, step: int) -> float:
        return learning_rate(self.training, step) * 0.5**self.lowered

    def _gradient(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Leave the gradient of a batch in the weights; the loss and the time of each example."""
        while True:
            self.learner.optimizer.zero_grad()
            try:
                return self._summed(batch)
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
            if self.ranks.count > 1 or self.micro_batch == 1:
                raise SuffuseError(
                    f"memory ran out with {self.micro_batch} examples at once; train with "
                    f"--set training.micro_batch={max(self.micro_batch // 2, 1)}, or a smaller "
                    "network"
                )
            self.micro_batch //= 2
            self.report.say(f"memory ran out: going on with {self.micro_batch} examples at once")
            record = Record.read(self.out)
            record.model_copy(update={"micro_batch": self.micro_batch}).write(self.out)

    def _summed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        found = []
        n, size = len(batch.u), self.micro_batch
        for begin in range(0, n, size):
            with self.learner.part_of_batch(begin + size >= n):
                part = batch if size >= n else batch.rows(slice(begin, begin + size))
                losses, t = self._losses(self.forward, part)
                total = self.learner.weighed(losses, part.u, part.weight).sum()
                # Gradients are averaged over processes, whose shares may differ by one example.
                mean = total * (self.ranks.count / self.training.batch)
                mean.backward()  # type: ignore[no-untyped-call]
                found.append((losses.detach(), t))
        return torch.cat([losses for losses, _ in found]), torch.cat([t for _, t in found])

    def _losses(self, forward: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss and the time of each example of a batch; for a product its mean time."""
        t = self.model.process.levels(batch.u)
        losses = self.objective(
            forward, batch.x_0, t, batch.noise, mask=batch.mask, **batch.conditions
        )
        return losses, torch.stack([*t.values()]).mean(0) if isinstance(t, Mapping) else t

    def _between(self) -> None:
        """What is due after the steps done so far."""
        done, training = self.done, self.training
        last = done == training.steps
        if last or done % training.log_every == 0:
            self._log()
        self.report.step(done)
        ask = self.ranks.count == 1 or last or done % ASK_EVERY == 0
        stopping = ask and self.ranks.any(self.stop.asked)
        if self._snapshot_due(done):
            self._keep_snapshot()
        if last or stopping or _due(done, training.checkpoint_every):
            self._checkpoint()
        if stopping:
            raise Interrupted(self.out, done, training.steps)
        if not last:
            self._look()
            if training.patience and _due(done, training.evaluate_every):
                self.enough = self.ranks.any(self.ranks.index == 0 and self._enough())
            if self.enough:
                self._checkpoint()

    def _enough(self) -> bool:
        """Whether the first figure of the evaluations has stopped to get better."""
        found = looks.since_best(looks.evaluations(self.out / "evaluation.json"))
        if found < self.training.patience:
            return False
        self.report.say(
            f"training ends at step {self.done}: {found} evaluations without a better figure "
            f"(training.patience is {self.training.patience})"
        )
        return True

    def _log(self) -> None:
        self._check()
        sums = self.ranks.sum(self.window.tensor())
        seconds = self.clock.seconds()
        rate = self.training.batch * self.window.steps / max(seconds - self.logged, 1e-9)
        found = summary(sums, self.window.steps, self.ranks.count)
        if self.metrics is not None:
            line: dict[str, Any] = {
                "step": self.done,
                "loss": found["loss"],
                "levels": found["levels"],
                "learning_rate": self._rate(self.done - 1),
                "gradient_norm": found["gradient_norm"],
                "examples_per_second": rate,
                "seconds": seconds,
            }
            self.metrics.write(line)
            shown = {key: value for key, value in line.items() if isinstance(value, float)}
            shown |= {f"loss/{i}": k for i, k in enumerate(line["levels"]) if k is not None}
            for tracker in self.trackers:
                tracker.log(shown, self.done)
        self.report.measured(self.done, found["loss"], rate)
        self.window.clear()
        if exploded(found["loss"], self.losses):
            raise _Diverged(self.done - 1, f"the loss is {found['loss']:.3g}, and was "
                            f"{min(self.losses):.3g}")  # fmt: skip
        self.losses = [*self.losses[:1], min([found["loss"], *self.losses])]
        self.logged = seconds

    def _check(self) -> None:
        """Stop where a loss or gradient was not finite, before anything is saved."""
        never = 2**62
        broken = self.window.broken()
        first = self.ranks.least(never if broken < 0 else broken)
        if first != never:
            raise _Diverged(first, "the loss or its gradient is not finite")

    def _diverged(self, found: _Diverged) -> None:
        """Keep what is needed to look into it; then go back and on, or stop.

        Raises:
            SuffuseError: where the run is to stop, or was lowered too often.
        """
        note = self.out / "diverged.json"
        weights, _ = self.learner.state(self.ranks.index == 0)

        def work() -> None:
            value = {
                "step": found.step + 1,
                "batch": self.batches.indices(found.step),
                "seed": self.training.seed,
                "learning_rate": self._rate(found.step),
                "why": found.why,
            }
            storage.write_json(note, value)
            storage.save_tensors(note.with_suffix(".safetensors"), weights)

        self.ranks.lead(work)
        what = f"training diverged: {found.why} at step {found.step + 1}"
        if self.training.divergence == "lower" and self.lowered < MOST_LOWERED:
            self.lowered += 1
            record = Record.read(self.out)
            self.ranks.lead(
                lambda: record.model_copy(update={"lowered": self.lowered}).write(self.out)
            )
            if self.metrics is not None:
                self.metrics.close()
            self.window.clear()
            self.window = Window(self.device)
            self._restore()
            self.report.say(
                f"{what}; going on from step {self.done} with {0.5**self.lowered:g} of the "
                "learning rate"
            )
            return
        kept = f"the weights of step {self.saved} are kept" if self.saved > 0 else "nothing is kept"
        raise SuffuseError(
            f"{what}; {kept} in {self.out}, and {note.name} there names the batch. Train anew with "
            "a lower training.learning_rate or a smaller training.clip, or with "
            "--set training.divergence=lower"
        )

    def _checkpoint(self) -> None:
        self._check()
        sums = self.ranks.sum(self.window.tensor())
        cores = self.ranks.sum(torch.tensor(self.clock.cores(), dtype=torch.float64))
        seconds = self.clock.seconds()
        folder = self.out / "checkpoints"
        weights, moments = self.learner.state(self.ranks.index == 0)
        for ema in self.averages:
            ema.collect()
        extra: dict[str, Any] = {"losses": self.losses, "joules": self.meter.joules()}
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
                    ema={
                        **self.model.network.state_dict(),
                        **{
                            f"{std:g}/{name}": tensor
                            for std, (averaged, _) in self.snapshots.items()
                            for name, tensor in averaged.state_dict().items()
                        },
                    },
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

    def _snapshot_due(self, done: int) -> bool:
        """Whether one of the evenly spread snapshots falls on this step."""
        count, steps = self.training.ema_snapshots, self.training.steps
        return count > 0 and done * count // steps > (done - 1) * count // steps

    def _keep_snapshot(self) -> None:
        def work() -> None:
            tensors = {
                f"{std:g}/{name}": tensor
                for std, (averaged, _) in self.snapshots.items()
                for name, tensor in averaged.state_dict().items()
            }
            storage.save_tensors(self.out / SNAPSHOTS / f"{self.done:08d}.safetensors", tensors)

        for ema in self.averages:
            ema.collect()
        with self.clock.paused():
            self.ranks.lead(work)

    def _look(self, last: bool = False) -> None:
        """Samples and evaluation, where they are due and were not made already."""
        training, done = self.training, self.done
        picture = self.out / "samples" / f"step-{done:06d}.png"
        found = self.out / "evaluation.json"

        def work() -> None:
            if (last or _due(done, training.sample_every)) and not picture.exists():
                looks.sheet(self.model, picture)
            if (last or _due(done, training.evaluate_every)) and not any(
                metric["step"] == done for metric in looks.evaluations(found)
            ):
                looks.evaluate(self.model, found, done)

        if last or _due(done, training.sample_every) or _due(done, training.evaluate_every):
            for ema in self.averages:
                ema.collect()
            apart = self.model.device != self.device and self.ranks.index == 0
            with self.clock.paused():
                if apart:
                    self.model.network.to(self.device)
                self.ranks.lead(work)
                if apart:
                    self.model.network.cpu()

    def _finish(self, command: str) -> None:
        self._look(last=True)
        if self.training.precision == "auto":  # chosen by timing, which another machine may not
            command += f" --set training.precision={self.precision}"
        cores = float(self.ranks.sum(torch.tensor(self.clock.cores(), dtype=torch.float64)))

        def work() -> None:
            found = looks.evaluations(self.out / "evaluation.json")
            facts = card.Facts(
                command=command,
                examples=self.examples,
                licence=self.licence,
                step=self.done,
                seconds=self.clock.seconds(),
                core_seconds=cores,
                joules=self.meter.joules(),
                machine=card.machine(self.device, self.ranks.count),
                loss=last_loss(self.out / "metrics.jsonl"),
                metrics=[metric for metric in found if metric["step"] == self.done],
            )
            storage.write_text(self.out / "README.md", card.render(self.model, facts))
            self.model.save(self.out)
            ended = self.training.steps  # also where it was enough before
            Record.read(self.out).model_copy(update={"finished": ended}).write(self.out)

        self.ranks.lead(work)
        self.report.step(self.done)
        self.report.stop()
        self.report.say(f"{self.out}: {self.done} steps in {duration(self.clock.seconds())}")


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names have the prefix before a name without a slash."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix) and "/" not in name.removeprefix(prefix)
    }


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0


def _seed(device: torch.device, seed: int) -> None:
    """Seed the generator that dropout draws from; torch.manual_seed seeds every device's."""
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    torch.default_generator.manual_seed(seed)


def _mixed(*numbers: int) -> int:
    """A seed for torch's generator, of which only the low 32 bits may count."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=4).digest(), "little")
