"""A model: what people train, save, load, sample and evaluate."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any, Literal, cast

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

import suffuse
from suffuse import plugins, storage
from suffuse.diffusion import (
    Noise,
    guidance,
    likelihood,
    posterior,
    prediction,
    scores,
    solvers,
)
from suffuse.diffusion import sample as run_plan
from suffuse.diffusion.noise import Stream
from suffuse.diffusion.plan import Plan
from suffuse.diffusion.process import Denoiser, Gaussian, Process, State, by_name
from suffuse.diffusion.product import Product
from suffuse.diffusion.sampling import Step
from suffuse.diffusion.schedules import Schedule
from suffuse.errors import SuffuseError, unknown
from suffuse.plugins import options
from suffuse.plugins.contracts import (
    Condition,
    Dataset,
    Encoder,
    Example,
    Metric,
    RaggedEncoder,
    Renderer,
    Shape,
)
from suffuse.recipe import Recipe

__all__ = ["FORMAT", "Model", "Network", "load"]

logger = logging.getLogger(__name__)

TUNED, PLANS = "tuned", "plans"
"""The solver's name, and the folder of a model, for plans that `Model.tune` made."""

FORMAT = 1
"""The version of the model directory's layout."""


class Network(nn.Module):
    """A denoiser's network with the conditioners that feed it."""

    def __init__(self, backbone: nn.Module, conditioners: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.backbone = backbone
        self.conditioners = nn.ModuleDict(dict(conditioners))

    def forward(
        self, x: State, level: Any, *, mask: State | None = None, **conditions: Tensor
    ) -> Any:
        """The raw prediction for states x [B, *shape] at noise levels [B], of the shape of x.

        Conditions are prepared values (`Model.prepare`), one row a sample.
        """
        given: dict[str, Any] = {} if mask is None else {"mask": mask}
        for name, embed in self.conditioners.items():
            answer = embed(conditions[name])
            for slot, value in (
                answer if isinstance(answer, Mapping) else {"vector": answer}
            ).items():
                if slot not in given:
                    given[slot] = value
                elif slot == "vector":
                    given[slot] = given[slot] + value
                else:
                    given[slot] = torch.cat([given[slot], value], dim=1)
        return self.backbone(x, level, **given)


class Model:
    """A network with everything around it that makes it usable.

    Args:
        recipe: resolved, with the encoder's fitted options.
        conditions: what each condition's values are.
        path: the directory that it was loaded from, if any.

    Attributes:
        recipe, conditions, path: as given.
        encoder, process, schedule: the recipe's parts.
        network: the `Network`, in evaluation mode, with random weights until loaded or trained.
        shape: of one state; a mapping where states are mappings.
    """

    def __init__(
        self,
        recipe: Recipe,
        conditions: Mapping[str, Condition],
        *,
        path: Path | None = None,
    ) -> None:
        for name in recipe.conditions:
            if name not in conditions:
                raise unknown("condition of this data set", name, conditions)
        self.recipe = recipe
        self.conditions = {name: conditions[name] for name in recipe.conditions}
        self.path = path
        self.encoder: Any = plugins.build("encoder", recipe.encoder)
        self.shape: Shape = self.encoder.shape
        self.schedule = cast(Schedule, plugins.build("schedule", recipe.schedule))
        encoder = self.encoder
        self.process = cast(
            Process,
            plugins.build("process", recipe.process, schedule=self.schedule, encoder=encoder),
        )
        backbone = cast(
            Any, plugins.build("denoiser", recipe.denoiser, shape=self.shape, encoder=encoder)
        )
        conditioners = {
            name: cast(
                nn.Module,
                plugins.build(
                    "conditioner",
                    part,
                    condition=self.conditions[name],
                    width=backbone.width,
                    encoder=encoder,
                ),
            )
            for name, part in recipe.conditions.items()
        }
        self.network = Network(backbone, conditioners).eval()

    @classmethod
    def untrained(cls, recipe: Recipe, dataset: Dataset) -> Model:
        """A model with random weights, its encoder fitted on a training split.

        The fitted options are in the `recipe` of the model.
        """
        encoder = cast(Encoder, plugins.build("encoder", recipe.encoder))
        fitted = {**recipe.encoder, **encoder.fit(dataset)}
        return cls(recipe.model_copy(update={"encoder": fitted}), dataset.conditions)

    # Parts

    @property
    def device(self) -> torch.device:
        """Where the network's weights are."""
        return next(self.network.parameters()).device

    @property
    def renderer(self) -> Renderer:
        """What draws this model's raw objects and writes them to files."""
        return cast(Renderer, plugins.build("renderer", self.recipe.renderer))

    def dataset(self, split: str) -> Dataset:
        """The data set of the recipe; split is "train" or "test"."""
        return cast(Dataset, plugins.build("dataset", self.recipe.dataset, split=split))

    @property
    def droppable(self) -> list[str]:
        """The conditions that may be left out; the others are always given."""
        return [
            name
            for name, conditioner in self.network.conditioners.items()
            if not getattr(conditioner, "always", False)
        ]

    def encode(self, objects: Sequence[Any]) -> State:
        """Raw objects as states [B, *shape], on the model's device."""
        return by_name(lambda x: x.to(self.device), self.encoder.encode(objects))

    def decode(self, x: State, sizes: Tensor | None = None) -> list[Any]:
        """States [B, *shape] as raw objects; of ragged states with their sizes."""
        x = by_name(lambda part: _wide(part.detach()).cpu(), x)
        if isinstance(self.encoder, RaggedEncoder):
            if sizes is None:
                raise SuffuseError("these states are ragged: decode(x, sizes)")
            return self.encoder.decode(x, sizes.cpu())
        found: list[Any] = self.encoder.decode(x)
        return found

    def sizes(self, objects: Sequence[Any]) -> Tensor | None:
        """The sizes of raw objects, int64 [B]; None for a model whose states are not ragged."""
        return self.encoder.sizes(objects) if isinstance(self.encoder, RaggedEncoder) else None

    def mask(self, sizes: Tensor) -> State:
        """True where an element belongs to a ragged state of such a size."""
        return by_name(lambda part: part.to(sizes.device), self.encoder.mask(sizes))

    def prepare(self, conditions: Mapping[str, Sequence[Any]], n: int) -> dict[str, Tensor]:
        """Raw values of conditions, n each, as the tensors that the network takes.

        A condition that is missing, or whose value is None, is "not given".

        Raises:
            SuffuseError: for an unknown condition or value.
        """
        for name in conditions:
            if name not in self.network.conditioners:
                raise unknown("condition", name, self.network.conditioners)
        return {
            name: cast(Any, conditioner)
            .prepare(list(conditions.get(name, [None] * n)))
            .to(self.device)
            for name, conditioner in self.network.conditioners.items()
        }

    def denoiser(self, guidance_weight: float = 1.0) -> Denoiser:
        """(x_t, t, **prepared conditions) -> the clean estimate, guided by the weight."""
        denoise = self.process.denoiser(self.network)
        if guidance_weight == 1.0 or not self.droppable:
            return denoise
        nothing = self.prepare({}, 1)
        null = {name: nothing[name] for name in self.droppable}
        return guidance.classifier_free(denoise, guidance_weight, null)

    def plan(
        self,
        solver: str | Mapping[str, Any] | None = None,
        steps: int | None = None,
        *,
        grid: str | Sequence[float] = "uniform",
        begin: float = 1.0,
    ) -> Any:
        """The sampler's table: the recipe's, but for what is given here.

        Args:
            solver: a registered name, or a mapping with the name and options; "tuned" for a plan
                that `tune` made; for a product of processes also a mapping from the names of its
                parts to these.
            steps: the most network calls.
            grid: a name in `suffuse.diffusion.grids.GRIDS`, or times falling from 1 to 0.
            begin: the time to begin at; below 1 for states that are noised in part.

        Returns:
            A `Plan`; for a product of processes one for each part, by name.
        """
        part: Mapping[str, Any] = self.recipe.sampling.solver
        if solver is not None:
            part = {"name": solver} if isinstance(solver, str) else solver
        steps = self.recipe.sampling.steps if steps is None else steps
        if part.get("name") == TUNED:
            return self._tuned(steps)
        if not isinstance(self.process, Product):
            return self._plan(part, self.process, steps, grid, begin)
        plans = {}
        for name, (process, _) in self.process.parts.items():
            own = part if "name" in part else part.get(name, {})
            own = {"name": own} if isinstance(own, str) else own
            plans[name] = self._plan(own, process, steps, grid, begin)
        return plans

    def _plan(
        self,
        part: Mapping[str, Any],
        process: Process,
        steps: int,
        grid: str | Sequence[float],
        begin: float,
    ) -> Plan:
        chosen = plugins.resolve("solver", part, where="solver")
        function = plugins.get("solver", chosen.pop("name")).load()
        schedule = getattr(process, "schedule", self.schedule)
        plan = solvers.plan(function, schedule, steps=steps, grid=grid, begin=begin, **chosen)
        kind = getattr(process, "prediction", None)
        if kind is not None:
            prediction.check(kind, schedule, torch.from_numpy(plan.t))
        return plan

    def _tuned(self, calls: int) -> Plan:
        folder = None if self.path is None else self.path / PLANS
        found = sorted(folder.glob("*.json"), key=lambda p: int(p.stem)) if folder else []
        for path in found:
            if int(path.stem) == calls:
                try:
                    return Plan.from_json(path.read_text(encoding="utf-8"))
                except (ValueError, KeyError, TypeError) as error:
                    raise SuffuseError(f"{path} is damaged: {error}; tune anew") from None
        have = (
            f"there are plans of {', '.join(p.stem for p in found)}" if found else "there is none"
        )
        raise SuffuseError(
            f"no plan of {calls} network calls was tuned to this model ({have}); make it with "
            f"suffuse tune MODEL --calls {calls}"
        )

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
        values = {name: _repeated(name, value, n) for name, value in conditions.items()}
        if not values and self.conditions:
            with suppress(SuffuseError):
                train = self.dataset("train")
                some = [train[i * len(train) // n].conditions for i in range(n)]
                values = {name: [c.get(name) for c in some] for name in self.conditions}
        prepared: dict[str, Any] = self.prepare(values, n)
        weight = self.recipe.sampling.guidance if guidance is None else guidance
        x = self.process.prior(Noise(seed, n, device=self.device), self.shape)
        return self.denoiser(weight), x, prepared

    # Making

    def sample(
        self,
        n: int = 1,
        *,
        seed: int | Sequence[int] = 0,
        first: int = 0,
        solver: str | Mapping[str, Any] | None = None,
        steps: int | None = None,
        grid: str | Sequence[float] = "uniform",
        begin: float = 1.0,
        guidance: float | None = None,
        x: State | None = None,
        sizes: Sequence[int] | None = None,
        project: Callable[[State, State, Any], State] | None = None,
        on_step: Callable[[Step], None] | None = None,
        batch: int = 64,
        **conditions: Any,
    ) -> list[Any]:
        """n raw objects. Sample i of a seed is the same at any batch size and in any order.

        Args:
            n: how many.
            seed: an integer s, for the samples (s, first), (s, first + 1), ...; or one for each.
            solver, steps, grid, begin: see `plan`.
            guidance: the weight of classifier-free guidance; 1 is none. The recipe's where None.
            x: states to start from, [n, *shape]; drawn from the seeds where None.
            sizes: of ragged states, n; drawn from the seeds where None.
            project: (clean estimate, x_t, t) -> the clean estimate to go on with.
            on_step: called after each row of each batch.
            batch: how many samples are made at once.
            conditions: raw values by name: one for all samples, or a list that is repeated to n.

        Raises:
            SuffuseError: for unknown conditions, values, solvers, or numbers out of range.
        """
        return self._made(
            run_plan,
            n,
            {"x": x},
            seed=seed,
            first=first,
            plan=self.plan(solver, steps, grid=grid, begin=begin),
            guidance=guidance,
            sizes=sizes,
            batch=batch,
            conditions=conditions,
            on_step=on_step,
            **({} if project is None else {"project": project}),
        )

    def restore(
        self,
        observation: posterior.Observation,
        n: int | None = None,
        *,
        method: str = "mmps",
        options: Mapping[str, Any] | None = None,
        seed: int | Sequence[int] = 0,
        first: int = 0,
        solver: str | Mapping[str, Any] | None = None,
        steps: int | None = None,
        grid: str | Sequence[float] = "uniform",
        begin: float = 1.0,
        guidance: float | None = None,
        on_step: Callable[[Step], None] | None = None,
        batch: int = 16,
        **conditions: Any,
    ) -> list[Any]:
        """Raw objects that agree with what was observed of their states.

        Args:
            observation: operator, data and noise, about states: `encode` makes those.
            n: how many; one for each row of the data where None.
            method: one of `suffuse.diffusion.posterior.METHODS`.
            options: of the method.
            seed, first, solver, steps, grid, begin, guidance, on_step, batch, conditions: as for
                `sample`.

        Raises:
            SuffuseError: as `suffuse.diffusion.posterior.restore`.

        To fill the lower half of a digit in four ways::

            known = torch.ones(1, 8, 8, dtype=torch.bool)
            known[:, 4:] = False
            seen = posterior.Observation(operators.mask(known), model.encode([digit]))
            model.restore(seen, n=4, label=3)
        """
        rows = len(observation.y)
        n = rows if n is None else n
        if rows not in (1, n):
            raise SuffuseError(f"the observation is of {rows} states, and {n} are asked for")

        def run(denoiser: Denoiser, plan: Plan, *, y: Tensor, **settings: Any) -> Tensor:
            seen = dataclasses.replace(observation, y=y)
            return posterior.restore(
                denoiser, plan, seen, method=method, options=options, **settings
            )

        return self._made(
            run,
            n,
            {"y": observation.y.to(self.device).expand(n, *observation.y.shape[1:])},
            seed=seed,
            first=first,
            plan=self.plan(solver, steps, grid=grid, begin=begin),
            guidance=guidance,
            sizes=None,
            batch=batch,
            conditions=conditions,
            on_step=on_step,
        )

    def vary(
        self,
        objects: Sequence[Any],
        strength: float = 0.5,
        *,
        seed: int | Sequence[int] = 0,
        **settings: Any,
    ) -> list[Any]:
        """Each object noised to the time `strength` and sampled from there.

        Args:
            objects: raw objects.
            strength: in (0, 1]; 1 forgets the object, for a schedule that ends in pure noise.
            seed: as for `sample`; object i is varied by the noise of sample i.
            settings: as for `sample`.

        Source: Meng et al. (SDEdit, 2021), arXiv 2108.01073.
        """
        if not 0 < strength <= 1:
            raise SuffuseError(f"strength is above 0 and at most 1, and {strength} is not")
        x_0 = self.encode(objects)
        return self._from(x_0, self.sizes(objects), strength, seed, settings)

    def interpolate(
        self,
        first: Any,
        second: Any,
        n: int = 8,
        *,
        strength: float = 0.5,
        seed: int = 0,
        **settings: Any,
    ) -> list[Any]:
        """n objects on the way between two: their states mixed evenly, noised, and sampled.

        All are noised by the same noise, so that neighbours resemble each other.

        Args:
            first, second: raw objects; n: at least 2, the ends among them.
            strength: in (0, 1]: how far the mixtures are noised before they are made clean.
            seed, settings: as for `sample`.

        Source: Ho, Jain, Abbeel (2020), arXiv 2006.11239, section 4.3.
        """
        if n < 2 or not 0 < strength <= 1 or not isinstance(self.shape, tuple):
            raise SuffuseError(
                "interpolation makes 2 objects or more, with a strength above 0 and at most 1, by "
                f"a model whose states are tensors of numbers; given {n} and {strength}"
            )
        ends = self.encode([first, second])
        share = torch.linspace(0, 1, n).reshape(-1, *[1] * (ends.ndim - 1)).to(ends)
        return self._from(
            torch.lerp(ends[:1], ends[1:], share), None, strength, [seed] * n, settings
        )

    def _from(
        self,
        x_0: State,
        sizes: Tensor | None,
        begin: float,
        seed: int | Sequence[int],
        settings: Mapping[str, Any],
    ) -> list[Any]:
        n = len(x_0 if isinstance(x_0, Tensor) else next(iter(x_0.values())))
        noise = Noise(seed, n, device=self.device)
        drawn = self.process.noise(noise, x_0, step=0, stream=Stream.PRIOR)
        t = torch.full((n,), begin, dtype=torch.float64, device=self.device)
        x = self.process.corrupt(x_0, t, drawn)
        own = None if sizes is None else sizes.tolist()
        return self.sample(n, seed=seed, x=x, begin=begin, sizes=own, **settings)

    def _made(
        self,
        run: Callable[..., State],
        n: int,
        rows: Mapping[str, State | None],
        *,
        seed: int | Sequence[int],
        first: int,
        plan: Any,
        guidance: float | None,
        sizes: Sequence[int] | None,
        batch: int,
        conditions: Mapping[str, Any],
        **settings: Any,
    ) -> list[Any]:
        """n raw objects by run(denoiser, plan, ...) batch by batch, each with its share of rows."""
        if n < 1 or batch < 1:
            raise SuffuseError(
                f"sampling makes 1 or more, in batches of 1 or more; given {n}, {batch}"
            )
        values = {name: _repeated(name, value, n) for name, value in conditions.items()}
        prepared = self.prepare(values, n)
        denoise = self.denoiser(self.recipe.sampling.guidance if guidance is None else guidance)
        noise = Noise(seed, n, first=first, device=self.device)
        made: list[Any] = []
        with torch.inference_mode():
            for part in _batches(n, batch):
                given: dict[str, Any] = {name: value[part] for name, value in prepared.items()}
                for name, value in rows.items():
                    if value is not None:
                        given[name] = by_name(lambda x: x[part].to(self.device), value)  # noqa: B023
                own = self._sizes(None if sizes is None else sizes[part], noise[part])
                if own is not None:
                    given["mask"] = self.mask(own)
                state = run(
                    denoise,
                    plan,
                    noise=noise[part],
                    shape=self.shape,
                    process=self.process,
                    **settings,
                    **given,
                )
                made += self.decode(state, own)
        return made

    def _sizes(self, given: Sequence[int] | None, noise: Noise) -> Tensor | None:
        if not isinstance(self.encoder, RaggedEncoder):
            if given is not None:
                raise SuffuseError("all states of this model have one size; leave sizes out")
            return None
        if given is None:
            return self.encoder.draw_sizes(noise).to(self.device)
        if len(given) != len(noise):
            raise SuffuseError("sizes has one number for each sample")
        return torch.tensor(given, dtype=torch.int64, device=self.device)

    # Judging

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
        """
        part = {"name": scorer} if isinstance(scorer, str) else scorer
        score = plugins.build("scorer", part, denoiser=self.denoiser(), schedule=self.schedule)

        def levels(seen: Sequence[Any], given: Mapping[str, Any]) -> Tensor:
            values = {name: _repeated(name, value, len(seen)) for name, value in given.items()}
            prepared = self.prepare(values, len(seen))
            found = []
            for rows in _batches(len(seen), batch):
                own = {name: value[rows] for name, value in prepared.items()}
                with torch.no_grad():
                    found.append(score(self.encode(seen[rows]), seed=seed, **own).cpu())
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
        """
        found = []
        for rows in _batches(len(objects), batch):
            x_0 = self.encode(objects[rows])
            noise = Noise(seed, len(x_0), first=rows.start, device=self.device)
            prepared: dict[str, Any] = self.prepare({}, len(x_0))
            answer = likelihood.log_likelihood(
                self.denoiser(), self.schedule, x_0, noise=noise, **settings, **prepared
            )
            found.append(answer.log_prob.cpu())
        return torch.cat(found)

    def evaluate(
        self, n: int | None = None, *, seed: int = 0, batch: int = 64, **settings: Any
    ) -> list[Metric]:
        """The recipe's evaluators on n samples made under the conditions of held-out examples.

        Args:
            n: how many samples; as many as the test split has where None.
            seed: of the samples and of the evaluators.
            batch: how many samples are made at once.
            settings: handed to `sample` (solver, steps, grid, guidance).

        Raises:
            SuffuseError: where no evaluator has a figure; one that fails beside others is logged.
        """
        if not self.recipe.evaluators:
            return []
        test, train = self.dataset("test"), self.dataset("train")
        n = len(test) if n is None else n
        if n < 1 or not len(test):
            raise SuffuseError(
                f"evaluation needs samples and test examples; given {n}, {len(test)}"
            )
        order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed)).tolist()
        chosen = [order[i % len(order)] for i in range(n)]
        wanted: dict[str, Any] = {
            name: [test[i].conditions.get(name) for i in chosen] for name in self.conditions
        }
        objects = self.sample(n, seed=seed, batch=batch, **settings, **wanted)
        samples = [
            Example(data, {name: values[i] for name, values in wanted.items()})
            for i, data in enumerate(objects)
        ]
        metrics: list[Metric] = []
        failures: list[SuffuseError] = []
        for part in self.recipe.evaluators:
            evaluator = cast(Any, plugins.build("evaluator", part))
            try:
                metrics += evaluator.evaluate(samples, test=test, train=train, seed=seed)
            except SuffuseError as error:
                logger.warning("no figure by %s: %s", part["name"], error)
                failures.append(error)
        if failures and not metrics:
            raise failures[0]
        return metrics

    # Keeping

    def config(self) -> dict[str, Any]:
        """What config.json holds: everything but the weights, as plain values."""
        return {
            "format": FORMAT,
            "suffuse": suffuse.__version__,
            "plugins": {s.distribution: s.version for s in plugins.statuses() if s.status == "ok"},
            "recipe": self.recipe.model_dump(),
            "conditions": {
                name: {"kind": c.kind, "names": list(c.names)}
                for name, c in self.conditions.items()
            },
        }

    def save(self, path: str | PathLike[str], tensors: Mapping[str, Tensor] | None = None) -> None:
        """Write a model directory: model.safetensors and config.json, each atomically.

        Args:
            path: the directory; made where missing.
            tensors: other weights for the network than its own, for instance averaged ones.
        """
        folder = Path(path)
        state = self.network.state_dict() if tensors is None else tensors
        storage.save_tensors(folder / "model.safetensors", state)
        storage.write_json(folder / "config.json", self.config())

    @classmethod
    def load(cls, path: str | PathLike[str], device: str | torch.device | None = None) -> Model:
        """The model in a directory.

        Raises:
            SuffuseError: where it is no model directory, damaged, of another format, or made with
                plugins that are not installed.
        """
        folder = Path(path)
        config = _read_config(folder)
        recipe = options.check(Recipe, config["recipe"], where="recipe").resolved()
        conditions = {
            name: Condition(c["kind"], tuple(c["names"]))
            for name, c in config["conditions"].items()
        }
        model = cls(recipe, conditions, path=folder)
        tensors = storage.load_tensors(folder / "model.safetensors")
        try:
            model.network.load_state_dict(tensors)
        except RuntimeError as e:
            raise SuffuseError(
                f"the weights in {str(folder)!r} do not fit the network of its config.json: {e}"
            ) from None
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        model.network.to(device)
        return model


def load(source: str | PathLike[str], device: str | torch.device | None = None) -> Model:
    """A model by the path of its directory, or by the registered name of one that is installed.

    Args:
        source: for instance "runs/a" or "image/digits"; a directory that exists goes first.
        device: where to put the network; a GPU where there is one.

    Raises:
        SuffuseError: see `Model.load`; and for an unknown name.
    """
    if Path(source).exists():
        return Model.load(source, device)
    found = plugins.hook.resolve_model(name=str(source))
    if found is None:
        known = {entry.name for entry in plugins.entries("model")}
        if str(source) not in known:
            raise unknown("model or run directory", source, known)
        found = plugins.get("model", str(source)).load()
    return Model.load(found, device)


class _Kind(BaseModel):
    """A condition, as config.json has it."""

    kind: Literal["category", "number", "text", "state"]
    names: list[str]


class _Config(BaseModel):
    """What loading needs of config.json."""

    recipe: dict[str, Any]
    conditions: dict[str, _Kind]


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise SuffuseError(
            f"{str(folder)!r} is no model: it has no readable config.json (a run has one from its "
            "first checkpoint on)"
        ) from None
    except (ValueError, RecursionError) as e:
        raise SuffuseError(f"{str(path)!r} is damaged: {e}") from None
    if not isinstance(config, dict) or "format" not in config:
        raise SuffuseError(f"{str(path)!r} is not the config of a Suffuse model")
    if config["format"] != FORMAT:
        raise SuffuseError(
            f"{str(folder)!r} has the format {config['format']}, and this version of Suffuse reads "
            f"{FORMAT}; install the Suffuse that made it ({config.get('suffuse', 'unknown')})"
        )
    try:
        return _Config.model_validate(config).model_dump()
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SuffuseError(f"{str(path)!r} is damaged: {where}: {first['msg']}") from None


def _repeated(name: str, value: Any, n: int) -> list[Any]:
    if not isinstance(value, list | tuple):
        return [value] * n
    if not value:
        raise SuffuseError(f"the condition {name!r} was given an empty list")
    return [value[i % len(value)] for i in range(n)]


def _wide(x: Tensor) -> Tensor:
    """Numbers as float32; tokens as they are."""
    return x.float() if x.is_floating_point() else x


def _batches(n: int, batch: int) -> Iterator[slice]:
    return (slice(i, min(i + batch, n)) for i in range(0, n, batch))
