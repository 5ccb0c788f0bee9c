"""Schedulers of diffusers, driven step by step as its pipelines do."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from suffuse_benchmarks.peers import BETAS, RATIOS, Estimate, to_ve

__all__ = ["CONFIGURATIONS", "DISTRIBUTION", "sample", "scheduler"]

DISTRIBUTION = "diffusers"


class Configuration(NamedTuple):
    """A scheduler's class and settings.

    Attributes:
        kind: the class, without "Scheduler".
        settings: keywords of its constructor.
        spread: calls to inference steps, "calls" (as many), "pairs" (two calls a step but the last)
            or "one more" (a call more than steps).
        exploding: whether its state is x/α.
    """

    kind: str
    settings: dict[str, Any]
    spread: str = "calls"
    exploding: bool = False


SPACINGS: dict[str, dict[str, Any]] = {
    "linspace": {"timestep_spacing": "linspace"},
    "trailing": {"timestep_spacing": "trailing"},
    "leading": {"timestep_spacing": "leading", "steps_offset": 1},
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
}


def _configurations() -> dict[str, Configuration]:
    out: dict[str, Configuration] = {}

    def add(name: str, kind: str, spacings: str, *, spread: str = "calls", ve: bool = False,
            **settings: Any) -> None:  # fmt: skip
        for spacing in spacings.split():
            chosen = Configuration(kind, {**SPACINGS[spacing], **settings}, spread, ve)
            out[f"{name} {spacing}"] = chosen

    every, smooth = "linspace trailing leading karras exponential", "linspace karras exponential"
    for order in (2, 3):
        add(f"dpmpp-{order}m", "DPMSolverMultistep", every, solver_order=order)
        lu = Configuration("DPMSolverMultistep", {"solver_order": order, "use_lu_lambdas": True})
        out[f"dpmpp-{order}m lu"] = lu
        add(f"unipc-{order}", "UniPCMultistep", every, solver_order=order)
        add(f"deis-{order}", "DEISMultistep", smooth, solver_order=order)
        out[f"dpmpp-{order}s karras"] = Configuration(
            "DPMSolverSinglestep",
            {"solver_order": order, "use_karras_sigmas": True, "lower_order_final": True},
        )
    add("dpmpp-2m-heun", "DPMSolverMultistep", smooth, solver_order=2, solver_type="heun")
    add(
        "dpm-2m",
        "DPMSolverMultistep",
        "karras exponential",
        solver_order=2,
        algorithm_type="dpmsolver",
        final_sigmas_type="sigma_min",
    )
    add("sa-tau0", "SASolver", "trailing leading karras exponential")
    add("euler", "EulerDiscrete", "linspace trailing karras", ve=True)
    add("heun", "HeunDiscrete", smooth, spread="pairs", ve=True)
    add("dpm2", "KDPM2Discrete", "karras", spread="pairs", ve=True)
    add("lms", "LMSDiscrete", smooth, ve=True)
    clean = {"set_alpha_to_one": True}
    add("ddim", "DDIM", "trailing leading", clip_sample=False, **clean)
    add("pndm", "PNDM", "leading trailing", spread="one more", skip_prk_steps=True, **clean)
    return out


CONFIGURATIONS = _configurations()


def scheduler(name: str, steps: int) -> Any:
    """A scheduler of a configuration, with its timesteps set."""
    import diffusers

    chosen = CONFIGURATIONS[name]
    settings = dict(chosen.settings)
    if chosen.kind == "SASolver":
        settings["tau_func"] = lambda t: 0.0
    made = getattr(diffusers, chosen.kind + "Scheduler")(
        num_train_timesteps=BETAS["steps"],
        beta_start=BETAS["beta_start"],
        beta_end=BETAS["beta_end"],
        beta_schedule="scaled_linear",
        **settings,
    )
    made.set_timesteps(steps)
    return made


def steps_of(name: str, calls: int) -> int:
    """How many inference steps a number of calls buys."""
    spread = CONFIGURATIONS[name].spread
    return {"calls": calls, "pairs": (calls + 1) // 2, "one more": calls - 1}[spread]


def sample(name: str, calls: int, estimate: Estimate, x_T: Tensor) -> Tensor:
    """x_0 by a configuration."""
    chosen = CONFIGURATIONS[name]
    made = scheduler(name, steps_of(name, calls))
    x = x_T.double()
    if chosen.exploding:
        x = to_ve(x, float(made.sigmas[0]))
    for i, t in enumerate(made.timesteps):
        if chosen.exploding:
            made.scale_model_input(x, t)  # which finds the step's index
            sigmas = made.sigmas
            if chosen.kind == "KDPM2Discrete" and not made.state_in_first_order:
                sigmas = made.sigmas_interpol
            ratio = float(sigmas[made.step_index])
            noise = (x - estimate(x, ratio)) / ratio
        else:
            tabled = chosen.kind not in ("DDIM", "PNDM")
            ratio = float(made.sigmas[i] if tabled else RATIOS[int(t)])
            y = to_ve(x, ratio)
            noise = (y - estimate(y, ratio)) / ratio
        x = made.step(noise, t, x).prev_sample.double()
    return x
