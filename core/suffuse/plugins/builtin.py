"""What the core itself offers: the bare names. Nothing is imported until it is used."""

from __future__ import annotations

from collections.abc import Mapping

from suffuse.plugins.hookspecs import Register, hookimpl

__all__ = ["SCHEDULES", "SOLVERS"]

suffuse_api = 1

SCHEDULES = {
    "bridge-exponential": "for bridges: diffusion that grows exponentially",
    "bridge-gmax": "for bridges: diffusion that grows linearly",
    "cosine": "cosine; may be shifted",
    "discrete": "the table of a pretrained discrete model",
    "edm": "variance exploding, Karras's spacing",
    "flow": "straight paths; may be shifted",
    "geometric": "variance exploding, geometric",
    "inverse-cosine": "cosine mirrored",
    "linear-beta": "linear β, as in DDPM",
    "scaled-linear": "linear √β, as in latent diffusion",
    "sigmoid": "sigmoid",
    "zero-terminal": "scaled-linear, ending in pure noise",
}
"""The schedules of the core, each with its summary."""

SOLVERS = {
    "adams": "the default: exponential predictor and corrector whose order follows the steps",
    "ancestral": "tokens: the exact posterior",
    "bridge": "bridges: from a given state to the data",
    "ddim": "first order; noise by eta",
    "ddpm": "ancestral sampling",
    "deis": "exponential integrator, polynomial in t",
    "dpm-2s": "DPM-Solver-2: second order on the noise",
    "dpm-3s": "DPM-Solver-3: third order on the noise",
    "dpmpp-2m": "DPM-Solver++ 2M, as published",
    "dpmpp-2m-sde": "DPM-Solver++ 2M for the stochastic equation",
    "dpmpp-2s": "DPM-Solver++ 2S: second order, two calls a step",
    "dpmpp-3m": "DPM-Solver++ 3M, of true third order",
    "dpmpp-3m-sde": "DPM-Solver++ 3M for the stochastic equation",
    "er-sde": "ER-SDE: noise that fades with the level",
    "euler": "Euler's method in σ/α, which is DDIM",
    "euler-ancestral": "Euler's method with fresh noise by eta",
    "flow-euler": "Euler's method on the straight path's velocity",
    "flow-midpoint": "the midpoint method on the straight path's velocity",
    "flow-rk4": "Runge-Kutta on the straight path's velocity",
    "heun": "Heun's method in σ/α, with churn",
    "ipndm": "iPNDM: Adams-Bashforth for equal steps",
    "lcm": "consistency sampling: jump to clean data, noise afresh",
    "lms": "linear multistep in σ/α",
    "multistep": "exponential Adams-Bashforth of any order",
    "pndm": "PNDM: Runge-Kutta, then Adams-Bashforth",
    "remask": "tokens: ones that are settled may be drawn anew",
    "renoise": "any process: draw the clean state, corrupt it afresh",
    "restart": "Heun's method that goes back and repeats",
    "reveal": "tokens: the least random",
    "sa": "SA-Solver: stochastic Adams, predictor and corrector",
    "tau-leaping": "tokens: jumps at the reversed process's rates",
    "unipc": "UniPC: predictor and corrector of one order",
}
"""The solvers of the core, each with its summary."""


def _register_all(register: Register, module: str, summaries: Mapping[str, str]) -> None:
    for name, summary in summaries.items():
        register(name, f"{module}:{name.replace('-', '_')}", summary=summary)


@hookimpl
def register_schedules(register: Register) -> None:
    _register_all(register, "suffuse.diffusion.schedules", SCHEDULES)


@hookimpl
def register_solvers(register: Register) -> None:
    _register_all(register, "suffuse.diffusion.solvers", SOLVERS)


@hookimpl
def register_processes(register: Register) -> None:
    for name, module, summary in (
        ("gaussian", "process", "Gaussian noise"),
        ("categorical", "categorical", "tokens that are forgotten one by one"),
        ("bridge", "bridge", "between data and a state that is given as a condition"),
    ):
        register(name, f"suffuse.diffusion.{module}:{name}", summary=summary)


@hookimpl
def register_guidance(register: Register) -> None:
    summaries = {
        "apg": "without the part that over-saturates: adaptive projected guidance",
        "cfg-plus-plus": "renoised with the unconditional noise; the weight is from 0 to 1",
        "cfg-zero-star": "the unconditional velocity scaled to fit, and a still start",
        "classifier-free": "away from the unconditional estimate; may be for an interval of times",
        "clip": "after the others: the estimate held within the data's range",
        "dynamic-threshold": "after the others: clipped at each sample's own percentile",
        "rescale": "after the others: with the deviation of the plain estimate",
    }
    register(
        "autoguidance",
        "suffuse.model.guiding:autoguidance",
        summary="away from a worse version of the model, which is named",
    )
    _register_all(register, "suffuse.diffusion.guidance", summaries)


@hookimpl
def register_conditioners(register: Register) -> None:
    register("label", "suffuse.nn.conditioning:Label", summary="one of a list of names")
    register("number", "suffuse.nn.conditioning:Number", summary="a number, or none")
    register("state", "suffuse.nn.conditioning:StateCondition", summary="an object to go by")


@hookimpl
def register_scorers(register: Register) -> None:
    for name, target, summary in (
        ("curvature", "Curvature", "how the path to noise bends"),
        ("diffusion-time", "DiffusionTime", "the noise level that the datum looks like"),
        ("likelihood", "NegativeLogLikelihood", "by the probability flow"),
        ("reconstruction", "Reconstruction", "the error after noise was added"),
        ("score-norm", "ScoreNorm", "the squared score at several levels"),
    ):
        register(name, f"suffuse.diffusion.scores:{target}", summary=summary)


@hookimpl
def register_launchers(register: Register) -> None:
    register("processes", "suffuse.bench.launching:Processes", summary="processes of this machine")


@hookimpl
def register_objectives(register: Register) -> None:
    summaries = {
        "consistency": "one step from anywhere: neighbouring times agree",
        "continuous": "the same in continuous time",
        "progressive": "one step does what two of the teacher do",
        "reflow": "straight paths between noise and what the teacher makes of it",
    }
    _register_all(register, "suffuse.diffusion.distillation", summaries)


@hookimpl
def register_trackers(register: Register) -> None:
    for name in ("tensorboard", "trackio", "wandb", "mlflow"):
        register(name, f"suffuse.training.trackers:{name}", summary=f"{name}, installed apart")
