"""Which kernels run: the Triton versions on a GPU, the references everywhere else."""

from __future__ import annotations

import functools
import importlib.util
import logging
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["aligned", "fused"]

logger = logging.getLogger(__name__)

HALVES = (torch.float32, torch.bfloat16, torch.float16)

LARGEST = 2**31
"""Elements of a sample from which places within it no longer fit into 32 bits."""


@functools.cache
def _triton(device: str) -> bool:
    """Whether Triton is there for this kind of device; says so once where it is not."""
    found = importlib.util.find_spec("triton") is not None
    if not found:
        logger.warning("Triton is not installed: on %s the plain kernels are used", device)
    return found


@functools.cache
def _unsupported(kernel: str, why: str) -> None:
    logger.warning("%s: the plain kernel is used, since %s", kernel, why)


def fused(kernel: str, *tensors: Tensor | None, fits: bool = True, why: str = "") -> bool:
    """Whether the Triton version of a kernel can take these tensors.

    Args:
        kernel: its name, for the one warning where it cannot though there is a GPU.
        tensors: all that it reads; contiguous, on one device.
        fits: whatever else it asks for, and why it is missing.
    """
    first = tensors[0]
    assert first is not None
    if first.device.type not in ("cuda", "xpu") or not _triton(first.device.type):
        return False
    for x in tensors:
        if x is not None and x.is_floating_point() and x.dtype not in HALVES:
            fits, why = False, f"it computes in 32 bits, and a tensor is {x.dtype}"
        if x is not None and math.prod(x.shape[1:]) >= LARGEST:
            fits, why = False, "a sample has 2^31 elements or more"
    if not fits:
        _unsupported(kernel, why)
    return fits


LAYOUTS: tuple[Callable[[Tensor], bool], ...] = (
    lambda x: x.is_contiguous(),
    lambda x: x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last),
    lambda x: x.ndim == 5 and x.is_contiguous(memory_format=torch.channels_last_3d),
)


def aligned(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors in one dense layout: as they are if they share it, else contiguous."""
    if any(all(map(laid, tensors)) for laid in LAYOUTS):
        return list(tensors)
    return [x.contiguous() for x in tensors]
