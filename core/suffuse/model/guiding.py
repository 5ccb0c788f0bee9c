"""What leads a model's samples: guidance by name, as recipes and commands give it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, cast

from suffuse import plugins
from suffuse.diffusion import guidance
from suffuse.diffusion.process import Denoiser
from suffuse.diffusion.schedules import Schedule
from suffuse.errors import SuffuseError

__all__ = ["Guidance", "autoguidance", "guided"]

Guidance = str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]
"""A registered guidance by name, or with options {"name": ..., ...}; or several, in their order."""


def guided(
    plain: Denoiser,
    weight: float,
    null: Mapping[str, Any],
    by: Guidance,
    schedule: Schedule,
    plan: Any,
    *,
    encoder: Any = None,
    conditioners: Mapping[str, Any] | None = None,
) -> Denoiser:
    """The denoiser, led by the weight and by what is named.

    Args:
        plain: the conditional denoiser.
        weight: of guidance; 1 is none.
        null: what to lead away from, prepared conditions; empty where all are always given.
        by: see `Sampling.guidance_by`.
        schedule: the model's.
        plan: the table that will be walked, or None.
        encoder, conditioners: the model's, for guidance that looks at what an estimate stands for.

    Raises:
        SuffuseError: for an unknown guidance or option, and two that take the weight.
    """
    parts = _parts(by)
    leading = [part["name"] for part in parts if _weighs(part)]
    if len(leading) > 1:
        raise SuffuseError(f"one guidance takes the weight, and both of {leading} would")
    if not leading and weight != 1.0 and null:
        parts = [{"name": "classifier-free"}, *parts]
    denoise = plain
    for part in parts:
        denoise = plugins.build(
            "guidance",
            part,
            denoiser=denoise,
            plain=plain,
            weight=weight,
            null=null,
            schedule=schedule,
            plan=plan,
            encoder=encoder,
            conditioners=conditioners or {},
        )
    return denoise


def _parts(by: Guidance) -> list[dict[str, Any]]:
    several = [by] if isinstance(by, str | Mapping) else by
    return [{"name": part} if isinstance(part, str) else dict(part) for part in several]


def _weighs(part: Mapping[str, Any]) -> bool:
    entry = plugins.get("guidance", plugins.resolve("guidance", part, where="guidance_by")["name"])
    return "weight" in inspect.signature(entry.load()).parameters


def autoguidance(denoiser: Denoiser, weight: float, *, model: str) -> Denoiser:
    """Away from a worse version of the same model.

    Args:
        model: its run or directory: smaller, or trained for less long, with the same conditions.

    Source: Karras et al. (2024), arXiv 2406.02507, eq. 3.
    """
    from suffuse.model.keeping import load

    return guidance.autoguidance(denoiser, cast(Any, load(model)).denoiser(), weight)
