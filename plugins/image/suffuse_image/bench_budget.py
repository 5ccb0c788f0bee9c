"""Samples by few network calls: our samplers beside those of diffusers, on the same network.

All begin at the same noise with the same guidance, and none draws more, so that each of them comes
nearer to one and the same picture with more calls: how far it still is from that of 96 calls tells
samplers apart better than KID, which is measured beside it. diffusers takes part where it is
installed; its schedulers know states of preserved variance alone, and are given x / √(1 + σ²).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from suffuse.bench import Context, Result
from suffuse.diffusion import Noise, solvers
from suffuse.diffusion import sample as run_plan
from suffuse.plugins.contracts import Example

from .alignment import Alignment
from .bench_shared import CODE, data, mean, shipped
from .evaluators import KID

__all__ = ["BUDGETS", "Budget", "samplers"]

BUDGETS = (5, 8, 10, 20, 35)
CONVERGED = 96
"""Network calls of the samples that others are held against."""

BATCH = 32
LEVELS, LEAST = 1000, 0.002
"""Of the table that schedulers of diffusers take their noise levels from."""

TUNED = (5, 8, 10)
"""Budgets that a plan is tuned for, on 32 prompts of the training split and other noise."""

PEERS = {
    "diffusers dpmpp-2m": ("DPMSolverMultistepScheduler", {}),
    "diffusers dpmpp-2m karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "diffusers unipc": ("UniPCMultistepScheduler", {}),
    "diffusers unipc karras": ("UniPCMultistepScheduler", {"use_karras_sigmas": True}),
}
"""Without karras, steps are uniform in log σ."""


def samplers(calls: int) -> list[str]:
    """Those that take part: the model's default, its tuned plan, and diffusers'."""
    tuned = ["tuned"] if calls in TUNED else []
    peers = list(PEERS) if find_spec("diffusers") else []
    return ["default", *tuned, *peers]


@dataclass(frozen=True)
class Budget:
    """Samples for held-out prompts, by a sampler and a number of network calls.

    Attributes:
        solver: of `samplers`.
        steps: network calls.
    """

    task: str
    model: str
    seed: int
    solver: str
    steps: int
    n: int = 137
    measures: ClassVar[Sequence[str]] = CODE

    def run(self, context: Context) -> Result:
        """KID on pixels, the own prompt picked among 100, and how far converged samples are."""
        test, train = data(context, "test"), data(context, "train")
        asked = [test[i].conditions for i in range(min(self.n, len(test)))]
        model = shipped(context)
        key = ("converged", self.seed, len(asked))
        end = context.once(key, lambda: self._states(model, asked, "default", CONVERGED))
        x = self._states(model, asked, self.solver, self.steps)
        std = torch.tensor(model.encoder.std)[:, None, None]
        off = (255 * std * (x - end)).square().flatten(1).mean(1).sqrt()
        samples = [Example(m, c) for m, c in zip(model.decode(x), asked, strict=True)]
        metrics = [mean("from converged samples", off.tolist(), "lower", "levels")]
        for judge in (KID("pixels"), Alignment()):
            metrics += judge.evaluate(samples, test=test, train=train, seed=self.seed)
        return Result(metrics)

    def _states(self, model: Any, asked: Sequence[Any], solver: str, steps: int) -> Tensor:
        words = {name: [c[name] for c in asked] for name in model.conditions}
        every = model.prepare(words, len(asked))
        denoise = model.denoiser(model.recipe.sampling.guidance)
        noise = model.process.prior(Noise(self.seed, len(asked)), model.shape)
        plan = None
        if solver not in PEERS:
            plan = _tuned(model, steps) if solver == "tuned" else model.plan(steps=steps)
        found = []
        with torch.inference_mode():
            for i in range(0, len(asked), BATCH):
                x = noise[i : i + BATCH]
                told = {name: value[i : i + BATCH] for name, value in every.items()}
                if plan is None:
                    made = _by_diffusers(denoise, model.schedule, solver, steps, x, told)
                else:
                    made = run_plan(denoise, plan, x=x, **told)
                found.append(made)
        return torch.cat(found)


def _tuned(model: Any, calls: int) -> Any:
    """A plan fitted to training prompts."""
    train = model.dataset("train")
    some = [train[i * len(train) // 32].conditions for i in range(32)]
    words = {name: [c[name] for c in some] for name in model.conditions}
    x = model.process.prior(Noise(2**40, len(some)), model.shape)
    denoise = model.denoiser(model.recipe.sampling.guidance)
    prepared = model.prepare(words, len(some))
    return solvers.tune(denoise, model.schedule, calls=calls, x=x, rounds=2, **prepared)


def _by_diffusers(
    denoise: Any, schedule: Any, name: str, calls: int, x: Tensor, prepared: dict[str, Any]
) -> Tensor:
    """x_0 by a scheduler, from states x = σ_max z of a schedule that explodes in variance."""
    import diffusers  # type: ignore[import-not-found,unused-ignore]

    most = float(schedule.at(1.0).sigma)
    kept = 1 / (1 + np.geomspace(LEAST, most, LEVELS) ** 2)
    betas = 1 - kept / np.concatenate([[1.0], kept[:-1]])
    kind, options = PEERS[name]
    made = getattr(diffusers, kind)(
        num_train_timesteps=LEVELS, trained_betas=betas, prediction_type="sample", **options
    )
    made.set_timesteps(calls)
    y = x / (1 + most**2) ** 0.5
    for i, at in enumerate(made.timesteps):
        sigma = float(made.sigmas[i])
        t = torch.as_tensor(schedule.t(-np.log(sigma)), dtype=torch.float64).expand(len(x))
        d = denoise((1 + sigma**2) ** 0.5 * y, t.clamp(max=1), **prepared)
        y = made.step(d, at, y).prev_sample
    return y
