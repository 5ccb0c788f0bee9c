"""What the benchmarks bring. Nothing is imported here until it is used."""

from __future__ import annotations

from suffuse.plugins import Register, hookimpl

suffuse_api = 1


@hookimpl
def register_benchmarks(register: Register) -> None:
    register(
        "benchmarks/core",
        "suffuse_benchmarks.suites:core",
        summary="samplers against exact truth and other libraries: accuracy, overhead, size",
    )
    register(
        "benchmarks/quick",
        "suffuse_benchmarks.suites:quick",
        summary="a few minutes of the same",
    )
    register(
        "benchmarks/kernels",
        "suffuse_benchmarks.kernels:suite",
        summary="kernels against the memory's speed and plain expressions; their machine code",
    )
    register(
        "benchmarks/training",
        "suffuse_benchmarks.throughput:suite",
        summary="a training step, and trainings until pictures are good, beside other libraries",
    )
    register(
        "benchmarks/scaling",
        "suffuse_benchmarks.scaling:suite",
        summary="two processes at one training against one: the same losses, and the time",
    )
    register(
        "benchmarks/damage",
        "suffuse_benchmarks.damage:suite",
        summary="trainings that are killed at random and go on, to the bit",
    )
    register(
        "benchmarks/conformance",
        "suffuse_benchmarks.conformance:suite",
        summary="what `suffuse plugins check` takes for each installed plugin: time and memory",
    )


@hookimpl
def register_launchers(register: Register) -> None:
    register(
        "benchmarks/ray",
        "suffuse_benchmarks.cluster:Ray",
        extra="ray",
        summary="a Ray cluster whose machines share the folder",
    )
