"""Which checks there are, by the kind of thing that they are held to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from suffuse.testing import data, edits, entries, files, judging, networks, processes, running

__all__ = ["CATALOGUE", "claim"]

CATALOGUE: Mapping[str, tuple[Callable[[Any, Any], None], ...]] = {
    "plugin": (entries.is_light, entries.is_whole, entries.commands_have_help),
    "any": (entries.loads, entries.has_options, entries.says_what_it_is),
    "dataset": (
        data.has_examples,
        data.ends,
        data.is_the_same_again,
        data.has_two_splits,
    ),
    "encoder": (
        data.has_shape,
        data.comes_back,
        data.tells_apart,
        data.is_standardised,
        data.encodes_each_alone,
        data.needs_no_data,
        data.keeps_sizes,
        data.refuses_strangers,
    ),
    "denoiser": (
        networks.answers_in_shape,
        networks.keeps_samples_apart,
        networks.ignores_padding,
        networks.uses_its_weights,
        networks.learns,
    ),
    "conditioner": (networks.embeds, networks.refuses_values),
    "process": (processes.corrupts, networks.samples_by_seed),
    "schedule": (processes.runs_from_data_to_noise,),
    "solver": (
        processes.makes_plans,
        processes.finds_what_is_certain,
        processes.reaches_its_order,
    ),
    "objective": (running.is_a_loss,),
    "guidance": (processes.leaves_what_agrees,),
    "scorer": (judging.scores,),
    "evaluator": (
        judging.measures,
        judging.is_blind_to_order,
        judging.finds_real_data_at_the_floor,
        judging.refuses_nothing,
    ),
    "edit": (edits.edits_by_seed, edits.refuses_other_objects),
    "benchmark": (judging.yields_cases,),
    "renderer": (files.keeps_files, files.draws_sheets, files.refuses_files),
    "recipe": (
        networks.is_written_and_read,
        networks.samples_by_seed,
        networks.is_kept,
        networks.refuses_conditions,
    ),
    "model": (networks.is_shipped,),
    "tracker": (running.takes_figures,),
    "launcher": (running.runs_commands,),
}
"""The checks of each kind; "plugin" is the plugin itself, "any" everything that it registers."""


def claim(function: Callable[[Any, Any], None]) -> str:
    """What a check holds a thing to: the first paragraph of its docstring, on one line."""
    return " ".join((function.__doc__ or "").strip().split("\n\n")[0].split())
