"""Memory of tensors: kept between steps on the host, and how much it was at most."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

import torch

__all__ = ["keep_freed", "most_used"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed() -> None:
    """Have glibc keep up to half a gigabyte of what is freed, for this process.

    It hands large tensors back to the system and fetches them again in every step, each page of
    them by a fault that fills it with zeros: measured at 4 to 7 % of a step of some 50 MB. Tensors
    of 32 MB and more still go back at once, since gaps of their size would be filled by small ones
    and the process would grow. Elsewhere than on glibc nothing happens.
    """
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
        mallopt(M_TRIM_THRESHOLD, 512 * 2**20)


def most_used(device: torch.device) -> int | None:
    """The most bytes so far: of tensors on a GPU, or of this whole process; None where untold."""
    if device.type != "cpu":
        return int(torch.accelerator.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
