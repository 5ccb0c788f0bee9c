"""What this plugin brings. Nothing is imported here until it is used."""

from __future__ import annotations

from pathlib import Path

from suffuse.plugins import Register, hookimpl

suffuse_api = 1
"""The plugin API that this is written for."""


@hookimpl
def register_datasets(register: Register) -> None:
    register("myplugin/waves", "suffuse_myplugin.data:Waves", summary="curves of two frequencies")


@hookimpl
def register_encoders(register: Register) -> None:
    register(
        "myplugin/standard", "suffuse_myplugin.encoder:Standard", summary="standardised values"
    )


@hookimpl
def register_denoisers(register: Register) -> None:
    register(
        "myplugin/convolutions",
        "suffuse_myplugin.denoiser:Convolutions",
        summary="residual convolutions around a circle",
    )


@hookimpl
def register_evaluators(register: Register) -> None:
    register(
        "myplugin/frequency",
        "suffuse_myplugin.evaluator:Frequency",
        summary="how often a curve has the frequency that it was asked for",
    )


@hookimpl
def register_renderers(register: Register) -> None:
    register("myplugin/csv", "suffuse_myplugin.renderer:Csv", summary="CSV files, and plots")


@hookimpl
def register_recipes(register: Register) -> None:
    recipe = Path(__file__).parent / "recipes" / "waves.toml"
    register("myplugin/waves", recipe, summary="curves by speed; trains in a minute on one core")
