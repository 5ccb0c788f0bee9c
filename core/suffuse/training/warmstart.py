"""Training that begins with another model: from its weights, or with it as the teacher."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from suffuse import plugins
from suffuse.errors import SuffuseError
from suffuse.model import Model

__all__ = ["take_over"]


def take_over(model: Model, start: Model, say: Callable[[str], object]) -> Any:
    """Take over the weights of another model; layers that it lacks begin anew.

    Args:
        model: whose network gets the weights.
        start: the other one. Where the recipe has an objective, it is the teacher and has to have
            all of the weights.
        say: told of layers that are new.

    Returns:
        What is to be minimised, called like the process's own loss, which it is without an
        objective.

    Raises:
        SuffuseError: for a network of another layout, and for new layers in training of low rank.
    """
    objective = model.recipe.objective
    theirs = start.network.state_dict()
    mine = model.network.state_dict()
    new = set() if objective is not None else mine.keys() - theirs.keys()
    others = [n for n in {*mine, *theirs} - new if getattr(mine.get(n), "shape", 0)
              != getattr(theirs.get(n), "shape", 1)]  # fmt: skip
    if others:
        raise SuffuseError(
            f"the weights of {model.recipe.training.start!r} (training.start) are of another "
            f"network than this recipe's: {len(others)} of {len(mine)} differ, among them "
            f"{min(others)!r}; take the recipe that it was trained by"
        )
    if new and model.recipe.training.lora:
        raise SuffuseError(
            f"training.lora keeps all weights that there are, and {len(new)} of this recipe's are "
            f"new, among them {min(new)!r}, which would stay as random as they begin; train without"
        )
    model.network.load_state_dict(theirs, strict=not new)
    if new:
        say(f"{len(new)} of {len(mine)} weights are new, among them {min(new)!r}")
    if objective is None:
        return model.process.loss
    teacher = copy.deepcopy(model)
    teacher.network.requires_grad_(False)
    usual = start.recipe.sampling
    guided = teacher.denoiser(usual.guidance, by=usual.guidance_by)
    return plugins.build("objective", objective, process=model.process, teacher=guided)
