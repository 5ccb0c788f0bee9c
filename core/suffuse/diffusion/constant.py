"""Tensors of the mathematics that are wanted on every device."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Constant"]


class Constant:
    """A tensor that is sent to each device once, so that loops on a GPU need not wait for the host.

    >>> Constant(torch.ones(2)).on(torch.device("cpu"))
    tensor([1., 1.])
    """

    def __init__(self, value: Tensor) -> None:
        self._on = {value.device: value}
        self._first = value

    def on(self, device: torch.device) -> Tensor:
        """The tensor on a device."""
        found = self._on.get(device)
        if found is None:
            with torch.inference_mode(False):
                found = self._first.to(device)
            if type(found) is Tensor:  # and not a fake one
                self._on[device] = found
        return found
