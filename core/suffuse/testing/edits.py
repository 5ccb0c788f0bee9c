"""Checks of edits."""

from __future__ import annotations

from typing import Any

from suffuse import plugins
from suffuse.model import Model
from suffuse.plugins import Entry
from suffuse.testing.workbench import Workbench, close, refused

STEPS = 4
"""Rows of the plans that edits walk here."""


def _made(bench: Workbench, entry: Entry) -> tuple[Any, Model]:
    """The edit, and the model that it is of."""
    model = bench.model(entry)
    return plugins.build("edit", bench.options(entry), model=model), model


def edits_by_seed(bench: Workbench, entry: Entry) -> None:
    """Of two objects, under a value of each condition, it makes objects: the same by the seed."""
    edit, model = _made(bench, entry)
    objects, values = bench.objects(entry, 2), bench.values(model, entry, 1)
    given: Any = {name: value[0] for name, value in values.items()}
    made, again = (edit(objects, 1, seed=5, steps=STEPS, **given) for _ in range(2))
    assert isinstance(made, list) and made, f"it makes {made!r}, and not a list of objects"
    states = [model.encode(each) for each in (made, again)]
    assert close(*states), "made again, its results differ"


def refuses_other_objects(bench: Workbench, entry: Entry) -> None:
    """What is no object of its model's is refused with a sentence."""
    edit, _ = _made(bench, entry)
    refused(lambda: edit([object(), object()], 1, seed=0, steps=STEPS), "an edit of object()")
