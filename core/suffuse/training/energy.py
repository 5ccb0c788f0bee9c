"""The energy that this machine's processors and GPUs took, where the hardware counts it.

Processors: the counters of Linux's powercap (RAPL), a package each, which only some may read. GPUs:
NVML's total since the driver was loaded, where pynvml is installed. Both count the whole machine,
whatever else runs on it.
"""

from __future__ import annotations

import importlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

__all__ = ["POWERCAP", "Meter"]

POWERCAP = Path("/sys/class/powercap")


class Meter:
    """Joules since it was made.

    Args:
        device: whose GPUs count, if it is one.
        joules: of earlier sessions; None where they were not counted.
        folder: of the counters.
    """

    def __init__(
        self, device: torch.device, joules: float | None = 0.0, folder: Path = POWERCAP
    ) -> None:
        self._device, self._before, self._folder = device, joules, folder
        self._start = self._read()

    def joules(self) -> float | None:
        """Of all sessions; None where some were not counted, or nothing counts."""
        now = self._read()
        if self._before is None or not now or now.keys() != self._start.keys():
            return None
        taken = 0.0
        for name, (value, wrap) in now.items():
            change = value - self._start[name][0]
            taken += change + wrap if change < 0 else change
        return self._before + taken

    def _read(self) -> dict[str, tuple[float, float]]:
        """Joules by counter, and where each begins anew."""
        found: dict[str, tuple[float, float]] = {}
        with suppress(OSError, ValueError):
            for package in sorted(self._folder.glob("intel-rapl:?")):
                value = int((package / "energy_uj").read_text())
                wrap = int((package / "max_energy_range_uj").read_text())
                found[package.name] = (1e-6 * value, 1e-6 * wrap)
        if self._device.type == "cuda":
            with suppress(Exception):  # whatever a driver answers, training goes on
                nvml: Any = importlib.import_module("pynvml")
                nvml.nvmlInit()
                handle = nvml.nvmlDeviceGetHandleByIndex(self._device.index or 0)
                found["gpu"] = (1e-3 * nvml.nvmlDeviceGetTotalEnergyConsumption(handle), 0.0)
        return found
