"""Judging with a model, and a model: scores, likelihoods, evaluation, plans that suit it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import torch
from torch import Tensor

from suffuse import plugins, storage
from suffuse.diffusion import (
    Noise,
    likelihood,
    scores,
    solvers,
)
from suffuse.diffusion import sample as run_plan
from suffuse.diffusion.plan import Plan
from suffuse.diffusion.process import Denoiser, Gaussian
from suffuse.errors import SuffuseError
from suffuse.model.making import Making
from suffuse.model.parts import PLANS
from suffuse.model.rows import batches, repeated
from suffuse.plugins.contracts import Example, Metric, RaggedEncoder

__all__ = ["Judging"]

logger = logging.getLogger(__name__)


class Judging(Making):
    """What measures raw objects by a model, and a model by data."""

    def score(
        self,
        objects: Sequence[Any],
        scorer: str | Mapping[str, Any] = "reconstruction",
        *,
        reference: Sequence[Any] | None = None,
        seed: int = 0,
        batch: int = 64,
        **conditions: Any,
    ) -> Tensor:
        """How unusual each object is to the model: higher is more unusual, 0 is usual.

        Args:
            objects: raw objects.
            scorer: a registered name, or a mapping with the name and options.
            reference: normal objects, not trained on, by which the score is calibrated; up to 256
                of the recipe's test split where None.
            seed: of the noise that the score draws.
            batch: how many are looked at at once.
            conditions: raw values by name, as for `sample`; of `objects` alone.

        Returns:
            [B], float64, on the CPU.

        Raises:
            SuffuseError: for a model whose states are no tensors of numbers, and for objects of
                several sizes with a score of whole states.
        """
        part = {"name": scorer} if isinstance(scorer, str) else scorer
        score = plugins.build("scorer", part, denoiser=self.denoiser(), schedule=self.schedule)

        def levels(seen: Sequence[Any], given: Mapping[str, Any]) -> Tensor:
            values = {name: repeated(name, value, len(seen)) for name, value in given.items()}
            prepared = self.prepare(values, len(seen))
            found = []
            for rows in batches(len(seen), batch):
                own = {name: value[rows] for name, value in prepared.items()}
                x = self.encode(seen[rows])
                if not isinstance(x, Tensor) or not x.is_floating_point():
                    raise SuffuseError(
                        "scores are for states of numbers, and those of this model are not: take "
                        "suffuse_anomaly.AnomalyDetector"
                    )
                if isinstance(self.encoder, RaggedEncoder):
                    own["mask"] = self.mask(self.encoder.sizes(seen[rows]).to(self.device))
                with torch.no_grad():
                    found.append(score(x, seed=seed, **own).cpu())
            return torch.cat(found).double()

        if reference is None:
            test = self.dataset("test")
            reference = [test[i].data for i in range(min(len(test), 256))]
        usual = scores.calibrate(levels(reference, {}))
        return usual(levels(objects, conditions))

    def log_likelihood(
        self, objects: Sequence[Any], *, seed: int = 0, batch: int = 64, **settings: Any
    ) -> Tensor:
        """The log-density of each object's state under the model, in nats, [B] float64.

        Args:
            objects: raw objects. The density is that of their standardised states.
            seed: of the probes.
            batch: how many at once.
            settings: as for `suffuse.diffusion.likelihood.log_likelihood` (probes, steps, ...).

        Raises:
            SuffuseError: for a model of objects of several sizes, whose padding would count.
        """
        if isinstance(self.encoder, RaggedEncoder):
            raise SuffuseError(
                "the density is that of a state, and this model's objects are of several sizes: "
                "padding would count"
            )
        found = []
        for rows in batches(len(objects), batch):
            x_0 = self.encode(objects[rows])
            noise = Noise(seed, len(x_0), first=rows.start, device=self.device)
            prepared: dict[str, Any] = self.prepare({}, len(x_0))
            answer = likelihood.log_likelihood(
                self.denoiser(), self.schedule, x_0, noise=noise, **settings, **prepared
            )
            found.append(answer.log_prob.cpu())
        return torch.cat(found)

    def evaluate(
        self,
        n: int | None = None,
        by: Sequence[Mapping[str, Any]] | None = None,
        *,
        seed: int = 0,
        batch: int = 64,
        **settings: Any,
    ) -> list[Metric]:
        """Figures of n samples made under the conditions of held-out examples.

        Args:
            n: how many samples; as many as the test split has where None.
            by: evaluators, each a mapping with the name and options; the recipe's where None.
            seed: of the samples and of the evaluators.
            batch: how many samples are made at once.
            settings: handed to `sample` (solver, steps, grid, guidance, guidance_by).

        Raises:
            SuffuseError: where no evaluator has a figure; one that fails beside others is logged.
        """
        evaluators = self.recipe.evaluators if by is None else by
        if not evaluators:
            return []
        test, train = self.dataset("test"), self.dataset("train")
        n = len(test) if n is None else n
        if n < 1 or not len(test):
            raise SuffuseError(
                f"evaluation needs samples and test examples; given {n}, {len(test)}"
            )
        order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed)).tolist()
        chosen = [order[i % len(order)] for i in range(n)]
        built = [(part["name"], cast(Any, plugins.build("evaluator", part))) for part in evaluators]
        settings = {"seed": seed, "batch": batch, **settings}
        samples: list[Example] = []
        if not all(hasattr(evaluator, "make") for _, evaluator in built):
            wanted: dict[str, Any] = {
                name: [test[i].conditions.get(name) for i in chosen] for name in self.conditions
            }
            samples = [
                Example(data, {name: values[i] for name, values in wanted.items()})
                for i, data in enumerate(self.sample(n, **settings, **wanted))
            ]
        metrics: list[Metric] = []
        failures: list[SuffuseError] = []
        for name, evaluator in built:
            try:
                seen = samples
                if hasattr(evaluator, "make"):
                    seen = evaluator.make(self, [test[i] for i in chosen], **settings)
                metrics += evaluator.evaluate(seen, test=test, train=train, seed=seed)
            except SuffuseError as error:
                logger.warning("no figure by %s: %s", name, error)
                failures.append(error)
        if failures and not metrics:
            raise failures[0]
        return metrics

    def tune(
        self,
        calls: int,
        *,
        n: int = 64,
        seed: int = 2**40,
        guidance: float | None = None,
        **conditions: Any,
    ) -> Plan:
        """A plan of so many network calls that suits this model; see `solvers.tune`.

        In a model with a directory it is kept there, for ``sample(solver="tuned", steps=calls)``.

        Args:
            calls: the budget.
            n: how many trajectories are learned from.
            seed: of their starts; another one than samples are made with.
            guidance: the weight that samples will have; the recipe's where None.
            conditions: raw values by name, as for `sample`; those of training examples where none
                is given and the data are to be had.

        Raises:
            SuffuseError: for a process that is not Gaussian, and as `solvers.tune`.
        """
        if not isinstance(self.process, Gaussian):
            raise SuffuseError("plans are tuned for Gaussian processes, and this model has another")
        denoise, x, prepared = self._starts(n, seed, guidance, conditions)
        plan = solvers.tune(denoise, self.schedule, calls=calls, x=x, **prepared)
        if self.path is not None:
            storage.write_text(self.path / PLANS / f"{calls}.json", plan.to_json())
        return plan

    def solver_error(
        self,
        plan: Plan,
        *,
        n: int = 32,
        seed: int = 2**41,
        guidance: float | None = None,
        **conditions: Any,
    ) -> float:
        """The mean relative error of a plan's samples, against 160 calls from the same starts.

        Args:
            plan: without noise.
            n, seed, guidance, conditions: as for `tune`.
        """
        denoise, x, prepared = self._starts(n, seed, guidance, conditions)
        fine = solvers.plan("multistep", self.schedule, steps=160)
        with torch.no_grad():
            found, end = (run_plan(denoise, p, x=x, **prepared).flatten(1) for p in (plan, fine))
        return float(((found - end).norm(dim=1) / end.norm(dim=1)).mean())

    def _starts(
        self, n: int, seed: int, guidance: float | None, conditions: Mapping[str, Any]
    ) -> tuple[Denoiser, Tensor, dict[str, Any]]:
        """The guided denoiser, and n states at t = 1 with their conditions."""
        values = {name: repeated(name, value, n) for name, value in conditions.items()}
        if not values and self.conditions:
            with suppress(SuffuseError):
                train = self.dataset("train")
                some = [train[i * len(train) // n].conditions for i in range(n)]
                values = {name: [c.get(name) for c in some] for name in self.conditions}
        prepared: dict[str, Any] = self.prepare(values, n)
        x = self.process.prior(Noise(seed, n, device=self.device), self.shape)
        return self._guided(guidance, None), x, prepared
