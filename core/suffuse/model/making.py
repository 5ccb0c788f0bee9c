"""Making with a model: samples, restorations, variations, what lies between."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from suffuse.diffusion import (
    Noise,
    posterior,
)
from suffuse.diffusion import sample as run_plan
from suffuse.diffusion.capture import recording
from suffuse.diffusion.noise import Stream
from suffuse.diffusion.plan import Plan
from suffuse.diffusion.process import Denoiser, State, by_name
from suffuse.diffusion.sampling import Step
from suffuse.diffusion.windows import windowed
from suffuse.errors import SuffuseError
from suffuse.model.guiding import Guidance
from suffuse.model.parts import Parts
from suffuse.model.rows import batches, drawn, repeated
from suffuse.plugins.contracts import RaggedEncoder, Shape

__all__ = ["POSTERIOR", "Making"]

POSTERIOR: Mapping[str, Any] = {"name": "ddim", "eta": 1.0}
"""The solver of `restore`: with fresh noise in every step, which takes back what a learned
network's estimate got wrong. A deterministic one carries it on to the end."""


class Making(Parts):
    """What makes raw objects."""

    def sample(
        self,
        n: int = 1,
        *,
        seed: int | Sequence[int] = 0,
        first: int = 0,
        solver: str | Mapping[str, Any] | None = None,
        steps: int | None = None,
        grid: str | Mapping[str, Any] | Sequence[float] | None = None,
        begin: float = 1.0,
        guidance: float | None = None,
        guidance_by: Guidance | None = None,
        negative: Mapping[str, Any] | None = None,
        null: Mapping[str, Any] | None = None,
        x: State | None = None,
        sizes: Sequence[int] | None = None,
        project: Callable[[State, State, Any], State] | None = None,
        size: Sequence[int] | None = None,
        circular: bool = False,
        on_step: Callable[[Step], None] | None = None,
        batch: int = 64,
        compiled: bool = False,
        captured: bool = False,
        **conditions: Any,
    ) -> list[Any]:
        """n raw objects. Sample i of a seed is the same at any batch size and in any order.

        Args:
            n: how many.
            seed: an integer s, for the samples (s, first), (s, first + 1), ...; or one for each.
            solver, steps, grid, begin: see `plan`.
            guidance: the weight of guidance; 1 is none. The recipe's where None.
            guidance_by: what guides and what follows it, registered names or mappings with options:
                "apg", [{"name": "classifier-free", "interval": (0.2, 0.8)}, "rescale"]. The
                recipe's where None; classifier-free guidance where that names nothing.
            negative: conditions that must not be there, by name; kept away from in the condition's
                own way (`Conditioner`), or else by guidance.
            null: conditions that guidance leads away from, by name, instead of from none.
            x: states to start from, [n, *shape]; drawn from the seeds where None.
            sizes: of ragged states, n; drawn from the seeds where None.
            project: (clean estimate, x_t, t) -> the clean estimate to go on with.
            size: of the axes of states that are larger than the model's: estimated in windows of
                its size (`suffuse.diffusion.windows`). The model's where None.
            circular: whether the ends of these axes meet, so that samples repeat without a seam.
            on_step: called after each row of each batch.
            batch: how many samples are made at once.
            compiled: whether rows are compiled, see `suffuse.diffusion.sample`.
            captured: whether loops are recorded as CUDA graphs, see `suffuse.diffusion.Captured`;
                for many batches of one size on a GPU.
            conditions: raw values by name: one for all samples, or a list that is repeated to n. Of
                a number also a range, "1..2", from which each sample's is drawn evenly.

        Raises:
            SuffuseError: for unknown conditions, values, solvers, or numbers out of range.
        """
        return self._made(
            recording() if captured else run_plan,
            n,
            {"x": x},
            seed=seed,
            first=first,
            plan=self.plan(solver, steps, grid=grid, begin=begin),
            guidance=guidance,
            guidance_by=guidance_by,
            negative=negative,
            null=null,
            sizes=sizes,
            batch=batch,
            conditions=conditions,
            size=size,
            circular=circular,
            compiled=compiled,
            on_step=on_step,
            **({} if project is None else {"project": project}),
        )

    def restore(
        self,
        observation: posterior.Observation,
        n: int | None = None,
        *,
        method: str | None = None,
        options: Mapping[str, Any] | None = None,
        seed: int | Sequence[int] = 0,
        first: int = 0,
        solver: str | Mapping[str, Any] | None = None,
        steps: int | None = None,
        grid: str | Mapping[str, Any] | Sequence[float] | None = None,
        begin: float = 1.0,
        guidance: float | None = None,
        guidance_by: Guidance | None = None,
        x: State | None = None,
        sizes: Sequence[int] | None = None,
        size: Sequence[int] | None = None,
        circular: bool = False,
        on_step: Callable[[Step], None] | None = None,
        batch: int = 16,
        **conditions: Any,
    ) -> list[Any]:
        """Raw objects that agree with what was observed of their states.

        Args:
            observation: operator, data and noise, about states: `encode` makes those.
            n: how many; one for each row of the data where None.
            method: one of `suffuse.diffusion.posterior.METHODS`; the recipe's where None.
            options: of the method.
            solver: `POSTERIOR` where None.
            guidance: 1, none, where None: it sharpens p(x_0 | y), of which it is no part.
            x: clean states [1 or n, *shape] that are noised to the time `begin` to start from; the
                prior is drawn where None.
            seed, first, steps, grid, begin, guidance_by, sizes, size, circular, on_step, batch,
                conditions: as for `sample`.

        Raises:
            SuffuseError: as `suffuse.diffusion.posterior.restore`.

        To fill the lower half of a digit in four ways::

            known = torch.ones(1, 8, 8, dtype=torch.bool)
            known[:, 4:] = False
            seen = posterior.Observation(operators.mask(known), model.encode([digit]))
            model.restore(seen, n=4, label=3)
        """
        method = self.recipe.sampling.restoring if method is None else method
        rows = len(observation.y)
        n = rows if n is None else n
        if rows not in (1, n):
            raise SuffuseError(f"the observation is of {rows} states, and {n} are asked for")

        def run(
            denoiser: Denoiser, plan: Plan, *, y: Tensor, x: State | None = None, **settings: Any
        ) -> Tensor:
            seen = dataclasses.replace(observation, y=y)
            if x is not None:
                x = self._noised(x, begin, settings["noise"])
            return posterior.restore(
                denoiser, plan, seen, method=method, options=options, x=x, **settings
            )

        return self._made(
            run,
            n,
            {
                "y": observation.y.to(self.device).expand(n, *observation.y.shape[1:]),
                "x": None if x is None else by_name(lambda k: k.expand(n, *k.shape[1:]), x),
            },
            seed=seed,
            first=first,
            plan=self.plan(POSTERIOR if solver is None else solver, steps, grid=grid, begin=begin),
            guidance=1.0 if guidance is None else guidance,
            guidance_by=guidance_by,
            sizes=sizes,
            batch=batch,
            conditions=conditions,
            size=size,
            circular=circular,
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

        All are noised by the same noise, so that neighbours resemble each other. Where sizes
        differ, all have the smaller one.

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
        ends, sizes = self.encode([first, second]), self.sizes([first, second])
        share = torch.linspace(0, 1, n).reshape(-1, *[1] * (ends.ndim - 1)).to(ends)
        own = None if sizes is None else sizes.min().expand(n)
        x_0 = torch.lerp(ends[:1], ends[1:], share)
        return self._from(x_0, own, strength, [seed] * n, settings)

    def _from(
        self,
        x_0: State,
        sizes: Tensor | None,
        begin: float,
        seed: int | Sequence[int],
        settings: Mapping[str, Any],
    ) -> list[Any]:
        n = len(x_0 if isinstance(x_0, Tensor) else next(iter(x_0.values())))
        x = self._noised(x_0, begin, Noise(seed, n, device=self.device))
        own = None if sizes is None else sizes.tolist()
        return self.sample(n, seed=seed, x=x, begin=begin, sizes=own, **settings)

    def _noised(self, x_0: State, begin: float, noise: Noise) -> State:
        """Clean states brought to the time `begin`."""
        drawn = self.process.noise(noise, x_0, step=0, stream=Stream.PRIOR)
        t = torch.full((len(noise),), begin, dtype=torch.float64, device=self.device)
        return self.process.corrupt(x_0, t, drawn)

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
        guidance_by: Guidance | None,
        negative: Mapping[str, Any] | None = None,
        null: Mapping[str, Any] | None = None,
        sizes: Sequence[int] | None,
        batch: int,
        conditions: Mapping[str, Any],
        size: Sequence[int] | None = None,
        circular: bool = False,
        on_step: Callable[[Step], None] | None = None,
        **settings: Any,
    ) -> list[Any]:
        """n raw objects by run(denoiser, plan, ...) batch by batch, each with its share of rows."""
        if n < 1 or batch < 1:
            raise SuffuseError(
                f"sampling makes 1 or more, in batches of 1 or more; given {n}, {batch}"
            )
        values = {name: repeated(name, value, n) for name, value in conditions.items()}
        values = drawn(values, self.conditions, Noise(seed, n, first=first))
        null = self._without(values, negative or {}, n) | dict(null or {})
        prepared = self.prepare(values, n)
        denoise = self._guided(guidance, guidance_by, null, plan)
        shape = self.shape
        if size is not None or circular:
            shape, denoise = self._large(denoise, size, circular, batch)
        noise = Noise(seed, n, first=first, device=self.device)
        made: list[Any] = []
        with torch.inference_mode(), self.network.remembering():
            for part in batches(n, batch):
                given: dict[str, Any] = {name: value[part] for name, value in prepared.items()}
                for name, value in rows.items():
                    if value is not None:
                        given[name] = by_name(lambda x: x[part].to(self.device), value)  # noqa: B023
                own = self._sizes(None if sizes is None else sizes[part], noise[part])
                if own is not None:
                    given["mask"] = self.mask(own)
                if on_step is not None:
                    given["on_step"] = lambda step: on_step(dataclasses.replace(step, sizes=own))  # noqa: B023
                state = run(
                    denoise,
                    plan,
                    noise=noise[part],
                    shape=shape,
                    process=self.process,
                    **settings,
                    **given,
                )
                made += self.decode(state, own)
        return made

    def _without(
        self, values: dict[str, Any], negative: Mapping[str, Any], n: int
    ) -> dict[str, Any]:
        """Has the values keep away from the negative ones; what is left to guidance."""
        left = dict(negative)
        for name, conditioner in self.network.conditioners.items():
            without = getattr(conditioner, "without", None)
            if without is not None and left.get(name) is not None:
                found = [without(v, left[name]) for v in values.get(name, [None] * n)]
                values[name], left[name] = [v for v, _ in found], found[0][1]
        return {name: value for name, value in left.items() if value is not None}

    def _large(
        self, denoise: Denoiser, size: Sequence[int] | None, circular: bool, batch: int
    ) -> tuple[Shape, Denoiser]:
        """The shape of states of another size, and a denoiser of them."""
        own = self.shape
        if not isinstance(own, tuple) or isinstance(self.encoder, RaggedEncoder):
            raise SuffuseError("a size of its own is for models whose states are tensors of one")
        size = own[1:] if size is None else tuple(size)
        if len(size) != len(own) - 1 or any(a < b for a, b in zip(size, own[1:], strict=True)):
            raise SuffuseError(
                f"size is at least the model's, {' x '.join(map(str, own[1:]))}; given "
                f"{' x '.join(map(str, size))}"
            )
        return (own[0], *size), windowed(denoise, own[1:], circular=circular, batch=batch)

    def _guided(
        self,
        weight: float | None,
        by: Guidance | None,
        null: Mapping[str, Any] | None = None,
        plan: Any = None,
    ) -> Denoiser:
        """The denoiser with its guidance, the recipe's where None."""
        usual = self.recipe.sampling
        return self.denoiser(
            usual.guidance if weight is None else weight,
            null,
            by=usual.guidance_by if by is None else by,
            plan=plan,
        )

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
