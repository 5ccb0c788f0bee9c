"""`suffuse tune`."""

from __future__ import annotations

import click


@click.command()
@click.argument("model")
@click.option("--calls", type=int, multiple=True, required=True, help="A budget; repeatable.")
@click.option(
    "-n", "n", type=int, default=64, show_default=True, help="Trajectories to learn from."
)
@click.option("--guidance", type=float, help="The weight that samples will have.  [the model's]")
def tune(model: str, calls: tuple[int, ...], n: int, guidance: float | None) -> None:
    """Fit the sampler to MODEL: its times and coefficients, for a number of network calls.

    The plans are kept in the model's directory. Errors are told for starts that were not learned
    from, against 160 calls.

    \b
    suffuse tune runs/a --calls 5 --calls 8
    suffuse sample runs/a --solver tuned --steps 8
    """
    from rich.console import Console
    from rich.table import Table

    import suffuse

    loaded = suffuse.load(model)
    table = Table("calls", "error of the model's own solver", "error of the tuned plan", box=None)
    for budget in calls:
        plan = loaded.tune(budget, n=n, guidance=guidance)
        own = loaded.plan(steps=budget)
        plain = "it adds noise" if own.stochastic else ""
        usual = plain or f"{loaded.solver_error(own, guidance=guidance):.4f}"
        found = loaded.solver_error(plan, guidance=guidance)
        table.add_row(str(budget), usual, f"{found:.4f}")
    Console().print(table)
