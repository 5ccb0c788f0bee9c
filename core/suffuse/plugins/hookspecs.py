"""The hooks that a plugin may implement.

A plugin is a module, named by an entry point of the group ``suffuse.plugins``, that states the
number of the plugin API it was written for and implements some of the hooks below::

    # pyproject.toml
    [project.entry-points."suffuse.plugins"]
    toy = "suffuse_toy.plugin"

    # suffuse_toy/plugin.py
    from suffuse.plugins import hookimpl

    suffuse_api = 1

    @hookimpl
    def register_datasets(register):
        register("toy/spiral", "suffuse_toy.data:Spiral", summary="points on two spirals")

A ``register_`` hook runs when the plugin is loaded, which every command does, so its targets are
``"module:attribute"`` strings and its module imports nothing heavy: a target is imported when it is
first used. All other hooks are calls at moments of a run's life; one that raises is reported and
the run goes on. A hook implementation takes all or some of the arguments named here, without
default values.

**Names** are ``namespace/name``, in lower-case letters, digits and ``-``; a name may have ``.`` and
``_`` too. The name of a plugin's entry point is the namespace that its distribution declares. A
namespace belongs to the distribution ``suffuse-NAMESPACE``, else to the first, by name, that
declares it. Names without a namespace are the core's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pluggy

if TYPE_CHECKING:
    import click

__all__ = ["API_VERSION", "Hooks", "Register", "hookimpl", "hookspec"]

API_VERSION = 1
"""The plugin API of this core: what a plugin states as ``suffuse_api``."""

hookspec = pluggy.HookspecMarker("suffuse")
"""Marks a method of `Hooks` as a hook."""
hookimpl = pluggy.HookimplMarker("suffuse")
"""Marks a function of a plugin as the implementation of the hook of its name."""


class Register(Protocol):
    """What a ``register_`` hook is given."""

    def __call__(
        self,
        name: str,
        target: object,
        *,
        config: object = None,
        extra: str | None = None,
        summary: str = "",
    ) -> None:
        """Offer one thing by name.

        Args:
            name: ``namespace/name``.
            target: what makes the thing: a callable, or better ``"module:attribute"``, which is
                imported at first use. For recipes and models: the path of a file or folder.
            config: a pydantic model of the target's options, or where it is to be found. Without
                it the options are the target's parameters, by their annotations and defaults.
            extra: the extra of the distribution that the target needs; named to a reader for whom
                its import fails (``pip install 'suffuse-toy[extra]'``).
            summary: one line for listings.
        """


class Hooks:
    """The specification of every hook."""

    # What a plugin brings

    @hookspec
    def register_datasets(self, register: Register) -> None:
        """Data: ``target(split="train" or "test", **options)`` is a `contracts.Dataset`.

        >>> @hookimpl
        ... def register_datasets(register):
        ...     register("toy/spiral", "suffuse_toy.data:Spiral")
        >>> register_datasets(print)
        toy/spiral suffuse_toy.data:Spiral
        """

    @hookspec
    def register_encoders(self, register: Register) -> None:
        """Raw objects to tensors and back: ``target(**options)`` is a `contracts.Encoder`.

        >>> @hookimpl
        ... def register_encoders(register):
        ...     register("toy/points", "suffuse_toy.encoder:Points")
        >>> register_encoders(print)
        toy/points suffuse_toy.encoder:Points
        """

    @hookspec
    def register_denoisers(self, register: Register) -> None:
        """Networks: ``target(shape=shape, **options)`` is a torch module.

        Its ``forward(x, level, **given)`` takes states [B, *shape] and noise levels [B] (or
        [B, *extra axes]), and answers with [B, *shape] (for tokens with logits [B, *shape, K]; for
        mappings with a mapping). `given` holds what the model's conditions make and no more:
        ``vector`` [B, width], ``tokens`` and ``token_mask``, ``concat``; and ``mask`` where states
        are ragged. The attribute ``width`` is the width of the vector. A target with the parameter
        ``encoder`` is given the model's. A method ``begin()``, where there is one, is called once
        as training begins with new weights, and never for weights that are loaded.

        >>> @hookimpl
        ... def register_denoisers(register):
        ...     register("toy/mlp", "suffuse_toy.denoiser:MLP")
        >>> register_denoisers(print)
        toy/mlp suffuse_toy.denoiser:MLP
        """

    @hookspec
    def register_processes(self, register: Register) -> None:
        """What corruption is: ``target(schedule, **options)`` is a `suffuse.diffusion.Process`.

        A target with the parameter ``encoder`` is given the model's, for what it measured of the
        data.

        >>> @hookimpl
        ... def register_processes(register):
        ...     register("toy/torus", "suffuse_toy.process:torus")
        >>> register_processes(print)
        toy/torus suffuse_toy.process:torus
        """

    @hookspec
    def register_schedules(self, register: Register) -> None:
        """How noise grows with time: ``target(**options)`` is a `suffuse.diffusion.Schedule`.

        >>> @hookimpl
        ... def register_schedules(register):
        ...     register("toy/steep", "suffuse_toy.schedules:steep")
        >>> register_schedules(print)
        toy/steep suffuse_toy.schedules:steep
        """

    @hookspec
    def register_solvers(self, register: Register) -> None:
        """Solvers: ``target(schedule, grid, **options)`` is a `suffuse.diffusion.Plan`.

        >>> @hookimpl
        ... def register_solvers(register):
        ...     register("toy/midpoint", "suffuse_toy.solvers:midpoint")
        >>> register_solvers(print)
        toy/midpoint suffuse_toy.solvers:midpoint
        """

    @hookspec
    def register_guidance(self, register: Register) -> None:
        """Guidance: ``target(denoiser, weight, null, **options)`` is another denoiser.

        ``null`` holds the prepared conditions of the estimate to lead away from. A target without
        ``weight`` changes a denoiser that is guided already, and may take ``plain``, the one that
        is not. Those that name them are given ``schedule``, ``plan``, the ``encoder`` and the
        ``conditioners`` by name, too.

        >>> @hookimpl
        ... def register_guidance(register):
        ...     register("toy/inward", "suffuse_toy.guidance:inward")
        >>> register_guidance(print)
        toy/inward suffuse_toy.guidance:inward
        """

    @hookspec
    def register_objectives(self, register: Register) -> None:
        """What is learned instead of the process's loss: ``target(process, teacher, **options)``.

        It makes a `suffuse.diffusion.distillation.Objective`. The teacher is the denoiser of the
        model that training starts from.

        >>> @hookimpl
        ... def register_objectives(register):
        ...     register("toy/halving", "suffuse_toy.objective:halving")
        >>> register_objectives(print)
        toy/halving suffuse_toy.objective:halving
        """

    @hookspec
    def register_conditioners(self, register: Register) -> None:
        """Embeddings of conditions: ``target(condition=..., width=..., **options)``.

        The target makes a torch module that is a `contracts.Conditioner`. One with the parameter
        ``encoder`` is given the model's.

        >>> @hookimpl
        ... def register_conditioners(register):
        ...     register("toy/angle", "suffuse_toy.conditioner:Angle")
        >>> register_conditioners(print)
        toy/angle suffuse_toy.conditioner:Angle
        """

    @hookspec
    def register_evaluators(self, register: Register) -> None:
        """Figures of quality: ``target(**options)`` is a `contracts.Evaluator`.

        >>> @hookimpl
        ... def register_evaluators(register):
        ...     register("toy/distance", "suffuse_toy.evaluator:Distance")
        >>> register_evaluators(print)
        toy/distance suffuse_toy.evaluator:Distance
        """

    @hookspec
    def register_scorers(self, register: Register) -> None:
        """Scores of how unusual a datum is: ``target(denoiser, **options)``.

        >>> @hookimpl
        ... def register_scorers(register):
        ...     register("toy/radius", "suffuse_toy.scores:radius")
        >>> register_scorers(print)
        toy/radius suffuse_toy.scores:radius
        """

    @hookspec
    def register_renderers(self, register: Register) -> None:
        """Pictures and files of raw objects: ``target(**options)`` is a `contracts.Renderer`.

        >>> @hookimpl
        ... def register_renderers(register):
        ...     register("toy/plot", "suffuse_toy.renderer:Plot")
        >>> register_renderers(print)
        toy/plot suffuse_toy.renderer:Plot
        """

    @hookspec
    def register_edits(self, register: Register) -> None:
        """Edits of existing objects: ``target(model, **options)`` is a callable on raw objects.

        >>> @hookimpl
        ... def register_edits(register):
        ...     register("toy/mirror", "suffuse_toy.edits:mirror")
        >>> register_edits(print)
        toy/mirror suffuse_toy.edits:mirror
        """

    @hookspec
    def register_recipes(self, register: Register) -> None:
        """Recipes: the path of a TOML file.

        >>> @hookimpl
        ... def register_recipes(register):
        ...     register("toy/spiral", Path("recipes") / "spiral.toml")
        >>> register_recipes(lambda name, target: print(name, target.name))
        toy/spiral spiral.toml
        """

    @hookspec
    def register_models(self, register: Register) -> None:
        """Trained models that the plugin ships: the path of a model directory.

        >>> @hookimpl
        ... def register_models(register):
        ...     register("toy/spiral-small", Path("pretrained") / "spiral-small")
        >>> register_models(lambda name, target: print(name, target.name))
        toy/spiral-small spiral-small
        """

    @hookspec
    def register_benchmarks(self, register: Register) -> None:
        """Benchmarks: ``target(**options)`` is a suite: it yields `suffuse.bench.Case`.

        >>> @hookimpl
        ... def register_benchmarks(register):
        ...     register("toy/spirals", "suffuse_toy.benchmark:suite")
        >>> register_benchmarks(print)
        toy/spirals suffuse_toy.benchmark:suite
        """

    @hookspec
    def register_trackers(self, register: Register) -> None:
        """Where the figures of training go: ``target(run=path, recipe=mapping, **options)``.

        It makes a `suffuse.training.trackers.Tracker`; a recipe names it in training.trackers.

        >>> @hookimpl
        ... def register_trackers(register):
        ...     register("toy/csv", "suffuse_toy.tracker:CSV")
        >>> register_trackers(print)
        toy/csv suffuse_toy.tracker:CSV
        """

    @hookspec
    def register_launchers(self, register: Register) -> None:
        """Where the cases of a suite run: ``target(**options)`` is a `contracts.Launcher`.

        >>> @hookimpl
        ... def register_launchers(register):
        ...     register("toy/queue", "suffuse_toy.launcher:Queue")
        >>> register_launchers(print)
        toy/queue suffuse_toy.launcher:Queue
        """

    @hookspec
    def register_commands(self, cli: click.Group) -> None:
        """Commands of the plugin's own, for instance ``suffuse toy count``.

        Only the command line calls this, and it does so for ``suffuse --help`` too, which answers
        in half a second: import click and nothing heavy; what a command needs is imported in its
        body. A command whose name is taken already is left out, and said so.

        >>> import click
        >>> @hookimpl
        ... def register_commands(cli):
        ...     @cli.group()
        ...     def toy():
        ...         "Points in the plane."
        ...     @toy.command()
        ...     def count():
        ...         click.echo("two spirals")
        >>> cli = click.Group()
        >>> register_commands(cli)
        >>> sorted(cli.commands["toy"].commands)
        ['count']
        """

    # A run's life

    @hookspec
    def run_started(self, run: Path, recipe: Mapping[str, Any], step: int) -> None:
        """Training begins, or goes on.

        Args:
            run: the run's directory.
            recipe: the resolved recipe, as in the run's ``config.json``.
            step: the training steps done already: 0, or more where an earlier run goes on.

        >>> @hookimpl
        ... def run_started(recipe, step):
        ...     print("training", recipe["dataset"]["name"], "from step", step)
        >>> run_started({"dataset": {"name": "toy/spiral"}}, 0)
        training toy/spiral from step 0
        """

    @hookspec
    def run_finished(
        self, run: Path, step: int, outcome: Literal["finished", "interrupted", "failed"]
    ) -> None:
        """Training has ended, and the run's directory is complete as far as it goes.

        Args:
            run: the run's directory.
            step: the training steps done.
            outcome: "interrupted" by the reader (Ctrl-C), "failed" by an error, else "finished".

        >>> @hookimpl
        ... def run_finished(step, outcome):
        ...     print(outcome, "at step", step)
        >>> run_finished(2000, "finished")
        finished at step 2000
        """

    @hookspec
    def checkpoint_saved(self, run: Path, checkpoint: Path, step: int) -> None:
        """A checkpoint lies complete on the disk.

        Args:
            run: the run's directory.
            checkpoint: the checkpoint's directory inside it.
            step: the training steps done.

        >>> @hookimpl
        ... def checkpoint_saved(checkpoint):
        ...     print("to be copied:", checkpoint.name)
        >>> checkpoint_saved(Path("run") / "checkpoints" / "00000500")
        to be copied: 00000500
        """

    @hookspec
    def environment_info(self) -> Mapping[str, str] | None:
        """What a report or a bug report says of this machine: names and values.

        >>> @hookimpl
        ... def environment_info():
        ...     return {"toy backend": "abacus"}
        >>> environment_info()
        {'toy backend': 'abacus'}
        """

    @hookspec
    def report_section(self, run: Path) -> tuple[str, str] | None:
        """A section of a run's report: its title and its HTML, or None for no section.

        >>> @hookimpl
        ... def report_section(run):
        ...     return "Points", f"<p>the points of {run.name}</p>"
        >>> report_section(Path("runs") / "a")
        ('Points', '<p>the points of a</p>')
        """

    @hookspec(firstresult=True)
    def resolve_model(self, name: str) -> Path | None:
        """Where the model of this name lies, for names that are neither a path nor registered.

        The first plugin that answers with a directory decides; None leaves it to the others.

        >>> @hookimpl
        ... def resolve_model(name):
        ...     return Path("models") / name.removeprefix("toy:") if name[:4] == "toy:" else None
        >>> resolve_model("toy:spiral").name
        'spiral'
        """

    @hookspec(firstresult=True)
    def open_scorer(self, model: Path) -> Callable[..., str] | None:
        """What scores files by a model of the plugin's own kind, for ``suffuse score``.

        The first plugin that answers decides; None leaves the directory to the others, and at last
        to the core, which knows models of the core's format. The answer is called as
        ``scorer(source, out, explain=False, report=None)``: it writes the scores of what is in the
        file or folder `source` to the file `out`, and a page to `report` where that is a path, and
        returns a sentence that says what it did.

        Args:
            model: a directory.

        >>> @hookimpl
        ... def open_scorer(model):
        ...     return None if model.suffix != ".toy" else "a function"
        >>> open_scorer(Path("runs") / "a.toy")
        'a function'
        """
