"""A denoiser's network with the conditioners that feed it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from suffuse.diffusion.process import State

__all__ = ["Network"]


class Network(nn.Module):
    """A denoiser's network with the conditioners that feed it."""

    def __init__(self, backbone: nn.Module, conditioners: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.backbone = backbone
        self.conditioners = nn.ModuleDict(dict(conditioners))
        self._remembers = False
        self._last: tuple[Mapping[str, Tensor], dict[str, Any]] | None = None

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Within, conditions that come again, as in each step of a sample, are not embedded again.

        Weights must not change meanwhile. On a CPU alone: elsewhere to compare costs more.
        """
        self._remembers = True
        try:
            yield
        finally:
            self._remembers, self._last = False, None

    def forward(
        self, x: State, level: Any, *, mask: State | None = None, **conditions: Tensor
    ) -> Any:
        """The raw prediction for states x [B, *shape] at noise levels [B], of the shape of x.

        Conditions are prepared values (`Model.prepare`), one row a sample.
        """
        given = self._remembered(conditions)
        if mask is not None:
            given["mask"] = mask
        return self.backbone(x, level, **given)

    def _remembered(self, conditions: Mapping[str, Tensor]) -> dict[str, Any]:
        if (
            not self._remembers
            or torch.compiler.is_compiling()
            or any(value.device.type != "cpu" for value in conditions.values())
        ):
            return self.slots(conditions)
        if self._last is None or not all(
            torch.equal(value, self._last[0][name]) for name, value in conditions.items()
        ):
            self._last = conditions, self.slots(conditions)
        return dict(self._last[1])

    def slots(self, conditions: Mapping[str, Tensor]) -> dict[str, Any]:
        """What the backbone is given for prepared conditions, by the names of its arguments.

        What several conditions bring for "vector" is summed, and what they bring for another slot
        stands side by side.
        """
        given: dict[str, Any] = {}
        for name, embed in self.conditioners.items():
            answer = embed(conditions[name])
            for slot, value in (
                answer if isinstance(answer, Mapping) else {"vector": answer}
            ).items():
                if slot not in given:
                    given[slot] = value
                elif slot == "vector":
                    given[slot] = given[slot] + value
                else:
                    given[slot] = torch.cat([given[slot], value], dim=1)
        return given
