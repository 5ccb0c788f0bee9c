"""Benchmarks: cases that are run once, kept as files, reported and compared.

A **suite** is what a plugin registers with the hook ``register_benchmarks``: a function whose
parameters are the suite's options and that yields cases::

    @dataclass(frozen=True)
    class Halving:
        measures = ("suffuse_toy.halving",)  # whose source the case depends on
        task: str
        model: str
        seed: int
        calls: int = 10

        def run(self, context: Context) -> Result:
            error = ...
            return Result([Metric("error", error.value, error.low, error.high, "lower", n=100)])

    def spirals(seeds: int = 1) -> Iterator[Halving]:
        for seed in range(seeds):
            yield Halving("toy/halving", "suffuse", seed)

    # in the plugin's module
    @hookimpl
    def register_benchmarks(register):
        register("toy/spirals", "suffuse_toy.benchmark:spirals", summary="halving, on spirals")

A case is a frozen dataclass whose fields JSON can hold, three of them named task, model and seed,
with a method `run`. `suffuse.bench.case.key` says by what it is known again. A suite may have an
attribute ``summary``, a function (records) -> tables that a report begins with.
"""

from suffuse.bench.case import Case, Context, Record, Result, Table, key
from suffuse.bench.runner import Outcome, load, run
from suffuse.bench.timing import interleaved, median

__all__ = [
    "Case",
    "Context",
    "Outcome",
    "Record",
    "Result",
    "Table",
    "interleaved",
    "key",
    "load",
    "median",
    "run",
]
