"""Conditions from a table: a CSV file, a row for each sample and a column for each condition."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suffuse.errors import SuffuseError, unknown

if TYPE_CHECKING:
    from suffuse.model import Model

__all__ = ["read_table"]


def read_table(path: Path, model: Model) -> dict[str, list[Any]]:
    """The values of each condition that has a column; a cell that is empty is "not given".

    Raises:
        SuffuseError: for a file that is no such table, unknown columns and values that are no
            number where one is expected.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SuffuseError(f"cannot read the table {path}: {error}") from None
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    if len(rows) < 2:
        raise SuffuseError(
            f"the table {path} has no samples: its first row names conditions "
            f"({', '.join(model.conditions)}), and each further one is a sample"
        )
    names, out = [name.strip() for name in rows[0]], {}
    for place, name in enumerate(names):
        if name not in model.conditions or names.count(name) > 1:
            raise unknown(f"condition, or one that stands once, in {path}", name, model.conditions)
        number = model.conditions[name].kind == "number"
        values: list[Any] = []
        for line, row in enumerate(rows[1:], start=2):
            if len(row) != len(names):
                raise SuffuseError(
                    f"line {line} of {path} has {len(row)} cells, and the first has {len(names)}"
                )
            cell = row[place].strip()
            try:
                given = float(cell) if cell and number and ".." not in cell else cell
                values.append(given if cell else None)
            except ValueError:
                raise SuffuseError(
                    f"line {line} of {path}: {name!r} takes a number, and {cell!r} is none"
                ) from None
        out[name] = values
    return out
