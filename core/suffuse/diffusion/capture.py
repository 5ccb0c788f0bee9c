"""A sampling loop that is recorded once and replayed with new states, seeds and conditions.

Small networks leave a GPU waiting for the host, which starts each of their kernels by itself. On
CUDA the whole loop, all rows with denoiser, guidance, noise and step, becomes one graph, which the
host starts at once. On other devices the loop runs again, with the same answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from suffuse.diffusion.noise import Noise
from suffuse.diffusion.plan import JointPlan, Plan
from suffuse.diffusion.process import Denoiser, Process, State, by_name, masked
from suffuse.diffusion.sampling import drawn, first_tensor, prepared, sample
from suffuse.errors import SuffuseError

__all__ = ["Captured"]

logger = logging.getLogger(__name__)

WARM_UP = 3
"""Runs before the recording, in which kernels are compiled and tables are sent to the device."""


class Captured:
    """A sampling loop of fixed sizes, recorded.

    Args:
        denoiser, plan, x, noise, shape, process, mask, project, compiled, conditions: as for
            `sample`. Tensors among them may be replaced in calls, by others of the same shape.

    A denoiser can be recorded where it asks the device for no value and reads no tensor of the
    host. Where it cannot, a warning says so, and the loop runs row by row.

    >>> from suffuse.diffusion import oracle, schedules, solvers
    >>> exact = oracle.Gaussian(mean=torch.zeros(2), covariance=torch.eye(2))
    >>> plan = solvers.plan("ddim", schedules.cosine(), steps=5)
    >>> loop = Captured(exact.denoiser(plan.schedule), plan, noise=Noise(0, 3), shape=(2,))
    >>> bool((loop(noise=Noise(1, 3)) == loop(noise=Noise(2, 3))).any())
    False
    """

    def __init__(
        self,
        denoiser: Denoiser,
        plan: Plan | Mapping[str, Plan],
        *,
        x: State | None = None,
        noise: Noise | None = None,
        shape: Any = None,
        process: Process | None = None,
        mask: State | None = None,
        **conditions: Any,
    ) -> None:
        for name in ("on_step", "start", "registers"):
            if name in conditions:
                raise SuffuseError(f"a recorded loop runs as a whole: leave {name} out")
        self._denoiser, self._plan, self._process = denoiser, plan, process
        self._table = plan if isinstance(plan, Plan) else JointPlan(plan)
        with torch.inference_mode(False):
            self._inputs = {name: _own(value) for name, value in conditions.items()}
            if mask is not None:
                self._inputs["mask"] = _own(mask)
            self._noise = None if noise is None else noise.clone()
            self._x = _own(self._drawn(x, shape))
            self._shape = by_name(lambda v: v.shape[1:], self._x)
            self._replay = record(self._run, first_tensor(self._x).device)

    def __call__(
        self, *, x: State | None = None, noise: Noise | None = None, **inputs: Any
    ) -> State:
        """x_0, [B, ...]. What is left out stays as it was; new noise alone draws a new beginning.

        Args:
            x: the state at the plan's first time.
            noise: one source a sample.
            inputs: the mask and conditions, by name.

        Raises:
            SuffuseError: for inputs that the loop was not recorded with, or of other shapes.
        """
        with torch.inference_mode(False), torch.no_grad():
            for name, value in inputs.items():
                if name not in self._inputs:
                    raise SuffuseError(
                        f"the loop was recorded without {name!r}; it takes "
                        f"{', '.join(['x', 'noise', *self._inputs])}"
                    )
                _put(name, self._inputs[name], value)
            if noise is not None:
                if self._noise is None or noise.stream(0) != self._noise.stream(0):
                    raise SuffuseError("the loop was recorded with other noise, or with none")
                _put("noise", self._noise.words, noise.words)
            if x is not None or noise is not None:
                _put("x", self._x, self._drawn(x, self._shape))
            return by_name(torch.clone, self._replay())

    def _drawn(self, x: State | None, shape: Any) -> State:
        process = prepared(self._table, self._process, self._noise, self._inputs)
        drawing = drawn(self._table, process, x, self._noise, shape)
        return masked(drawing, self._inputs.get("mask"))

    def _run(self) -> State:
        with torch.no_grad():
            return sample(
                self._denoiser, self._plan, x=self._x, noise=self._noise, process=self._process,
                **self._inputs,
            )  # fmt: skip


def recording() -> Callable[..., State]:
    """A function like `sample`, whose loop is recorded for each set of sizes that it meets.

    For batch after batch of one denoiser and one plan.
    """
    loops: dict[Any, Captured] = {}

    def run(
        denoiser: Denoiser,
        plan: Plan | Mapping[str, Plan],
        *,
        x: State | None = None,
        noise: Noise | None = None,
        shape: Any = None,
        process: Process | None = None,
        **inputs: Any,
    ) -> State:
        sizes = _sizes({"x": x, "noise": None if noise is None else noise.words, **inputs})
        if sizes not in loops:
            loops[sizes] = Captured(
                denoiser, plan, x=x, noise=noise, shape=shape, process=process, **inputs
            )
        return loops[sizes](x=x, noise=noise, **inputs)

    return run


def _sizes(value: Any) -> Any:
    """Names and shapes of the tensors of nested mappings, hashable."""
    if isinstance(value, Mapping):
        return tuple((name, _sizes(part)) for name, part in value.items())
    return value.shape if isinstance(value, Tensor) else None


def record(run: Callable[[], State], device: torch.device) -> Callable[[], State]:
    """What answers as `run` does, from the same tensors into the same tensors: a graph on CUDA."""
    if device.type != "cuda":
        return run
    with torch.cuda.device(device):  # a graph is recorded on the present device
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                run()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                out = run()
        except RuntimeError as error:
            logger.warning("the loop cannot be recorded and runs row by row: %s", error)
            return run

    def replay() -> State:
        graph.replay()
        return out

    return replay


def _own(value: Any) -> Any:
    """A copy of a tensor, or of a mapping's tensors, that later values are written to."""
    return by_name(lambda v: v.detach().clone() if isinstance(v, Tensor) else v, value)


def _put(name: str, kept: Any, value: Any) -> None:
    if isinstance(kept, Mapping):
        for part in kept:
            _put(f"{name} {part!r}", kept[part], value[part])
    elif not isinstance(kept, Tensor):
        if kept is not value and kept != value:
            raise SuffuseError(f"{name} is no tensor and stays what it was recorded with, {kept!r}")
    elif not isinstance(value, Tensor) or kept.shape != value.shape:
        given = list(value.shape) if isinstance(value, Tensor) else value
        raise SuffuseError(
            f"the loop was recorded with {name} of shape {list(kept.shape)}; {given} was given"
        )
    else:
        kept.copy_(value)
