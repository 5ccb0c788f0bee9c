"""Curves as files and as plots."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from suffuse import storage
from suffuse.errors import SuffuseError

from .data import POINTS


class Csv:
    """One value a line, below a line of text about the curve; sheets by matplotlib."""

    suffixes = (".csv",)

    def write(self, data: Any, path: Path, metadata: Mapping[str, str]) -> None:
        values = "\n".join(repr(float(value)) for value in data)
        storage.write_text(path, f"# {json.dumps(dict(metadata))}\n{values}\n")

    def read(self, path: Path) -> Any:
        return self._parsed(path)[1]

    def metadata(self, path: Path) -> Mapping[str, str]:
        return self._parsed(path)[0]

    def _parsed(self, path: Path) -> tuple[dict[str, str], Any]:
        try:
            head, *lines = path.read_text(encoding="utf-8").splitlines()
            metadata, curve = json.loads(head.removeprefix("#")), np.array(lines, dtype=np.float64)
        except (OSError, ValueError) as error:
            raise SuffuseError(f"{path} cannot be read as a curve: {error}") from error
        if not isinstance(metadata, dict) or curve.shape != (POINTS,):
            raise SuffuseError(f"{path} is no file of a curve, which has {POINTS} values")
        return metadata, curve

    def sheet(
        self, objects: Sequence[Any], captions: Sequence[str] | None = None, columns: int = 0
    ) -> bytes:
        from matplotlib.figure import Figure

        columns = columns or int(np.ceil(np.sqrt(len(objects))))
        rows = -(-len(objects) // columns)
        figure = Figure(figsize=(1.6 * columns, 1.0 * rows), layout="constrained")
        for i, (place, curve) in enumerate(
            zip(figure.subplots(rows, columns, squeeze=False).flat, objects, strict=False)
        ):
            place.plot(curve)
            place.set_ylim(-1.2, 1.2)
            place.set_title(captions[i] if captions else "", fontsize=7)
        for place in figure.axes:
            place.set_axis_off()
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=100)
        return file.getvalue()
