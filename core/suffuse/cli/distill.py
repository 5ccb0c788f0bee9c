"""`suffuse distill`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from suffuse.errors import SuffuseError

if TYPE_CHECKING:
    from suffuse.recipe import Recipe

SAMPLERS = {
    "consistency": {"name": "lcm"},
    "continuous": {"name": "lcm"},
    "progressive": {"name": "ddim"},
    "reflow": {"name": "ddim"},
}
"""How the student of each method is sampled; by "lcm" for those of others."""


FINE = 16
"""Steps in all, of second order, of a teacher that was not distilled."""


@click.command()
@click.argument("model")
@click.option("--method", default="progressive", show_default=True, help="A registered objective.")
@click.option("--calls", type=click.IntRange(min=1), default=4, show_default=True,
              help="Network calls that the student is sampled with.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The run directory.")
@click.option("--steps", type=click.IntRange(min=1), help="Steps of training.  [the model's]")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change the recipe.")
@click.option("--seed", type=int, help="The seed of everything random.")
@click.option("--resume", is_flag=True, help="Go on with the run, or start it.")
def distill(
    model: str,
    method: str,
    calls: int,
    out: Path,
    steps: int | None,
    changes: tuple[str, ...],
    seed: int | None,
    resume: bool,
) -> None:
    """Teach a student to do in a few network calls what MODEL does in many.

    The student begins as a copy of MODEL. The teacher's guidance becomes part of what is learned,
    so the student is sampled without.

    \b
    suffuse distill runs/a --calls 4 --out runs/fast
    suffuse sample runs/fast -n 16 -o out/
    """
    import suffuse
    from suffuse import plugins, training
    from suffuse import recipe as recipes
    from suffuse.recipe import Recipe

    if out.is_file():
        raise SuffuseError(f"--out is a folder for the run, and {str(out)!r} is a file")
    teacher = suffuse.load(model)
    plugins.get("objective", method)
    data: dict[str, Any] = teacher.recipe.model_dump()
    before = few_steps(teacher.recipe)
    data["objective"] = {"name": method}
    if method == "progressive":
        data["objective"] |= {"steps": calls, **taught(calls, before)}
    data["sampling"] |= {"solver": SAMPLERS.get(method, {"name": "lcm"}), "steps": calls}
    data["sampling"] |= {"guidance": 1.0, "guidance_by": []}
    given = data["training"]
    given |= {"start": str(Path(model).resolve()) if Path(model).exists() else model}
    given |= {"condition_dropout": 0.0, "lora": 0}
    if before is None:
        given["learning_rate"] /= 4
    if steps is not None:
        given["steps"] = steps
    if seed is not None:
        given["seed"] = seed
    asked = recipes.changed(Recipe.model_validate(data), recipes.overrides(changes))
    command = shlex.join(["suffuse", *sys.argv[1:]])
    try:
        training.train(asked, out, resume=resume, command=command)
    except training.Interrupted:
        raise SystemExit(130) from None


def few_steps(recipe: Recipe) -> int | None:
    """The steps that a model was distilled to; None where it follows a flow in any number.

    What reflow makes follows a flow too.
    """
    taught = recipe.objective is not None and recipe.objective["name"] != "reflow"
    return recipe.sampling.steps if taught else None


def taught(calls: int, before: int | None) -> dict[str, int]:
    """How many steps the teacher takes for each of the student's.

    Raises:
        SuffuseError: for a teacher whose steps are no multiple of the student's.
    """
    if before is None:
        return {"teacher_steps": max(FINE // calls, 2), "order": 2}
    if before % calls or before == calls:
        raise SuffuseError(
            f"the model was distilled to {before} steps, and teaches only a number of --calls that "
            f"divides them; given {calls}"
        )
    return {"teacher_steps": before // calls, "order": 1}
