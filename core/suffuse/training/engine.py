"""The training run.

Step k draws its batch, levels and noise from (seed, k), takes the gradient of the mean loss over
the global batch, and moves the weights by AdamW; their average moves behind them and is what the
model is made of. All else happens between steps: figures, checkpoints, looks at samples.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from suffuse import plugins, storage
from suffuse.errors import SuffuseError, out_of_memory
from suffuse.model import Model
from suffuse.recipe import Recipe
from suffuse.training import card, divergence, importance, looks, setup
from suffuse.training.allocation import most_used
from suffuse.training.batches import Batch
from suffuse.training.directory import Record, locked
from suffuse.training.divergence import Diverged, exploded
from suffuse.training.metrics import Window, last_loss, summary
from suffuse.training.progress import Report, duration
from suffuse.training.ranks import Ranks
from suffuse.training.rate import learning_rate
from suffuse.training.session import Session
from suffuse.training.stop import Interrupted, Stop

__all__ = ["train"]

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
            report.say(f"{out} is finished")
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
def preparing(recipe: Recipe, out: Path) -> Iterator[Session]:
    """A run that is set up in a folder and not trained, for who measures with its parts."""
    asked, accelerator = recipe.resolved(), setup.accelerator()
    with Report(False) as report, locked(out):
        setup.begin(out, asked, False, report)
        device = accelerator.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            run = Session(out, asked, Record.read(out), accelerator, Ranks(accelerator), report)
            try:
                yield run
            finally:
                run.close()


class _Run(Session):
    """One session of a run, and what happens in it."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.stop = Stop(alone=self.ranks.count == 1)
        self.enough = False

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
                self._judge()  # it may have been stopped at that
            self.report.begin(self.done, self.training.steps)
            with self.stop:
                if self.training.divergence == "lower" and self.saved < 0:
                    self.checkpoint()  # something to go back to
                while self.done < self.training.steps and not self.enough:
                    try:
                        self._step()
                        self._between()
                    except Diverged as found:
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

    def _step(self) -> None:
        step = self.done
        batch = self._drawn(step)
        rate = self._rate(step)
        for group in self.learner.optimizer.param_groups:
            group["lr"] = rate
        losses, t = self._gradient(batch)
        norm = self.learner.clip(self.training.clip)
        self.learner.optimizer.step()
        self.done = step + 1
        self.averages.update(self.done)
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
            _seed(self.device, _mixed(self.training.seed, self.done, self.ranks.index))
            self.learner.begin()
            try:
                return self._summed(batch)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            if self.micro_batch == 1:
                raise SuffuseError(
                    "memory ran out with 1 example at once; go on by --resume --set "
                    "training.recompute=true, which takes less, or train a smaller network"
                )
            fewer = self.micro_batch // 2
            if self.ranks.count > 1:  # the others have done their part
                raise SuffuseError(
                    f"memory ran out with {self.micro_batch} examples at once on process "
                    f"{self.ranks.index}; go on by --resume --set training.micro_batch={fewer}"
                )
            self.micro_batch = fewer
            self.report.say(f"memory ran out: going on with {self.micro_batch} examples at once")
            record = Record.read(self.out)
            record.model_copy(update={"micro_batch": self.micro_batch}).write(self.out)

    def _summed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        found = []
        n, size = len(batch.u), self.micro_batch
        for begin in range(0, n, size):
            with self.learner.part_of_batch(begin + size >= n):
                part = batch if size >= n else batch.rows(slice(begin, begin + size))
                losses, t = self.losses(self.forward, part)
                total = self.learner.weighed(losses, part.u, part.weight).sum()
                # Gradients are averaged over processes, whose shares may differ by one example.
                mean = total * (self.ranks.count / self.training.batch)
                mean.backward()  # type: ignore[no-untyped-call]
                found.append((losses.detach(), t))
        return torch.cat([losses for losses, _ in found]), torch.cat([t for _, t in found])

    def _between(self) -> None:
        """What is due after the steps done so far."""
        done, training = self.done, self.training
        last = done == training.steps
        if last or done % training.log_every == 0:
            self._log()
        self.report.step(done)
        ask = self.ranks.count == 1 or last or done % ASK_EVERY == 0
        stopping = ask and self.ranks.any(self.stop.asked)
        if self.averages.snapshot_due(done):
            self.check()
            self.averages.collect()
            with self.clock.paused():
                self.ranks.lead(lambda: self.averages.snapshot(self.out, done))
        if last or stopping or _due(done, training.checkpoint_every):
            self.checkpoint()
        if stopping:
            raise Interrupted(self.out, done, training.steps)
        if not last:
            self._judge()

    def _judge(self) -> None:
        """Samples and evaluations that are due, and whether these say that it is enough."""
        self._look()
        if self.training.patience and _due(self.done, self.training.evaluate_every):
            self.enough = self.ranks.any(self.ranks.index == 0 and self._enough())
        if self.enough:
            if self.window.steps:
                self._log()
            self.checkpoint()

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
        self.check()
        sums = self.ranks.sum(self.window.tensor())
        seconds = self.clock.seconds()
        rate = self.training.batch * self.window.steps / max(seconds - self.logged, 1e-9)
        found = summary(sums, self.window.steps, self.ranks.count)
        memory = most_used(self.device)
        if self.metrics is not None:
            line: dict[str, Any] = {
                "step": self.done,
                "loss": found["loss"],
                "levels": found["levels"],
                "learning_rate": self._rate(self.done - 1),
                "gradient_norm": found["gradient_norm"],
                "examples_per_second": rate,
                "seconds": seconds,
                "memory": memory,
            }
            self.metrics.write(line)
            shown = {key: value for key, value in line.items() if isinstance(value, float)}
            shown |= {f"loss/{i}": k for i, k in enumerate(line["levels"]) if k is not None}
            for tracker in self.trackers:
                tracker.log(shown, self.done)
        self.report.measured(self.done, found["loss"], rate, memory)
        self.window.clear()
        if exploded(found["loss"], self.earlier):
            raise Diverged(self.done - 1, f"the loss is {found['loss']:.3g}, and was "
                            f"{min(self.earlier):.3g}")  # fmt: skip
        self.earlier = [*self.earlier[:1], min([found["loss"], *self.earlier])]
        self.logged = seconds

    def _diverged(self, found: Diverged) -> None:
        """Keep what is needed to look into it; then go back and on, or stop.

        Raises:
            SuffuseError: where the run is to stop, or was lowered too often.
        """
        weights, _ = self.learner.state(self.ranks.index == 0)
        note = {
            "step": found.step + 1,
            "batch": self.batches.indices(found.step),
            "seed": self.training.seed,
            "learning_rate": self._rate(found.step),
            "why": found.why,
        }
        self.ranks.lead(lambda: divergence.keep(self.out, note, weights))
        if self.training.divergence == "stop" or self.lowered == divergence.MOST_LOWERED:
            raise divergence.stopped(self.out, found, self.saved)
        self.ranks.lead(lambda: looks.forget(self.out, self.saved))
        self.lowered += 1
        record = Record.read(self.out).model_copy(update={"lowered": self.lowered})
        self.ranks.lead(lambda: record.write(self.out))
        self.close()
        self.window = Window(self.device)
        self.restore()
        self.report.say(
            f"{found}; going on from step {self.done} with {0.5**self.lowered:g} of the learning "
            "rate"
        )

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
            self.check()
            self.averages.collect()
            apart = self.model.device != self.device and self.ranks.index == 0
            with self.clock.paused():
                if apart:
                    self.model.network.to(self.device)
                try:
                    with self.stop.at_once():
                        self.ranks.lead(work)
                except KeyboardInterrupt:
                    self.checkpoint()
                    raise Interrupted(self.out, done, training.steps) from None
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
