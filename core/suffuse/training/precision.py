"""Whether bf16 pays: measured on this machine, with this model."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from suffuse.diffusion.process import Network, by_name

__all__ = ["GAIN", "SHORT", "Precision", "autocast", "choose", "has_bf16", "seconds"]

Precision = Literal["fp32", "bf16"]

GAIN = 1.15
"""How many times faster bf16 has to be."""

ROUNDS = 3
"""How often each is timed, after it has warmed up."""

SHORT = 0.020
"""Seconds: steps below this are left in fp32, whose exactness is then free."""


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 itself (on CPUs: avx512_bf16, amx_bf16, Arm's bf16)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", flags) is not None


def autocast(network: Network, device: torch.device, precision: Precision) -> Network:
    """The network with its matrix products in `precision`; what it answers keeps the input's dtype.

    torch's own autocast, not accelerate's mixed_precision: that one is a setting of the whole
    process, which refuses a second run with another, and it stays on the network afterwards.
    """
    if precision == "fp32":
        return network

    def widened(answer: Any, x: Any) -> Any:
        return answer.to(x.dtype if x.dtype.is_floating_point else torch.float32)

    def forward(x: Any, level: Any, **conditions: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16):
            return by_name(widened, network(x, level, **conditions), x)

    return forward


def choose(
    step: Callable[[Precision], object], device: torch.device, say: Callable[[str], object]
) -> Precision:
    """fp32 or bf16, by timing a few steps of both where the hardware has bf16.

    Args:
        step: a forward and backward pass in the given precision.
        device: where it runs.
        say: told in one line what was found.
    """
    if not has_bf16(device):
        say("precision: fp32 (this hardware has no bf16)")
        return "fp32"
    plain = min(seconds(step, "fp32", device) for _ in range(ROUNDS))
    if plain < SHORT:
        say(f"precision: fp32 (a step takes {1e3 * plain:.1f} ms: too short for bf16 to matter)")
        return "fp32"
    # In turns, and the best of each: what else the machine does then slows both or neither.
    seconds(step, "bf16", device)
    turns = [[seconds(step, p, device) for p in get_args(Precision)] for _ in range(ROUNDS)]
    plain, half = (min(times) for times in zip(*turns, strict=True))
    chosen: Precision = "bf16" if plain >= GAIN * half else "fp32"
    say(
        f"precision: {chosen} (bf16 measures {plain / half:.2f} times as fast here; "
        f"{GAIN} is asked for)"
    )
    return chosen


def seconds(
    step: Callable[[Precision], object], precision: Precision, device: torch.device
) -> float:
    """How long a step takes in a precision, once."""
    start = time.perf_counter()
    step(precision)
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - start
