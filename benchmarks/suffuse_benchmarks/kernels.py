"""The kernels: time against the memory's own speed, against plain expressions, and their code.

On a GPU the Triton versions run, on a CPU the references; the subjects beside them are the same,
and on a GPU torch.compile, too. Peers are torch's own kernels and, where diffusers is installed,
the step of its scheduler.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch.nn.functional import group_norm, layer_norm, silu

from suffuse.bench import Context, Result, interleaved, median
from suffuse.diffusion import Noise
from suffuse.kernels import guided_step, plan_step
from suffuse.kernels.ada_norm import ada_norm
from suffuse.kernels.categorical_step import categorical_step
from suffuse.kernels.norm_silu import norm_silu
from suffuse.kernels.plan_step import Fresh
from suffuse.plugins.contracts import Metric
from suffuse_benchmarks.peers import diffusers_schedulers

__all__ = ["Compiled", "Speed", "suite"]

Subjects = dict[str, Callable[[], object]]

WEIGHTS = (0.5, -1.2, 0.3, 0.2)
RESULTS = {"guided_step": 2, "ada_norm": 2}
"""How many tensors a kernel returns, where that is not one."""


@dataclass(frozen=True)
class Speed:
    """A kernel, the obvious expression of the same, and copies that move as many bytes.

    The bound of bytes is the time of one copy to memory that lies ready, times the bytes that the
    operation cannot avoid over the bytes of the copy. A system may take far longer to hand out new
    memory than to write to it, so that the other bound has as many copies make their memory as the
    operation makes results. All are called in turns.
    """

    task: str
    model: str
    seed: int
    shape: tuple[int, ...]
    device: str
    dtype: str = "float32"
    seconds: float = 4.0
    peer: bool = False
    measures: ClassVar = ("suffuse.kernels", "suffuse_benchmarks.peers", "diffusers")

    def run(self, context: Context) -> Result:
        """Medians over interleaved rounds, and the medians of ratios within a round."""
        subjects, moved, *rest = getattr(self, f"_{self.model}")()
        prepare: Subjects = rest[0] if rest else {}
        x = self._made()
        ready = torch.empty_like(x)
        subjects["one copy"] = lambda: ready.copy_(x)
        subjects["one copy, new memory"] = x.clone
        if self.device != "cpu":
            subjects = {name: self._synchronised(subject) for name, subject in subjects.items()}
            prepare = {name: self._synchronised(before) for name, before in prepare.items()}
        metrics, rounds = interleaved(subjects, prepare=prepare, seconds=self.seconds)
        every = {name: np.array(times) for name, times in rounds.items()}
        kernel, copy, new = (
            every.pop(name) for name in ("suffuse", "one copy", "one copy, new memory")
        )
        metrics.append(median("suffuse / bound of bytes", kernel / (copy * moved / 2)))
        results = RESULTS.get(self.model, 1)
        bound = new * results + copy * (moved / 2 - results)
        metrics.append(median("suffuse / bound with new memory", kernel / bound))
        for name, times in every.items():
            metrics.append(median(f"{name} / suffuse", times / kernel))
        size = x.numel() * x.element_size()
        speed = 2 * size / (float(np.median(copy)) * 1e-6) / 1e9
        detail = {"bytes over one tensor": moved, "copy, GB/s": speed, "device": _name(self.device)}
        return Result(metrics, detail)

    def _made(self, *shape: int) -> torch.Tensor:
        kind = getattr(torch, self.dtype)
        return torch.randn(*(shape or self.shape)).to(self.device, kind)

    def _synchronised(self, subject: Callable[[], object]) -> Callable[[], object]:
        def waited() -> None:
            subject()
            torch.accelerator.synchronize()

        return waited

    def _plan_step(self) -> tuple[Subjects, float]:
        x = [self._made() for _ in WEIGHTS]
        a, b, c, d = WEIGHTS

        def plain() -> torch.Tensor:
            return a * x[0] + b * x[1] + c * x[2] + d * x[3]

        return {"suffuse": lambda: plan_step(x, WEIGHTS), "plain": plain, **self._fast(plain)}, 5

    def _scheduler_step(self) -> tuple[Subjects, float, Subjects]:
        """A row of DPM-Solver++(2M): the state and two clean estimates; and diffusers' own step."""
        x, d, before = (self._made() for _ in range(3))

        def plain() -> torch.Tensor:
            return 0.5 * x - 1.2 * d + 0.3 * before

        subjects = {"suffuse": lambda: plan_step([x, d, before], WEIGHTS[:3]), "plain": plain}
        subjects |= self._fast(plain)
        if not self.peer:
            return subjects, 4, {}
        made = diffusers_schedulers.scheduler("dpmpp-2m linspace", 20)
        made.register_to_config(prediction_type="sample")

        def begun() -> None:
            made.set_timesteps(20, device=self.device)
            for t in made.timesteps[:2]:  # the third step is the first of full order that repeats
                made.step(before, t, x)

        subjects["diffusers"] = lambda: made.step(d, made.timesteps[2], x)
        return subjects, 4, {"diffusers": begun}

    def _fast(self, plain: Callable[[], object]) -> Subjects:
        """The plain expression by torch.compile, on a GPU."""
        return {} if self.device == "cpu" else {"torch.compile": torch.compile(plain)}

    def _noisy_step(self) -> tuple[Subjects, float]:
        x, noise = [self._made() for _ in range(2)], Noise(0, self.shape[0], device=self.device)
        fresh = Fresh(noise, 3, 1, 0.2)
        return {
            "suffuse": lambda: plan_step(x, WEIGHTS[:2], fresh),
            "plain": lambda: 0.5 * x[0] - 1.2 * x[1] + 0.2 * torch.randn_like(x[0]),
            "without noise": lambda: plan_step(x, WEIGHTS[:2]),
        }, 3

    def _guided_step(self) -> tuple[Subjects, float]:
        x, one, two = (self._made() for _ in range(3))

        def plain() -> tuple[torch.Tensor, torch.Tensor]:
            guided = two + 3.0 * (one - two)
            return 0.5 * x + 0.6 * guided, guided

        return {
            "suffuse": lambda: guided_step([x], [0.5], [one, two], [3.0, -2.0], 0.6),
            "plain": plain,
            **self._fast(plain),
        }, 5

    def _norm_silu(self) -> tuple[Subjects, float]:
        x = self._made()
        w, b = (self._made(self.shape[1]) for _ in range(2))

        def peer() -> torch.Tensor:
            return silu(group_norm(x, 8, w, b))

        return {
            "suffuse": lambda: norm_silu(x, 8, w, b),
            "torch's group_norm + silu": peer,
            **self._fast(peer),
        }, 2

    def _ada_norm(self) -> tuple[Subjects, float]:
        batch, width = self.shape[0], self.shape[-1]
        x, h = self._made(), self._made()
        scale, shift, gate = (self._made(batch, 1, width) for _ in range(3))

        def plain() -> tuple[torch.Tensor, torch.Tensor]:
            total = x + gate * h
            return total, layer_norm(total, (width,)) * (1 + scale) + shift

        return {
            "suffuse": lambda: ada_norm(x, scale, shift, h, gate),
            "plain": plain,
            **self._fast(plain),
        }, 4

    def _categorical_step(self) -> tuple[Subjects, float]:
        """Masked tokens, half of which are revealed; beside it the draw by torch.multinomial."""
        logits, values = self._made(), self.shape[-1]
        wide = {"dtype": torch.float64, "device": self.device}
        x_t = torch.randint(values + 1, self.shape[:-1], device=self.device)
        u, m = torch.rand(*self.shape[:-1], **wide), torch.eye(values + 1, **wide)[-1]
        row = (torch.ones((), **wide), torch.full((), 0.5, **wide), torch.zeros((), **wide))
        clean = torch.full((), 0.4, **wide), torch.full((), 0.6, **wide)

        def plain() -> torch.Tensor:
            drawn = torch.multinomial(logits.softmax(-1).flatten(0, -2), 1).reshape(x_t.shape)
            return torch.where((x_t == values) & (u < 0.5), drawn, x_t)

        step = partial(categorical_step, logits, x_t, row, clean, m, u)
        return {"suffuse": step, "plain": plain}, 1


@dataclass(frozen=True)
class Compiled:
    """What the machine code of a Triton kernel asks of a GPU; it is compiled without one."""

    task: str
    model: str
    seed: int
    capability: int
    measures: ClassVar = ("suffuse.kernels.gpu",)

    def run(self, context: Context) -> Result:
        """Registers, spills, shared memory, widths of accesses, bytes over the least."""
        from suffuse.kernels.gpu.compiled import CASES, resources

        case = next(case for case in CASES if case.name == self.model)
        found = resources(case, self.capability)
        figures = {
            "registers": found.registers,
            "spills": found.spills,
            "shared, bytes": found.shared,
            "widest load, bits": found.load,
            "widest store, bits": found.store,
            "passes over memory / least": (case.reads + case.writes) / case.least,
        }
        return Result([Metric(name, v, v, v, "lower", n=1) for name, v in figures.items()])


def _name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else device


def suite(seconds: float = 4.0, with_peers: bool = True) -> Iterator[Speed | Compiled]:
    """Every kernel, on the GPU where there is one and else on the CPU; and its machine code.

    Args:
        seconds: about how long a case of speed takes.
        with_peers: whether diffusers takes part, where it is installed.
    """
    peer = with_peers and importlib.util.find_spec("diffusers") is not None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for dtype in ("float32", "bfloat16") if device == "cuda" else ("float32",):
        for batch in (1, 16):
            for model in ("plan_step", "scheduler_step", "guided_step", "noisy_step"):
                shape = (batch, 4, 512, 512)
                task = f"kernels/{device}, {dtype}, {'x'.join(map(str, shape))}"
                with_peer = peer and model == "scheduler_step"
                yield Speed(task, model, 0, shape, device, dtype, seconds, with_peer)
        for model, shape in (
            ("norm_silu", (16, 64, 32, 32)),
            ("norm_silu", (16, 128, 64, 64)),
            ("ada_norm", (32, 256, 384)),
            ("categorical_step", (64, 1024, 32)),
        ):
            task = f"kernels/{device}, {dtype}, {'x'.join(map(str, shape))}"
            yield Speed(task, model, 0, shape, device, dtype, seconds)
    try:
        from suffuse.kernels.gpu.compiled import CASES
    except ImportError:
        return
    for case in CASES:
        for capability in (80, 90):
            yield Compiled(f"kernels/sm_{capability}", case.name, 0, capability)
