"""A model's parts, and how they go together: states, conditions, denoiser, the sampler's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from suffuse import plugins
from suffuse.diffusion import prediction, solvers
from suffuse.diffusion.plan import Plan
from suffuse.diffusion.process import Denoiser, Process, State, by_name
from suffuse.diffusion.product import Product
from suffuse.diffusion.schedules import Schedule
from suffuse.errors import SuffuseError, unknown
from suffuse.model.guiding import Guidance, guided
from suffuse.model.network import Network
from suffuse.plugins.contracts import (
    Condition,
    Dataset,
    Encoder,
    RaggedEncoder,
    Renderer,
    Shape,
)
from suffuse.recipe import Recipe

__all__ = ["PLANS", "TUNED", "Parts"]

TUNED, PLANS = "tuned", "plans"
"""The solver's name, and the folder of a model, for plans that `Model.tune` made."""


class Parts:
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
    def untrained(cls, recipe: Recipe, dataset: Dataset) -> Self:
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

    def denoiser(
        self,
        weight: float = 1.0,
        null: Mapping[str, Any] | None = None,
        *,
        by: Guidance = (),
        plan: Any = None,
    ) -> Denoiser:
        """(x_t, t, **prepared conditions) -> the clean estimate, guided by the weight.

        Args:
            weight: of guidance; 1 is none.
            null: raw values of conditions that guidance leads away from, by name, instead of from
                none.
            by: what guides, see `Sampling.guidance_by`.
            plan: the table that will be walked, for guidance that depends on it.

        Raises:
            SuffuseError: for values to lead away from without guidance, or of conditions always
                given; for unknown guidance or options, and two that take the weight.
        """
        plain = self.process.denoiser(self.network)
        for name in null or {}:
            if name in self.network.conditioners and name not in self.droppable:
                raise SuffuseError(f"the condition {name!r} is always given, so none is negative")
        if null and weight == 1.0 and not by:
            raise SuffuseError("what to keep away from needs guidance, and 1 is none: give 2 or so")
        if weight == 1.0 and not by:
            return plain
        nothing = self.prepare({name: [value] for name, value in (null or {}).items()}, 1)
        return guided(
            plain,
            weight,
            {name: nothing[name] for name in self.droppable},
            by,
            self.schedule,
            plan,
            encoder=self.encoder,
            conditioners=dict(self.network.conditioners.items()),
        )

    def plan(
        self,
        solver: str | Mapping[str, Any] | None = None,
        steps: int | None = None,
        *,
        grid: str | Mapping[str, Any] | Sequence[float] | None = None,
        begin: float = 1.0,
    ) -> Any:
        """The sampler's table: the recipe's, but for what is given here.

        Args:
            solver: a registered name, or a mapping with the name and options; "tuned" for a plan
                that `tune` made; for a product of processes also a mapping from the names of its
                parts to these.
            steps: the most network calls.
            grid: a name in `suffuse.diffusion.grids.GRIDS`, such a "name" with options, or times
                falling from 1 to 0. Where None, the recipe's; the solver's own for another solver.
            begin: the time to begin at; below 1 for states that are noised in part.

        Returns:
            A `Plan`; for a product of processes one for each part, by name.
        """
        part: Mapping[str, Any] = self.recipe.sampling.solver
        if solver is not None:
            part = {"name": solver} if isinstance(solver, str) else solver
        elif grid is None:
            grid = self.recipe.sampling.grid
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
        grid: str | Mapping[str, Any] | Sequence[float] | None,
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


def _wide(x: Tensor) -> Tensor:
    """Numbers as float32; tokens as they are."""
    return x.float() if x.is_floating_point() else x
